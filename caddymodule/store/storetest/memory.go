package storetest

import (
	"bytes"
	"cmp"
	"context"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/windsome/caddy-wepay/caddymodule/store"
)

// Memory is the plainest store there is, for tests of what is built on one. It
// keeps its events for as long as it is referred to, also when it is closed, and
// runs no goroutine, so that it works by the clock of a synctest bubble, too.
type Memory struct {
	*place

	opened bool
}

// place is where instances keep their events.
type place struct {
	mu      sync.Mutex
	changed chan struct{} // closed when something has changed
	events  map[string]*kept
	orders  map[store.OrderKey]*store.Order
	options store.Options
}

// kept is an event with the lease of it.
type kept struct {
	store.Event
	lease  int
	holder *Memory // nil: none
	until  time.Time
}

// NewMemory returns an empty store, which is not open yet.
func NewMemory() *Memory {
	return &Memory{place: &place{changed: make(chan struct{}), events: make(map[string]*kept), orders: make(map[store.OrderKey]*store.Order)}}
}

// Another returns another instance that has the same events, which is not open
// yet.
func (m *Memory) Another() *Memory { return &Memory{place: m.place} }

// Open makes the store ready.
func (m *Memory) Open(_ context.Context, options store.Options) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if options.Now == nil {
		options.Now = time.Now
	}
	m.opened, m.options = true, options
	return nil
}

// Close ends the instance's leases, and its calls that wait.
func (m *Memory) Close() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.opened = false
	m.wake()
	return nil
}

func (p *place) wake() {
	close(p.changed)
	p.changed = make(chan struct{})
}

// do runs a call that finds the store open.
func (m *Memory) do(ctx context.Context, call func() error) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if !m.opened {
		return store.ErrClosed
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	m.sweep()
	return call()
}

// sweep removes what has expired.
func (p *place) sweep() {
	now := p.options.Now()
	for id, k := range p.events {
		if k.State == store.Waiting {
			continue
		}
		if p.options.Keep > 0 && now.Sub(k.Ended) > p.options.Keep {
			k.Payload = nil
		}
		if p.options.KeepRows > 0 && now.Sub(k.Ended) > p.options.KeepRows {
			delete(p.events, id)
		}
	}
	for key, o := range p.orders {
		if p.options.KeepRows > 0 && !o.Ended.IsZero() && now.Sub(o.Ended) > p.options.KeepRows {
			delete(p.orders, key)
		}
	}
}

// copyEvent returns an event that shares nothing with another.
func copyEvent(e *store.Event) *store.Event {
	own := *e
	own.Payload, own.Trace = bytes.Clone(e.Payload), e.Trace.Clone()
	return &own
}

func (m *Memory) keep(k *kept, e *store.Event) {
	k.Event = *copyEvent(e)
	k.Reason, k.Answer = store.Text(e.Reason), store.Text(e.Answer)
	k.lease, k.holder = k.lease+1, nil
	m.wake()
}

// held reports whether an event is leased.
func (k *kept) held(now time.Time) bool {
	return k.holder != nil && k.holder.opened && now.Before(k.until)
}

// Put stores an event that the store does not have yet.
func (m *Memory) Put(ctx context.Context, e *store.Event) (added bool, err error) {
	err = m.do(ctx, func() error {
		if m.events[e.ID] == nil {
			m.events[e.ID] = new(kept)
			m.keep(m.events[e.ID], e)
			added = true
		}
		return nil
	})
	return added, err
}

// Lease takes waiting events that are due, and waits until there are any.
func (m *Memory) Lease(ctx context.Context, queue store.Queue, limit int, term time.Duration) ([]*store.Lease, error) {
	for {
		var leases []*store.Lease
		var wait time.Duration
		var changed chan struct{}
		err := m.do(ctx, func() error {
			leases, wait = m.take(queue, limit, term)
			changed = m.changed
			return nil
		})
		if err != nil || len(leases) > 0 {
			return leases, err
		}
		timer := time.NewTimer(wait)
		select {
		case <-timer.C:
		case <-changed:
		case <-ctx.Done():
		}
		timer.Stop()
		if err := ctx.Err(); err != nil {
			return nil, err
		}
	}
}

// take leases what is due, or says how long it takes until something is.
func (m *Memory) take(queue store.Queue, limit int, term time.Duration) (leases []*store.Lease, wait time.Duration) {
	var free []*kept
	now := m.options.Now()
	wait = time.Hour
	for _, k := range m.events {
		if k.State != store.Waiting || k.Queue() != queue {
			continue
		}
		until := k.Due.Sub(now)
		if m.options.LongestWait > 0 && until > m.options.LongestWait {
			until = 0
		}
		if k.held(time.Now()) {
			until = max(until, time.Until(k.until))
		}
		if until <= 0 {
			free = append(free, k)
		} else {
			wait = min(wait, until)
		}
	}
	slices.SortFunc(free, func(a, b *kept) int { return cmp.Or(a.Due.Compare(b.Due), cmp.Compare(a.ID, b.ID)) })
	for _, k := range free[:min(limit, len(free))] {
		k.lease, k.holder, k.until = k.lease+1, m, time.Now().Add(term)
		leases = append(leases, &store.Lease{Event: copyEvent(&k.Event), Token: k.lease})
	}
	return leases, wait
}

// Settle stores a leased event as its holder leaves it.
func (m *Memory) Settle(ctx context.Context, lease *store.Lease) error {
	return m.do(ctx, func() error {
		k := m.events[lease.Event.ID]
		if k == nil || k.State != store.Waiting || k.lease != lease.Token.(int) {
			return store.ErrLeaseLost
		}
		m.keep(k, lease.Event)
		return nil
	})
}

// Replay has an event handed over again.
func (m *Memory) Replay(ctx context.Context, id string) (was store.State, err error) {
	err = m.do(ctx, func() error {
		k := m.events[id]
		switch {
		case k == nil:
			return store.ErrNoEvent
		case k.State == store.Waiting && k.held(time.Now()):
		case k.Payload == nil:
			return store.ErrNoPayload
		default:
			was = k.State
			m.keep(k, k.Replayed(m.options.Now()))
			return nil
		}
		was = k.State
		return nil
	})
	return was, err
}

// Drop takes an event out of the way.
func (m *Memory) Drop(ctx context.Context, id, reason string) error {
	return m.do(ctx, func() error {
		k := m.events[id]
		switch {
		case k == nil:
			return store.ErrNoEvent
		case !k.State.MayDrop():
			return store.ErrWrongState
		}
		m.keep(k, k.Dropped(reason, m.options.Now()))
		return nil
	})
}

// Get returns an event.
func (m *Memory) Get(ctx context.Context, id string) (e *store.Event, err error) {
	err = m.do(ctx, func() error {
		k := m.events[id]
		if k == nil {
			return store.ErrNoEvent
		}
		e = copyEvent(&k.Event)
		return nil
	})
	return e, err
}

// List returns events, the latest received first.
func (m *Memory) List(ctx context.Context, filter store.Filter, after string, limit int) (events []*store.Event, next string, err error) {
	err = m.do(ctx, func() error {
		if strings.Contains(after, " ") { // which no ID has
			return store.ErrNoPage
		}
		var all []*kept
		for _, k := range m.events {
			all = append(all, k)
		}
		slices.SortFunc(all, func(a, b *kept) int { return cmp.Or(b.Received.Compare(a.Received), cmp.Compare(a.ID, b.ID)) })
		begun := after == ""
		for _, k := range all {
			switch {
			case !begun:
				begun = k.ID == after
			case !filter.Match(&k.Event):
			case len(events) == limit:
				next = events[limit-1].ID
				return nil
			default:
				events = append(events, copyEvent(&k.Event))
			}
		}
		return nil
	})
	return events, next, err
}

// Count returns how many events there are.
func (m *Memory) Count(ctx context.Context) (counts []store.Count, err error) {
	err = m.do(ctx, func() error {
		events := make(map[store.Count]int)
		for _, k := range m.events {
			events[store.Count{Merchant: k.Merchant, State: k.State}]++
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
var _ store.Store = (*Memory)(nil)
