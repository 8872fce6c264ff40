package caddymodule

import (
	"context"
	"slices"
	"sync"
)

// hands are the dispatcher's workers. An order service that has some gets another
// one only while more are free than it has, so that however many order services
// hang, and whatever they held before, some are left for the others.
type hands struct {
	mu      sync.Mutex
	free    int
	sole    bool       // there is one order service alone, and nobody to leave any for
	waiting []*service // those that wait for one, in turn
}

// handed is what hands know of an order service.
type handed struct {
	held    int
	waiters []chan struct{} // closed when there is one for them, in turn
}

func newHands(workers int) *hands { return &hands{free: workers} }

// acquire waits for a worker for an order service.
func (h *hands) acquire(ctx context.Context, s *service) error {
	h.mu.Lock()
	if len(s.waiters) == 0 && h.mayTake(s) {
		h.take(s)
		h.mu.Unlock()
		return nil
	}
	ready := make(chan struct{})
	if len(s.waiters) == 0 {
		h.waiting = append(h.waiting, s)
	}
	s.waiters = append(s.waiters, ready)
	h.mu.Unlock()
	select {
	case <-ready:
		return nil
	case <-ctx.Done():
		h.leave(s, ready)
		return ctx.Err()
	}
}

// leave has one wait no more, or gives back what it has just got.
func (h *hands) leave(s *service, ready chan struct{}) {
	h.mu.Lock()
	i := slices.Index(s.waiters, ready)
	if i < 0 {
		h.mu.Unlock()
		h.release(s)
		return
	}
	defer h.mu.Unlock()
	s.waiters = slices.Delete(s.waiters, i, i+1)
	if len(s.waiters) == 0 {
		h.waiting = slices.DeleteFunc(h.waiting, func(other *service) bool { return other == s })
	}
}

// release gives an order service's worker to whoever may have it next.
func (h *hands) release(s *service) {
	h.mu.Lock()
	defer h.mu.Unlock()
	s.held--
	h.free++
	for {
		i := slices.IndexFunc(h.waiting, h.mayTake)
		if i < 0 {
			return
		}
		next := h.waiting[i]
		h.waiting = slices.Delete(h.waiting, i, i+1)
		h.take(next)
		close(next.waiters[0])
		if next.waiters = next.waiters[1:]; len(next.waiters) > 0 {
			h.waiting = append(h.waiting, next) // behind the others
		}
	}
}

func (h *hands) mayTake(s *service) bool {
	return h.free > 0 && (h.sole || s.held < h.free)
}

func (h *hands) take(s *service) {
	s.held++
	h.free--
}
