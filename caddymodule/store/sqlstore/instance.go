package sqlstore

import (
	"context"
	"sync"
	"time"

	"github.com/windsome/caddy-wepay/caddymodule/store"
)

// instance is a config's hold on a database. It is the part of a store's module
// that is the same for each engine.
type instance struct {
	mu     sync.Mutex
	db     *database     // nil: not yet open
	closed chan struct{} // closed by Close
	leave  func() error
}

// join begins to use a database, which leave gives back.
func (i *instance) join(db *database, leave func() error) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.db, i.closed, i.leave = db, make(chan struct{}), leave
}

// joinServer begins to use a server, which is closed with the instance.
func (i *instance) joinServer(ctx context.Context, s *server, options store.Options) error {
	db, err := newDatabase(ctx, s, &s.dialect.dialect, options, s.logger)
	if err != nil {
		return err
	}
	i.join(db, db.stop)
	return nil
}

// opened returns the database unless the instance is closed.
func (i *instance) opened() (*database, <-chan struct{}, error) {
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.db == nil || isClosed(i.closed) {
		return nil, nil, store.ErrClosed
	}
	return i.db, i.closed, nil
}

func isClosed(closed <-chan struct{}) bool {
	select {
	case <-closed:
		return true
	default:
		return false
	}
}

// releaseTimeout is how long a server may take to hear that leases are given back;
// closeTimeout comes on top.
const releaseTimeout = 80 * time.Millisecond

// Close gives the database back, and the leases with it.
func (i *instance) Close() error {
	db, _, err := i.opened()
	if err != nil {
		return nil //nolint:nilerr // it is closed
	}
	i.mu.Lock()
	if isClosed(i.closed) {
		i.mu.Unlock()
		return nil
	}
	close(i.closed)
	i.mu.Unlock()
	ctx, cancel := context.WithTimeout(context.Background(), releaseTimeout)
	defer cancel()
	_ = db.engine.release(ctx, i) // else their terms end them
	return i.leave()
}

// Put stores an event that the store does not have yet.
func (i *instance) Put(ctx context.Context, event *store.Event) (added bool, err error) {
	db, _, err := i.opened()
	if err != nil {
		return false, err
	}
	return db.put(ctx, event)
}

// longestTurn bounds how long a queue is not looked at although an event is known
// to wait: meanwhile the clock may be set.
const longestTurn = time.Minute

// Lease takes waiting events that are due, and waits until there are any.
func (i *instance) Lease(ctx context.Context, queue store.Queue, limit int, term time.Duration) ([]*store.Lease, error) {
	for {
		db, closed, err := i.opened()
		if err != nil {
			return nil, err
		}
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		now := db.now()
		ready, at, changed := db.schedule.take(queue, now, db.options.Load().LongestWait)
		if ready {
			leases, err := db.lease(ctx, i, queue, limit, term)
			if err != nil || len(leases) > 0 {
				return leases, err
			}
			continue
		}
		wait := longestTurn
		if !at.IsZero() {
			wait = min(wait, at.Sub(now))
		}
		timer := time.NewTimer(wait)
		select {
		case <-timer.C:
		case <-changed:
		case <-closed:
		case <-ctx.Done():
		}
		timer.Stop()
	}
}

// lease leases what is due of a queue, and schedules what is left of it.
func (d *database) lease(ctx context.Context, to *instance, queue store.Queue, limit int, term time.Duration) ([]*store.Lease, error) {
	if !storable(queue.Merchant + string(queue.Kind)) {
		return nil, nil
	}
	bounded, cancel := context.WithTimeout(ctx, viewTimeout)
	defer cancel()
	leases, next, err := d.engine.lease(bounded, to, queue, limit, term)
	switch {
	case err != nil || len(leases) > 0:
		d.schedule.add(queue, d.now())
	case !next.IsZero():
		d.schedule.add(queue, next)
	}
	if err != nil && ctx.Err() != nil {
		err = ctx.Err()
	}
	return leases, err
}

// Settle stores a leased event as its holder leaves it.
func (i *instance) Settle(ctx context.Context, lease *store.Lease) error {
	db, _, err := i.opened()
	if err != nil {
		return err
	}
	return db.settle(ctx, lease)
}

// Get returns an event.
func (i *instance) Get(ctx context.Context, id string) (*store.Event, error) {
	db, _, err := i.opened()
	if err != nil {
		return nil, err
	}
	found, err := db.get(ctx, id)
	if err != nil {
		return nil, err
	}
	return found.Event, nil
}

// List returns events, the latest received first.
func (i *instance) List(ctx context.Context, filter store.Filter, after string, limit int) (events []*store.Event, next string, err error) {
	db, _, err := i.opened()
	if err != nil {
		return nil, "", err
	}
	return db.list(ctx, filter, after, limit)
}

// Count returns how many events there are.
func (i *instance) Count(ctx context.Context) ([]store.Count, error) {
	db, _, err := i.opened()
	if err != nil {
		return nil, err
	}
	return db.count(ctx)
}

// Replay has an event handed over again.
func (i *instance) Replay(ctx context.Context, id string) (was store.State, err error) {
	db, _, err := i.opened()
	if err != nil {
		return "", err
	}
	return db.replay(ctx, id)
}

// Drop takes an event out of the way.
func (i *instance) Drop(ctx context.Context, id, reason string) error {
	db, _, err := i.opened()
	if err != nil {
		return err
	}
	return db.drop(ctx, id, reason)
}
