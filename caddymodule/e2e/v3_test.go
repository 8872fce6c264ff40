package e2e_test

import (
	"bytes"
	"encoding/json"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"

	"github.com/windsome/caddy-wepay/wepay/wepaytest"
)

// everyV3Merchant differs from the others in all that merchants of API v3 can differ
// in.
func everyV3Merchant() []*merchant {
	h5, mini, app, mweb, native, partner := newV3Merchant("h5", 1), newV3Merchant("mini", 2), newV3Merchant("app", 3),
		newV3Merchant("mweb", 4), newV3Merchant("native", 5), newV3Merchant("partner", 6)
	h5.notify = "pay_notify"
	mini.env, mini.form, mini.v3.publicKey, mini.v3.mode = "WXAPP", chainP12, true, wepaytest.ByPublicKey
	app.env, app.form = "APP", pemPair
	mweb.env, mweb.notify, mweb.v3.publicKey, mweb.v3.mode = "MWEB", "pay_notify", true, wepaytest.ByPublicKey
	native.env, native.form = "NATIVE", modernP12
	partner.subMchID, partner.subAppID = "1900000199", "wx99112233445566ff"
	return []*merchant{h5, mini, app, mweb, native, partner}
}

func TestV3FromOrderToRefund(t *testing.T) {
	env, merchants := newEnvironment(t), everyV3Merchant()
	env.serve(layout{merchants: merchants})
	for _, m := range merchants {
		t.Run(m.name, func(t *testing.T) {
			env := env.in(t)
			id := "order-of-" + m.name
			order := m.order(id)
			order["body"] = "袜子 & <手套>" // API v3 takes no emoji
			checkClientParametersV3(t, m, env.get("get_pay_request_params", order))

			delivery := env.pay(m, id)
			checkTakenV3(t, delivery)
			_, told := env.deliveredOnce()
			checkFields(t, told, map[string]string{
				"return_code": "SUCCESS", "result_code": "SUCCESS", "appid": m.appID, "mch_id": m.mchID, "sub_mch_id": m.subMchID,
				"out_trade_no": id, "total_fee": "1200", "attach": `shelf "7" & more`, "sign": "", "nonce_str": "",
			})
			asked := env.get("order_query", map[string]any{"merchant": m.name, "out_trade_no": id})
			if asked["trade_state"] != "SUCCESS" || asked["transaction_id"] != told["transaction_id"] {
				t.Errorf("the query says %v", asked)
			}
			request := m.refund(id, "r-"+id, 200)
			request["notify_url"] = env.site + "/apis/v1/wepay/refund_notify"
			first, again := env.get("refund", request), env.get("refund", request)
			if first["refund_id"] == "" || first["refund_id"] != again["refund_id"] || first["refund_fee"] != "200" {
				t.Errorf("the refund was %v, and the same again %v", first, again)
			}
			checkTakenV3(t, env.finish(m, id, "SUCCESS"))
			_, told = env.deliveredOnce()
			checkFields(t, told, map[string]string{
				"return_code": "SUCCESS", "appid": m.appID, "mch_id": m.mchID, "sub_mch_id": m.subMchID, "out_trade_no": id,
				"out_refund_no": "r-" + id, "refund_id": first["refund_id"], "refund_fee": "200", "total_fee": "1200",
				"refund_status": "SUCCESS", "settlement_refund_fee": "200",
			})
		})
	}
	for _, request := range env.received() {
		if !strings.HasPrefix(request.Path, "/v3/") {
			t.Errorf("WeChat was asked for %s", request.Path)
		}
	}
}

// checkWebhook demands that a callback is signed as those of API v2 are.
func checkWebhook(t *testing.T, got callback) {
	t.Helper()
	webhook, err := standardwebhooks.NewWebhook(secret)
	if err != nil {
		t.Fatal(err)
	}
	if err := webhook.Verify(got.body, got.header); err != nil {
		t.Errorf("the callback's signature: %v", err)
	}
	if id := got.header.Get("webhook-id"); !strings.HasPrefix(id, "evt_") || got.header.Get("Content-Type") != "application/json" {
		t.Errorf("the callback came with %v", got.header)
	}
}

// An order service that wants WeChat's own words of API v3 gets them byte for
// byte, signed and named as the others are.
func TestPayloadV3(t *testing.T) {
	env, shop := newEnvironment(t), newV3Merchant("shop", 1)
	shop.v3.payload = "v3"
	env.serve(layout{merchants: []*merchant{shop}})
	env.get("get_pay_request_params", shop.order3("order-1"))
	checkTakenV3(t, env.pay(shop, "order-1", wepaytest.WithMember("a_member_of_tomorrow", map[string]any{"b": "<&>"})))
	delivered := env.orders.forget()
	if len(delivered) != 1 {
		t.Fatalf("the order service got %d times", len(delivered))
	}
	checkWebhook(t, delivered[0])
	var resource struct {
		MchID    string          `json:"mchid"`
		Amount   json.RawMessage `json:"amount"`
		Tomorrow json.RawMessage `json:"a_member_of_tomorrow"`
	}
	if err := json.Unmarshal(delivered[0].body, &resource); err != nil {
		t.Fatal(err)
	}
	if resource.MchID != shop.mchID || !bytes.Contains(resource.Amount, []byte(`"total":1200`)) || string(resource.Tomorrow) == "" {
		t.Errorf("the order service got %s", delivered[0].body)
	}
}

// order3 is an order without what API v3 refuses.
func (m *merchant) order3(id string) map[string]any {
	order := m.order(id)
	order["body"] = "袜子"
	return order
}

// A merchant that moves from one API to the other has notifications of both at
// one URL, and refunds whatever it sold.
func TestBothAPIsAtOneURL(t *testing.T) {
	env := newEnvironment(t)
	shop, after := moving("shop", 1, "v2"), moving("shop", 1, "v3")
	env.serve(layout{merchants: []*merchant{shop}})
	env.patience = redials
	env.get("get_pay_request_params", shop.order3("order-2"))
	after.credential, after.v3.id = shop.credential, shop.v3.id
	if err := env.load(layout{merchants: []*merchant{after}}); err != nil {
		t.Fatal(err)
	}
	env.get("get_pay_request_params", shop.order3("order-3"))

	old, young := env.pay(shop, "order-2", wepaytest.Held()), env.pay(shop, "order-3", wepaytest.Held())
	for _, d := range []*wepaytest.Delivery{young, old} {
		if err := d.Release(); err != nil {
			t.Fatal(err)
		}
		env.awaitAnswer(d)
	}
	checkTaken(t, old)
	checkTakenV3(t, young)
	if delivered := env.orders.forget(); len(delivered) != 2 || delivered[0].path != delivered[1].path {
		t.Errorf("the order service got %d times", len(delivered))
	}
	for _, id := range []string{"order-2", "order-3"} {
		request := shop.refund(id, "r-"+id, 200)
		request["notify_url"] = env.site + "/apis/v1/wepay/pay_notify"
		env.get("refund", request)
		checkTakenV3(t, env.finish(shop, id, "SUCCESS"))
		if _, told := env.deliveredOnce(); told["out_trade_no"] != id || told["refund_fee"] != "200" {
			t.Errorf("the order service got %v", told)
		}
	}
	if got := len(env.wechat.Requests("/secapi/pay/refund")); got > 0 {
		t.Errorf("WeChat was asked %d times for refunds over API v2", got)
	}
}

// What only one API has goes over that one, where the merchant has its keys.
func TestOperationsOfOneAPI(t *testing.T) {
	env, both, v3, v2 := newEnvironment(t), moving("both", 1, "v3"), newV3Merchant("v3", 2), newMerchant("v2", 3)
	old := moving("old", 4, "v2")
	env.serve(layout{merchants: []*merchant{both, v3, v2, old}})
	shorten := map[string]any{"long_url": "weixin://wxpay/a"}
	cancel := map[string]any{"out_bill_no": "b1"}
	of := func(request map[string]any, m *merchant) map[string]any { return with(request, "merchant", m.name) }

	env.get("short_url", of(shorten, both))
	env.get("short_url", of(shorten, old))
	env.refuses("short_url", of(shorten, v3), 40010, "partner_key")
	env.refuses("transfer_cancel", of(cancel, v2), 40010, "apiv3_key")
	for _, m := range []*merchant{both, v3, old} {
		if a := env.try("profit_share_unsplit", map[string]any{"merchant": m.name, "transaction_id": "4200000000000000000000000001"}); a.Errcode != 40000 || a.status != http.StatusOK {
			t.Errorf("%s: HTTP %d %s", m.name, a.status, a.body)
		}
	}
	if got := len(env.wechat.Requests("/v3/profitsharing/transactions/4200000000000000000000000001/amounts")); got != 3 {
		t.Errorf("WeChat was asked %d times", got)
	}
}

// A refusal that WeChat did not sign says what it says, whatever its shape, and
// that nobody signed it; nothing is concluded from it where something is changed.
func TestUnsignedRefusal(t *testing.T) {
	env, shop := newV3Shop(t, "")
	env.declines("order_query", map[string]any{"out_trade_no": "order-1"}, "ORDERNOTEXIST", "AGAIN") // has the certificates fetched
	for _, detail := range []any{nil, "参数错误", map[string]any{"field": []string{"mchid", "appid"}, "issue": "x"}} {
		for route, test := range map[string]struct {
			request map[string]any
			verdict string
		}{
			"get_pay_request_params": {shop.order3("order-1"), "QUERY"},
			"order_query":            {map[string]any{"out_trade_no": "order-1"}, "FIX"},
			"download_bill":          {map[string]any{"bill_date": "20260101"}, "FIX"},
		} {
			env.wechat.Misbehave("", wepaytest.Fault{Kind: wepaytest.Failed, Status: 403, Code: "NO_AUTH", Message: "商户无权限", Detail: detail})
			a := env.ask(route, test.request)
			if a.status != http.StatusBadGateway || a.Errcode != 40000 || a.ErrCode != "NOAUTH" || !strings.HasPrefix(a.ErrCodeDes, "商户无权限") || a.Verdict != test.verdict ||
				!strings.Contains(a.body, `"unsigned":true`) || !strings.Contains(a.XOrigMsg, "refused without a signature: NO_AUTH 商户无权限") {
				t.Errorf("%s, %v: HTTP %d %s", route, detail, a.status, a.body)
			}
		}
	}
}

// Who asks for it has WeChat's own JSON of API v3.
func TestNative(t *testing.T) {
	env, v3, v2 := newEnvironment(t), newV3Merchant("v3", 1), newMerchant("v2", 2)
	env.serve(layout{merchants: []*merchant{v3, v2}})
	env.get("get_pay_request_params", v3.order3("order-1"))
	env.get("get_pay_request_params", v2.order3("order-1"))
	query := func(m *merchant, native any) map[string]any {
		return map[string]any{"merchant": m.name, "out_trade_no": "order-1", "native": native}
	}
	got := env.done("order_query", query(v3, true))
	if got.text(t, "mchid") != v3.mchID || got.text(t, "trade_state") != "NOTPAY" || got.Result["mch_id"] != nil {
		t.Errorf("the result is %s", got.body)
	}
	if got := env.done("order_query", query(v3, false)); got.text(t, "mch_id") != v3.mchID {
		t.Errorf("the result is %s", got.body)
	}
	if a := env.try("close_order", query(v3, true)); a.status != http.StatusOK || a.Errcode != 0 || !strings.Contains(a.body, `"result":null`) {
		t.Errorf("what WeChat answers with nothing is %s", a.body)
	}
	env.refuses("order_query", query(v2, true), 40003, "native: ")
	env.refuses("order_query", query(v3, "yes"), 40003, "native: ")
	env.refuses("order_query", query(v3, 1), 40003, "native: ")
	env.refuses("download_bill", with(query(v3, true), "bill_date", "20260101"), 40003, "native: ")
	env.refuses("order_query", map[string]any{"merchant": "v3", "out_trade_no": true}, 40003, "out_trade_no: ")
	env.done("order_query", query(v2, false))
}

// A refund that somebody made by hand in the merchant platform is told over API
// v2, which takes its key, and is confirmed over it.
func TestV2NotificationOfV3Merchant(t *testing.T) {
	env, both, v3 := newEnvironment(t), moving("both", 1, "v3"), newV3Merchant("v3", 2)
	env.serve(layout{merchants: []*merchant{both, v3}, site: counting})
	v3.key = both.key // whatever it would be
	for _, test := range []struct {
		merchant *merchant
		want     string
	}{{both, taken}, {v3, refused("no_partner_key")}} {
		m, id := test.merchant, "order-"+test.merchant.name
		env.get("get_pay_request_params", m.order3(id))
		env.pay(m, id)
		refund := env.get("refund", m.refund(id, "r-"+id, 200))
		if _, err := env.wechat.FinishRefund(m.mchID, "r-"+id, wepaytest.RefundSuccess); err != nil {
			t.Fatal(err)
		}
		env.orders.forget()
		inner := "<root><refund_id>" + refund["refund_id"] + "</refund_id><refund_status>SUCCESS</refund_status>" +
			"<refund_request_source>VENDOR_PLATFORM</refund_request_source></root>"
		for _, route := range []string{"pay_notify", "pay_notify/" + m.name} {
			if a := env.post(route, sealed(t, m, inner)); a.status != http.StatusOK || a.body != test.want {
				t.Errorf("%s: WeChat hears %d %s", route, a.status, a.body)
			}
		}
		if delivered := len(env.orders.forget()); (delivered > 0) != (test.want == taken) {
			t.Errorf("the order service got %d times", delivered)
		}
	}
	if n := env.counts("v3", "no_partner_key"); n != 2 {
		t.Errorf("%d are counted", n)
	}
}

// What WeChat's answer contradicts itself about is left out of what the caller
// gets, and the log says of which order.
func TestOmissionIsLogged(t *testing.T) {
	env, shop := newV3Shop(t, "")
	env.get("get_pay_request_params", shop.order3("order-1"))
	env.pay(shop, "order-1", wepaytest.Held(), wepaytest.WithCoupons(wepaytest.Coupon{Type: wepaytest.Cash, ID: "1", Fee: -100}))
	got := env.get("order_query", map[string]any{"out_trade_no": "order-1"})
	if got["trade_state"] != "SUCCESS" || got["total_fee"] != "1200" || got["coupon_fee"] != "" {
		t.Errorf("the caller gets %v", got)
	}
	text, err := os.ReadFile(filepath.Join(env.dir, "caddy.log"))
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		if strings.Contains(line, `"msg":"reply taken","merchant":"shop","operation":"order_query","number":"order-1","omitted":"coupon_*, as`) {
			if !strings.Contains(line, `"level":"warn"`) {
				t.Errorf("it is logged as %s", line)
			}
			return
		}
	}
	t.Error("the log does not say what the caller misses")
}
