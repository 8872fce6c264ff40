package storetest

import (
	"context"
	"time"

	"github.com/windsome/caddy-wepay/caddymodule/store"
)

type skipsOrders struct{ *Memory }

func (f skipsOrders) ListOrders(ctx context.Context, filter store.OrderFilter, after string, limit int) ([]*store.Order, string, error) {
	orders, next, err := f.Memory.ListOrders(ctx, filter, after, limit)
	if after != "" && len(orders) > 1 {
		orders = orders[1:]
	}
	return orders, next, err
}

// filters lists by another filter.
type filters struct {
	*Memory
	change func(*store.OrderFilter)
}

func (f filters) ListOrders(ctx context.Context, filter store.OrderFilter, after string, limit int) ([]*store.Order, string, error) {
	f.change(&filter)
	return f.Memory.ListOrders(ctx, filter, after, limit)
}

type anyPage struct{ *Memory }

func (f anyPage) ListOrders(ctx context.Context, filter store.OrderFilter, after string, limit int) ([]*store.Order, string, error) {
	orders, next, err := f.Memory.ListOrders(ctx, filter, after, limit)
	if err != nil && after != "" {
		return f.Memory.ListOrders(ctx, filter, "", limit)
	}
	return orders, next, err
}

type ownNumber struct{ *Memory }

func (f ownNumber) ListOrders(ctx context.Context, filter store.OrderFilter, after string, limit int) ([]*store.Order, string, error) {
	orders, next, err := f.Memory.ListOrders(ctx, filter, after, limit)
	if filter.Number != "" && len(orders) > 0 && orders[0].Number != filter.Number {
		return nil, "", err
	}
	return orders, next, err
}

type countsKinds struct{ *Memory }

func (f countsKinds) CountOrders(ctx context.Context) ([]store.OrderCount, error) {
	counts, err := f.Memory.CountOrders(ctx)
	for i := range counts {
		counts[i].Kind = store.Ordered
	}
	return counts, err
}

type matchesWhole struct{ *Memory }

func (f matchesWhole) Match(ctx context.Context, kind store.OrderKind, numbers []string) ([]*store.Order, []*store.Event, error) {
	orders, events, err := f.Memory.Match(ctx, kind, numbers)
	for _, e := range events {
		e.Payload = f.events[e.ID].Payload
	}
	return orders, events, err
}

type matchesSome struct{ *Memory }

func (f matchesSome) Match(ctx context.Context, kind store.OrderKind, numbers []string) ([]*store.Order, []*store.Event, error) {
	if len(numbers) <= store.MostNumbers {
		numbers = numbers[:min(len(numbers), 8)]
	}
	return f.Memory.Match(ctx, kind, numbers)
}

type matchesAnyKind struct{ *Memory }

func (f matchesAnyKind) Match(ctx context.Context, kind store.OrderKind, numbers []string) ([]*store.Order, []*store.Event, error) {
	orders, events, err := f.Memory.Match(ctx, kind, numbers)
	refunds, _, refundErr := f.Memory.Match(ctx, store.Refund, numbers)
	if err == nil {
		err = refundErr
	}
	return append(orders, refunds...), events, err
}

type occurredReceived struct{ *Memory }

func (f occurredReceived) Put(ctx context.Context, e *store.Event) (bool, error) {
	own := *e
	own.Occurred = e.Received
	return f.Memory.Put(ctx, &own)
}

type occurredTo struct{ *Memory }

func (f occurredTo) Occurred(ctx context.Context, queue store.Queue, from, to time.Time, each func(*store.Event) error) error {
	return f.Memory.Occurred(ctx, queue, from, to, func(e *store.Event) error {
		if e.Received.After(to.Add(time.Hour)) {
			return nil
		}
		return each(e)
	})
}

type occurredLocked struct{ *Memory }

func (f occurredLocked) Occurred(ctx context.Context, queue store.Queue, from, to time.Time, each func(*store.Event) error) error {
	return f.Memory.Occurred(ctx, queue, from, to, func(e *store.Event) error {
		f.mu.Lock()
		defer f.mu.Unlock()
		return each(e)
	})
}

type removesOpen struct{ *Memory }

func (f removesOpen) ListOrders(ctx context.Context, filter store.OrderFilter, after string, limit int) ([]*store.Order, string, error) {
	f.mu.Lock()
	for key, o := range f.orders {
		if time.Since(o.Placed) > 2*long {
			delete(f.orders, key)
		}
	}
	f.mu.Unlock()
	return f.Memory.ListOrders(ctx, filter, after, limit)
}
