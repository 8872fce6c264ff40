package recovery

import (
	"cmp"
	"context"
	"errors"

	"github.com/windsome/caddy-wepay/caddymodule/store"
	"github.com/windsome/caddy-wepay/wepay"
)

// Bills reconciles WeChat's bills of each day. Their rows in the store are claimed as
// orders are, so that in a fleet one server does it.
type Bills interface {
	// Plan adds the rows that are missing. It is called often.
	Plan(ctx context.Context) error

	// Reconcile does a row that was claimed, and sets when it is due again.
	Reconcile(ctx context.Context, row *store.Order)
}

// SetBills says who reconciles. It is called before Start.
func (r *Recovery) SetBills(b Bills) { r.bills = b }

// reconcile hands on a row that was claimed. Without anyone who reconciles it stays.
func (r *Recovery) reconcile(row *store.Order) {
	if r.bills != nil {
		r.bills.Reconcile(r.ctx, row)
	}
}

// AskForBill asks WeChat about an order or a refund that its bill has, and records
// what came of it as known from the bill. A refund that was not placed here is
// recorded first. What WeChat gave no answer about is asked about again soon.
func (r *Recovery) AskForBill(ctx context.Context, o *store.Order) (Taken, error) {
	asked := *o
	if account := r.Accounts[o.Merchant]; account != nil {
		if err := r.paces[account.Merchant.MchID].wait(ctx); err != nil {
			return Taken{}, err
		}
		asked.API = cmp.Or(o.API, account.Merchant.API, wepay.V2)
	}
	if o.Kind == store.Refund {
		asked.Operation = cmp.Or(o.Operation, wepay.Refund)
		if err := r.Ledger.adopt(ctx, o); err != nil {
			return Taken{}, err
		}
	}
	taken, err := r.ask(ctx, &asked, store.SourceBill)
	if err != nil && r.Ledger.Schedule != nil {
		err = errors.Join(err, r.Ledger.update(ctx, o, func(now *store.Order) { now.Due = r.Ledger.Now().Add(askSoon) }))
	}
	return taken, err
}

// adopt records an order that was not placed here.
func (l *Ledger) adopt(ctx context.Context, o *store.Order) error {
	return l.Store.Transact(ctx, func(tx store.Tx) error {
		if was, err := store.FindOrder(tx, o.Key()); err != nil || was != nil {
			return err
		}
		return tx.SetOrder(o)
	})
}
