package storetest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/windsome/caddy-wepay/caddymodule/store"
	"github.com/windsome/caddy-wepay/wepay"
)

// Those that were due first come first.
func checkOrder(s *stage) {
	o := s.open()
	want := s.putMany(o, payments, 20)
	var got []string
	for len(got) < len(want) {
		leases, err := o.Lease(s.ctx, payments, 3, long)
		if err != nil {
			s.Fatalf("Lease: %v", err)
		}
		for _, l := range leases {
			got = append(got, l.Event.ID)
		}
	}
	if !slices.Equal(got, want) {
		s.Errorf("given out as %q, want %q", got, want)
	}
}

// An event is given out when it is due and not before, whenever it was put.
func checkDue(s *stage) {
	o := s.open()
	base := now()
	for _, wait := range []time.Duration{3 * short, short, 2 * short} {
		e := payment(payments, "evt_"+wait.String())
		e.Due = base.Add(wait)
		s.put(o, e)
	}
	for i := range 3 {
		e := s.lease(o, payments, long).Event
		if time.Now().Before(e.Due) {
			s.Errorf("%s is given out %s before its time", e.ID, time.Until(e.Due))
		}
		if want := base.Add(time.Duration(i+1) * short); !e.Due.Equal(want) {
			s.Errorf("event %d is %s", i+1, e.ID)
		}
	}
}

// An event that is due further ahead than any may be is due now: when it was put
// the clock was wrong. It does not come before what was due already.
func checkDueTooFar(s *stage) {
	s.options.LongestWait = long
	o := s.open()
	for _, e := range []struct {
		id  string
		due time.Duration
	}{{"evt_far", 400 * 24 * time.Hour}, {"evt_later", long - time.Minute}, {"evt_now", 0}} {
		event := payment(payments, e.id)
		event.Due = event.Due.Add(e.due)
		s.put(o, event)
	}
	for _, want := range []string{"evt_now", "evt_far"} {
		l := s.lease(o, payments, long)
		if l.Event.ID != want {
			s.Errorf("%s is given out, want %s", l.Event.ID, want)
		}
		s.settle(o, end(l, store.Delivered))
	}
	if leases, err := s.leaseFor(o, short); !errors.Is(err, context.DeadlineExceeded) {
		s.Errorf("Lease of what is due in an hour: %d events (%v)", len(leases), err)
	}
}

// A lease is of no more events than were asked for.
func checkLimit(s *stage) {
	o := s.open()
	want := s.putMany(o, payments, 10)
	for len(want) > 0 {
		leases, err := o.Lease(s.ctx, payments, 4, long)
		if err != nil || len(leases) == 0 || len(leases) > 4 {
			s.Fatalf("Lease of at most 4: %d (%v)", len(leases), err)
		}
		for _, l := range leases {
			i := slices.Index(want, l.Event.ID)
			if i < 0 {
				s.Fatalf("%s is given out twice", l.Event.ID)
			}
			want = slices.Delete(want, i, i+1)
		}
	}
}

// A Lease that waits gets what is put, through whichever instance; each of
// several gets something else.
func checkPutWakes(s *stage) {
	instances := []store.Store{s.open(), s.open()}
	const n = 4
	got := make(chan string, n)
	for i := range n {
		go func() {
			leases, err := instances[i%2].Lease(s.ctx, payments, 1, long)
			if err != nil || len(leases) != 1 {
				got <- fmt.Sprintf("%d events (%v)", len(leases), err)
				return
			}
			got <- leases[0].Event.ID
		}()
	}
	<-time.After(short) // so that they wait
	var ids, want []string
	for i := range n {
		id := fmt.Sprintf("evt_%d", i)
		s.put(instances[i/2], payment(payments, id))
		ids, want = append(ids, <-got), append(want, id)
	}
	slices.Sort(ids)
	if !slices.Equal(ids, want) {
		s.Errorf("given out: %q, want %q", ids, want)
	}
}

// A Lease that waits ends when its instance is closed, also when another stays
// open.
func checkCloseWakes(s *stage) {
	closing, staying := s.open(), s.open()
	got := make(chan error, 1)
	go func() {
		_, err := closing.Lease(s.ctx, payments, 1, long)
		got <- err
	}()
	<-time.After(short) // so that it waits
	if err := closing.Close(); err != nil {
		s.Errorf("Close: %v", err)
	}
	if err := <-got; !errors.Is(err, store.ErrClosed) {
		s.Errorf("Lease: %v, want %v", err, store.ErrClosed)
	}
	if _, err := closing.Lease(s.ctx, payments, 1, long); !errors.Is(err, store.ErrClosed) {
		s.Errorf("Lease after Close: %v, want %v", err, store.ErrClosed)
	}
	s.put(staying, payment(payments, "evt_1"))
	s.lease(staying, payments, long)
}

// What stands, is leased or is not due in one queue holds up no other.
func checkQueues(s *stage) {
	o := s.open()
	s.putMany(o, payments, 50)
	later := payment(payments, "evt_later")
	later.Due = later.Due.Add(long)
	s.put(o, later)
	s.leaseAll(o, payments, 25)
	for _, queue := range []store.Queue{{Merchant: "shop", Kind: wepay.Refunded}, {Merchant: "mini", Kind: wepay.Payment}} {
		ctx, cancel := context.WithTimeout(s.ctx, short)
		if leases, err := o.Lease(ctx, queue, 1, long); !errors.Is(err, context.DeadlineExceeded) {
			s.Errorf("Lease of %v: %d events (%v)", queue, len(leases), err)
		}
		cancel()
		e := payment(queue, "evt_"+queue.Merchant)
		s.put(o, e)
		s.is(s.lease(o, queue, long).Event, e)
	}
	for _, l := range s.leaseAll(o, payments, 25) {
		if l.Event.Queue() != payments {
			s.Errorf("%s of %v is given out", l.Event.ID, l.Event.Queue())
		}
	}
}

// A merchant's name is any text, and compared byte by byte.
func checkNames(s *stage) {
	o := s.open()
	names := []string{"shop", "Shop", "shop.payment", "shop/payment", "店铺", "a b", "*", ">", "shop.>", "$", "%2E", "_", "-", "shop ", "SHOP", "shôp", "a\tb\"c\\"}
	for i, name := range names {
		s.put(o, payment(store.Queue{Merchant: name, Kind: wepay.Payment}, fmt.Sprintf("evt_%d", i)))
	}
	o = s.reopen()
	for i, name := range names {
		queue := store.Queue{Merchant: name, Kind: wepay.Payment}
		l := s.lease(o, queue, long)
		if l.Event.ID != fmt.Sprintf("evt_%d", i) || l.Event.Queue() != queue {
			s.Errorf("merchant %q: %s of %v", name, l.Event.ID, l.Event.Queue())
		}
		s.settle(o, end(l, store.Delivered))
		if ids := s.list(o, store.Filter{Merchant: name}, 10); len(ids) != 1 {
			s.Errorf("merchant %q has %q", name, ids)
		}
	}
	counts, err := o.Count(s.ctx)
	if err != nil || len(counts) != len(names) {
		s.Errorf("%d counts (%v), want %d: %v", len(counts), err, len(names), counts)
	}
}

// While a lease lasts no other gets its event, however many ask.
func checkLeasedOnce(s *stage) {
	instances := []store.Store{s.open(), s.open()}
	const n = 60
	s.putMany(instances[0], payments, n)
	var callers sync.WaitGroup
	got := make(chan string, 10*n)
	ctx, cancel := context.WithCancel(s.ctx)
	defer cancel()
	for i := range 6 {
		callers.Go(func() {
			for {
				leases, err := instances[i%2].Lease(ctx, payments, 4, long)
				if err != nil {
					return
				}
				for _, l := range leases {
					got <- l.Event.ID
				}
			}
		})
	}
	seen := make(map[string]bool)
	for range n {
		select {
		case id := <-got:
			if seen[id] {
				s.Errorf("%s is given out twice", id)
			}
			seen[id] = true
		case <-s.ctx.Done():
			s.Errorf("%d events are given out, want %d", len(seen), n)
			return
		}
	}
	if leases, err := s.leaseFor(instances[1], short); !errors.Is(err, context.DeadlineExceeded) {
		s.Errorf("Lease when all are leased: %d (%v)", len(leases), err)
	}
	cancel()
	callers.Wait()
	if len(got) > 0 {
		s.Errorf("%s is given out once more", <-got)
	}
}

func (s *stage) leaseFor(o store.Store, wait time.Duration) ([]*store.Lease, error) {
	ctx, cancel := context.WithTimeout(s.ctx, wait)
	defer cancel()
	return o.Lease(ctx, payments, 10, long)
}

// A lease that has run out gives its event to the next, and is lost by then.
func checkRunsOut(s *stage) {
	first, second := s.open(), s.open()
	s.put(first, payment(payments, "evt_1"))
	began := time.Now()
	lost := s.lease(first, payments, short)
	held := s.lease(second, payments, long)
	if waited := time.Since(began); waited < short {
		s.Errorf("the lease ran out after %s of %s", waited, short)
	}
	lost.Event.Reason = "lost"
	if err := first.Settle(s.ctx, end(lost, store.Dead)); !errors.Is(err, store.ErrLeaseLost) {
		s.Errorf("Settle of the lease that is lost: %v", err)
	}
	s.counts(first, map[store.State]int{store.Waiting: 1})
	s.settle(second, end(held, store.Delivered))
	if err := first.Settle(s.ctx, lost); !errors.Is(err, store.ErrLeaseLost) {
		s.Errorf("Settle of the lease that is lost, afterwards: %v", err)
	}
	if e := s.get(first, "evt_1"); e.State != store.Delivered || e.Reason != "" {
		s.Errorf("the event is %s %q", e.State, e.Reason)
	}
}

// A lease that has run out is good as long as no other has taken the event.
func checkSettledLate(s *stage) {
	o := s.open()
	s.put(o, payment(payments, "evt_1"))
	late := s.lease(o, payments, short)
	clock := payment(store.Queue{Merchant: "clock", Kind: wepay.Payment}, "evt_clock")
	clock.Due = now().Add(2 * short)
	s.put(o, clock)
	s.lease(o, clock.Queue(), long)
	s.settle(o, end(late, store.Delivered))
	s.put(o, payment(payments, "evt_2"))
	if e := s.lease(o, payments, long).Event; e.ID != "evt_2" {
		s.Errorf("%s is given out after it was settled", e.ID)
	}
}

// Closing an instance gives its leases back, to another or to the next.
func checkLeasesEnd(s *stage) {
	closing, staying := s.open(), s.open()
	s.put(closing, payment(payments, "evt_1"))
	s.lease(closing, payments, long)
	if err := closing.Close(); err != nil {
		s.Errorf("Close: %v", err)
	}
	s.lease(staying, payments, long)
	s.lease(s.reopen(), payments, long)
}
