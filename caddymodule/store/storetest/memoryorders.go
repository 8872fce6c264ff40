package storetest

import (
	"cmp"
	"context"
	"errors"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/windsome/caddy-wepay/caddymodule/store"
)

// copyOrder returns an order that shares nothing with another.
func copyOrder(o *store.Order) *store.Order {
	own := *o
	own.Trace = o.Trace.Clone()
	return &own
}

// memoryTx writes to copies, which take the place of what there was when it ends.
type memoryTx struct {
	*place

	changed map[store.OrderKey]*store.Order
	added   map[string]*store.Event
	err     error // of SetOrder's
}

// Transact runs something in one transaction.
func (m *Memory) Transact(ctx context.Context, run func(store.Tx) error) error {
	return m.do(ctx, func() error {
		tx := &memoryTx{place: m.place, changed: make(map[store.OrderKey]*store.Order), added: make(map[string]*store.Event)}
		if err := cmp.Or(run(tx), tx.err); err != nil {
			return err
		}
		maps.Copy(m.orders, tx.changed)
		for id, e := range tx.added {
			m.events[id] = new(kept)
			m.keep(m.events[id], e)
		}
		return nil
	})
}

// all returns the orders as the transaction has them.
func (tx *memoryTx) all() map[store.OrderKey]*store.Order {
	all := maps.Clone(tx.orders)
	maps.Copy(all, tx.changed)
	return all
}

// Orders returns the orders of a kind and number.
func (tx *memoryTx) Orders(kind store.OrderKind, number string) ([]*store.Order, error) {
	return sorted(tx.all(), func(o *store.Order) bool { return o.Kind == kind && o.Number == number }), nil
}

// Refunds returns the refunds of an order.
func (tx *memoryTx) Refunds(mchID, subMchID, outTradeNo string) ([]*store.Order, error) {
	return sorted(tx.all(), func(o *store.Order) bool {
		return o.Kind == store.Refund && o.MchID == mchID && o.SubMchID == subMchID && o.OutTradeNo == outTradeNo
	}), nil
}

// SetOrder stores an order.
func (tx *memoryTx) SetOrder(o *store.Order) error {
	if err := o.Check(); err != nil {
		tx.err = err
		return err
	}
	own := copyOrder(o)
	own.Reason = store.Text(o.Reason)
	tx.changed[o.Key()] = own
	return nil
}

// Put stores an event that the store does not have yet.
func (tx *memoryTx) Put(e *store.Event) (added bool, err error) {
	if tx.events[e.ID] != nil || tx.added[e.ID] != nil {
		return false, nil
	}
	tx.added[e.ID] = copyEvent(e)
	return true, nil
}

// sorted returns copies of the orders that are wanted, the latest placed first.
func sorted(all map[store.OrderKey]*store.Order, wanted func(*store.Order) bool) (orders []*store.Order) {
	for _, o := range all {
		if wanted(o) {
			orders = append(orders, copyOrder(o))
		}
	}
	slices.SortFunc(orders, func(a, b *store.Order) int {
		return cmp.Or(b.Placed.Compare(a.Placed), cmp.Compare(a.Number, b.Number), cmp.Compare(a.Kind, b.Kind),
			cmp.Compare(a.MchID, b.MchID), cmp.Compare(a.SubMchID, b.SubMchID))
	})
	return orders
}

// due is when an order is due by the store's clock.
func (p *place) due(o *store.Order, now time.Time) time.Time {
	if longest := p.options.LongestOrderWait; longest > 0 && o.Due.Sub(now) > longest {
		return now
	}
	return o.Due
}

// FirstDue returns the merchants that have orders with a Due.
func (m *Memory) FirstDue(ctx context.Context) (first map[string]time.Time, err error) {
	err = m.do(ctx, func() error {
		first = make(map[string]time.Time)
		now := m.options.Now()
		for _, o := range m.orders {
			if o.Due.IsZero() {
				continue
			}
			if at, found := first[o.Merchant]; !found || m.due(o, now).Before(at) {
				first[o.Merchant] = m.due(o, now)
			}
		}
		return nil
	})
	return first, err
}

// Claim takes orders that are due.
func (m *Memory) Claim(ctx context.Context, merchant string, limit int, term time.Duration) (claimed []*store.Order, err error) {
	err = m.do(ctx, func() error {
		now := m.options.Now()
		claimed = sorted(m.orders, func(o *store.Order) bool {
			return o.Merchant == merchant && !o.Due.IsZero() && !m.due(o, now).After(now)
		})
		slices.SortStableFunc(claimed, func(a, b *store.Order) int { return a.Due.Compare(b.Due) })
		claimed = claimed[:min(limit, len(claimed))]
		for _, o := range claimed {
			o.Due = now.Add(term)
			m.orders[o.Key()] = copyOrder(o)
		}
		return nil
	})
	return claimed, err
}

// ListOrders returns orders, the latest placed first.
func (m *Memory) ListOrders(ctx context.Context, filter store.OrderFilter, after string, limit int) (orders []*store.Order, next string, err error) {
	end := func(o *store.Order) string {
		return strings.Join([]string{string(o.Kind), o.Number, o.MchID, o.SubMchID}, "\x00")
	}
	err = m.do(ctx, func() error {
		all := sorted(m.orders, filter.Match)
		if after != "" {
			i := slices.IndexFunc(all, func(o *store.Order) bool { return end(o) == after })
			if i < 0 {
				return store.ErrNoPage
			}
			all = all[i+1:]
		}
		if len(all) > limit {
			all = all[:limit]
			next = end(all[limit-1])
		}
		orders = all
		return nil
	})
	return orders, next, err
}

// CountOrders returns how many orders there are.
func (m *Memory) CountOrders(ctx context.Context) (counts []store.OrderCount, err error) {
	err = m.do(ctx, func() error {
		orders := make(map[store.OrderCount]int)
		for _, o := range m.orders {
			orders[store.OrderCount{Merchant: o.Merchant, Kind: o.Kind, State: o.State}]++
		}
		for c, n := range orders {
			c.Orders = n
			counts = append(counts, c)
		}
		return nil
	})
	return counts, err
}

var errTooManyNumbers = errors.New("more numbers than MostNumbers")

// Match returns the orders and events that have one of the numbers.
func (m *Memory) Match(ctx context.Context, kind store.OrderKind, numbers []string) (orders []*store.Order, events []*store.Event, err error) {
	err = m.do(ctx, func() error {
		if len(numbers) > store.MostNumbers {
			return errTooManyNumbers
		}
		among := func(number string) bool { return number != "" && slices.Contains(numbers, number) }
		orders = sorted(m.orders, func(o *store.Order) bool { return o.Kind == kind && among(o.Number) })
		for _, k := range m.events {
			if among(k.TransactionID) || among(k.OutTradeNo) || among(k.OutRefundNo) {
				events = append(events, withoutPayload(&k.Event))
			}
		}
		return nil
	})
	return orders, events, err
}

// Occurred calls each for the events of a time.
func (m *Memory) Occurred(ctx context.Context, queue store.Queue, from, to time.Time, each func(*store.Event) error) error {
	var found []*store.Event
	err := m.do(ctx, func() error {
		for _, k := range m.events {
			if k.Queue() == queue && !k.Occurred.Before(from) && k.Occurred.Before(to) && k.Received.After(from.Add(-time.Hour)) {
				found = append(found, withoutPayload(&k.Event))
			}
		}
		return nil
	})
	for _, e := range found {
		if err == nil {
			err = each(e)
		}
	}
	return err
}

func withoutPayload(e *store.Event) *store.Event {
	own := copyEvent(e)
	own.Payload = nil
	return own
}

// Interface guard
var _ store.Orders = (*Memory)(nil)
