package e2e_test

import (
	"maps"
	"net/http"
	"testing"

	"github.com/windsome/caddy-wepay/wepay/wepaytest"
)

// The sub-merchants that partners act for at WeChat, and their appids.
const (
	subFirst, subSecond, subThird          = "1900000191", "1900000192", "1900000193"
	appFirst, appSecond, appSecondsAnother = "wx9911223344556601", "wx9911223344556602", "wx9911223344556603"
)

// newPartner is an environment of a partner who acts for three sub-merchants, of which
// its sub_mch_id names some.
func newPartner(t *testing.T, lines ...string) (*environment, *merchant) {
	t.Helper()
	env, partner := newEnvironment(t), newMerchant("partner", 1)
	l := env.stalls(stall{partner, lines})
	env.hasSubs(partner)
	env.serve(l)
	return env, partner
}

// hasSubs makes a merchant's account a partner's.
func (env *environment) hasSubs(partner *merchant) {
	env.t.Helper()
	if err := env.wechat.AddMerchant(wepaytest.Merchant{
		MchID: partner.mchID, AppIDs: []string{partner.appID}, Key: partner.key,
		SubMerchants: []wepaytest.SubMerchant{
			{MchID: subFirst, AppIDs: []string{appFirst}},
			{MchID: subSecond, AppIDs: []string{appSecond, appSecondsAnother}},
			{MchID: subThird},
		},
	}); err != nil {
		env.t.Fatal(err)
	}
}

// with adds fields to a request.
func with(request map[string]any, pairs ...string) map[string]any {
	all := maps.Clone(request)
	for i := 0; i < len(pairs); i += 2 {
		all[pairs[i]] = pairs[i+1]
	}
	return all
}

// A whole order of each sub-merchant: whom it is for is what WeChat gets, what
// the payer's client gets and what the order service hears.
func TestSubMerchants(t *testing.T) {
	env, partner := newPartner(t, "sub_mch_id "+subFirst+" "+subSecond, "sub_app_id "+appFirst)
	for _, test := range []struct {
		name   string
		named  []string          // by the request
		client string            // the appid of the payer's client
		sent   map[string]string // what WeChat gets
	}{
		{"the first, which is not named", nil, appFirst, map[string]string{"sub_mch_id": subFirst, "sub_appid": appFirst, "sub_openid": openID, "openid": ""}},
		{"the first by its name", []string{"sub_mch_id", subFirst}, appFirst, map[string]string{"sub_mch_id": subFirst, "sub_appid": appFirst}},
		{"the second", []string{"sub_mch_id", subSecond}, partner.appID, map[string]string{"sub_mch_id": subSecond, "sub_appid": "", "openid": openID}},
		{
			"the second's app",
			[]string{"sub_mch_id", subSecond, "sub_appid", appSecondsAnother},
			appSecondsAnother,
			map[string]string{"sub_mch_id": subSecond, "sub_appid": appSecondsAnother, "sub_openid": openID},
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			env := env.in(t)
			id := "order-" + toNumber(test.name)
			params := env.get("get_pay_request_params", with(partner.order(id), test.named...))
			checkFields(t, params, map[string]string{"appId": test.client})
			checkFields(t, asMap(env.last("/pay/unifiedorder").Fields), test.sent)
			checkFields(t, asMap(env.last("/pay/unifiedorder").Fields), map[string]string{"appid": partner.appID, "mch_id": partner.mchID})

			delivery := env.pay(partner, id)
			checkTaken(t, delivery)
			checkFields(t, checkCallback(t, env, partner, delivery), map[string]string{"sub_mch_id": test.sent["sub_mch_id"], "out_trade_no": id})

			order := with(map[string]any{"out_trade_no": id}, test.named...)
			checkFields(t, env.get("order_query", order), map[string]string{"trade_state": "SUCCESS"})
			refund := with(partner.refund(id, "r-"+id, 200), test.named...)
			refund["notify_url"] = env.site + "/apis/v1/wepay/refund_notify"
			checkFields(t, env.get("refund", refund), map[string]string{"refund_fee": "200"})
			if f := env.done("refund_query", order); len(f.Result["refunds"]) < 10 {
				t.Errorf("%s", f.body)
			}
			delivery = env.finish(partner, id, wepaytest.RefundSuccess)
			checkTaken(t, delivery)
			checkRefundCallback(t, env, partner, delivery, "/paid/partner")
		})
	}
	// One sub-merchant's orders are nobody else's.
	env.declines("order_query", map[string]any{"out_trade_no": "order-" + toNumber("the second"), "sub_mch_id": subFirst}, "ORDERNOTEXIST", "AGAIN")
	env.declines("get_pay_request_params", with(partner.order("order-x"), "sub_mch_id", subSecond, "sub_appid", appFirst), "APPID_MCHID_NOT_MATCH", "FIX")
}

// toNumber makes a number of a name.
func toNumber(name string) string {
	var number []rune
	for _, r := range name {
		if r >= 'a' && r <= 'z' && len(number) < 26 {
			number = append(number, r)
		}
	}
	return string(number)
}

// Whom the configuration does not name nobody can ask for, by any route.
func TestSubMerchantNotAllowed(t *testing.T) {
	env, partner := newPartner(t, "sub_mch_id "+subFirst+" "+subSecond, "payouts", "passthrough")
	for _, c := range everyCall(partner) {
		t.Run(c.route, func(t *testing.T) {
			env := env.in(t)
			env.refuses(c.route, with(c.request, "sub_mch_id", subThird), 40003, "sub_mch_id: ")
			env.refuses(c.route, with(c.request, "sub_mch_id", "*"), 40003, "sub_mch_id: ")
		})
	}
	env.refuses("v2/pay/orderquery", map[string]any{"out_trade_no": "1", "sub_mch_id": subThird}, 40003, "sub_mch_id: ")
	env.refuses("biz_pay_url", map[string]any{"product_id": "1", "sub_mch_id": subThird}, 40003, "sub_mch_id: ")
}

// With * a request names any sub-merchant, and has to name one.
func TestAnySubMerchant(t *testing.T) {
	env, partner := newPartner(t, "sub_mch_id *", "passthrough")
	env.refuses("get_pay_request_params", partner.order("order-1"), 40008, "sub_mch_id: ")
	env.refuses("order_query", map[string]any{"out_trade_no": "order-1"}, 40008, "sub_mch_id: ")
	env.refuses("order_query", map[string]any{"out_trade_no": "order-1", "sub_mch_id": "*"}, 40003, "sub_mch_id: ")
	env.refuses("order_query", map[string]any{"out_trade_no": "order-1", "sub_mch_id": "1/2"}, 40003, "sub_mch_id: ")
	for _, sub := range []string{subFirst, subThird} {
		id := "order-" + sub
		env.get("get_pay_request_params", with(partner.order(id), "sub_mch_id", sub))
		delivery := env.pay(partner, id)
		checkTaken(t, delivery)
		checkFields(t, checkCallback(t, env, partner, delivery), map[string]string{"sub_mch_id": sub})
		checkFields(t, env.get("v2/pay/orderquery", map[string]any{"out_trade_no": id, "sub_mch_id": sub}), map[string]string{"trade_state": "SUCCESS"})
	}
	env.declines("order_query", map[string]any{"out_trade_no": "order-1", "sub_mch_id": "1900000999"}, "NOAUTH", "FIX")
}

// A partner's sub-merchants may be shared out among merchants here: each gets
// what is its own, and what is nobody's is refused.
func TestSubMerchantsNotifications(t *testing.T) {
	env, left, right := newEnvironment(t), newMerchant("left", 1), newMerchant("right", 1)
	left.notify, right.notify, right.shared, right.form = "pay_notify", "pay_notify", true, none
	l := env.stalls(stall{left, []string{"sub_mch_id " + subFirst}}, stall{right, []string{"sub_mch_id " + subThird + " " + subSecond}})
	env.hasSubs(left)
	env.serve(l)
	for _, test := range []struct {
		merchant *merchant
		sub      string
	}{{left, subFirst}, {right, subSecond}, {right, subThird}} {
		id := "order-" + test.sub
		env.get("get_pay_request_params", with(test.merchant.order(id), "sub_mch_id", test.sub))
		delivery := env.pay(test.merchant, id)
		checkTaken(t, delivery)
		checkCallback(t, env, test.merchant, delivery)

		other := map[*merchant]*merchant{left: right, right: left}[test.merchant]
		env.refuses("order_query", map[string]any{"merchant": other.name, "out_trade_no": id, "sub_mch_id": test.sub}, 40003, "sub_mch_id: ")
		checkRefused(t, env, env.post("pay_notify/"+other.name, string(delivery.Body())), "foreign")
	}
	// What an older configuration asked for is foreign to a newer one.
	env.get("get_pay_request_params", with(right.order("order-1"), "sub_mch_id", subSecond))
	delivery := env.pay(right, "order-1", wepaytest.Held())
	left.shared, env.patience = true, redials
	if err := env.load(env.stalls(stall{left, []string{"sub_mch_id " + subFirst + " " + subThird}})); err != nil {
		t.Fatal(err)
	}
	checkRefused(t, env, env.post("pay_notify", string(delivery.Body())), "foreign")
}

// What a partner sends from its own account, or gets of what others sell, is its
// own business, although it acts for others otherwise; a payment is not.
func TestPartnersOwnMoney(t *testing.T) {
	env, partner := newEnvironment(t), newV3Merchant("partner", 1)
	partner.subMchID, partner.subAppID = subFirst, appFirst
	env.serve(layout{merchants: []*merchant{partner}, site: counting})
	for kind, resource := range map[string]map[string]any{
		"MCHTRANSFER.BILL.FINISHED": {
			"mch_id": partner.mchID, "out_bill_no": "b1", "transfer_bill_no": "1330000", "state": "SUCCESS", "transfer_amount": 1, "openid": openID,
		},
		"MCHTRANSFER.BATCH.FINISHED": {
			"mchid": partner.mchID, "out_batch_no": "b1", "batch_id": "1030000", "batch_status": "FINISHED", "total_num": 1, "total_amount": 1,
		},
		"PROFITSHARING.SUCCESS": {
			"sp_mchid": "1900000999", "sub_mchid": "1900000998", "transaction_id": "4200000001", "order_id": "3008", "out_order_no": "s1",
			"receiver":     map[string]any{"type": "MERCHANT_ID", "account": partner.mchID, "amount": 1, "description": "x"},
			"success_time": "2026-01-01T00:00:00+08:00",
		},
	} {
		t.Run(kind, func(t *testing.T) {
			env := env.in(t)
			d, err := env.wechat.Notify(partner.mchID, wepaytest.Event{URL: env.site + "/apis/v1/wepay/pay_notify", Type: kind, Resource: resource})
			if err != nil {
				t.Fatal(err)
			}
			checkTakenV3(t, d)
			if got, _ := env.deliveredOnce(); got.path != "/paid/partner" {
				t.Errorf("%s got it", got.path)
			}
		})
	}
	checkRefusedV3(t, env, env.deliver("pay_notify", env.paidEvent(partner, partner.paid3("order-1")), nil), http.StatusNotFound, "foreign")
}
