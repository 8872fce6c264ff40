package storetest

import (
	"context"
	"errors"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/windsome/caddy-wepay/caddymodule/store"
	"github.com/windsome/caddy-wepay/wepay"
)

// A store that is not open, not yet or no longer, says so.
func checkClosed(s *stage) {
	o := s.instance()
	s.refuses(o, s.ctx, store.ErrClosed)
	if err := o.Close(); err != nil {
		s.Errorf("Close before Open: %v", err)
	}
	s.refuses(o, s.ctx, store.ErrClosed)
	o = s.open()
	s.put(o, payment(payments, "evt_1"))
	for range 2 {
		if err := o.Close(); err != nil {
			s.Errorf("Close: %v", err)
		}
	}
	s.refuses(o, s.ctx, store.ErrClosed)
}

// A context that has ended ends every call, and nothing is done.
func checkContext(s *stage) {
	o := s.open()
	ended, cancel := context.WithCancel(s.ctx)
	cancel()
	s.refuses(o, ended, context.Canceled)
	if _, err := o.Get(s.ctx, "evt_refused"); !errors.Is(err, store.ErrNoEvent) {
		s.Errorf("what was put with a context that had ended: %v", err)
	}
	if n := len(s.orders(o, store.Ordered, "evt_refused")); n != 0 {
		s.Errorf("%d orders were set with a context that had ended", n)
	}
	ctx, cancel := context.WithTimeout(s.ctx, short)
	defer cancel()
	if leases, err := o.Lease(ctx, payments, 1, long); !errors.Is(err, context.DeadlineExceeded) {
		s.Errorf("Lease of an empty queue: %d events (%v)", len(leases), err)
	}
	s.put(o, payment(payments, "evt_1"))
	s.lease(o, payments, long)
}

// refuses checks that every call ends with an error.
func (s *stage) refuses(o store.Store, ctx context.Context, want error) {
	s.Helper()
	e := payment(payments, "evt_refused")
	for _, call := range []struct {
		name string
		call func() error
	}{
		{"Put", func() error { _, err := o.Put(ctx, e); return err }},
		{"Lease", func() error { _, err := o.Lease(ctx, payments, 1, long); return err }},
		{"Get", func() error { _, err := o.Get(ctx, e.ID); return err }},
		{"List", func() error { _, _, err := o.List(ctx, store.Filter{}, "", 1); return err }},
		{"Count", func() error { _, err := o.Count(ctx); return err }},
		{"Replay", func() error { _, err := o.Replay(ctx, e.ID); return err }},
		{"Drop", func() error { return o.Drop(ctx, e.ID, "a reason") }},
		{"Transact", func() error {
			return o.Transact(ctx, func(tx store.Tx) error { return tx.SetOrder(order("shop", "evt_refused")) })
		}},
		{"FirstDue", func() error { _, err := o.FirstDue(ctx); return err }},
		{"Claim", func() error { _, err := o.Claim(ctx, "shop", 1, long); return err }},
		{"ListOrders", func() error { _, _, err := o.ListOrders(ctx, store.OrderFilter{}, "", 1); return err }},
		{"CountOrders", func() error { _, err := o.CountOrders(ctx); return err }},
		{"Match", func() error { _, _, err := o.Match(ctx, store.Ordered, []string{"A"}); return err }},
		{"Occurred", func() error { return o.Occurred(ctx, payments, now(), now(), func(*store.Event) error { return nil }) }},
	} {
		if err := call.call(); !errors.Is(err, want) {
			s.Errorf("%s: %v, want %v", call.name, err, want)
		}
	}
}

// What was put is there when the store is opened again, every field of it.
func checkDurable(s *stage) {
	o := s.open()
	full := payment(store.Queue{Merchant: "shop", Kind: wepay.Refunded}, "evt_full")
	full.After = "evt_payment"
	full.Source, full.Occurred = store.SourceBill, full.Received.Add(-time.Hour)
	full.Trace.Add("Tracestate", "a=1")
	full.Trace.Add("Tracestate", "b=2")
	full.Due = full.Due.Add(time.Hour)
	full.Attempts, full.Reason, full.Refused, full.Answer = 3, "HTTP status 503", true, "<h1>暂停服务</h1>"
	full.OutRefundNo, full.Amount, full.Currency = "refund_1", 1<<60, "USD"
	plain := payment(payments, "evt_plain")
	plain.Trace, plain.EventType, plain.OutTradeNo, plain.TransactionID, plain.Amount, plain.Currency = nil, "", "", "", 0, ""
	large := payment(payments, "evt_large")
	large.Payload = []byte(`{"attach":"` + strings.Repeat("茶", 20_000) + `"}`)
	want := []*store.Event{full, plain, large}
	s.put(o, want...)
	for range 2 {
		for _, e := range want {
			s.is(s.get(o, e.ID), e)
		}
		o = s.reopen()
	}
	for range 2 {
		e := s.lease(o, payments, long).Event
		if e.ID == plain.ID {
			s.is(e, plain)
		} else {
			s.is(e, large)
		}
	}
}

// What a caller gave or got is the caller's own: changing it changes nothing in
// the store.
func checkCopies(s *stage) {
	o := s.open()
	given := payment(payments, "evt_1")
	s.put(o, given)
	spoil := func(e *store.Event) {
		e.Reason, e.Attempts = "changed", 9
		e.Payload[0] = 'x'
		e.Trace.Set("Traceparent", "changed")
	}
	spoil(given)
	want := s.get(o, "evt_1")
	spoil(s.get(o, "evt_1"))
	spoil(s.lease(o, payments, long).Event)
	events, _, err := o.List(s.ctx, store.Filter{}, "", 10)
	if err != nil || len(events) != 1 {
		s.Fatalf("List: %d events (%v)", len(events), err)
	}
	spoil(events[0])
	got := s.get(o, "evt_1")
	s.is(got, want)
	if got.Reason != "" || got.Payload[0] != '{' {
		s.Errorf("what was put has changed: %s %q", got.Payload, got.Reason)
	}
}

// An event that is put again is left as it is, whatever has become of it.
func checkKnown(s *stage) {
	o := s.open()
	ids := []string{"evt_delivered", "evt_dead", "evt_dropped", "evt_leased", "evt_waiting"}
	for _, id := range ids {
		s.put(o, payment(payments, id))
		switch id {
		case "evt_delivered":
			s.settle(o, end(s.lease(o, payments, long), store.Delivered))
		case "evt_dead":
			s.settle(o, end(s.lease(o, payments, long), store.Dead))
		case "evt_dropped":
			if err := o.Drop(s.ctx, id, "a reason"); err != nil {
				s.Fatalf("Drop: %v", err)
			}
		case "evt_leased":
			s.lease(o, payments, long)
		}
	}
	again := func() {
		for _, id := range ids {
			want := s.get(o, id)
			e := payment(payments, id)
			e.Attempts, e.Reason = 7, "another"
			if added, err := o.Put(s.ctx, e); err != nil || added {
				s.Errorf("Put of %s again: added is %v (%v)", id, added, err)
			}
			s.is(s.get(o, id), want)
		}
	}
	again()
	if e := s.lease(o, payments, long).Event; e.ID != "evt_waiting" {
		s.Errorf("%s is given out", e.ID)
	}
	o = s.reopen()
	again()
	s.counts(o, map[store.State]int{
		store.Waiting: 2, store.Delivered: 1, store.Dead: 1, store.Dropped: 1,
	})
}

// The same event put by many at once, through two instances, is one.
func checkSameAtOnce(s *stage) {
	instances := []store.Store{s.open(), s.open()}
	var callers sync.WaitGroup
	var added atomic.Int32
	for i := range 30 {
		callers.Go(func() {
			first, err := instances[i%2].Put(s.ctx, payment(payments, "evt_1"))
			if err != nil {
				s.Errorf("Put: %v", err)
			}
			if first {
				added.Add(1)
			}
		})
	}
	callers.Wait()
	if n := added.Load(); n != 1 {
		s.Errorf("%d of them are told that they added it, want 1", n)
	}
	for _, o := range instances {
		s.counts(o, map[store.State]int{store.Waiting: 1})
	}
	s.settle(instances[0], end(s.lease(instances[0], payments, long), store.Delivered))
	if added, err := instances[1].Put(s.ctx, payment(payments, "evt_1")); err != nil || added {
		s.Errorf("Put of what is delivered: added is %v (%v)", added, err)
	}
	s.put(instances[1], payment(payments, "evt_2"))
	if e := s.lease(instances[1], payments, long).Event; e.ID != "evt_2" {
		s.Errorf("%s is given out once more", e.ID)
	}
}

// An ID that the store does not know, whatever it looks like.
func checkUnknown(s *stage) {
	o := s.open()
	s.put(o, payment(payments, "evt_1"))
	for _, id := range []string{"", "evt_", "evt_2", "evt_1.", "EVT_1", "*", ">", "evt.*", "../evt_1", " evt_1", "茶", "\x00", strings.Repeat("x", 5000)} {
		_, err := o.Get(s.ctx, id)
		if !errors.Is(err, store.ErrNoEvent) {
			s.Errorf("Get of %.20q: %v", id, err)
		}
		if _, err := o.Replay(s.ctx, id); !errors.Is(err, store.ErrNoEvent) {
			s.Errorf("Replay of %.20q: %v", id, err)
		}
		if err := o.Drop(s.ctx, id, "a reason"); !errors.Is(err, store.ErrNoEvent) {
			s.Errorf("Drop of %.20q: %v", id, err)
		}
	}
	s.counts(o, map[store.State]int{store.Waiting: 1})
}
