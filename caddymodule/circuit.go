package caddymodule

import (
	"context"
	"sync"
	"time"
)

// circuit keeps events from an order service that is away. After some failures
// in a row it opens: nothing is sent for a while, then one event as a probe,
// and the next wait is longer until one comes through.
type circuit struct {
	longest time.Duration // of the waits

	mu       sync.Mutex
	failures int       // in a row, while closed
	openings int       // in a row; 0: closed
	until    time.Time // open: when the next probe may go
	probing  bool
	changed  chan struct{} // closed when a probe has ended
}

const (
	failuresToOpen = 5
	longestOpening = 30 * time.Second
)

func newCircuit(longest time.Duration) *circuit {
	return &circuit{longest: min(longest, longestOpening), changed: make(chan struct{})}
}

// await waits until events may be sent, and returns how many of the wanted
// ones.
func (c *circuit) await(ctx context.Context, wanted int) (int, error) {
	for {
		c.mu.Lock()
		openings, changed, wait := c.openings, c.changed, time.Until(c.until)
		probing := c.probing
		c.mu.Unlock()
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
// it may not, retry says when to ask again.
func (c *circuit) enter(now time.Time) (ok, probe bool, retry time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case c.openings == 0:
		return true, false, time.Time{}
	case c.probing:
		return false, false, now.Add(time.Second)
	case now.Before(c.until):
		return false, false, c.until
	default:
		c.probing = true
		return true, true, time.Time{}
	}
}

// succeed closes the circuit.
func (c *circuit) succeed() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.failures, c.openings, c.until = 0, 0, time.Time{}
	c.turn()
}

// fail notes that an event did not come through. The order service may have
// said how long it wants to be left alone.
func (c *circuit) fail(now time.Time, probe bool, leaveAlone time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.openings > 0 && !probe {
		return // sent before it opened
	}
	c.failures++
	if c.failures < failuresToOpen && leaveAlone == 0 && !probe {
		return
	}
	c.openings++
	c.until = now.Add(max(leaveAlone, growing(time.Second, c.longest, c.openings)))
	c.turn()
}

// turn ends a probe and wakes those who wait for it.
func (c *circuit) turn() {
	c.probing = false
	close(c.changed)
	c.changed = make(chan struct{})
}

// growing is the n-th of waits that double from the first to the longest.
func growing(first, longest time.Duration, n int) time.Duration {
	wait := first
	for range n - 1 {
		if wait >= longest/2 {
			return longest
		}
		wait *= 2
	}
	return min(wait, longest)
}
