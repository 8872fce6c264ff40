package wepaytest

import (
	"sync"
	"time"
)

// Clock provides a server's time and timers.
type Clock interface {
	// Now returns the time.
	Now() time.Time
	// AfterFunc calls f once d has passed. The returned function calls that
	// off and says whether it was in time to do so.
	AfterFunc(d time.Duration, f func()) (stop func() bool)
}

// realClock is the time of this machine.
type realClock struct{}

func (realClock) Now() time.Time { return time.Now() }

func (realClock) AfterFunc(d time.Duration, f func()) func() bool {
	return time.AfterFunc(d, f).Stop
}

// FakeClock is a clock that only a test advances. It may be used by many goroutines.
type FakeClock struct {
	mu    sync.Mutex
	now   time.Time
	alarm []*alarm // in the order in which they were set
}

type alarm struct {
	at time.Time
	f  func()
}

// NewFakeClock returns a clock that shows start.
func NewFakeClock(start time.Time) *FakeClock { return &FakeClock{now: start} }

// Now returns the time that the clock shows.
func (c *FakeClock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

// AfterFunc has f called by the Advance that passes d from now.
func (c *FakeClock) AfterFunc(d time.Duration, f func()) (stop func() bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	a := &alarm{c.now.Add(d), f}
	c.alarm = append(c.alarm, a)
	return func() bool {
		c.mu.Lock()
		defer c.mu.Unlock()
		return c.remove(a)
	}
}

// Advance advances the clock by d. It runs the timers that fall due, one after the
// other in the order of their times, and returns when all are done; the clock shows
// each timer's time while it runs. Timers that these set within d run as well.
func (c *FakeClock) Advance(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	end := c.now.Add(d)
	for {
		next := c.next(end)
		if next == nil {
			break
		}
		c.remove(next)
		c.show(next.at)
		c.mu.Unlock()
		next.f()
		c.mu.Lock()
	}
	c.show(end)
}

// show never turns the clock back, which two goroutines that advance it at
// once would otherwise do.
func (c *FakeClock) show(t time.Time) {
	if t.After(c.now) {
		c.now = t
	}
}

// next returns the earliest alarm that is due by end, the first set of several
// for the same time, or nil.
func (c *FakeClock) next(end time.Time) *alarm {
	var next *alarm
	for _, a := range c.alarm {
		if !a.at.After(end) && (next == nil || a.at.Before(next.at)) {
			next = a
		}
	}
	return next
}

func (c *FakeClock) remove(gone *alarm) bool {
	for i, a := range c.alarm {
		if a == gone {
			c.alarm = append(c.alarm[:i], c.alarm[i+1:]...)
			return true
		}
	}
	return false
}

// Interface guards
var (
	_ Clock = realClock{}
	_ Clock = (*FakeClock)(nil)
)
