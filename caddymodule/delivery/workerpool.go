package delivery

import (
	"context"
	"slices"
	"sync"
)

// workerPool has the dispatcher's workers. An order service that has some gets
// another one only while more are free than it has, so that however many order
// services hang, and whatever they held before, some are left for the others.
type workerPool struct {
	mu      sync.Mutex
	free    int
	sole    bool       // there is only one order service: none are left for others
	waiting []*service // those that wait for a worker, in turn
}

// poolShare is what an order service has of the pool.
type poolShare struct {
	held    int
	waiters []chan struct{} // closed when there is one for them, in turn
}

func newWorkerPool(workers int) *workerPool { return &workerPool{free: workers} }

// acquire waits for a worker for an order service.
func (p *workerPool) acquire(ctx context.Context, s *service) error {
	p.mu.Lock()
	if len(s.waiters) == 0 && p.mayTake(s) {
		p.take(s)
		p.mu.Unlock()
		return nil
	}
	ready := make(chan struct{})
	if len(s.waiters) == 0 {
		p.waiting = append(p.waiting, s)
	}
	s.waiters = append(s.waiters, ready)
	p.mu.Unlock()
	select {
	case <-ready:
		return nil
	case <-ctx.Done():
		p.leave(s, ready)
		return ctx.Err()
	}
}

// leave has one wait no more, or gives back what it has just got.
func (p *workerPool) leave(s *service, ready chan struct{}) {
	p.mu.Lock()
	i := slices.Index(s.waiters, ready)
	if i < 0 {
		p.mu.Unlock()
		p.release(s)
		return
	}
	defer p.mu.Unlock()
	s.waiters = slices.Delete(s.waiters, i, i+1)
	if len(s.waiters) == 0 {
		p.waiting = slices.DeleteFunc(p.waiting, func(other *service) bool { return other == s })
	}
}

// release gives an order service's worker to whoever may have it next.
func (p *workerPool) release(s *service) {
	p.mu.Lock()
	defer p.mu.Unlock()
	s.held--
	p.free++
	for {
		i := slices.IndexFunc(p.waiting, p.mayTake)
		if i < 0 {
			return
		}
		next := p.waiting[i]
		p.waiting = slices.Delete(p.waiting, i, i+1)
		p.take(next)
		close(next.waiters[0])
		if next.waiters = next.waiters[1:]; len(next.waiters) > 0 {
			p.waiting = append(p.waiting, next) // behind the others
		}
	}
}

func (p *workerPool) mayTake(s *service) bool {
	return p.free > 0 && (p.sole || s.held < p.free)
}

func (p *workerPool) take(s *service) {
	s.held++
	p.free--
}
