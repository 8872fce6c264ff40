package caddymodule

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime/debug"
	"slices"
	"strings"
	"testing"
	"time"

	bolt "go.etcd.io/bbolt"

	"github.com/windsome/caddy-wepay/wepay"
)

// Whatever bits of a file are turned, what is read from it is what was written,
// or an error.
func TestBoltDamagedBits(t *testing.T) {
	path := filepath.Join(t.TempDir(), "outbox.db")
	b := newBolt(path)
	if err := b.Open(t.Context()); err != nil {
		t.Fatal(err)
	}
	want := make(map[string]string)
	for n := range 20 {
		e := waitingEvent(fmt.Sprintf("evt_%d", n))
		want[e.ID] = string(e.Payload)
		if err := b.Put(t.Context(), e); err != nil {
			t.Fatal(err)
		}
	}
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	random := rand.New(rand.NewPCG(1, 2))
	root, _ := metaOf(t, path)
	// What is read or written beyond its end is found by the garbage collector.
	defer debug.SetGCPercent(debug.SetGCPercent(5))
	for n := range 400 {
		text := append([]byte(nil), whole...)
		at := random.IntN(len(text))
		if n%2 == 0 { // where most depends on each bit
			at = root + random.IntN(os.Getpagesize())
		}
		text[at] ^= byte(1 << random.IntN(8))
		damaged := filepath.Join(t.TempDir(), "damaged.db")
		if err := os.WriteFile(damaged, text, 0o600); err != nil {
			t.Fatal(err)
		}
		b := newBolt(damaged)
		if b.Open(t.Context()) != nil {
			continue
		}
		for id, payload := range want {
			if e, err := b.Get(t.Context(), id); err == nil && string(e.Payload) != payload {
				t.Errorf("with byte %d turned %s is %s", at, id, e.Payload)
			}
		}
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
		leases, _ := b.Lease(ctx, Queue{"shop", wepay.Payment}, 100, time.Minute)
		cancel()
		for _, lease := range leases {
			if string(lease.Event.Payload) != want[lease.Event.ID] {
				t.Errorf("with byte %d turned %s is leased as %s", at, lease.Event.ID, lease.Event.Payload)
			}
		}
		_ = b.Put(t.Context(), waitingEvent("evt_more")) // which may fail, but not panic
		_ = b.Close()                                    // likewise
	}
}

// metaOf returns where the pages are that name the buckets, and list the free
// pages.
func metaOf(t *testing.T, path string) (root, free int) {
	t.Helper()
	db, err := bolt.Open(path, 0o600, &bolt.Options{ReadOnly: true})
	if err != nil {
		t.Fatal(err)
	}
	err = db.View(func(tx *bolt.Tx) error {
		file, err := os.Open(path)
		if err != nil {
			return err
		}
		defer file.Close()
		pages := &boltPages{file: file, size: uint64(db.Info().PageSize)}
		names, list, err := pages.meta(uint64(tx.ID()))
		root, free = int(names*pages.size), int(list*pages.size)
		return err
	})
	if err := errors.Join(err, db.Close()); err != nil {
		t.Fatal(err)
	}
	return root, free
}

// What bbolt would trust, and do harm with, is found before.
func TestBoltDamagedPages(t *testing.T) {
	path := filepath.Join(t.TempDir(), "outbox.db")
	fill(t, path)
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	root, free := metaOf(t, path)
	value := func(text []byte) int { // of the first bucket, which is small and lies within
		element := text[root+pageHeader:]
		return root + pageHeader + int(binary.NativeEndian.Uint32(element[4:])) + int(binary.NativeEndian.Uint32(element[8:]))
	}
	put := func(at int, number uint32) func([]byte) {
		return func(text []byte) { binary.NativeEndian.PutUint32(text[at:], number) }
	}
	for name, damage := range map[string]func(text []byte){
		"the names' page is another": put(root, 77),
		"it is of no kind":           put(root+8, 0),
		"it flows over to the end":   put(root+12, 1<<30),
		"it has too many elements":   func(text []byte) { text[root+11] = 0xff },
		"an element is no bucket":    put(root+pageHeader, 0),
		"an element before all":      put(root+pageHeader+4, 1),
		"an element behind the page": put(root+pageHeader+4, 5000),
		"a key too long":             put(root+pageHeader+8, 5000),
		"a value too long":           put(root+pageHeader+12, 1<<31),
		"a value too short":          put(root+pageHeader+12, 8),
		"a bucket where no page is":  func(text []byte) { put(value(text), 1<<20)(text) },
		"a bucket within too short":  put(root+pageHeader+12, 20),
		"one within of no kind":      func(text []byte) { put(value(text)+bucketHeader+8, 0)(text) },
		"one within, too many":       func(text []byte) { text[value(text)+bucketHeader+11] = 0x7f },
		"one within, with another":   func(text []byte) { put(value(text)+bucketHeader+pageHeader, bucketElement)(text) },
		"one within, a value too long": func(text []byte) {
			put(value(text)+bucketHeader+pageHeader+12, 1<<20)(text)
		},
		"no list of free pages":  put(free+8, leafPage),
		"too many free pages":    func(text []byte) { text[free+11] = 0x7f },
		"page 1 is free":         put(free+pageHeader, 1),
		"a free page behind all": put(free+pageHeader, 1<<20),
		"a free page twice":      func(text []byte) { copy(text[free+pageHeader+8:], text[free+pageHeader:][:8]) },
	} {
		t.Run(name, func(t *testing.T) {
			damaged := filepath.Join(t.TempDir(), "outbox.db")
			text := slices.Clone(whole)
			damage(text)
			if err := os.WriteFile(damaged, text, 0o600); err != nil {
				t.Fatal(err)
			}
			if err := newBolt(damaged).Open(t.Context()); !errors.Is(err, errDamaged) || !strings.Contains(err.Error(), "a copy is at") {
				t.Errorf("got %v", err)
			}
		})
	}
}
