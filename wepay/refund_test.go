package wepay_test

import (
	"testing"

	"github.com/windsome/caddy-wepay/wepay"
)

func TestCheckRefund(t *testing.T) {
	tests := []struct {
		name, total, refund, refused string
	}{
		{"part", "100", "1", ""},
		{"one below", "100", "99", ""},
		{"all", "100", "100", ""},
		{"one above", "100", "101", "refund_fee"},
		// As text 9 comes after 10: amounts must be compared as numbers.
		{"more digits", "10", "9", ""},
		{"fewer digits", "9", "10", "refund_fee"},
		{"nothing", "100", "0", "refund_fee"},
		{"negative", "100", "-1", "refund_fee"},
		{"of nothing", "0", "1", "total_fee"},
		{"no total", "", "1", "total_fee"},
		{"no refund", "1", "", "refund_fee"},
		{"yuan", "1.00", "1", "total_fee"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			in := wepay.NewFields(map[string]string{"total_fee": test.total, "refund_fee": test.refund})
			wantField(t, wepay.CheckRefund(in), test.refused)
		})
	}
}
