package caddymodule

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"time"
)

// MemoryPlace returns an empty place in memory to keep events in, and what
// makes instances that work there, with the fault of a name or, for "", none.
func MemoryPlace(fault string) func() Outbox {
	place := newMemoryPlace()
	i := slices.IndexFunc(Faults, func(f Fault) bool { return f.Name == fault })
	return func() Outbox {
		o := &memoryOutbox{memoryPlace: place}
		if i < 0 {
			return o
		}
		return Faults[i].alter(o)
	}
}

// Fault is what may be wrong with an outbox, and the part of the contract that
// finds it.
type Fault struct {
	Name, Check string
	alter       func(*memoryOutbox) Outbox
}

// Faults are outboxes that look like good ones.
var Faults = []Fault{
	{"open from the start", "closed", func(m *memoryOutbox) Outbox { m.open = true; return m }},
	{"ignores contexts", "context", func(m *memoryOutbox) Outbox { return ignoresContexts{m} }},
	{"forgets when closed", "durable", func(m *memoryOutbox) Outbox { return forgets{m} }},
	{"writes JSON anew", "durable", func(m *memoryOutbox) Outbox { return rewrites{m} }},
	{"loses headers", "durable", func(m *memoryOutbox) Outbox { return losesHeaders{m} }},
	{"shares what it keeps", "copies", func(m *memoryOutbox) Outbox { return shares{m} }},
	{"stores what it knows", "known in every state", func(m *memoryOutbox) Outbox { return overwrites{m} }},
	{"stores at once what comes at once", "same event at once", func(m *memoryOutbox) Outbox { return duplicates{m} }},
	{"knows everything", "unknown", func(m *memoryOutbox) Outbox { return knowsAll{m} }},
	{"last first", "order", func(m *memoryOutbox) Outbox { return lastFirst{m} }},
	{"ahead of time", "due", func(m *memoryOutbox) Outbox { return early{m} }},
	{"more than asked for", "limit", func(m *memoryOutbox) Outbox { return generous{m} }},
	{"put wakes nobody", "put wakes", func(m *memoryOutbox) Outbox { return sleepy{m} }},
	{"close wakes nobody", "close wakes", func(m *memoryOutbox) Outbox { return quiet{m} }},
	{"one queue for all", "queues", func(m *memoryOutbox) Outbox { return oneQueue{m} }},
	{"leased to two", "leased once", func(m *memoryOutbox) Outbox { return leasesTwice{m} }},
	{"leases for ever", "lease runs out", func(m *memoryOutbox) Outbox { return leasesForEver{m} }},
	{"settles what is lost", "lease runs out", func(m *memoryOutbox) Outbox { return settlesLost{m} }},
	{"settles nothing late", "settled late", func(m *memoryOutbox) Outbox { return strict{m} }},
	{"leases outlive close", "leases end with close", func(m *memoryOutbox) Outbox { return holdsOn{m} }},
	{"tries again at once", "try again", func(m *memoryOutbox) Outbox { return impatient{m} }},
	{"settles twice", "settled", func(m *memoryOutbox) Outbox { return settlesTwice{m} }},
	{"keeps what was delivered", "settled", func(m *memoryOutbox) Outbox { return keepsPayload{m} }},
	{"replays what is not dead", "replay", func(m *memoryOutbox) Outbox { return replaysAll{m} }},
	{"replays with old attempts", "replay", func(m *memoryOutbox) Outbox { return replaysOld{m} }},
	{"forgets what is dropped", "drop", func(m *memoryOutbox) Outbox { return dropForgets{m} }},
	{"drops nothing leased", "drop leased", func(m *memoryOutbox) Outbox { return dropsFree{m} }},
	{"skips one between pages", "list", func(m *memoryOutbox) Outbox { return skips{m} }},
	{"takes whatever for a page's end", "list", func(m *memoryOutbox) Outbox { return pagesAnywhere{m} }},
	{"counts what is leased apart", "count", func(m *memoryOutbox) Outbox { return countsFree{m} }},
}

type ignoresContexts struct{ *memoryOutbox }

func (f ignoresContexts) Put(_ context.Context, e *Event) error {
	return f.memoryOutbox.Put(context.Background(), e)
}

type forgets struct{ *memoryOutbox }

func (f forgets) Close() error {
	f.mu.Lock()
	clear(f.events)
	f.mu.Unlock()
	return f.memoryOutbox.Close()
}

type rewrites struct{ *memoryOutbox }

func (f rewrites) Put(ctx context.Context, e *Event) error {
	e = copyEvent(e)
	var text bytes.Buffer
	if err := json.Compact(&text, e.Payload); err != nil {
		return err
	}
	e.Payload = text.Bytes()
	return f.memoryOutbox.Put(ctx, e)
}

type losesHeaders struct{ *memoryOutbox }

func (f losesHeaders) Put(ctx context.Context, e *Event) error {
	e = copyEvent(e)
	for name, values := range e.Trace {
		e.Trace[name] = values[:1]
	}
	return f.memoryOutbox.Put(ctx, e)
}

type shares struct{ *memoryOutbox }

func (f shares) Get(ctx context.Context, id string) (*Event, error) {
	if _, err := f.memoryOutbox.Get(ctx, id); err != nil {
		return nil, err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	return &f.events[id].Event, nil
}

type overwrites struct{ *memoryOutbox }

func (f overwrites) Put(ctx context.Context, e *Event) error {
	return f.do(ctx, func() error {
		if f.events[e.ID] == nil || f.events[e.ID].State != Waiting {
			f.events[e.ID] = new(memoryEvent)
			f.keep(f.events[e.ID], e)
		}
		return nil
	})
}

type duplicates struct{ *memoryOutbox }

func (f duplicates) Put(ctx context.Context, e *Event) error {
	if _, err := f.Get(ctx, e.ID); err == nil {
		e = copyEvent(e)
		e.ID += " again"
	}
	return f.memoryOutbox.Put(ctx, e)
}

type knowsAll struct{ *memoryOutbox }

func (f knowsAll) Replay(ctx context.Context, id string) error {
	if err := f.memoryOutbox.Replay(ctx, id); !errors.Is(err, ErrNoEvent) {
		return err
	}
	return ErrWrongState
}

type lastFirst struct{ *memoryOutbox }

func (f lastFirst) Lease(ctx context.Context, queue Queue, limit int, term time.Duration) ([]*Lease, error) {
	leases, err := f.memoryOutbox.Lease(ctx, queue, limit, term)
	slices.Reverse(leases)
	return leases, err
}

type early struct{ *memoryOutbox }

func (f early) Put(ctx context.Context, e *Event) error {
	e = copyEvent(e)
	e.Due = e.Due.Add(-100 * time.Millisecond)
	return f.memoryOutbox.Put(ctx, e)
}

type generous struct{ *memoryOutbox }

func (f generous) Lease(ctx context.Context, queue Queue, limit int, term time.Duration) ([]*Lease, error) {
	return f.memoryOutbox.Lease(ctx, queue, limit+1, term)
}

type sleepy struct{ *memoryOutbox }

func (f sleepy) Put(ctx context.Context, e *Event) error {
	return f.do(ctx, func() error {
		if f.events[e.ID] == nil {
			f.events[e.ID] = &memoryEvent{Event: *copyEvent(e)}
		}
		return nil
	})
}

type quiet struct{ *memoryOutbox }

func (f quiet) Close() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.open = false
	return nil
}

type oneQueue struct{ *memoryOutbox }

func (f oneQueue) Lease(ctx context.Context, queue Queue, limit int, term time.Duration) ([]*Lease, error) {
	f.mu.Lock()
	for _, r := range f.events {
		queue = r.Queue()
	}
	f.mu.Unlock()
	return f.memoryOutbox.Lease(ctx, queue, limit, term)
}

type leasesTwice struct{ *memoryOutbox }

func (f leasesTwice) Lease(ctx context.Context, queue Queue, limit int, _ time.Duration) ([]*Lease, error) {
	return f.memoryOutbox.Lease(ctx, queue, limit, 0)
}

type leasesForEver struct{ *memoryOutbox }

func (f leasesForEver) Lease(ctx context.Context, queue Queue, limit int, _ time.Duration) ([]*Lease, error) {
	return f.memoryOutbox.Lease(ctx, queue, limit, time.Hour)
}

type settlesLost struct{ *memoryOutbox }

func (f settlesLost) Settle(ctx context.Context, lease *Lease) error {
	f.mu.Lock()
	if r := f.events[lease.Event.ID]; r != nil && r.State == Waiting {
		lease.Token = r.lease
	}
	f.mu.Unlock()
	return f.memoryOutbox.Settle(ctx, lease)
}

type strict struct{ *memoryOutbox }

func (f strict) Settle(ctx context.Context, lease *Lease) error {
	f.mu.Lock()
	r := f.events[lease.Event.ID]
	late := r != nil && r.until.Before(time.Now())
	f.mu.Unlock()
	if late {
		return ErrLeaseLost
	}
	return f.memoryOutbox.Settle(ctx, lease)
}

type holdsOn struct{ *memoryOutbox }

func (f holdsOn) Close() error {
	f.mu.Lock()
	for _, r := range f.events {
		if r.holder == f.memoryOutbox {
			r.holder = &memoryOutbox{memoryPlace: f.memoryPlace, open: true}
		}
	}
	f.mu.Unlock()
	return f.memoryOutbox.Close()
}

type impatient struct{ *memoryOutbox }

func (f impatient) Settle(ctx context.Context, lease *Lease) error {
	if lease.Event.State == Waiting {
		lease.Event.Due = time.Now()
	}
	return f.memoryOutbox.Settle(ctx, lease)
}

type settlesTwice struct{ *memoryOutbox }

func (f settlesTwice) Settle(ctx context.Context, lease *Lease) error {
	err := f.memoryOutbox.Settle(ctx, lease)
	if errors.Is(err, ErrLeaseLost) {
		return nil
	}
	return err
}

type keepsPayload struct{ *memoryOutbox }

func (f keepsPayload) Settle(ctx context.Context, lease *Lease) error {
	err := f.memoryOutbox.Settle(ctx, lease)
	f.mu.Lock()
	defer f.mu.Unlock()
	f.events[lease.Event.ID].Payload = lease.Event.Payload
	return err
}

type replaysAll struct{ *memoryOutbox }

func (f replaysAll) Replay(ctx context.Context, id string) error {
	return f.change(ctx, id, func(e *Event) *Event { return e.Replayed(time.Now()) }, Waiting, Delivered, Dead, Dropped)
}

type replaysOld struct{ *memoryOutbox }

func (f replaysOld) Replay(ctx context.Context, id string) error {
	return f.change(ctx, id, func(e *Event) *Event {
		again := e.Replayed(time.Now())
		again.Attempts, again.Since = e.Attempts, e.Since
		return again
	}, Dead)
}

type dropForgets struct{ *memoryOutbox }

func (f dropForgets) Drop(ctx context.Context, id, reason string) error {
	err := f.memoryOutbox.Drop(ctx, id, reason)
	if err == nil {
		f.mu.Lock()
		defer f.mu.Unlock()
		delete(f.events, id)
	}
	return err
}

type dropsFree struct{ *memoryOutbox }

func (f dropsFree) Drop(ctx context.Context, id, reason string) error {
	f.mu.Lock()
	r := f.events[id]
	held := r != nil && r.holder != nil
	f.mu.Unlock()
	if held {
		return ErrWrongState
	}
	return f.memoryOutbox.Drop(ctx, id, reason)
}

type skips struct{ *memoryOutbox }

func (f skips) List(ctx context.Context, filter Filter, after string, limit int) ([]*Event, string, error) {
	events, next, err := f.memoryOutbox.List(ctx, filter, after, limit)
	if next != "" {
		next += "\xff" // of which no ID is the next
		_, skipped, _ := f.memoryOutbox.List(ctx, filter, events[len(events)-1].ID, 1)
		if skipped != "" {
			next = skipped
		}
	}
	return events, next, err
}

type pagesAnywhere struct{ *memoryOutbox }

func (f pagesAnywhere) List(ctx context.Context, filter Filter, after string, limit int) ([]*Event, string, error) {
	return f.memoryOutbox.List(ctx, filter, strings.ReplaceAll(after, " ", "_"), limit)
}

type countsFree struct{ *memoryOutbox }

func (f countsFree) Count(ctx context.Context) ([]Count, error) {
	counts, err := f.memoryOutbox.Count(ctx)
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
