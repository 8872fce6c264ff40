package wepay_test

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/windsome/caddy-wepay/wepay"
)

func order(values map[string]string) wepay.Fields {
	fields := wepay.NewFields(tables["order"].least)
	for name, value := range values {
		fields.Set(name, value)
	}
	return fields
}

func subApp(m *wepay.Merchant) { m.SubAppID = "wx00112233445566bb" }

func TestCompleteOrder(t *testing.T) {
	const scene = `{"h5_info":{"type":"IOS"}}`
	tests := []struct {
		name     string
		merchant *wepay.Merchant
		in       map[string]string
		want     map[string]string // "" means: not there, or empty
		refused  string            // the field the error is about
	}{
		{name: "H5", merchant: direct(), in: map[string]string{"openid": "o"}, want: map[string]string{"trade_type": "JSAPI", "openid": "o", "sub_openid": ""}},
		{name: "WXAPP", merchant: direct(env(wepay.WXAPP)), in: map[string]string{"openid": "o"}, want: map[string]string{"trade_type": "JSAPI", "openid": "o"}},
		{name: "APP", merchant: direct(env(wepay.APP)), want: map[string]string{"trade_type": "APP", "openid": "", "product_id": "", "scene_info": ""}},
		{name: "NATIVE", merchant: direct(env(wepay.NATIVE)), in: map[string]string{"out_trade_no": "A1"}, want: map[string]string{"trade_type": "NATIVE", "product_id": "A1", "scene_info": ""}},
		{name: "NATIVE with product_id", merchant: direct(env(wepay.NATIVE)), in: map[string]string{"product_id": "P"}, want: map[string]string{"product_id": "P"}},
		{name: "MWEB", merchant: direct(env(wepay.MWEB)), want: map[string]string{"trade_type": "MWEB", "product_id": "", "scene_info": `{"h5_info":{"type":"Wap","wap_url":"https://pay.example.cn","wap_name":"shop"}}`}},
		{name: "MWEB with scene_info", merchant: direct(env(wepay.MWEB)), in: map[string]string{"scene_info": scene}, want: map[string]string{"scene_info": scene}},
		{name: "H5 without openid", merchant: direct(), refused: "openid"},
		{name: "H5 with an empty openid", merchant: direct(), in: map[string]string{"openid": ""}, refused: "openid"},
		{name: "direct merchant with sub_openid", merchant: direct(), in: map[string]string{"sub_openid": "s"}, refused: "sub_openid"},
		{name: "partner without sub_app_id", merchant: partner(), in: map[string]string{"openid": "o"}, want: map[string]string{"openid": "o", "sub_openid": ""}},
		{name: "partner without sub_app_id but sub_openid", merchant: partner(), in: map[string]string{"openid": "o", "sub_openid": "s"}, refused: "sub_openid"},
		{name: "partner with sub_app_id", merchant: partner(subApp), in: map[string]string{"openid": "o"}, want: map[string]string{"openid": "", "sub_openid": "o"}},
		{name: "partner with sub_app_id and sub_openid", merchant: partner(subApp), in: map[string]string{"sub_openid": "s"}, want: map[string]string{"openid": "", "sub_openid": "s"}},
		{name: "partner with sub_app_id and both", merchant: partner(subApp), in: map[string]string{"openid": "o", "sub_openid": "s"}, want: map[string]string{"openid": "o", "sub_openid": "s"}},
		{name: "partner with sub_app_id without either", merchant: partner(subApp), refused: "openid"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			in := order(test.in)
			before := in.Clone()
			got, err := test.merchant.CompleteOrder(in)
			wantField(t, err, test.refused)
			for i := range before {
				if in[i] != before[i] {
					t.Errorf("the caller's %s was changed", before[i].Name)
				}
			}
			if err != nil {
				return
			}
			if got.Get("notify_url") != test.merchant.NotifyURL {
				t.Errorf("notify_url is %q", got.Get("notify_url"))
			}
			for name, value := range test.want {
				if got.Get(name) != value {
					t.Errorf("%s is %q, want %q", name, got.Get(name), value)
				}
			}
		})
	}
}

// The payer of orders that are paid together may be known by the appid that these
// name, which is no matter of the merchant's.
func TestCompleteCombined(t *testing.T) {
	for _, m := range []*wepay.Merchant{direct(), partner(), partner(subApp)} {
		for openid, subOpenID := range map[string]string{"o": "", "": "s", "o2": "s2"} {
			got, err := m.CompleteCombined(order(map[string]string{"openid": openid, "sub_openid": subOpenID}))
			if err != nil || got.Get("openid") != openid || got.Get("sub_openid") != subOpenID || got.Get("trade_type") != "JSAPI" {
				t.Errorf("%q and %q become %v, %v", openid, subOpenID, got, err)
			}
		}
		_, err := m.CompleteCombined(order(nil))
		wantField(t, err, "openid")
	}
}

func TestCompleteOrderMissingOpenid(t *testing.T) {
	_, err := direct().CompleteOrder(order(nil))
	if !wantField(t, err, "openid").Missing {
		t.Error("the error does not say that openid is missing")
	}
}

func TestCompleteOrderWithoutNotifyURL(t *testing.T) {
	m := direct(func(m *wepay.Merchant) { m.NotifyURL = "" })
	if _, err := m.CompleteOrder(order(map[string]string{"openid": "o"})); !errors.Is(err, wepay.ErrNotAble) {
		t.Errorf("got %v, want ErrNotAble", err)
	}
}

func TestCutBody(t *testing.T) {
	tests := []struct {
		name, body, want string
	}{
		{"at the limit", strings.Repeat("a", 127), strings.Repeat("a", 127)},
		{"one above", strings.Repeat("a", 128), strings.Repeat("a", 127)},
		{"Chinese within", strings.Repeat("袜", 42), strings.Repeat("袜", 42)},
		{"Chinese across", strings.Repeat("袜", 43), strings.Repeat("袜", 42)},
		{"Chinese that just fits", "a" + strings.Repeat("袜", 43), "a" + strings.Repeat("袜", 42)},
		{"emoji across by one byte", strings.Repeat("a", 124) + "🧦", strings.Repeat("a", 124)},
		{"emoji across by three bytes", strings.Repeat("a", 126) + "🧦", strings.Repeat("a", 126)},
		{"emoji that just fits", strings.Repeat("a", 123) + "🧦x", strings.Repeat("a", 123) + "🧦"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			if body := wepay.CutBody(test.body); body != test.want || !utf8.ValidString(body) || len(body) > wepay.MaxBody {
				t.Errorf("body is %q (%d bytes), want %q", body, len(body), test.want)
			}
		})
	}
}

func TestCompleteOrderAddress(t *testing.T) {
	for in, want := range map[string]string{
		"203.0.113.7":               "203.0.113.7",
		"::ffff:203.0.113.7":        "203.0.113.7",
		"2001:DB8:0:0:0:0:0:7":      "2001:db8::7",
		"fe80::1%eth0":              "fe80::1",
		"::ffff:203.0.113.7%lo":     "203.0.113.7",
		"2001:db8::ffff:203.0.1.13": "2001:db8::ffff:cb00:10d",
	} {
		t.Run(in, func(t *testing.T) {
			got, err := direct().CompleteOrder(order(map[string]string{"openid": "o", "spbill_create_ip": in}))
			if err != nil {
				t.Fatal(err)
			}
			if ip := got.Get("spbill_create_ip"); ip != want {
				t.Errorf("got %s, want %s", ip, want)
			}
		})
	}
}

// The default scene must stay JSON that the rules accept, whatever the
// merchant's name is.
func TestCompleteOrderSceneOfAnyName(t *testing.T) {
	for _, name := range []string{`a"b\c`, "</h5>&", strings.Repeat("袜", 40), strings.Repeat(`"`, 64), "🧦"} {
		t.Run(name, func(t *testing.T) {
			got, err := direct(env(wepay.MWEB), named(name)).CompleteOrder(order(nil))
			if err != nil {
				t.Fatal(err)
			}
			var scene struct {
				H5 struct {
					Name string `json:"wap_name"`
				} `json:"h5_info"`
			}
			if err := json.Unmarshal([]byte(got.Get("scene_info")), &scene); err != nil {
				t.Fatal(err)
			}
			if !strings.HasPrefix(name, scene.H5.Name) || scene.H5.Name == "" {
				t.Errorf("wap_name is %q, want the beginning of %q", scene.H5.Name, name)
			}
			if len(got.Get("scene_info")) > 256 {
				t.Errorf("scene_info is %d bytes, the limit is 256", len(got.Get("scene_info")))
			}
		})
	}
}

// A detail that is JSON is one that no two readers take for two things; any other is
// text.
func TestDetail(t *testing.T) {
	for value, ok := range map[string]bool{
		`{"goods_detail":[{"goods_id":"g1"}]}`: true, "": true, "袜子": true, "{限时}茶": true, "[特价]茶": true, `{"a":1`: true, `"🧦"`: true,
		`{"a":"\ud83e"}`: false, `{"a":"\ud83e\udde6"}`: true, `{"a":1,"a":2}`: false, `[{"b":1,"b":1}]`: false, `"\udde6"`: false,
	} {
		for name, rules := range map[string]wepay.Rules{"order": wepay.OrderRules, "refund": wepay.RefundRules} {
			if err := rules.CheckValue("detail", value); (err == nil) != ok {
				t.Errorf("%s: %s: got %v", name, value, err)
			}
		}
	}
}
