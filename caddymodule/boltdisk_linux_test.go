package caddymodule

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// disk mounts a disk of its own, of some size, until the test's end.
func disk(t *testing.T, size string) string {
	t.Helper()
	dir := t.TempDir()
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, "size="+size); err != nil {
		t.Skipf("only root may mount a disk: %v", err)
	}
	t.Cleanup(func() {
		if err := syscall.Unmount(dir, syscall.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	return dir
}

// remount changes a disk.
func remount(t *testing.T, dir string, flags uintptr, data string) {
	t.Helper()
	if err := syscall.Mount("tmpfs", dir, "tmpfs", syscall.MS_REMOUNT|flags, data); err != nil {
		t.Fatal(err)
	}
}

// A disk that is full is like a file that may not grow.
func TestBoltSmallDisk(t *testing.T) {
	dir := disk(t, "512k")
	checkFull(t, filepath.Join(dir, "outbox.db"), func() {}, func() { remount(t, dir, 0, "size=64m") })
}

// On a disk that new events have filled there is room for what becomes of those
// that are there: each is handed over, and forgotten, and others come.
func TestBoltFullDiskDelivers(t *testing.T) {
	for _, size := range []string{"400k", "2m"} {
		t.Run(size, func(t *testing.T) {
			b := newBolt(filepath.Join(disk(t, size), "outbox.db"))
			if err := b.Open(t.Context()); err != nil {
				t.Fatal(err)
			}
			var err error
			stored := 0
			for ; err == nil; stored++ {
				err = b.Put(t.Context(), waitingEvent(fmt.Sprintf("evt_%d", stored)))
			}
			stored--
			if !errors.Is(err, errNoRoom) || !strings.Contains(err.Error(), b.path) || stored < 50 {
				t.Fatalf("%d events fit (%v)", stored, err)
			}
			if err := b.Put(t.Context(), waitingEvent("evt_0")); err != nil { // which is known
				t.Error(err)
			}
			if got := heard(t, b); len(got) != stored {
				t.Errorf("%d events are heard, of %d", len(got), stored)
			}
			b.store.keep.Store(0)
			for b.store.forget() == forgetPause {
			}
			if counts, err := b.Count(t.Context()); err != nil || len(counts) > 0 {
				t.Errorf("left: %v (%v)", counts, err)
			}
			for n := range stored / 2 {
				if err := b.Put(t.Context(), waitingEvent(fmt.Sprintf("evt_more_%d", n))); err != nil {
					t.Fatalf("with room again, event %d: %v", n, err)
				}
			}
			if err := b.Close(); err != nil {
				t.Error(err)
			}
		})
	}
}

// A file that cannot be written, or made, is refused by its name, and nothing is
// left beside it.
func TestBoltReadOnlyDisk(t *testing.T) {
	for name, stocked := range map[string]bool{"with a file": true, "without": false} {
		t.Run(name, func(t *testing.T) {
			dir := disk(t, "8m")
			path := filepath.Join(dir, "outbox.db")
			if stocked {
				fill(t, path)
			}
			before, _ := os.ReadFile(path) // there may be none
			remount(t, dir, syscall.MS_RDONLY, "")
			b := newBolt(path)
			if err := b.Open(t.Context()); err == nil || !strings.Contains(err.Error(), path) || !strings.Contains(err.Error(), "read-only") {
				t.Errorf("got %v", err)
			}
			entries, err := os.ReadDir(dir)
			if err != nil || len(entries) > 1 || !stocked && len(entries) > 0 {
				t.Errorf("beside it: %v (%v)", entries, err)
			}
			if after, _ := os.ReadFile(path); string(after) != string(before) {
				t.Error("the file is not as it was")
			}
			remount(t, dir, 0, "size=8m")
			if err := b.Open(t.Context()); err != nil {
				t.Fatalf("writable again: %v", err)
			}
			if err := b.Close(); err != nil {
				t.Error(err)
			}
		})
	}
}
