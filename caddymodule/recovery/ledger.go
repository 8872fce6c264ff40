// Package recovery knows what became of every order, refund and transfer that was
// placed here: it records them before WeChat is called, holds what WeChat notifies
// of against them, asks WeChat about those that nothing is heard of, and reconciles
// WeChat's bill of the day with them.
package recovery

import (
	"context"
	"fmt"
	"net/http"
	"time"

	"github.com/windsome/caddy-wepay/caddymodule/store"
	"github.com/windsome/caddy-wepay/wepay"
)

// SettleAbnormal says what an operator is to do about an abnormal refund.
const SettleAbnormal = "the payer's account takes no refund (退款异常): settle it in the merchant platform (交易中心, 退款查询), or with apply-abnormal-refund"

// Ledger records orders and what becomes of them.
type Ledger struct {
	Store    store.Orders
	Now      func() time.Time
	Schedule Schedule // nil: WeChat is not asked

	// CloseAfter is how long after placing a merchant's orders are closed; 0: never.
	CloseAfter map[string]time.Duration
	// CallbackURL is where a merchant's order service takes a kind of event.
	CallbackURL func(merchant string, kind wepay.Kind) string
}

// Recording is the record of one call that moves money.
type Recording struct {
	order  *store.Order
	was    *store.Order // what there was of its number; nil: nothing
	amount int64        // of this call
}

// Record records a call before WeChat is called, with the trace in a header that it
// came with. The request is complete and has API v2's names. An operation that is not
// recorded returns nil.
func (l *Ledger) Record(ctx context.Context, m *wepay.Merchant, op wepay.Operation, api wepay.API, request wepay.Fields, header http.Header) (*Recording, error) {
	o := l.newOrder(m, op, api, request)
	if o == nil {
		return nil, nil
	}
	o.Trace = store.TraceOf(header)
	var r *Recording
	err := l.Store.Transact(ctx, func(tx store.Tx) error {
		was, err := store.FindOrder(tx, o.Key())
		if err != nil {
			return err
		}
		r = &Recording{order: o, was: was, amount: o.Amount}
		if was != nil {
			r.order = again(was, o)
		}
		return tx.SetOrder(r.order)
	})
	if err != nil {
		return nil, fmt.Errorf("recording it in the store: %w", err)
	}
	return r, nil
}

// again returns an order whose number is placed once more: WeChat decides whether
// that is the same, and until it has, the record has both amounts.
func again(was, o *store.Order) *store.Order {
	now := *was
	switch was.State {
	case store.OrderFailed, store.OrderClosed:
		now = *o
		now.Placed = was.Placed
		if o.Amount != was.Amount {
			now.Also = was.Amount
		}
	case store.OrderPlaced, store.OrderUnknown:
		now.Asked, now.Due, now.Trace = 0, o.Due, o.Trace
		if o.Expires.After(was.Expires) {
			now.Expires = o.Expires
		}
		if o.Amount != was.Amount {
			now.Also, now.State = o.Amount, store.OrderUnknown
		}
	default: // settled, or a refund under way: WeChat answers as it did
		if o.Amount != was.Amount {
			now.Also = o.Amount
		}
	}
	return &now
}

// Answer records what WeChat answered to a call, in Fields or as an error. What it
// fails to record is found by asking.
func (l *Ledger) Answer(ctx context.Context, r *Recording, reply wepay.Fields, failed error) error {
	change := l.answered(r, reply, failed)
	if change == nil {
		return nil
	}
	return l.update(ctx, r.order, change)
}

// update changes an order and, where it is a refund, the order that it gives back.
// What is final stays.
func (l *Ledger) update(ctx context.Context, o *store.Order, change func(now *store.Order)) error {
	return l.Store.Transact(ctx, func(tx store.Tx) error {
		if err := lock(tx, o.Kind, o.OutTradeNo); err != nil {
			return err
		}
		now, err := store.FindOrder(tx, o.Key())
		if err != nil || now == nil {
			return err
		}
		if settled(now) {
			return nil
		}
		change(now)
		return set(tx, now, l.Now())
	})
}

// lock reads the order that a refund gives back before the refund itself: two servers
// that change refunds of one order do so one after the other.
func lock(tx store.Tx, kind store.OrderKind, outTradeNo string) error {
	if kind != store.Refund || outTradeNo == "" {
		return nil
	}
	_, err := tx.Orders(store.Ordered, outTradeNo)
	return err
}

// settled reports whether what is known of an order came from WeChat and is final,
// so that no answer to a call changes it.
func settled(o *store.Order) bool {
	switch o.State {
	case store.OrderPaid, store.OrderRefunded, store.OrderPartlyRefunded, store.OrderAbnormal, store.OrderQuarantined:
		return true
	case store.OrderRefunding:
		return o.Kind != store.Refund
	default:
		return false
	}
}

// set stores an order, and with a refund what it makes of the order.
func set(tx store.Tx, o *store.Order, now time.Time) error {
	if err := tx.SetOrder(o); err != nil || o.Kind != store.Refund || o.OutTradeNo == "" {
		return err
	}
	order, err := store.FindOrder(tx, store.OrderKey{Kind: store.Ordered, Number: o.OutTradeNo, MchID: o.MchID, SubMchID: o.SubMchID})
	if err != nil || order == nil {
		return err
	}
	refunds, err := tx.Refunds(o.MchID, o.SubMchID, o.OutTradeNo)
	if err != nil {
		return err
	}
	if refunded(order, refunds, now) {
		return tx.SetOrder(order)
	}
	return nil
}

// refunded has an order say what its refunds come to, and reports whether that is
// something new. Who refunds it has been paid for it.
func refunded(order *store.Order, refunds []*store.Order, now time.Time) bool {
	var sum int64
	state := store.OrderPaid
	for _, refund := range refunds {
		switch refund.State {
		case store.OrderRefunded:
			sum += refund.Amount
		case store.OrderRefunding:
			state = store.OrderRefunding
		}
	}
	switch {
	case state == store.OrderRefunding:
	case sum >= order.Amount && sum > 0:
		state = store.OrderRefunded
	case sum > 0:
		state = store.OrderPartlyRefunded
	case !paid(order): // a refund that WeChat has not accepted proves nothing
		return false
	}
	if order.State == state && order.Refunded == sum {
		return false
	}
	// WeChat is asked about the payment until it has been handed over.
	order.State, order.Refunded = state, sum
	if order.Ended.IsZero() {
		order.Ended = now
	}
	return true
}

// paid reports whether an order has been paid, whatever was given back of it.
func paid(o *store.Order) bool {
	switch o.State {
	case store.OrderPaid, store.OrderRefunding, store.OrderPartlyRefunded, store.OrderRefunded:
		return true
	default:
		return false
	}
}

// Touch has WeChat asked soon about an order that something else was done to, such as
// closing it.
func (l *Ledger) Touch(ctx context.Context, m *wepay.Merchant, kind store.OrderKind, number, subMchID string) error {
	o := &store.Order{Kind: kind, Number: number, MchID: m.MchID, SubMchID: subMchID}
	return l.update(ctx, o, func(now *store.Order) {
		if soon := l.Now().Add(askSoon); l.Schedule != nil && (now.Due.IsZero() || soon.Before(now.Due)) {
			now.Due = soon
		}
	})
}

// askSoon is the wait before WeChat is asked about what it gave no clear answer to:
// its advice for payments by code, and nobody waits for the others.
const askSoon = 5 * time.Second
