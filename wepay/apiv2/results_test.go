package apiv2_test

import (
	"strings"
	"testing"

	"github.com/windsome/caddy-wepay/wepay"
)

// With WeChat's signature a result could be sent to whoever takes notifications:
// nobody is given it, by whatever call.
func TestResultsAreWithoutSignature(t *testing.T) {
	check := func(name string, got wepay.Fields, err error) {
		if err != nil {
			t.Errorf("%s: %v", name, err)
		}
		for _, field := range got {
			if field.Name == "sign" || field.Name == "nonce_str" || strings.Contains(field.Value, "IITRi8Iabbblz1Jc") {
				t.Errorf("%s: the result has %s", name, field.Name)
			}
		}
	}
	for op, row := range rows {
		if isBill(op) {
			continue
		}
		fields := row.answered(map[string]string{"nonce_str": "IITRi8Iabbblz1Jc"})
		server := serve(t, withBankKey(says(signed(fields, wepay.HMACSHA256, key))))
		got, err := calls(t, able(t, server.URL), op, nil)
		check(string(op), got, err)
		got, _, err = passed(t, able(t), says(signed(fields, wepay.MD5, key)), row.path, row.in)
		check("a pass-through to "+row.path, got, err)
	}
	anything := says(signed(reply(map[string]string{"new": "1"}), wepay.MD5, key))
	got, _, err := passed(t, able(t), anything, "/pay/a_call_of_2031", nil)
	check("a pass-through", got, err)
}
