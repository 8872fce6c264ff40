package storetest

import (
	"context"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/windsome/caddy-wepay/caddymodule/store"
)

// alteredTx is a transaction with another SetOrder, another Orders or another Refunds.
type alteredTx struct {
	store.Tx
	set     func(tx store.Tx, o *store.Order) error
	orders  func(tx store.Tx, kind store.OrderKind, number string) ([]*store.Order, error)
	refunds func(tx store.Tx, outTradeNo string) ([]*store.Order, error)
}

func (tx alteredTx) SetOrder(o *store.Order) error {
	if tx.set == nil {
		return tx.Tx.SetOrder(o)
	}
	return tx.set(tx.Tx, o)
}

func (tx alteredTx) Orders(kind store.OrderKind, number string) ([]*store.Order, error) {
	if tx.orders == nil {
		return tx.Tx.Orders(kind, number)
	}
	return tx.orders(tx.Tx, kind, number)
}

func (tx alteredTx) Refunds(mchID, subMchID, outTradeNo string) ([]*store.Order, error) {
	if tx.refunds == nil {
		return tx.Tx.Refunds(mchID, subMchID, outTradeNo)
	}
	return tx.refunds(tx.Tx, outTradeNo)
}

// alters is a store whose transactions are altered.
type alters struct {
	*Memory
	tx alteredTx
}

func (f alters) Transact(ctx context.Context, run func(store.Tx) error) error {
	return f.Memory.Transact(ctx, func(tx store.Tx) error {
		altered := f.tx
		altered.Tx = tx
		return run(altered)
	})
}

// setting returns what alters the orders that are set.
func setting(change func(o *store.Order)) func(m *Memory) store.Store {
	return func(m *Memory) store.Store {
		return alters{m, alteredTx{set: func(tx store.Tx, o *store.Order) error {
			own := copyOrder(o)
			change(own)
			return tx.SetOrder(own)
		}}}
	}
}

// orderFaults are faults of what keeps orders.
var orderFaults = []fault{
	{"forgets orders when closed", "transaction", func(m *Memory) store.Store { return forgetsOrders{m} }},
	{"loses an order's columns", "transaction", setting(func(o *store.Order) { o.Also = 0 })},
	{"loses an order's trace", "transaction", setting(func(o *store.Order) { o.Trace.Del("Tracestate") })},
	{"does not see what it wrote", "transaction", func(m *Memory) store.Store { return seesOld{m} }},
	{"sets an order once", "transaction", func(m *Memory) store.Store {
		return alters{m, alteredTx{set: func(tx store.Tx, o *store.Order) error {
			if known, err := tx.Orders(o.Kind, o.Number); err != nil || slices.ContainsFunc(known, func(k *store.Order) bool { return k.Key() == o.Key() }) {
				return err
			}
			return tx.SetOrder(o)
		}}}
	}},
	{"shares orders that are set", "orders copied", func(m *Memory) store.Store { return sharesOrders{m} }},
	{"keeps what was undone", "transaction undone", func(m *Memory) store.Store { return keepsUndone{m} }},
	{"undoes those beside it", "transaction undone", func(m *Memory) store.Store { return &undoesAll{Memory: m} }},
	{"stores what is left of a transaction", "order refused", func(m *Memory) store.Store {
		return alters{m, alteredTx{set: func(tx store.Tx, o *store.Order) error {
			if err := o.Check(); err != nil {
				return err
			}
			return tx.SetOrder(o)
		}}}
	}},
	{"isolates nothing", "transactions isolated", func(m *Memory) store.Store { return isolatesNothing{m} }},
	{"shows what is not stored", "transactions isolated", func(m *Memory) store.Store { return showsEarly{m} }},
	{"places twice what is placed at once", "same order at once", func(m *Memory) store.Store { return isolatesNothing{m} }},
	{"adds up what it sees", "refunds at once", func(m *Memory) store.Store { return isolatesNothing{m} }},
	{"returns all refunds", "refunds", func(m *Memory) store.Store {
		return alters{m, alteredTx{refunds: func(tx store.Tx, outTradeNo string) ([]*store.Order, error) {
			return sorted(tx.(*memoryTx).all(), func(o *store.Order) bool { return o.Kind == store.Refund && o.OutTradeNo == outTradeNo }), nil
		}}}
	}},
	{"folds an order's number", "order texts", func(m *Memory) store.Store {
		return alters{m, alteredTx{orders: func(tx store.Tx, kind store.OrderKind, number string) ([]*store.Order, error) {
			return sorted(tx.(*memoryTx).all(), func(o *store.Order) bool {
				return o.Kind == kind && strings.EqualFold(strings.TrimSpace(o.Number), strings.TrimSpace(number))
			}), nil
		}}}
	}},
	{"cuts off a reason", "order texts", setting(func(o *store.Order) { o.Reason = o.Reason[:min(len(o.Reason), 255)] })},

	{"claims in any order", "claim", func(m *Memory) store.Store { return claimsLast{m} }},
	{"claims what is not due", "claim", func(m *Memory) store.Store { return claimsEarly{m} }},
	{"claims for another", "claim", func(m *Memory) store.Store { return claimsAll{m} }},
	{"claims for ever", "claim", func(m *Memory) store.Store { return claims{m, long} }},
	{"claims for no time", "claimed once", func(m *Memory) store.Store { return claims{m, 0} }},
	{"claims what is ended", "claimed and set", func(m *Memory) store.Store { return claimsEnded{m} }},
	{"believes any due time of an order", "order due too far ahead", func(m *Memory) store.Store { return patientWithOrders{m} }},
	{"knows the last that is due", "first due", func(m *Memory) store.Store { return knowsLast{m} }},
	{"knows those that are due now", "first due", func(m *Memory) store.Store { return knowsNow{m} }},

	{"skips an order between pages", "list orders", func(m *Memory) store.Store { return skipsOrders{m} }},
	{"ignores kinds", "list orders", func(m *Memory) store.Store {
		return filters{m, func(f *store.OrderFilter) { f.Kind = "" }}
	}},
	{"takes whatever for an order's page", "list orders", func(m *Memory) store.Store { return anyPage{m} }},
	{"finds orders by their own number", "order numbers", func(m *Memory) store.Store { return ownNumber{m} }},
	{"counts kinds together", "count orders", func(m *Memory) store.Store { return countsKinds{m} }},
	{"matches whole events", "match", func(m *Memory) store.Store { return matchesWhole{m} }},
	{"matches some", "match", func(m *Memory) store.Store { return matchesSome{m} }},
	{"matches any kind", "match", func(m *Memory) store.Store { return matchesAnyKind{m} }},
	{"takes when it came for when it was", "occurred", func(m *Memory) store.Store { return occurredReceived{m} }},
	{"ends with the end of the time", "occurred", func(m *Memory) store.Store { return occurredTo{m} }},
	{"holds all up", "occurred", func(m *Memory) store.Store { return occurredLocked{m} }},
	{"keeps orders for ever", "orders go", func(m *Memory) store.Store { return hoards{m} }},
	{"removes orders that are open", "orders go", func(m *Memory) store.Store { return removesOpen{m} }},
	{"hands over what is quarantined", "quarantined", func(m *Memory) store.Store { return handsOver{m} }},
	{"transacts when it is too late", "context", func(m *Memory) store.Store { return transactsLate{m} }},
}

type forgetsOrders struct{ *Memory }

func (f forgetsOrders) Close() error {
	f.mu.Lock()
	clear(f.orders)
	f.mu.Unlock()
	return f.Memory.Close()
}

type seesOld struct{ *Memory }

func (f seesOld) Transact(ctx context.Context, run func(store.Tx) error) error {
	return f.Memory.Transact(ctx, func(tx store.Tx) error {
		return run(alteredTx{Tx: tx, orders: func(tx store.Tx, kind store.OrderKind, number string) ([]*store.Order, error) {
			return sorted(f.place.orders, func(o *store.Order) bool { return o.Kind == kind && o.Number == number }), nil
		}})
	})
}

type sharesOrders struct{ *Memory }

func (f sharesOrders) Transact(ctx context.Context, run func(store.Tx) error) error {
	return f.Memory.Transact(ctx, func(tx store.Tx) error {
		return run(alteredTx{Tx: tx, set: func(tx store.Tx, o *store.Order) error {
			err := tx.SetOrder(o)
			tx.(*memoryTx).changed[o.Key()] = o
			return err
		}})
	})
}

type keepsUndone struct{ *Memory }

func (f keepsUndone) Transact(ctx context.Context, run func(store.Tx) error) error {
	var own error
	err := f.Memory.Transact(ctx, func(tx store.Tx) error {
		own = run(tx)
		return nil
	})
	if err == nil {
		err = own
	}
	return err
}

type undoesAll struct {
	*Memory
	before map[store.OrderKey]*store.Order
}

func (f *undoesAll) Transact(ctx context.Context, run func(store.Tx) error) error {
	err := f.Memory.Transact(ctx, func(tx store.Tx) error {
		err := run(tx)
		if err != nil && f.before != nil {
			maps.DeleteFunc(f.orders, func(k store.OrderKey, _ *store.Order) bool { return f.before[k] == nil })
		}
		f.before = maps.Clone(f.orders)
		return err
	})
	return err
}

type isolatesNothing struct{ *Memory }

func (f isolatesNothing) Transact(ctx context.Context, run func(store.Tx) error) error {
	var before *place
	err := f.do(ctx, func() error {
		before = &place{events: maps.Clone(f.events), orders: maps.Clone(f.orders), options: f.options}
		return nil
	})
	if err != nil {
		return err
	}
	tx := &memoryTx{place: before, changed: make(map[store.OrderKey]*store.Order), added: make(map[string]*store.Event)}
	if err := run(tx); err != nil {
		return err
	}
	time.Sleep(time.Millisecond)
	return f.do(ctx, func() error {
		maps.Copy(f.orders, tx.changed)
		return nil
	})
}

type showsEarly struct{ *Memory }

func (f showsEarly) ListOrders(ctx context.Context, filter store.OrderFilter, after string, limit int) ([]*store.Order, string, error) {
	orders, next, err := f.Memory.ListOrders(ctx, filter, after, limit)
	for _, o := range orders {
		if o.Asked > 0 {
			o.Amount = -1
		}
	}
	return orders, next, err
}

type claimsLast struct{ *Memory }

func (f claimsLast) Claim(ctx context.Context, merchant string, limit int, term time.Duration) ([]*store.Order, error) {
	orders, err := f.Memory.Claim(ctx, merchant, limit, term)
	slices.Reverse(orders)
	return orders, err
}

type claimsEarly struct{ *Memory }

func (f claimsEarly) Claim(ctx context.Context, merchant string, limit int, term time.Duration) ([]*store.Order, error) {
	f.mu.Lock()
	now := f.options.Now
	f.options.Now = func() time.Time { return now().Add(2 * long) }
	f.mu.Unlock()
	orders, err := f.Memory.Claim(ctx, merchant, limit, term)
	f.mu.Lock()
	f.options.Now = now
	f.mu.Unlock()
	return orders, err
}

type claimsAll struct{ *Memory }

func (f claimsAll) Claim(ctx context.Context, merchant string, limit int, term time.Duration) ([]*store.Order, error) {
	if orders, err := f.Memory.Claim(ctx, "mini", limit, term); len(orders) > 0 || err != nil {
		return orders, err
	}
	return f.Memory.Claim(ctx, merchant, limit, term)
}

// claims claims for another time than it is told, and says nothing of it.
type claims struct {
	*Memory
	term time.Duration
}

func (f claims) Claim(ctx context.Context, merchant string, limit int, term time.Duration) ([]*store.Order, error) {
	orders, err := f.Memory.Claim(ctx, merchant, limit, f.term)
	for _, o := range orders {
		o.Due = f.options.Now().Add(term)
	}
	return orders, err
}

type claimsEnded struct{ *Memory }

func (f claimsEnded) Transact(ctx context.Context, run func(store.Tx) error) error {
	return f.Memory.Transact(ctx, func(tx store.Tx) error {
		return run(alteredTx{Tx: tx, set: func(tx store.Tx, o *store.Order) error {
			own := copyOrder(o)
			if known := f.orders[o.Key()]; known != nil && o.Due.IsZero() {
				own.Due = known.Due
			}
			return tx.SetOrder(own)
		}})
	})
}

type patientWithOrders struct{ *Memory }

func (f patientWithOrders) Open(ctx context.Context, options store.Options) error {
	options.LongestOrderWait = 0
	return f.Memory.Open(ctx, options)
}

type knowsLast struct{ *Memory }

func (f knowsLast) FirstDue(ctx context.Context) (map[string]time.Time, error) {
	first, err := f.Memory.FirstDue(ctx)
	for _, o := range f.orders {
		if o.Due.After(first[o.Merchant]) {
			first[o.Merchant] = o.Due
		}
	}
	return first, err
}

type knowsNow struct{ *Memory }

func (f knowsNow) FirstDue(ctx context.Context) (map[string]time.Time, error) {
	first, err := f.Memory.FirstDue(ctx)
	maps.DeleteFunc(first, func(_ string, at time.Time) bool { return at.After(time.Now()) })
	return first, err
}

type handsOver struct{ *Memory }

func (f handsOver) Put(ctx context.Context, e *store.Event) (bool, error) {
	own := *e
	if e.State == store.Quarantined {
		own.State, own.Due = store.Waiting, e.Received
	}
	return f.Memory.Put(ctx, &own)
}

type transactsLate struct{ *Memory }

func (f transactsLate) Transact(_ context.Context, run func(store.Tx) error) error {
	return f.Memory.Transact(context.Background(), run)
}
