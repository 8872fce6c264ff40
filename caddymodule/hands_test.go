package caddymodule

import (
	"context"
	"testing"
	"testing/synctest"
)

// Those that wait get theirs in turn, one order service after the other, and who
// waits no more gets none.
func TestHandsInTurn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h, services := newHands(1), map[string]*service{"a": {}, "b": {}, "c": {}}
		if err := h.acquire(t.Context(), services["a"]); err != nil {
			t.Fatal(err)
		}
		leaving, leave := context.WithCancel(t.Context())
		got := make(chan string)
		for _, wait := range []struct {
			name string
			ctx  context.Context
		}{{"a", t.Context()}, {"a", leaving}, {"a", t.Context()}, {"b", leaving}, {"c", t.Context()}} {
			go func() {
				if h.acquire(wait.ctx, services[wait.name]) == nil {
					got <- wait.name
				}
			}()
			synctest.Wait() // so that they wait in this order
		}
		leave()
		synctest.Wait()
		for i, want := range []string{"a", "c", "a"} {
			h.release(services[[]string{"a", "a", "c"}[i]])
			if name := <-got; name != want {
				t.Errorf("%s has a turn, want %s", name, want)
			}
		}
		h.release(services["a"])
		if h.free != 1 || len(h.waiting) != 0 {
			t.Errorf("%d are free, %d wait", h.free, len(h.waiting))
		}
	})
}

// Who leaves when it has just got one gives it back.
func TestHandsLeft(t *testing.T) {
	h, a := newHands(1), new(service)
	if err := h.acquire(t.Context(), a); err != nil {
		t.Fatal(err)
	}
	h.leave(a, make(chan struct{})) // which waits no more: it has one
	if h.free != 1 || a.held != 0 {
		t.Errorf("%d are free, %d are held", h.free, a.held)
	}
}

// However many order services hang, one after the other, there is a worker for
// those that do not, up to so many.
func TestHandsAreLeft(t *testing.T) {
	for workers, hanging := range map[int]int{2: 1, 16: 4, 64: 6} {
		h := newHands(workers)
		ended, cancel := context.WithCancel(t.Context())
		cancel()
		for range hanging {
			s := new(service)
			for h.acquire(ended, s) == nil {
				continue
			}
		}
		if h.free < 1 {
			t.Errorf("of %d workers none are left by %d order services", workers, hanging)
		}
	}
}
