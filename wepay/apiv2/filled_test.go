package apiv2_test

import (
	"maps"
	"strings"
	"testing"

	"github.com/windsome/caddy-wepay/wepay"
)

// What has one value, or one that serves everybody, a caller need not give; what a
// caller gives is sent. The same number sent again is the same request.
func TestFilledIn(t *testing.T) {
	for _, test := range []struct {
		op    wepay.Operation
		given map[string]string
		want  map[string]string
	}{
		{wepay.SendRedPacket, nil, map[string]string{"client_ip": "127.0.0.1", "total_num": "1"}},
		{wepay.SendRedPacket, map[string]string{"client_ip": "203.0.113.7"}, map[string]string{"client_ip": "203.0.113.7", "total_num": "1"}},
		{wepay.SendGroupRedPacket, nil, map[string]string{"amt_type": "ALL_RAND", "total_num": "3", "client_ip": ""}},
		{wepay.QueryRedPacket, nil, map[string]string{"bill_type": "MCHT"}},
		{wepay.ProfitShareReturn, nil, map[string]string{"return_account_type": "MERCHANT_ID"}},
	} {
		server := serve(t, rows[test.op].good(test.op))
		for range 2 {
			if _, err := calls(t, able(t, server.URL), test.op, test.given); err != nil {
				t.Fatalf("%s: %v", test.op, err)
			}
		}
		for _, sent := range server.of(rows[test.op].path) {
			got := make(map[string]string)
			for name := range test.want {
				got[name] = sent.fields.Get(name)
			}
			if !maps.Equal(got, test.want) {
				t.Errorf("%s, given %v: sent %v, want %v", test.op, test.given, got, test.want)
			}
		}
	}
}

// API v2 counts a description in bytes, and it is cut; attach comes back, and is not.
func TestLengthsInBytes(t *testing.T) {
	row := rows[wepay.PlaceOrder]
	server := serve(t, row.good(wepay.PlaceOrder))
	if _, err := calls(t, able(t, server.URL), wepay.PlaceOrder, map[string]string{"body": strings.Repeat("袜", 50), "attach": strings.Repeat("a", 127)}); err != nil {
		t.Fatal(err)
	}
	if got := server.of(row.path)[0].fields.Get("body"); got != strings.Repeat("袜", 42) {
		t.Errorf("the description is %q", got)
	}
	if got := refusedField(t, wepay.PlaceOrder, map[string]string{"attach": strings.Repeat("a", 128)}); got != "attach" {
		t.Errorf("a longer attach is refused for %q", got)
	}
}
