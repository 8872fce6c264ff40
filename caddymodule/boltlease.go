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
	held    map[string]*boltLease // by events' IDs
	waiters map[Queue]chan struct{}
}

// boltLease is a lease; the holder knows it by its address.
type boltLease struct {
	holder *Bolt
	queue  Queue
	due    time.Time // when the event was, as it is stored
	until  time.Time // zero: it has ended
}

func newBoltLeases() *boltLeases {
	return &boltLeases{held: make(map[string]*boltLease), waiters: make(map[Queue]chan struct{})}
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
func (l *boltLeases) current(id string) *boltLease {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.held[id]
}

// settle ends leases once that is written, and wakes those who wait for the
// events' queues.
func (l *boltLeases) settle(ended map[string]*boltLease, queues []Queue) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for id, lease := range ended {
		if l.held[id] == lease {
			delete(l.held, id)
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
		tx.waiting(q, func(id string, due time.Time) bool {
			free := due
			if held := l.held[id]; held != nil && held.until.After(free) {
				free = held.until
			}
			if free.After(now) {
				if next.IsZero() || free.Before(next) {
					next = free
				}
				return !due.After(now) // those that follow are due later still
			}
			e, err := tx.get(id)
			if errors.Is(err, ErrNoEvent) || err == nil && !bytes.Equal(dueKey(q, due, id), dueKey(e.Queue(), e.Due, e.ID)) || err == nil && e.State != Waiting {
				s.mistrustIndexes("an event does not wait as it is said to")
				return true
			}
			if err != nil {
				s.logger.Error("an event in the outbox is damaged and stays there", zap.String("event", id), zap.Error(err))
				l.held[id] = &boltLease{queue: q, until: now.Add(damagedWait)}
				return true
			}
			token := &boltLease{holder: holder, queue: q, due: due, until: now.Add(term)}
			l.held[id] = token
			leases = append(leases, &Lease{Event: e, Token: token})
			return len(leases) < limit
		})
		return nil
	})
	return leases, next, err
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
