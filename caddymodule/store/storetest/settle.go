package storetest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/windsome/caddy-wepay/caddymodule/store"
)

// An event that is to be tried again waits until its new time, with all that
// its holder wrote down.
func checkTryAgain(s *stage) {
	o := s.open()
	s.put(o, payment(payments, "evt_1"))
	l := s.lease(o, payments, long)
	for attempt := 1; attempt <= 3; attempt++ {
		l.Event.Due = now().Add(short)
		l.Event.Attempts, l.Event.Reason, l.Event.Refused = attempt, fmt.Sprintf("attempt %d failed", attempt), attempt == 2
		l.Event.Answer = fmt.Sprintf(`{"errcode":%d}`, attempt)
		want := *l.Event
		s.settle(o, l)
		if err := o.Settle(s.ctx, l); !errors.Is(err, store.ErrLeaseLost) {
			s.Errorf("Settle once more: %v", err)
		}
		s.is(s.get(o, "evt_1"), &want)
		if attempt == 2 {
			o = s.reopen()
			s.is(s.get(o, "evt_1"), &want)
		}
		l = s.lease(o, payments, long)
		if time.Now().Before(want.Due) {
			s.Errorf("it is given out %s before its time", time.Until(want.Due))
		}
		s.is(l.Event, &want)
	}
}

// What was settled for good is not given out any more, and keeps its payload.
func checkSettled(s *stage) {
	o := s.open()
	for _, state := range []store.State{store.Delivered, store.Dead} {
		id := "evt_" + string(state)
		s.put(o, payment(payments, id))
		l := end(s.lease(o, payments, short), state)
		l.Event.Attempts, l.Event.Reason, l.Event.Refused = 2, "as it is", true
		want := *l.Event
		s.settle(o, l)
		if err := o.Settle(s.ctx, l); !errors.Is(err, store.ErrLeaseLost) {
			s.Errorf("Settle once more: %v", err)
		}
		s.is(s.get(o, id), &want)
		clock := payment(payments, "evt_clock_"+string(state))
		clock.Due = now().Add(2 * short)
		s.put(o, clock)
		if e := s.lease(o, payments, long).Event; e.ID != clock.ID {
			s.Errorf("%s is given out after it was settled", e.ID)
		}
		o = s.reopen()
		s.is(s.get(o, id), &want)
		l = s.lease(o, payments, long)
		if l.Event.ID != clock.ID {
			s.Errorf("%s is given out after the store was opened again", l.Event.ID)
		}
		s.settle(o, end(l, store.Delivered))
	}
}

// What the order service answered may be anything.
func checkText(s *stage) {
	o := s.open()
	s.put(o, payment(payments, "evt_1"))
	l := end(s.lease(o, payments, long), store.Dead)
	l.Event.Reason, l.Event.Answer = "half a rune: \xe8\x8c", "\x00\xff<html>\x1b[31m'\"\\\u2028😀"
	want := *l.Event
	s.settle(o, l)
	want.Reason, want.Answer = store.Text(want.Reason), store.Text(want.Answer)
	s.is(s.get(o, "evt_1"), &want)
	if err := o.Drop(s.ctx, "evt_1", "\x00\xff"); err != nil {
		s.Errorf("Drop: %v", err)
	}
	if e := s.get(o, "evt_1"); e.Reason != store.Text("\x00\xff") {
		s.Errorf("the reason is %q", e.Reason)
	}
}

// What has ended, however it did, starts anew when it is replayed, with what it
// was about.
func checkReplay(s *stage) {
	o := s.open()
	original := payment(payments, "evt_1")
	s.put(o, original)
	for _, state := range []store.State{store.Dead, store.Dropped, store.Delivered} {
		l := end(s.lease(o, payments, long), state)
		l.Event.Attempts, l.Event.Reason, l.Event.Refused, l.Event.Answer = 30, "given up", true, "no"
		l.Event.Since = now().Add(-72 * time.Hour)
		s.settle(o, l)
		o = s.reopen()
		replayed := make(chan error, 1)
		before := now()
		go func() {
			was, err := o.Replay(s.ctx, "evt_1")
			if was != state {
				err = errors.Join(err, fmt.Errorf("it was %q, want %q", was, state))
			}
			replayed <- err
		}()
		l = s.lease(o, payments, long)
		if err := <-replayed; err != nil {
			s.Fatalf("Replay: %v", err)
		}
		want := *original
		want.Due, want.Since = l.Event.Due, l.Event.Since
		s.is(l.Event, &want)
		if l.Event.Due.Before(before) || l.Event.Since.Before(before) || time.Now().Before(l.Event.Due) {
			s.Errorf("it is due %s and tried since %s, replayed %s", l.Event.Due, l.Event.Since, before)
		}
		l.Event.Due = now()
		s.settle(o, l)
	}
	s.counts(o, map[store.State]int{store.Waiting: 1})
}

// For an event that waits a replay means now; one that is leased is its
// holder's.
func checkReplayWaiting(s *stage) {
	o := s.open()
	e := payment(payments, "evt_1")
	e.Due, e.Attempts, e.Reason = e.Due.Add(long), 7, "HTTP status 503"
	s.put(o, e)
	replay := func() {
		if was, err := o.Replay(s.ctx, "evt_1"); err != nil || was != store.Waiting {
			s.Errorf("Replay: it was %q (%v)", was, err)
		}
	}
	replay()
	l := s.lease(o, payments, long)
	if l.Event.Attempts != 0 || l.Event.Reason != "" || time.Now().Before(l.Event.Due) {
		s.Errorf("it was tried %d times (%q) and is due %s", l.Event.Attempts, l.Event.Reason, l.Event.Due)
	}
	replay()
	if leases, err := s.leaseFor(o, short); !errors.Is(err, context.DeadlineExceeded) {
		s.Errorf("Lease of what is leased and replayed: %d events (%v)", len(leases), err)
	}
	s.settle(o, end(l, store.Delivered))
	s.counts(o, map[store.State]int{store.Delivered: 1})
}

// What is dropped keeps its payload and the reason, and neither comes back nor is
// given out; a replay undoes it.
func checkDrop(s *stage) {
	o := s.open()
	waiting, dead, delivered := payment(payments, "evt_waiting"), payment(payments, "evt_dead"), payment(payments, "evt_delivered")
	s.put(o, dead)
	s.settle(o, end(s.lease(o, payments, long), store.Dead))
	s.put(o, delivered)
	s.settle(o, end(s.lease(o, payments, long), store.Delivered))
	waiting.Due = now().Add(short)
	s.put(o, waiting)
	before := now()
	for _, id := range []string{waiting.ID, dead.ID} {
		if err := o.Drop(s.ctx, id, "paid back by hand"); err != nil {
			s.Fatalf("Drop of %s: %v", id, err)
		}
	}
	for _, id := range []string{waiting.ID, dead.ID, delivered.ID} {
		if err := o.Drop(s.ctx, id, "once more"); !errors.Is(err, store.ErrWrongState) {
			s.Errorf("Drop of %s once more: %v", id, err)
		}
	}
	clock := payment(payments, "evt_clock")
	clock.Due = now().Add(2 * short)
	s.put(o, clock)
	for _, e := range []*store.Event{waiting, dead} {
		if added, err := o.Put(s.ctx, e); err != nil || added {
			s.Errorf("Put of %s again: added is %v (%v)", e.ID, added, err)
		}
	}
	if e := s.lease(o, payments, long).Event; e.ID != clock.ID {
		s.Errorf("%s is given out after it was dropped", e.ID)
	}
	o = s.reopen()
	for _, want := range []*store.Event{waiting, dead} {
		e := s.get(o, want.ID)
		if e.State != store.Dropped || e.Reason != "paid back by hand" || !bytes.Equal(e.Payload, want.Payload) || e.Ended.Before(before) || !e.Due.IsZero() {
			s.Errorf("%s is %s %q, payload %q, ended %s, due %s", e.ID, e.State, e.Reason, e.Payload, e.Ended, e.Due)
		}
	}
	s.counts(o, map[store.State]int{store.Waiting: 1, store.Delivered: 1, store.Dropped: 2})
	s.settle(o, end(s.lease(o, payments, long), store.Delivered))
	if was, err := o.Replay(s.ctx, dead.ID); err != nil || was != store.Dropped {
		s.Errorf("Replay of what is dropped: it was %q (%v)", was, err)
	}
	if e := s.lease(o, payments, long).Event; e.ID != dead.ID || !bytes.Equal(e.Payload, dead.Payload) {
		s.Errorf("%s is given out, payload %q", e.ID, e.Payload)
	}
}

// An event may be dropped while it is leased, and the lease is lost then.
func checkDropLeased(s *stage) {
	o := s.open()
	s.put(o, payment(payments, "evt_1"))
	l := s.lease(o, payments, long)
	if err := o.Drop(s.ctx, "evt_1", "a reason"); err != nil {
		s.Fatalf("Drop: %v", err)
	}
	if err := o.Settle(s.ctx, end(l, store.Delivered)); !errors.Is(err, store.ErrLeaseLost) {
		s.Errorf("Settle of what was dropped: %v", err)
	}
	if e := s.get(o, "evt_1"); e.State != store.Dropped {
		s.Errorf("it is %s", e.State)
	}
}

// Many put, lease and settle at once through two instances: each event is
// delivered, and once.
func checkManyAtOnce(s *stage) {
	instances := []store.Store{s.open(), s.open()}
	const writers, each = 8, 20
	var callers sync.WaitGroup
	for w := range writers {
		callers.Go(func() {
			for i := range each {
				if added, err := instances[w%2].Put(s.ctx, payment(payments, fmt.Sprintf("evt_%d_%d", w, i))); err != nil || !added {
					s.Errorf("Put: added is %v (%v)", added, err)
				}
			}
		})
	}
	delivered := make(map[string]int)
	var mu sync.Mutex
	left := writers * each
	for d := range 4 {
		o := instances[d%2]
		callers.Go(func() {
			for {
				mu.Lock()
				limit := min(left, 5)
				left -= limit
				mu.Unlock()
				if limit == 0 {
					return
				}
				leases, err := o.Lease(s.ctx, payments, limit, long)
				if err != nil {
					s.Errorf("Lease: %v", err)
					return
				}
				for _, l := range leases {
					if err := o.Settle(s.ctx, end(l, store.Delivered)); err != nil {
						s.Errorf("Settle: %v", err)
					}
				}
				mu.Lock()
				left += limit - len(leases)
				for _, l := range leases {
					delivered[l.Event.ID]++
				}
				mu.Unlock()
			}
		})
	}
	callers.Wait()
	for id, n := range delivered {
		if n != 1 {
			s.Errorf("%s is delivered %d times", id, n)
		}
	}
	s.counts(instances[0], map[store.State]int{store.Delivered: writers * each})
}
