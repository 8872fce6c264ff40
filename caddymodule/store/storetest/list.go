package storetest

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/windsome/caddy-wepay/caddymodule/store"
	"github.com/windsome/caddy-wepay/wepay"
)

// All that a filter selects is listed, once and the latest received first,
// whatever the pages' size.
func checkList(s *stage) {
	o := s.open()
	base := now().Add(-time.Hour)
	received := make(map[string]time.Time)
	want := make(map[store.Filter][]string)
	note := func(id, merchant string, state store.State) {
		for _, f := range []store.Filter{{}, {Merchant: merchant}, {State: state}, {Merchant: merchant, State: state}} {
			want[f] = append(want[f], id)
		}
	}
	states := []store.State{store.Waiting, store.Delivered, store.Dead, store.Dropped}
	for i := range 240 {
		queue := store.Queue{Merchant: []string{"shop", "mini", "shop2"}[i%3], Kind: wepay.Payment}
		id, state := fmt.Sprintf("evt_%08x", uint32(i)*2654435761), states[i/3%4]
		e := payment(queue, id)
		e.Received = base.Add(time.Duration(i*77%240) * time.Second)
		if state == store.Waiting {
			e.Due = e.Due.Add(long)
		}
		s.put(o, e)
		received[id] = e.Received
		switch state {
		case store.Delivered, store.Dead:
			s.settle(o, end(s.lease(o, queue, long), state))
		case store.Dropped:
			if err := o.Drop(s.ctx, id, "a reason"); err != nil {
				s.Fatalf("Drop: %v", err)
			}
		}
		note(id, queue.Merchant, state)
	}
	if _, _, err := o.List(s.ctx, store.Filter{}, "no page's end", 10); !errors.Is(err, store.ErrNoPage) {
		s.Errorf("List after what is no page's end: %v, want %v", err, store.ErrNoPage)
	}
	want[store.Filter{Merchant: "sho"}] = nil
	want[store.Filter{Merchant: "nobody", State: store.Waiting}] = nil
	for filter, ids := range want {
		slices.SortFunc(ids, func(a, b string) int { return received[b].Compare(received[a]) })
		for _, limit := range []int{7, 40, len(ids), 1000} {
			if got := s.list(o, filter, limit); !slices.Equal(got, ids) {
				s.Errorf("%+v by %d: %d events, want %d, or another order", filter, limit, len(got), len(ids))
			}
		}
	}
	full := s.get(o, want[store.Filter{State: store.Dead}][0])
	events, _, err := o.List(s.ctx, store.Filter{State: store.Dead}, "", 1000)
	if err != nil {
		s.Fatalf("List: %v", err)
	}
	if i := slices.IndexFunc(events, func(e *store.Event) bool { return e.ID == full.ID }); i >= 0 {
		s.is(events[i], full)
	}
}

// list pages through the events that a filter selects and returns their IDs.
func (s *stage) list(o store.Store, filter store.Filter, limit int) []string {
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
	s.counts(o, map[store.State]int{})
	o = s.reopen() // a count that took long may be remembered
	mini := store.Queue{Merchant: "mini", Kind: wepay.Refunded}
	s.putMany(o, payments, 12)
	s.putMany(o, mini, 3)
	for i, l := range s.leaseAll(o, payments, 12)[:9] {
		state := []store.State{store.Delivered, store.Dead, store.Dead}[i%3]
		s.settle(o, end(l, state))
		if i%3 == 1 {
			if _, err := o.Replay(s.ctx, l.Event.ID); err != nil {
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
		got := make(map[store.Count]bool)
		counts, err := o.Count(s.ctx)
		if err != nil {
			s.Fatalf("Count: %v", err)
		}
		for _, c := range counts {
			got[c] = true
		}
		want := map[store.Count]bool{
			{Merchant: "shop", State: store.Waiting, Events: 6}:   true,
			{Merchant: "shop", State: store.Delivered, Events: 3}: true,
			{Merchant: "shop", State: store.Dead, Events: 2}:      true,
			{Merchant: "shop", State: store.Dropped, Events: 1}:   true,
			{Merchant: "mini", State: store.Waiting, Events: 3}:   true,
		}
		if len(counts) != len(want) || !maps.Equal(got, want) {
			s.Errorf("counted: %v", counts)
		}
		o = s.reopen()
	}
}

// counts checks how many events there are, of all merchants together.
func (s *stage) counts(o store.Store, want map[store.State]int) {
	s.Helper()
	counts, err := o.Count(s.ctx)
	if err != nil {
		s.Fatalf("Count: %v", err)
	}
	got := make(map[store.State]int)
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

// An event is found by each of its numbers and by its event_type, as a whole and byte
// by byte.
func checkNumbers(s *stage) {
	o := s.open()
	paid, refunded, other := payment(payments, "evt_paid"), payment(payments, "evt_refunded"), payment(payments, "evt_other")
	paid.OutTradeNo, paid.TransactionID = "A1", "4200001"
	refunded.OutTradeNo, refunded.TransactionID, refunded.OutRefundNo = "A1", "4200001", "R1"
	other.OutTradeNo, other.TransactionID, other.Merchant = "R1", "4200002", "mini"
	paid.EventType, refunded.EventType, other.Kind, other.EventType = "TRANSACTION.SUCCESS", "REFUND.SUCCESS", wepay.OtherEvent, "COMPLAINT.CREATE"
	refunded.Received, other.Received = refunded.Received.Add(time.Second), other.Received.Add(2*time.Second)
	s.put(o, paid, refunded, other)
	for _, test := range []struct {
		filter store.Filter
		want   []string
	}{
		{store.Filter{Number: "A1"}, []string{refunded.ID, paid.ID}},
		{store.Filter{Number: "4200001"}, []string{refunded.ID, paid.ID}},
		{store.Filter{Number: "R1"}, []string{other.ID, refunded.ID}},
		{store.Filter{Number: "R1", Merchant: "shop"}, []string{refunded.ID}},
		{store.Filter{Number: "A1", State: store.Dead}, nil},
		{store.Filter{Number: "a1"}, nil},
		{store.Filter{Number: "A1 "}, nil},
		{store.Filter{Number: "A"}, nil},
		{store.Filter{Number: "evt_paid"}, nil},
		{store.Filter{EventType: "COMPLAINT.CREATE"}, []string{other.ID}},
		{store.Filter{EventType: "REFUND.SUCCESS", Number: "A1"}, []string{refunded.ID}},
		{store.Filter{EventType: "COMPLAINT.CREATE", Merchant: "shop"}, nil},
		{store.Filter{EventType: "complaint.create"}, nil},
		{store.Filter{EventType: "COMPLAINT"}, nil},
	} {
		for _, limit := range []int{1, 10} {
			if got := s.list(o, test.filter, limit); !slices.Equal(got, test.want) {
				s.Errorf("%+v by %d: %q, want %q", test.filter, limit, got, test.want)
			}
		}
	}
}
