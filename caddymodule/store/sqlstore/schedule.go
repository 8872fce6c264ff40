package sqlstore

import (
	"sync"
	"time"

	"github.com/windsome/caddy-wepay/caddymodule/store"
)

// schedule knows when a queue may have an event to lease, so that one that waits
// for nothing costs nothing. That an event is there only the database says.
type schedule struct {
	mu     sync.Mutex
	queues map[store.Queue]*turn
}

// turn is the next time that a queue is to be looked at.
type turn struct {
	at      time.Time     // zero: no event is known
	changed chan struct{} // closed when at gets earlier; nil: none waits
}

func newSchedule() *schedule { return &schedule{queues: make(map[store.Queue]*turn)} }

// add says that a queue may have an event at a time, and wakes those that wait
// for a later one.
func (s *schedule) add(queue store.Queue, at time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	t := s.turn(queue)
	if !t.at.IsZero() && !at.Before(t.at) {
		return
	}
	t.at = at
	if t.changed != nil {
		close(t.changed)
		t.changed = nil
	}
}

// take reports whether it is time to look at a queue. It is also where an event is
// due further ahead than any may be, by longest, if that is not 0. Then the time is
// forgotten: the caller looks, and adds what it leaves. Else take returns the time,
// and what is closed when that gets earlier.
func (s *schedule) take(queue store.Queue, now time.Time, longest time.Duration) (ready bool, at time.Time, changed <-chan struct{}) {
	s.mu.Lock()
	defer s.mu.Unlock()
	t := s.turn(queue)
	ahead := t.at.Sub(now)
	if !t.at.IsZero() && (ahead <= 0 || longest > 0 && ahead > longest) {
		t.at = time.Time{}
		return true, now, nil
	}
	if t.changed == nil {
		t.changed = make(chan struct{})
	}
	return false, t.at, t.changed
}

func (s *schedule) turn(queue store.Queue) *turn {
	t := s.queues[queue]
	if t == nil {
		t = new(turn)
		s.queues[queue] = t
	}
	return t
}
