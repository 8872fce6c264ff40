package caddymodule

import (
	"bytes"
	"cmp"
	"context"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"
)

// memoryOutbox is the plainest outbox there is, for what is built on one. It
// works by the clock of a bubble, too.
type memoryOutbox struct {
	OutboxOptions
	*memoryPlace

	open bool
}

// memoryPlace is where instances keep their events.
type memoryPlace struct {
	mu      sync.Mutex
	changed chan struct{} // closed when something has changed
	events  map[string]*memoryEvent
}

// memoryEvent is an event with the lease of it.
type memoryEvent struct {
	Event
	lease  int
	holder *memoryOutbox // nil: nobody
	until  time.Time
}

func newMemoryPlace() *memoryPlace {
	return &memoryPlace{changed: make(chan struct{}), events: make(map[string]*memoryEvent)}
}

func newMemoryOutbox() *memoryOutbox { return &memoryOutbox{memoryPlace: newMemoryPlace()} }

func (m *memoryOutbox) Open(context.Context) error { return m.setOpen(true) }
func (m *memoryOutbox) Close() error               { return m.setOpen(false) }

func (m *memoryOutbox) setOpen(open bool) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.open = open
	m.wake()
	return nil
}

func (p *memoryPlace) wake() {
	close(p.changed)
	p.changed = make(chan struct{})
}

// do runs a call that finds the store open.
func (m *memoryOutbox) do(ctx context.Context, call func() error) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if !m.open {
		return ErrOutboxClosed
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	return call()
}

// copyEvent returns what nobody else has in hand.
func copyEvent(e *Event) *Event {
	own := *e
	own.Payload, own.Trace = bytes.Clone(e.Payload), e.Trace.Clone()
	return &own
}

func (m *memoryOutbox) keep(r *memoryEvent, e *Event) {
	r.Event = *copyEvent(e)
	if e.State == Delivered || e.State == Dropped {
		r.Payload = nil
	}
	r.lease, r.holder = r.lease+1, nil
	m.wake()
}

func (m *memoryOutbox) Put(ctx context.Context, e *Event) error {
	return m.do(ctx, func() error {
		if m.events[e.ID] == nil {
			m.events[e.ID] = new(memoryEvent)
			m.keep(m.events[e.ID], e)
		}
		return nil
	})
}

func (m *memoryOutbox) Lease(ctx context.Context, queue Queue, limit int, term time.Duration) ([]*Lease, error) {
	for {
		var leases []*Lease
		var next time.Time
		var changed chan struct{}
		err := m.do(ctx, func() error {
			leases, next = m.take(queue, limit, term)
			changed = m.changed
			return nil
		})
		if err != nil || len(leases) > 0 {
			return leases, err
		}
		var due <-chan time.Time
		if !next.IsZero() {
			due = time.After(time.Until(next))
		}
		select {
		case <-due:
		case <-changed:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

// take leases what is due, or says when something will be.
func (m *memoryOutbox) take(queue Queue, limit int, term time.Duration) ([]*Lease, time.Time) {
	var free []*memoryEvent
	var next time.Time
	for _, r := range m.events {
		if r.State != Waiting || r.Queue() != queue {
			continue
		}
		at := r.Due
		if r.holder != nil && r.holder.open && at.Before(r.until) {
			at = r.until
		}
		switch {
		case !at.After(time.Now()):
			free = append(free, r)
		case next.IsZero() || at.Before(next):
			next = at
		}
	}
	slices.SortFunc(free, func(a, b *memoryEvent) int { return cmp.Or(a.Due.Compare(b.Due), cmp.Compare(a.ID, b.ID)) })
	var leases []*Lease
	for _, r := range free[:min(limit, len(free))] {
		r.lease, r.holder, r.until = r.lease+1, m, time.Now().Add(term)
		leases = append(leases, &Lease{Event: copyEvent(&r.Event), Token: r.lease})
	}
	return leases, next
}

func (m *memoryOutbox) Settle(ctx context.Context, lease *Lease) error {
	return m.do(ctx, func() error {
		r := m.events[lease.Event.ID]
		if r == nil || r.State != Waiting || r.lease != lease.Token.(int) {
			return ErrLeaseLost
		}
		m.keep(r, lease.Event)
		return nil
	})
}

// change changes an event that is in one of some states.
func (m *memoryOutbox) change(ctx context.Context, id string, change func(e *Event) *Event, states ...State) error {
	return m.do(ctx, func() error {
		r := m.events[id]
		if r == nil {
			return ErrNoEvent
		}
		if !slices.Contains(states, r.State) {
			return ErrWrongState
		}
		m.keep(r, change(&r.Event))
		return nil
	})
}

func (m *memoryOutbox) Replay(ctx context.Context, id string) error {
	return m.change(ctx, id, func(e *Event) *Event { return e.Replayed(time.Now()) }, Dead)
}

func (m *memoryOutbox) Drop(ctx context.Context, id, reason string) error {
	return m.change(ctx, id, func(e *Event) *Event { return e.Dropped(reason, time.Now()) }, Waiting, Dead)
}

func (m *memoryOutbox) Get(ctx context.Context, id string) (e *Event, err error) {
	err = m.do(ctx, func() error {
		r := m.events[id]
		if r == nil {
			return ErrNoEvent
		}
		e = copyEvent(&r.Event)
		return nil
	})
	return e, err
}

func (m *memoryOutbox) List(ctx context.Context, filter Filter, after string, limit int) (events []*Event, next string, err error) {
	err = m.do(ctx, func() error {
		if strings.Contains(after, " ") { // which no ID has
			return ErrNoPage
		}
		for _, id := range slices.Sorted(maps.Keys(m.events)) {
			e := copyEvent(&m.events[id].Event)
			if id <= after || !filter.Match(e) {
				continue
			}
			if len(events) == limit {
				next = events[limit-1].ID
				return nil
			}
			events = append(events, e)
		}
		return nil
	})
	return events, next, err
}

func (m *memoryOutbox) Count(ctx context.Context) (counts []Count, err error) {
	err = m.do(ctx, func() error {
		events := make(map[Count]int)
		for _, r := range m.events {
			events[Count{Merchant: r.Merchant, State: r.State}]++
		}
		for c, n := range events {
			c.Events = n
			counts = append(counts, c)
		}
		return nil
	})
	return counts, err
}

// Interface guard
var _ Outbox = (*memoryOutbox)(nil)
