package apiv3_test

import (
	"errors"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/windsome/caddy-wepay/wepay"
)

// What API v3 does not take is not sent; what API v2 took before is asked about,
// closed and refunded all the same.
func TestLimits(t *testing.T) {
	w := newWechat(t, func(http.ResponseWriter, *http.Request) answer {
		return answer{status: 400, body: `{"code":"PARAM_ERROR"}`}
	})
	m := w.merchant(t)
	const layout = "20060102150405"
	beijing := start.In(time.FixedZone("", 8*60*60))
	refund := fields("out_refund_no", "1", "out_trade_no", "1", "total_fee", "1", "refund_fee", "1")
	number := fields("out_trade_no", "1")
	whole := order("ORDER-1", "1")
	parts := combined("COMBINE-1", `[{"out_trade_no":"PART-1","total_fee":1,"body":"袜子","attach":"a"}]`)
	part := func(name, value string) wepay.Fields {
		text := map[string]string{"body": "袜子", "attach": "a"}
		text[name] = value
		return combined("COMBINE-1", `[{"out_trade_no":"PART-1","total_fee":1,"body":"`+text["body"]+`","attach":"`+text["attach"]+`"}]`)
	}
	for name, test := range map[string]struct {
		op      wepay.Operation
		in      wepay.Fields
		refused string
	}{
		"an attach of 128 characters": {wepay.PlaceOrder, with(whole, "attach", strings.Repeat("字", 128)), ""},
		"an attach of 129 characters": {wepay.PlaceOrder, with(whole, "attach", strings.Repeat("a", 129)), "attach"},
		"combined, attach of 128":     {wepay.CombineOrder, part("attach", strings.Repeat("字", 128)), ""},
		"combined, attach of 129":     {wepay.CombineOrder, part("attach", strings.Repeat("a", 129)), "sub_orders"},
		"combined, body of 127":       {wepay.CombineOrder, part("body", strings.Repeat("字", 127)), ""},
		"combined, body of 128":       {wepay.CombineOrder, part("body", strings.Repeat("a", 128)), "sub_orders"},
		"a number of 5":               {wepay.PlaceOrder, order("12345", "1"), "out_trade_no"},
		"a number of 6":               {wepay.PlaceOrder, order("123456", "1"), ""},
		"a number of 1, asked about":  {wepay.QueryOrder, number, ""},
		"a number of 1, closed":       {wepay.CloseOrder, number, ""},
		"a number of 1, refunded":     {wepay.Refund, refund, ""},
		"to be paid in a second":      {wepay.PlaceOrder, with(whole, "time_expire", beijing.Add(time.Second).Format(layout)), ""},
		"to be paid by now":           {wepay.PlaceOrder, with(whole, "time_expire", beijing.Format(layout)), "time_expire"},
		"to be paid in an hour, UTC":  {wepay.PlaceOrder, with(whole, "time_expire", start.Add(time.Hour).Format(layout)), "time_expire"},
		"combined, in an hour":        {wepay.CombineOrder, with(parts, "time_expire", beijing.Add(time.Hour).Format(layout)), ""},
		"combined, in an hour, UTC":   {wepay.CombineOrder, with(parts, "time_expire", start.Add(time.Hour).Format(layout)), "time_expire"},
		"combined, of an odd sub_app": {wepay.CombineOrder, combined("COMBINE-1", `[{"sub_appid":"1","out_trade_no":"PART-1","total_fee":1,"body":"袜子","attach":"a"}]`), "sub_orders"},
	} {
		t.Run(name, func(t *testing.T) {
			before := w.asked()
			_, err := w.client(t, m).Do(t.Context(), test.op, test.in)
			if sent := w.asked() > before; sent != (test.refused == "") {
				t.Errorf("sent: %v, %v", sent, err)
			}
			if test.refused != "" {
				wantField(t, err, test.refused)
			}
		})
	}
}

// A reply that two readers could take for two things is none; what WeChat signs
// is no exception. Of a refusal the code counts, and the words may be cut.
func TestStrictReplies(t *testing.T) {
	for name, test := range map[string]struct {
		status int
		body   string
		says   string // what comes of it; "": nothing to be believed
	}{
		"as it is":                 {200, `{"trade_state":"NOTPAY","out_trade_no":"ORDER-1"}`, "NOTPAY"},
		"a state twice":            {200, `{"trade_state":"SUCCESS","trade_state":"NOTPAY"}`, ""},
		"a state twice, escaped":   {200, `{"trade_state":"SUCCESS","trade_\u0073tate":"NOTPAY"}`, ""},
		"an amount twice":          {200, `{"trade_state":"NOTPAY","amount":{"total":1,"total":2}}`, ""},
		"a state in other letters": {200, `{"TRADE_STATE":"NOTPAY"}`, ""},
		"no UTF-8":                 {200, "{\"trade_state\":\"NOTPAY\",\"attach\":\"\xd5\xc5\"}", ""},
		"half a character":         {200, `{"trade_state":"NOTPAY","attach":"\ud800"}`, ""},
		"more behind it":           {200, `{"trade_state":"NOTPAY"}{}`, ""},

		"a refusal cut within a character": {400, "{\"code\":\"PARAM_ERROR\",\"message\":\"\xe5\xad\"}", "PARAM_ERROR"},
		"a refusal's code twice":           {404, `{"code":"ORDER_NOT_EXIST","code":"PARAM_ERROR"}`, ""},
		"a code in other letters":          {404, `{"Code":"ORDER_NOT_EXIST"}`, ""},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWechat(t, func(http.ResponseWriter, *http.Request) answer { return answer{status: test.status, body: test.body} })
			got, err := w.client(t, w.merchant(t)).Do(t.Context(), wepay.QueryOrder, fields("out_trade_no", "ORDER-1"))
			switch {
			case test.status == 200 && test.says != "":
				check(t, got, "trade_state", test.says)
			case test.says == "" && !errors.Is(err, wepay.ErrNoAnswer), test.says != "" && wantError(t, err, wepay.Fix).V3Code != test.says:
				t.Errorf("got %v, %v", got, err)
			}
		})
	}
}
