package wepay_test

import (
	"testing"

	"github.com/windsome/caddy-wepay/wepay"
)

// A receiver's list goes to WeChat as it is written, so that it has to be one
// thing to every reader.
func TestReceiversAreOneThing(t *testing.T) {
	const one = `"type":"MERCHANT_ID","description":"a"`
	for name, test := range map[string]struct {
		list    string
		refused bool
	}{
		"as it is":                   {`[{` + one + `,"account":"1","amount":1}]`, false},
		"what is not known here":     {`[{` + one + `,"account":"1","amount":1,"more":{"a":1}}]`, false},
		"an account twice":           {`[{` + one + `,"account":"1","account":"2","amount":1}]`, true},
		"an account twice, escaped":  {`[{` + one + `,"account":"1","\u0061ccount":"2","amount":1}]`, true},
		"an amount twice":            {`[{` + one + `,"account":"1","amount":100,"amount":1}]`, true},
		"an amount in other letters": {`[{` + one + `,"account":"1","Amount":1}]`, true},
		"an account in capitals":     {`[{` + one + `,"ACCOUNT":"1","amount":1}]`, true},
		"an amount with a point":     {`[{` + one + `,"account":"1","amount":1.0}]`, true},
		"an amount as text":          {`[{` + one + `,"account":"1","amount":"1"}]`, true},
		"an amount with an exponent": {`[{` + one + `,"account":"1","amount":1e2}]`, true},
		"half a character":           {`[{` + one + `,"account":"1","amount":1,"name":"\ud800"}]`, true},
		"something twice, deeper":    {`[{` + one + `,"account":"1","amount":1,"more":{"a":1,"a":2}}]`, true},
		"more behind it":             {`[{` + one + `,"account":"1","amount":1}] []`, true},
	} {
		t.Run(name, func(t *testing.T) {
			in := wepay.NewFields(map[string]string{"transaction_id": "4200", "out_order_no": "S1", "receivers": test.list})
			want := ""
			if test.refused {
				want = "receivers"
			}
			wantField(t, wepay.ShareRules.Check(in), want)
		})
	}
	for _, text := range []string{`{"a":1,"a":2}`, `{"a":"\ud800"}`, `{"a":1}{}`, "\ufeff{}"} {
		if wepay.JSON(text) == nil {
			t.Errorf("%q is taken for a JSON text", text)
		}
	}
}
