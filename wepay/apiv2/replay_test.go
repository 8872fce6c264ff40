package apiv2_test

import (
	"errors"
	"maps"
	"strings"
	"testing"

	"github.com/windsome/caddy-wepay/wepay"
	"github.com/windsome/caddy-wepay/wepay/apiv2"
)

var aPayment = map[string]string{
	"out_trade_no": "5ba27cc3a70db45dd108b53f", "transaction_id": "4200000000202001010000000001", "total_fee": "1200",
	"trade_type": "JSAPI", "time_end": "20200101120000", "openid": "oUpF8uMuAJO_M2pxb1Q9zNjWeS6o", "cash_fee": "1200",
}

// payment returns the fields of a payment after some changes; an empty value
// takes a field out.
func payment(changes map[string]string) wepay.Fields {
	all := maps.Clone(aPayment)
	maps.Copy(all, changes)
	fields := reply(all)
	for name, value := range changes {
		if value == "" {
			fields.Delete(name)
		}
	}
	return fields
}

// WeChat signs its replies with the key that it signs notifications with.
func TestSignedRepliesAreNoPayments(t *testing.T) {
	tests := []struct {
		name   string
		fields wepay.Fields
	}{
		{"an order's", reply(requests[wepay.PlaceOrder].reply)},
		{"an order's with the order's number", payment(map[string]string{"prepay_id": "wx1"})},
		{"a query's, not paid", reply(requests[wepay.QueryOrder].reply)},
		{"a query's, refunded", payment(map[string]string{"trade_state": "REFUND"})},
		{"a query's, closed", payment(map[string]string{"trade_state": "CLOSED"})},
		{"a query's, not paid, with every other field", payment(map[string]string{"trade_state": "NOTPAY"})},
		{"a query's, with an empty state", append(payment(nil), wepay.Field{Name: "trade_state"})},
		{"a refund's", payment(map[string]string{"refund_id": "5", "out_refund_no": "R1", "refund_fee": "1"})},
		{"a refund's without refund_id", payment(map[string]string{"out_refund_no": "R1"})},
		{"a refund query's", payment(map[string]string{"refund_count": "1", "refund_id_0": "5"})},
		{"a reversal's", payment(map[string]string{"recall": "N"})},
		{"a closing's", reply(nil)},
		{"no out_trade_no", payment(map[string]string{"out_trade_no": ""})},
		{"no transaction_id", payment(map[string]string{"transaction_id": ""})},
		{"no result_code", payment(map[string]string{"result_code": ""})},
		{"no total_fee", payment(map[string]string{"total_fee": ""})},
		{"total_fee of nothing", payment(map[string]string{"total_fee": "0"})},
		{"total_fee below nothing", payment(map[string]string{"total_fee": "-1"})},
	}
	for _, test := range tests {
		for _, signType := range []wepay.SignType{wepay.MD5, wepay.HMACSHA256} {
			t.Run(test.name+", "+string(signType), func(t *testing.T) {
				n, err := read([]byte(signed(test.fields, signType, key)), key)
				if !errors.Is(err, wepay.ErrNotPayment) || n != nil {
					t.Errorf("got %v, %v, want ErrNotPayment", n, err)
				}
			})
		}
	}
}

func TestPayments(t *testing.T) {
	for name, fields := range map[string]wepay.Fields{
		"paid":                           payment(nil),
		"paid, with its state":           payment(map[string]string{"trade_state": "SUCCESS"}),
		"failed":                         payment(map[string]string{"result_code": "FAIL", "transaction_id": ""}),
		"a contract's debit that failed": payment(map[string]string{"trade_type": "PAP", "trade_state": "PAY_FAIL", "transaction_id": ""}),
		"attach like a query":            payment(map[string]string{"attach": "a=1&amp;refund_id=2"}),
	} {
		t.Run(name, func(t *testing.T) {
			for _, signType := range []wepay.SignType{wepay.MD5, wepay.HMACSHA256} {
				wire := fields.Clone()
				wire.Set("attach", strings.ReplaceAll(fields.Get("attach"), "&amp;", "&"))
				wire.Set("sign", apiv2.Sign(wire, signType, key))
				wire.Set("attach", fields.Get("attach"))
				if _, err := read([]byte(document(wire)), key); err != nil {
					t.Error(err)
				}
			}
		})
	}
}

// The base string is not escaped, so that a field can be hidden in the value of
// the one before it and the signature still holds: "a=1&b=2" is a=1 and b=2,
// or a alone with the value "1&b=2". Whoever saw a signed reply could make it
// look like a payment by hiding what tells that it is a reply.
func TestHiddenFields(t *testing.T) {
	refund := map[string]string{"refund_id": "5", "out_refund_no": "R1", "refund_fee": "1", "refund_channel": "x"}
	tests := []struct {
		name   string
		reply  wepay.Fields
		hidden []string // fields that move into the value of the one before
	}{
		{"a refund's", payment(refund), []string{"out_refund_no", "refund_fee", "refund_id"}},
		{"a refund's, all in one", payment(refund), []string{"openid", "out_refund_no", "refund_channel", "refund_fee", "refund_id"}},
		// Some field between total_fee, whose form would tell, and trade_state.
		{"a refunded order's state", payment(map[string]string{"trade_state": "REFUND", "trade_new": "1"}), []string{"trade_state"}},
		{"an unpaid order's state", payment(map[string]string{"trade_state": "NOTPAY", "trade_new": "1"}), []string{"trade_state"}},
		{"an order's prepay_id", payment(map[string]string{"prepay_id": "wx1", "p": "1"}), []string{"prepay_id"}},
		{"a refund query's", payment(map[string]string{"refund_count": "1", "refund_channel_0": "x"}), []string{"refund_count"}},
		{"a reversal's", payment(map[string]string{"recall": "N", "q": "1"}), []string{"recall"}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			genuine := test.reply.Clone()
			sign := apiv2.Sign(genuine, wepay.MD5, key)
			forged := genuine.Clone()
			for i := len(forged) - 1; i > 0; i-- {
				for _, name := range test.hidden {
					if forged[i].Name == name {
						forged[i-1].Value += "&" + forged[i].Name + "=" + forged[i].Value
						forged = append(forged[:i], forged[i+1:]...)
						break
					}
				}
			}
			forged.Set("sign", sign)
			if err := apiv2.Verify(forged, key); err != nil {
				t.Fatalf("the forgery does not keep the signature: %v", err)
			}
			body, err := apiv2.Encode("xml", forged)
			if err != nil {
				t.Fatal(err)
			}
			if n, err := read(body, key); !errors.Is(err, wepay.ErrNotPayment) || n != nil {
				t.Errorf("got %v, %v, want ErrNotPayment", n, err)
			}
		})
	}
}

// What the payer gets is signed with the same key as well, and the payer may
// send it anywhere.
func TestClientParametersAreNoPayments(t *testing.T) {
	for _, id := range []string{"V11", "V12", "V13", "V14", "V15"} {
		t.Run(id, func(t *testing.T) {
			v := vectors(t)[id]
			fields := parse(v.Base)
			fields.Set("sign", v.Result)
			if n, err := read([]byte(document(fields)), v.Key); err == nil || n != nil {
				t.Errorf("got %v, want it refused", n)
			}
		})
	}
}
