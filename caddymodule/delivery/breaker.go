package delivery

import (
	"context"
	"sync"
	"time"
)

// breaker keeps events from an order service that is away. After some failures
// in a row it opens: nothing is sent for a while, then one event as a probe,
// and the next wait is longer until one comes through.
type breaker struct {
	longest time.Duration // of the waits

	mu       sync.Mutex
	failures int       // in a row, while closed
	openings int       // in a row; 0: closed
	opened   time.Time // the first of these
	until    time.Time // open: when the next probe may go
	probing  bool
	changed  chan struct{} // closed when a probe has ended
}

const (
	failuresToOpen = 5
	longestOpening = 30 * time.Second
)

func newBreaker(longest time.Duration) *breaker {
	return &breaker{longest: min(longest, longestOpening), changed: make(chan struct{})}
}

// await waits until events may be sent, and returns how many of the wanted
// ones.
func (b *breaker) await(ctx context.Context, wanted int) (int, error) {
	for {
		b.mu.Lock()
		openings, changed, wait := b.openings, b.changed, time.Until(b.until)
		probing := b.probing
		b.mu.Unlock()
		switch {
		case openings == 0:
			return wanted, nil
		case wait <= 0 && !probing:
			return 1, nil
		}
		var timer <-chan time.Time
		if wait > 0 {
			timer = time.After(wait)
		}
		select {
		case <-ctx.Done():
			return 0, ctx.Err()
		case <-timer:
		case <-changed:
		}
	}
}

// enter reports whether an event may be sent now, and whether it is a probe. If
// it may not, retry says how long to wait until the next try.
func (b *breaker) enter(now time.Time) (ok, probe bool, retry time.Duration) {
	b.mu.Lock()
	defer b.mu.Unlock()
	switch {
	case b.openings == 0:
		return true, false, 0
	case b.probing:
		return false, false, time.Second
	case now.Before(b.until):
		return false, false, b.until.Sub(now)
	default:
		b.probing = true
		return true, true, 0
	}
}

// succeed closes the breaker.
func (b *breaker) succeed() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.failures, b.openings, b.until = 0, 0, time.Time{}
	b.turn()
}

// fail notes that an event did not come through. The order service may have
// said how long it wants to be left alone.
func (b *breaker) fail(now time.Time, probe bool, leaveAlone time.Duration) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.openings > 0 && !probe {
		return // sent before it opened
	}
	b.failures++
	if b.failures < failuresToOpen && leaveAlone == 0 && !probe {
		return
	}
	if b.openings++; b.openings == 1 {
		b.opened = now
	}
	b.until = now.Add(max(leaveAlone, growing(time.Second, b.longest, b.openings)))
	b.turn()
}

// turn ends a probe and wakes those who wait for it.
func (b *breaker) turn() {
	b.probing = false
	close(b.changed)
	b.changed = make(chan struct{})
}

// openFor returns how long the breaker has been open, whatever probes went; 0:
// it is closed.
func (b *breaker) openFor(now time.Time) time.Duration {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.openings == 0 {
		return 0
	}
	return now.Sub(b.opened)
}
