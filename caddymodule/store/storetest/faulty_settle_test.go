package storetest

import (
	"context"
	"errors"
	"slices"
	"strings"
	"time"

	"github.com/windsome/caddy-wepay/caddymodule/store"
)

type impatient struct{ *Memory }

func (f impatient) Settle(ctx context.Context, lease *store.Lease) error {
	if lease.Event.State == store.Waiting {
		lease.Event.Due = time.Now()
	}
	return f.Memory.Settle(ctx, lease)
}

type settlesTwice struct{ *Memory }

func (f settlesTwice) Settle(ctx context.Context, lease *store.Lease) error {
	err := f.Memory.Settle(ctx, lease)
	if errors.Is(err, store.ErrLeaseLost) {
		return nil
	}
	return err
}

type forgetsPayload struct{ *Memory }

func (f forgetsPayload) Settle(ctx context.Context, lease *store.Lease) error {
	err := f.Memory.Settle(ctx, lease)
	f.mu.Lock()
	defer f.mu.Unlock()
	if k := f.events[lease.Event.ID]; k != nil && k.State == store.Delivered {
		k.Payload = nil
	}
	return err
}

type rawText struct{ *Memory }

func (f rawText) Settle(ctx context.Context, lease *store.Lease) error {
	err := f.Memory.Settle(ctx, lease)
	f.mu.Lock()
	defer f.mu.Unlock()
	f.events[lease.Event.ID].Answer = lease.Event.Answer
	return err
}

// change changes an event as a replay of a fault's own does.
func (m *Memory) change(ctx context.Context, id string, change func(k *kept) (*store.Event, error)) (was store.State, err error) {
	err = m.do(ctx, func() error {
		k := m.events[id]
		if k == nil {
			return store.ErrNoEvent
		}
		was = k.State
		changed, err := change(k)
		if err == nil {
			m.keep(k, changed)
		}
		return err
	})
	return was, err
}

type replaysDead struct{ *Memory }

func (f replaysDead) Replay(ctx context.Context, id string) (store.State, error) {
	return f.change(ctx, id, func(k *kept) (*store.Event, error) {
		if k.State != store.Dead && k.State != store.Waiting {
			return nil, store.ErrWrongState
		}
		return k.Replayed(time.Now()), nil
	})
}

type replaysLeased struct{ *Memory }

func (f replaysLeased) Replay(ctx context.Context, id string) (store.State, error) {
	return f.change(ctx, id, func(k *kept) (*store.Event, error) { return k.Replayed(time.Now()), nil })
}

type replaysOld struct{ *Memory }

func (f replaysOld) Replay(ctx context.Context, id string) (store.State, error) {
	return f.change(ctx, id, func(k *kept) (*store.Event, error) {
		again := k.Replayed(time.Now())
		again.Attempts, again.Since = k.Attempts, k.Since
		return again, nil
	})
}

type dropsPayload struct{ *Memory }

func (f dropsPayload) Drop(ctx context.Context, id, reason string) error {
	err := f.Memory.Drop(ctx, id, reason)
	f.mu.Lock()
	defer f.mu.Unlock()
	if err == nil {
		f.events[id].Payload = nil
	}
	return err
}

type dropForgets struct{ *Memory }

func (f dropForgets) Drop(ctx context.Context, id, reason string) error {
	err := f.Memory.Drop(ctx, id, reason)
	if err == nil {
		f.mu.Lock()
		defer f.mu.Unlock()
		delete(f.events, id)
	}
	return err
}

type dropsFree struct{ *Memory }

func (f dropsFree) Drop(ctx context.Context, id, reason string) error {
	f.mu.Lock()
	r := f.events[id]
	held := r != nil && r.holder != nil
	f.mu.Unlock()
	if held {
		return store.ErrWrongState
	}
	return f.Memory.Drop(ctx, id, reason)
}

type skips struct{ *Memory }

func (f skips) List(ctx context.Context, filter store.Filter, after string, limit int) ([]*store.Event, string, error) {
	events, next, err := f.Memory.List(ctx, filter, after, limit)
	if next != "" {
		if skipped, _, _ := f.Memory.List(ctx, filter, next, 1); len(skipped) > 0 {
			next = skipped[0].ID
		}
	}
	return events, next, err
}

type oldestFirst struct{ *Memory }

func (f oldestFirst) List(ctx context.Context, filter store.Filter, after string, limit int) ([]*store.Event, string, error) {
	events, next, err := f.Memory.List(ctx, filter, after, limit)
	slices.Reverse(events)
	return events, next, err
}

type ignoresNumbers struct{ *Memory }

func (f ignoresNumbers) List(ctx context.Context, filter store.Filter, after string, limit int) ([]*store.Event, string, error) {
	filter.Number = ""
	return f.Memory.List(ctx, filter, after, limit)
}

type pagesAnywhere struct{ *Memory }

func (f pagesAnywhere) List(ctx context.Context, filter store.Filter, after string, limit int) ([]*store.Event, string, error) {
	return f.Memory.List(ctx, filter, strings.ReplaceAll(after, " ", "_"), limit)
}

type countsFree struct{ *Memory }

func (f countsFree) Count(ctx context.Context) ([]store.Count, error) {
	counts, err := f.Memory.Count(ctx)
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, r := range f.events {
		for i, c := range counts {
			if r.holder != nil && r.Merchant == c.Merchant && r.State == c.State {
				counts[i].Events--
			}
		}
	}
	return counts, err
}

type hoards struct{ *Memory }

func (f hoards) Open(ctx context.Context, options store.Options) error {
	options.Keep, options.KeepRows = 0, 0
	return f.Memory.Open(ctx, options)
}

type clearsWaiting struct{ *Memory }

func (f clearsWaiting) Put(ctx context.Context, e *store.Event) (bool, error) {
	e = copyEvent(e)
	if time.Since(e.Received) > time.Minute {
		e.Payload = nil
	}
	return f.Memory.Put(ctx, e)
}

type addsAll struct{ *Memory }

func (f addsAll) Put(ctx context.Context, e *store.Event) (bool, error) {
	_, err := f.Memory.Put(ctx, e)
	return err == nil, err
}

type losesColumns struct{ *Memory }

func (f losesColumns) Put(ctx context.Context, e *store.Event) (bool, error) {
	e = copyEvent(e)
	e.OutRefundNo = ""
	return f.Memory.Put(ctx, e)
}

type foldsNames struct{ *Memory }

func (f foldsNames) Lease(ctx context.Context, queue store.Queue, limit int, term time.Duration) ([]*store.Lease, error) {
	f.mu.Lock()
	for _, k := range f.events {
		if strings.EqualFold(k.Merchant, queue.Merchant) && k.Merchant != queue.Merchant && k.State == store.Waiting {
			queue.Merchant = k.Merchant
			break
		}
	}
	f.mu.Unlock()
	return f.Memory.Lease(ctx, queue, limit, term)
}
