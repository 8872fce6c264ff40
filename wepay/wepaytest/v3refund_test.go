package wepaytest_test

import (
	"errors"
	"testing"
	"time"

	"github.com/windsome/caddy-wepay/wepay"
	"github.com/windsome/caddy-wepay/wepay/wepaytest"
)

const v3RefundPath = "/v3/refund/domestic/refunds"

func (s *v3shop) refund(number, refundNumber string, total, fee int) obj {
	return obj{
		"out_trade_no": number, "out_refund_no": refundNumber, "reason": "退货", "notify_url": s.notified.URL,
		"amount": obj{"refund": fee, "total": total, "currency": "CNY"},
	}
}

func TestV3Refund(t *testing.T) {
	s := newV3Shop(t)
	s.pay("ORDER-0001", 1000, wepaytest.WithCoupons(
		wepaytest.Coupon{Type: wepaytest.Cash, ID: "10001", Fee: 66}, wepaytest.Coupon{Type: wepaytest.NoCash, ID: "10002", Fee: 34},
	))
	body := s.refund("ORDER-0001", "R-1@x", 1000, 333)
	first := s.granted("POST", v3RefundPath, body)
	checkAt(t, first.body, map[string]string{
		"status": "PROCESSING", "out_refund_no": "R-1@x", "out_trade_no": "ORDER-0001", "channel": "ORIGINAL", "success_time": "",
		"create_time": "2026-01-01T20:00:00+08:00", "amount.total": "1000", "amount.refund": "333", "amount.payer_total": "900",
		"amount.payer_refund": "301", "amount.settlement_refund": "322", "amount.settlement_total": "966", "amount.discount_refund": "32",
		"promotion_detail.0.type": "COUPON", "promotion_detail.0.refund_amount": "21", "promotion_detail.1.type": "DISCOUNT",
	})
	if again := s.granted("POST", v3RefundPath, body); again.at("refund_id") != first.at("refund_id") {
		t.Errorf("the same number gives %s and %s", first.raw, again.raw)
	}
	if o, _ := s.wechat.Order(mchID, "ORDER-0001"); o.Refunded != 333 || o.Refunds != 1 {
		t.Errorf("the books have %+v", o)
	}
	d, err := s.wechat.FinishRefund(mchID, "R-1@x", wepaytest.RefundSuccess)
	if err != nil {
		t.Fatal(err)
	}
	envelope, resource := s.decrypted(d)
	checkAt(t, envelope, map[string]string{"event_type": "REFUND.SUCCESS", "resource.original_type": "refund", "resource.associated_data": "refund"})
	checkAt(t, resource, map[string]string{
		"mchid": mchID, "refund_status": "SUCCESS", "success_time": "2026-01-01T20:00:00+08:00", "appid": "", "status": "",
		"amount.total": "1000", "amount.refund": "333", "amount.payer_total": "900", "amount.payer_refund": "301", "out_refund_no": "R-1@x",
		"refund_id": first.at("refund_id"),
	})
	checkAt(t, s.granted("GET", v3RefundPath+"/R-1@x", nil).body, map[string]string{"status": "SUCCESS", "success_time": "2026-01-01T20:00:00+08:00"})
	checkAt(t, s.granted("GET", "/v3/pay/transactions/out-trade-no/ORDER-0001?mchid="+mchID, nil).body, map[string]string{"trade_state": "REFUND"})
}

func TestV3RefundRefuses(t *testing.T) {
	s := newV3Shop(t)
	s.pay("ORDER-0001", 100)
	s.granted("POST", jsapiPath, s.jsapi("OPEN-0001", 100))
	s.granted("POST", v3RefundPath, s.refund("ORDER-0001", "R-1", 100, 30))
	right := s.refund("ORDER-0001", "R-2", 100, 30)
	for name, c := range map[string]struct {
		status int
		code   string
		body   obj
	}{
		"above the rest":           {400, "INVALID_REQUEST", changed(right, "amount.refund", 71)},
		"above the total":          {400, "PARAM_ERROR", changed(right, "amount.refund", 101)},
		"another total":            {400, "INVALID_REQUEST", changed(right, "amount.total", 99)},
		"the number with more":     {400, "INVALID_REQUEST", s.refund("ORDER-0001", "R-1", 100, 31)},
		"the number for another":   {404, "RESOURCE_NOT_EXISTS", s.refund("OPEN-0001", "R-1", 100, 30)},
		"no such order":            {404, "RESOURCE_NOT_EXISTS", s.refund("NONE-0001", "R-2", 100, 30)},
		"not paid":                 {404, "RESOURCE_NOT_EXISTS", s.refund("OPEN-0001", "R-2", 100, 30)},
		"no order named":           {400, "PARAM_ERROR", changed(right, "out_trade_no", nil)},
		"no currency":              {400, "PARAM_ERROR", changed(right, "amount.currency", nil)},
		"a malformed transaction":  {400, "INVALID_TRANSACTIONID", changed(right, "transaction_id", "x")},
		"a sub-merchant of nobody": {403, "NO_AUTH", changed(right, "sub_mchid", "1900000209")},
	} {
		t.Run(name, func(t *testing.T) {
			shop := *s
			shop.t = t
			shop.denied(c.status, c.code, shop.message("POST", v3RefundPath, c.body))
		})
	}
	s.denied(404, "RESOURCE_NOT_EXISTS", s.message("GET", v3RefundPath+"/R-9", nil))
	if o, _ := s.wechat.Order(mchID, "ORDER-0001"); o.Refunded != 30 {
		t.Errorf("the books have %+v", o)
	}
	s.clock.Advance(366 * 24 * time.Hour)
	s.denied(400, "INVALID_REQUEST", s.message("POST", v3RefundPath, right))
}

func TestV3RefundNotEnough(t *testing.T) {
	s := newV3Shop(t)
	s.pay("ORDER-0001", 100)
	s.wechat.NamePayee(openID, "张三")
	s.granted("POST", v3RefundPath, s.refund("ORDER-0001", "R-1", 100, 100))
	s.denied(400, "INVALID_REQUEST", s.message("POST", v3RefundPath, s.refund("ORDER-0001", "R-2", 100, 1)))
	if d, err := s.wechat.FinishRefund(mchID, "R-1", wepaytest.RefundClosed); err != nil || !d.Taken() {
		t.Errorf("closing gives %v", err)
	}
	s.pay("ORDER-0002", 50)
	s.granted("POST", "/v3/fund-app/mch-transfer/transfer-bills", s.transfer("T1", 120))
	s.denied(403, "NOT_ENOUGH", s.message("POST", v3RefundPath, s.refund("ORDER-0002", "R-3", 50, 40)))
}

func TestV3RefundAbnormal(t *testing.T) {
	s := newV3Shop(t, byPublicKey)
	s.pay("ORDER-0001", 100)
	id := s.granted("POST", v3RefundPath, s.refund("ORDER-0001", "R-1", 100, 30)).at("refund_id")
	path := v3RefundPath + "/" + id + "/apply-abnormal-refund"
	body := obj{"out_refund_no": "R-1", "type": "USER_BANK_CARD", "bank_type": "ICBC_DEBIT", "bank_account": s.encrypted("6212"), "real_name": s.encrypted("张三")}
	s.denied(400, "INVALID_REQUEST", s.message("POST", path, body))
	d, err := s.wechat.FinishRefund(mchID, "R-1", wepaytest.RefundChanged)
	if err != nil {
		t.Fatal(err)
	}
	envelope, resource := s.decrypted(d)
	checkAt(t, envelope, map[string]string{"event_type": "REFUND.ABNORMAL"})
	checkAt(t, resource, map[string]string{"refund_status": "ABNORMAL", "success_time": ""})
	s.denied(400, "PARAM_ERROR", s.message("POST", path, changed(body, "real_name", "张三")))
	s.denied(400, "PARAM_ERROR", s.message("POST", path, changed(body, "bank_account", nil)))
	s.denied(400, "PARAM_ERROR", s.message("POST", path, changed(body, "out_refund_no", "R-2")))
	checkAt(t, s.granted("POST", path, body).body, map[string]string{"status": "PROCESSING", "refund_id": id})
	if _, err := s.wechat.FinishRefund(mchID, "R-1", wepaytest.RefundSuccess); err != nil {
		t.Error(err)
	}
}

// Who asks for the refund decides how it is told, not who placed the order.
func TestV3RefundAcross(t *testing.T) {
	s := newV3Shop(t, withV2)
	old := newShopAt(t, s.wechat)
	if err := s.wechat.AddMerchant(wepaytest.Merchant{MchID: mchID, AppIDs: []string{appID}, Key: key, APIv3Key: apiV3Key}); err != nil {
		t.Fatal(err)
	}
	old.pay("ORDER-V2", 100)
	s.pay("ORDER-V3", 100)
	s.granted("POST", v3RefundPath, s.refund("ORDER-V2", "R-V3", 100, 30))
	in := refundOf("ORDER-V3", "R-V2", 100, 40)
	in.Set("notify_url", old.notified.URL)
	old.do(wepay.Refund, in)

	d, err := s.wechat.FinishRefund(mchID, "R-V3", wepaytest.RefundSuccess)
	if err != nil {
		t.Fatal(err)
	}
	_, resource := s.decrypted(d)
	checkAt(t, resource, map[string]string{"out_trade_no": "ORDER-V2", "amount.refund": "30"})
	d, err = s.wechat.FinishRefund(mchID, "R-V2", wepaytest.RefundClosed)
	if err != nil || d.Body()[0] != '<' || !d.Taken() {
		t.Errorf("the refund by API v2 is told as %.40s, error %v", d.Body(), err)
	}
	// One space of numbers, and one balance.
	s.denied(404, "RESOURCE_NOT_EXISTS", s.message("POST", v3RefundPath, s.refund("NONE-0001", "R-V2", 100, 40)))
	checkAt(t, s.granted("GET", v3RefundPath+"/R-V2", nil).body, map[string]string{"status": "CLOSED", "amount.refund": "40"})
	s.denied(400, "INVALID_REQUEST", s.message("POST", v3RefundPath, s.refund("ORDER-V2", "R-V2", 100, 40)))
	if funds, _ := s.wechat.Funds(mchID); funds.Available != 170 {
		t.Errorf("the merchant has %+v", funds)
	}
}

func TestV3RefundWithoutKey(t *testing.T) {
	s := newV3Shop(t, withV2, func(m *wepaytest.Merchant) { m.APIv3Key = "" })
	old := newShopAt(t, s.wechat)
	old.pay("ORDER-V2", 100)
	s.granted("POST", v3RefundPath, s.refund("ORDER-V2", "R-1", 100, 30))
	if _, err := s.wechat.FinishRefund(mchID, "R-1", wepaytest.RefundSuccess); !errors.Is(err, wepaytest.ErrNoAPIv3Key) {
		t.Errorf("ending it gives %v", err)
	}
	checkAt(t, s.granted("GET", v3RefundPath+"/R-1", nil).body, map[string]string{"status": "PROCESSING"})
}
