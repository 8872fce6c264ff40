package sqlstore

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/ncruces/go-sqlite3"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"github.com/windsome/caddy-wepay/caddymodule/store"
	"github.com/windsome/caddy-wepay/wepay"
)

var queue = store.Queue{Merchant: "shop", Kind: wepay.Payment}

func event(id string) *store.Event {
	now := time.Now()
	return &store.Event{
		ID: id, Merchant: queue.Merchant, Kind: queue.Kind, EventType: "TRANSACTION.SUCCESS",
		OutTradeNo: "order" + id, TransactionID: "42000" + id, Amount: 129900, Currency: "CNY",
		Payload:  []byte(`{"out_trade_no":"` + id + `","attach":"` + strings.Repeat("x", 600) + `"}`),
		Received: now, State: store.Waiting, Due: now, Since: now,
	}
}

func eventID(n int) string { return fmt.Sprintf("evt_%032x", n) }

// open opens a store, which the test closes.
func open(t testing.TB, s store.Store, options store.Options) {
	t.Helper()
	if err := s.Open(context.Background(), options); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() }) // the test looks at what matters
}

// await waits until something holds.
func await(t testing.TB, what string, holds func() bool) {
	t.Helper()
	deadline := time.NewTimer(2 * time.Minute)
	defer deadline.Stop()
	for !holds() {
		select {
		case <-deadline.C:
			t.Fatalf("waiting in vain until %s", what)
		case <-time.After(10 * time.Millisecond):
		}
	}
}

// openSQLiteAt opens a store in a file, and observes its log.
func openSQLiteAt(t testing.TB, path string) (*SQLite, *observer.ObservedLogs) {
	t.Helper()
	s := provisioned(t, &SQLite{Path: path})
	core, logs := observer.New(zap.InfoLevel)
	s.logger = zap.New(core)
	open(t, s, store.Options{})
	return s, logs
}

// fill puts a number of events and closes the store.
func fill(t testing.TB, path string, n int) {
	t.Helper()
	s, _ := openSQLiteAt(t, path)
	put(t, s, 0, n)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
}

// put puts events of the numbers from first to last, at once.
func put(t testing.TB, s store.Store, first, last int) {
	t.Helper()
	var puts sync.WaitGroup
	for n := first; n < last; n++ {
		puts.Go(func() {
			if added, err := s.Put(context.Background(), event(eventID(n))); err != nil || !added {
				t.Errorf("Put of %d: added is %v (%v)", n, added, err)
			}
		})
	}
	puts.Wait()
}

// drain leases and settles until nothing waits, and returns the IDs.
func drain(t testing.TB, s store.Store) map[string]bool {
	t.Helper()
	got := make(map[string]bool)
	await(t, "all is handed over", func() bool {
		counts, err := s.Count(t.Context())
		if err != nil {
			return false // its database may be gone for a while
		}
		if waiting, _ := store.Left(counts); waiting == 0 {
			return true
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		leases, err := s.Lease(ctx, queue, 50, time.Minute)
		if err != nil {
			return false // others hold what is left
		}
		for _, lease := range leases {
			if got[lease.Event.ID] {
				t.Errorf("%s is leased twice", lease.Event.ID)
			}
			got[lease.Event.ID] = true
			lease.Event.State, lease.Event.Ended = store.Delivered, time.Now()
			if err := s.Settle(t.Context(), lease); err != nil {
				t.Fatal(err)
			}
		}
		return false
	})
	return got
}

// A second process is refused by the file's name and the first one's number, and a
// reader is not. The lock ends with the process.
func TestSQLiteSecondProcess(t *testing.T) {
	path := filepath.Join(t.TempDir(), "store.db")
	cmd, _ := startWriter(t, "sqlite", path)
	s := provisioned(t, &SQLite{Path: path})
	err := s.Open(t.Context(), store.Options{})
	if err == nil || !strings.Contains(err.Error(), path) || !strings.Contains(err.Error(), strconv.Itoa(cmd.Process.Pid)) {
		t.Errorf("a second process: %v", err)
	}
	reader, err := sqlite3.OpenFlags(path, sqlite3.OPEN_READONLY)
	if err != nil {
		t.Fatal(err)
	}
	if err := reader.Exec("SELECT COUNT(*) FROM wepay_event"); err != nil {
		t.Errorf("a reader: %v", err)
	}
	if err := errors.Join(reader.Close(), cmd.Process.Kill()); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait() // it was killed
	open(t, s, store.Options{})
}

// corrupt overwrites the pages of a file but the first.
func corrupt(t testing.TB, path string) {
	t.Helper()
	content, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for at := 4096; at < len(content); at += 4096 {
		copy(content[at:], bytes.Repeat([]byte{0xa5}, 200))
	}
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	_, err = f.WriteAt(content, 0)
	if err := errors.Join(err, f.Close()); err != nil {
		t.Fatal(err)
	}
}

// corruptPageOf overwrites the start of the page that has an event's payload, which
// is read only when that is.
func corruptPageOf(t testing.TB, path, id string) {
	t.Helper()
	content, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	at := bytes.Index(content, []byte(`{"out_trade_no":"`+id)) &^ 4095
	copy(content[at:], bytes.Repeat([]byte{0xa5}, 8))
	write(t, path, string(content))
}

// A file that is damaged, or lacks something, refuses the start by its name, with
// what to do, and is left as it is.
func TestSQLiteRefused(t *testing.T) {
	kill := func(t *testing.T, path string) { // as kill -9 leaves it
		lock, err := acquireLock(path)
		if err != nil {
			t.Fatal(err)
		}
		if err := errors.Join(lock.write("1"), lock.release()); err != nil {
			t.Fatal(err)
		}
	}
	for name, test := range map[string]struct {
		harm func(t *testing.T, path string)
		want string
	}{
		"overwritten":          {func(t *testing.T, path string) { corrupt(t, path) }, ".recover"},
		"one page overwritten": {func(t *testing.T, path string) { corruptPageOf(t, path, eventID(50)) }, ".recover"},
		"cut off":              {func(t *testing.T, path string) { truncate(t, path, 40_000) }, ".recover"},
		"something else":       {func(t *testing.T, path string) { write(t, path, "hello") }, ".recover"},
		"emptied":              {func(t *testing.T, path string) { truncate(t, path, 0) }, "is empty"},
		"without its log":      {func(t *testing.T, path string) { kill(t, path) }, "-wal"},
		"of a newer version": {func(t *testing.T, path string) {
			db, err := sqlite3.Open(path)
			if err != nil {
				t.Fatal(err)
			}
			if err := errors.Join(db.Exec("INSERT INTO wepay_schema VALUES (99)"), db.Close()); err != nil {
				t.Fatal(err)
			}
		}, "newer"},
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "store.db")
			fill(t, path, 100)
			test.harm(t, path)
			before, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			for range 2 {
				err := provisioned(t, &SQLite{Path: path}).Open(t.Context(), store.Options{})
				if err == nil || !strings.Contains(err.Error(), test.want) || !strings.Contains(err.Error(), path) {
					t.Fatalf("Open: %v", err)
				}
			}
			if after, err := os.ReadFile(path); err != nil || !bytes.Equal(before, after) {
				t.Errorf("the file is not as it was (%v)", err)
			}
		})
	}
}

func truncate(t testing.TB, path string, size int64) {
	t.Helper()
	if err := os.Truncate(path, size); err != nil {
		t.Fatal(err)
	}
}

func write(t testing.TB, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// A file that is moved, removed or replaced takes no new events, says so once, and
// hands over those that it has.
func TestSQLiteAstray(t *testing.T) {
	for name, move := range map[string]func(path string) error{
		"moved":       func(path string) error { return os.Rename(path, path+".old") },
		"removed":     os.Remove,
		"log removed": func(path string) error { return os.Remove(path + "-wal") },
		"replaced": func(path string) error {
			return errors.Join(os.Rename(path, path+".old"), os.WriteFile(path, nil, 0o600))
		},
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "store.db")
			s, logs := openSQLiteAt(t, path)
			put(t, s, 0, 20)
			if err := move(path); err != nil {
				t.Fatal(err)
			}
			_, err := s.Put(t.Context(), event(eventID(100)))
			if !errors.Is(err, store.ErrUnavailable) || !strings.Contains(err.Error(), path) {
				t.Errorf("Put: %v", err)
			}
			if err := place(t.Context(), s, 1); !errors.Is(err, store.ErrUnavailable) {
				t.Errorf("Transact: %v", err)
			}
			said := func() int { return logs.FilterMessage("the store's file is not where it was").Len() }
			await(t, "it is logged", func() bool { return said() > 0 })
			if got := drain(t, s); len(got) != 20 {
				t.Errorf("%d events are handed over, want 20", len(got))
			}
			if n := said(); n != 1 {
				t.Errorf("it is logged %d times", n)
			}
			if err := s.Close(); err != nil {
				t.Errorf("Close: %v", err)
			}
		})
	}
}

// A file that is harmed while it is open takes nothing more once that is found,
// and neither ends the process nor holds up its end.
func TestSQLiteHarmedWhileOpen(t *testing.T) {
	for name, harm := range map[string]func(t *testing.T, path string){
		"overwritten":   func(t *testing.T, path string) { corrupt(t, path) },
		"cut off":       func(t *testing.T, path string) { truncate(t, path, 8192) },
		"log cut off":   func(t *testing.T, path string) { truncate(t, path+"-wal", 0) },
		"index cut off": func(t *testing.T, path string) { truncate(t, path+"-shm", 0) },
		"all cut off": func(t *testing.T, path string) {
			truncate(t, path, 0)
			truncate(t, path+"-wal", 0)
			truncate(t, path+"-shm", 0)
		},
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "store.db")
			fill(t, path, 3000)
			s, logs := openSQLiteAt(t, path)
			put(t, s, 3000, 3100)
			harm(t, path)
			for n := range 300 { // each may fail; none may block or panic
				ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
				_, _ = s.Put(ctx, event(eventID(10_000+n)))
				_, _ = s.Get(ctx, eventID(n*10))
				if leases, err := s.Lease(ctx, queue, 5, time.Minute); err == nil {
					leases[0].Event.State = store.Delivered
					_ = s.Settle(ctx, leases[0])
				}
				if ctx.Err() != nil {
					t.Fatal("it blocks")
				}
				cancel()
			}
			if _, err := s.Put(t.Context(), event(eventID(99_999))); err == nil {
				t.Error("it goes on as if nothing was")
			} else if logs.FilterLevelExact(zap.ErrorLevel).Len() == 0 {
				t.Errorf("nothing is logged of %v", err)
			}
			began := time.Now()
			_ = s.Close() // may say what is wrong
			if took := time.Since(began); took > time.Second {
				t.Errorf("Close takes %s", took)
			}
		})
	}
}

// A row that an index does not have is found by the slow check.
func TestSQLiteSlowCheck(t *testing.T) {
	for index, on := range map[string]string{
		"wepay_event_queue":              "wepay_event (state, merchant, kind, due, received)",
		"sqlite_autoindex_wepay_event_1": "wepay_event (id)",
		"wepay_order_due":                "wepay_order (merchant, due) WHERE due IS NOT NULL",
		"sqlite_autoindex_wepay_order_1": "wepay_order (number, kind, mch_id, sub_mch_id)",
	} {
		t.Run(index, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "store.db")
			s, _ := openSQLiteAt(t, path)
			put(t, s, 0, 500)
			for n := range 3 {
				if err := place(t.Context(), s, n); err != nil {
					t.Fatal(err)
				}
			}
			if err := s.Close(); err != nil {
				t.Fatal(err)
			}
			emptyIndex(t, path, index, on)
			s, logs := openSQLiteAt(t, path)
			await(t, "it is found", func() bool { return logs.FilterMessage("the store's file is damaged").Len() > 0 })
			if _, err := s.Put(t.Context(), event("evt_x")); !errors.Is(err, store.ErrUnavailable) || !strings.Contains(err.Error(), ".recover") {
				t.Errorf("Put: %v", err)
			}
		})
	}
}

// emptyIndex gives an index of a file that was closed the pages of one that is empty.
func emptyIndex(t *testing.T, path, index, on string) {
	t.Helper()
	db, err := sqlite3.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	table, columns, _ := strings.Cut(on, " ")
	err = errors.Join(db.Exec(`
		CREATE TABLE other AS SELECT * FROM `+table+` WHERE 0;
		CREATE INDEX other_index ON other `+columns+`;
		PRAGMA writable_schema = ON;
		UPDATE sqlite_schema SET rootpage = (SELECT rootpage FROM sqlite_schema WHERE name = 'other_index') WHERE name = '`+index+`';`), db.Close())
	if err != nil {
		t.Fatal(err)
	}
	lock, err := acquireLock(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(lock.markClosed(path), lock.release()); err != nil {
		t.Fatal(err)
	}
}
