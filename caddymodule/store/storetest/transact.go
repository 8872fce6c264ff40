package storetest

import (
	"errors"
	"fmt"
	"net/http"
	"reflect"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/windsome/caddy-wepay/caddymodule/store"
	"github.com/windsome/caddy-wepay/wepay"
)

// order returns an order of a merchant that was placed now, and is not asked about.
func order(merchant, number string) *store.Order {
	return &store.Order{
		Kind: store.Ordered, Number: number, MchID: "1525312341", Merchant: merchant, AppID: "wx9af096e5f111831a",
		Operation: wepay.PlaceOrder, API: wepay.V2, Amount: 129900, Currency: "CNY", State: store.OrderPlaced, Placed: now(),
	}
}

// full returns an order that has all there is.
func full(number string) *store.Order {
	o := order("shop", number)
	o.Kind, o.SubMchID, o.OutTradeNo, o.TransactionID = store.Refund, "1900000109", "order_"+number, "420000_"+number
	o.API, o.Also, o.Refunded, o.State = wepay.V3, 129901, 100, store.OrderPartlyRefunded
	for i, t := range []*time.Time{&o.Expires, &o.CloseAt, &o.Due, &o.LastAsked, &o.Paid, &o.Ended} {
		*t = now().Add(time.Duration(i+1) * time.Hour)
	}
	o.Asked, o.Source, o.Reason, o.EventID = 7, store.SourceQuery, "ORDERPAID: 该订单已支付", "evt_"+number
	o.Trace = http.Header{"Traceparent": {"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"}, "Tracestate": {"a=1", "b=2"}}
	return o
}

func (s *stage) transact(o store.Store, run func(store.Tx) error) {
	s.Helper()
	if err := o.Transact(s.ctx, run); err != nil {
		s.Fatalf("Transact: %v", err)
	}
}

func (s *stage) set(o store.Store, orders ...*store.Order) {
	s.Helper()
	s.transact(o, func(tx store.Tx) error {
		for _, order := range orders {
			if err := tx.SetOrder(order); err != nil {
				return err
			}
		}
		return nil
	})
}

// orders returns the orders of a number, as a transaction sees them.
func (s *stage) orders(o store.Store, kind store.OrderKind, number string) (orders []*store.Order) {
	s.Helper()
	s.transact(o, func(tx store.Tx) (err error) {
		orders, err = tx.Orders(kind, number)
		return err
	})
	return orders
}

// areOrders checks that orders are as they should be, in this order.
func (s *stage) areOrders(what string, got []*store.Order, want ...*store.Order) {
	s.Helper()
	if len(got) != len(want) {
		s.Errorf("%s: %d orders, want %d", what, len(got), len(want))
		return
	}
	for i := range want {
		if g, w := comparable(got[i]), comparable(want[i]); !reflect.DeepEqual(g, w) {
			s.Errorf("%s: %+v,\nwant %+v", what, g, w)
		}
	}
}

// comparable returns an order whose times are of one zone.
func comparable(o *store.Order) store.Order {
	own := *o
	for _, t := range []*time.Time{&own.Placed, &own.Expires, &own.CloseAt, &own.Due, &own.LastAsked, &own.Paid, &own.Ended} {
		*t = t.UTC()
	}
	if len(own.Trace) == 0 {
		own.Trace = nil
	}
	return own
}

// What a transaction stored is there, every field of it, also when the store is
// opened again, and takes the place of what was there.
func checkTransact(s *stage) {
	o := s.open()
	first, other, event := full("R1"), full("R1"), payment(payments, "evt_1")
	other.SubMchID, other.Placed = "1900000110", other.Placed.Add(-time.Second)
	s.transact(o, func(tx store.Tx) error {
		if orders, err := tx.Orders(store.Refund, "R1"); len(orders) > 0 || err != nil {
			s.Errorf("Orders of an empty store: %d (%v)", len(orders), err)
		}
		if err := errors.Join(tx.SetOrder(first), tx.SetOrder(other)); err != nil {
			return err
		}
		if added, err := tx.Put(event); !added || err != nil {
			s.Errorf("Put: added is %v (%v)", added, err)
		}
		if added, err := tx.Put(event); added || err != nil {
			s.Errorf("Put again: added is %v (%v)", added, err)
		}
		orders, err := tx.Orders(store.Refund, "R1")
		s.areOrders("in the transaction", orders, first, other)
		return err
	})
	s.is(s.lease(o, payments, short).Event, event)
	s.areOrders("after it", s.orders(o, store.Refund, "R1"), first, other)
	s.transact(o, func(tx store.Tx) error {
		if added, err := tx.Put(event); added || err != nil {
			s.Errorf("Put of what is there: added is %v (%v)", added, err)
		}
		again := order("mini", "R1")
		again.Kind, again.SubMchID, again.Placed = first.Kind, first.SubMchID, first.Placed
		first = again
		if err := tx.SetOrder(again); err != nil {
			return err
		}
		mine := *again
		mine.Asked = 1 // once more in the same transaction
		first = &mine
		return tx.SetOrder(&mine)
	})
	o = s.reopen()
	s.is(s.get(o, "evt_1"), event)
	s.areOrders("opened again", s.orders(o, store.Refund, "R1"), first, other)
	s.areOrders("of another kind", s.orders(o, store.Ordered, "R1"))
}

// What is stored, and what is returned, is nobody else's.
func checkOrderCopies(s *stage) {
	o := s.open()
	want := full("R1")
	s.transact(o, func(tx store.Tx) error {
		mine := *want
		mine.Trace = mine.Trace.Clone()
		err := tx.SetOrder(&mine)
		mine.Amount = 1
		mine.Trace.Set("Traceparent", "another")
		return err
	})
	got := s.orders(o, store.Refund, "R1")
	s.areOrders("after the one that was set was changed", got, want)
	got[0].Amount = 1
	got[0].Trace.Set("Traceparent", "another")
	s.areOrders("after the one that was returned was changed", s.orders(o, store.Refund, "R1"), want)
}

// An error leaves nothing of its transaction, and all of those beside it, whichever
// share a commit.
func checkUndone(s *stage) {
	o := s.open()
	s.set(o, order("shop", "A"))
	mine := errors.New("an error of mine")
	var callers sync.WaitGroup
	for i := range 60 {
		callers.Go(func() {
			number := fmt.Sprintf("N%02d", i)
			err := o.Transact(s.ctx, func(tx store.Tx) error {
				if i%3 == 1 { // before it has written anything
					return mine
				}
				changed := order("shop", "A")
				changed.Asked = i + 1
				_, err := tx.Put(payment(payments, "evt_"+number))
				if err := errors.Join(err, tx.SetOrder(order("shop", number)), tx.SetOrder(changed)); err != nil {
					return err
				}
				if i%3 == 2 {
					return fmt.Errorf("wrapped: %w", mine)
				}
				return nil
			})
			if i%3 > 0 && !errors.Is(err, mine) || i%3 == 0 && err != nil {
				s.Errorf("Transact %d: %v", i, err)
			}
		})
	}
	callers.Wait()
	for i := range 60 {
		number, want := fmt.Sprintf("N%02d", i), 0
		if i%3 == 0 {
			want = 1
		}
		if n := len(s.orders(o, store.Ordered, number)); n != want {
			s.Errorf("transaction %d left %d orders, want %d", i, n, want)
		}
		if _, err := o.Get(s.ctx, "evt_"+number); (err == nil) != (want == 1) {
			s.Errorf("transaction %d: its event: %v", i, err)
		}
	}
	if got := s.orders(o, store.Ordered, "A"); len(got) != 1 || got[0].Asked%3 != 1 {
		s.Errorf("an order that some changed in vain: %+v", got[0])
	}
}

// What a store cannot keep is refused, whatever becomes of the error, and all of its
// transaction with it.
func checkRefused(s *stage) {
	o := s.open()
	for name, change := range map[string]func(o *store.Order){
		"kind":   func(o *store.Order) { o.Kind = "another" },
		"state":  func(o *store.Order) { o.State = "" },
		"number": func(o *store.Order) { o.Number = "" },
		"NUL":    func(o *store.Order) { o.TransactionID = "a\x00" },
		"bytes":  func(o *store.Order) { o.Merchant = "\xff" },
	} {
		err := o.Transact(s.ctx, func(tx store.Tx) error {
			bad := order("shop", "B")
			change(bad)
			_, err := tx.Put(payment(payments, "evt_1"))
			if err := errors.Join(err, tx.SetOrder(order("shop", "A"))); err != nil {
				return err
			}
			if tx.SetOrder(bad) == nil {
				s.Errorf("an order with a bad %s is set", name)
			}
			return nil
		})
		if err == nil || errors.Is(err, store.ErrUnavailable) {
			s.Errorf("%s: %v", name, err)
		}
		if n := len(s.orders(o, store.Ordered, "A")); n != 0 {
			s.Errorf("%s: another order is stored", name)
		}
		s.counts(o, map[store.State]int{})
	}
}

// Nobody changes what a transaction has read until it ends, and nobody sees what it
// writes before.
func checkIsolated(s *stage) {
	instances := []store.Store{s.open(), s.open()}
	s.set(instances[0], order("shop", "A"))
	const callers, each = 8, 10
	var all sync.WaitGroup
	for i := range callers {
		all.Go(func() {
			for n := range each {
				err := instances[i%2].Transact(s.ctx, func(tx store.Tx) error {
					orders, err := tx.Orders(store.Ordered, "A")
					if err != nil || len(orders) != 1 {
						return fmt.Errorf("%d orders (%w)", len(orders), err)
					}
					orders[0].Asked++
					if err := tx.SetOrder(orders[0]); err != nil || n%2 == 0 {
						return err
					}
					orders[0].Amount = -1 // which is undone
					return errors.Join(tx.SetOrder(orders[0]), errUndo)
				})
				if n%2 == 0 && err != nil || n%2 == 1 && !errors.Is(err, errUndo) {
					s.Errorf("Transact: %v", err)
				}
				orders, _, err := instances[i%2].ListOrders(s.ctx, store.OrderFilter{}, "", 2)
				if err != nil || len(orders) != 1 || orders[0].Amount < 0 {
					s.Errorf("ListOrders sees what is not stored: %+v (%v)", orders, err)
				}
			}
		})
	}
	all.Wait()
	if got := s.orders(instances[1], store.Ordered, "A")[0].Asked; got != callers*each/2 {
		s.Errorf("%d changes are left of %d", got, callers*each/2)
	}
}

var errUndo = errors.New("as if nothing was")

// One number placed by many at once, through two instances, is one order, which has
// what each of them made of it.
func checkSameOrderAtOnce(s *stage) {
	instances := []store.Store{s.open(), s.open()}
	for round := range 5 {
		number := fmt.Sprintf("A%d", round)
		var callers sync.WaitGroup
		var first atomic.Int32
		for i := range 12 {
			callers.Go(func() {
				var placed bool
				err := instances[i%2].Transact(s.ctx, func(tx store.Tx) error {
					orders, err := tx.Orders(store.Ordered, number)
					if err != nil {
						return err
					}
					mine := order("shop", number)
					if placed = len(orders) == 0; !placed {
						mine.Asked = orders[0].Asked + 1
					}
					return tx.SetOrder(mine)
				})
				if err != nil {
					s.Errorf("Transact: %v", err)
				}
				if placed {
					first.Add(1)
				}
			})
		}
		callers.Wait()
		got := s.orders(instances[0], store.Ordered, number)
		if len(got) != 1 || got[0].Asked != 11 || first.Load() != 1 {
			s.Errorf("%d orders, %d were the first: %+v", len(got), first.Load(), got)
		}
	}
}

// Texts stay as they are, and differ where a byte does.
func checkOrderTexts(s *stage) {
	o := s.open()
	var all []*store.Order
	for _, text := range []string{
		"A", "a", "A ", " A", "A\t", "Ａ", "é", "e\u0301", "'; DROP TABLE wepay_order; --", `a\'"%_?$1`, "🐱", "<&>", "\u2028", "茶", "*",
	} {
		one := order("shop", text)
		one.MchID, one.OutTradeNo, one.TransactionID = text, text, text
		one.Reason = text
		all = append(all, one)
	}
	s.set(o, all...)
	long := order("mini", strings.Repeat("x", 32))
	long.Reason = "a\x00b\xff" + strings.Repeat("茶", 1000)
	s.set(o, long)
	for _, want := range all {
		s.areOrders(fmt.Sprintf("%q", want.Number), s.orders(o, want.Kind, want.Number), want)
		got, _, err := o.ListOrders(s.ctx, store.OrderFilter{Number: want.Number}, "", 10)
		if err != nil {
			s.Errorf("ListOrders of %q: %v", want.Number, err)
		}
		s.areOrders(fmt.Sprintf("listed %q", want.Number), got, want)
	}
	long.Reason = store.Text(long.Reason)
	s.areOrders("a long reason", s.orders(o, long.Kind, long.Number), long)
	for _, number := range []string{"", "\x00", "\xff", "B", strings.Repeat("x", 5000)} {
		if got := s.orders(o, store.Ordered, number); len(got) > 0 {
			s.Errorf("%d orders of %.20q", len(got), number)
		}
	}
	if !slices.ContainsFunc(all, func(o *store.Order) bool { return o.Reason == "A " }) {
		s.Error("the orders were changed")
	}
}
