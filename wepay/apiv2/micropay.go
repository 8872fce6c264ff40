package apiv2

import (
	"context"
	"errors"
	"time"

	"github.com/windsome/caddy-wepay/wepay"
)

// codeCalls are those of payments by the code on the payer's phone (付款码).
var codeCalls = map[wepay.Operation]call{
	wepay.Micropay: {
		path:     "/pay/micropay",
		timeout:  30 * time.Second, // it may wait for a bank
		rules:    wepay.MicropayRules,
		complete: completeMicropay,
		echoes:   []string{"out_trade_no"},
		answers:  []string{"transaction_id"},
		unknown:  wepay.Query, ask: wepay.QueryOrder,
		verdicts: map[string]wepay.Verdict{
			"SYSTEMERROR":     wepay.Query,
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
			"OUTTRADENOUSED":  wepay.Never,
		},
		flow: payByCode,
	},
	wepay.Reverse: {
		path:        "/secapi/pay/reverse",
		certificate: true,
		rules:       wepay.OrderQueryRules,
		echoes:      []string{"out_trade_no", "transaction_id"},
		answers:     []string{"recall"},
		repeatable:  true, unknown: wepay.Again, ask: wepay.QueryOrder,
		verdicts: map[string]wepay.Verdict{
			"SYSTEMERROR":          wepay.Again,
			"USERPAYING":           wepay.Query,
			"TRADEERROR":           wepay.Query,
			"INVALIDREQUEST":       wepay.Query,
			"INVALIDTRANSACTIONID": wepay.Fix,
			"REVERSEEXPIRE":        wepay.Never,
		},
		flow: reverse,
	},
	wepay.AuthCodeToOpenID: {
		path:       "/tools/authcodetoopenid",
		rules:      wepay.Rules{{Name: "auth_code", Required: true, Max: 128, Is: wepay.AuthCode}},
		answers:    []string{"openid"},
		repeatable: true, unknown: wepay.Again,
		verdicts: map[string]wepay.Verdict{
			"SYSTEMERROR":     wepay.Again,
			"AUTHCODEEXPIRE":  wepay.Never,
			"AUTHCODEERROR":   wepay.Never,
			"AUTHCODEINVALID": wepay.Never,
		},
	},
}

// WeChat's advice for a payment whose outcome is not known: ask every 5 s, and
// take it back when 45 s have told nothing. It may not be taken back sooner
// than 15 s after it was asked for.
// Source: WeChat Pay, 付款码支付, 提交付款码支付 and 撤销订单.
const (
	queryEvery  = 5 * time.Second
	queryTimes  = 9
	recallTimes = 5
)

func completeMicropay(_ context.Context, _ *Client, m *wepay.Merchant, in wepay.Fields) (wepay.Fields, error) {
	return m.CompleteMicropay(in), nil
}

// payByCode charges a code, and waits for the outcome where the payer has to
// enter the password or WeChat does not know it yet. What cannot be learnt is
// taken back. It ends with the context, and then the outcome is open.
func payByCode(ctx context.Context, c *Client, op wepay.Operation, in wepay.Fields) (wepay.Fields, error) {
	reply, err := c.once(ctx, op, in)
	var failed *wepay.Error
	if !errors.As(err, &failed) || failed.Verdict != wepay.Query {
		return reply, err
	}
	order := sameOrder(in)
	for range queryTimes {
		if c.pause(ctx, queryEvery) != nil {
			return nil, failed
		}
		state, err := c.Do(ctx, wepay.QueryOrder, order)
		if err != nil {
			continue // one answer more or less: what counts is the next
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
		failed.Err = errors.Join(failed.Err, errors.New("it could not be taken back"), err)
		return nil, failed
	}
	failed.Verdict, failed.Err = wepay.Never, nil
	failed.Message = "not paid in time, and taken back"
	return nil, failed
}

// sameOrder names the order that was asked for.
func sameOrder(in wepay.Fields) wepay.Fields {
	order := wepay.Fields{{Name: "out_trade_no", Value: in.Get("out_trade_no")}}
	for _, name := range []string{"sub_appid", "sub_mch_id"} {
		if value := in.Get(name); value != "" {
			order.Set(name, value)
		}
	}
	return order
}

// reverse takes a payment by code back, again as long as WeChat asks for it.
func reverse(ctx context.Context, c *Client, op wepay.Operation, in wepay.Fields) (wepay.Fields, error) {
	var last error
	for n := range recallTimes {
		if n > 0 && c.pause(ctx, queryEvery) != nil {
			break
		}
		reply, err := c.once(ctx, op, in)
		var failed *wepay.Error
		switch {
		case errors.As(err, &failed) && failed.Verdict == wepay.Again:
			last = failed
		case err == nil && reply.Get("recall") == "Y":
			last = &wepay.Error{
				Merchant: c.merchant.Name, Operation: op, Verdict: wepay.Again,
				Message: "recall is Y: it asks to call again, as often as it was called",
			}
		default:
			return reply, err
		}
	}
	return nil, last
}
