package apiv3

import (
	"testing"

	"github.com/windsome/caddy-wepay/wepay"
)

// A payment that says odd things that nothing depends on is a payment.
func TestOddPayment(t *testing.T) {
	s := newSender(t)
	plain, was := vectorInto[notificationVector](t, "N1").Plaintext, vectorInto[map[string]string](t, "M1")
	for name, test := range map[string]struct {
		changes changes
		want    map[string]string
		omitted bool
	}{
		"a zone without a colon":     {changes{"success_time": "2023-11-15T06:13:18+0800"}, nil, false},
		"a time that is none":        {changes{"success_time": "20231115061318 "}, map[string]string{"time_end": "20231115061318 "}, false},
		"half a fen of the payer's":  {changes{"amount.payer_total": 99.5}, plus(noCoupons, map[string]string{"cash_fee": "99.5"}), true},
		"less than nothing from him": {changes{"amount.payer_total": -1}, plus(noCoupons, map[string]string{"cash_fee": "-1"}), true},
		"his amount as text":         {changes{"amount.payer_total": "788"}, nil, false},
		"promotions that are none":   {changes{"promotion_detail": "x"}, noCoupons, false},
		"no amount that can be read": {changes{"amount.payer_total": 99.5, "promotion_detail": nil}, plus(noCoupons, map[string]string{"cash_fee": ""}), true},
		"an object for the amount":   {changes{"amount.payer_total": object{"x": 1}, "promotion_detail": nil}, plus(noCoupons, map[string]string{"cash_fee": ""}), true},
		"neither of both":            {changes{"amount.payer_total": nil, "promotion_detail": "x"}, plus(noCoupons, map[string]string{"cash_fee": ""}), true},
	} {
		t.Run(name, func(t *testing.T) {
			o, err := s.tell("TRANSACTION.SUCCESS", "transaction", test.changes.to(t, plain))
			if err != nil {
				t.Fatal(err)
			}
			n := o.Notification(&wepay.Merchant{}, "")
			differ(t, n.Fields, was, test.want)
			if n.Kind != wepay.Payment || (n.Omitted != "") != test.omitted || n.Misfit != "" {
				t.Errorf("it is a %s, omitted %q, since %q", n.Kind, n.Omitted, n.Misfit)
			}
		})
	}
}

// A payment of a merchant abroad calls its transaction_id id, and says currencies
// and a rate, as in WeChat's own example.
func TestPaymentAbroad(t *testing.T) {
	s := newSender(t)
	const plain = `{"id":"1008450740201411110005820873","appid":"wx1","mchid":"1900000001","out_trade_no":"A1","payer":{"openid":"o1"},
		"amount":{"total":528800,"currency":"HKD","payer_total":518799,"payer_currency":"CNY","exchange_rate":{"type":"SETTLEMENT_RATE","rate":8000000}},
		"trade_type":"MICROPAY","trade_state":"SUCCESS","bank_type":"CCB_DEBIT","success_time":"2018-06-08T10:34:56+08:00"}`
	want := map[string]string{
		"return_code": "SUCCESS", "result_code": "SUCCESS", "appid": "wx1", "mch_id": "1900000001", "openid": "o1", "out_trade_no": "A1",
		"transaction_id": "1008450740201411110005820873", "trade_type": "MICROPAY", "bank_type": "CCB_DEBIT", "time_end": "20180608103456",
		"total_fee": "528800", "fee_type": "HKD", "cash_fee": "518799", "cash_fee_type": "CNY", "rate_type": "SETTLEMENT_RATE", "rate_value": "8000000",
	}
	for name, test := range map[string]struct {
		changes changes
		want    map[string]string
		omitted bool
	}{
		"as it is":                {nil, nil, false},
		"of nothing by the payer": {changes{"amount.payer_total": nil}, map[string]string{"cash_fee": ""}, false},
		"with a discount":         {changes{"promotion_detail": coupons(object{"promotion_id": "7", "type": "DISCOUNT", "amount": 1, "currency": "HKD"})}, nil, true},
		"with one, in one currency": {
			changes{"promotion_detail": coupons(object{"promotion_id": "7", "type": "DISCOUNT", "amount": 10001}), "amount.payer_currency": "HKD"},
			map[string]string{"cash_fee_type": "HKD", "coupon_fee": "10001", "coupon_count": "1", "coupon_id_0": "7", "coupon_fee_0": "10001"},
			false,
		},
		"by both names": {changes{"transaction_id": "42"}, map[string]string{"transaction_id": "42"}, false},
	} {
		t.Run(name, func(t *testing.T) {
			o, err := s.tell("TRANSACTION.SUCCESS", "transaction", test.changes.to(t, plain))
			if err != nil {
				t.Fatal(err)
			}
			n := o.Notification(&wepay.Merchant{}, "")
			differ(t, n.Fields, want, test.want)
			if n.Kind != wepay.Payment || (n.Omitted != "") != test.omitted {
				t.Errorf("it is a %s, omitted %q", n.Kind, n.Omitted)
			}
		})
	}
}

// A refund from abroad says what the payer got back, in which currency and at which
// rate.
func TestRefundAbroad(t *testing.T) {
	s := newSender(t)
	const plain = `{"mchid":"1","transaction_id":"42","out_trade_no":"A1","refund_id":"5","out_refund_no":"R1","refund_status":"SUCCESS",
		"success_time":"2018-06-08T10:34:56+08:00","recv_account":"招商银行信用卡0403","fund_source":"REFUND_SOURCE_UNSETTLED_FUNDS",
		"amount":{"total":528800,"currency":"HKD","refund":528800,"payer_total":528800,"payer_refund":528800,"payer_currency":"HKD",
		"settlement_refund":528700,"settlement_currency":"HKD","exchange_rate":{"type":"SETTLEMENT_RATE","rate":100000000}}}`
	want := map[string]string{
		"return_code": "SUCCESS", "mch_id": "1", "transaction_id": "42", "out_trade_no": "A1", "refund_id": "5", "out_refund_no": "R1", "refund_status": "SUCCESS",
		"success_time": "2018-06-08 10:34:56", "refund_recv_accout": "招商银行信用卡0403", "total_fee": "528800", "refund_fee": "528800",
		"fee_type": "HKD", "refund_fee_type": "HKD", "cash_fee_type": "HKD", "settlement_refund_fee": "528700", "settlement_refund_fee_type": "HKD",
		"rate_type": "SETTLEMENT_RATE", "rate_value": "100000000",
	}
	for name, test := range map[string]struct {
		changes changes
		want    map[string]string
	}{
		"as it is":               {nil, nil},
		"settled as it is":       {changes{"amount.settlement_refund": nil}, map[string]string{"settlement_refund_fee": "528800"}},
		"paid in another money":  {changes{"amount.payer_currency": "CNY", "amount.payer_refund": 480000}, map[string]string{"cash_fee_type": "CNY", "cash_refund_fee": "480000"}},
		"settled, in another":    {changes{"amount.payer_currency": "CNY", "amount.payer_refund": nil, "amount.settlement_refund": nil}, map[string]string{"cash_fee_type": "CNY", "settlement_refund_fee": ""}},
		"its number alone":       {changes{"refund_id": nil, "id": "5"}, nil},
		"by both numbers":        {changes{"id": "6"}, nil},
		"to an account by names": {changes{"user_received_account": "零钱"}, map[string]string{"refund_recv_accout": "零钱"}},
	} {
		t.Run(name, func(t *testing.T) {
			o, err := s.tell("REFUND.SUCCESS", "refund", test.changes.to(t, plain))
			if err != nil {
				t.Fatal(err)
			}
			n := o.Notification(&wepay.Merchant{}, "")
			if differ(t, n.Fields, want, test.want); n.Kind != wepay.Refunded {
				t.Errorf("it is a %s: %s", n.Kind, n.Misfit)
			}
		})
	}
}
