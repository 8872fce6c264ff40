package apiv2_test

import (
	"errors"
	"maps"
	"testing"

	"github.com/windsome/caddy-wepay/wepay"
)

// A reply is accepted only if it is signed with our key and about us.
func TestReplyIsBelieved(t *testing.T) {
	good := func(op wepay.Operation, changes map[string]string) wepay.Fields {
		all := maps.Clone(requests[op].reply)
		maps.Copy(all, changes)
		return reply(all)
	}
	tests := []struct {
		name string
		text func(op wepay.Operation) string
		want error // nil: accepted
	}{
		{"signed MD5", func(op wepay.Operation) string { return signed(good(op, nil), wepay.MD5, key) }, nil},
		{"signed HMAC-SHA256", func(op wepay.Operation) string { return signed(good(op, nil), wepay.HMACSHA256, key) }, nil},
		{"with an unknown field", func(op wepay.Operation) string {
			return signed(good(op, map[string]string{"new": "1"}), wepay.MD5, key)
		}, nil},
		{"unsigned", func(op wepay.Operation) string { return document(good(op, nil)) }, wepay.ErrUnsigned},
		{"with an empty sign", func(op wepay.Operation) string { return document(good(op, map[string]string{"sign": ""})) }, wepay.ErrUnsigned},
		{"signed with another's key", func(op wepay.Operation) string { return signed(good(op, nil), wepay.MD5, otherKey) }, wepay.ErrSignature},
		{"signed with no key", func(op wepay.Operation) string { return signed(good(op, nil), wepay.MD5, "") }, wepay.ErrSignature},
		{"about another merchant", func(op wepay.Operation) string {
			return signed(good(op, map[string]string{"mch_id": "1"}), wepay.MD5, key)
		}, wepay.ErrForeign},
		{"about nobody", func(op wepay.Operation) string {
			fields := good(op, nil)
			fields.Delete("mch_id")
			return signed(fields, wepay.MD5, key)
		}, wepay.ErrForeign},
		{"about an empty merchant", func(op wepay.Operation) string {
			return signed(good(op, map[string]string{"mch_id": ""}), wepay.MD5, key)
		}, wepay.ErrForeign},
		{"about another app", func(op wepay.Operation) string {
			return signed(good(op, map[string]string{"appid": "wx1"}), wepay.MD5, key)
		}, wepay.ErrForeign},
		// An unsigned refusal is no more accepted than an unsigned success.
		{"an unsigned refusal", func(wepay.Operation) string {
			return document(reply(map[string]string{"result_code": "FAIL", "err_code": "ORDERPAID"}))
		}, wepay.ErrUnsigned},
	}
	for _, test := range tests {
		for op, verdict := range unanswered {
			t.Run(test.name+" "+string(op), func(t *testing.T) {
				server := serve(t, says(test.text(op)))
				m := withCertificate(t, merchant(server.URL), "wechat.p12")
				got, err := client(t, m).Do(t.Context(), op, requests[op].in)
				if test.want == nil {
					if err != nil {
						t.Fatal(err)
					}
					return
				}
				wantError(t, err, verdict)
				if !errors.Is(err, wepay.ErrNoAnswer) || !errors.Is(err, test.want) || got != nil {
					t.Errorf("got %v, %v, want ErrNoAnswer for %v", got, err, test.want)
				}
			})
		}
	}
}

// unanswered is the verdict of a call without a valid answer:
// orders and refunds may have happened, a query may be repeated.
var unanswered = map[wepay.Operation]wepay.Verdict{
	wepay.PlaceOrder: wepay.Query,
	wepay.Refund:     wepay.Query,
	wepay.QueryOrder: wepay.Again,
}

// A reply to another question, signed as it is, must not answer ours.
func TestReplyRepeatsTheRequest(t *testing.T) {
	byTransaction := wepay.Fields{{Name: "transaction_id", Value: "42"}}
	tests := []struct {
		name  string
		op    wepay.Operation
		in    wepay.Fields
		reply map[string]string
		ok    bool
	}{
		{"a query of this order", wepay.QueryOrder, aQuery, map[string]string{"trade_state": "SUCCESS", "out_trade_no": "5ba27cc3a70db45dd108b53f", "transaction_id": "42"}, true},
		{"a query of another order", wepay.QueryOrder, aQuery, map[string]string{"trade_state": "SUCCESS", "out_trade_no": "another"}, false},
		{"a query of this transaction", wepay.QueryOrder, byTransaction, map[string]string{"trade_state": "SUCCESS", "out_trade_no": "x", "transaction_id": "42"}, true},
		{"a query of another transaction", wepay.QueryOrder, byTransaction, map[string]string{"trade_state": "SUCCESS", "transaction_id": "43"}, false},
		{"this refund", wepay.Refund, aRefund, map[string]string{"refund_id": "5", "out_refund_no": "R1"}, true},
		{"another refund", wepay.Refund, aRefund, map[string]string{"refund_id": "5", "out_refund_no": "R2"}, false},
		{"another order's refund", wepay.Refund, aRefund, map[string]string{"refund_id": "5", "out_refund_no": "R1", "out_trade_no": "another"}, false},
		{"an order without prepay_id", wepay.PlaceOrder, anOrder, nil, false},
		{"a query without trade_state", wepay.QueryOrder, aQuery, nil, false},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			server := serve(t, says(signed(reply(test.reply), wepay.MD5, key)))
			m := withCertificate(t, merchant(server.URL), "wechat.p12")
			got, err := client(t, m).Do(t.Context(), test.op, test.in)
			if test.ok {
				if err != nil || got.Get("mch_id") != "1900000109" {
					t.Errorf("got %v, %v", got, err)
				}
				return
			}
			wantError(t, err, unanswered[test.op])
			if !errors.Is(err, wepay.ErrNoAnswer) {
				t.Errorf("got %v, want ErrNoAnswer", err)
			}
		})
	}
}

func TestReplyAboutAnotherSubMerchant(t *testing.T) {
	server := serve(t, says(signed(reply(map[string]string{"trade_state": "SUCCESS", "sub_mch_id": "3"}), wepay.MD5, key)))
	m := merchant(server.URL)
	m.Type, m.SubMchID = wepay.Partner, "2"
	if _, err := client(t, m).Do(t.Context(), wepay.QueryOrder, aQuery); !errors.Is(err, wepay.ErrForeign) {
		t.Errorf("got %v, want ErrForeign", err)
	}
}
