// Package sampler keeps a log readable where the same thing happens again and
// again: the first is logged, the others of that minute are counted.
package sampler

import (
	"sync"
	"time"
)

// Interval is how often the same thing is logged.
const Interval = time.Minute

// Sampler tells the first of many alike from the others. Its zero value is ready
// to use, by many goroutines.
type Sampler struct {
	// Counted is told at the end of an interval how often each thing happened that
	// was not logged, if any did; nil: nothing is called.
	Counted func(unlogged map[string]int)

	mu    sync.Mutex
	began map[string]time.Time // when each was logged
	more  map[string]int       // how often each happened since
	timer *time.Timer          // ends the interval; nil: nothing is counted
}

// Log reports whether something that has happened is to be logged.
func (s *Sampler) Log(what string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if began, logged := s.began[what]; logged && time.Since(began) < Interval {
		s.count(what)
		return false
	}
	if s.began == nil {
		s.began = make(map[string]time.Time)
	}
	s.began[what] = time.Now()
	return true
}

// Count notes that something has happened that is not to be logged.
func (s *Sampler) Count(what string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.count(what)
}

// count notes what is not logged. The caller holds mu.
func (s *Sampler) count(what string) {
	if s.Counted == nil {
		return
	}
	if s.timer == nil {
		s.more = make(map[string]int)
		s.timer = time.AfterFunc(Interval, s.Flush)
	}
	s.more[what]++
}

// Flush ends the interval: what was counted is told.
func (s *Sampler) Flush() {
	s.mu.Lock()
	more := s.more
	s.more = nil
	if s.timer != nil {
		s.timer.Stop()
		s.timer = nil
	}
	s.mu.Unlock()
	if len(more) > 0 {
		s.Counted(more)
	}
}

// Over notes that something happens no more, so that the next time is logged, and
// reports whether any was.
func (s *Sampler) Over(what string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	_, logged := s.began[what]
	delete(s.began, what)
	return logged
}
