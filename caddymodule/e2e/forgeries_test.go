package e2e_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/windsome/caddy-wepay/wepay/wepaytest"
)

// What forgers post, whichever door they try, comes to nothing but a word; what
// WeChat sends is handed over.
func TestForgeries(t *testing.T) {
	text, err := os.ReadFile("../../testdata/forgeries/catalogue.json")
	if err != nil {
		t.Fatal(err)
	}
	var catalogue []struct{ Name, Body, Result string }
	if err := json.Unmarshal(text, &catalogue); err != nil {
		t.Fatal(err)
	}
	env, shop := newEnvironment(t), newMerchant("shop", 1)
	shop.appID, shop.mchID, shop.key = "wx00112233445566aa", "1900000109", "Kd7q2Vn0sX9tB4mHc6Zr1Lw8Fy3Pj5Ga" // the catalogue's
	shop.events = true
	env.serve(layout{merchants: []*merchant{shop}, site: counting})
	want := make(map[string]int)
	for _, m := range catalogue {
		t.Run(m.Name, func(t *testing.T) {
			env := env.in(t)
			for _, route := range []string{"pay_notify", "refund_notify", "pay_notify/shop"} {
				a := env.post(route, m.Body, "Content-Type", "text/xml")
				want[m.Result]++
				if m.Result != "taken" {
					checkRefused(t, env, a, m.Result)
				} else if delivered := env.orders.forget(); a.body != taken || len(delivered) != 1 {
					t.Errorf("WeChat hears %s, the order service %d times", a.body, len(delivered))
				}
			}
		})
	}
	for _, result := range []string{"taken", "ambiguous", "not_a_payment", "not_confirmed", "wrong_signature"} {
		if n := env.counts("shop", result); n != want[result] || n == 0 {
			t.Errorf("%d are counted as %s, want %d", n, result, want[result])
		}
	}
}

// An order whose attach would be another order's payment is refused, before
// anybody pays it; what a shop has in its attach comes back as it is.
func TestAttach(t *testing.T) {
	env, shop := newShop(t, "")
	attach := func(id, text string) map[string]any {
		order := shop.order(id)
		order["attach"] = text
		return order
	}
	env.refuses("get_pay_request_params", attach("order-1", "x&bank_type=A&out_trade_no=VICTIM&total_fee=999999&transaction_id=1"), 40003, "attach: ")
	env.refuses("get_pay_request_params", attach("order-1", "x&fee_type=HKD"), 40003, "attach: ")
	object := shop.order("order-1")
	object["attach"] = map[string]any{"uid": 7}
	env.refuses("get_pay_request_params", object, 40003, "attach: must be text or a number")
	for i, text := range []string{"uid=7&total=5", "a=1&b=2", "a & b", "type=1&openid=" + openID + "&out_trade_no=1"} {
		id := fmt.Sprintf("order-%d", i+2)
		env.get("get_pay_request_params", attach(id, text))
		delivery := env.pay(shop, id)
		checkTaken(t, delivery)
		checkFields(t, checkCallback(t, env, shop, delivery), map[string]string{"attach": text, "out_trade_no": id})
	}
}

// claiming is a refund notification, sealed as WeChat does it, that says a refund
// has ended, whatever WeChat's books say.
func claiming(t *testing.T, m *merchant, refundID, status, outer string) string {
	t.Helper()
	text := sealed(t, m, "<root><refund_id>"+refundID+"</refund_id><refund_status>"+status+"</refund_status>"+
		"<out_trade_no>VICTIM</out_trade_no><refund_fee>999900</refund_fee><total_fee>999900</total_fee></root>")
	return strings.Replace(text, "<req_info>", outer+"<req_info>", 1)
}

// A refund that WeChat does not confirm is FAIL and comes again, until it does.
func TestRefundIsConfirmed(t *testing.T) {
	env, shop := newEnvironment(t), newMerchant("shop", 1)
	env.serve(layout{merchants: []*merchant{shop}, site: counting})
	id := env.refunded(shop, "order-1", "refund_notify")
	for _, claim := range []string{claiming(t, shop, id, "SUCCESS", ""), claiming(t, shop, "50000000000", "SUCCESS", "")} {
		checkRefused(t, env, env.post("refund_notify", claim), "not_confirmed")
	}
	faults := []wepaytest.Fault{
		{Kind: wepaytest.WrongSignature},
		{Kind: wepaytest.HTML, Status: http.StatusBadGateway},
		{Kind: wepaytest.Foreign},
		{Kind: wepaytest.Refused},
		{Kind: wepaytest.Failed},
	}
	for _, fault := range faults {
		env.wechat.Misbehave("/pay/refundquery", fault)
	}
	delivery := env.finish(shop, "order-1", wepaytest.RefundSuccess)
	for _, wait := range []time.Duration{15 * time.Second, 15 * time.Second, 30 * time.Second, 3 * time.Minute, 10 * time.Minute} {
		attempts := delivery.Attempts()
		if got := string(attempts[len(attempts)-1].Answer); got != refused("not_confirmed") {
			t.Errorf("WeChat got %s", got)
		}
		if delivered := env.orders.forget(); len(delivered) > 0 {
			t.Errorf("the order service got %s", delivered[0].body)
		}
		env.clock.Advance(wait)
	}
	checkTaken(t, delivery)
	checkRefundCallback(t, env, shop, delivery, "/paid/shop")
	if n, want := env.counts("shop", "not_confirmed"), len(faults)+2; n != want {
		t.Errorf("%d are counted, want %d", n, want)
	}
	if n, want := len(env.wechat.Requests("/pay/refundquery")), len(faults)+3; n != want {
		t.Errorf("WeChat was asked %d times, want %d", n, want)
	}
}

// A notification that says something else of a true refund, or that it is of
// another sub-merchant, is the same event, or none.
func TestRefundIsWhatWeChatSays(t *testing.T) {
	env, partner := newPartner(t, "sub_mch_id *")
	env.get("get_pay_request_params", with(partner.order("order-1"), "sub_mch_id", subFirst))
	env.pay(partner, "order-1")
	request := with(partner.refund("order-1", "r-order-1", 200), "sub_mch_id", subFirst)
	request["notify_url"] = env.site + "/apis/v1/wepay/refund_notify"
	id := env.get("refund", request)["refund_id"]
	env.orders.forget()
	delivery := env.finish(partner, "order-1", wepaytest.RefundSuccess)
	checkTaken(t, delivery)
	first := checkRefundCallback(t, env, partner, delivery, "/paid/partner")
	outer := func(sub string) string { return "<sub_mch_id>" + sub + "</sub_mch_id>" }
	for _, claim := range []string{
		claiming(t, partner, id, "SUCCESS", outer(subFirst)),
		claiming(t, partner, id, "CHANGE", outer(subFirst)+"<refund_fee>1</refund_fee><sub_appid>"+appSecond+"</sub_appid>"),
	} {
		if a := env.post("refund_notify", claim); a.body != taken {
			t.Errorf("WeChat hears %s", a.body)
		}
		if again := checkRefundCallback(t, env, partner, delivery, "/paid/partner"); again != first {
			t.Errorf("the event is %s and %s", first, again)
		}
	}
	for _, claim := range []string{claiming(t, partner, id, "SUCCESS", outer(subSecond)), claiming(t, partner, id, "SUCCESS", outer("1999999999"))} {
		checkRefused(t, env, env.post("refund_notify", claim), "not_confirmed")
	}
}

// WeChat is not kept waiting for longer than it waits where it does not answer
// itself. This takes 3 of the 5 seconds.
func TestRefundIsAskedAboutInTime(t *testing.T) {
	env, shop := newShop(t, "")
	env.refunded(shop, "order-1", "refund_notify")
	env.wechat.Misbehave("/pay/refundquery", wepaytest.Fault{Kind: wepaytest.Slow, Standing: true})
	began := time.Now()
	delivery := env.finish(shop, "order-1", wepaytest.RefundSuccess)
	if took := time.Since(began); took > 4500*time.Millisecond {
		t.Errorf("WeChat waited %s", took)
	}
	if got := string(delivery.Attempts()[0].Answer); got != refused("not_confirmed") {
		t.Errorf("WeChat got %s", got)
	}
}
