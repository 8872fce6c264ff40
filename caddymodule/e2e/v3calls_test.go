package e2e_test

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"

	"github.com/windsome/caddy-wepay/wepay/wepaytest"
)

// newV3Partner is an environment of a partner of API v3 with one sub-merchant, whose
// customers pay somewhere and whose block has further lines.
func newV3Partner(t *testing.T, where string, lines ...string) (*environment, *merchant) {
	t.Helper()
	env, partner := newEnvironment(t), newV3Merchant("partner", 1)
	partner.env, partner.subMchID, partner.subAppID = where, subFirst, appFirst
	env.serve(env.stalls(stall{partner, lines}))
	return env, partner
}

// What a partner's transfer needs on the payee's phone reaches the caller, although
// WeChat's reply says nothing of the transfer's state.
func TestTransferOfSubMerchant(t *testing.T) {
	env, partner := newV3Partner(t, "WXAPP", "payouts")
	env.deposit(partner)
	request := with(payout("t1"), "sub_mch_id", subFirst, "transfer_scene_id", "1000")
	request["transfer_scene_report_infos"] = []map[string]string{{"info_type": "活动名称", "info_content": "新会员有礼"}}
	made := env.get("transfer", request)
	checkFields(t, made, map[string]string{"partner_trade_no": "t1", "state": "", "sub_mch_id": subFirst})
	if made["package_info"] == "" || made["payment_no"] == "" {
		t.Errorf("the result is %v", made)
	}
	query := map[string]any{"partner_trade_no": "t1", "sub_mch_id": subFirst}
	checkFields(t, env.get("transfer_query", query), map[string]string{"status": "PROCESSING", "state": "WAIT_USER_CONFIRM"})
	if native := env.done("transfer", with(request, "native", "true")); native.text(t, "package_info") != made["package_info"] {
		t.Errorf("the result is %s", native.body)
	}
}

func TestPartnerIDOfApp(t *testing.T) {
	for _, line := range []string{"", "partnerid mch_id", "partnerid sub_mch_id"} {
		t.Run(line, func(t *testing.T) {
			env, partner := newV3Partner(t, "APP", line)
			want := partner.mchID
			if line == "partnerid sub_mch_id" {
				want = subFirst
			}
			checkFields(t, env.get("get_pay_request_params", partner.order3("order-1")), map[string]string{"partnerid": want, "appid": appFirst})
		})
	}
}

// An order of one person alone, by API v2's names: WeChat gets it encrypted, the log
// does not get it at all.
func TestOrderOfOnePerson(t *testing.T) {
	env, shop := newV3Shop(t, "")
	env.wechat.NamePayee(openID, "张三")
	person := []string{"user_type", "IDCARD", "user_creid", "43102119910910512X", "user_truename"}
	env.get("get_pay_request_params", with(shop.order3("order-1"), append(person, "张三")...))
	env.get("get_pay_request_params", with(shop.order3("order-2"), append(person, "李四")...))
	env.refuses("get_pay_request_params", with(shop.order3("order-3"), person[:4]...), 40008, "user_truename: ")
	var sent struct {
		Payer struct{ Identity map[string]string }
	}
	last := env.last("/v3/pay/transactions/jsapi")
	if err := json.Unmarshal(last.Body, &sent); err != nil || sent.Payer.Identity["type"] != "IDCARD" || strings.Contains(string(last.Body), "43102119910910512X") {
		t.Errorf("WeChat got %s, %v", last.Body, err)
	}
	checkTakenV3(t, env.pay(shop, "order-1"))
	if _, err := env.wechat.Pay(shop.mchID, "order-2"); !errors.Is(err, wepaytest.ErrNotPayable) {
		t.Errorf("another person pays: %v", err)
	}
}
