package apiv3

import (
	"errors"
	"net/http"
	"slices"
	"testing"

	"github.com/windsome/caddy-wepay/wepay"
)

// Whatever comes is taken or refused for one of the reasons, and only what is
// signed is taken.
func FuzzReadNotification(f *testing.F) {
	keys := newSender(f)
	for _, name := range []string{"N1", "N2", "N3"} {
		v := vectorInto[notificationVector](f, name)
		h := v.Headers
		f.Add(h[headerTimestamp], h[headerNonce], h[headerSerial], h[headerSignature], []byte(v.Body), false)
		f.Add(h[headerTimestamp], h[headerNonce], h[headerSerial], h[headerSignature], []byte(v.Body), true)
	}
	reasons := []error{
		wepay.ErrUnsigned, wepay.ErrMalformed, wepay.ErrSignature, wepay.ErrStale, wepay.ErrAPIv3Key,
	}
	f.Fuzz(func(t *testing.T, timestamp, nonce, serial, signature string, body []byte, resign bool) {
		s := &sender{t, keys.keys, keys.key}
		header := http.Header{headerTimestamp: {timestamp}, headerNonce: {nonce}, headerSerial: {serial}, headerSignature: {signature}}
		if resign { // so that what is behind the signature is reached
			header = s.header(body, sent)
		}
		o, err := s.take(header, body)
		if err != nil {
			if !slices.ContainsFunc(reasons, func(reason error) bool { return errors.Is(err, reason) }) || o != nil {
				t.Fatalf("refused without a reason: %v", err)
			}
			return
		}
		read, err := readSignature(header)
		if err != nil || read.verify(&s.key.PublicKey, body, sent) != nil {
			t.Fatal("taken without a signature")
		}
		checkOpened(t, o)
	})
}

// A content is taken for what it is.
func FuzzResource(f *testing.F) {
	for _, name := range []string{"N1", "N2", "N3"} {
		event, original := "TRANSACTION.SUCCESS", "transaction"
		if name == "N2" {
			event, original = "REFUND.SUCCESS", "refund"
		}
		f.Add(event, original, []byte(vectorInto[notificationVector](f, name).Plaintext))
	}
	f.Add("MCHTRANSFER.BILL.FINISHED", "mch_payment", []byte(`{"out_bill_no":"T1","transfer_bill_no":"13","state":"SUCCESS","mch_id":"1","transfer_amount":1,"openid":"o","create_time":"2015-05-20T13:29:35+08:00"}`))
	f.Add("MCHTRANSFER.BATCH.CLOSED", "mch_payment", []byte(`{"mchid":"1","out_batch_no":"B1","batch_id":"13","batch_status":"CLOSED","total_num":1,"close_reason":"x"}`))
	f.Add("PROFITSHARING.RETURN", "profitsharing", []byte(`{"sp_mchid":"1","sub_mchid":"2","order_id":"3","receiver":{"type":"MERCHANT_ID","account":"4","amount":5}}`))
	f.Add("TRANSACTION.SUCCESS", "", []byte(`{"combine_appid":"wx1","combine_mchid":"1","combine_out_trade_no":"C","sub_orders":[{"mchid":"1","trade_state":"SUCCESS","out_trade_no":"A","transaction_id":"4","amount":{"total_amount":3},"promotion_detail":[{"amount":1}]}]}`))
	f.Fuzz(func(t *testing.T, event, original string, plain []byte) {
		content, err := parse(plain)
		if err != nil {
			return
		}
		e := envelope{event: event, original: original}
		checkOpened(t, &Opened{reading: readResource(e, content.index()), envelope: e, resource: plain})
	})
}

// checkOpened checks what holds for all that is taken.
func checkOpened(t *testing.T, o *Opened) {
	t.Helper()
	t.Helper()
	n := o.Notification(&wepay.Merchant{MchID: "1"}, "wx1")
	if !slices.IsSortedFunc(n.Fields, func(a, b wepay.Field) int {
		if a.Name < b.Name {
			return -1
		}
		return 1 // also where a name is there twice
	}) {
		t.Fatalf("the fields are not in order: %v", n.Fields)
	}
	for _, field := range n.Fields {
		if field.Value == "" {
			t.Fatalf("%s is empty", field.Name)
		}
	}
	if n.Kind == wepay.OtherEvent {
		if text, err := n.Payload(); err != nil || string(text) != string(o.resource) || n.EventID() == "" || n.Fields.Get("result_code") != "" {
			t.Fatalf("it is not told as it is: %s, %v", text, err)
		}
		return
	}
	if o.Recipient().MchID == "" || n.Fields.Get("return_code") != "SUCCESS" {
		t.Fatalf("it is for nobody: %v", n.Fields)
	}
	switch n.Kind {
	case wepay.Payment:
		total, err := wepay.ParseFen(n.Fields.Get("total_fee"))
		if err != nil || n.Fields.Get("transaction_id") == "" || n.Fields.Get("result_code") != "SUCCESS" {
			t.Fatalf("a payment of nothing: %v", n.Fields)
		}
		if coupons, found := wepay.WholeFen(n.Fields.Get("coupon_fee")); found {
			if cash, _ := wepay.WholeFen(n.Fields.Get("cash_fee")); cash+coupons != total {
				t.Fatalf("the coupons do not add up: %v", n.Fields)
			}
		}
	case wepay.Refunded:
		if !slices.Contains([]string{"SUCCESS", "CHANGE", "REFUNDCLOSE"}, n.Fields.Get("refund_status")) {
			t.Fatalf("a refund that has not ended: %v", n.Fields)
		}
	}
	if text, err := n.Payload(); err != nil || len(text) == 0 || n.EventID() == "" {
		t.Fatalf("it cannot be told: %v", err)
	}
}
