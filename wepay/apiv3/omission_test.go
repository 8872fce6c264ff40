package apiv3_test

import (
	"net/http"
	"strings"
	"testing"

	"github.com/windsome/caddy-wepay/wepay"
)

// What a reply contradicts itself about is left out, and whoever wants to know is
// told which order it is of; the rest is there.
func TestOmissions(t *testing.T) {
	paid := func(coupons string) string {
		return `"out_trade_no":"ORDER-0001","transaction_id":"4200000001","trade_state":"SUCCESS","promotion_detail":[` + coupons + `]`
	}
	const (
		cash   = `{"coupon_id":"1","type":"CASH","amount":60}`
		amount = `"amount":{"total":1200,"payer_total":1100}`
		part   = `"amount":{"total_amount":1200,"payer_amount":1100}`
	)
	combined := func(first, second string) string {
		return `{"combine_mchid":"` + mchID + `","combine_out_trade_no":"C1","sub_orders":[{"mchid":"` + mchID + `",` + part + `,` + paid(first) +
			`},{"mchid":"` + mchID + `",` + part + `,` + paid(second) + `}]}`
	}
	right := strings.Replace(cash, "60", "100", 1)
	bill := `{"mch_id":"` + mchID + `","out_bill_no":"ORDER0001","transfer_bill_no":"133","state":"SUCCESS","transfer_amount":1,"user_name":"` + sealFor(t, "张三") + `"}`
	for name, test := range map[string]struct {
		op   wepay.Operation
		in   wepay.Fields
		body string
		want string // what is omitted; "": nothing
		lost string // a field that is not there for that
	}{
		"coupons that add up":        {wepay.QueryOrder, aQuery, `{` + amount + `,` + paid(right) + `}`, "", ""},
		"no coupons":                 {wepay.QueryOrder, aQuery, `{` + amount + `,` + paid("") + `}`, "", ""},
		"coupons that do not":        {wepay.QueryOrder, aQuery, `{` + amount + `,` + paid(cash) + `}`, "coupon_*, as they and what the payer paid are not the total", "coupon_fee"},
		"a coupon of no amount":      {wepay.QueryOrder, aQuery, `{` + amount + `,` + paid(strings.Replace(cash, "60", `"x"`, 1)) + `}`, "coupon_*, as one has no amount, or more than the total", "coupon_fee"},
		"of one of two":              {wepay.QueryCombined, fields("combine_out_trade_no", "C1"), combined(right, cash), "of sub_orders[1] coupon_*, as they and what the payer paid are not the total", "coupon_fee_1"},
		"of both":                    {wepay.QueryCombined, fields("combine_out_trade_no", "C1"), combined(cash, cash), "; of sub_orders[1] coupon_*", "coupon_fee_0"},
		"a name for our key":         {wepay.QueryTransfer, fields("partner_trade_no", "ORDER0001"), bill, "", ""},
		"a name for another key":     {wepay.QueryTransfer, fields("partner_trade_no", "ORDER0001"), strings.Replace(bill, `"user_name":"`, `"user_name":"AAAA`, 1), "user_name, as it is encrypted for another key", "transfer_name"},
		"a name that nobody can see": {wepay.QueryTransfer, fields("partner_trade_no", "ORDER0001"), strings.Replace(bill, "user_name", "x", 1), "", ""},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWechat(t, func(http.ResponseWriter, *http.Request) answer { return answer{body: test.body} })
			m := w.merchant(t)
			m.Payouts = true
			var got []wepay.Omission
			c := w.client(t, m, wepay.ClientOptions{Omitted: func(o wepay.Omission) { got = append(got, o) }})
			result, err := c.Do(t.Context(), test.op, test.in)
			if err != nil {
				t.Fatal(err)
			}
			if test.want == "" {
				if len(got) != 0 {
					t.Errorf("omitted %+v", got)
				}
				return
			}
			if len(got) != 1 || !strings.Contains(got[0].Omitted, test.want) || got[0].Merchant.Name != m.Name || got[0].Operation != test.op {
				t.Fatalf("omitted %+v, want %q", got, test.want)
			}
			if number := result.Get("out_trade_no") + result.Get("combine_out_trade_no") + result.Get("partner_trade_no"); got[0].Number != number || number == "" || result.Get(test.lost) != "" {
				t.Errorf("of %q is omitted %+v, got %v", number, got, result)
			}
			if _, err := w.client(t, m).Do(t.Context(), test.op, test.in); err != nil {
				t.Errorf("where nobody wants to know: %v", err)
			}
		})
	}
}
