package sqlstore

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/windsome/caddy-wepay/caddymodule/internal/dbtest"
	"github.com/windsome/caddy-wepay/caddymodule/store"
)

// placed returns an order as it is when WeChat is called.
func placed(n int) *store.Order {
	now := time.Now()
	return &store.Order{
		Kind: store.Ordered, Number: fmt.Sprintf("%032x", uint64(n)*0x9e3779b97f4a7c15), MchID: "1525312341", Merchant: "shop",
		AppID: "wx9af096e5f111831a", Operation: "get_pay_request_params", API: "v2", Amount: 129900, Currency: "CNY",
		State: store.OrderPlaced, Placed: now, Expires: now.Add(2 * time.Hour), Due: now.Add(time.Minute),
	}
}

// place is what placing an order stores.
func place(ctx context.Context, s store.Store, n int) error {
	return s.Transact(ctx, func(tx store.Tx) error {
		if _, err := tx.Orders(store.Ordered, placed(n).Number); err != nil {
			return err
		}
		return tx.SetOrder(placed(n))
	})
}

// notified is what a notification of an order stores.
func notified(ctx context.Context, s store.Store, n int) error {
	e := event(eventID(n))
	return s.Transact(ctx, func(tx store.Tx) error {
		orders, err := tx.Orders(store.Ordered, placed(n).Number)
		if err != nil || len(orders) != 1 {
			return fmt.Errorf("%d orders of number %d (%w)", len(orders), n, err)
		}
		o := orders[0]
		o.State, o.Source, o.TransactionID, o.EventID = store.OrderPaid, store.SourceNotify, e.TransactionID, e.ID
		o.Paid, o.Ended, o.Due = e.Received, e.Received, time.Time{}
		if _, err := tx.Put(e); err != nil {
			return err
		}
		return tx.SetOrder(o)
	})
}

// What a notification costs with its order and without, and what placing one does.
// `-bench Transact -benchtime 5000x`
func BenchmarkTransact(b *testing.B) {
	for _, engine := range []struct {
		name  string
		place func(b *testing.B) string
	}{
		{"sqlite", func(b *testing.B) string { return filepath.Join(b.TempDir(), "store.db") }},
		{"postgres", func(b *testing.B) string { return dbtest.StartPostgres(b).NewDSN(b) }},
		{"mysql", func(b *testing.B) string { return dbtest.StartMariaDB(b).NewDSN(b) }},
	} {
		b.Run(engine.name, func(b *testing.B) {
			where := engine.place(b)
			for _, callers := range []int{1, 32} {
				b.Run(strconv.Itoa(callers), func(b *testing.B) {
					s := storeOf(engine.name, where)
					open(b, provisioned(b, s), store.Options{})
					first := int(benchmarked.Add(2*int64(b.N))) - 2*b.N
					for _, act := range []struct {
						name string
						do   func(n int) error
					}{
						{"put", func(n int) error { _, err := s.Put(b.Context(), event(eventID(first+b.N+n))); return err }},
						{"place", func(n int) error { return place(b.Context(), s, first+n) }},
						{"notified", func(n int) error { return notified(b.Context(), s, first+n) }},
					} {
						before := usedCPU(b)
						took := atOnce(b, callers, b.N, act.do)
						b.ReportMetric(float64(took.Microseconds())/float64(b.N), "µs/"+act.name)
						b.ReportMetric(float64((usedCPU(b)-before).Microseconds())/float64(b.N), "cpu-µs/"+act.name)
					}
				})
			}
		})
	}
}

// atOnce has something done n times by some callers, and returns how long it took.
func atOnce(b *testing.B, callers, n int, do func(n int) error) time.Duration {
	b.Helper()
	began := time.Now()
	var next atomic.Int64
	var all sync.WaitGroup
	for range callers {
		all.Go(func() {
			for i := next.Add(1); i <= int64(n); i = next.Add(1) {
				if err := do(int(i - 1)); err != nil {
					b.Error(err)
					return
				}
			}
		})
	}
	all.Wait()
	return time.Since(began)
}

// Orders among many: looking for what is due while 100,000 are open, and for one by
// its number among a million. `-bench ManyOrders -benchtime 1x`, with
// WEPAY_BENCH_ORDERS for another number, and WEPAY_BENCH_ENGINE for another engine.
func BenchmarkManyOrders(b *testing.B) {
	n, engine := 1_000_000, "sqlite"
	if text := os.Getenv("WEPAY_BENCH_ORDERS"); text != "" {
		var err error
		if n, err = strconv.Atoi(text); err != nil {
			b.Fatal(err)
		}
	}
	where := filepath.Join(b.TempDir(), "store.db")
	switch engine = os.Getenv("WEPAY_BENCH_ENGINE"); engine {
	case "postgres":
		where = dbtest.StartPostgres(b, "fsync=off").NewDSN(b)
	case "mysql":
		where = dbtest.StartMariaDB(b, "--innodb-flush-log-at-trx-commit=1", "--innodb-flush-method=nosync").NewDSN(b)
	}
	s := storeOf(engine, where)
	open(b, provisioned(b, s), store.Options{LongestOrderWait: 24 * time.Hour})
	const open, each = 100_000, 500
	states := []store.OrderState{store.OrderPaid, store.OrderPaid, store.OrderClosed, store.OrderFailed}
	atOnce(b, 8, n/each, func(part int) error {
		return s.Transact(b.Context(), func(tx store.Tx) error {
			for i := part * each; i < (part+1)*each; i++ {
				o := placed(i)
				o.Merchant = fmt.Sprintf("shop%d", i%10)
				o.Placed = o.Placed.Add(-time.Duration(i) * time.Second)
				o.Due = o.Placed.Add(-time.Hour)
				if i >= open {
					o.State, o.Due, o.Ended, o.TransactionID = states[i%4], time.Time{}, time.Now(), "42"+o.Number
				}
				if i == n/2 {
					o.Merchant, o.State = "rare", store.OrderAbnormal
				}
				if err := tx.SetOrder(o); err != nil {
					return err
				}
			}
			return nil
		})
	})
	ctx := b.Context()
	list := func(f store.OrderFilter) func() error {
		return func() error { _, _, err := s.ListOrders(ctx, f, "", 100); return err }
	}
	for what, call := range map[string]func() error{
		"first-due":      func() error { _, err := s.FirstDue(ctx); return err },
		"claim-50":       func() error { _, err := s.Claim(ctx, "shop3", 50, time.Minute); return err },
		"list-number":    list(store.OrderFilter{Number: placed(n / 3).Number}),
		"list-wechat-no": list(store.OrderFilter{Number: "42" + placed(n/3).Number}),
		"list-all":       list(store.OrderFilter{}),
		"list-shop":      list(store.OrderFilter{Merchant: "shop3"}),
		"list-rare-shop": list(store.OrderFilter{Merchant: "rare"}),
		"list-abnormal":  list(store.OrderFilter{State: store.OrderAbnormal}),
		"list-paid":      list(store.OrderFilter{State: store.OrderPaid, Merchant: "shop5"}),
		"list-refunds":   list(store.OrderFilter{Kind: store.Refund}),
		"count":          func() error { _, err := s.CountOrders(ctx); return err },
		"match-500": func() error {
			numbers := make([]string, store.MostNumbers)
			for i := range numbers {
				numbers[i] = placed(n - i*7).Number
			}
			_, _, err := s.Match(ctx, store.Ordered, numbers)
			return err
		},
	} {
		times := 20
		if what == "count" { // which remembers
			times = 1
		}
		var best time.Duration
		for range times {
			began := time.Now()
			if err := call(); err != nil {
				b.Errorf("%s: %v", what, err)
			}
			if took := time.Since(began); best == 0 || took < best {
				best = took
			}
		}
		b.ReportMetric(float64(best.Microseconds()), "µs-"+what)
	}
}
