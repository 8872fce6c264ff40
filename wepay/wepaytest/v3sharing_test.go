package wepaytest_test

import (
	"strings"
	"testing"
	"time"

	"github.com/windsome/caddy-wepay/wepay/wepaytest"
)

const v3Sharing = "/v3/profitsharing"

// sharer is a shop with an order to share and two receivers.
func sharer(t *testing.T) (s *v3shop, transactionID string) {
	t.Helper()
	s = newV3Shop(t, byPublicKey)
	if err := s.wechat.AddMerchant(wepaytest.Merchant{MchID: "1900000110", APIv3Key: apiV3Key}); err != nil {
		t.Fatal(err)
	}
	s.granted("POST", jsapiPath, changed(s.jsapi("ORDER-0001", 1000), "settle_info.profit_sharing", true))
	if _, err := s.wechat.Pay(mchID, "ORDER-0001"); err != nil {
		t.Fatal(err)
	}
	add := v3Sharing + "/receivers/add"
	checkAt(t, s.granted("POST", add, obj{
		"appid": appID, "type": "MERCHANT_ID", "account": "1900000110", "name": s.encrypted("另一家店"), "relation_type": "STORE",
	}).body, map[string]string{"type": "MERCHANT_ID", "account": "1900000110", "relation_type": "STORE", "name": ""})
	s.granted("POST", add, obj{"appid": appID, "type": "PERSONAL_OPENID", "account": openID, "relation_type": "USER"})
	o, _ := s.wechat.Order(mchID, "ORDER-0001")
	return s, o.TransactionID
}

func (s *v3shop) wallet(of string, want wepaytest.Funds) {
	s.t.Helper()
	if got, found := s.wechat.Funds(of); !found || got != want {
		s.t.Errorf("%s has %+v, want %+v", of, got, want)
	}
}

func TestV3Sharing(t *testing.T) {
	s, id := sharer(t)
	body := obj{
		"appid": appID, "transaction_id": id, "out_order_no": "SHARE-1", "unfreeze_unsplit": false,
		"receivers": []obj{
			{"type": "MERCHANT_ID", "account": "1900000110", "name": s.encrypted("另一家店"), "amount": 200, "description": "分给店铺"},
			{"type": "PERSONAL_OPENID", "account": openID, "amount": 50, "description": "分给个人"},
		},
	}
	s.wallet(mchID, wepaytest.Funds{Frozen: 1000})
	first := s.granted("POST", v3Sharing+"/orders", body)
	checkAt(t, first.body, map[string]string{"state": "PROCESSING", "receivers.0.result": "PENDING", "receivers.0.amount": "200", "out_order_no": "SHARE-1"})
	body["receivers"].([]obj)[0]["name"] = s.encrypted("另一家店") // another text of the same name
	if again := s.granted("POST", v3Sharing+"/orders", body); again.at("order_id") != first.at("order_id") {
		t.Errorf("the same number gives %s and %s", first.raw, again.raw)
	}
	s.wallet(mchID, wepaytest.Funds{Frozen: 750})
	s.wallet("1900000110", wepaytest.Funds{Available: 200})
	checkAt(t, s.granted("GET", v3Sharing+"/orders/SHARE-1?transaction_id="+id, nil).body, map[string]string{
		"state": "FINISHED", "receivers.0.result": "SUCCESS", "receivers.1.account": openID, "receivers.1.finish_time": "2026-01-01T20:00:00+08:00",
	})
	checkAt(t, s.granted("GET", v3Sharing+"/transactions/"+id+"/amounts", nil).body, map[string]string{"unsplit_amount": "750"})
	s.denied(400, "RESOURCE_ALREADY_EXISTS", s.message("POST", v3Sharing+"/orders", changed(body, "unfreeze_unsplit", true)))

	giveBack := obj{"out_order_no": "SHARE-1", "out_return_no": "BACK-1", "return_mchid": "1900000110", "amount": 80, "description": "退货"}
	checkAt(t, s.granted("POST", v3Sharing+"/return-orders", giveBack).body, map[string]string{"result": "SUCCESS", "amount": "80", "return_mchid": "1900000110"})
	s.granted("POST", v3Sharing+"/return-orders", giveBack)
	s.wallet("1900000110", wepaytest.Funds{Available: 120})
	checkAt(t, s.granted("GET", v3Sharing+"/return-orders/BACK-1?out_order_no=SHARE-1", nil).body, map[string]string{"result": "SUCCESS", "amount": "80"})
	s.denied(400, "RESOURCE_ALREADY_EXISTS", s.message("POST", v3Sharing+"/return-orders", changed(giveBack, "amount", 81)))
	s.denied(403, "RULE_LIMIT", s.message("POST", v3Sharing+"/return-orders", changed(changed(giveBack, "out_return_no", "BACK-2"), "amount", 121)))
	s.denied(404, "RESOURCE_NOT_EXISTS", s.message("GET", v3Sharing+"/return-orders/BACK-9?out_order_no=SHARE-1", nil))

	unfreeze := obj{"transaction_id": id, "out_order_no": "SHARE-2", "description": "解冻"}
	s.granted("POST", v3Sharing+"/orders/unfreeze", unfreeze)
	s.granted("POST", v3Sharing+"/orders/unfreeze", unfreeze)
	s.wallet(mchID, wepaytest.Funds{Available: 830})
	s.clock.Advance(24 * time.Hour)
	if bill := s.file(s.granted("GET", v3Sharing+"/bills?bill_date=2026-01-01", nil), false); !strings.Contains(bill, "`SHARE-1,`10.00,`1900000110,`2.00,") {
		t.Errorf("the bill is %s", bill)
	}
}

func TestV3SharingRefuses(t *testing.T) {
	s, id := sharer(t)
	right := obj{
		"appid": appID, "transaction_id": id, "out_order_no": "SHARE-1", "unfreeze_unsplit": true,
		"receivers": []obj{{"type": "PERSONAL_OPENID", "account": openID, "amount": 50, "description": "分给个人"}},
	}
	with := func(name string, value any) []obj {
		return []obj{changed(right["receivers"].([]obj)[0], name, value)}
	}
	for name, c := range map[string]struct {
		status int
		code   string
		body   obj
	}{
		"too much":              {403, "RULE_LIMIT", changed(right, "receivers", with("amount", 301))},
		"an unknown receiver":   {400, "INVALID_REQUEST", changed(right, "receivers", with("account", "other"))},
		"another appid":         {400, "APPID_MCHID_NOT_MATCH", changed(right, "appid", "wxother")},
		"no such order":         {404, "ORDER_NOT_EXIST", changed(right, "transaction_id", "4200000000")},
		"no receivers":          {400, "PARAM_ERROR", changed(right, "receivers", nil)},
		"a name in the clear":   {400, "PARAM_ERROR", changed(right, "receivers", with("name", "张三"))},
		"nothing said of rests": {400, "PARAM_ERROR", changed(right, "unfreeze_unsplit", nil)},
	} {
		t.Run(name, func(t *testing.T) {
			shop := *s
			shop.t = t
			shop.denied(c.status, c.code, shop.message("POST", v3Sharing+"/orders", c.body))
		})
	}
	s.wallet(mchID, wepaytest.Funds{Frozen: 1000})
	s.granted("POST", v3Sharing+"/receivers/delete", obj{"appid": appID, "type": "PERSONAL_OPENID", "account": openID})
	s.denied(400, "INVALID_REQUEST", s.message("POST", v3Sharing+"/orders", right))
	s.denied(403, "NO_AUTH", s.message("GET", v3Sharing+"/merchant-configs/1900000209", nil))
}

func TestV3SharingRatio(t *testing.T) {
	s := newV3Shop(t, partnerOf)
	checkAt(t, s.granted("GET", v3Sharing+"/merchant-configs/1900000209", nil).body, map[string]string{"max_ratio": "3000", "sub_mchid": "1900000209"})
}
