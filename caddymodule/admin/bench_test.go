package admin

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"
	"golang.org/x/sync/errgroup"

	"github.com/windsome/caddy-wepay/caddymodule/internal/dbtest"
	"github.com/windsome/caddy-wepay/caddymodule/store"
	"github.com/windsome/caddy-wepay/caddymodule/store/sqlstore"
	"github.com/windsome/caddy-wepay/wepay"
)

// What `caddy wepay order` takes among a million orders and as many events, less the
// start of its process. `-bench Order -benchtime 1x`, with WEPAY_BENCH_ORDERS for
// another number, WEPAY_BENCH_ENGINE for another engine, and WEPAY_BENCH_FILE for an
// SQLite file that is to stay.
func BenchmarkOrder(b *testing.B) {
	n := 1_000_000
	if text := os.Getenv("WEPAY_BENCH_ORDERS"); text != "" {
		var err error
		if n, err = strconv.Atoi(text); err != nil {
			b.Fatal(err)
		}
	}
	file := os.Getenv("WEPAY_BENCH_FILE")
	if file == "" {
		file = filepath.Join(b.TempDir(), "store.db")
	}
	s := benchStore(b, file)
	fillOrders(b, s, n)
	server := serve(b, s)
	for what, number := range map[string]string{
		"out_trade_no":   fmt.Sprintf("order-%d", n/3),
		"transaction_id": fmt.Sprintf("42%d", n/3),
		"out_refund_no":  fmt.Sprintf("refund-%d", n/30*10),
		"unknown":        "order-none",
	} {
		b.Run(what, func(b *testing.B) {
			for b.Loop() {
				if _, err := runOrder(number, "--address", server); (err == nil) != (what != "unknown") {
					b.Fatal(err)
				}
			}
		})
	}
	b.Run("list", func(b *testing.B) {
		for b.Loop() {
			if status, body := ask(s, nil, "GET", "/wepay/orders?state=paid", ""); status != 200 {
				b.Fatal(body)
			}
		}
	})
	if os.Getenv("WEPAY_BENCH_ENGINE") != "" {
		return
	}
	if err := s.Close(); err != nil {
		b.Fatal(err)
	}
	b.Run("path", func(b *testing.B) {
		for b.Loop() {
			if _, err := runOrder(fmt.Sprintf("order-%d", n/3), "--path", file); err != nil {
				b.Fatal(err)
			}
		}
	})
}

// benchStore opens a store of the engine that is measured.
func benchStore(b *testing.B, file string) store.Store {
	b.Helper()
	var s interface {
		store.Store
		caddy.Provisioner
	} = &sqlstore.SQLite{Path: file}
	switch os.Getenv("WEPAY_BENCH_ENGINE") {
	case "postgres":
		s = &sqlstore.Postgres{DSN: dbtest.StartPostgres(b, "fsync=off").NewDSN(b)}
	case "mysql":
		s = &sqlstore.MySQL{DSN: dbtest.StartMariaDB(b, "--innodb-flush-log-at-trx-commit=1", "--innodb-flush-method=nosync").NewDSN(b)}
	}
	ctx, cancel := caddy.NewContext(caddy.Context{Context: context.Background()})
	b.Cleanup(cancel)
	if err := s.Provision(ctx); err != nil {
		b.Fatal(err)
	}
	if err := s.Open(b.Context(), store.Options{}); err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = s.Close() }) // it may be closed by then
	return s
}

// fillOrders puts n orders of ten merchants into a store, a tenth of which are refunds,
// each with its event.
func fillOrders(b *testing.B, s store.Store, n int) {
	b.Helper()
	const each = 100
	var parts errgroup.Group
	parts.SetLimit(8)
	began := time.Now()
	for part := range n / each {
		parts.Go(func() error {
			return s.Transact(b.Context(), func(tx store.Tx) error {
				for i := part * each; i < (part+1)*each; i++ {
					o, e := benchOrder(i, began)
					if _, err := tx.Put(e); err != nil {
						return err
					}
					if err := tx.SetOrder(o); err != nil {
						return err
					}
				}
				return nil
			})
		})
	}
	if err := parts.Wait(); err != nil {
		b.Fatal(err)
	}
}

func benchOrder(i int, now time.Time) (*store.Order, *store.Event) {
	at := now.Add(-time.Duration(i) * time.Second)
	number, transaction := fmt.Sprintf("order-%d", i), fmt.Sprintf("42%d", i)
	o := &store.Order{
		Kind: store.Ordered, Number: number, MchID: "1525312341", Merchant: fmt.Sprintf("shop%d", i%10), AppID: "wx9af096e5f111831a",
		Operation: wepay.PlaceOrder, API: wepay.V2, Amount: 1200, Currency: "CNY", State: store.OrderPaid, Placed: at, Source: store.SourceNotify,
		TransactionID: transaction, Paid: at, Ended: at, EventID: fmt.Sprintf("evt_%032x", i),
	}
	e := &store.Event{
		ID: o.EventID, Merchant: o.Merchant, Kind: wepay.Payment, EventType: "TRANSACTION.SUCCESS", OutTradeNo: number, TransactionID: transaction, Amount: 1200,
		Currency: "CNY", Received: at, Since: at, Ended: at, State: store.Delivered, Attempts: 1, Payload: json.RawMessage(`{"attach":"` + strings.Repeat("a", 300) + `"}`),
	}
	if i%10 == 0 {
		o.Kind, o.Operation, o.Number, o.OutTradeNo, o.State = store.Refund, wepay.Refund, fmt.Sprintf("refund-%d", i), fmt.Sprintf("order-%d", i+1), store.OrderRefunded
		o.Merchant = fmt.Sprintf("shop%d", (i+1)%10)
		e.Kind, e.EventType, e.OutRefundNo, e.OutTradeNo, e.Merchant = wepay.Refunded, "REFUND.SUCCESS", o.Number, o.OutTradeNo, o.Merchant
	}
	return o, e
}
