package caddymodule

import (
	"bytes"
	"errors"
	"sync"
	"time"

	"go.uber.org/zap"
)

// boltLeases are the leases of a file's events. They are in memory alone: no
// other process has the file open, and after a crash nobody holds one.
type boltLeases struct {
	mu      sync.Mutex
	held    map[uint64]*boltLease // by events' numbers
	waiters map[Queue]chan struct{}
}

// boltLease is a lease; the holder knows it by its address.
type boltLease struct {
	holder *Bolt
	number uint64
	queue  Queue
	due    time.Time // when the event was, as it is stored
	until  time.Time // zero: it has ended
}

func newBoltLeases() *boltLeases {
	return &boltLeases{held: make(map[uint64]*boltLease), waiters: make(map[Queue]chan struct{})}
}

// changed returns what is closed when something of a queue changes.
func (l *boltLeases) changed(q Queue) <-chan struct{} {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.waiters[q] == nil {
		l.waiters[q] = make(chan struct{})
	}
	return l.waiters[q]
}

// wake wakes those who wait for a queue. The lock is held.
func (l *boltLeases) wake(q Queue) {
	if waiters := l.waiters[q]; waiters != nil {
		close(waiters)
		delete(l.waiters, q)
	}
}

// current returns the lease of an event that counts, which may have run out, or
// nil.
func (l *boltLeases) current(number uint64) *boltLease {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.held[number]
}

// settle ends leases once that is written, and wakes those who wait for the
// events' queues.
func (l *boltLeases) settle(ended map[uint64]*boltLease, queues []Queue) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for number, lease := range ended {
		if l.held[number] == lease {
			delete(l.held, number)
		}
	}
	for _, q := range queues {
		l.wake(q)
	}
}

// lease leases up to limit events of a queue that are due. Without any it says
// when there will be one; zero: nobody knows.
func (s *boltStore) lease(holder *Bolt, q Queue, limit int, term time.Duration) (leases []*Lease, next time.Time, err error) {
	l := s.leases
	// What is written meanwhile ends its leases only after this, so that no
	// event is found both waiting, as it was before, and free, as it is after.
	l.mu.Lock()
	defer l.mu.Unlock()
	now := time.Now()
	err = s.read(func(tx *boltTx) error {
		tx.waiting(q, func(number uint64, due time.Time) bool {
			free := due
			if held := l.held[number]; held != nil && held.until.After(free) {
				free = held.until
			}
			if free.After(now) {
				if next.IsZero() || free.Before(next) {
					next = free
				}
				return !due.After(now) // those that follow are due later still
			}
			e, err := tx.at(number)
			if errors.Is(err, ErrNoEvent) || err == nil && !e.waitsIn(q, due) {
				s.mistrustIndexes("an event does not wait as it is said to")
				return true
			}
			if err != nil {
				s.logger.Error("an event in the outbox is damaged and stays there", zap.Uint64("number", number), zap.Error(err))
				l.held[number] = &boltLease{queue: q, until: now.Add(damagedWait)}
				return true
			}
			token := &boltLease{holder: holder, number: number, queue: q, due: due, until: now.Add(term)}
			l.held[number] = token
			leases = append(leases, &Lease{Event: e.Event, Token: token})
			return len(leases) < limit
		})
		return nil
	})
	if err != nil {
		for _, lease := range leases {
			delete(l.held, lease.Token.(*boltLease).number)
		}
		return nil, time.Time{}, err
	}
	return leases, next, nil
}

// waitsIn reports whether an event waits in a queue until a time.
func (e numbered) waitsIn(q Queue, due time.Time) bool {
	return e.State == Waiting && e.Queue() == q && bytes.Equal(timeKey(due), timeKey(e.Due))
}

// damagedWait is how long an event that cannot be read is passed over before it
// is tried, and told of, again.
const damagedWait = time.Hour

// release ends the leases of one that has left.
func (s *boltStore) release(holder *Bolt) {
	l := s.leases
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, lease := range l.held {
		if lease.holder == holder {
			lease.until = time.Time{}
			l.wake(lease.queue)
		}
	}
}
