package apiv2_test

import (
	"context"
	"errors"
	"maps"
	"net/http"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/windsome/caddy-wepay/wepay"
	"github.com/windsome/caddy-wepay/wepay/apiv2"
)

var paths = map[wepay.Operation]string{
	wepay.PlaceOrder: "/pay/unifiedorder",
	wepay.QueryOrder: "/pay/orderquery",
	wepay.Refund:     "/secapi/pay/refund",
}

func TestRequestOnTheWire(t *testing.T) {
	for op, path := range paths {
		for _, signType := range []wepay.SignType{wepay.MD5, wepay.HMACSHA256} {
			t.Run(string(op)+" "+string(signType), func(t *testing.T) {
				server := serve(t, says(signed(reply(requests[op].reply), signType, key)))
				m := withCertificate(t, merchant(server.URL), "wechat.p12")
				m.SignType = signType
				do(t, client(t, m), op)

				if n := len(server.asked()); n != 1 {
					t.Fatalf("%d requests", n)
				}
				got := server.asked()[0]
				if got.Method != http.MethodPost || got.URL.Path != path || got.URL.RawQuery != "" {
					t.Errorf("%s %s", got.Method, got.URL)
				}
				if ct := got.Header.Get("Content-Type"); ct != "text/xml; charset=utf-8" {
					t.Errorf("Content-Type is %q", ct)
				}
				if agent, want := got.UserAgent(), "caddy-wepay/"+wepay.Version+" ("+runtime.GOOS+") "+runtime.Version()+" 1900000109"; agent != want {
					t.Errorf("User-Agent is %q, want %q", agent, want)
				}
				// The mark that lets net/http repeat a request is for it alone.
				if _, found := got.Header["Idempotency-Key"]; found {
					t.Error("Idempotency-Key was sent")
				}
				checkRequest(t, got, signType)
				for _, f := range requests[op].in {
					if got.fields.Get(f.Name) != f.Value {
						t.Errorf("%s is %q, want %q", f.Name, got.fields.Get(f.Name), f.Value)
					}
				}
			})
		}
	}
}

// checkRequest demands what holds for every request.
func checkRequest(t *testing.T, got asked, signType wepay.SignType) {
	t.Helper()
	if got.fields == nil {
		t.Fatalf("the body is %q", got.body)
	}
	for _, f := range got.fields {
		if f.Value == "" {
			t.Errorf("%s was sent empty", f.Name)
		}
	}
	if err := apiv2.Verify(got.fields, key); err != nil {
		t.Errorf("the request has %v", err)
	}
	want := map[wepay.SignType]string{wepay.MD5: "", wepay.HMACSHA256: "HMAC-SHA256"}[signType]
	if sent := got.fields.Get("sign_type"); sent != want {
		t.Errorf("sign_type is %q, want %q", sent, want)
	}
	if digits := map[wepay.SignType]int{wepay.MD5: 32, wepay.HMACSHA256: 64}[signType]; len(got.fields.Get("sign")) != digits {
		t.Errorf("sign is %q", got.fields.Get("sign"))
	}
	if !regexp.MustCompile(`^[0-9A-Za-z]{16,32}$`).MatchString(got.fields.Get("nonce_str")) {
		t.Errorf("nonce_str is %q", got.fields.Get("nonce_str"))
	}
	if got.fields.Get("mch_id") != "1900000109" || got.fields.Get("appid") != "wx00112233445566aa" {
		t.Errorf("the request is of %s, %s", got.fields.Get("mch_id"), got.fields.Get("appid"))
	}
}

func TestRequestsHaveNoncesOfTheirOwn(t *testing.T) {
	server := serve(t, does(wepay.QueryOrder))
	c := client(t, merchant(server.URL))
	do(t, c, wepay.QueryOrder)
	do(t, c, wepay.QueryOrder)
	all := server.asked()
	if all[0].fields.Get("nonce_str") == all[1].fields.Get("nonce_str") {
		t.Error("two requests have one nonce")
	}
}

func TestPartnersIdentity(t *testing.T) {
	server := serve(t, says(signed(reply(requests[wepay.QueryOrder].reply), wepay.MD5, key)))
	m := merchant(server.URL)
	m.Type, m.SubMchID, m.SubAppID = wepay.Partner, "1900000110", "wx00112233445566bb"
	do(t, client(t, m), wepay.QueryOrder)
	got := server.asked()[0].fields
	if got.Get("sub_mch_id") != "1900000110" || got.Get("sub_appid") != "wx00112233445566bb" {
		t.Errorf("the request is %v", got)
	}
}

// A caller's fields with special characters arrive as they are.
func TestValuesArriveUnchanged(t *testing.T) {
	server := serve(t, does(wepay.PlaceOrder))
	in := anOrder.Clone()
	const attach = "  a & <b> ]]> \"c\"\n🧦 "
	in.Set("attach", attach)
	in.Set("device_info", "") // is left out
	if _, err := client(t, merchant(server.URL)).Do(t.Context(), wepay.PlaceOrder, in); err != nil {
		t.Fatal(err)
	}
	checkRequest(t, server.asked()[0], wepay.MD5)
	if got := server.asked()[0].fields.Get("attach"); got != attach {
		t.Errorf("attach is %q, want %q", got, attach)
	}
}

func TestNothingIsSent(t *testing.T) {
	without := func(in wepay.Fields, name string) wepay.Fields {
		out := in.Clone()
		out.Delete(name)
		return out
	}
	set := func(in wepay.Fields, name, value string) wepay.Fields {
		out := in.Clone()
		out.Set(name, value)
		return out
	}
	tests := []struct {
		name   string
		op     wepay.Operation
		in     wepay.Fields
		change func(*wepay.Merchant)
		field  string // of the FieldError
		is     error
	}{
		{name: "an unknown operation", op: "nothing", in: aQuery, is: wepay.ErrNoOperation},
		{name: "no operation", in: aQuery, is: wepay.ErrNoOperation},
		{name: "an operation of the client's own", op: "bank public key", is: wepay.ErrNoOperation},
		{name: "a refund without a certificate", op: wepay.Refund, in: aRefund, is: wepay.ErrNotAble},
		{name: "an order without notify_url", op: wepay.PlaceOrder, in: anOrder, change: func(m *wepay.Merchant) { m.NotifyURL = "" }, is: wepay.ErrNotAble},
		{name: "an order without openid", op: wepay.PlaceOrder, in: without(anOrder, "openid"), field: "openid"},
		{name: "an order without an amount", op: wepay.PlaceOrder, in: without(anOrder, "total_fee"), field: "total_fee"},
		{name: "an order of nothing", op: wepay.PlaceOrder, in: set(anOrder, "total_fee", "0"), field: "total_fee"},
		{name: "an order of another merchant", op: wepay.PlaceOrder, in: set(anOrder, "mch_id", "1"), field: "mch_id"},
		{name: "an order notified elsewhere", op: wepay.PlaceOrder, in: set(anOrder, "notify_url", "https://evil.example/"), field: "notify_url"},
		{name: "an order to be paid by yesterday", op: wepay.PlaceOrder, in: set(anOrder, "time_expire", "20200101115959"), field: "time_expire"},
		{name: "an order to be paid by UTC", op: wepay.PlaceOrder, in: set(anOrder, "time_expire", "20200101050000"), field: "time_expire"},
		{name: "an order with a time of its own zone", op: wepay.PlaceOrder, in: set(anOrder, "time_expire", "2020-01-01T13:00:00+08:00"), field: "time_expire"},
		{name: "a payment by code by UTC", op: wepay.Micropay, in: set(set(without(anOrder, "openid"), "auth_code", "134567890123456789"), "time_expire", "20200101050000"), field: "time_expire"},
		{name: "a refund above the order", op: wepay.Refund, in: set(aRefund, "refund_fee", "1201"), field: "refund_fee"},
		{name: "a query of nothing", op: wepay.QueryOrder, field: "out_trade_no"},
		{name: "a query with more", op: wepay.QueryOrder, in: set(aQuery, "attach", "x"), field: "attach"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			server := serve(t, does(wepay.QueryOrder))
			m := merchant(server.URL)
			if test.change != nil {
				test.change(m)
			}
			_, err := client(t, m, wepay.ClientOptions{Now: newClock().now}).Do(t.Context(), test.op, test.in)
			fieldErr, isField := errors.AsType[*wepay.FieldError](err)
			switch {
			case test.is != nil && !errors.Is(err, test.is):
				t.Errorf("got %v, want %v", err, test.is)
			case test.field != "" && (!isField || fieldErr.Field != test.field):
				t.Errorf("got %v, want a FieldError about %s", err, test.field)
			}
			if len(server.asked()) != 0 {
				t.Error("something was sent")
			}
		})
	}
}

func TestClientParameters(t *testing.T) {
	page := []string{"appId", "nonceStr", "package", "paySign", "signType", "timeStamp", "timestamp"}
	tests := []struct {
		name   string
		change func(*wepay.Merchant)
		more   map[string]string // of the reply
		names  []string
		want   map[string]string
	}{
		{"a page", nil, nil, page, map[string]string{"appId": "wx00112233445566aa", "signType": "MD5"}},
		{"a page, HMAC", func(m *wepay.Merchant) { m.SignType = wepay.HMACSHA256 }, nil, page, map[string]string{"signType": "HMAC-SHA256"}},
		{"a mini program", func(m *wepay.Merchant) { m.Env = wepay.WXAPP }, nil, page, nil},
		{"a partner's page", func(m *wepay.Merchant) { m.Type, m.SubMchID = wepay.Partner, "2" }, nil, page, map[string]string{"appId": "wx00112233445566aa"}},
		{"a sub-merchant's page", func(m *wepay.Merchant) { m.Type, m.SubMchID, m.SubAppID = wepay.Partner, "2", "wx00112233445566dd" }, nil, page, map[string]string{"appId": "wx00112233445566dd"}},
		{"a QR code", func(m *wepay.Merchant) { m.Env = wepay.NATIVE }, map[string]string{"code_url": "weixin://wxpay/bizpayurl?pr=1"}, append([]string{"code_url"}, page...), map[string]string{"code_url": "weixin://wxpay/bizpayurl?pr=1"}},
		{"another browser", func(m *wepay.Merchant) { m.Env = wepay.MWEB }, map[string]string{"mweb_url": "https://wx.tenpay.com/x"}, append([]string{"mweb_url"}, page...), map[string]string{"mweb_url": "https://wx.tenpay.com/x"}},
		{"an app", func(m *wepay.Merchant) { m.Env = wepay.APP }, nil, appNames, map[string]string{"partnerid": "1900000109", "package": "Sign=WXPay", "appid": "wx00112233445566aa"}},
		{"an app, HMAC", func(m *wepay.Merchant) { m.Env, m.SignType = wepay.APP, wepay.HMACSHA256 }, nil, appNames, nil},
		{"a sub-merchant's app", func(m *wepay.Merchant) {
			m.Env, m.Type, m.SubMchID, m.SubAppID = wepay.APP, wepay.Partner, "2", "wx00112233445566dd"
		}, nil, appNames, map[string]string{"partnerid": "2", "appid": "wx00112233445566dd"}},
		{"a partner's app, by its own number", func(m *wepay.Merchant) {
			m.Env, m.Type, m.SubMchID, m.PartnerID = wepay.APP, wepay.Partner, "2", wepay.PartnerIDOfPartner
		}, nil, appNames, map[string]string{"partnerid": "1900000109", "appid": "wx00112233445566aa"}},
		{"a partner's app, by its sub-merchant's", func(m *wepay.Merchant) {
			m.Env, m.Type, m.SubMchID, m.PartnerID = wepay.APP, wepay.Partner, "2", wepay.PartnerIDOfSub
		}, nil, appNames, map[string]string{"partnerid": "2", "appid": "wx00112233445566aa"}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			m := merchant()
			if test.change != nil {
				test.change(m)
			}
			more := maps.Clone(requests[wepay.PlaceOrder].reply)
			maps.Copy(more, test.more)
			server := serve(t, says(signed(reply(more), m.SignType, key)))
			m.Endpoints = []string{server.URL}
			fixed := newClock()
			got, err := client(t, m, wepay.ClientOptions{Now: fixed.now}).Do(t.Context(), wepay.PlaceOrder, anOrder)
			if err != nil {
				t.Fatal(err)
			}
			var names []string
			for _, f := range got {
				names = append(names, f.Name)
			}
			slices.Sort(test.names)
			if !slices.Equal(names, test.names) {
				t.Errorf("got %q, want %q", names, test.names)
			}
			for name, value := range test.want {
				if got.Get(name) != value {
					t.Errorf("%s is %q, want %q", name, got.Get(name), value)
				}
			}
			checkPaySign(t, m, got)
		})
	}
}

var appNames = []string{"appid", "noncestr", "package", "partnerid", "prepayid", "sign", "timestamp"}

// checkPaySign takes the signature anew, over the names that WeChat's documents
// list and no other.
func checkPaySign(t *testing.T, m *wepay.Merchant, got wepay.Fields) {
	t.Helper()
	over, sign := []string{"appId", "timeStamp", "nonceStr", "package", "signType"}, "paySign"
	prepayID, time := "package", "timeStamp"
	if m.Env == wepay.APP {
		over, sign = []string{"appid", "partnerid", "prepayid", "package", "noncestr", "timestamp"}, "sign"
		prepayID, time = "prepayid", "timestamp"
	}
	values := make(map[string]string)
	for _, name := range over {
		values[name] = got.Get(name)
	}
	if want := apiv2.Sign(wepay.NewFields(values), m.SignType, key); got.Get(sign) != want {
		t.Errorf("%s is %s, want %s", sign, got.Get(sign), want)
	}
	if !strings.HasSuffix(got.Get(prepayID), "wx201411101639507cbf6ffd8b0779950874") {
		t.Errorf("%s is %q", prepayID, got.Get(prepayID))
	}
	if got.Get(time) != "1577851200" || m.Env != wepay.APP && got.Get("timestamp") != got.Get(time) {
		t.Errorf("the time is %q and %q", got.Get(time), got.Get("timestamp"))
	}
}

// The vectors of what the client gets, as far as chance lets: the names and
// the algorithm are theirs.
func TestClientParameterVectors(t *testing.T) {
	for id, names := range map[string][]string{
		"V11": {"appId", "nonceStr", "package", "signType", "timeStamp"},
		"V12": {"appId", "nonceStr", "package", "signType", "timeStamp"},
		"V13": appNames, "V14": appNames,
	} {
		v := vectors(t)[id]
		fields := parse(v.Base)
		for _, f := range fields {
			if !slices.Contains(names, f.Name) {
				t.Errorf("%s has %s, which the client does not get", id, f.Name)
			}
		}
		if got := apiv2.Sign(fields, wepay.SignType(v.How), v.Key); got != v.Result {
			t.Errorf("%s: got %s, want %s", id, got, v.Result)
		}
	}
}

// One client serves many callers.
func TestClientConcurrently(t *testing.T) {
	server := serve(t, does(wepay.QueryOrder))
	c := client(t, merchant(server.URL))
	errs := make(chan error)
	for range 16 {
		go func() {
			_, err := c.Do(context.Background(), wepay.QueryOrder, aQuery)
			errs <- err
		}()
	}
	for range 16 {
		if err := <-errs; err != nil {
			t.Error(err)
		}
	}
	if n := len(server.asked()); n != 16 {
		t.Errorf("%d requests", n)
	}
}
