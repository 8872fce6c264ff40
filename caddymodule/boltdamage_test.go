package caddymodule

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"github.com/windsome/caddy-wepay/wepay"
)

// A page of events that is damaged costs its own events alone, found while they
// are handed over; and the next start makes the file anew, keeping what it was.
func TestBoltDamagedEventPages(t *testing.T) {
	path := filepath.Join(t.TempDir(), "outbox.db")
	whole := fillMany(t, path)
	_, leaves := pagesOf(t, path, boltEvents)
	for _, how := range []string{"zeros", "garbage", "elements"} {
		for _, leaf := range []int{0, len(leaves) / 2, len(leaves) - 1} {
			t.Run(fmt.Sprintf("%s in leaf %d", how, leaf), func(t *testing.T) {
				text := slices.Clone(whole)
				damagePage(text, leaves[leaf], how)
				path := filepath.Join(t.TempDir(), "outbox.db")
				if err := os.WriteFile(path, text, 0o600); err != nil {
					t.Fatal(err)
				}
				checkDamaged(t, path, 12, leaf < len(leaves)-1)
			})
		}
	}
}

// checkDamaged demands that all events but a few are heard of a file of many, and
// that those after the next start are stored and heard whatever was damaged.
func checkDamaged(t *testing.T, path string, few int, puts bool) {
	t.Helper()
	b := newBolt(path)
	log, logged := observer.New(zap.ErrorLevel)
	b.logger = zap.New(log)
	if err := b.Open(t.Context()); err != nil {
		t.Fatal(err)
	}
	checkListed(t, b, few)
	ids := heard(t, b)
	if len(ids) < many-few || len(ids) >= many {
		t.Errorf("%d events are heard", len(ids))
	}
	if err := b.Put(t.Context(), waitingEvent("evt_new")); puts && err != nil {
		t.Error(err)
	}
	b.store.keep.Store(0)
	b.store.forget() // which must not stumble over it
	if b.store.broken.Load() != nil {
		t.Error("the outbox is broken")
	}
	if len(logged.FilterMessageSnippet("page of the outbox's file is damaged").All()) != 1 {
		t.Errorf("logged: %v", logged.All())
	}
	awaitMark(t, b)
	for range 2 { // once is enough
		if err := b.Close(); err != nil {
			t.Fatal(err)
		}
		if err := b.Open(t.Context()); err != nil {
			t.Fatal(err)
		}
		if kept := keptOf(t, path); len(kept) != 1 {
			t.Errorf("kept aside: %q", kept)
		}
	}
	if err := b.Put(t.Context(), waitingEvent("evt_new")); err != nil {
		t.Error(err)
	}
	if got := heard(t, b); !slices.Equal(got, []string{"evt_new"}) {
		t.Errorf("heard %q", got)
	}
	if _, _, err := b.List(t.Context(), Filter{}, "", 1000); err != nil {
		t.Error(err)
	}
	if err := b.Close(); err != nil {
		t.Error(err)
	}
}

// checkListed demands that all events but a few are listed, page by page, and
// that each page says how many it lacks.
func checkListed(t *testing.T, b *Bolt, few int) {
	t.Helper()
	listed, lacking := make(map[string]bool), 0
	for after := ""; ; {
		events, next, err := b.List(t.Context(), Filter{Merchant: "shop"}, after, 7)
		var damaged Damaged
		if err != nil && !errors.As(err, &damaged) {
			t.Fatal(err)
		}
		lacking += damaged.Events
		for _, e := range events {
			if listed[e.ID] {
				t.Errorf("%s is listed twice", e.ID)
			}
			listed[e.ID] = true
		}
		if after = next; next == "" {
			break
		}
	}
	if len(listed) < many-few || len(listed) == many || lacking == 0 {
		t.Errorf("%d events are listed, and %d are said to be damaged", len(listed), lacking)
	}
}

// awaitMark waits until the file says that it is damaged.
func awaitMark(t *testing.T, b *Bolt) {
	t.Helper()
	for n := 0; ; n++ {
		marked := false
		err := b.write(t.Context(), func(tx *boltTx) error { // after which the writer has a turn
			marked = tx.Bucket(boltMeta).Get(boltDamaged) != nil
			return nil
		})
		if err != nil || n > 1000 {
			t.Fatalf("the file does not say that it is damaged (%v)", err)
		}
		if marked {
			return
		}
	}
}

// A page of an index that is damaged while the file is open is made anew at once.
func TestBoltIndexPageDamagedWhileOpen(t *testing.T) {
	path := filepath.Join(t.TempDir(), "outbox.db")
	fillMany(t, path)
	_, due := pagesOf(t, path, boltDue)
	b := newBolt(path)
	if err := b.Open(t.Context()); err != nil {
		t.Fatal(err)
	}
	text := make([]byte, os.Getpagesize())
	if file, err := os.OpenFile(path, os.O_WRONLY, 0); err != nil {
		t.Fatal(err)
	} else if _, err := file.WriteAt(text, int64(due[len(due)-1])*int64(len(text))); errors.Join(err, file.Close()) != nil {
		t.Fatal(err)
	}
	if _, err := b.Lease(t.Context(), Queue{"shop", wepay.Payment}, many, time.Minute); !errors.Is(err, errDamaged) {
		t.Fatalf("got %v", err)
	}
	if len(b.store.leases.held) > 0 {
		t.Error("a lease that failed holds events")
	}
	awaitMark(t, b)
	if err := b.Put(t.Context(), waitingEvent("evt_new")); err != nil {
		t.Fatal(err)
	}
	if got := heard(t, b); len(got) != many+1 {
		t.Errorf("%d events are heard", len(got))
	}
	if err := b.Close(); err != nil {
		t.Error(err)
	}
}

// To forget events beside a damaged page fails, and breaks nothing: bbolt reads
// that page when it ends the transaction.
func TestBoltForgetsBesideDamage(t *testing.T) {
	path := filepath.Join(t.TempDir(), "outbox.db")
	fillMany(t, path)
	b := newBolt(path)
	if err := b.Open(t.Context()); err != nil {
		t.Fatal(err)
	}
	leases, err := b.Lease(t.Context(), Queue{"shop", wepay.Payment}, 6, time.Minute)
	if err != nil {
		t.Fatal(err)
	}
	for _, lease := range leases {
		lease.Event.State, lease.Event.Ended = Delivered, time.Now()
		if err := b.Settle(t.Context(), lease); err != nil {
			t.Fatal(err)
		}
	}
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	_, leaves := pagesOf(t, path, boltEvents)
	for n, id := range leaves { // the first that has none of them
		if !bytes.Contains(text[int(id)*os.Getpagesize():][:os.Getpagesize()], []byte(`"delivered"`)) {
			damagePage(text, leaves[n], "zeros")
			break
		}
	}
	if err := os.WriteFile(path, text, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := b.Open(t.Context()); err != nil {
		t.Fatal(err)
	}
	b.store.keep.Store(0)
	b.store.forget()
	if broken := b.store.broken.Load(); broken != nil {
		t.Error(*broken)
	}
	awaitMark(t, b)
	if err := b.Put(t.Context(), waitingEvent("evt_new")); err != nil {
		t.Error(err)
	}
	if err := b.Close(); err != nil {
		t.Error(err)
	}
}
