//go:build unix

package caddymodule

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	bolt "go.etcd.io/bbolt"

	"github.com/windsome/caddy-wepay/wepay"
)

// waitingEvent is an event that is due.
func waitingEvent(id string) *Event {
	now := time.Now()
	return &Event{
		ID: id, Merchant: "shop", Kind: wepay.Payment, Payload: []byte(`{"total_fee":"1200","attach":"` + strings.Repeat("x", 500) + `"}`),
		Received: now, State: Waiting, Due: now, Since: now,
	}
}

// A file that is no outbox, or not one of this version, is refused and left as
// it is.
func TestBoltRefusesFile(t *testing.T) {
	for _, test := range []struct {
		name  string
		write func(t *testing.T, path string)
		want  string
		kept  bool // a copy aside
	}{
		{"text", func(t *testing.T, path string) {
			if err := os.WriteFile(path, []byte(strings.Repeat("no outbox ", 2000)), 0o600); err != nil {
				t.Fatal(err)
			}
		}, "is damaged; a copy is at", true},
		{"cut off", func(t *testing.T, path string) {
			fill(t, path)
			if err := os.Truncate(path, 3*4096); err != nil {
				t.Fatal(err)
			}
		}, "is damaged; a copy is at", true},
		{"empty", func(t *testing.T, path string) {
			if err := os.WriteFile(path, nil, 0o600); err != nil {
				t.Fatal(err)
			}
		}, "is damaged; a copy is at", true},
		{"another program's", func(t *testing.T, path string) {
			change(t, path, func(tx *bolt.Tx) error { _, err := tx.CreateBucket([]byte("theirs")); return err })
		}, "another program's", false},
		{"another version", func(t *testing.T, path string) {
			fill(t, path)
			change(t, path, func(tx *bolt.Tx) error {
				return tx.Bucket(boltMeta).Put([]byte("version"), []byte("caddy-wepay outbox 1"))
			})
		}, `its version is "caddy-wepay outbox 1"`, false},
		{"a directory", func(t *testing.T, path string) {
			if err := os.Mkdir(path, 0o700); err != nil {
				t.Fatal(err)
			}
		}, "is a directory", false},
	} {
		t.Run(test.name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "outbox.db")
			test.write(t, path)
			before, _ := os.ReadFile(path) // a directory has nothing
			for range 2 {
				err := newBolt(path).Open(t.Context())
				if err == nil || !strings.Contains(err.Error(), test.want) || !strings.Contains(err.Error(), path) {
					t.Fatalf("got %v", err)
				}
			}
			if after, _ := os.ReadFile(path); string(after) != string(before) {
				t.Error("the file is not as it was")
			}
			copies, err := filepath.Glob(path + ".damaged-*")
			if err != nil || (len(copies) > 0) != test.kept {
				t.Errorf("copies: %q (%v)", copies, err)
			}
		})
	}
}

func change(t *testing.T, path string, do func(*bolt.Tx) error) {
	t.Helper()
	db, err := bolt.Open(path, 0o600, nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(db.Update(do), db.Close()); err != nil {
		t.Fatal(err)
	}
}

// smallFile, in the environment, makes of the test's binary a process that may
// write no large file.
const smallFile = "WEPAY_TEST_SMALL_FILE"

// A disk that is full is an error to whom it concerns; what was stored before
// stays, and there may be room again.
func TestBoltDiskFull(t *testing.T) {
	if path := os.Getenv(smallFile); path != "" {
		fillDisk(t, path)
		return
	}
	cmd := exec.Command(os.Args[0], "-test.run", "^TestBoltDiskFull$", "-test.v")
	cmd.Env = append(os.Environ(), smallFile+"="+filepath.Join(t.TempDir(), "outbox.db"))
	if text, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("%v\n%s", err, text)
	}
}

func fillDisk(t *testing.T, path string) {
	limitFiles := func(size uint64) {
		t.Helper()
		if err := syscall.Setrlimit(syscall.RLIMIT_FSIZE, &syscall.Rlimit{Cur: size, Max: ^uint64(0)}); err != nil {
			t.Fatal(err)
		}
	}
	limitFiles(8 << 10) // which is not even enough for a new one
	err := newBolt(path).Open(t.Context())
	if left, _ := filepath.Glob(path + "*"); err == nil || !strings.Contains(err.Error(), path) || len(left) > 0 {
		t.Fatalf("without room for a new file there are %q (%v)", left, err)
	}
	limitFiles(^uint64(0))
	checkFull(t, path, func() { limitFiles(256 << 10) }, func() { limitFiles(^uint64(0)) })
}

// checkFull fills what is limited and then is so no more.
func checkFull(t *testing.T, path string, limit, lift func()) {
	t.Helper()
	b := newBolt(path)
	if err := b.Open(t.Context()); err != nil {
		t.Fatal(err)
	}
	limit()
	var stored []string
	var failed error
	for n := 0; failed == nil && n < 10000; n++ {
		e := waitingEvent(fmt.Sprintf("evt_%d", n))
		if failed = b.Put(t.Context(), e); failed == nil {
			stored = append(stored, e.ID)
		}
	}
	if failed == nil || !strings.Contains(failed.Error(), path) {
		t.Fatalf("%d events fit (%v)", len(stored), failed)
	}
	leases, err := b.Lease(t.Context(), Queue{"shop", wepay.Payment}, 10, time.Minute)
	if err != nil || len(leases) != 10 {
		t.Fatalf("%d events are leased (%v)", len(leases), err)
	}
	lift()
	if err := b.Put(t.Context(), waitingEvent("evt_again")); err != nil {
		t.Fatalf("with room again: %v", err)
	}
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
	if err := b.Open(t.Context()); err != nil {
		t.Fatal(err)
	}
	for _, id := range append(stored, "evt_again") {
		if _, err := b.Get(t.Context(), id); err != nil {
			t.Errorf("%s: %v", id, err)
		}
	}
	if err := b.Close(); err != nil {
		t.Error(err)
	}
}

// What is delivered is forgotten after a while, and its room used again.
func TestBoltSizeStaysBounded(t *testing.T) {
	path := filepath.Join(t.TempDir(), "outbox.db")
	b := newBolt(path)
	if err := b.Open(t.Context()); err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	var sizes []int64
	for round := range 8 {
		for n := range 100 {
			if err := b.Put(t.Context(), waitingEvent(fmt.Sprintf("evt_%d_%d", round, n))); err != nil {
				t.Fatal(err)
			}
		}
		leases, err := b.Lease(t.Context(), Queue{"shop", wepay.Payment}, 100, time.Minute)
		if err != nil || len(leases) != 100 {
			t.Fatalf("%d leases (%v)", len(leases), err)
		}
		for _, lease := range leases {
			lease.Event.State, lease.Event.Ended = Delivered, time.Now()
			if err := b.Settle(t.Context(), lease); err != nil {
				t.Fatal(err)
			}
		}
		for _, kept := range []struct {
			keep time.Duration
			left int
		}{{time.Hour, 1}, {0, 0}} {
			b.store.keep.Store(int64(kept.keep))
			b.store.forget()
			if counts, err := b.Count(t.Context()); err != nil || len(counts) != kept.left {
				t.Fatalf("of those kept for %s there are %v (%v)", kept.keep, counts, err)
			}
		}
		info, err := os.Stat(path)
		if err != nil {
			t.Fatal(err)
		}
		sizes = append(sizes, info.Size())
	}
	if sizes[7] > sizes[1] {
		t.Errorf("the file grows: %v", sizes)
	}
}

// However many end, they are forgotten as fast: what is too much at once goes on
// soon.
func TestBoltForgetsMany(t *testing.T) {
	b := newBolt(filepath.Join(t.TempDir(), "outbox.db"))
	if err := b.Open(t.Context()); err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	err := b.write(t.Context(), func(tx *boltTx) error {
		for n := range forgetLimit + 1 {
			e := waitingEvent(fmt.Sprintf("evt_%d", n))
			e.State, e.Due, e.Ended = Delivered, time.Time{}, time.Now()
			if err := tx.add(e); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	b.store.keep.Store(0)
	for _, want := range []struct {
		next time.Duration
		left int
	}{{forgetPause, 1}, {forgetEvery, 0}} {
		if next := b.store.forget(); next != want.next {
			t.Errorf("it goes on after %s, want %s", next, want.next)
		}
		if left := len(b.store.numbers.byID); left != want.left {
			t.Errorf("%d events are known, want %d", left, want.left)
		}
	}
}
