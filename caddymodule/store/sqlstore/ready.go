package sqlstore

import (
	"cmp"
	"slices"
	"time"

	"github.com/windsome/caddy-wepay/caddymodule/store"
)

// outlook is what is known of a queue, so that most events are leased without
// a look into the file.
//
// Each waiting event of the queue that is committed is in one of these places: in
// ready; held, by a lease that ends at next or later; due at next or later; in
// a batch that the committer has committed and is about to add; or, unless whole,
// only in the file, due after those in ready. It moves from one to another with
// leases.mu locked. A look has that locked from its first query on: what is committed
// meanwhile is added after it. If the look has found that too, it is held, in ready
// or not yet due, which added finds out; a settle of it cannot end before, as the
// committer writes that after it has added.
type outlook struct {
	held   int       // how many leases there are, with those that have run out
	looked time.Time // when the last look was
	ready  []row     // the first of those that are due and not held, in their order
	whole  bool      // ready has all of them
	next   time.Time // when one that is not in ready is to be leased, at the earliest; zero: never
}

// What is kept of all queues in ready, at most, but that the last may be larger; how
// much more than it leases a look takes along; and how long it is good for: the clock
// may have been set.
const (
	mostReady      = 256
	mostReadyBytes = 1 << 20
	lookAhead      = 64
	lookAgain      = time.Second
)

// takeReady takes what is due of a queue where no look is needed for it. The caller
// holds mu.
func (l *leases) takeReady(q *outlook, limit int, now time.Time) []row {
	if !q.next.IsZero() && !q.next.After(now) || time.Since(q.looked) > lookAgain {
		return nil
	}
	rows := slices.Clone(q.ready[:min(limit, len(q.ready))])
	q.ready = slices.Delete(q.ready, 0, len(rows))
	for _, r := range rows {
		l.count(r, -1)
	}
	return rows
}

// count counts what is kept in ready.
func (l *leases) count(r row, n int) {
	l.readyEvents += n
	l.readyBytes += n * (len(r.Payload) + len(r.Reason) + len(r.Answer))
}

// forget has the next lease of a queue look.
func (l *leases) forget(q *outlook) {
	for _, r := range q.ready {
		l.count(r, -1)
	}
	q.ready, q.whole = nil, false
}

// changed forgets all, as events were changed.
func (l *leases) changed() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.forgetAll()
}

func (l *leases) forgetAll() {
	for _, q := range l.queues {
		l.forget(q)
	}
}

// added takes in what was just committed.
func (l *leases) added(batch []*job, now time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, j := range batch {
		if !j.added || j.event.State != store.Waiting || l.held[j.seq] != nil {
			continue
		}
		switch q := l.queue(j.event.Queue()); {
		case j.event.Due.After(now):
			q.next = earlier(q.next, dueOf(j.event))
		case q.whole || len(q.ready) > 0:
			r, err := readBack(j.seq, j.written)
			if err != nil {
				l.forget(q) // and a look says it
				continue
			}
			l.insert(q, r)
		}
	}
}

// insert puts a row into ready, unless it is there or comes after what is in the
// file only.
func (l *leases) insert(q *outlook, r row) {
	at, there := slices.BinarySearchFunc(q.ready, r, func(a, b row) int {
		return cmp.Or(a.Due.Compare(b.Due), a.Received.Compare(b.Received), cmp.Compare(a.seq, b.seq))
	})
	if there || at == len(q.ready) && !q.whole {
		return
	}
	if l.full() {
		l.forgetAll() // so that what nobody leases takes no room for good
		return
	}
	l.keep(q, at, r)
}

// full reports whether no more is kept ready.
func (l *leases) full() bool { return l.readyEvents >= mostReady || l.readyBytes >= mostReadyBytes }

// keep has a row in ready.
func (l *leases) keep(q *outlook, at int, r row) {
	q.ready = slices.Insert(q.ready, at, r)
	l.count(r, 1)
}
