package wepay_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/windsome/caddy-wepay/wepay"
)

func TestAuthCode(t *testing.T) {
	for code, ok := range map[string]bool{
		"100000000000000000": true, "115555555555555555": true, "125555555555555555": true, "135555555555555555": true,
		"145555555555555555": true, "159999999999999999": true,
		"165555555555555555": false, "095555555555555555": false, "205555555555555555": false,
		"1/5555555555555555": false, "1:5555555555555555": false,
		"13555555555555555": false, "1355555555555555555": false, "1": false, "": false,
		"13555555555555555x": false, "13555555555555555 ": false, "-13555555555555555": false, "13５5555555555555": false,
	} {
		if err := wepay.AuthCode(code); ok != (err == nil) {
			t.Errorf("%q: got %v", code, err)
		} else if err != nil && code != "" && strings.Contains(err.Error(), code) && len(code) > 1 {
			t.Errorf("the error repeats the code: %v", err)
		}
	}
}

func TestCompleteMicropay(t *testing.T) {
	in := wepay.NewFields(map[string]string{"body": strings.Repeat("袜", 43), "spbill_create_ip": "::ffff:203.0.113.7", "attach": "x"})
	got, err := direct().CompleteMicropay(in)
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{"body": strings.Repeat("袜", 42), "spbill_create_ip": "203.0.113.7", "attach": "x"} {
		if got.Get(name) != want {
			t.Errorf("%s is %q, want %q", name, got.Get(name), want)
		}
	}
	if len(got) != 3 {
		t.Errorf("got %v, want no further field: WeChat refuses notify_url here", got)
	}
	if in.Get("body") == got.Get("body") {
		t.Error("the caller's fields were changed")
	}
}

// Fields that an order takes and a payment by code does not.
func TestMicropayIsNoOrder(t *testing.T) {
	for _, name := range []string{"notify_url", "trade_type", "openid", "sub_openid", "product_id", "sign_type"} {
		t.Run(fmt.Sprint(name), func(t *testing.T) {
			wantField(t, wepay.MicropayRules.Check(with(map[string]string{
				"auth_code": "134567890123456789", "out_trade_no": "1", "total_fee": "1", "body": "x", "spbill_create_ip": "203.0.113.7",
			}, name, "x")), name)
		})
	}
}
