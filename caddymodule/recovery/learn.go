package recovery

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"strconv"
	"time"

	"github.com/windsome/caddy-wepay/caddymodule/store"
	"github.com/windsome/caddy-wepay/wepay"
)

// Learn records what WeChat answered about an order, and stores the event of it as if
// WeChat had notified.
func (l *Ledger) Learn(ctx context.Context, m *wepay.Merchant, asked *store.Order, out *wepay.Outcome, source store.Source) (Taken, error) {
	var taken Taken
	err := l.Store.Transact(ctx, func(tx store.Tx) error {
		taken = Taken{}
		if err := lock(tx, asked.Kind, cmp.Or(asked.OutTradeNo, out.Fields.Get("out_trade_no"))); err != nil {
			return err
		}
		o, err := store.FindOrder(tx, asked.Key())
		if err != nil || o == nil {
			return err
		}
		o.Asked, o.LastAsked = o.Asked+1, l.Now()
		if n := out.Notification; n != nil && !(settled(o) && o.State != store.OrderAbnormal && o.EventID != "") {
			if err := tx.SetOrder(o); err != nil {
				return err
			}
			taken, err = l.takeAnswer(tx, m, o, n, source)
			return err
		}
		taken.Order = o
		before := o.State
		if !settled(o) {
			l.conclude(o, out, source)
		} else {
			o.Due = time.Time{}
		}
		taken.Changed = o.State != before
		if taken.Changed && o.State == store.OrderClosed && !o.CloseAt.IsZero() {
			taken.Event, taken.Added, err = l.tellClosed(tx, m, o)
			if err != nil {
				return err
			}
		}
		return set(tx, o, l.Now())
	})
	return taken, err
}

// takeAnswer is take for what WeChat was asked about. A merchant whose order service
// takes no such event has it recorded alone.
func (l *Ledger) takeAnswer(tx store.Tx, m *wepay.Merchant, o *store.Order, n *wepay.Notification, source store.Source) (Taken, error) {
	e, err := store.NewEvent(n, source, o.Trace, l.Now())
	if err != nil {
		return Taken{}, err
	}
	if m.CallbackURL(n.Kind) == "" {
		taken := Taken{Order: o, Changed: l.learn(o, n, e)}
		o.EventID = ""
		return taken, set(tx, o, l.Now())
	}
	taken, err := l.take(tx, n, e)
	if err != nil || taken.Changed || taken.Order == nil {
		return taken, err
	}
	// WeChat says nothing new: it is not asked again, unless a person is to do something.
	if taken.Order.State != store.OrderAbnormal {
		taken.Order.Due = time.Time{}
	}
	return taken, set(tx, taken.Order, l.Now())
}

// conclude has an order say what an answer does that WeChat notifies of nothing for.
func (l *Ledger) conclude(o *store.Order, out *wepay.Outcome, source store.Source) {
	now := l.Now()
	switch out.State {
	case wepay.Succeeded:
		l.end(o, store.OrderPaid, source)
		if o.Kind == store.Refund {
			o.State = store.OrderRefunded
		}
		o.Paid = now
	case wepay.Closed:
		l.end(o, store.OrderClosed, source)
	case wepay.Failed:
		l.end(o, store.OrderFailed, source)
		o.Reason = textOf(out)
	case wepay.Abnormal:
		l.end(o, store.OrderAbnormal, source)
	case wepay.Missing:
		l.missing(o, source)
	default:
		l.pending(o, out, source)
	}
}

// How long after an order was placed WeChat may not know it yet, at most.
// Source: WeChat Pay, 查询订单 (ask again after a minute), 查询企业付款 (some minutes).
const (
	unknownOrder    = time.Minute
	unknownTransfer = 5 * time.Minute
)

// missing is for an order that WeChat does not have. Not yet, or it never got it.
func (l *Ledger) missing(o *store.Order, source store.Source) {
	now, patience := l.Now(), unknownOrder
	if o.Kind == store.Transfer {
		patience = unknownTransfer
	}
	if now.Sub(o.Placed) < patience || o.Asked < 2 {
		l.Schedule.postpone(o, now)
		return
	}
	before := o.Reason
	l.end(o, store.OrderFailed, source)
	const missing = "WeChat Pay has no such number"
	if before != "" && before != missing {
		o.Reason = store.Reason(missing + "; its call: " + before)
	} else {
		o.Reason = missing
	}
}

// pending is for an order that has not ended at WeChat.
func (l *Ledger) pending(o *store.Order, out *wepay.Outcome, source store.Source) {
	now := l.Now()
	switch {
	case over(o, now) && !o.Expires.IsZero():
		l.end(o, store.OrderClosed, source)
		o.Reason = "it was not paid before it expired"
		return
	case over(o, now):
		o.Due, o.Ended, o.Reason = time.Time{}, now, "WeChat Pay has not ended it in 30 days, and is not asked any more"
		return
	case o.Kind == store.Refund:
		o.State = store.OrderRefunding
	case o.State != store.OrderUnknown || hasOneAmount(o, out.Fields):
		o.State = store.OrderPlaced
	}
	if o.Ended = (time.Time{}); o.State != store.OrderUnknown {
		o.Reason = ""
	}
	l.Schedule.postpone(o, now)
}

// hasOneAmount reports whether it is known with which amount WeChat has an order, which
// may have been placed with two. Not every answer about an unpaid one names it.
func hasOneAmount(o *store.Order, answer wepay.Fields) bool {
	switch fen, _ := wepay.WholeFen(answer.Get("total_fee")); {
	case o.Also == 0:
	case fen == o.Also:
		o.Also, o.Amount = o.Amount, fen
	case fen != o.Amount:
		return false
	}
	return true
}

func textOf(out *wepay.Outcome) string {
	text := out.Word
	if out.Text != "" {
		text += ": " + out.Text
	}
	return store.Reason(text)
}

// OrderClosed is the event type of an order that was closed since it was not paid in
// time. It is ours: WeChat notifies of no such thing.
const OrderClosed = "TRANSACTION.CLOSED"

// tellClosed stores the event of an order that was closed, for an order service that
// takes such events.
func (l *Ledger) tellClosed(tx store.Tx, m *wepay.Merchant, o *store.Order) (*store.Event, bool, error) {
	if m.CallbackURL(wepay.OtherEvent) == "" {
		return nil, false, nil
	}
	n := &wepay.Notification{
		Kind: wepay.OtherEvent, Merchant: m, EventType: OrderClosed,
		Fields: wepay.NewFields(map[string]string{
			"appid": o.AppID, "mch_id": o.MchID, "out_trade_no": o.Number, "total_fee": strconv.FormatInt(o.Amount, 10),
			"fee_type": o.Currency, "trade_state": "CLOSED",
		}),
	}
	if o.SubMchID != "" {
		n.Fields.Set("sub_mch_id", o.SubMchID)
	}
	sum := sha256.Sum256([]byte(o.Number + "\x00" + o.Placed.UTC().String()))
	n.ID = hex.EncodeToString(sum[:])
	e, err := store.NewEvent(n, store.SourceQuery, o.Trace, l.Now())
	if err != nil {
		return nil, false, err
	}
	added, err := tx.Put(e)
	o.EventID = e.ID
	return e, added, err
}
