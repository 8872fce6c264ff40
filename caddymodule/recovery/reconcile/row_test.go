package reconcile_test

import (
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"go.uber.org/zap"

	"github.com/windsome/caddy-wepay/caddymodule/store"
	"github.com/windsome/caddy-wepay/wepay"
)

const day = 24 * time.Hour

// run lets time go by in steps, and does what is due. It returns how many rows that were.
func (w *world) run(until time.Time, step time.Duration) (claimed int) {
	w.Helper()
	for w.clock().Before(until) {
		w.set(w.clock().Add(step))
		claimed += w.turn()
	}
	return claimed
}

// dates are so many days on from one.
func dates(from string, days int) (all []string) {
	at, _ := time.ParseInLocation(time.DateOnly, from, wepay.Beijing)
	for i := range days {
		all = append(all, at.AddDate(0, 0, i).Format(time.DateOnly))
	}
	return all
}

// A month: each day's bill is reconciled once, after ten, and what was missed while the
// server was down is caught up with.
func TestMonth(t *testing.T) {
	w := newWorld(t)
	began := time.Date(2026, 11, 30, 0, 30, 0, 0, wepay.Beijing)
	w.set(began)
	for _, date := range dates("2026-11-29", 60) {
		bill := row{transactionID: "T" + date, number: "A" + date, total: 100}
		bill.at, _ = time.ParseInLocation(time.DateOnly, date, wepay.Beijing)
		w.weChat.bills["/"+strings.ReplaceAll(date, "-", "")] = billOf(bill)
	}
	turns := w.run(began.Add(9*time.Hour), 7*time.Minute)
	if turns > 3 {
		t.Errorf("the row was claimed %d times before it was time", turns)
	}
	if len(w.made) != 0 || len(w.weChat.fetched) != 0 || !maps.Equal(w.rows(), map[string]store.OrderState{"2026-11-29": store.OrderPlaced}) {
		t.Fatalf("before ten there were %d reports, %q was downloaded, and the rows are %v", len(w.made), w.weChat.fetched, w.rows())
	}
	w.run(began.Add(9*time.Hour+50*time.Minute), 7*time.Minute)
	if len(w.made) != 1 {
		t.Fatalf("at twenty past ten there are %d reports, and the rows are %v", len(w.made), w.rows())
	}
	w.run(began.Add(10*day), 7*time.Minute)
	w.set(began.Add(13 * day)) // it was down
	w.restart(direct("renamed"), direct("mini"))
	w.turn()
	w.run(began.Add(20*day), 7*time.Minute)
	if reports, want := slices.Sorted(maps.Keys(w.rows())), dates("2026-11-29", 21); !slices.Equal(reports, want) {
		t.Errorf("there are rows of %q, want %q", reports, want)
	}
	for date, state := range w.rows() {
		if date != "2026-12-19" && state != store.OrderReconciled {
			t.Errorf("%s is %s", date, state)
		}
	}
	want := dates("2026-11-29", 20)
	for i, date := range want {
		want[i] = "/" + strings.ReplaceAll(date, "-", "")
	}
	if got := slices.Sorted(slices.Values(w.weChat.fetched)); !slices.Equal(got, want) {
		t.Errorf("downloaded %q, each is wanted once", got)
	}
	w.set(began.Add(200 * day))
	w.restart(direct("renamed"), direct("mini"))
	w.turn()
	if got := len(w.rows()); got != 21+30 {
		t.Errorf("after half a year there are %d rows, want 30 more than 21", got)
	}
}

// A merchant that is new begins with yesterday, whatever the day.
func TestNewMerchant(t *testing.T) {
	w := newWorld(t)
	w.turn()
	if got := w.rows(); len(got) != 1 || got[date] != store.OrderReconciled {
		t.Errorf("the rows are %v", got)
	}
	if len(w.made) != 1 || !w.made[0].NoBill || w.made[0].All() != 0 {
		t.Errorf("the reports are %+v", w.made)
	}
}

// making is what WeChat says while it makes a bill, which is over after a while.
var making = &wepay.Error{Operation: wepay.DownloadBill, Verdict: wepay.Later, Message: "Bill Creating"}

const busyAWhile = 15 * time.Minute

// While WeChat has no bill yet, it is asked for again after growing waits, and that is
// said once.
func TestLater(t *testing.T) {
	away := &wepay.Error{Operation: wepay.DownloadBill, Verdict: wepay.Again, Err: wepay.ErrNoAnswer}
	for name, test := range map[string]struct {
		refuses *wepay.Error
		warns   int
	}{"in the making": {making, 0}, "no answer": {away, 1}} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			w.weChat.refuses = test.refuses
			w.run(morning.Add(day), 10*time.Minute)
			tries := 0
			for _, key := range w.weChat.fetched {
				if key == "/20261129" {
					tries++
				}
			}
			if tries < 7 || tries > 12 || w.rows()[date] != store.OrderPlaced || len(w.made) != 0 {
				t.Errorf("it was tried %d times in a day, and is %s", tries, w.rows()[date])
			}
			if got := w.log.FilterMessageSnippet("tried again").FilterField(zap.String("date", date)).FilterLevelExact(zap.WarnLevel).Len(); got != test.warns {
				t.Errorf("that was warned of %d times", got)
			}
			w.weChat.refuses = nil
			w.run(morning.Add(day+7*time.Hour), 10*time.Minute)
			if w.rows()[date] != store.OrderReconciled {
				t.Errorf("then it is %s", w.rows()[date])
			}
			w.weChat.refuses = away
			w.run(morning.Add(2*day), 10*time.Minute)
			w.set(morning.Add(35 * day))
			w.turn()
			if w.rows()["2026-11-30"] == store.OrderPlaced {
				t.Error("a bill of 34 days ago is still asked for")
			}
		})
	}
}

// That nothing was traded is not believed at once where something was handed over.
func TestNoBill(t *testing.T) {
	w := newWorld(t)
	w.put(event("A1", "T1", 100))
	w.turn()
	if len(w.made) != 0 {
		t.Fatal("it was believed at once")
	}
	w.run(morning.Add(4*time.Hour), 5*time.Minute)
	if len(w.made) != 1 || !w.made[0].NoBill {
		t.Fatalf("there are %d reports", len(w.made))
	}
	w.check(w.made[0], "handed_over_not_in_bill A1 0/0/100  delivered ")
}

// A bill that will never add up is given up, which is said once; one that breaks off is
// asked for again.
func TestGivesUp(t *testing.T) {
	w := newWorld(t)
	good := billOf(row{transactionID: "T1", number: "A1", total: 100})
	w.weChat.bills["/20261129"] = strings.Replace(good, "`1,`1.00", "`2,`1.00", 1)
	w.run(morning.Add(12*time.Hour), 10*time.Minute)
	errs := w.log.FilterLevelExact(zap.ErrorLevel)
	if w.rows()[date] != store.OrderFailed || len(w.weChat.fetched) != 1 || errs.Len() != 1 || len(w.made) != 0 {
		t.Errorf("it is %s after %d downloads, and there are %d errors", w.rows()[date], len(w.weChat.fetched), errs.Len())
	}
	w = newWorld(t)
	w.weChat.bills["/20261129"] = good[:len(good)/2]
	w.turn()
	w.weChat.bills["/20261129"] = good
	w.run(morning.Add(time.Hour), 5*time.Minute)
	if w.rows()[date] != store.OrderReconciled || len(w.weChat.fetched) != 2 {
		t.Errorf("it is %s after %d downloads", w.rows()[date], len(w.weChat.fetched))
	}
}

// What WeChat gave no answer about is asked about again before the report is final.
func TestAsksAgain(t *testing.T) {
	w := newWorld(t)
	w.weChat.bills["/20261129"] = billOf(row{transactionID: "T1", number: "A1", total: 100})
	w.put(order("A1", 100, func(o *store.Order) { o.State = store.OrderClosed }))
	w.weChat.pays("A1", "T1", 100)
	w.weChat.away = true
	w.turn()
	if len(w.made) != 0 {
		t.Fatal("the report is final")
	}
	w.weChat.away = false
	w.run(morning.Add(time.Hour), 5*time.Minute)
	w.check(w.made[0], "paid_not_handed_over A1 100/100/100 paid waiting handed_over")
	if w.rows()[date] != store.OrderReconciled {
		t.Errorf("it is %s", w.rows()[date])
	}
}

// A report that cannot be stored is made again.
func TestStorageFull(t *testing.T) {
	w := newWorld(t)
	w.storage.full = true
	w.turn()
	w.storage.full = false
	if w.rows()[date] != store.OrderPlaced || len(w.made) != 0 {
		t.Fatalf("it is %s", w.rows()[date])
	}
	w.run(morning.Add(time.Hour), 5*time.Minute)
	if report, err := w.Stored(t.Context(), "mini", date); err != nil || report.Date != date || report.MchID != mchID {
		t.Errorf("got %+v (%v)", report, err)
	}
}
