package storetest

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/windsome/caddy-wepay/caddymodule/store"
	"github.com/windsome/caddy-wepay/wepay"
)

// All that a filter selects is listed, once and the latest placed first, whatever
// the pages' size.
func checkListOrders(s *stage) {
	o := s.open()
	var all []*store.Order
	for i := range 180 {
		one := order([]string{"shop", "mini", "shop2"}[i%3], fmt.Sprintf("%08x", uint32(i)*2654435761))
		one.Kind, one.State = store.OrderKinds()[i%4], store.OrderStates()[i%7]
		one.Placed = one.Placed.Add(-time.Duration(i*77%180) * time.Second)
		all = append(all, one)
	}
	s.set(o, all...)
	if _, _, err := o.ListOrders(s.ctx, store.OrderFilter{}, "no page's end", 10); !errors.Is(err, store.ErrNoPage) {
		s.Errorf("ListOrders after what is no page's end: %v, want %v", err, store.ErrNoPage)
	}
	slices.SortFunc(all, func(a, b *store.Order) int { return b.Placed.Compare(a.Placed) })
	for _, f := range []store.OrderFilter{
		{},
		{Merchant: "shop"},
		{Merchant: "sho"},
		{Kind: store.Refund},
		{State: store.OrderClosed},
		{State: "close"},
		{Kind: "another"},
		{Merchant: "mini", Kind: store.Transfer},
		{Merchant: "mini", State: store.OrderPaid},
		{Kind: store.Combined, State: store.OrderUnknown},
		{Merchant: "shop2", Kind: store.Ordered, State: store.OrderRefunding},
		{Merchant: "nobody"},
	} {
		want := slices.DeleteFunc(slices.Clone(all), func(o *store.Order) bool { return !f.Match(o) })
		for _, limit := range []int{7, max(len(want), 1), 1000} {
			s.areOrders(fmt.Sprintf("%+v by %d", f, limit), s.listOrders(o, f, limit), want...)
		}
	}
}

// listOrders pages through the orders that a filter selects.
func (s *stage) listOrders(o store.Store, f store.OrderFilter, limit int) (all []*store.Order) {
	s.Helper()
	for after := ""; ; {
		orders, next, err := o.ListOrders(s.ctx, f, after, limit)
		if err != nil || len(orders) > limit || len(orders) == 0 && after != "" {
			s.Fatalf("ListOrders of %+v after %q: %d orders of at most %d (%v)", f, after, len(orders), limit, err)
		}
		all = append(all, orders...)
		if next == "" {
			return all
		}
		after = next
	}
}

// An order is found by each of its numbers.
func checkOrderNumbers(s *stage) {
	o := s.open()
	paid, refund, other := order("shop", "A1"), full("R1"), order("mini", "R1")
	paid.TransactionID, paid.State = "4200001", store.OrderPaid
	refund.OutTradeNo, refund.TransactionID, refund.Placed = "A1", "5000001", paid.Placed.Add(-time.Second)
	other.Placed = paid.Placed.Add(-2 * time.Second)
	s.set(o, paid, refund, other)
	for _, test := range []struct {
		filter store.OrderFilter
		want   []*store.Order
	}{
		{store.OrderFilter{Number: "A1"}, []*store.Order{paid, refund}},
		{store.OrderFilter{Number: "4200001"}, []*store.Order{paid}},
		{store.OrderFilter{Number: "5000001"}, []*store.Order{refund}},
		{store.OrderFilter{Number: "R1"}, []*store.Order{refund, other}},
		{store.OrderFilter{Number: "R1", Merchant: "mini"}, []*store.Order{other}},
		{store.OrderFilter{Number: "A1", Kind: store.Refund}, []*store.Order{refund}},
		{store.OrderFilter{Number: "A1", State: store.OrderPaid}, []*store.Order{paid}},
		{store.OrderFilter{Number: "A1", State: store.OrderClosed}, nil},
		{store.OrderFilter{Number: "a1"}, nil},
		{store.OrderFilter{Number: "A"}, nil},
		{store.OrderFilter{Number: "\xff\x00"}, nil},
	} {
		for _, limit := range []int{1, 10} {
			s.areOrders(fmt.Sprintf("%+v by %d", test.filter, limit), s.listOrders(o, test.filter, limit), test.want...)
		}
	}
}

// What is counted is what there is, for each merchant, kind and state by itself.
func checkCountOrders(s *stage) {
	o := s.open()
	want := make(map[store.OrderCount]int)
	var all []*store.Order
	for i := range 60 {
		one := order([]string{"shop", "mini"}[i%2], fmt.Sprintf("A%d", i))
		one.Kind, one.State = store.OrderKinds()[i%3], store.OrderStates()[i%5]
		all = append(all, one)
		want[store.OrderCount{Merchant: one.Merchant, Kind: one.Kind, State: one.State}]++
	}
	count := func() map[store.OrderCount]int {
		counts, err := o.CountOrders(s.ctx)
		if err != nil {
			s.Fatalf("CountOrders: %v", err)
		}
		got := make(map[store.OrderCount]int)
		for _, c := range counts {
			n := c.Orders
			c.Orders = 0
			got[c] += n
		}
		return got
	}
	if got := count(); len(got) > 0 {
		s.Errorf("an empty store: %v", got)
	}
	o = s.reopen() // a count that took long may be remembered
	s.set(o, all...)
	for range 2 {
		if got := count(); !maps.Equal(got, want) {
			s.Errorf("counted: %v, want %v", got, want)
		}
		o = s.reopen()
	}
}

// Orders and events are found by many numbers at once.
func checkMatch(s *stage) {
	o := s.open()
	var events, orders, numbers []string
	for i := range 12 {
		e := payment(payments, fmt.Sprintf("evt_%02d", i))
		e.OutTradeNo, e.TransactionID, e.OutRefundNo = fmt.Sprintf("A%d", i), fmt.Sprintf("T%d", i), fmt.Sprintf("R%d", i)
		e.Merchant = []string{"shop", "mini"}[i%2]
		s.put(o, e)
		if i < 9 {
			numbers = append(numbers, []string{e.OutTradeNo, e.TransactionID, e.OutRefundNo}[i%3])
			events = append(events, e.ID)
		}
	}
	for i, number := range []string{"A0", "A3", "T1", "A6", "X"} {
		one := order("shop", number)
		one.TransactionID, one.OutTradeNo = "R2", "A3" // by which orders are not matched
		one.Kind = []store.OrderKind{store.Ordered, store.Ordered, store.Ordered, store.Refund, store.Ordered}[i]
		s.set(o, one)
	}
	orders = []string{"A0", "A3", "T1"}
	match := func(numbers []string) (gotOrders, gotEvents []string) {
		s.Helper()
		foundOrders, foundEvents, err := o.Match(s.ctx, store.Ordered, numbers)
		if err != nil {
			s.Fatalf("Match: %v", err)
		}
		for _, o := range foundOrders {
			gotOrders = append(gotOrders, o.Number)
		}
		for _, e := range foundEvents {
			if e.Payload != nil {
				s.Errorf("%s has its payload", e.ID)
			}
			gotEvents = append(gotEvents, e.ID)
		}
		slices.Sort(gotOrders)
		slices.Sort(gotEvents)
		return gotOrders, gotEvents
	}
	many := append(slices.Clone(numbers), "", "\xff", "a0", numbers[0])
	for len(many) < store.MostNumbers {
		many = append(many, fmt.Sprintf("none%d", len(many)))
	}
	for _, numbers := range [][]string{numbers, many} {
		if gotOrders, gotEvents := match(numbers); !slices.Equal(gotOrders, orders) || !slices.Equal(gotEvents, events) {
			s.Errorf("matched: %q and %q, want %q and %q", gotOrders, gotEvents, orders, events)
		}
	}
	for _, numbers := range [][]string{nil, {""}, {"none"}} {
		if gotOrders, gotEvents := match(numbers); len(gotOrders)+len(gotEvents) > 0 {
			s.Errorf("%q match %q and %q", numbers, gotOrders, gotEvents)
		}
	}
	if _, _, err := o.Match(s.ctx, store.Ordered, append(many, "one more")); err == nil {
		s.Errorf("Match takes more than %d numbers", store.MostNumbers)
	}
}

// The events of a time are all those that say that they happened then.
func checkOccurred(s *stage) {
	o := s.open()
	day := now().Add(-24 * time.Hour)
	from, to := day, day.Add(12*time.Hour)
	want := make(map[string]bool)
	add := func(id string, is bool, queue store.Queue, occurred, received time.Time) {
		e := payment(queue, id)
		e.Occurred, e.Received = occurred, received
		s.put(o, e)
		if is {
			want[id] = true
		}
	}
	refunds := store.Queue{Merchant: "shop", Kind: wepay.Refunded}
	add("evt_first", true, payments, from, from)
	add("evt_last", true, payments, to.Add(-time.Millisecond), to)
	add("evt_late", true, payments, from.Add(time.Hour), now())
	add("evt_fast_clock", true, payments, from.Add(time.Minute), from.Add(-59*time.Minute))
	add("evt_long_before", false, payments, from.Add(time.Minute), from.Add(-time.Hour))
	add("evt_before", false, payments, from.Add(-time.Millisecond), from)
	add("evt_after", false, payments, to, to)
	add("evt_unknown", false, payments, time.Time{}, from.Add(time.Hour))
	add("evt_refund", false, refunds, from, from)
	add("evt_mini", false, store.Queue{Merchant: "mini", Kind: wepay.Payment}, from, from)
	for i := range 40 {
		add(fmt.Sprintf("evt_%d", i), true, payments, from.Add(time.Hour), from.Add(time.Hour)) // received in the same millisecond
	}
	got := make(map[string]bool)
	err := o.Occurred(s.ctx, payments, from, to, func(e *store.Event) error {
		if got[e.ID] || e.Payload != nil {
			s.Errorf("%s comes twice, or has its payload", e.ID)
		}
		got[e.ID] = true
		if _, err := o.Get(s.ctx, e.ID); err != nil { // nothing is held up meanwhile
			s.Errorf("Get: %v", err)
		}
		return nil
	})
	if err != nil || !maps.Equal(got, want) {
		s.Errorf("got %v, want %v (%v)", got, want, err)
	}
	n := 0
	err = o.Occurred(s.ctx, payments, from, to, func(*store.Event) error { n++; return errUndo })
	if n != 1 || !errors.Is(err, errUndo) {
		s.Errorf("an error ends it after %d events: %v", n, err)
	}
}

// Orders that ended long ago go, others stay.
func checkOrdersGo(s *stage) {
	s.options.KeepRows = 2 * short
	s.options.Keep = short
	o := s.open()
	for part := range 4 {
		s.transact(o, func(tx store.Tx) error {
			for i := range 60 {
				one := full(fmt.Sprintf("R%d_%d", part, i))
				one.Placed, one.Ended, one.Due = now().Add(-2*long), now().Add(-long), time.Time{}
				if err := tx.SetOrder(one); err != nil {
					return err
				}
			}
			return nil
		})
	}
	old, later := order("shop", "old"), full("later")
	old.Placed, later.Ended = now().Add(-1000*24*time.Hour), now().Add(long)
	s.set(o, old, later)
	s.until("orders go", func() bool {
		orders, _, err := o.ListOrders(s.ctx, store.OrderFilter{}, "", 1000)
		if err != nil {
			s.Fatalf("ListOrders: %v", err)
		}
		return !slices.ContainsFunc(orders, func(o *store.Order) bool { return strings.HasPrefix(o.Number, "R") })
	})
	s.areOrders("left", s.listOrders(o, store.OrderFilter{}, 10), later, old)
}

// What is quarantined is handed over when it is replayed, and not before.
func checkQuarantined(s *stage) {
	o := s.open()
	for i := range 2 {
		e := payment(payments, fmt.Sprintf("evt_%d", i))
		e.State, e.Due, e.Ended, e.Reason = store.Quarantined, time.Time{}, now(), "the order's amount is another"
		s.put(o, e)
		s.is(s.get(o, e.ID), e)
	}
	s.put(o, payment(payments, "evt_other"))
	if got := s.lease(o, payments, long); got.Event.ID != "evt_other" {
		s.Errorf("%s is leased", got.Event.ID)
	}
	s.counts(o, map[store.State]int{store.Quarantined: 2, store.Waiting: 1})
	if got := s.list(o, store.Filter{State: store.Quarantined}, 10); len(got) != 2 {
		s.Errorf("listed: %q", got)
	}
	if err := o.Drop(s.ctx, "evt_0", "it is right so"); err != nil {
		s.Errorf("Drop: %v", err)
	}
	if was, err := o.Replay(s.ctx, "evt_1"); was != store.Quarantined || err != nil {
		s.Errorf("Replay: it was %s (%v)", was, err)
	}
	if got := s.lease(o, payments, long); got.Event.ID != "evt_1" {
		s.Errorf("%s is leased", got.Event.ID)
	}
	o = s.reopen() // a count that took long may be remembered
	s.counts(o, map[store.State]int{store.Dropped: 1, store.Waiting: 2})
}
