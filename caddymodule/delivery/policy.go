package delivery

import "time"

// Policy is how an event is tried.
type Policy struct {
	// FirstWait is how long to wait after the first attempt that failed, and
	// LongestWait is the longest wait; the waits between double.
	FirstWait, LongestWait time.Duration

	// GiveUp is how long an event is tried before it is given up.
	GiveUp time.Duration

	// Workers is how many events are handed over at the same time.
	Workers int
}

// wait is how long to wait after so many attempts.
func (p Policy) wait(attempts int) time.Duration {
	return growing(p.FirstWait, p.LongestWait, attempts)
}

// leastAttempts is how many an event has to have had before it is given up for
// its age: those until the waits grow no more, as far as there is time for them.
func (p Policy) leastAttempts() int {
	n, waited := 1, time.Duration(0)
	for wait := p.wait(n); wait < p.LongestWait && waited+wait < p.GiveUp; wait = p.wait(n) {
		waited += wait
		n++
	}
	return n
}

// leastTime is how long an order service has to have been tried in vain, by a
// clock that cannot be set, before anything is given up for its age.
func (p Policy) leastTime() time.Duration { return min(p.LongestWait, p.GiveUp) }

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
