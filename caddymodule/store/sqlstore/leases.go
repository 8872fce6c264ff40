package sqlstore

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/windsome/caddy-wepay/caddymodule/store"
)

// leases are the leases of a file's events. They are in memory: no other process
// has the file open, and after a crash none is held.
type leases struct {
	mu     sync.Mutex
	held   map[int64]*token // by row; those that have run out stay until another begins
	queues map[store.Queue]*outlook

	readyEvents, readyBytes int // in all queues
}

func newLeases() *leases {
	return &leases{held: make(map[int64]*token), queues: make(map[store.Queue]*outlook)}
}

// queue returns what is known of a queue. The caller holds mu.
func (l *leases) queue(queue store.Queue) *outlook {
	q := l.queues[queue]
	if q == nil {
		q = new(outlook)
		l.queues[queue] = q
	}
	return q
}

// leased reports whether an event is held.
func (l *leases) leased(_ session, seq int64) (bool, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	held := l.held[seq]
	return held != nil && time.Now().Before(held.until), nil
}

// guard returns ErrLeaseLost unless a lease is the last of its event.
func (l *leases) guard(t *token) (string, []any, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.held[t.seq] != t {
		return "", nil, store.ErrLeaseLost
	}
	return "", nil, nil
}

// freed forgets the lease of an event.
func (l *leases) freed(seq int64, of *token, due time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if of == nil || l.held[seq] == of {
		l.drop(seq)
	}
	if !due.IsZero() {
		q := l.queue(of.queue)
		q.next = earlier(q.next, due)
	}
}

func (l *leases) drop(seq int64) {
	if held := l.held[seq]; held != nil {
		delete(l.held, seq)
		l.queue(held.queue).held--
	}
}

func (l *leases) hold(t *token) {
	l.drop(t.seq)
	l.held[t.seq] = t
	l.queue(t.queue).held++
}

// due selects the rows of a queue's waiting events in the order in which they are
// due, as the index has them, so that nothing is sorted.
const due = "SELECT seq, due FROM wepay_event WHERE state = 'waiting' AND merchant = ? AND kind = ? AND "

// lease leases what is due of a queue.
func (f *file) lease(ctx context.Context, to *instance, queue store.Queue, limit int, term time.Duration) (leased []*store.Lease, next time.Time, err error) {
	if err := f.isDamaged(); err != nil {
		return nil, time.Time{}, err
	}
	if leased, next = f.takeReady(to, queue, limit, term); len(leased) > 0 {
		return leased, next, nil
	}
	err = f.leaser.within(ctx, func() error {
		leased, next, err = f.take(f.leaser, to, queue, limit, term)
		return err
	})
	return leased, next, f.failed(err)
}

// takeReady leases what is due where no look is needed for it.
func (f *file) takeReady(to *instance, queue store.Queue, limit int, term time.Duration) (leased []*store.Lease, next time.Time) {
	f.leases.mu.Lock()
	defer f.leases.mu.Unlock()
	now := to.db.now()
	rows := f.leases.takeReady(f.queue(queue), limit, now)
	return f.grant(to, queue, rows, now, term)
}

// take looks for what is due, and leases it. What is settled meanwhile is freed only
// after this, so that no event is found both waiting, as it was before, and free, as
// it is after.
func (f *file) take(s session, to *instance, queue store.Queue, limit int, term time.Duration) (leased []*store.Lease, next time.Time, err error) {
	f.leases.mu.Lock()
	defer f.leases.mu.Unlock()
	options := to.db.options.Load()
	now, q := options.Now(), f.queue(queue)
	f.forget(q)
	free, next, err := f.free(s, queue, limit+lookAhead, now, options.LongestWait)
	var rows []row
	read := 0
	for ; err == nil && read < len(free); read++ {
		seq := free[read]
		if read >= limit && (f.held[seq] != nil || f.full()) {
			break // a lease that has run out may yet be settled
		}
		err = s.query(selectEvent+"wepay_event WHERE seq = ?", func(scan func(...any) error) error {
			r, err := scanEvent(scan)
			switch {
			case err != nil || r.State != store.Waiting: // settled or dropped just now
			case read < limit:
				rows = append(rows, r)
			default:
				f.keep(q, len(q.ready), r)
			}
			return err
		}, seq)
	}
	if err != nil {
		f.forget(q)
		return nil, time.Time{}, err
	}
	q.looked, q.next, q.whole = time.Now(), next, len(free) < limit+lookAhead && read == len(free)
	leased, next = f.grant(to, queue, rows, now, term)
	return leased, next, nil
}

// grant leases rows, and says when something else will be due. The caller holds mu.
func (f *file) grant(to *instance, queue store.Queue, rows []row, now time.Time, term time.Duration) (leased []*store.Lease, next time.Time) {
	for _, r := range rows {
		t := &token{holder: to, seq: r.seq, queue: queue, until: time.Now().Add(term)}
		f.hold(t)
		leased = append(leased, &store.Lease{Event: r.Event, Token: t})
	}
	q := f.queue(queue)
	if len(rows) > 0 {
		q.next = earlier(q.next, now.Add(term)) // should its holder leave it
	}
	if !q.whole || len(q.ready) > 0 {
		return leased, now // there may be more
	}
	return leased, q.next
}

// free returns what is due of a queue and not held, and when something else will
// be; zero: unknown. The caller holds mu.
func (f *file) free(s session, queue store.Queue, limit int, now time.Time, longestWait time.Duration) (free []int64, next time.Time, err error) {
	far := int64(1<<63 - 1)
	if longestWait > 0 {
		far = millis(now.Add(longestWait))
	}
	collect := func(scan func(...any) error) error {
		var seq, due int64
		if err := scan(&seq, &due); err != nil {
			return err
		}
		held := f.held[seq]
		switch {
		case held != nil && time.Now().Before(held.until):
			next = earlier(next, now.Add(time.Until(held.until)))
		case due > millis(now) && due <= far:
			next = earlier(next, fromMillis(due))
		case len(free) < limit:
			free = append(free, seq)
		}
		return nil
	}
	most := int64(limit + f.queue(queue).held)
	for _, q := range []struct {
		condition string
		args      []any
	}{
		{"due <= ? ORDER BY due, received, seq LIMIT ?", []any{millis(now), most}},
		{"due > ? ORDER BY due, received, seq LIMIT ?", []any{far, most}},
		{"due > ? AND due <= ? ORDER BY due, received, seq LIMIT 1", []any{millis(now), far}},
	} {
		if len(free) < limit {
			args := append([]any{queue.Merchant, string(queue.Kind)}, q.args...)
			err = errors.Join(err, s.query(due+q.condition, collect, args...))
		}
	}
	return free, next, err
}

// earlier returns the earlier of two times; zero: unknown.
func earlier(a, b time.Time) time.Time {
	if a.IsZero() || b.Before(a) {
		return b
	}
	return a
}

// release ends the leases of an instance that leaves.
func (f *file) release(_ context.Context, of *instance) error {
	f.leases.mu.Lock()
	defer f.leases.mu.Unlock()
	now := of.db.now()
	for seq, held := range f.held {
		if held.holder == of {
			f.drop(seq)
			f.forget(f.queue(held.queue))
			of.db.schedule.add(held.queue, now)
		}
	}
	return nil
}
