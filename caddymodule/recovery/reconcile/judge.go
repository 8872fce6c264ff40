package reconcile

import (
	"cmp"
	"context"
	"slices"

	"github.com/windsome/caddy-wepay/caddymodule/store"
	"github.com/windsome/caddy-wepay/wepay"
)

// known is what the store has of some numbers.
type known struct {
	orders map[string][]*store.Order
	events map[string][]*store.Event // by out_trade_nos
}

// lookUp asks the store for trades by their numbers.
func (m *matching) lookUp(ctx context.Context, kind store.OrderKind, trades []trade, numberOf func(*trade) string) (*known, error) {
	k := &known{orders: make(map[string][]*store.Order), events: make(map[string][]*store.Event)}
	var numbers []string
	for i := range trades {
		if number := numberOf(&trades[i]); number != "" {
			numbers = append(numbers, number)
		}
	}
	slices.Sort(numbers)
	if numbers = slices.Compact(numbers); len(numbers) == 0 {
		return k, nil
	}
	var orders []*store.Order
	var events []*store.Event
	err := patient(ctx, func() (err error) {
		orders, events, err = m.store.Match(ctx, kind, numbers)
		return err
	})
	if err != nil {
		return nil, err
	}
	for _, o := range orders {
		k.orders[o.Number] = append(k.orders[o.Number], o)
	}
	for _, e := range events {
		k.events[e.OutTradeNo] = append(k.events[e.OutTradeNo], e)
	}
	return k, nil
}

// order returns the order of a number at a trade's account; nil: there is none.
func (k *known) order(m *matching, t *trade, number string) *store.Order {
	for _, o := range k.orders[number] {
		if o.MchID == m.mchID && o.MchID == t.MchID && o.SubMchID == t.SubMchID {
			return o
		}
	}
	return nil
}

// payment returns the event of a payment that has come furthest; nil: there is none.
func (k *known) payment(t *trade) *store.Event {
	return k.event(t, func(e *store.Event) bool {
		return e.Kind == wepay.Payment && e.TransactionID == t.TransactionID && isSuccess(e)
	})
}

func (k *known) refund(t *trade) *store.Event {
	return k.event(t, func(e *store.Event) bool {
		return e.Kind == wepay.Refunded && e.OutRefundNo == t.OutRefundNo && e.TransactionID == t.TransactionID && isSuccess(e)
	})
}

func (k *known) event(t *trade, is func(*store.Event) bool) (best *store.Event) {
	for _, e := range k.events[t.OutTradeNo] {
		if is(e) && (best == nil || slices.Index(furthest, e.State) < slices.Index(furthest, best.State)) {
			best = e
		}
	}
	return best
}

// furthest are the states of events, that of the one which has come furthest first.
var furthest = []store.State{store.Delivered, store.Waiting, store.Dead, store.Quarantined, store.Dropped}

// isSuccess reports whether an event is about money that was paid or refunded.
func isSuccess(e *store.Event) bool {
	return e.EventType == "" || e.EventType == "TRANSACTION.SUCCESS" || e.EventType == "REFUND.SUCCESS"
}

// judge reports what is to be found of a trade that is known here: that nobody was told
// of it, and that amounts differ.
func (m *matching) judge(t *trade, outcomes map[*trade]result, notHandedOver, differs FindingKind, fen int64) {
	if t.order == nil && t.event == nil && t.placed == nil || m.isForeign(t.order, t.event) {
		return
	}
	f := Finding{
		SubMchID: t.SubMchID, Time: t.Time, OutTradeNo: t.OutTradeNo, TransactionID: t.TransactionID,
		OutRefundNo: t.OutRefundNo, RefundID: t.RefundID, BillFen: fen,
	}
	if t.placed != nil {
		f.Merchant = t.placed.Merchant
	}
	result, unheard := outcomes[t]
	if unheard {
		f.Outcome = result.outcome
		t.order, t.event = cmp.Or(result.taken.Order, t.order), result.taken.Event
	}
	if o := t.order; o != nil {
		f.Merchant, f.OrderFen, f.OrderState = o.Merchant, o.Amount, o.State
		if o.Source == store.SourceBill && t.event == nil && slices.Contains(ended, o.State) {
			f.Outcome = Recorded
		}
	}
	late := unheard || f.Outcome != ""
	if e := t.event; e != nil {
		f.Merchant, f.EventID, f.EventState, f.EventFen = e.Merchant, e.ID, e.State, e.Amount
		if t.part != nil {
			f.EventFen = t.part.fen
		}
		late = late || e.State != store.Delivered || e.Source == store.SourceBill
		if e.Source == store.SourceBill { // found by this bill, now or before
			f.Outcome = became[e.State]
		}
	}
	if late {
		f.Kind = notHandedOver
		m.report.find(f)
	}
	if t.orderDiffers(fen) || t.event != nil && t.event.Currency == "CNY" && f.EventFen != 0 && f.EventFen != fen {
		f.Kind = differs
		m.report.find(f)
	}
}

// became is what came of handing over an event that is in a state.
var became = map[store.State]Outcome{store.Waiting: HandedOver, store.Delivered: HandedOver, store.Quarantined: Quarantined}

// orderDiffers reports whether an order is about another amount than the bill.
func (t *trade) orderDiffers(fen int64) bool {
	o := t.order
	if o == nil || o.Currency != "CNY" || o.Amount == fen || t.part != nil {
		return false
	}
	return o.Also != fen || o.State != store.OrderUnknown
}
