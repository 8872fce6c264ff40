package reconcile_test

import (
	"path/filepath"
	"testing"

	"github.com/caddyserver/caddy/v2"

	"github.com/windsome/caddy-wepay/caddymodule/recovery"
	"github.com/windsome/caddy-wepay/caddymodule/store"
	"github.com/windsome/caddy-wepay/caddymodule/store/sqlstore"
)

// What a database makes of times and texts does not lose a row that is held.
func TestSQLite(t *testing.T) {
	w := newWorld(t)
	ctx, cancel := caddy.NewContext(caddy.Context{Context: t.Context()})
	defer cancel()
	file := &sqlstore.SQLite{Path: filepath.Join(t.TempDir(), "store.db")}
	if err := file.Provision(ctx); err != nil {
		t.Fatal(err)
	}
	if err := file.Open(ctx, store.Options{Now: w.clock, LongestOrderWait: recovery.DefaultSchedule.LongestWait()}); err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	w.store = file
	w.restart(direct("shop"), direct("mini"))
	w.weChat.bills["/20261129"] = billOf(row{transactionID: "T1", number: "A1", total: 100}, row{transactionID: "T2", number: "A2", total: 5},
		row{state: "REFUND", transactionID: "T2", number: "A2", refundID: "5", refund: "R2", status: "SUCCESS", refunded: 3})
	w.put(order("A1", 100, func(o *store.Order) { o.State = store.OrderClosed }), order("A2", 5), event("A2", "T2", 5), event("A3", "T3", 7),
		refund("R2", "A2", 3), refundEvent("R2", "A2", "T2", 3))
	w.weChat.pays("A1", "T1", 100)
	w.weChat.refuses = making
	if w.turn() != 1 || w.turn() != 0 || w.rows()[date] != store.OrderPlaced {
		t.Fatalf("it is %s", w.rows()[date])
	}
	w.weChat.refuses = nil
	w.set(morning.Add(busyAWhile))
	if w.turn() != 1 || w.rows()[date] != store.OrderReconciled || len(w.made) != 1 {
		t.Fatalf("it is %s", w.rows()[date])
	}
	w.check(w.made[0], "paid_not_handed_over A1 100/100/100 paid waiting handed_over", "handed_over_not_in_bill A3 0/0/7  delivered ")
}
