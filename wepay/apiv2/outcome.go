package apiv2

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/windsome/caddy-wepay/wepay"
	"github.com/windsome/caddy-wepay/wepay/internal/row"
)

// Outcome implements wepay.Asker, for what was begun over API v2: that WeChat tells of
// an order over the API that did not place it, in the form of that one, is not relied
// on. Red packets are asked about without their sub-merchant, which that query does not
// know, as their numbers are the partner's.
//
// What a payment's notification has and the answer has not are nonce_str, sign and
// sign_type, with which it could be sent to whoever takes notifications, and of an
// order with version 1.0 promotion_detail and version.
//
// A payment at a counter has one as well, though WeChat itself notifies of none: whoever
// asks about it has had no answer to it.
func (c *Client) Outcome(ctx context.Context, op wepay.Operation, number, subMchID string) (*wepay.Outcome, error) {
	begun := calls[op]
	read, found := outcomes[begun.Ask]
	if begun.Number == "" || !found {
		return nil, fmt.Errorf("%w: nothing is asked about %s over API v2", wepay.ErrNoOperation, op)
	}
	asks := calls[begun.Ask]
	in := wepay.Fields{{Name: begun.Number, Value: number}}
	if subMchID != "" && asks.identity.subMchID != "" {
		in.Set("sub_mch_id", subMchID)
	}
	reply, err := c.Do(ctx, begun.Ask, in)
	if missing := row.Missing(begun.Ask, err); missing != nil {
		return missing, nil
	}
	if err != nil {
		return nil, err
	}
	out, err := read(c, asked{op, begun.Number, number}, reply)
	if err != nil {
		return nil, asks.Unanswered(asks.Failure(c.merchant, begun.Ask), fmt.Errorf("%w: %w", wepay.ErrNoAnswer, err))
	}
	out.Word, out.Text = c.quote(out.Word), c.quote(out.Text)
	return out, nil
}

// asked is what a query is about.
type asked struct {
	op          wepay.Operation
	name, value string // of the number
}

// outcomes read the answers to queries.
var outcomes = map[wepay.Operation]func(c *Client, about asked, reply wepay.Fields) (*wepay.Outcome, error){
	wepay.QueryOrder:     orderOutcome,
	wepay.QueryRefund:    refundOutcome,
	wepay.QueryTransfer:  payoutOutcome(transferStates),
	wepay.QueryBank:      payoutOutcome(bankStates),
	wepay.QueryRedPacket: payoutOutcome(redPacketStates),
}

// orderOutcome reads a trade_state. What is paid has to have what its notification
// has.
func orderOutcome(c *Client, about asked, reply wepay.Fields) (*wepay.Outcome, error) {
	states := row.OrderStates
	if about.op == wepay.Micropay {
		states = row.CodeStates
	}
	out := &wepay.Outcome{Word: reply.Get("trade_state"), Text: reply.Get("trade_state_desc"), Fields: reply}
	if out.State = states.Of(out.Word); out.State == wepay.Pending {
		return out, nil
	}
	if err := about.isOf(reply); err != nil || out.State != wepay.Succeeded {
		return out, err
	}
	payment := notified(reply)
	if err := checkPaid(payment, "transaction_id"); err != nil {
		return nil, err
	}
	out.Notification = &wepay.Notification{Kind: wepay.Payment, Merchant: c.merchant, EventType: paymentEvent(payment), Fields: payment}
	return out, nil
}

// isOf refuses an answer that decides something and does not say of what.
func (a asked) isOf(answer wepay.Fields) error {
	if answer.Get(a.name) != a.value {
		return fmt.Errorf("the reply lacks %s", a.name)
	}
	return nil
}

// notified returns the answer to a query for a paid order as its notification has it.
func notified(reply wepay.Fields) wepay.Fields {
	return slices.DeleteFunc(reply.Clone(), func(f wepay.Field) bool {
		return f.Value == "" || slices.Contains([]string{"return_msg", "trade_state", "trade_state_desc"}, f.Name)
	})
}

// refundOutcome reads the refund that was asked about.
func refundOutcome(c *Client, about asked, reply wepay.Fields) (*wepay.Outcome, error) {
	var refund wepay.Fields
	for _, item := range reply.Numbered() {
		if about.isOf(item) == nil {
			refund = item
		}
	}
	if err := about.isOf(refund); err != nil {
		return nil, err
	}
	out := &wepay.Outcome{Word: refund.Get("refund_status"), Fields: alone(reply, about)}
	if out.State = row.RefundStates.Of(out.Word); out.State == wepay.Pending {
		return out, nil
	}
	told, err := refundOf(reply, refund)
	if err != nil {
		return nil, err
	}
	out.Notification = refunded(c.merchant, told)
	return out, nil
}

// alone returns an answer without the refunds that were not asked about.
func alone(reply wepay.Fields, about asked) wepay.Fields {
	number := ""
	for _, field := range reply {
		if n, of := strings.CutPrefix(field.Name, about.name+"_"); of && field.Value == about.value {
			number = n
		}
	}
	return slices.DeleteFunc(reply.Clone(), func(f wepay.Field) bool {
		for part := range strings.SplitSeq(f.Name, "_") {
			if wepay.Digits(part) == nil {
				return part != number // the first number is the refund's, and another its coupon's
			}
		}
		return false
	})
}

// The states of payouts, of none of which WeChat notifies.
// Source: WeChat Pay, 查询企业付款, 查询企业付款银行卡 and 查询红包记录.
var (
	transferStates = row.States{"SUCCESS": wepay.Succeeded, "FAILED": wepay.Failed}
	// A bank may send the money back days later: then what was SUCCESS is BANK_FAIL.
	bankStates = row.States{"SUCCESS": wepay.Succeeded, "FAILED": wepay.Failed, "BANK_FAIL": wepay.Failed}
	// What is SENT is not opened yet.
	redPacketStates = row.States{"RECEIVED": wepay.Succeeded, "FAILED": wepay.Failed, "REFUND": wepay.Closed}
)

// payoutOutcome reads a status.
func payoutOutcome(states row.States) func(*Client, asked, wepay.Fields) (*wepay.Outcome, error) {
	return func(_ *Client, about asked, reply wepay.Fields) (*wepay.Outcome, error) {
		out := &wepay.Outcome{Word: reply.Get("status"), Text: reply.Get("reason"), Fields: reply}
		if out.State = states.Of(out.Word); out.State == wepay.Pending {
			return out, nil
		}
		return out, about.isOf(reply)
	}
}

// Interface guard
var _ wepay.Asker = (*Client)(nil)
