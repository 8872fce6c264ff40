package e2e_test

import (
	"maps"
	"net/http"
	"strings"
	"testing"

	"github.com/windsome/caddy-wepay/wepay/wepaytest"
)

// Any call of WeChat's can be sent: nonce, signature and ids are added, and the
// reply is what WeChat says.
func TestPassThrough(t *testing.T) {
	env, shop := newStall(t, "passthrough")
	id := env.paid(shop, "order-1", nil)
	env.deposit(shop)
	for _, test := range []struct {
		name, path string
		request    map[string]any
		result     map[string]string
		sent       map[string]string // what WeChat got
	}{
		{
			"a call that has a route", "pay/orderquery",
			map[string]any{"out_trade_no": "order-1"},
			map[string]string{"trade_state": "SUCCESS", "transaction_id": id},
			map[string]string{"appid": shop.appID, "mch_id": shop.mchID, "sign_type": ""},
		},
		{
			"with a slash at its end", "pay/orderquery/",
			map[string]any{"transaction_id": id, "mch_id": shop.mchID, "appid": shop.appID},
			map[string]string{"trade_state": "SUCCESS"},
			nil,
		},
		{
			"signed otherwise", "pay/orderquery",
			map[string]any{"out_trade_no": "order-1", "sign_type": "HMAC-SHA256"},
			map[string]string{"trade_state": "SUCCESS"},
			map[string]string{"sign_type": "HMAC-SHA256"},
		},
		{
			"a call that has none, without an appid", "pay/profitsharingmerchantratioquery",
			map[string]any{"appid": nil, "sign_type": "HMAC-SHA256"},
			map[string]string{"max_ratio": "3000"},
			map[string]string{"appid": "", "mch_id": shop.mchID},
		},
		{
			"with the certificate", "secapi/pay/refund",
			map[string]any{"out_trade_no": "order-1", "out_refund_no": "r1", "total_fee": 1200, "refund_fee": 200},
			map[string]string{"out_refund_no": "r1", "refund_fee": "200"},
			nil,
		},
		{
			"a payout, whose reply is not signed", "mmpaymkttransfers/promotion/transfers", payout("t1"),
			map[string]string{"partner_trade_no": "t1"},
			map[string]string{"mch_appid": shop.appID, "mchid": shop.mchID, "mch_id": "", "appid": ""},
		},
		{
			"a URL, which is sent encoded", "tools/shorturl",
			map[string]any{"long_url": "weixin://wxpay/a?b=茶"},
			nil,
			map[string]string{"long_url": "weixin%3A%2F%2Fwxpay%2Fa%3Fb%3D%E8%8C%B6"},
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			env := env.in(t)
			checkFields(t, env.get("v2/"+test.path, test.request), test.result)
			last := env.last("/" + strings.TrimSuffix(test.path, "/"))
			checkFields(t, asMap(last.Fields), test.sent)
			if last.Serial() != shop.credential.Serial || last.Fields.Get("nonce_str") == "" || last.Fields.Get("merchant") != "" {
				t.Errorf("WeChat got %s with the certificate %q", last.Body, last.Serial())
			}
		})
	}
	env.declines("v2/pay/orderquery", map[string]any{"out_trade_no": "order-2"}, "ORDERNOTEXIST", "AGAIN")
	env.declines("v2/pay/unifiedorder", map[string]any{"out_trade_no": "order-3"}, "LACK_PARAMS", "FIX")
}

// Nothing is believed that is not signed, where WeChat signs, and nothing is
// repeated.
func TestPassThroughReply(t *testing.T) {
	env, shop := newStall(t, "passthrough")
	env.get("get_pay_request_params", shop.order("order-1"))
	for _, test := range []struct {
		name, path string
		fault      wepaytest.Fault
		says       string
	}{
		{"wrong signature", "/pay/closeorder", wepaytest.Fault{Kind: wepaytest.WrongSignature}, "wrong signature"},
		{"no signature", "/pay/profitsharingmerchantratioquery", wepaytest.Fault{Kind: wepaytest.NoSignature}, "no signature"},
		{"about another merchant", "/pay/profitsharingmerchantratioquery", wepaytest.Fault{Kind: wepaytest.Foreign}, "another mch_id"},
		{"a page", "/pay/nobody_knows", wepaytest.Fault{}, "HTTP status 404"},
	} {
		t.Run(test.name, func(t *testing.T) {
			env := env.in(t)
			request := map[string]any{"out_trade_no": "order-1"}
			if strings.Contains(test.path, "ratio") {
				request = map[string]any{"appid": nil, "sign_type": "HMAC-SHA256"}
			}
			if test.fault.Kind != 0 {
				env.wechat.Misbehave(test.path, test.fault)
			}
			before := len(env.wechat.Requests(test.path))
			a := env.try("v2"+test.path, request)
			if a.status != http.StatusBadGateway || a.Errcode != 40000 || !strings.Contains(a.XOrigMsg, test.says) {
				t.Errorf("HTTP %d %s", a.status, a.body)
			}
			if asked := len(env.wechat.Requests(test.path)) - before; asked != 1 {
				t.Errorf("WeChat was asked %d times", asked)
			}
		})
	}
}

func TestPassThroughRefused(t *testing.T) {
	env, shop, shut, bare := newEnvironment(t), newMerchant("shop", 1), newMerchant("shut", 2), newMerchant("bare", 3)
	bare.form = none
	on := []string{"passthrough"}
	env.serve(env.stalls(stall{shop, on}, stall{shut, []string{"payouts"}}, stall{bare, on}))
	order := map[string]any{"merchant": "shop", "out_trade_no": "order-1"}
	with := func(name string, value any) map[string]any {
		request := maps.Clone(order)
		request[name] = value
		return request
	}
	for _, path := range []string{"pay/orderquery", "mmpaymkttransfers/promotion/transfers", "nobody/knows"} {
		env.refuses("v2/"+path, with("merchant", "shut"), 40010, "passthrough")
	}
	env.refuses("v2/secapi/pay/refund", with("merchant", "bare"), 40010, "pfx")
	for _, name := range []string{"mch_id", "mchid"} {
		env.refuses("v2/pay/orderquery", with(name, shut.mchID), 40003, name+": ")
	}
	for _, name := range []string{"appid", "mch_appid", "wxappid"} {
		env.refuses("v2/pay/orderquery", with(name, shut.appID), 40003, name+": ")
	}
	for _, name := range []string{"sub_mch_id", "sub_appid", "nonce_str", "sign"} {
		env.refuses("v2/pay/orderquery", with(name, "1"), 40003, name+": ")
	}
	env.refuses("v2/pay/orderquery", with("sign_type", "none"), 40003, "sign_type: ")
	env.refuses("v2/pay/orderquery", with("a><sign", "1"), 40003, "a><sign: ")
	env.refuses("v2/pay/orderquery", with("attach", "\x00"), 40003, "attach: ")
	env.refuses("v2/pay/orderquery", with("merchant", "nobody"), 40004, "")
	env.refuses("v2/pay/downloadbill", with("bill_date", "20260101"), 40003, "path: ")

	for _, test := range []struct {
		path    string
		errcode int
	}{
		{"v2", 40011},
		{"v2/", 40011},
		{"v2//", 40011},
		{"v1/pay/orderquery", 40011},
		{"v2/../refund", 40003},
		{"v2/pay/../secapi/pay/refund", 40003},
		{"v2/pay/..;/secapi/pay/refund", 40003},
		{"v2/.;/pay/orderquery", 40003},
		{"v2/pay/./orderquery", 40003},
		{"v2/pay/orderquery/..", 40003},
		{"v2/%2e%2e/pay/orderquery", 40011},
		{"v2/pay/%2e%2e/orderquery", 40011},
		{"v2/pay%2forderquery", 40011},
		{"v2/pay%2Forderquery", 40011},
		{"v2/pay%5corderquery", 40011},
		{"v2/%70ay/orderquery", 40011},
		{"v2//pay/orderquery", 40003},
		{"v2/pay//orderquery", 40003},
		{"v2/https://evil.example/pay/orderquery", 40003},
		{"v2/https:%2f%2fevil.example/pay/orderquery", 40011},
		{"v2/@evil.example/pay/orderquery", 40003},
		{"v2/:8443/pay/orderquery", 40003},
		{"v2/pay/orderquery%3Fa=b", 40003},
		{"v2/pay/orderquery%23", 40003},
		{"v2/pay/orderquery%00", 40003},
		{"v2/pay/orderquery%0A", 40003},
		{"v2/pay/orderquery%0D%0AHost:%20evil.example", 40003},
		{"v2/pay/order%20query", 40003},
		{"v2/pay/orderquery;a", 40003},
		{"v2/pay/orderquery.", 40003},
		{"v2/pay/查询", 40003},
	} {
		t.Run(test.path, func(t *testing.T) { env.in(t).refuses(test.path, order, test.errcode, "") })
	}
	t.Run("GET", func(t *testing.T) {
		env := env.in(t)
		a, err := env.send(http.MethodGet, env.site+"/apis/v1/wepay/v2/pay/orderquery?out_trade_no=order-1", "")
		if err != nil || a.status != http.StatusMethodNotAllowed || len(env.received()) > 0 {
			t.Errorf("HTTP %d %s (%v)", a.status, a.body, err)
		}
	})
}
