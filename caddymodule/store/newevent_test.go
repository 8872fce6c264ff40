package store

import (
	"testing"
	"time"

	"github.com/windsome/caddy-wepay/wepay"
)

// What an event is found by and is about stands in fields of its own, whatever
// it is and whichever API it came by.
func TestNewEvent(t *testing.T) {
	type columns struct {
		eventType, outTradeNo, transactionID, outRefundNo string
		amount                                            int64
		currency                                          string
	}
	shop := &wepay.Merchant{Name: "shop", MchID: "1900000109"}
	for name, test := range map[string]struct {
		kind      wepay.Kind
		eventType string
		fields    map[string]string
		want      columns
	}{
		"payment": {
			wepay.Payment, "TRANSACTION.SUCCESS",
			map[string]string{"out_trade_no": "o1", "transaction_id": "42", "total_fee": "1200"},
			columns{"TRANSACTION.SUCCESS", "o1", "42", "", 1200, "CNY"},
		},
		"payment in another currency": {
			wepay.Payment, "TRANSACTION.SUCCESS",
			map[string]string{"out_trade_no": "o1", "transaction_id": "42", "total_fee": "1200", "fee_type": "HKD"},
			columns{"TRANSACTION.SUCCESS", "o1", "42", "", 1200, "HKD"},
		},
		"refund": {
			wepay.Refunded, "REFUND.SUCCESS",
			map[string]string{"out_trade_no": "o1", "transaction_id": "42", "out_refund_no": "r1", "total_fee": "1200", "refund_fee": "200", "refund_status": "SUCCESS"},
			columns{"REFUND.SUCCESS", "o1", "42", "r1", 200, "CNY"},
		},
		"refund that was closed": {
			wepay.Refunded, "REFUND.CLOSED",
			map[string]string{"out_refund_no": "r1", "refund_status": "REFUNDCLOSE"},
			columns{"REFUND.CLOSED", "", "", "r1", 0, "CNY"},
		},
		"complaint": {
			wepay.OtherEvent, "COMPLAINT.CREATE", nil,
			columns{"COMPLAINT.CREATE", "", "", "", 0, "CNY"},
		},
		"payscore": {
			wepay.OtherEvent, "PAYSCORE.USER_PAID",
			map[string]string{"out_order_no": "p1", "transaction_id": "42", "total_fee": "5"},
			columns{"PAYSCORE.USER_PAID", "p1", "42", "", 0, "CNY"},
		},
		"combined order": {
			wepay.CombinedPayment, "TRANSACTION.SUCCESS",
			map[string]string{"combine_out_trade_no": "c1", "total_fee_0": "1", "total_fee_1": "200", "fee_type_0": "CNY", "out_trade_no_0": "o1"},
			columns{"TRANSACTION.SUCCESS", "c1", "", "", 201, "CNY"},
		},
		"transfer": {
			wepay.Transferred, "MCHTRANSFER.BILL.FINISHED",
			map[string]string{"out_bill_no": "b1", "transfer_bill_no": "133", "transfer_amount": "30"},
			columns{"MCHTRANSFER.BILL.FINISHED", "b1", "133", "", 30, "CNY"},
		},
		"transfers": {
			wepay.Transferred, "MCHTRANSFER.BATCH.FINISHED",
			map[string]string{"out_batch_no": "b2", "batch_id": "134", "total_amount": "40"},
			columns{"MCHTRANSFER.BATCH.FINISHED", "b2", "134", "", 40, "CNY"},
		},
		"share": {
			wepay.ProfitShared, "PROFITSHARING.RETURN",
			map[string]string{"out_order_no": "s1", "transaction_id": "42", "receiver_amount": "5"},
			columns{"PROFITSHARING.RETURN", "s1", "42", "", 5, "CNY"},
		},
		"an amount that is none": {
			wepay.Payment, "TRANSACTION.SUCCESS",
			map[string]string{"out_trade_no": "o1", "total_fee": "-1"},
			columns{"TRANSACTION.SUCCESS", "o1", "", "", 0, "CNY"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			n := &wepay.Notification{Kind: test.kind, Merchant: shop, EventType: test.eventType, Fields: wepay.NewFields(test.fields)}
			e, err := NewEvent(n, SourceNotify, nil, time.Now())
			if err != nil {
				t.Fatal(err)
			}
			got := columns{e.EventType, e.OutTradeNo, e.TransactionID, e.OutRefundNo, e.Amount, e.Currency}
			if got != test.want {
				t.Errorf("got %+v, want %+v", got, test.want)
			}
			if e.ID != n.EventID() || e.Merchant != "shop" || e.Kind != test.kind {
				t.Errorf("got %+v", e)
			}
		})
	}
}

// When it happened is read in each form that WeChat writes.
func TestOccurred(t *testing.T) {
	at := time.Date(2026, 11, 30, 21, 5, 6, 0, wepay.Beijing)
	for name, test := range map[string]struct {
		field, value string
		want         time.Time
	}{
		"payment":         {"time_end", "20261130210506", at},
		"part of several": {"time_end_0", "20261130210506", at},
		"refund":          {"success_time", "2026-11-30 21:05:06", at},
		"of API v3":       {"success_time", "2026-11-30T13:05:06Z", at},
		"transfer":        {"update_time", "2026-11-30T21:05:06+08:00", at},
		"another form":    {"time_end", "soon", time.Time{}},
		"none":            {"attach", "20261130210506", time.Time{}},
	} {
		n := &wepay.Notification{Kind: wepay.Payment, Fields: wepay.Fields{{Name: test.field, Value: test.value}}}
		if got := occurred(n); !got.Equal(test.want) {
			t.Errorf("%s: got %v", name, got)
		}
	}
}
