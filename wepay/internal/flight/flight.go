// Package flight fetches what several callers wait for once for all of them.
package flight

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/windsome/caddy-wepay/wepay"
)

// Flight fetches one thing, such as a key, and remembers the last result. It may
// be used by many goroutines.
type Flight[T any] struct {
	what  string // for errors
	now   func() time.Time
	fetch func(context.Context) (T, error)

	mu      sync.Mutex
	began   time.Time // when the last fetch began; zero: there is no result
	value   T
	err     error
	running *run[T] // nil: nothing is being fetched
	closed  bool    // a fetch goes on only as long as a caller waits for it
}

// run is one fetch.
type run[T any] struct {
	waiting int // callers; guarded by the Flight's mu
	cancel  context.CancelFunc
	done    chan struct{}
	value   T // with err: the result, once done
	err     error
}

// New returns a Flight that has fetched nothing yet. Errors name what it fetches.
func New[T any](what string, now func() time.Time, fetch func(context.Context) (T, error)) *Flight[T] {
	return &Flight[T]{what: what, now: now, fetch: fetch}
}

// Get returns the result of the last fetch if it began less than fresh ago, or
// less than retry ago if it failed. Otherwise it fetches, or waits for the fetch
// that is running. A fetch outlives a caller that gives up, since others may wait
// for it, and needs a time-out of its own.
func (f *Flight[T]) Get(ctx context.Context, fresh, retry time.Duration) (T, error) {
	f.mu.Lock()
	if f.running == nil {
		if value, err, found := f.last(fresh, retry); found {
			f.mu.Unlock()
			return value, err
		}
		f.start(ctx)
	}
	r := f.running
	r.waiting++
	f.mu.Unlock()
	defer f.leave(r)
	select {
	case <-r.done:
		return r.value, r.err
	case <-ctx.Done():
		var none T
		return none, fmt.Errorf("%w: waiting for %s: %w", wepay.ErrNoAnswer, f.what, context.Cause(ctx))
	}
}

// last returns the last result unless it is too old. The caller holds mu.
func (f *Flight[T]) last(fresh, retry time.Duration) (value T, err error, found bool) {
	if f.err != nil {
		fresh = retry
	}
	if f.began.IsZero() || f.now().Sub(f.began) >= fresh {
		return value, nil, false
	}
	return f.value, f.err, true
}

// start begins a fetch. The caller holds mu.
func (f *Flight[T]) start(ctx context.Context) {
	ctx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	r := &run[T]{cancel: cancel, done: make(chan struct{})}
	f.began, f.running = f.now(), r
	go func() {
		defer close(r.done)
		defer cancel()
		r.value, r.err = f.fetch(ctx)
		f.mu.Lock()
		defer f.mu.Unlock()
		if f.running == r {
			f.running, f.value, f.err = nil, r.value, r.err
		}
	}()
}

// leave is called by a caller that waits no longer.
func (f *Flight[T]) leave(r *run[T]) {
	f.mu.Lock()
	defer f.mu.Unlock()
	r.waiting--
	f.endUnneeded(r)
}

// endUnneeded ends a fetch of a closed Flight that no caller waits for, and
// reports whether it did. The caller holds mu.
func (f *Flight[T]) endUnneeded(r *run[T]) bool {
	if !f.closed || r.waiting > 0 {
		return false
	}
	r.cancel()
	if f.running == r {
		f.running, f.began = nil, time.Time{}
	}
	return true
}

// Last returns when the last fetch began, zero if there was none, and the error
// of the last that ended.
func (f *Flight[T]) Last() (began time.Time, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.began, f.err
}

// Peek returns the result of the last fetch if it succeeded less than fresh ago. It
// does not fetch.
func (f *Flight[T]) Peek(fresh time.Duration) (value T, found bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	value, err, found := f.last(fresh, fresh)
	return value, found && err == nil
}

// Assume stores a value as if fetched at a time, unless there is a result already
// or the time is in the future.
func (f *Flight[T]) Assume(value T, at time.Time) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.began.IsZero() && !at.After(f.now()) {
		f.began, f.value = at, value
	}
}

// Forget makes the next Get fetch, whatever the last result.
func (f *Flight[T]) Forget() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.began = time.Time{}
}

// Close ends the running fetch, unless a caller still waits for it: then it ends
// when the last of them leaves. Close returns once the fetch that it ended has
// returned. Get keeps working.
func (f *Flight[T]) Close() {
	f.mu.Lock()
	f.closed = true
	r := f.running
	ended := r != nil && f.endUnneeded(r)
	f.mu.Unlock()
	if ended {
		<-r.done
	}
}
