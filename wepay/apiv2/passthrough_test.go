package apiv2_test

import (
	"cmp"
	"errors"
	"net/http"
	"strings"
	"testing"

	"github.com/windsome/caddy-wepay/wepay"
	"github.com/windsome/caddy-wepay/wepay/apiv2"
)

// passed asks for a path, and returns what was sent.
func passed(t *testing.T, m *wepay.Merchant, a answer, path string, in map[string]string) (wepay.Fields, asked, error) {
	t.Helper()
	server := serve(t, a)
	m.Endpoints = []string{server.URL}
	got, err := client(t, m, wepay.ClientOptions{RiskEndpoint: server.URL}).Pass(t.Context(), path, wepay.NewFields(in))
	all := server.asked()
	if len(all) > 1 {
		t.Errorf("%d requests were sent", len(all))
	}
	if len(all) == 0 {
		return got, asked{}, err
	}
	return got, all[0], err
}

// anything is a reply that any call could have.
var anything = says(signed(reply(map[string]string{"x": "1"}), wepay.MD5, key))

func TestPassPaths(t *testing.T) {
	for path, ok := range map[string]bool{
		"/pay/orderquery":                         true,
		"/pay/paporderquery":                      true,
		"/transit/queryorder":                     true,
		"/cgi-bin/mch/customs/customdeclareorder": true,
		"/x":                                  true,
		"/Pay/OrderQuery_1":                   true,
		"":                                    false,
		"/":                                   false,
		"pay/orderquery":                      false,
		"/pay/":                               false,
		"//pay/orderquery":                    false,
		"/pay//orderquery":                    false,
		"/pay/./orderquery":                   false,
		"/pay/../secapi/pay/refund":           false,
		"/pay/..":                             false,
		"/pay/..;/orderquery":                 false,
		"/.;/orderquery":                      false,
		"/pay;a=b/orderquery":                 false,
		"/pay/orderquery;":                    false,
		"/pay/%2e%2e/secapi":                  false,
		"/pay/orderquery%00":                  false,
		"/pay/orderquery?a=b":                 false,
		"/pay/orderquery#a":                   false,
		"/pay/order query":                    false,
		"/pay/orderquery\n":                   false,
		"/pay\\orderquery":                    false,
		"/pay/订单":                             false,
		"https://evil.example/pay/orderquery": false,
		"//evil.example/pay":                  false,
		"/@evil.example/pay":                  false,
		":80/pay":                             false,
	} {
		t.Run(path, func(t *testing.T) {
			_, sent, err := passed(t, able(t), anything, path, map[string]string{"out_trade_no": "A1"})
			if ok {
				if err != nil || sent.URL.Path != path {
					t.Errorf("got %v", err)
				}
				return
			}
			var field *wepay.FieldError
			if !errors.As(err, &field) || field.Field != "path" || sent.Request != nil {
				t.Errorf("got %v, want a FieldError about path", err)
			}
		})
	}
}

// The ids of the merchant are added, left out where the caller gives them
// empty, and nobody else's are let through.
func TestPassIDs(t *testing.T) {
	const own, account = "wx00112233445566aa", "1900000109"
	tests := []struct {
		name    string
		path    string
		partner bool
		in      map[string]string
		sent    string // the ids that are sent, and with what
		field   string // that is refused
	}{
		{name: "added", in: nil, sent: "appid=" + own + " mch_id=" + account},
		{name: "given", in: map[string]string{"appid": own, "mch_id": account}, sent: "appid=" + own + " mch_id=" + account},
		{name: "appid left out", in: map[string]string{"appid": ""}, sent: "mch_id=" + account},
		{name: "both left out", in: map[string]string{"appid": "", "mch_id": ""}, sent: ""},
		{name: "another's appid", in: map[string]string{"appid": "wx1"}, field: "appid"},
		{name: "another's mch_id", in: map[string]string{"mch_id": "1"}, field: "mch_id"},
		{name: "another's mch_appid", in: map[string]string{"mch_appid": "wx1"}, field: "mch_appid"},
		{name: "another's mchid", in: map[string]string{"mchid": "1"}, field: "mchid"},
		{name: "another's wxappid", in: map[string]string{"wxappid": "wx1"}, field: "wxappid"},
		{name: "another's mchid, besides", in: map[string]string{"mch_id": account, "mchid": "1"}, field: "mchid"},
		{name: "of a transfer nobody knows", in: map[string]string{"mchid": account}, sent: "mch_appid=" + own + " mchid=" + account},
		{name: "of a red packet nobody knows", in: map[string]string{"wxappid": own}, sent: "mch_id=" + account + " wxappid=" + own},
		{name: "of a call without appid", path: "/mmpaysptrans/query_bank", sent: "mch_id=" + account},
		{name: "of a transfer", path: "/mmpaymkttransfers/promotion/transfers", sent: "mch_appid=" + own + " mchid=" + account},
		{name: "of a red packet", path: "/mmpaymkttransfers/sendredpack", partner: true, sent: "mch_id=" + account + " sub_mch_id=2 wxappid=" + own},
		{name: "a sub-merchant", in: map[string]string{"sub_mch_id": "2"}, field: "sub_mch_id"},
		{name: "a sub-merchant's app", in: map[string]string{"sub_appid": "wx2"}, field: "sub_appid"},
		{name: "a partner's", partner: true, sent: "appid=" + own + " mch_id=" + account + " sub_appid=wx00112233445566dd sub_mch_id=2"},
		{name: "a partner's other sub-merchant", partner: true, in: map[string]string{"sub_mch_id": "3"}, sent: "appid=" + own + " mch_id=" + account + " sub_mch_id=3"},
		{name: "a partner's without sub_appid", partner: true, in: map[string]string{"sub_appid": ""}, sent: "appid=" + own + " mch_id=" + account + " sub_mch_id=2"},
		{name: "a partner's without either", partner: true, in: map[string]string{"sub_appid": "", "sub_mch_id": ""}, sent: "appid=" + own + " mch_id=" + account},
		{name: "a partner's foreign sub-merchant", partner: true, in: map[string]string{"sub_mch_id": "4"}, field: "sub_mch_id"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			m := able(t)
			if test.partner {
				m.Type, m.SubMchID, m.SubAppID, m.SubMchIDs = wepay.Partner, "2", "wx00112233445566dd", []string{"3"}
			}
			path := test.path
			if path == "" {
				path = "/pay/a_call_of_2031"
			}
			_, sent, err := passed(t, m, anything, path, test.in)
			if test.field != "" {
				var field *wepay.FieldError
				if !errors.As(err, &field) || field.Field != test.field || sent.Request != nil {
					t.Errorf("got %v, want a FieldError about %s", err, test.field)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			var ids []string
			for _, f := range sent.fields {
				if f.Name != "nonce_str" && f.Name != "sign" {
					ids = append(ids, f.Name+"="+f.Value)
				}
			}
			if got := strings.Join(ids, " "); got != test.sent {
				t.Errorf("sent %s, want %s", got, test.sent)
			}
		})
	}
}

func TestPassSignature(t *testing.T) {
	md5, hmac := wepay.MD5, wepay.HMACSHA256
	tests := []struct {
		path     string
		merchant wepay.SignType
		given    map[string]string
		want     wepay.SignType
		says     string // sign_type as sent
	}{
		{"/pay/a_call_of_2031", md5, nil, md5, ""},
		{"/pay/a_call_of_2031", hmac, nil, hmac, "HMAC-SHA256"},
		{"/pay/a_call_of_2031", md5, map[string]string{"sign_type": "HMAC-SHA256"}, hmac, "HMAC-SHA256"},
		{"/pay/a_call_of_2031", hmac, map[string]string{"sign_type": "MD5"}, md5, "MD5"},
		{"/pay/a_call_of_2031", hmac, map[string]string{"sign_type": ""}, hmac, "HMAC-SHA256"},
		{"/pay/profitsharingquery", md5, nil, hmac, "HMAC-SHA256"},
		{"/mmpaysptrans/query_bank", hmac, nil, md5, ""},
		{"/risk/getpublickey", hmac, nil, md5, "MD5"},
	}
	for _, test := range tests {
		m := able(t)
		m.SignType = test.merchant
		_, sent, err := passed(t, m, anything, test.path, test.given)
		if err != nil {
			t.Errorf("%s: %v", test.path, err)
			continue
		}
		digits := map[wepay.SignType]int{md5: 32, hmac: 64}[test.want]
		if err := apiv2.Verify(sent.fields, key); err != nil || len(sent.fields.Get("sign")) != digits || sent.fields.Get("sign_type") != test.says {
			t.Errorf("%s of %s, given %v: %v, sent %v", test.path, test.merchant, test.given, err, sent.fields)
		}
	}
}

// WeChat refuses what it does not know: calls that it documents without nonce_str
// get none, nor do others whose caller leaves it out.
func TestPassNonce(t *testing.T) {
	none := map[string]string{"nonce_str": ""}
	for _, test := range []struct {
		path string
		in   map[string]string
		want bool
	}{
		{"/pay/orderquery", nil, true},
		{"/pay/a_call_of_2031", nil, true},
		{"/papay/entrustquery", nil, true},
		{"/mmpaymkttransfers/promotion/transfers", nil, true},
		{"/papay/querycontract", nil, false},
		{"/papay/deletecontract", nil, false},
		{"/papay/preentrustweb", nil, false},
		{"/papay/partner/querycontract", nil, false},
		{"/papay/partner/deletecontract", nil, false},
		{"/cgi-bin/mch/customs/customdeclareorder", nil, false},
		{"/cgi-bin/mch/customs/customdeclarequery", nil, false},
		{"/cgi-bin/mch/newcustoms/customdeclareredeclare", nil, false},
		{"/papay/querycontract", none, false},
		{"/pay/queryexchagerate", none, false},
		{"/pay/orderquery", none, false},
	} {
		_, sent, err := passed(t, able(t), anything, test.path, test.in)
		if err != nil {
			t.Fatalf("%s: %v", test.path, err)
		}
		if _, found := sent.fields.Lookup("nonce_str"); found != test.want {
			t.Errorf("%s, given %v: sent %v", test.path, test.in, sent.fields)
		}
		if err := apiv2.Verify(sent.fields, key); err != nil {
			t.Errorf("%s: %v", test.path, err)
		}
	}
}

// What a caller gives is sent as it is; nothing is demanded of it.
func TestPassFields(t *testing.T) {
	const odd = " a & <b> ]]> \r\n🧦 "
	_, sent, err := passed(t, able(t), anything, "/pay/unifiedorder", map[string]string{"attach": odd, "body": "", "a_field_of_2031": "x"})
	if err != nil {
		t.Fatal(err)
	}
	if got := sent.fields.Get("attach"); got != odd || sent.fields.Get("a_field_of_2031") != "x" {
		t.Errorf("sent %v", sent.fields)
	}
	if _, found := sent.fields.Lookup("body"); found {
		t.Error("an empty field was sent")
	}
	if err := apiv2.Verify(sent.fields, key); err != nil {
		t.Error(err)
	}
}

// The long URL is sent encoded as well, where there is one.
func TestPassShortURL(t *testing.T) {
	_, sent, err := passed(t, able(t), anything, "/tools/shorturl", map[string]string{"long_url": "weixin://wxpay?a=b"})
	if err != nil || sent.fields.Get("long_url") != "weixin%3A%2F%2Fwxpay%3Fa%3Db" {
		t.Errorf("sent %v, %v", sent.fields, err)
	}
	if _, sent, err = passed(t, able(t), anything, "/tools/shorturl", nil); err != nil {
		t.Error(err)
	}
	if _, found := sent.fields.Lookup("long_url"); found {
		t.Error("an empty long_url was sent")
	}
}

func TestPassNothingIsSent(t *testing.T) {
	off := func(m *wepay.Merchant) { m.Passthrough = false }
	bare := func(m *wepay.Merchant) { m.Certificate = nil }
	for name, test := range map[string]struct {
		path   string
		in     map[string]string
		change func(*wepay.Merchant)
		field  string
		says   string // of ErrNotAble
	}{
		"off":                     {"/pay/orderquery", nil, off, "", "passthrough"},
		"a bill":                  {"/pay/downloadbill", nil, nil, "path", ""},
		"a fund flow":             {"/pay/downloadfundflow", nil, nil, "path", ""},
		"a nonce":                 {"/pay/orderquery", map[string]string{"nonce_str": "x"}, nil, "nonce_str", ""},
		"a signature":             {"/pay/orderquery", map[string]string{"sign": "x"}, nil, "sign", ""},
		"an unknown algorithm":    {"/pay/orderquery", map[string]string{"sign_type": "NONE"}, nil, "sign_type", ""},
		"an odd algorithm":        {"/pay/orderquery", map[string]string{"sign_type": "md5"}, nil, "sign_type", ""},
		"a name that is none":     {"/pay/orderquery", map[string]string{"a b": "x"}, nil, "a b", ""},
		"an element for a name":   {"/pay/orderquery", map[string]string{"a><b": "x"}, nil, "a><b", ""},
		"a value that XML has no": {"/pay/orderquery", map[string]string{"a": "\x01"}, nil, "a", ""},
		"a value of no UTF-8":     {"/pay/orderquery", map[string]string{"a": "\xff"}, nil, "a", ""},
		"without a certificate":   {"/secapi/pay/refund", nil, bare, "", "pfx"},
	} {
		t.Run(name, func(t *testing.T) {
			m := able(t)
			if test.change != nil {
				test.change(m)
			}
			_, sent, err := passed(t, m, anything, test.path, test.in)
			var field *wepay.FieldError
			switch {
			case sent.Request != nil:
				t.Error("it was sent")
			case test.field != "" && (!errors.As(err, &field) || field.Field != test.field):
				t.Errorf("got %v, want a FieldError about %q", err, test.field)
			case test.says != "" && (!errors.Is(err, wepay.ErrNotAble) || !strings.Contains(err.Error(), test.says)):
				t.Errorf("got %v, want ErrNotAble for %s", err, test.says)
			}
		})
	}
}

// Replies are verified as those of the call's own route are.
func TestPassReplies(t *testing.T) {
	unsigned := says(document(reply(nil)))
	for path, ok := range map[string]bool{
		"/pay/a_call_of_2031": false, "/pay/orderquery": false, "/secapi/pay/refund": false, "/pay/profitsharingquery": false,
		"/mmpaymkttransfers/promotion/transfers": true, "/mmpaysptrans/pay_bank": true, "/risk/getpublickey": true,
		"/payitil/report": true, "/papay/entrustweb": true, "/papay/h5entrustweb": true, "/mmpaymkttransfers/sendminiprogramhb": true,
		"/mchrisk/querymchrisk": true, "/mchrisk/setmchriskcallback": true, "/mchrisk/syncmchriskresult": true,
		"/papay/partner/entrustweb": true, "/papay/partner/h5entrustweb": true, "/secapi/mch/submchmanage": true,
		"/mchrisk/bankquerymchauditinfo": false, "/papay/deletecontract": false, "/papay/partner/querycontract": false,
		"/payitil/reports": false, "/Payitil/report": false, "/papay/querycontract": false,
	} {
		if _, _, err := passed(t, able(t), unsigned, path, nil); ok != (err == nil) || !ok && !errors.Is(err, wepay.ErrUnsigned) {
			t.Errorf("%s unsigned: got %v", path, err)
		}
	}
	for path, verdict := range map[string]wepay.Verdict{
		"/pay/a_call_of_2031": wepay.Query, "/pay/orderquery": wepay.Again, "/mmpaymkttransfers/promotion/transfers": wepay.Query,
	} {
		_, _, err := passed(t, able(t), status(502, ""), path, nil)
		if failed := wantError(t, err, verdict); failed.Operation != apiv2.Pass {
			t.Errorf("%s: got %+v", path, failed)
		}
	}
	trouble := says("<xml><return_code>FAIL</return_code><return_msg>系统繁忙,请稍后再试.</return_msg></xml>")
	odd := says("<xml><return_code>FAIL</return_code><return_msg>x</return_msg></xml>")
	for path, verdict := range map[string]wepay.Verdict{"/pay/a_call_of_2031": wepay.Query, "/pay/orderquery": wepay.Fix, "/mmpaymkttransfers/a_payout_of_2031": wepay.Query, "/mmpaysptrans/pay_bank": wepay.Query} {
		_, _, err := passed(t, able(t), odd, path, nil)
		wantError(t, err, verdict)
		_, _, err = passed(t, able(t), trouble, path, nil)
		wantError(t, err, cmp.Or(map[string]wepay.Verdict{"/pay/orderquery": wepay.Again}[path], wepay.Query))
	}
}

// What the caller encrypted stays encrypted with an old key, however often it is
// sent.
func TestPassEncrypted(t *testing.T) {
	refused := says("<xml><return_code>SUCCESS</return_code><result_code>FAIL</result_code><err_code>PARAM_ERROR</err_code><err_code_des>enc_bank_no</err_code_des></xml>")
	_, sent, err := passed(t, able(t), refused, payBankPath, map[string]string{"bank_no": "6225", "enc_bank_no": "x"})
	wantError(t, err, wepay.Fix)
	if sent.fields.Get("bank_no") != "6225" || sent.fields.Get("enc_bank_no") != "x" {
		t.Errorf("sent %v", sent.fields)
	}
}

// The client repeats nothing, whatever the call's own route does.
func TestPassIsNotRepeated(t *testing.T) {
	first, second := serve(t, status(502, "")), serve(t, anything)
	m := able(t, first.URL, second.URL)
	if _, err := client(t, m).Pass(t.Context(), "/pay/orderquery", nil); err == nil {
		t.Error("it succeeded")
	}
	counts(t, "after one call", first, 1, second, 0)
}

// A reply that is not flat is read as one of its route is.
func TestPassNested(t *testing.T) {
	got, _, err := passed(t, able(t), func(w http.ResponseWriter, r asked) {
		says("<xml><return_code>SUCCESS</return_code><result_code>SUCCESS</result_code><hblist><hbinfo><amount>1</amount></hbinfo></hblist></xml>")(w, r)
	}, "/mmpaymkttransfers/gethbinfo", map[string]string{"mch_billno": "B1"})
	if err != nil || got.Get("hblist") != `[{"amount":"1"}]` {
		t.Errorf("got %v, %v", got, err)
	}
}
