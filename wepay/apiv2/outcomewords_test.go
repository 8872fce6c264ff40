package apiv2_test

import (
	"errors"
	"fmt"
	"maps"
	"testing"

	"github.com/windsome/caddy-wepay/wepay"
)

// Some answers decide nothing, and of others nothing may be made.
func TestOutcomeWords(t *testing.T) {
	paid := map[string]string{
		"out_trade_no": "A1", "transaction_id": transaction, "total_fee": "1", "trade_type": "JSAPI", "bank_type": "CFT", "openid": "o", "trade_state": "SUCCESS",
	}
	refund := map[string]string{
		"refund_count": "1", "out_trade_no": "A1", "transaction_id": transaction, "total_fee": "2",
		"out_refund_no_0": "A1", "refund_id_0": "5", "refund_fee_0": "1", "refund_status_0": "SUCCESS",
	}
	for _, test := range []struct {
		op      wepay.Operation
		reply   map[string]string
		changes map[string]string // an empty value takes a field out
		want    wepay.OutcomeState
		told    bool
	}{
		{wepay.PlaceOrder, paid, nil, wepay.Succeeded, true},
		{wepay.PlaceOrder, paid, map[string]string{"trade_state": "REFUND"}, wepay.Succeeded, true},
		{wepay.PlaceOrder, paid, map[string]string{"bank_type": ""}, wepay.Succeeded, true},
		{wepay.PlaceOrder, paid, map[string]string{"trade_type": "MICROPAY"}, wepay.Succeeded, true},
		{wepay.Micropay, paid, map[string]string{"trade_type": "MICROPAY"}, wepay.Succeeded, true},
		{wepay.Micropay, paid, map[string]string{"trade_type": "MICROPAY", "trade_state": "REFUND"}, wepay.Succeeded, true},
		{wepay.Micropay, paid, map[string]string{"trade_type": "FACEPAY"}, wepay.Succeeded, true},
		{wepay.PlaceOrder, paid, map[string]string{"trade_state": "NOTPAY"}, wepay.Pending, false},
		{wepay.PlaceOrder, paid, map[string]string{"trade_state": "ACCEPT"}, wepay.Pending, false},
		{wepay.PlaceOrder, paid, map[string]string{"trade_state": "USERPAYING"}, wepay.Pending, false},
		{wepay.PlaceOrder, paid, map[string]string{"trade_state": "PAYERROR"}, wepay.Pending, false},
		{wepay.PlaceOrder, paid, map[string]string{"trade_state": "success"}, wepay.Pending, false},
		{wepay.PlaceOrder, paid, map[string]string{"trade_state": "PAID_AT_LAST"}, wepay.Pending, false},
		{wepay.PlaceOrder, paid, map[string]string{"trade_state": "NOPAY"}, wepay.Closed, false},
		{wepay.PlaceOrder, paid, map[string]string{"trade_state": "REVOKED"}, wepay.Closed, false},
		{wepay.Micropay, paid, map[string]string{"trade_state": "PAYERROR"}, wepay.Failed, false},
		{wepay.PlaceOrder, paid, map[string]string{"out_trade_no": ""}, "", false},
		{wepay.PlaceOrder, paid, map[string]string{"out_trade_no": "A2"}, "", false},
		{wepay.PlaceOrder, paid, map[string]string{"transaction_id": ""}, "", false},
		{wepay.PlaceOrder, paid, map[string]string{"total_fee": ""}, "", false},
		{wepay.PlaceOrder, paid, map[string]string{"total_fee": "-1"}, "", false},
		{wepay.PlaceOrder, paid, map[string]string{"trade_state": "CLOSED", "out_trade_no": ""}, "", false},
		{wepay.Refund, refund, nil, wepay.Succeeded, true},
		{wepay.Refund, refund, map[string]string{"refund_status_0": "CHANGE"}, wepay.Abnormal, true},
		{wepay.Refund, refund, map[string]string{"refund_status_0": "REFUNDCLOSE"}, wepay.Closed, true},
		{wepay.Refund, refund, map[string]string{"refund_status_0": "NEVER"}, wepay.Pending, false},
		{wepay.Refund, refund, map[string]string{"refund_status_0": ""}, wepay.Pending, false},
		{wepay.Refund, refund, map[string]string{"out_refund_no_0": "A2"}, "", false},
		{wepay.Refund, refund, map[string]string{"transaction_id": ""}, "", false},
		{wepay.Refund, refund, map[string]string{"refund_fee_0": "3"}, "", false},
	} {
		changed := maps.Clone(test.reply)
		for name, value := range test.changes {
			changed[name] = value
			if value == "" {
				delete(changed, name)
			}
		}
		t.Run(fmt.Sprint(test.op, test.changes), func(t *testing.T) {
			server := serve(t, says(signed(reply(changed), wepay.MD5, key)))
			out, err := client(t, merchant(server.URL)).Outcome(t.Context(), test.op, "A1", "")
			if test.want == "" {
				wantError(t, err, wepay.Again)
				return
			}
			if err != nil || out.State != test.want || (out.Notification != nil) != test.told {
				t.Fatalf("got %+v, %v, want %s", out, err, test.want)
			}
		})
	}
}

// Of an answer about several refunds the one that was asked about counts.
func TestOutcomeOfOneRefund(t *testing.T) {
	server := serve(t, says(signed(reply(map[string]string{
		"refund_count": "2", "out_trade_no": "A1", "transaction_id": transaction, "total_fee": "9",
		"out_refund_no_0": "R1", "refund_id_0": "5", "refund_fee_0": "1", "refund_status_0": "PROCESSING", "coupon_refund_id_0_1": "c",
		"out_refund_no_1": "R2", "refund_id_1": "6", "refund_fee_1": "2", "refund_status_1": "SUCCESS", "coupon_refund_id_1_0": "d",
	}), wepay.MD5, key)))
	out, err := client(t, merchant(server.URL)).Outcome(t.Context(), wepay.Refund, "R2", "")
	if err != nil {
		t.Fatal(err)
	}
	if n := out.Notification; out.State != wepay.Succeeded || n == nil || n.Fields.Get("out_refund_no") != "R2" || n.Fields.Get("refund_fee") != "2" {
		t.Errorf("got %+v", out)
	}
	items := out.Fields.Numbered()
	if len(items) != 1 || items[0].Get("refund_id") != "6" || items[0].Get("coupon_refund_id_0") != "d" || out.Fields.Get("total_fee") != "9" {
		t.Errorf("the fields are %v", out.Fields)
	}
}

// Only a refusal that WeChat signed says that there is no such number.
func TestOutcomeMissing(t *testing.T) {
	refusal := func(code string) wepay.Fields {
		return reply(map[string]string{"result_code": "FAIL", "err_code": code, "err_code_des": "x"})
	}
	failed := refusal("ORDERNOTEXIST")
	failed.Set("return_code", "FAIL")
	for name, test := range map[string]struct {
		text    string
		missing bool
	}{
		"signed":             {signed(refusal("ORDERNOTEXIST"), wepay.MD5, key), true},
		"spelt otherwise":    {signed(refusal("ORDER_NOT_EXIST"), wepay.MD5, key), true},
		"signed by another":  {signed(refusal("ORDERNOTEXIST"), wepay.MD5, otherKey), false},
		"not signed":         {document(refusal("ORDERNOTEXIST")), false},
		"return_code FAIL":   {document(failed), false},
		"FAIL and signed":    {signed(failed, wepay.MD5, key), false},
		"of a refund":        {signed(refusal("REFUNDNOTEXIST"), wepay.MD5, key), false},
		"another":            {signed(refusal("SYSTEMERROR"), wepay.MD5, key), false},
		"nothing":            {"", false},
		"about another shop": {signed(func() wepay.Fields { f := refusal("ORDERNOTEXIST"); f.Set("mch_id", "1"); return f }(), wepay.MD5, key), false},
	} {
		t.Run(name, func(t *testing.T) {
			server := serve(t, says(test.text))
			out, err := client(t, merchant(server.URL)).Outcome(t.Context(), wepay.PlaceOrder, "A1", "")
			if test.missing {
				if err != nil || out.State != wepay.Missing {
					t.Errorf("got %+v, %v", out, err)
				}
				return
			}
			if out != nil {
				t.Errorf("got %+v", out)
			}
			if failed, ok := errors.AsType[*wepay.Error](err); !ok || failed.Operation != wepay.QueryOrder {
				t.Errorf("got %v", err)
			}
		})
	}
}

func TestOutcomeOfNothing(t *testing.T) {
	server := serve(t, says(""))
	c := client(t, merchant(server.URL))
	for _, op := range []wepay.Operation{wepay.CloseOrder, wepay.QueryOrder, wepay.CombineOrder, wepay.TransferBatch, wepay.ProfitShare, ""} {
		if out, err := c.Outcome(t.Context(), op, "A1", ""); out != nil || !errors.Is(err, wepay.ErrNoOperation) {
			t.Errorf("%s: got %v, %v", op, out, err)
		}
	}
	if out, err := c.Outcome(t.Context(), wepay.PlaceOrder, "A 1", ""); out != nil || !errors.As(err, new(*wepay.FieldError)) {
		t.Errorf("got %v, %v", out, err)
	}
	if out, err := c.Outcome(t.Context(), wepay.PlaceOrder, "A1", "2"); out != nil || !errors.As(err, new(*wepay.FieldError)) {
		t.Errorf("got %v, %v", out, err)
	}
	if n := len(server.asked()); n > 0 {
		t.Errorf("WeChat was asked %d times", n)
	}
}
