package caddymodule

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"
)

// A file that was moved while it is open is told of, and refused by the next
// config that would go on with it.
func TestBoltMoved(t *testing.T) {
	for name, move := range map[string]func(path string) error{
		"moved":    func(path string) error { return os.Rename(path, path+".moved") },
		"removed":  os.Remove,
		"replaced": func(path string) error { return replaceFile(path) },
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "outbox.db")
			first, second := newBolt(path), newBolt(path)
			log, logged := observer.New(zap.ErrorLevel)
			first.logger = zap.New(log)
			if err := first.Open(t.Context()); err != nil {
				t.Fatal(err)
			}
			if err := move(path); err != nil {
				t.Fatal(err)
			}
			if err := second.Open(t.Context()); err == nil || !strings.Contains(err.Error(), path) || !strings.Contains(err.Error(), "Move that back") {
				t.Errorf("got %v", err)
			}
			first.store.lookAfter()
			if logged.FilterMessageSnippet("not where it belongs").Len() != 1 {
				t.Errorf("logged: %v", logged.All())
			}
			if err := first.Put(t.Context(), waitingEvent("evt_1")); err != nil { // the one that serves goes on
				t.Error(err)
			}
			if name == "moved" {
				if err := os.Rename(path+".moved", path); err != nil {
					t.Fatal(err)
				}
				if err := second.Open(t.Context()); err != nil {
					t.Fatal(err)
				}
				if _, err := second.Get(t.Context(), "evt_1"); err != nil {
					t.Error(err)
				}
				if err := second.Close(); err != nil {
					t.Error(err)
				}
			}
			if err := first.Close(); err != nil {
				t.Error(err)
			}
		})
	}
}

func replaceFile(path string) error {
	text, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	if err := os.WriteFile(path+".other", text, 0o600); err != nil {
		return err
	}
	return os.Rename(path+".other", path)
}

// Of a file that no config has any more the log says how much is left, of
// whatever is not done with.
func TestBoltReportsLeft(t *testing.T) {
	for name, test := range map[string]struct {
		states        []State
		waiting, dead int64
		told          int
	}{
		"both":      {[]State{Waiting, Dead, Dead, Delivered}, 1, 2, 1},
		"dead":      {[]State{Dead}, 0, 1, 1},
		"delivered": {[]State{Delivered}, 0, 0, 0},
	} {
		t.Run(name, func(t *testing.T) {
			b := newBolt(filepath.Join(t.TempDir(), "outbox.db"))
			log, logged := observer.New(zap.WarnLevel)
			b.logger = zap.New(log)
			if err := b.Open(t.Context()); err != nil {
				t.Fatal(err)
			}
			for n, state := range test.states {
				e := waitingEvent("evt_" + string(rune('a'+n)))
				if e.State = state; state != Waiting {
					e.Ended = time.Now()
				}
				if err := b.Put(t.Context(), e); err != nil {
					t.Fatal(err)
				}
			}
			if err := b.Close(); err != nil {
				t.Fatal(err)
			}
			if logged.Len() != test.told {
				t.Fatalf("logged: %v", logged.All())
			}
			for _, line := range logged.All() {
				if of := line.ContextMap(); of["waiting"] != test.waiting || of["dead"] != test.dead {
					t.Errorf("logged: %v", of)
				}
			}
		})
	}
}
