package apiv2_test

import (
	"errors"
	"maps"
	"net/url"
	"slices"
	"strings"
	"testing"

	"github.com/windsome/caddy-wepay/wepay"
	"github.com/windsome/caddy-wepay/wepay/apiv2"
)

// What is sent is what WeChat's documents list and nothing else: WeChat refuses
// an element that it does not know.
func TestRowsOnTheWire(t *testing.T) {
	for op, row := range rows {
		for _, signType := range []wepay.SignType{wepay.MD5, wepay.HMACSHA256} {
			for _, kind := range []wepay.Type{wepay.Direct, wepay.Partner} {
				t.Run(string(op)+" "+string(kind)+" "+string(signType), func(t *testing.T) {
					server := serve(t, withBankKey(row.good(op)))
					m := able(t, server.URL)
					m.SignType = signType
					if kind == wepay.Partner {
						m.Type, m.SubMchID, m.SubAppID = kind, "1900000110", "wx00112233445566bb"
					}
					if _, err := calls(t, m, op, nil); err != nil {
						t.Fatal(err)
					}
					asked := server.of(row.path)
					if len(asked) != 1 {
						t.Fatalf("asked %d times at %s", len(asked), row.path)
					}
					checkRow(t, row, m, asked[0].fields)
				})
			}
		}
	}
}

// identities are the values of the fields that say who calls.
func identities(m *wepay.Merchant) map[string]string {
	return map[string]string{
		"appid": m.AppID, "mch_appid": m.AppID, "wxappid": m.AppID, "mch_id": m.MchID, "mchid": m.MchID,
		"sub_appid": m.SubAppID, "sub_mch_id": m.SubMchID,
	}
}

func checkRow(t *testing.T, row row, m *wepay.Merchant, sent wepay.Fields) {
	t.Helper()
	want := maps.Clone(row.in)
	if want == nil {
		want = make(map[string]string)
	}
	for _, name := range strings.Fields(row.takes) {
		delete(want, name)
	}
	for _, name := range strings.Fields(row.ids) {
		if value := identities(m)[name]; value != "" {
			want[name] = value
		}
	}
	algorithm := m.SignType
	if row.sign != "" {
		algorithm = row.sign
	}
	digits := 32
	if algorithm == wepay.HMACSHA256 {
		want["sign_type"] = "HMAC-SHA256"
		digits = 64
	}
	for name, value := range want {
		if got := sent.Get(name); got != value && !slices.Contains(escapedOnTheWire, name) {
			t.Errorf("%s is %q, want %q", name, got, value)
		}
	}
	names := slices.Concat(slices.Collect(maps.Keys(want)), strings.Fields(row.adds), []string{"nonce_str", "sign"})
	slices.Sort(names)
	var got []string
	for _, field := range sent {
		got = append(got, field.Name)
		if field.Value == "" {
			t.Errorf("%s was sent empty", field.Name)
		}
	}
	if !slices.Equal(got, names) {
		t.Errorf("sent %q, want %q", got, names)
	}
	if n := len(sent.Get("sign")); n != digits {
		t.Errorf("the signature has %d digits, want %d for %s", n, digits, algorithm)
	}
	raw := sent.Clone()
	for _, name := range escapedOnTheWire {
		if value, err := url.QueryUnescape(raw.Get(name)); err == nil && value != "" {
			raw.Set(name, value)
		}
	}
	if err := apiv2.Verify(raw, key); err != nil {
		t.Errorf("the request has %v", err)
	}
}

// escapedOnTheWire are signed as they are and sent URL-encoded.
var escapedOnTheWire = []string{"long_url"}

func TestRowsWithoutCertificate(t *testing.T) {
	for op, row := range rows {
		t.Run(string(op), func(t *testing.T) {
			server := serve(t, withBankKey(row.good(op)))
			m := able(t, server.URL)
			m.Certificate = nil
			_, err := calls(t, m, op, nil)
			if !row.certificate {
				if err != nil {
					t.Error(err)
				}
				return
			}
			if !errors.Is(err, wepay.ErrNotAble) || !strings.Contains(err.Error(), "pfx") {
				t.Errorf("got %v, want ErrNotAble for pfx", err)
			}
			if n := len(server.asked()); n != 0 {
				t.Errorf("%d requests were sent", n)
			}
		})
	}
}

// Money leaves for where the caller says only where the merchant says so.
func TestRowsWithoutPayouts(t *testing.T) {
	for op, row := range rows {
		t.Run(string(op), func(t *testing.T) {
			server := serve(t, withBankKey(row.good(op)))
			m := able(t, server.URL)
			m.Payouts = false
			_, err := calls(t, m, op, nil)
			if !row.payout {
				if err != nil {
					t.Error(err)
				}
				return
			}
			if !errors.Is(err, wepay.ErrNotAble) || !strings.Contains(err.Error(), "payouts") {
				t.Errorf("got %v, want ErrNotAble for payouts", err)
			}
			if n := len(server.asked()); n != 0 {
				t.Errorf("%d requests were sent", n)
			}
		})
	}
}

// A reply passes unsigned where WeChat never signs, and nowhere else.
func TestRowsUnsignedReply(t *testing.T) {
	for op, row := range rows {
		if isBill(op) {
			continue // a bill is text
		}
		t.Run(string(op), func(t *testing.T) {
			server := serve(t, withBankKey(says(document(row.answered(nil)))))
			got, err := calls(t, able(t, server.URL), op, nil)
			if row.unsigned {
				if err != nil || got == nil {
					t.Errorf("got %v, %v", got, err)
				}
				return
			}
			wantError(t, err, row.unanswered)
			if !errors.Is(err, wepay.ErrNoAnswer) || !errors.Is(err, wepay.ErrUnsigned) || got != nil {
				t.Errorf("got %v, %v, want ErrUnsigned", got, err)
			}
		})
	}
}

func TestRowsNotBelieved(t *testing.T) {
	tests := []struct {
		name    string
		of      func(row) bool
		changes func(row) map[string]string
		want    error
	}{
		{
			"about another number", func(r row) bool { return r.repeats != "" },
			func(r row) map[string]string { return map[string]string{r.repeats: "another"} }, wepay.ErrForeign,
		},
		{
			"without what it is for", func(r row) bool { return r.holds != "" },
			func(r row) map[string]string { return map[string]string{r.holds: ""} }, wepay.ErrNoAnswer,
		},
		{
			"about another account", func(r row) bool { return true },
			func(r row) map[string]string {
				for _, name := range strings.Fields(r.ids) {
					if strings.HasPrefix(name, "mch") {
						return map[string]string{name: "1"}
					}
				}
				return nil
			}, wepay.ErrForeign,
		},
	}
	for _, test := range tests {
		for op, row := range rows {
			if isBill(op) || !test.of(row) {
				continue
			}
			t.Run(test.name+" "+string(op), func(t *testing.T) {
				server := serve(t, withBankKey(says(row.text(row.answered(test.changes(row))))))
				got, err := calls(t, able(t, server.URL), op, nil)
				wantError(t, err, row.unanswered)
				if !errors.Is(err, wepay.ErrNoAnswer) || !errors.Is(err, test.want) || got != nil {
					t.Errorf("got %v, %v, want %v", got, err, test.want)
				}
			})
		}
	}
}

// What says nothing of its outcome is no success, signed or not. The sandbox's
// key alone comes without result_code.
func TestRowsWithoutResult(t *testing.T) {
	for op, row := range rows {
		if isBill(op) || op == wepay.SandboxKey {
			continue
		}
		t.Run(string(op), func(t *testing.T) {
			server := serve(t, withBankKey(says(row.text(row.answered(map[string]string{"result_code": ""})))))
			if got, err := calls(t, able(t, server.URL), op, nil); err == nil || got != nil {
				t.Errorf("got %v, want it refused", got)
			}
		})
	}
}

// The refund is asked for by the number that WeChat goes by.
func TestRequestsByWeChatsNumber(t *testing.T) {
	tests := []struct {
		op   wepay.Operation
		in   map[string]string
		more map[string]string
	}{
		{wepay.QueryRefund, map[string]string{"out_trade_no": "A1"}, map[string]string{"refund_count": "1", "out_trade_no": "A1"}},
		{wepay.QueryRefund, map[string]string{"out_refund_no": "R1"}, map[string]string{"refund_count": "1"}},
		{wepay.QueryRefund, map[string]string{"refund_id": "5"}, map[string]string{"refund_count": "1"}},
		{wepay.Reverse, map[string]string{"transaction_id": transaction}, map[string]string{"recall": "N", "out_trade_no": "A1"}},
		{wepay.ProfitShareReturnQuery, map[string]string{"order_id": "5", "out_return_no": "Q1"}, map[string]string{"result": "SUCCESS"}},
	}
	for _, test := range tests {
		server := serve(t, says(signed(reply(test.more), wepay.MD5, key)))
		if _, err := client(t, able(t, server.URL)).Do(t.Context(), test.op, wepay.NewFields(test.in)); err != nil {
			t.Errorf("%s of %v: %v", test.op, test.in, err)
		}
	}
}

// V19: the list of receivers is signed as the text that it is sent as.
func TestSharingVector(t *testing.T) {
	v := vectors(t)["V19"]
	if got := apiv2.Sign(parse(v.Base), wepay.HMACSHA256, v.Key); got != v.Result {
		t.Errorf("got %s, want %s", got, v.Result)
	}
	server := serve(t, rows[wepay.ProfitShare].good(wepay.ProfitShare))
	m := able(t, server.URL)
	if _, err := calls(t, m, wepay.ProfitShare, map[string]string{"out_order_no": "P20200101000001"}); err == nil {
		t.Error("accepted a reply about P1")
	}
	sent, want := server.asked()[0].fields, parse(v.Base)
	for _, field := range want {
		if got := sent.Get(field.Name); got != field.Value && field.Name != "nonce_str" {
			t.Errorf("%s is %q, want %q", field.Name, got, field.Value)
		}
	}
	if len(sent) != len(want)+1 {
		t.Errorf("sent %v, want the fields of V19 and its signature", sent)
	}
}
