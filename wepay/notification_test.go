package wepay_test

import (
	"regexp"
	"testing"

	"github.com/windsome/caddy-wepay/wepay"
)

func paid(m *wepay.Merchant, changes map[string]string) *wepay.Notification {
	fields := wepay.NewFields(map[string]string{
		"transaction_id": "42", "out_trade_no": "A1", "result_code": "SUCCESS", "nonce_str": "n", "sign": "s", "total_fee": "1",
	})
	for name, value := range changes {
		fields.Set(name, value)
	}
	return &wepay.Notification{Kind: wepay.Payment, Merchant: m, Fields: fields}
}

func TestEventID(t *testing.T) {
	first := paid(direct(), nil).EventID()
	if !regexp.MustCompile(`^evt_[0-9a-f]{32}$`).MatchString(first) {
		t.Errorf("the ID is %q", first)
	}
	// Order services keep it, so it may not change from version to version.
	if want := "evt_fd5a59b80d986509855aaea50b64a878"; first != want {
		t.Errorf("the ID is %s, it was %s", first, want)
	}
	unnumbered := map[string]string{"transaction_id": "", "result_code": "FAIL"}
	tests := []struct {
		name string
		a, b *wepay.Notification
		same bool
	}{
		{"sent again with another nonce", paid(direct(), nil), paid(direct(), map[string]string{"nonce_str": "m", "sign": "t"}), true},
		{"the same under another name", paid(direct(), nil), paid(direct(named("b")), nil), true},
		{"another transaction", paid(direct(), nil), paid(direct(), map[string]string{"transaction_id": "43"}), false},
		{"another outcome", paid(direct(), nil), paid(direct(), map[string]string{"result_code": "FAIL"}), false},
		{"with trade_state", paid(direct(), nil), paid(direct(), map[string]string{"trade_state": "SUCCESS"}), true},
		{"another trade_state", paid(direct(), nil), paid(direct(), map[string]string{"trade_state": "PAY_FAIL"}), false},
		{"another merchant", paid(direct(), nil), paid(direct(mch("1")), nil), false},
		{"another sub-merchant", paid(partner(sub("1")), nil), paid(partner(sub("2")), nil), false},
		{"digits that move between two ids", paid(partner(mch("1"), sub("23")), nil), paid(partner(mch("12"), sub("3")), nil), false},
		{"a failed one again", paid(direct(), unnumbered), paid(direct(), unnumbered), true},
		{"a failed one of another order", paid(direct(), unnumbered), paid(direct(), map[string]string{"transaction_id": "", "result_code": "FAIL", "out_trade_no": "A2"}), false},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			if same := test.a.EventID() == test.b.EventID(); same != test.same {
				t.Errorf("the same: %v", same)
			}
		})
	}
	other := paid(direct(), nil)
	other.Kind = "refund"
	if other.EventID() == first {
		t.Error("another kind has the same ID")
	}
}
