package outboxtest

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/windsome/caddy-wepay/caddymodule"
	"github.com/windsome/caddy-wepay/wepay"
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
		want := *l.Event
		s.settle(o, l)
		if err := o.Settle(s.ctx, l); !errors.Is(err, caddymodule.ErrLeaseLost) {
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

// What was settled for good is not given out any more, and a delivered event
// has no payload.
func checkSettled(s *stage) {
	o := s.open()
	for _, state := range []caddymodule.State{caddymodule.Delivered, caddymodule.Dead} {
		id := "evt_" + string(state)
		s.put(o, payment(payments, id))
		l := end(s.lease(o, payments, short), state)
		l.Event.Attempts, l.Event.Reason, l.Event.Refused = 2, "as it is", true
		want := *l.Event
		s.settle(o, l)
		if state == caddymodule.Delivered {
			want.Payload = nil
		}
		if err := o.Settle(s.ctx, l); !errors.Is(err, caddymodule.ErrLeaseLost) {
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
		s.settle(o, end(l, caddymodule.Delivered))
	}
}

// A dead event that is replayed starts anew, with what it was about.
func checkReplay(s *stage) {
	o := s.open()
	original := payment(payments, "evt_1")
	s.put(o, original)
	if err := o.Replay(s.ctx, "evt_1"); !errors.Is(err, caddymodule.ErrWrongState) {
		s.Errorf("Replay of one that waits: %v", err)
	}
	l := end(s.lease(o, payments, long), caddymodule.Dead)
	l.Event.Attempts, l.Event.Reason, l.Event.Refused = 30, "given up", true
	l.Event.Since = now().Add(-72 * time.Hour)
	s.settle(o, l)
	o = s.reopen()
	replayed := make(chan error, 1)
	before := now()
	go func() { replayed <- o.Replay(s.ctx, "evt_1") }()
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
	s.settle(o, end(l, caddymodule.Delivered))
	if err := o.Replay(s.ctx, "evt_1"); !errors.Is(err, caddymodule.ErrWrongState) {
		s.Errorf("Replay of one that is delivered: %v", err)
	}
	s.counts(o, map[caddymodule.State]int{caddymodule.Delivered: 1})
}

// What is dropped is remembered with the reason, has no payload, and neither
// comes back nor is given out.
func checkDrop(s *stage) {
	o := s.open()
	waiting, dead, delivered := payment(payments, "evt_waiting"), payment(payments, "evt_dead"), payment(payments, "evt_delivered")
	s.put(o, dead)
	s.settle(o, end(s.lease(o, payments, long), caddymodule.Dead))
	s.put(o, delivered)
	s.settle(o, end(s.lease(o, payments, long), caddymodule.Delivered))
	waiting.Due = now().Add(short)
	s.put(o, waiting)
	before := now()
	for _, id := range []string{waiting.ID, dead.ID} {
		if err := o.Drop(s.ctx, id, "paid back by hand"); err != nil {
			s.Fatalf("Drop of %s: %v", id, err)
		}
	}
	for _, id := range []string{waiting.ID, dead.ID, delivered.ID} {
		if err := o.Drop(s.ctx, id, "once more"); !errors.Is(err, caddymodule.ErrWrongState) {
			s.Errorf("Drop of %s once more: %v", id, err)
		}
		if err := o.Replay(s.ctx, id); !errors.Is(err, caddymodule.ErrWrongState) {
			s.Errorf("Replay of %s: %v", id, err)
		}
	}
	clock := payment(payments, "evt_clock")
	clock.Due = now().Add(2 * short)
	s.put(o, waiting, dead, clock)
	if e := s.lease(o, payments, long).Event; e.ID != clock.ID {
		s.Errorf("%s is given out after it was dropped", e.ID)
	}
	o = s.reopen()
	for _, id := range []string{waiting.ID, dead.ID} {
		e := s.get(o, id)
		if e.State != caddymodule.Dropped || e.Reason != "paid back by hand" || len(e.Payload) > 0 || e.Ended.Before(before) || !e.Due.IsZero() {
			s.Errorf("%s is %s %q, payload %q, ended %s, due %s", id, e.State, e.Reason, e.Payload, e.Ended, e.Due)
		}
	}
	s.counts(o, map[caddymodule.State]int{caddymodule.Waiting: 1, caddymodule.Delivered: 1, caddymodule.Dropped: 2})
}

// An event may be dropped while somebody holds it, who then has lost it.
func checkDropLeased(s *stage) {
	o := s.open()
	s.put(o, payment(payments, "evt_1"))
	l := s.lease(o, payments, long)
	if err := o.Drop(s.ctx, "evt_1", "a reason"); err != nil {
		s.Fatalf("Drop: %v", err)
	}
	if err := o.Settle(s.ctx, end(l, caddymodule.Delivered)); !errors.Is(err, caddymodule.ErrLeaseLost) {
		s.Errorf("Settle of what was dropped: %v", err)
	}
	if e := s.get(o, "evt_1"); e.State != caddymodule.Dropped {
		s.Errorf("it is %s", e.State)
	}
}

// All that a filter selects is listed, once and in the same order, whatever the
// pages' size.
func checkList(s *stage) {
	o := s.open()
	want := make(map[caddymodule.Filter][]string)
	note := func(id, merchant string, state caddymodule.State) {
		for _, f := range []caddymodule.Filter{{}, {Merchant: merchant}, {State: state}, {Merchant: merchant, State: state}} {
			want[f] = append(want[f], id)
		}
	}
	states := []caddymodule.State{caddymodule.Waiting, caddymodule.Delivered, caddymodule.Dead, caddymodule.Dropped}
	for i := range 240 {
		queue := caddymodule.Queue{Merchant: []string{"shop", "mini", "shop2"}[i%3], Kind: wepay.Payment}
		id, state := fmt.Sprintf("evt_%08x", uint32(i)*2654435761), states[i/3%4]
		e := payment(queue, id)
		if state == caddymodule.Waiting {
			e.Due = e.Due.Add(long)
		}
		s.put(o, e)
		switch state {
		case caddymodule.Delivered, caddymodule.Dead:
			s.settle(o, end(s.lease(o, queue, long), state))
		case caddymodule.Dropped:
			if err := o.Drop(s.ctx, id, "a reason"); err != nil {
				s.Fatalf("Drop: %v", err)
			}
		}
		note(id, queue.Merchant, state)
	}
	if _, _, err := o.List(s.ctx, caddymodule.Filter{}, "no page's end", 10); !errors.Is(err, caddymodule.ErrNoPage) {
		s.Errorf("List after what is no page's end: %v, want %v", err, caddymodule.ErrNoPage)
	}
	want[caddymodule.Filter{Merchant: "sho"}] = nil
	want[caddymodule.Filter{Merchant: "nobody", State: caddymodule.Waiting}] = nil
	for filter, ids := range want {
		slices.Sort(ids)
		var order []string
		for _, limit := range []int{7, 40, len(ids), 1000} {
			got := s.list(o, filter, limit)
			if order == nil {
				order = got
			}
			if !slices.Equal(got, order) {
				s.Errorf("%+v by %d: another order", filter, limit)
			}
			if got = slices.Sorted(slices.Values(got)); !slices.Equal(got, ids) {
				s.Errorf("%+v by %d: %d events, want %d", filter, limit, len(got), len(ids))
			}
		}
	}
	full := s.get(o, want[caddymodule.Filter{State: caddymodule.Dead}][0])
	events, _, err := o.List(s.ctx, caddymodule.Filter{State: caddymodule.Dead}, "", 1000)
	if err != nil {
		s.Fatalf("List: %v", err)
	}
	if i := slices.IndexFunc(events, func(e *caddymodule.Event) bool { return e.ID == full.ID }); i >= 0 {
		s.is(events[i], full)
	}
}

// list pages through the events that a filter selects and returns their IDs.
func (s *stage) list(o caddymodule.Outbox, filter caddymodule.Filter, limit int) []string {
	s.Helper()
	var ids []string
	limit = max(limit, 1)
	for after := ""; ; {
		events, next, err := o.List(s.ctx, filter, after, limit)
		if err != nil || len(events) > limit || len(events) == 0 && after != "" {
			s.Fatalf("List of %+v after %q: %d events of at most %d (%v)", filter, after, len(events), limit, err)
		}
		for _, e := range events {
			if !filter.Match(e) {
				s.Errorf("List of %+v: %s of %s is %s", filter, e.ID, e.Merchant, e.State)
			}
			ids = append(ids, e.ID)
		}
		if next == "" {
			return ids
		}
		after = next
	}
}

// What is counted is what there is, for each merchant and state by itself.
func checkCount(s *stage) {
	o := s.open()
	s.counts(o, map[caddymodule.State]int{})
	mini := caddymodule.Queue{Merchant: "mini", Kind: wepay.Refunded}
	s.putMany(o, payments, 12)
	s.putMany(o, mini, 3)
	for i, l := range s.leaseAll(o, payments, 12)[:9] {
		state := []caddymodule.State{caddymodule.Delivered, caddymodule.Dead, caddymodule.Dead}[i%3]
		s.settle(o, end(l, state))
		if i%3 == 1 {
			if err := o.Replay(s.ctx, l.Event.ID); err != nil {
				s.Fatalf("Replay: %v", err)
			}
		}
		if i == 2 {
			if err := o.Drop(s.ctx, l.Event.ID, "a reason"); err != nil {
				s.Fatalf("Drop: %v", err)
			}
		}
	}
	for range 2 {
		got := make(map[caddymodule.Count]bool)
		counts, err := o.Count(s.ctx)
		if err != nil {
			s.Fatalf("Count: %v", err)
		}
		for _, c := range counts {
			got[c] = true
		}
		want := map[caddymodule.Count]bool{
			{Merchant: "shop", State: caddymodule.Waiting, Events: 6}:   true,
			{Merchant: "shop", State: caddymodule.Delivered, Events: 3}: true,
			{Merchant: "shop", State: caddymodule.Dead, Events: 2}:      true,
			{Merchant: "shop", State: caddymodule.Dropped, Events: 1}:   true,
			{Merchant: "mini", State: caddymodule.Waiting, Events: 3}:   true,
		}
		if len(counts) != len(want) || !maps.Equal(got, want) {
			s.Errorf("counted: %v", counts)
		}
		o = s.reopen()
	}
}

// counts checks how many events there are, of all merchants together.
func (s *stage) counts(o caddymodule.Outbox, want map[caddymodule.State]int) {
	s.Helper()
	counts, err := o.Count(s.ctx)
	if err != nil {
		s.Fatalf("Count: %v", err)
	}
	got := make(map[caddymodule.State]int)
	for _, c := range counts {
		got[c.State] += c.Events
		if c.Events == 0 {
			s.Errorf("a count of none: %+v", c)
		}
	}
	if !maps.Equal(got, want) {
		s.Errorf("counted: %v, want %v", got, want)
	}
}

// Many put, lease and settle at once through two instances: each event is
// delivered, and once.
func checkManyAtOnce(s *stage) {
	instances := []caddymodule.Outbox{s.open(), s.open()}
	const writers, each = 8, 20
	var callers sync.WaitGroup
	for w := range writers {
		callers.Go(func() {
			for i := range each {
				if err := instances[w%2].Put(s.ctx, payment(payments, fmt.Sprintf("evt_%d_%d", w, i))); err != nil {
					s.Errorf("Put: %v", err)
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
					if err := o.Settle(s.ctx, end(l, caddymodule.Delivered)); err != nil {
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
	s.counts(instances[0], map[caddymodule.State]int{caddymodule.Delivered: writers * each})
}
