package reconcile

import (
	"context"
	"hash/fnv"
	"slices"
	"time"

	"github.com/windsome/caddy-wepay/caddymodule/store"
	"github.com/windsome/caddy-wepay/wepay"
)

const (
	// billsReady is when, after midnight in Beijing, the bills of the day before are there.
	// Source: WeChat Pay, 下载交易账单.
	billsReady = 10 * time.Hour
	// mostJitter is how much later a bill is asked for by chance, at most.
	mostJitter = 10 * time.Minute
	// mostCatchUp is how many days back bills are caught up with.
	mostCatchUp = 30
	// farthest is how far ahead a row is due at most, which is less than what a store
	// takes for the mark of a wrong clock.
	farthest = 6 * time.Hour
)

// ready is when an account's bill of a day is asked for first. Each server says the
// same.
func ready(mchID string, next time.Time) time.Time {
	sum := fnv.New32()
	sum.Write([]byte(mchID + next.Format(time.DateOnly)))
	return next.Add(billsReady + time.Duration(sum.Sum32())%mostJitter)
}

// due is when a row that is to be done at some time is due.
func due(at, now time.Time) time.Time {
	if latest := now.Add(farthest); at.After(latest) {
		at = latest
	}
	return at.Truncate(time.Second) // which every store keeps exactly
}

// Plan implements [recovery.Bills]: once a day, and at the start, it adds the rows of
// the days that have none.
func (r *Reconciler) Plan(ctx context.Context) error {
	now := r.now().In(wepay.Beijing)
	today := time.Date(now.Year(), now.Month(), now.Day(), 0, 0, 0, 0, wepay.Beijing)
	if today.Equal(r.planned) {
		return nil
	}
	for _, a := range r.accounts {
		known, err := r.isKnown(ctx, a)
		if err != nil {
			return err
		}
		if err := r.plan(ctx, a, today, known); err != nil {
			return err
		}
	}
	r.planned = today
	return nil
}

// isKnown reports whether an account was reconciled before, however long ago.
func (r *Reconciler) isKnown(ctx context.Context, a *account) (bool, error) {
	for _, name := range a.names() {
		rows, _, err := r.Store.ListOrders(ctx, store.OrderFilter{Merchant: name, Kind: store.DailyBill}, "", 1)
		if err != nil || len(rows) > 0 {
			return len(rows) > 0, err
		}
	}
	return false, nil
}

// plan adds the rows that an account lacks: the days since the first that there is a row
// of, or yesterday alone.
func (r *Reconciler) plan(ctx context.Context, a *account, today time.Time, known bool) error {
	now := r.now()
	return r.Store.Transact(ctx, func(tx store.Tx) error {
		begun := false
		var missing []time.Time
		for back := mostCatchUp; back >= 1; back-- {
			day := today.AddDate(0, 0, -back)
			row, err := rowOf(tx, a.mchID, day.Format(time.DateOnly))
			switch {
			case err != nil:
				return err
			case row == nil:
				if begun || known || back == 1 {
					missing = append(missing, day)
				}
				continue
			}
			if !begun {
				begun, missing = true, nil // before it the account was new
			}
			if row.State == store.OrderPlaced && !slices.Contains(a.names(), row.Merchant) {
				row.Merchant, row.Due = a.merchants[0].Name, due(now, now)
				if err := tx.SetOrder(row); err != nil {
					return err
				}
			}
		}
		for _, day := range missing {
			m := a.merchants[0]
			err := tx.SetOrder(&store.Order{
				Kind: store.DailyBill, Number: day.Format(time.DateOnly), MchID: a.mchID, Merchant: m.Name, AppID: m.AppID, Currency: "CNY",
				State: store.OrderPlaced, Placed: now, Due: due(ready(a.mchID, day.AddDate(0, 0, 1)), now),
			})
			if err != nil {
				return err
			}
		}
		return nil
	})
}

// rowOf returns the row of an account's bill of a day; nil: there is none.
func rowOf(tx store.Tx, mchID, date string) (*store.Order, error) {
	return store.FindOrder(tx, store.OrderKey{Kind: store.DailyBill, Number: date, MchID: mchID})
}
