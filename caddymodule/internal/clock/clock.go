// Package clock has a clock that goes on evenly when the system's is set: for
// when an event is due and how old it is.
package clock

import (
	"sync"
	"time"
)

// Clock begins with the system's time and advances by the monotonic clock. It
// follows the system's where that is set to another time, but runs at most twice
// as fast for it, or half as fast: no jump gives events up, or puts them out of
// reach. It never runs backwards.
type Clock struct {
	wall    func() time.Time     // the system's, which may jump
	elapsed func() time.Duration // monotonic
	began   time.Duration

	mu      sync.Mutex
	now     time.Time     // as it was last read
	read    time.Duration // when that was
	seen    time.Time     // the system's time then
	stepped func(step, behind time.Duration)
}

const (
	// leastStep is the least that the system's clock is set by to count as a step.
	leastStep = 5 * time.Second

	// longestFollowing bounds what the time since a clock was last read lets it
	// follow at once.
	longestFollowing = time.Minute
)

// New returns a clock that follows wall, and advances by elapsed.
func New(wall func() time.Time, elapsed func() time.Duration) *Clock {
	now, read := wall().Round(0), elapsed()
	return &Clock{wall: wall, elapsed: elapsed, began: read, now: now, read: read, seen: now}
}

// System returns a clock that follows the system's.
func System() *Clock {
	began := time.Now()
	return New(time.Now, func() time.Duration { return time.Since(began) })
}

// OnStep has f called when the system's clock is found to have been set: by how
// much, and how far it is ahead of this one then, or behind where that is below 0.
func (c *Clock) OnStep(f func(step, ahead time.Duration)) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.stepped = f
}

// Now returns the time.
func (c *Clock) Now() time.Time {
	now, _ := c.times()
	return now
}

// Age returns how long ago something was: by this clock or the system's,
// whichever says less. A clock that is wrong makes nothing old.
func (c *Clock) Age(since time.Time) time.Duration {
	now, wall := c.times()
	return min(now.Sub(since), wall.Sub(since))
}

// Running returns how long ago the clock began, however the system's was set.
func (c *Clock) Running() time.Duration { return c.elapsed() - c.began }

func (c *Clock) times() (now, wall time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	read, wall := c.elapsed(), c.wall().Round(0)
	passed := read - c.read
	step := wall.Sub(c.seen.Add(passed))
	even := c.now.Add(passed)
	following := min(passed, longestFollowing)
	c.now = even.Add(max(-following/2, min(wall.Sub(even), following)))
	c.read, c.seen = read, wall
	if c.stepped != nil && step.Abs() >= leastStep {
		c.stepped(step, wall.Sub(c.now))
	}
	return c.now, wall
}
