package storetest

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/windsome/caddy-wepay/caddymodule/store"
)

// due returns an order of the shop's that is due some time from now.
func due(number string, in time.Duration) *store.Order {
	o := order("shop", number)
	o.Due = now().Add(in)
	return o
}

// claim takes orders of the shop's that are due, and returns their numbers.
func (s *stage) claim(o store.Store, limit int, term time.Duration) (numbers []string) {
	s.Helper()
	orders, err := o.Claim(s.ctx, "shop", limit, term)
	if err != nil {
		s.Fatalf("Claim: %v", err)
	}
	for _, order := range orders {
		numbers = append(numbers, order.Number)
	}
	return numbers
}

// Orders that are due are claimed, those due first before others, and again after
// the term. Others are not.
func checkClaim(s *stage) {
	o := s.open()
	other, ended := due("other", -time.Hour), order("shop", "ended")
	other.Merchant = "mini"
	whole := full("whole")
	whole.Due = now().Add(-4 * time.Second)
	s.set(o, due("third", -time.Second), due("second", -2*time.Second), due("first", -3*time.Second), due("later", long), whole, other, ended)
	before := now()
	claimed, err := o.Claim(s.ctx, "shop", 1, short)
	if err != nil || len(claimed) != 1 {
		s.Fatalf("Claim: %d orders (%v)", len(claimed), err)
	}
	if d := claimed[0].Due; d.Before(before.Add(short)) || d.After(time.Now().Add(short)) {
		s.Errorf("claimed for %s, it is due again in %s", short, d.Sub(before))
	}
	whole.Due = claimed[0].Due
	s.areOrders("claimed", claimed, whole)
	s.areOrders("as it is stored", s.orders(o, whole.Kind, whole.Number), whole)
	if got := s.claim(o, 2, long); !slices.Equal(got, []string{"first", "second"}) {
		s.Errorf("claimed: %q", got)
	}
	o = s.reopen()
	got := s.claim(o, 10, long) // the first of them may be due again by now
	if len(got) == 0 || got[0] != "third" || s.Failed() {
		s.Fatalf("claimed: %q", got)
	}
	s.until("it is due again", func() bool {
		got = append(got, s.claim(o, 10, long)...)
		return slices.Contains(got, "whole")
	})
	if time.Now().Before(whole.Due) {
		s.Error("it is claimed again before the term has passed")
	}
	if got := s.claim(o, 10, long); len(got) > 0 {
		s.Errorf("claimed once more: %q", got)
	}
}

// Of many who claim at once, through two instances, each gets what no other does.
func checkClaimedOnce(s *stage) {
	instances := []store.Store{s.open(), s.open()}
	const orders = 120
	s.transact(instances[0], func(tx store.Tx) error {
		for i := range orders {
			if err := tx.SetOrder(due(fmt.Sprintf("A%d", i), -time.Second)); err != nil {
				return err
			}
		}
		return nil
	})
	var mu sync.Mutex
	claimed := make(map[string]int)
	var callers sync.WaitGroup
	for i := range 6 {
		callers.Go(func() {
			for {
				numbers := s.claim(instances[i%2], 7, long)
				if len(numbers) == 0 {
					return
				}
				mu.Lock()
				for _, number := range numbers {
					claimed[number]++
				}
				mu.Unlock()
			}
		})
	}
	callers.Wait()
	for len(claimed) < orders { // what others had locked for a moment
		numbers := s.claim(instances[0], 7, long)
		if len(numbers) == 0 {
			break
		}
		for _, number := range numbers {
			claimed[number]++
		}
	}
	if len(claimed) != orders || slices.Max(slices.Collect(maps.Values(claimed))) != 1 {
		s.Errorf("%d orders of %d are claimed, one of them %d times", len(claimed), orders, slices.Max(slices.Collect(maps.Values(claimed))))
	}
}

// What becomes of a claimed order meanwhile stays: it may be due no more, or sooner.
func checkClaimedAndSet(s *stage) {
	o := s.open()
	s.set(o, due("paid", -2*time.Second), due("sooner", -time.Second))
	if got := s.claim(o, 10, short); len(got) != 2 {
		s.Fatalf("claimed: %q", got)
	}
	paid := order("shop", "paid")
	paid.State, paid.Paid, paid.Ended = store.OrderPaid, now(), now()
	s.set(o, paid, due("sooner", -time.Second))
	if got := s.claim(o, 10, short); !slices.Equal(got, []string{"sooner"}) {
		s.Errorf("claimed: %q", got)
	}
	s.until("the other is due again", func() bool {
		got := s.claim(o, 10, long)
		if slices.Contains(got, "paid") {
			s.Fatal("what is due no more is claimed")
		}
		return slices.Contains(got, "sooner")
	})
	s.areOrders("what was set", s.orders(o, store.Ordered, "paid"), paid)
}

// An order that a wrong clock put out of reach is due now.
func checkOrderDueTooFar(s *stage) {
	o := s.open()
	s.set(o, due("far", 100*365*24*time.Hour), due("later", long))
	first, err := o.FirstDue(s.ctx)
	if err != nil || first["shop"].After(time.Now()) {
		s.Errorf("FirstDue: %v (%v), and an order is due in a hundred years", first, err)
	}
	s.set(o, due("now", -time.Second))
	if got := s.claim(o, 1, long); !slices.Equal(got, []string{"now"}) {
		s.Errorf("claimed: %q", got)
	}
	if got := s.claim(o, 10, long); !slices.Equal(got, []string{"far"}) {
		s.Errorf("claimed: %q", got)
	}
}

// When the first order of each merchant is due is known.
func checkFirstDue(s *stage) {
	o := s.open()
	first := func() map[string]time.Time {
		s.Helper()
		first, err := o.FirstDue(s.ctx)
		if err != nil {
			s.Fatalf("FirstDue: %v", err)
		}
		return first
	}
	same := func(what string, want map[string]time.Time) {
		s.Helper()
		if got := first(); !maps.EqualFunc(got, want, time.Time.Equal) {
			s.Errorf("%s: %v, want %v", what, got, want)
		}
	}
	same("an empty store", map[string]time.Time{})
	early, late, mini, Shop := due("early", -time.Hour), due("late", time.Minute), due("mini", time.Hour), due("Shop", time.Second)
	mini.Merchant, Shop.Merchant = "mini", "Shop"
	ended := order("ended", "ended")
	s.set(o, early, late, mini, Shop, ended)
	same("some", map[string]time.Time{"shop": early.Due, "mini": mini.Due, "Shop": Shop.Due})
	early.Due, mini.Due = time.Time{}, time.Time{}
	s.transact(o, func(tx store.Tx) error { return errors.Join(tx.SetOrder(early), tx.SetOrder(mini)) })
	same("fewer", map[string]time.Time{"shop": late.Due, "Shop": Shop.Due})
	o = s.reopen()
	same("opened again", map[string]time.Time{"shop": late.Due, "Shop": Shop.Due})
}
