package delivery

import (
	"context"
	"testing"
	"testing/synctest"
)

// Those that wait get theirs in turn, one order service after the other, and who
// waits no more gets none.
func TestPoolInTurn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, services := newWorkerPool(1), map[string]*service{"a": {}, "b": {}, "c": {}}
		if err := p.acquire(t.Context(), services["a"]); err != nil {
			t.Fatal(err)
		}
		leaving, leave := context.WithCancel(t.Context())
		got := make(chan string)
		for _, wait := range []struct {
			name string
			ctx  context.Context
		}{{"a", t.Context()}, {"a", leaving}, {"a", t.Context()}, {"b", leaving}, {"c", t.Context()}} {
			go func() {
				if p.acquire(wait.ctx, services[wait.name]) == nil {
					got <- wait.name
				}
			}()
			synctest.Wait() // so that they wait in this order
		}
		leave()
		synctest.Wait()
		for i, want := range []string{"a", "c", "a"} {
			p.release(services[[]string{"a", "a", "c"}[i]])
			if name := <-got; name != want {
				t.Errorf("%s has a turn, want %s", name, want)
			}
		}
		p.release(services["a"])
		if p.free != 1 || len(p.waiting) != 0 {
			t.Errorf("%d are free, %d wait", p.free, len(p.waiting))
		}
	})
}

// Who leaves when it has just got one gives it back.
func TestPoolLeft(t *testing.T) {
	p, a := newWorkerPool(1), new(service)
	if err := p.acquire(t.Context(), a); err != nil {
		t.Fatal(err)
	}
	p.leave(a, make(chan struct{})) // which waits no more: it has one
	if p.free != 1 || a.held != 0 {
		t.Errorf("%d are free, %d are held", p.free, a.held)
	}
}

// However many order services hang, one after the other, there is a worker for
// those that do not, up to so many.
func TestPoolLeavesWorkers(t *testing.T) {
	for workers, hanging := range map[int]int{2: 1, 16: 4, 64: 6} {
		p := newWorkerPool(workers)
		ended, cancel := context.WithCancel(t.Context())
		cancel()
		for range hanging {
			s := new(service)
			for p.acquire(ended, s) == nil {
				continue
			}
		}
		if p.free < 1 {
			t.Errorf("of %d workers none are left by %d order services", workers, hanging)
		}
	}
}
