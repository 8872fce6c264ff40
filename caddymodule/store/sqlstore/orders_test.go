package sqlstore

import (
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/windsome/caddy-wepay/caddymodule/internal/dbtest"
	"github.com/windsome/caddy-wepay/caddymodule/store"
)

// A panic in a transaction comes out where its caller recovers it, as one of a handler
// does in Caddy, undoes it, and takes no others with it.
func TestTransactPanics(t *testing.T) {
	for engine, where := range map[string]func(t *testing.T) string{
		"sqlite":   func(t *testing.T) string { return filepath.Join(t.TempDir(), "store.db") },
		"postgres": func(t *testing.T) string { return dbtest.StartPostgres(t, "fsync=off").NewDSN(t) },
	} {
		t.Run(engine, func(t *testing.T) {
			s := provisioned(t, storeOf(engine, where(t)))
			open(t, s, store.Options{})
			var callers sync.WaitGroup
			for n := range 2 * mostConnections {
				callers.Go(func() {
					defer func() {
						if p := recover(); (n%2 == 0) != (p != nil) || p != nil && !strings.Contains(fmt.Sprint(p), "a fault of mine") {
							t.Errorf("transaction %d: panic %v", n, p)
						}
					}()
					err := s.Transact(t.Context(), func(tx store.Tx) error {
						if err := tx.SetOrder(placed(n)); err != nil || n%2 == 1 {
							return err
						}
						panic("a fault of mine")
					})
					if err != nil {
						t.Errorf("transaction %d: %v", n, err)
					}
				})
			}
			callers.Wait()
			counts, err := s.CountOrders(t.Context())
			if err != nil || len(counts) != 1 || counts[0].Orders != mostConnections {
				t.Errorf("counted: %v (%v)", counts, err)
			}
		})
	}
}

// Transactions that come at the same time share commits, also with one that fails.
func TestTransactsShareCommits(t *testing.T) {
	s, _ := openSQLiteAt(t, filepath.Join(t.TempDir(), "store.db"))
	begun, goOn := make(chan struct{}), make(chan struct{})
	var callers sync.WaitGroup
	callers.Go(func() { // holds up the committer, so that the others come together
		err := s.Transact(t.Context(), func(store.Tx) error {
			close(begun)
			<-goOn
			return nil
		})
		if err != nil {
			t.Error(err)
		}
	})
	<-begun
	visible := func() (n int64) {
		err := s.db.look(t.Context(), func(s session) error {
			return s.query("SELECT COUNT(*) FROM wepay_order", func(scan func(...any) error) error { return scan(&n) })
		})
		if err != nil {
			t.Error(err)
		}
		return n
	}
	var runs atomic.Int64
	const all = 20
	for n := range all {
		callers.Go(func() {
			err := s.Transact(t.Context(), func(tx store.Tx) error {
				runs.Add(1)
				if n := visible(); n > 0 {
					t.Errorf("%d of those that came at the same time are committed before others have run", n)
				}
				err := tx.SetOrder(placed(n))
				if n == 7 {
					return errors.New("too late")
				}
				return err
			})
			if (err != nil) != (n == 7) {
				t.Errorf("transaction %d: %v", n, err)
			}
		})
	}
	await(t, "all wait", func() bool { return len(s.db.commits.jobs) == all })
	close(goOn)
	callers.Wait()
	if runs.Load() != all || visible() != all-1 {
		t.Errorf("%d runs, %d orders: one that failed had others run again", runs.Load(), visible())
	}
}

// All events of a time are found, however many, and those that were received in one
// millisecond.
func TestOccurredInParts(t *testing.T) {
	s, _ := openSQLiteAt(t, filepath.Join(t.TempDir(), "store.db"))
	at := time.Now().Add(-time.Hour).Truncate(time.Millisecond)
	const all = 2*occurredRows + 3
	for part := range 3 {
		err := s.Transact(t.Context(), func(tx store.Tx) error {
			for n := part * all / 3; n < (part+1)*all/3; n++ {
				e := event(eventID(n))
				e.Occurred, e.Received = at, at.Add(time.Duration(n/(occurredRows/2))*time.Second)
				if _, err := tx.Put(e); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	found := make(map[string]bool)
	err := s.Occurred(t.Context(), queue, at, at.Add(time.Second), func(e *store.Event) error {
		if found[e.ID] {
			t.Errorf("%s comes twice", e.ID)
		}
		found[e.ID] = true
		return nil
	})
	if err != nil || len(found) != all {
		t.Errorf("%d events, want %d (%v)", len(found), all, err)
	}
}

// No statement looks at all orders, but those that list or count them.
func TestOrderPlans(t *testing.T) {
	s, _ := openSQLiteAt(t, filepath.Join(t.TempDir(), "store.db"))
	byNumber := numbered("wepay_order", []string{"a"}, "number", "out_trade_no", "transaction_id")
	for query, want := range map[string]string{
		selectOrder + "wepay_order WHERE number = ? AND kind = ?":                     "sqlite_autoindex_wepay_order_1 (number=? AND kind=?)",
		selectOrder + "wepay_order WHERE out_trade_no = ? AND kind = ?":               "wepay_order_out_trade_no (out_trade_no=?)",
		selectOrder + "wepay_order WHERE merchant = ? AND due <= ? ORDER BY due, seq": "wepay_order_due (merchant=? AND due<?)",
		selectOrder + "wepay_order WHERE merchant = ? AND due > ? ORDER BY due, seq":  "wepay_order_due (merchant=? AND due>?)",
		"SELECT seq FROM wepay_order WHERE ended < ? LIMIT ?":                         "wepay_order_ended (ended<?)",
		"SELECT seq FROM " + byNumber.from:                                            "wepay_order_transaction_id (transaction_id=?)",
		skipScanOrders:                                                                "wepay_order_due (merchant=?",
		updateOrder:                                                                   "INTEGER PRIMARY KEY (rowid=?)",
	} {
		var plan []string
		err := s.db.look(t.Context(), func(s session) error {
			return s.query("EXPLAIN QUERY PLAN "+query, func(scan func(...any) error) error {
				var id, parent, unused int64
				var detail string
				err := scan(&id, &parent, &unused, &detail)
				plan = append(plan, detail)
				return err
			})
		})
		text := strings.Join(plan, "\n")
		if err != nil || !strings.Contains(text, want) || strings.Contains(text, "SCAN wepay_order") || strings.Contains(text, "SCAN o") ||
			strings.Contains(query, "ORDER BY") && strings.Contains(text, "TEMP B-TREE") {
			t.Errorf("%s\n%s (%v)\nwant %s", query, text, err, want)
		}
	}
}
