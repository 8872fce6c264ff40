package apiv3_test

import (
	"encoding/json"
	"testing"

	"github.com/windsome/caddy-wepay/wepay"
)

// A name goes there encrypted, and the receiver is API v2's.
func TestProfitSharing(t *testing.T) {
	everyWay(t, func(t *testing.T, s *shop) {
		id := s.pay(with(order("ORDER-0001", "1000"), "profit_sharing", "Y"))
		added := s.do(wepay.ProfitShareAddReceiver, fields("receiver", `{"type":"MERCHANT_ID","account":"1900000110","name":"另一家店","relation_type":"STORE"}`))
		s.checkDone(added)
		if canonical(t, []byte(added.Get("receiver"))) != canonical(t, []byte(`{"type":"MERCHANT_ID","account":"1900000110","relation_type":"STORE"}`)) {
			t.Errorf("got %v", added)
		}
		s.do(wepay.ProfitShareAddReceiver, fields("receiver", `{"type":"PERSONAL_OPENID","account":"`+openID+`","relation_type":"CUSTOM","custom_relation":"表弟"}`))

		check(t, s.do(wepay.QueryUnsplit, fields("transaction_id", id)), "transaction_id", id, "unsplit_amount", "1000")
		receivers := `[{"type":"MERCHANT_ID","account":"1900000110","name":"另一家店","amount":100,"description":"分给店铺"},
			{"type":"PERSONAL_OPENID","account":"` + openID + `","amount":50,"description":"分给表弟"}]`
		in := fields("transaction_id", id, "out_order_no", "SHARE-1", "receivers", receivers)
		got := s.do(wepay.ProfitShareMulti, in)
		s.checkDone(got)
		check(t, got, "transaction_id", id, "out_order_no", "SHARE-1", "status", "PROCESSING", "sub_mch_id", s.merchant.SubMchID)
		if again := s.do(wepay.ProfitShareMulti, in); again.Get("order_id") != got.Get("order_id") {
			t.Errorf("the same number gives %v and %v", got, again)
		}
		state := s.do(wepay.ProfitShareQuery, fields("transaction_id", id, "out_order_no", "SHARE-1"))
		check(t, state, "status", "FINISHED", "order_id", got.Get("order_id"))
		var list []struct {
			Type, Account, Result string
			Amount                int64
			FinishTime            string `json:"finish_time"`
		}
		if err := json.Unmarshal([]byte(state.Get("receivers")), &list); err != nil || len(list) != 2 || list[0].Result != "SUCCESS" ||
			list[0].Amount != 100 || list[1].Account != openID || list[1].FinishTime != "20260101120000" {
			t.Errorf("got %+v, %v", list, err)
		}
		check(t, s.do(wepay.QueryUnsplit, fields("transaction_id", id)), "unsplit_amount", "850")
		s.refused(wepay.ProfitShareMulti, with(in, "out_order_no", "SHARE-9", "receivers",
			`[{"type":"MERCHANT_ID","account":"1900000110","amount":900,"description":"太多"}]`), "RULE_LIMIT", wepay.Fix)
		s.refused(wepay.ProfitShareMulti, with(in, "receivers", `[{"type":"MERCHANT_ID","account":"1900000110","amount":1,"description":"另"}]`),
			"RESOURCE_ALREADY_EXISTS", wepay.Query)
		s.refused(wepay.ProfitShareQuery, fields("transaction_id", id, "out_order_no", "NOBODYS"), "RESOURCE_NOT_EXISTS", wepay.Again)

		back := fields("out_return_no", "RETURN-1", "out_order_no", "SHARE-1", "return_account_type", "MERCHANT_ID",
			"return_account", otherMch, "return_amount", "40", "description", "退货")
		returned := s.do(wepay.ProfitShareReturn, back)
		s.checkDone(returned)
		check(t, returned, "out_return_no", "RETURN-1", "return_amount", "40", "return_account", otherMch, "return_account_type", "MERCHANT_ID",
			"result", "SUCCESS", "finish_time", "20260101120000", "order_id", got.Get("order_id"))
		if returned.Get("return_no") == "" {
			t.Errorf("got %v", returned)
		}
		asked := s.do(wepay.ProfitShareReturnQuery, fields("out_return_no", "RETURN-1", "out_order_no", "SHARE-1"))
		check(t, asked, "result", "SUCCESS", "return_no", returned.Get("return_no"))
		s.refused(wepay.ProfitShareReturnQuery, fields("out_return_no", "NOBODYS", "out_order_no", "SHARE-1"), "RESOURCE_NOT_EXISTS", wepay.Again)

		finished := s.do(wepay.ProfitShareFinish, fields("transaction_id", id, "out_order_no", "SHARE-2", "description", "完结"))
		check(t, finished, "out_order_no", "SHARE-2", "transaction_id", id)
		check(t, s.do(wepay.QueryUnsplit, fields("transaction_id", id)), "unsplit_amount", "0")
		s.checkDone(s.do(wepay.ProfitShareRemoveReceiver, fields("receiver", `{"type":"PERSONAL_OPENID","account":"`+openID+`","name":"x"}`)))
	})
}

// The single share ends an order's sharing, the others do not.
func TestProfitShareOnce(t *testing.T) {
	for op, left := range map[wepay.Operation]string{wepay.ProfitShare: "0", wepay.ProfitShareMulti: "900"} {
		s := openShop(t, ways[2])
		id := s.pay(with(order("ORDER-0001", "1000"), "profit_sharing", "Y"))
		s.do(wepay.ProfitShareAddReceiver, fields("receiver", `{"type":"MERCHANT_ID","account":"1900000110","relation_type":"STORE"}`))
		s.do(op, fields("transaction_id", id, "out_order_no", "SHARE-1", "receivers", `[{"type":"MERCHANT_ID","account":"1900000110","amount":100,"description":"分"}]`))
		check(t, s.do(wepay.QueryUnsplit, fields("transaction_id", id)), "unsplit_amount", left)
	}
}

func TestProfitSharingIsRefused(t *testing.T) {
	s := openShop(t, ways[0])
	for _, test := range []struct {
		op    wepay.Operation
		in    wepay.Fields
		field string
	}{
		{wepay.ProfitShare, fields("transaction_id", "1", "out_order_no", "S1", "receivers", "[]"), "receivers"},
		{wepay.ProfitShare, fields("transaction_id", "1", "out_order_no", "S1", "receivers", `[{"type":"MERCHANT_ID","account":"1","amount":"1","description":"x"}]`), "receivers"},
		{wepay.ProfitShare, fields("transaction_id", "1", "out_order_no", "S1", "receivers", `[{"type":"MERCHANT_ID","account":"1","amount":1,"description":"🧦"}]`), "receivers"},
		{wepay.ProfitShare, fields("transaction_id", "1", "out_order_no", "S1", "receivers", `[{"type":"MERCHANT_ID","account":"1","amount":1,"description":"x"}]`, "brand_mch_id", "1"), "brand_mch_id"},
		{wepay.ProfitShareReturnQuery, fields("out_return_no", "R1", "order_id", "1"), "out_order_no"},
		{wepay.ProfitShareAddReceiver, fields("receiver", `{"type":"MERCHANT_ID","account":"1","relation_type":"STORE","name":null}`), "receiver"},
		{wepay.ProfitShareAddReceiver, fields("receiver", `{"type":"MERCHANT_ID","account":"1"}`), "receiver"},
		{wepay.ProfitShareFinish, fields("transaction_id", "1", "out_order_no", "S1"), "description"},
		{wepay.QueryUnsplit, fields(), "transaction_id"},
	} {
		_, err := s.client.Do(t.Context(), test.op, test.in)
		wantField(t, err, test.field)
	}
	if n := len(s.wechat.Requests("")); n != 0 {
		t.Errorf("%d requests were sent", n)
	}
}
