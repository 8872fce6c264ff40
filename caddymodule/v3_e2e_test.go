package caddymodule_test

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

// everyV3Seller differs from the others in all that sellers of API v3 can differ
// in.
func everyV3Seller() []*seller {
	h5, mini, app, mweb, native, partner := newV3Seller("h5", 1), newV3Seller("mini", 2), newV3Seller("app", 3),
		newV3Seller("mweb", 4), newV3Seller("native", 5), newV3Seller("partner", 6)
	h5.notify = "pay_notify"
	mini.env, mini.form, mini.v3.publicKey, mini.v3.mode = "WXAPP", chainP12, true, wepaytest.ByPublicKey
	app.env, app.form = "APP", pemPair
	mweb.env, mweb.notify, mweb.v3.publicKey, mweb.v3.mode = "MWEB", "pay_notify", true, wepaytest.ByPublicKey
	native.env, native.form = "NATIVE", modernP12
	partner.subMchID, partner.subAppID = "1900000199", "wx99112233445566ff"
	return []*seller{h5, mini, app, mweb, native, partner}
}

func TestV3FromOrderToRefund(t *testing.T) {
	w, sellers := newWorld(t), everyV3Seller()
	w.serve(layout{sellers: sellers})
	for _, s := range sellers {
		t.Run(s.name, func(t *testing.T) {
			w := w.in(t)
			id := "order-of-" + s.name
			order := s.order(id)
			order["body"] = "袜子 & <手套>" // API v3 takes no emoji
			checkClientParametersV3(t, s, w.get("get_pay_request_params", order))

			delivery := w.pay(s, id)
			checkTakenV3(t, delivery)
			got, told := w.heardOnce()
			checkWebhook(t, got)
			checkFields(t, told, map[string]string{
				"return_code": "SUCCESS", "result_code": "SUCCESS", "appid": s.appID, "mch_id": s.mchID, "sub_mch_id": s.subMchID,
				"out_trade_no": id, "total_fee": "1200", "attach": `shelf "7" & more`, "sign": "", "nonce_str": "",
			})
			asked := w.get("order_query", map[string]any{"merchant": s.name, "out_trade_no": id})
			if asked["trade_state"] != "SUCCESS" || asked["transaction_id"] != told["transaction_id"] {
				t.Errorf("the query says %v", asked)
			}
			request := s.refund(id, "r-"+id, 200)
			request["notify_url"] = w.site + "/apis/v1/wepay/refund_notify"
			first, again := w.get("refund", request), w.get("refund", request)
			if first["refund_id"] == "" || first["refund_id"] != again["refund_id"] || first["refund_fee"] != "200" {
				t.Errorf("the refund was %v, and the same again %v", first, again)
			}
			checkTakenV3(t, w.finish(s, id, "SUCCESS"))
			got, told = w.heardOnce()
			checkWebhook(t, got)
			checkFields(t, told, map[string]string{
				"return_code": "SUCCESS", "appid": s.appID, "mch_id": s.mchID, "sub_mch_id": s.subMchID, "out_trade_no": id,
				"out_refund_no": "r-" + id, "refund_id": first["refund_id"], "refund_fee": "200", "total_fee": "1200",
				"refund_status": "SUCCESS", "settlement_refund_fee": "200",
			})
		})
	}
	for _, request := range w.received() {
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
	w, shop := newWorld(t), newV3Seller("shop", 1)
	shop.v3.payload = "v3"
	w.serve(layout{sellers: []*seller{shop}})
	w.get("get_pay_request_params", shop.order3("order-1"))
	checkTakenV3(t, w.pay(shop, "order-1", wepaytest.WithMember("a_member_of_tomorrow", map[string]any{"b": "<&>"})))
	heard := w.orders.forget()
	if len(heard) != 1 {
		t.Fatalf("the order service heard %d times", len(heard))
	}
	checkWebhook(t, heard[0])
	var resource struct {
		MchID    string          `json:"mchid"`
		Amount   json.RawMessage `json:"amount"`
		Tomorrow json.RawMessage `json:"a_member_of_tomorrow"`
	}
	if err := json.Unmarshal(heard[0].body, &resource); err != nil {
		t.Fatal(err)
	}
	if resource.MchID != shop.mchID || !bytes.Contains(resource.Amount, []byte(`"total":1200`)) || string(resource.Tomorrow) == "" {
		t.Errorf("the order service heard %s", heard[0].body)
	}
}

// order3 is an order without what API v3 refuses.
func (s *seller) order3(id string) map[string]any {
	order := s.order(id)
	order["body"] = "袜子"
	return order
}

// A merchant that moves from one API to the other has notifications of both at
// one URL, and refunds whatever it sold.
func TestBothAPIsAtOneURL(t *testing.T) {
	w := newWorld(t)
	shop, after := moving("shop", 1, "v2"), moving("shop", 1, "v3")
	w.serve(layout{sellers: []*seller{shop}})
	w.patience = redials
	w.get("get_pay_request_params", shop.order3("order-2"))
	after.credential, after.v3.id = shop.credential, shop.v3.id
	if err := w.load(layout{sellers: []*seller{after}}); err != nil {
		t.Fatal(err)
	}
	w.get("get_pay_request_params", shop.order3("order-3"))

	old, young := w.pay(shop, "order-2", wepaytest.Held()), w.pay(shop, "order-3", wepaytest.Held())
	for _, d := range []*wepaytest.Delivery{young, old} {
		if err := d.Release(); err != nil {
			t.Fatal(err)
		}
		w.awaitAnswer(d)
	}
	checkTaken(t, old)
	checkTakenV3(t, young)
	if heard := w.orders.forget(); len(heard) != 2 || heard[0].path != heard[1].path {
		t.Errorf("the order service heard %d times", len(heard))
	}
	for _, id := range []string{"order-2", "order-3"} {
		request := shop.refund(id, "r-"+id, 200)
		request["notify_url"] = w.site + "/apis/v1/wepay/pay_notify"
		w.get("refund", request)
		checkTakenV3(t, w.finish(shop, id, "SUCCESS"))
		if _, told := w.heardOnce(); told["out_trade_no"] != id || told["refund_fee"] != "200" {
			t.Errorf("the order service heard %v", told)
		}
	}
	if got := len(w.wechat.Requests("/secapi/pay/refund")); got > 0 {
		t.Errorf("WeChat was asked %d times for refunds over API v2", got)
	}
}

// What only one API has goes over that one, where the merchant has its keys.
func TestOperationsOfOneAPI(t *testing.T) {
	w, both, v3, v2 := newWorld(t), moving("both", 1, "v3"), newV3Seller("v3", 2), newSeller("v2", 3)
	old := moving("old", 4, "v2")
	w.serve(layout{sellers: []*seller{both, v3, v2, old}})
	shorten := map[string]any{"long_url": "weixin://wxpay/a"}
	cancel := map[string]any{"out_bill_no": "b1"}
	of := func(request map[string]any, s *seller) map[string]any { return with(request, "merchant", s.name) }

	w.get("short_url", of(shorten, both))
	w.get("short_url", of(shorten, old))
	w.refuses("short_url", of(shorten, v3), 40010, "partner_key")
	w.refuses("transfer_cancel", of(cancel, v2), 40010, "apiv3_key")
	for _, s := range []*seller{both, v3, old} {
		if a := w.try("profit_share_unsplit", map[string]any{"merchant": s.name, "transaction_id": "4200000000000000000000000001"}); a.Errcode != 40000 || a.status != http.StatusOK {
			t.Errorf("%s: HTTP %d %s", s.name, a.status, a.body)
		}
	}
	if got := len(w.wechat.Requests("/v3/profitsharing/transactions/4200000000000000000000000001/amounts")); got != 3 {
		t.Errorf("WeChat was asked %d times", got)
	}
}

// Who asks for it has WeChat's own JSON of API v3.
func TestNative(t *testing.T) {
	w, v3, v2 := newWorld(t), newV3Seller("v3", 1), newSeller("v2", 2)
	w.serve(layout{sellers: []*seller{v3, v2}})
	w.get("get_pay_request_params", v3.order3("order-1"))
	w.get("get_pay_request_params", v2.order3("order-1"))
	query := func(s *seller, native any) map[string]any {
		return map[string]any{"merchant": s.name, "out_trade_no": "order-1", "native": native}
	}
	got := w.done("order_query", query(v3, true))
	if got.text(t, "mchid") != v3.mchID || got.text(t, "trade_state") != "NOTPAY" || got.Result["mch_id"] != nil {
		t.Errorf("the result is %s", got.body)
	}
	if got := w.done("order_query", query(v3, false)); got.text(t, "mch_id") != v3.mchID {
		t.Errorf("the result is %s", got.body)
	}
	if a := w.try("close_order", query(v3, true)); a.status != http.StatusOK || a.Errcode != 0 || !strings.Contains(a.body, `"result":null`) {
		t.Errorf("what WeChat answers with nothing is %s", a.body)
	}
	w.refuses("order_query", query(v2, true), 40003, "native: ")
	w.refuses("order_query", query(v3, "yes"), 40003, "native: ")
	w.refuses("order_query", query(v3, 1), 40003, "native: ")
	w.refuses("download_bill", with(query(v3, true), "bill_date", "20260101"), 40003, "native: ")
	w.refuses("order_query", map[string]any{"merchant": "v3", "out_trade_no": true}, 40003, "out_trade_no: ")
	w.done("order_query", query(v2, false))
}

// A refund that somebody made by hand in the merchant platform is told over API
// v2, which takes its key.
func TestV2NotificationOfV3Merchant(t *testing.T) {
	w, both, v3 := newWorld(t), moving("both", 1, "v3"), newV3Seller("v3", 2)
	w.serve(layout{sellers: []*seller{both, v3}, site: counting})
	v3.key = both.key // whatever it would be
	for _, test := range []struct {
		seller *seller
		want   string
	}{{both, taken}, {v3, refused("no_partner_key")}} {
		inner := "<root><out_refund_no>r1</out_refund_no><out_trade_no>o1</out_trade_no><refund_id>5030000</refund_id>" +
			"<transaction_id>4200000</transaction_id><refund_status>SUCCESS</refund_status><refund_fee>1</refund_fee>" +
			"<settlement_refund_fee>1</settlement_refund_fee><settlement_total_fee>1</settlement_total_fee><total_fee>1</total_fee>" +
			"<success_time>2026-01-01 00:00:00</success_time><refund_recv_accout>x</refund_recv_accout>" +
			"<refund_account>REFUND_SOURCE_RECHARGE_FUNDS</refund_account><refund_request_source>VENDOR_PLATFORM</refund_request_source></root>"
		for _, route := range []string{"pay_notify", "pay_notify/" + test.seller.name} {
			if a := w.post(route, sealed(t, test.seller, inner)); a.status != http.StatusOK || a.body != test.want {
				t.Errorf("%s: WeChat hears %d %s", route, a.status, a.body)
			}
		}
		if heard := len(w.orders.forget()); (heard > 0) != (test.want == taken) {
			t.Errorf("the order service heard %d times", heard)
		}
	}
	if n := w.counts("v3", "no_partner_key"); n != 2 {
		t.Errorf("%d are counted", n)
	}
}

// What WeChat's answer contradicts itself about is left out of what the caller
// gets, and the log says of which order.
func TestOmissionIsLogged(t *testing.T) {
	w, shop := newV3Shop(t, "")
	w.get("get_pay_request_params", shop.order3("order-1"))
	w.pay(shop, "order-1", wepaytest.Held(), wepaytest.WithCoupons(wepaytest.Coupon{Type: wepaytest.Cash, ID: "1", Fee: -100}))
	got := w.get("order_query", map[string]any{"out_trade_no": "order-1"})
	if got["trade_state"] != "SUCCESS" || got["total_fee"] != "1200" || got["coupon_fee"] != "" {
		t.Errorf("the caller gets %v", got)
	}
	text, err := os.ReadFile(filepath.Join(w.dir, "caddy.log"))
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
