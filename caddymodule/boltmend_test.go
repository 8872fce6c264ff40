package caddymodule

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	bolt "go.etcd.io/bbolt"
	"go.uber.org/zap"

	"github.com/windsome/caddy-wepay/wepay"
)

// many is how many events a file has whose pages are damaged one by one.
const many = 150

// fillMany makes a file with many events that wait, and returns it.
func fillMany(t *testing.T, path string) []byte {
	t.Helper()
	b := newBolt(path)
	if err := b.Open(t.Context()); err != nil {
		t.Fatal(err)
	}
	err := b.write(t.Context(), func(tx *boltTx) error {
		for n := range many {
			if err := tx.add(waitingEvent(fmt.Sprintf("evt_%d", n))); err != nil {
				return err
			}
		}
		return nil
	})
	if err := errors.Join(err, b.Close()); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

// pagesOf returns the pages of a bucket's tree: its branches, the root first, and
// its leaves.
func pagesOf(t *testing.T, path string, name []byte) (branches, leaves []uint64) {
	t.Helper()
	s := newBoltStore(path, zap.NewNop())
	if err := s.inspect(); err != nil {
		t.Fatal(err)
	}
	err := s.read(func(tx *boltTx) error {
		pages := &boltPages{file: s.file, size: uint64(tx.DB().Info().PageSize), end: 1 << 40}
		var visit func(id uint64) error
		visit = func(id uint64) error {
			page, flags, count, err := pages.read(id)
			if err != nil || flags == leafPage {
				leaves = append(leaves, id)
				return err
			}
			branches = append(branches, id)
			for n := range count {
				if err := visit(childOf(page, n)); err != nil {
					return err
				}
			}
			return nil
		}
		return visit(uint64(tx.Bucket(name).Root()))
	})
	if err := errors.Join(err, s.db.Close()); err != nil {
		t.Fatal(err)
	}
	return branches, leaves
}

// damagePage fills a page of a file's text with something else.
func damagePage(text []byte, id uint64, how string) {
	random := rand.New(rand.NewPCG(1, id))
	page := text[int(id)*os.Getpagesize():][:os.Getpagesize()]
	from := 0
	switch how {
	case "zeros":
		clear(page)
		return
	case "elements":
		from = pageHeader
	}
	for n := from; n < len(page); n++ {
		page[n] = byte(random.Uint32())
	}
}

// heard leases all events that can be had, and notes them as delivered.
func heard(t *testing.T, b *Bolt) (ids []string) {
	t.Helper()
	for {
		ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
		leases, err := b.Lease(ctx, Queue{"shop", wepay.Payment}, 64, time.Minute)
		cancel()
		if errors.Is(err, context.DeadlineExceeded) {
			return ids
		}
		if err != nil {
			t.Fatalf("after %d events: %v", len(ids), err)
		}
		for _, lease := range leases {
			lease.Event.State, lease.Event.Ended = Delivered, time.Now()
			if err := b.Settle(t.Context(), lease); err != nil {
				t.Fatal(err)
			}
			ids = append(ids, lease.Event.ID)
		}
	}
}

// What is met at a start is mended there: of whatever page, events that can be
// read are not lost, and the start is refused where there are none.
func TestBoltMend(t *testing.T) {
	path := filepath.Join(t.TempDir(), "outbox.db")
	whole := fillMany(t, path)
	branches, leaves := pagesOf(t, path, boltEvents)
	_, due := pagesOf(t, path, boltDue)
	_, known := pagesOf(t, path, boltIDs)
	for _, test := range []struct {
		name  string
		pages []uint64
		least int // events, of many
	}{
		{"an index", due[:1], many},
		{"the end of an index", due[len(due)-1:], many},
		{"another index", known[:1], many},
		{"an index and events", []uint64{due[0], leaves[1], leaves[5]}, many - 24},
		{"an index and the root of the events", []uint64{due[0], branches[0]}, 0},
	} {
		for _, how := range []string{"zeros", "garbage", "elements"} {
			t.Run(test.name+", "+how, func(t *testing.T) {
				text := slices.Clone(whole)
				for _, id := range test.pages {
					damagePage(text, id, how)
				}
				path := filepath.Join(t.TempDir(), "outbox.db")
				if err := os.WriteFile(path, text, 0o600); err != nil {
					t.Fatal(err)
				}
				checkMended(t, path, text, test.least)
			})
		}
	}
}

func checkMended(t *testing.T, path string, text []byte, least int) {
	t.Helper()
	b := newBolt(path)
	err := b.Open(t.Context())
	kept := keptOf(t, path)
	if len(kept) != 1 {
		t.Fatalf("kept aside: %q (%v)", kept, err)
	}
	if got, err := os.ReadFile(kept[0]); err != nil || !slices.Equal(got, text) {
		t.Errorf("what is kept is something else (%v)", err)
	}
	if least == 0 {
		if !errors.Is(err, errDamaged) {
			t.Errorf("got %v", err)
		}
		return
	}
	if err != nil {
		t.Fatal(err)
	}
	if got := heard(t, b); len(got) < least {
		t.Errorf("%d events are heard, want %d", len(got), least)
	}
	if err := b.Close(); err != nil {
		t.Error(err)
	}
	if left, err := filepath.Glob(path + ".new-*"); err != nil || len(left) > 0 {
		t.Errorf("left behind: %q (%v)", left, err)
	}
}

// What is mended is the file, wherever the path leads to it from.
func TestBoltMendLinked(t *testing.T) {
	path, link := filepath.Join(t.TempDir(), "real.db"), filepath.Join(t.TempDir(), "outbox.db")
	fillMany(t, path)
	if err := os.Symlink(path, link); err != nil {
		t.Fatal(err)
	}
	change(t, path, func(tx *bolt.Tx) error { return tx.Bucket(boltCounts).Delete([]byte("waiting\x00shop")) })
	b := newBolt(link)
	if err := b.Open(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := heard(t, b); len(got) != many || len(keptOf(t, path)) != 1 || len(keptOf(t, link)) != 0 {
		t.Errorf("%d events are heard", len(got))
	}
	if is, err := os.Readlink(link); err != nil || is != path {
		t.Errorf("the link leads to %q (%v)", is, err)
	}
	if err := b.Close(); err != nil {
		t.Error(err)
	}
}

// Where a file's free pages are not written down bbolt looks for them in all of
// it, and would not survive a damaged page.
func TestBoltMendWithoutFreelist(t *testing.T) {
	path := filepath.Join(t.TempDir(), "outbox.db")
	fillMany(t, path)
	db, err := bolt.Open(path, 0o600, &bolt.Options{NoFreelistSync: true})
	if err != nil {
		t.Fatal(err)
	}
	err = db.Update(func(tx *bolt.Tx) error { return tx.Bucket(boltMeta).Put([]byte("more"), []byte("1")) })
	if err := errors.Join(err, db.Close()); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	_, leaves := pagesOf(t, path, boltEvents)
	damagePage(text, leaves[3], "zeros")
	if err := os.WriteFile(path, text, 0o600); err != nil {
		t.Fatal(err)
	}
	checkMended(t, path, text, many-12)
}
