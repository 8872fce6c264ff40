package storetest

import (
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/windsome/caddy-wepay/caddymodule/store"
)

// The refunds of an order are those of its account.
func checkRefunds(s *stage) {
	o := s.open()
	var refunds []*store.Order
	for i, change := range []func(o *store.Order){
		func(*store.Order) {},
		func(*store.Order) {},
		func(o *store.Order) { o.MchID = "1900000109" },
		func(o *store.Order) { o.SubMchID = "" },
		func(o *store.Order) { o.OutTradeNo = "a" },
		func(o *store.Order) { o.Kind = store.Transfer },
	} {
		r := full(fmt.Sprintf("R%d", i))
		r.OutTradeNo, r.Placed = "A", r.Placed.Add(-time.Duration(i)*time.Second)
		change(r)
		refunds = append(refunds, r)
	}
	s.set(o, refunds...)
	s.transact(o, func(tx store.Tx) error {
		r := refunds[0]
		got, err := tx.Refunds(r.MchID, r.SubMchID, "A")
		s.areOrders("refunds", got, refunds[:2]...)
		none, noneErr := tx.Refunds(r.MchID, r.SubMchID, "B")
		s.areOrders("refunds of another order", none)
		return errors.Join(err, noneErr)
	})
}

// Refunds of one order, placed at once through two instances, are all added up.
func checkRefundsAtOnce(s *stage) {
	instances := []store.Store{s.open(), s.open()}
	s.set(instances[0], order("shop", "A"))
	var callers sync.WaitGroup
	const refunds = 8
	for i := range refunds {
		callers.Go(func() {
			err := instances[i%2].Transact(s.ctx, func(tx store.Tx) error {
				paid, err := tx.Orders(store.Ordered, "A")
				if err != nil || len(paid) != 1 {
					return fmt.Errorf("%d orders (%w)", len(paid), err)
				}
				refund := order("shop", fmt.Sprintf("R%d", i))
				refund.Kind, refund.OutTradeNo, refund.Amount = store.Refund, "A", 1<<i
				if err := tx.SetOrder(refund); err != nil {
					return err
				}
				all, err := tx.Refunds(refund.MchID, "", "A")
				paid[0].Refunded = 0
				for _, r := range all {
					paid[0].Refunded += r.Amount
				}
				return errors.Join(err, tx.SetOrder(paid[0]))
			})
			if err != nil {
				s.Errorf("Transact: %v", err)
			}
		})
	}
	callers.Wait()
	if got := s.orders(instances[1], store.Ordered, "A")[0].Refunded; got != 1<<refunds-1 {
		s.Errorf("%b are refunded, want %b", got, 1<<refunds-1)
	}
}
