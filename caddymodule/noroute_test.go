package caddymodule

import "testing"

func TestNearestRoute(t *testing.T) {
	for path, want := range map[string]string{
		"paynotify":              "pay_notify",
		"PAY_NOTIFY":             "pay_notify",
		"pay-notify/shop":        "pay_notify",
		"notify":                 "pay_notify",
		"notification":           "pay_notify",
		"wxpay/callback":         "pay_notify",
		"refundNotify":           "refund_notify",
		"notify/refund":          "refund_notify",
		"refunds":                "refund",
		"refund/all":             "refund",
		"order":                  "",
		"orderquery":             "order_query",
		"query_order":            "close_order",
		"getPayRequestParams":    "get_pay_request_params",
		"get_pay_request_param":  "get_pay_request_params",
		"":                       "",
		"wp-login.php":           "",
		".env":                   "",
		"支付":                     "",
		"\xff\xfe":               "",
		"admin/config/users/1/x": "",
	} {
		if got := nearestRoute(path); got != want {
			t.Errorf("%q is near %q, want %q", path, got, want)
		}
	}
}
