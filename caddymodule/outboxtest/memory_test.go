package outboxtest

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/windsome/caddy-wepay/caddymodule"
)

// fault is what is wrong with a store.
type fault string

// disk is the place that instances of memory work at.
type disk struct {
	fault fault

	mu      sync.Mutex
	changed chan struct{} // closed when something has changed
	events  map[string]*record
	open    int
}

// record is an event in the store, as JSON so that nobody else can change it.
type record struct {
	caddymodule.Event
	text   json.RawMessage
	holder *memory
	lease  int
	until  time.Time
}

func (r *record) keep(e *caddymodule.Event) {
	if e.State == caddymodule.Delivered || e.State == caddymodule.Dropped {
		e.Payload = nil
	}
	payload := e.Payload
	e.Payload = nil
	text, err := json.Marshal(e)
	if err != nil {
		panic(err)
	}
	e.Payload = payload
	r.text, r.Event = text, *e
	r.Event.Payload = slices.Clone(payload)
}

func (r *record) event() *caddymodule.Event {
	var e caddymodule.Event
	if err := json.Unmarshal(r.text, &e); err != nil {
		panic(err)
	}
	e.Payload = slices.Clone(r.Event.Payload)
	return &e
}

// memory is the plainest store there is. It is durable as long as its disk is.
type memory struct {
	caddymodule.OutboxOptions

	disk   *disk
	closed chan struct{} // nil: not yet open
}

func (m *memory) Open(context.Context) error {
	m.disk.mu.Lock()
	defer m.disk.mu.Unlock()
	if m.disk.fault == "forgets" {
		clear(m.disk.events)
	}
	m.closed = make(chan struct{})
	m.disk.open++
	return nil
}

func (m *memory) Close() error {
	m.disk.mu.Lock()
	defer m.disk.mu.Unlock()
	if m.isClosed() {
		return nil
	}
	for _, r := range m.disk.events {
		if r.holder == m && m.disk.fault != "keeps leases" {
			r.until = time.Time{}
		}
	}
	m.disk.wake()
	close(m.closed)
	return nil
}

func (m *memory) isClosed() bool {
	if m.closed == nil {
		return true
	}
	select {
	case <-m.closed:
		return true
	default:
		return false
	}
}

func (d *disk) wake() {
	close(d.changed)
	d.changed = make(chan struct{})
}

// do runs a call that finds the store open.
func (m *memory) do(ctx context.Context, call func() error) error {
	m.disk.mu.Lock()
	defer m.disk.mu.Unlock()
	if m.isClosed() && (m.closed == nil || m.disk.fault != "stays open") {
		return caddymodule.ErrOutboxClosed
	}
	if err := ctx.Err(); err != nil && m.disk.fault != "ignores contexts" {
		return err
	}
	return call()
}

func (m *memory) Put(ctx context.Context, e *caddymodule.Event) error {
	return m.do(ctx, func() error {
		r, known := m.disk.events[e.ID]
		if known && m.disk.fault == "forgets the delivered" {
			known = r.State != caddymodule.Delivered
		}
		if known && m.disk.fault != "puts twice" {
			return nil
		}
		r = new(record)
		kept := *e
		if m.disk.fault == "compacts" {
			kept.Payload, _ = json.Marshal(e.Payload)
		}
		r.keep(&kept)
		m.disk.events[e.ID] = r
		if m.disk.fault != "sleeps" {
			m.disk.wake()
		}
		return nil
	})
}

func (m *memory) Lease(ctx context.Context, queue caddymodule.Queue, limit int, term time.Duration) ([]*caddymodule.Lease, error) {
	for {
		var leases []*caddymodule.Lease
		var next time.Time
		var changed chan struct{}
		err := m.do(ctx, func() error {
			leases, next = m.take(queue, limit, term)
			changed = m.disk.changed
			return nil
		})
		if err != nil || len(leases) > 0 {
			return leases, err
		}
		if err := m.wait(ctx, next, changed); err != nil {
			return nil, err
		}
	}
}

func (m *memory) wait(ctx context.Context, next time.Time, changed chan struct{}) error {
	var due <-chan time.Time
	if !next.IsZero() {
		due = time.After(time.Until(next))
	}
	done, closed := ctx.Done(), m.closed
	switch m.disk.fault {
	case "ignores contexts":
		done = nil
	case "stays open":
		closed = nil
	}
	select {
	case <-due:
	case <-changed:
	case <-done:
		return ctx.Err()
	case <-closed:
		return caddymodule.ErrOutboxClosed
	case <-time.After(2 * patience): // a fault has made it wait for ever
		return errors.New("waiting for ever")
	}
	return nil
}

// take leases what is due, or says when something will be.
func (m *memory) take(queue caddymodule.Queue, limit int, term time.Duration) ([]*caddymodule.Lease, time.Time) {
	var free []*record
	var next time.Time
	for _, r := range m.disk.events {
		if r.State != caddymodule.Waiting || r.Queue() != queue && m.disk.fault != "mixes queues" {
			continue
		}
		at := r.Due
		if at.Before(r.until) && m.disk.fault != "leases twice" {
			at = r.until
		}
		switch {
		case !at.After(time.Now()) || m.disk.fault == "hurries":
			free = append(free, r)
		case next.IsZero() || at.Before(next):
			next = at
		}
	}
	slices.SortFunc(free, func(a, b *record) int {
		if m.disk.fault == "disorders" {
			return b.Due.Compare(a.Due)
		}
		return cmp.Or(a.Due.Compare(b.Due), cmp.Compare(a.ID, b.ID))
	})
	if m.disk.fault != "has no limit" {
		free = free[:min(limit, len(free))]
	}
	var leases []*caddymodule.Lease
	for _, r := range free {
		r.holder, r.lease, r.until = m, r.lease+1, time.Now().Add(term)
		if m.disk.fault == "never ends leases" {
			r.until = time.Now().Add(long)
		}
		e := r.event()
		if m.disk.fault == "lends its own" {
			e = &r.Event
		}
		leases = append(leases, &caddymodule.Lease{Event: e, Token: r.lease})
	}
	return leases, next
}

func (m *memory) Settle(ctx context.Context, lease *caddymodule.Lease) error {
	return m.do(ctx, func() error {
		r := m.disk.events[lease.Event.ID]
		lost := r == nil || r.State != caddymodule.Waiting || r.lease != lease.Token.(int)
		late := r != nil && time.Now().After(r.until) && m.disk.fault == "settles in time only"
		if lost && m.disk.fault != "settles what is lost" || late {
			return caddymodule.ErrLeaseLost
		}
		payload, e := lease.Event.Payload, *lease.Event
		if m.disk.fault == "forgets attempts" {
			e.Attempts = 0
		}
		r.keep(&e)
		if m.disk.fault == "keeps payloads" {
			r.Event.Payload = payload
		}
		r.lease, r.until = r.lease+1, time.Time{}
		m.disk.wake()
		return nil
	})
}

// change changes an event that is in one of some states.
func (m *memory) change(ctx context.Context, id string, change func(e *caddymodule.Event), states ...caddymodule.State) error {
	return m.do(ctx, func() error {
		r := m.disk.events[id]
		if r == nil {
			return caddymodule.ErrNoEvent
		}
		if !slices.Contains(states, r.State) && m.disk.fault != "changes any" {
			return caddymodule.ErrWrongState
		}
		e := r.event()
		change(e)
		r.keep(e)
		r.lease, r.until = r.lease+1, time.Time{}
		m.disk.wake()
		return nil
	})
}

func (m *memory) Replay(ctx context.Context, id string) error {
	return m.change(ctx, id, func(e *caddymodule.Event) {
		e.State, e.Due, e.Ended = caddymodule.Waiting, time.Now(), time.Time{}
		if m.disk.fault != "replays as it was" {
			e.Since, e.Attempts, e.Reason, e.Refused = time.Now(), 0, "", false
		}
	}, caddymodule.Dead)
}

func (m *memory) Drop(ctx context.Context, id, reason string) error {
	return m.change(ctx, id, func(e *caddymodule.Event) {
		e.State, e.Due, e.Ended, e.Reason = caddymodule.Dropped, time.Time{}, time.Now(), reason
		if m.disk.fault == "drops without reason" {
			e.Reason = ""
		}
	}, caddymodule.Waiting, caddymodule.Dead)
}

func (m *memory) Get(ctx context.Context, id string) (e *caddymodule.Event, err error) {
	err = m.do(ctx, func() error {
		r := m.disk.events[id]
		if r == nil {
			return caddymodule.ErrNoEvent
		}
		e = r.event()
		return nil
	})
	return e, err
}

func (m *memory) List(ctx context.Context, filter caddymodule.Filter, after string, limit int) (events []*caddymodule.Event, next string, err error) {
	err = m.do(ctx, func() error {
		for _, id := range slices.Sorted(maps.Keys(m.disk.events)) {
			e := m.disk.events[id].event()
			if id <= after || !filter.Match(e) && m.disk.fault != "lists any" {
				continue
			}
			if len(events) == limit {
				next = events[limit-1].ID
				if m.disk.fault == "skips when paging" {
					next = id
				}
				return nil
			}
			events = append(events, e)
		}
		return nil
	})
	return events, next, err
}

func (m *memory) Count(ctx context.Context) (counts []caddymodule.Count, err error) {
	err = m.do(ctx, func() error {
		events := make(map[caddymodule.Count]int)
		for _, r := range m.disk.events {
			c := caddymodule.Count{Merchant: r.Merchant, State: r.State}
			if m.disk.fault == "counts together" {
				c.Merchant = "shop"
			}
			events[c]++
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
var _ caddymodule.Outbox = (*memory)(nil)
