package caddymodule

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	bolt "go.etcd.io/bbolt"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"github.com/windsome/caddy-wepay/wepay"
)

// stock puts ten events into an open outbox that wait, and one that is delivered.
func stock(t *testing.T, b *Bolt) {
	t.Helper()
	for n := range 11 {
		if err := b.Put(t.Context(), waitingEvent(fmt.Sprintf("evt_%d", n))); err != nil {
			t.Fatal(err)
		}
	}
	leases, err := b.Lease(t.Context(), Queue{"shop", wepay.Payment}, 1, time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	leases[0].Event.State, leases[0].Event.Ended = Delivered, time.Now()
	if err := b.Settle(t.Context(), leases[0]); err != nil {
		t.Fatal(err)
	}
}

// Whatever is wrong with the indexes and counts, when the file is opened or
// while it is: they are made anew from the events, of which none is lost.
func TestBoltIndexDamaged(t *testing.T) {
	first := func(tx *bolt.Tx, name []byte) []byte {
		key, _ := tx.Bucket(name).Cursor().First()
		return slices.Clone(key)
	}
	replace := func(tx *bolt.Tx, name, key []byte) error {
		return errors.Join(tx.Bucket(name).Delete(first(tx, name)), tx.Bucket(name).Put(key, nil))
	}
	for _, test := range []struct {
		name   string
		damage func(tx *bolt.Tx) error
		met    bool // found while it is open, too
	}{
		{"a waiting event is not noted", func(tx *bolt.Tx) error { return tx.Bucket(boltDue).Delete(first(tx, boltDue)) }, false},
		{"an unknown event is noted", func(tx *bolt.Tx) error {
			return tx.Bucket(boltDue).Put(dueKey(Queue{"shop", wepay.Payment}, time.Now(), 99), nil)
		}, true},
		{"another number", func(tx *bolt.Tx) error {
			key := first(tx, boltDue)
			key[len(key)-1] ^= 0x40
			return replace(tx, boltDue, key)
		}, true},
		{"another time", func(tx *bolt.Tx) error {
			key := first(tx, boltDue)
			key[len(queueKey(Queue{"shop", wepay.Payment}))+5] ^= 1
			return replace(tx, boltDue, key)
		}, true},
		{"another merchant", func(tx *bolt.Tx) error {
			key := first(tx, boltDue)
			key[2] ^= 1
			return replace(tx, boltDue, key)
		}, false},
		{"a key too short", func(tx *bolt.Tx) error { return replace(tx, boltDue, queueKey(Queue{"shop", wepay.Payment})) }, true},
		{"an event has ended that is not known", func(tx *bolt.Tx) error {
			return tx.Bucket(boltEnded).Put(append(timeKey(time.Unix(0, 0)), numberKey(99)...), nil)
		}, true},
		{"an ID is not noted", func(tx *bolt.Tx) error { return tx.Bucket(boltIDs).Delete(numberKey(3)) }, false},
		{"an ID is noted of no event", func(tx *bolt.Tx) error { return tx.Bucket(boltIDs).Put(numberKey(99), make([]byte, 8)) }, false},
		{"an ID too short", func(tx *bolt.Tx) error { return tx.Bucket(boltIDs).Put(numberKey(3), []byte("abc")) }, false},
		{"a count that is far too high", func(tx *bolt.Tx) error {
			return tx.Bucket(boltCounts).Put([]byte("dead\x00shop"), []byte{0x0f, 0, 0, 0, 0, 0, 0, 0})
		}, false},
		{"a count too high", func(tx *bolt.Tx) error {
			return tx.Bucket(boltCounts).Put([]byte("waiting\x00shop"), []byte{0, 0, 0, 0, 0, 0, 1, 0})
		}, false},
		{"a count too low", func(tx *bolt.Tx) error { return tx.Bucket(boltCounts).Delete([]byte("waiting\x00shop")) }, true},
		{"a count of three bytes", func(tx *bolt.Tx) error { return tx.Bucket(boltCounts).Put([]byte("waiting\x00shop"), []byte("abc")) }, true},
	} {
		for _, open := range []bool{false, true} {
			if open && !test.met {
				continue
			}
			t.Run(fmt.Sprintf("%s, open: %t", test.name, open), func(t *testing.T) {
				b := newBolt(filepath.Join(t.TempDir(), "outbox.db"))
				log, logged := observer.New(zap.ErrorLevel)
				b.logger = zap.New(log)
				if err := b.Open(t.Context()); err != nil {
					t.Fatal(err)
				}
				stock(t, b)
				if open {
					if err := b.write(t.Context(), func(tx *boltTx) error { return test.damage(tx.Tx) }); err != nil {
						t.Fatal(err)
					}
				} else {
					if err := b.Close(); err != nil {
						t.Fatal(err)
					}
					change(t, b.path, test.damage)
					if err := b.Open(t.Context()); err != nil {
						t.Fatal(err)
					}
				}
				if !open && len(b.store.rebuild) > 0 {
					t.Error("they are to be made anew once more")
				}
				checkStock(t, b)
				if len(logged.FilterMessageSnippet("damaged and").All()) == 0 {
					t.Error("the log says nothing of it")
				}
				if kept := keptOf(t, b.path); !test.met && len(kept) != 1 { // found when it was opened
					t.Errorf("kept aside: %q", kept)
				}
			})
		}
	}
}

// keptOf returns the damaged files that are kept beside one.
func keptOf(t *testing.T, path string) []string {
	t.Helper()
	kept, err := filepath.Glob(path + ".damaged-*")
	if err != nil {
		t.Fatal(err)
	}
	return kept
}

// checkStock demands that each event can be had, and closes the outbox.
func checkStock(t *testing.T, b *Bolt) {
	t.Helper()
	_, _ = b.Count(t.Context()) // which finds what is wrong with a count
	err := b.write(t.Context(), func(tx *boltTx) error {
		_, err := tx.forget(time.Unix(1, 0), 10)
		return err
	})
	if err != nil {
		t.Error(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	for n := range 10 {
		leases, err := b.Lease(ctx, Queue{"shop", wepay.Payment}, 1, time.Hour)
		if err != nil {
			t.Fatalf("%d events can be had (%v)", n, err)
		}
		leases[0].Event.State, leases[0].Event.Ended = Delivered, time.Now()
		if err := b.Settle(ctx, leases[0]); err != nil {
			t.Fatal(err)
		}
	}
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
	if err := b.Open(t.Context()); err != nil {
		t.Fatal(err)
	}
	counts, err := b.Count(t.Context())
	if want := []Count{{"shop", Delivered, 11}}; err != nil || !slices.Equal(counts, want) {
		t.Errorf("counted %v (%v), want %v", counts, err, want)
	}
	if err := errors.Join(b.store.readIndexes(), b.Close()); err != nil {
		t.Error(err)
	}
}

// An event that is damaged itself stays when the indexes are made anew, and
// holds up no other.
func TestBoltEventDamaged(t *testing.T) {
	b := newBolt(filepath.Join(t.TempDir(), "outbox.db"))
	if err := b.Open(t.Context()); err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	for n := range 3 {
		if err := b.Put(t.Context(), waitingEvent(fmt.Sprintf("evt_%d", n))); err != nil {
			t.Fatal(err)
		}
	}
	err := b.write(t.Context(), func(tx *boltTx) error {
		record := slices.Clone(tx.Bucket(boltEvents).Get(numberKey(2)))
		record[len(record)-1] ^= 1
		return tx.Bucket(boltEvents).Put(numberKey(2), record)
	})
	if err != nil {
		t.Fatal(err)
	}
	b.store.mistrustIndexes("the test says so")
	leases, err := b.Lease(t.Context(), Queue{"shop", wepay.Payment}, 3, time.Minute)
	if err != nil || len(leases) != 2 {
		t.Errorf("%d events are leased (%v)", len(leases), err)
	}
	// Once the indexes are made anew its ID is known no more.
	if _, err := b.Get(t.Context(), "evt_1"); !errors.Is(err, errDamaged) && !errors.Is(err, ErrNoEvent) {
		t.Errorf("got %v", err)
	}
}

// WeChat's repetition of an event that is damaged is stored: it is whole.
func TestBoltDamagedEventComesAgain(t *testing.T) {
	b := newBolt(filepath.Join(t.TempDir(), "outbox.db"))
	if err := b.Open(t.Context()); err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	e := waitingEvent("evt_1")
	if err := b.Put(t.Context(), e); err != nil {
		t.Fatal(err)
	}
	err := b.write(t.Context(), func(tx *boltTx) error {
		return tx.Bucket(boltEvents).Put(numberKey(1), []byte("no record"))
	})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := b.Get(t.Context(), e.ID); !errors.Is(err, errDamaged) {
		t.Errorf("got %v", err)
	}
	for range 2 {
		if err := b.Put(t.Context(), e); err != nil {
			t.Fatal(err)
		}
	}
	leases, err := b.Lease(t.Context(), Queue{"shop", wepay.Payment}, 3, time.Minute)
	if err != nil || len(leases) != 1 || string(leases[0].Event.Payload) != string(e.Payload) {
		t.Errorf("leased %v (%v)", leases, err)
	}
}

// Two IDs with the same hash are two events.
func TestBoltSameHash(t *testing.T) {
	b := newBolt(filepath.Join(t.TempDir(), "outbox.db"))
	if err := b.Open(t.Context()); err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	if err := b.Put(t.Context(), waitingEvent("evt_1")); err != nil {
		t.Fatal(err)
	}
	b.store.numbers.settle(map[idHash]uint64{hashOf("evt_2"): 1}, nil)
	if _, err := b.Get(t.Context(), "evt_2"); !errors.Is(err, ErrNoEvent) {
		t.Errorf("got %v", err)
	}
	if err := b.Put(t.Context(), waitingEvent("evt_2")); err != nil {
		t.Fatal(err)
	}
	for _, id := range []string{"evt_1", "evt_2"} {
		if e, err := b.Get(t.Context(), id); err != nil || e.ID != id {
			t.Errorf("%s is %v (%v)", id, e, err)
		}
	}
}

// Where bbolt panics in the middle of its own work, callers are told so at once,
// those that wait as well as later ones, and the end waits for nothing.
func TestBoltBroken(t *testing.T) {
	b := newBolt(filepath.Join(t.TempDir(), "outbox.db"))
	log, logged := observer.New(zap.ErrorLevel)
	b.logger = zap.New(log)
	if err := b.Open(t.Context()); err != nil {
		t.Fatal(err)
	}
	stock(t, b)
	_ = b.write(t.Context(), func(tx *boltTx) error { // of which the end is not known
		tx.OnCommit(func() { panic("page 7 already freed") })
		return nil
	})
	held, err := b.store.db.Begin(true) // the lock that a panic leaves behind
	if err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := b.Put(t.Context(), waitingEvent("evt_late")); err == nil || !strings.Contains(err.Error(), "until the server is restarted") {
			t.Errorf("got %v", err)
		}
	}
	if _, err := b.Get(t.Context(), "evt_1"); err != nil {
		t.Error(err)
	}
	if len(logged.FilterMessageSnippet("broken").All()) != 1 {
		t.Errorf("logged: %v", logged.All())
	}
	if err := b.Close(); err != nil {
		t.Error(err)
	}
	if err := errors.Join(held.Rollback(), b.store.db.Close()); err != nil { // as the process's end does
		t.Fatal(err)
	}
	if err := b.Open(t.Context()); err != nil {
		t.Fatal(err)
	}
	counts, err := b.Count(t.Context())
	if want := []Count{{"shop", Delivered, 1}, {"shop", Waiting, 10}}; err != nil || !slices.Equal(counts, want) {
		t.Errorf("counted %v (%v), want %v", counts, err, want)
	}
	if err := b.Close(); err != nil {
		t.Error(err)
	}
}

// What is left of a file that was only half made when the power went stands in
// nobody's way, and a file that is made leaves nothing beside it.
func TestBoltMadeAside(t *testing.T) {
	dir := t.TempDir()
	half := filepath.Join(dir, "outbox.db.new-1")
	if err := os.WriteFile(half, []byte("half"), 0o600); err != nil {
		t.Fatal(err)
	}
	fill(t, filepath.Join(dir, "outbox.db"))
	entries, err := os.ReadDir(dir)
	if err != nil || len(entries) != 2 {
		t.Errorf("there are %v (%v)", entries, err)
	}
	info, err := os.Stat(filepath.Join(dir, "outbox.db"))
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("its mode is %v (%v)", info.Mode(), err)
	}
}
