package reconcile_test

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/windsome/caddy-wepay/caddymodule/recovery"
	"github.com/windsome/caddy-wepay/caddymodule/store"
	"github.com/windsome/caddy-wepay/wepay"
)

const other = "1900000200" // another account

// fleet is two servers on one store, at one minute to ten.
func fleet(t *testing.T) (w *world, servers [2]*recovery.Recovery) {
	t.Helper()
	w = newWorld(t)
	w.now, w.since = time.Date(2026, 11, 30, 9, 59, 0, 0, wepay.Beijing), time.Now()
	w.weChat.bills["/20261129"] = billOf(row{transactionID: "T1", number: "A1", total: 100})
	second := direct("other")
	second.MchID = other
	for i := range servers {
		w.restart(direct("shop"), second)
		servers[i] = w.recovery
		servers[i].Start()
		t.Cleanup(servers[i].Stop)
	}
	return w, servers
}

// awaitDownload waits until a bill is being downloaded.
func (w *world) awaitDownload() {
	w.Helper()
	for range 1000 {
		if w.weChat.downloads() > 0 {
			return
		}
		time.Sleep(time.Second)
	}
	w.Fatal("no bill is downloaded")
}

// Of two servers on one store one reconciles a bill, also one that takes longer than a
// claim lasts, and one bill at a time.
func TestFleet(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, _ := fleet(t)
		w.weChat.takes(4 * time.Minute)
		time.Sleep(25 * time.Minute)
		if w.rows()[date] != store.OrderReconciled || w.weChat.downloads() != 2 || w.reported(mchID) != 1 || w.reported(other) != 1 {
			t.Errorf("%d bills were downloaded, and %d reports made", w.weChat.downloads(), len(w.made))
		}
	})
}

// When a server dies over a bill, another takes it over.
func TestFleetTakesOver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, servers := fleet(t)
		w.weChat.takes(4 * time.Minute)
		w.awaitDownload()
		servers[0].Stop()
		servers[1].Stop()
		if w.weChat.downloads() == 0 || w.reported(mchID) != 0 {
			t.Fatalf("%d bills were being downloaded", w.weChat.downloads())
		}
		w.weChat.takes(0)
		w.restart(direct("shop"))
		w.recovery.Start()
		defer w.recovery.Stop()
		time.Sleep(4 * time.Minute)
		if w.reported(mchID) != 1 {
			t.Errorf("%d reports were made, and the rows are %v", w.reported(mchID), w.rows())
		}
	})
}

// A bill that another has taken over is left to it.
func TestFleetLoses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, servers := fleet(t)
		servers[1].Stop()
		w.weChat.takes(4 * time.Minute)
		w.awaitDownload()
		err := w.store.Transact(t.Context(), func(tx store.Tx) error {
			rows, err := tx.Orders(store.DailyBill, date)
			for _, row := range rows {
				if row.State, row.Due = store.OrderReconciled, (time.Time{}); err == nil {
					err = tx.SetOrder(row)
				}
			}
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
		time.Sleep(30 * time.Minute)
		if w.reported(mchID)+w.reported(other) != 0 {
			t.Errorf("%d reports were made", len(w.made))
		}
	})
}
