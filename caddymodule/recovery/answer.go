package recovery

import (
	"cmp"
	"errors"
	"time"

	"github.com/windsome/caddy-wepay/caddymodule/store"
	"github.com/windsome/caddy-wepay/wepay"
)

// answered returns what WeChat's answer to a call makes of its record; nil: nothing
// new.
func (l *Ledger) answered(r *Recording, reply wepay.Fields, failed error) func(*store.Order) {
	if failed == nil {
		return l.accepted(r, reply)
	}
	var refusal *wepay.Error
	if !errors.As(failed, &refusal) {
		refusal = &wepay.Error{Verdict: wepay.Query, Err: failed}
	}
	switch refusal.Verdict {
	case wepay.Query, wepay.Done:
		return l.open(refusal)
	case wepay.Again:
		// WeChat may have failed after it did it; without a word of its own it was not
		// even called.
		if refusal.Code != "" {
			return l.open(refusal)
		}
	}
	return l.refused(r, refusal)
}

// accepted is for a call that WeChat accepted, which is all that is recorded of an
// order and a transfer already.
func (l *Ledger) accepted(r *Recording, reply wepay.Fields) func(*store.Order) {
	settle := func(o *store.Order) {
		if o.Amount != r.amount {
			o.Also, o.Amount = o.Amount, r.amount
		}
		o.Reason = ""
	}
	switch {
	case r.order.Operation == wepay.Micropay:
		return func(o *store.Order) {
			settle(o)
			l.end(o, store.OrderPaid, store.SourceReply)
			o.TransactionID, o.Paid = reply.Get("transaction_id"), o.Ended
			if at, err := wepay.ParseTime(reply.Get("time_end")); err == nil {
				o.Paid = at
			}
		}
	case r.order.Kind == store.Refund:
		return func(o *store.Order) {
			settle(o)
			o.State, o.Source = store.OrderRefunding, store.SourceReply
			o.TransactionID = cmp.Or(reply.Get("refund_id"), o.TransactionID)
			o.OutTradeNo = cmp.Or(reply.Get("out_trade_no"), o.OutTradeNo)
		}
	case r.was != nil && r.order.State != store.OrderPlaced || r.order.Amount != r.amount:
		return func(o *store.Order) {
			settle(o)
			o.State, o.Source = store.OrderPlaced, store.SourceReply
		}
	default:
		return nil
	}
}

// open has WeChat asked about a call whose outcome is unknown.
func (l *Ledger) open(refusal *wepay.Error) func(*store.Order) {
	return func(o *store.Order) {
		if o.State == store.OrderPlaced || o.State == store.OrderFailed {
			o.State = store.OrderUnknown
		}
		o.Reason, o.Ended = reasonOf(refusal), time.Time{}
		if l.Schedule != nil {
			o.Due = l.Now().Add(askSoon)
		}
	}
}

// refused is for a call that WeChat refused, or that was not sent. What an earlier
// call of the same number has done stays. Where money leaves the account WeChat is
// asked whether there was one that is not recorded.
func (l *Ledger) refused(r *Recording, refusal *wepay.Error) func(*store.Order) {
	return func(o *store.Order) {
		o.Reason = reasonOf(refusal)
		if r.was != nil {
			o.State, o.Ended, o.Due = r.was.State, r.was.Ended, r.was.Due
			return
		}
		l.end(o, store.OrderFailed, store.SourceReply)
		if l.Schedule != nil && refusal.Code != "" && o.Kind != store.Ordered && o.Kind != store.Combined {
			o.Due = l.Now().Add(askSoon)
		}
	}
}

// end has an order be in its last state.
func (l *Ledger) end(o *store.Order, state store.OrderState, source store.Source) {
	o.State, o.Source, o.Ended, o.Due = state, source, l.Now(), time.Time{}
	if state == store.OrderAbnormal && l.Schedule != nil && !over(o, o.Ended) {
		o.Due = o.Ended.Add(longestWait) // until a person has settled it
	}
	if state != store.OrderFailed && state != store.OrderQuarantined {
		o.Reason = ""
	}
}

// reasonOf is WeChat's word and text for a refusal, or why there is none.
func reasonOf(refusal *wepay.Error) string {
	text := refusal.Message
	if code := cmp.Or(refusal.V3Code, refusal.Code); code != "" {
		text = code + ": " + text
	}
	if text == "" && refusal.Err != nil {
		text = refusal.Err.Error()
	}
	return store.Reason(text)
}
