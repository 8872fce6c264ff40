package apiv2

import (
	"context"
	"errors"
	"time"

	"github.com/windsome/caddy-wepay/wepay"
	"github.com/windsome/caddy-wepay/wepay/internal/row"
)

// codeCalls are those of payments by the code on the payer's phone (付款码).
var codeCalls = map[wepay.Operation]call{
	wepay.Micropay: {
		path:    "/pay/micropay",
		timeout: 30 * time.Second, // the bank may be slow
		Row: row.Row{
			Number:   "out_trade_no",
			Rules:    wepay.MicropayRules,
			Complete: (*wepay.Merchant).CompleteMicropay,
			Echoes:   []string{"out_trade_no"}, Answers: []string{"transaction_id"},
			Unknown: wepay.Query, Ask: wepay.QueryOrder,
			Verdicts: map[string]wepay.Verdict{
				"USERPAYING":      wepay.Query,
				"ORDERPAID":       wepay.Done,
				"AUTHCODEEXPIRE":  wepay.Never,
				"AUTHCODEINVALID": wepay.Never,
				"AUTHCODEERROR":   wepay.Never,
				"NOTENOUGH":       wepay.Never,
				"NOTSUPORTCARD":   wepay.Never, // sic
				"NOTSUPPORTCARD":  wepay.Never,
				"BUYERMISMATCH":   wepay.Never,
				"ORDERCLOSED":     wepay.Never,
				"ORDERREVERSED":   wepay.Never,
				"OUTTRADENOUSED":  wepay.Query,
			},
		},
		flow: payByCode,
	},
	wepay.Reverse: {
		path: "/secapi/pay/reverse", certificate: true,
		Row: row.Row{
			Rules:  wepay.OrderQueryRules,
			Echoes: []string{"out_trade_no", "transaction_id"}, Answers: []string{"recall"},
			Repeatable: true, Unknown: wepay.Again, Ask: wepay.QueryOrder,
			Verdicts: map[string]wepay.Verdict{
				"USERPAYING":           wepay.Query,
				"TRADEERROR":           wepay.Query,
				"INVALIDREQUEST":       wepay.Query,
				"INVALIDTRANSACTIONID": wepay.Fix,
				"REVERSEEXPIRE":        wepay.Never,
			},
		},
		flow: reverse,
	},
	wepay.AuthCodeToOpenID: {
		path: "/tools/authcodetoopenid",
		Row: row.Row{
			Rules:      wepay.Rules{{Name: "auth_code", Required: true, Max: 128, Is: wepay.AuthCode}},
			Answers:    []string{"openid"},
			Repeatable: true, Unknown: wepay.Again,
			Verdicts: map[string]wepay.Verdict{
				"AUTHCODEEXPIRE":  wepay.Never,
				"AUTHCODEERROR":   wepay.Never,
				"AUTHCODEINVALID": wepay.Never,
			},
		},
	},
}

// WeChat's advice for a payment with an unknown outcome: query it every 5 s, and
// reverse it after 45 s without a result. It may not be reversed sooner than 15 s
// after the request.
// Source: WeChat Pay, 付款码支付, 提交付款码支付 and 撤销订单.
const (
	queryEvery  = 5 * time.Second
	queryTimes  = 9
	recallTimes = 5
)

// payByCode charges a code, and polls for the outcome while the payer enters the
// password or WeChat does not know it yet. A payment without a result is reversed.
// It ends with the context, which leaves the outcome open. An earlier order of the
// same number is neither this payment's outcome nor this one's to reverse.
func payByCode(ctx context.Context, c *Client, op wepay.Operation, in wepay.Fields) (wepay.Fields, error) {
	reply, err := c.once(ctx, op, in)
	var failed *wepay.Error
	if !errors.As(err, &failed) || failed.Verdict != wepay.Query || isNumberUsed(failed.Code, failed.Message) {
		return reply, err
	}
	order := sameOrder(in)
	for range queryTimes {
		if c.options.Pause(ctx, queryEvery) != nil {
			return nil, failed
		}
		state, err := c.Do(ctx, wepay.QueryOrder, order)
		if err != nil {
			continue // the next answer will do
		}
		switch state.Get("trade_state") {
		case "SUCCESS", "REFUND":
			return state, nil
		case "PAYERROR", "CLOSED", "REVOKED", "NOPAY":
			return nil, &wepay.Error{
				Merchant: c.merchant.Name, Operation: op, Verdict: wepay.Never,
				Code: state.Get("trade_state"), Message: c.quote(state.Get("trade_state_desc")),
			}
		}
	}
	if _, err := c.Do(ctx, wepay.Reverse, order); err != nil {
		failed.Err = errors.Join(failed.Err, errors.New("reversing it failed"), err)
		return nil, failed
	}
	failed.Verdict, failed.Err = wepay.Never, nil
	failed.Message = "not paid in time, and reversed"
	return nil, failed
}

// sameOrder returns the number of the order, and its sub-merchant.
func sameOrder(in wepay.Fields) wepay.Fields {
	order := wepay.Fields{{Name: "out_trade_no", Value: in.Get("out_trade_no")}}
	for _, name := range []string{"sub_appid", "sub_mch_id"} {
		if value := in.Get(name); value != "" {
			order.Set(name, value)
		}
	}
	return order
}

// reverse reverses a payment by code, and repeats that as long as WeChat demands, or
// refuses with a code that no table has: what is reversed stays reversed.
func reverse(ctx context.Context, c *Client, op wepay.Operation, in wepay.Fields) (wepay.Fields, error) {
	var last error
	for n := range recallTimes {
		if n > 0 && c.options.Pause(ctx, queryEvery) != nil {
			break
		}
		reply, err := c.once(ctx, op, in)
		var failed *wepay.Error
		switch {
		case errors.As(err, &failed) && (failed.Verdict == wepay.Again || !calls[op].lists(failed)):
			last = failed
		case err == nil && reply.Get("recall") == "Y":
			last = &wepay.Error{
				Merchant: c.merchant.Name, Operation: op, Verdict: wepay.Again,
				Message: "recall is Y: WeChat Pay still demands another call",
			}
		default:
			return reply, err
		}
	}
	return nil, last
}
