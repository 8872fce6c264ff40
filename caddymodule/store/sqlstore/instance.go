package sqlstore

import (
	"context"
	"sync"
	"time"

	"go.uber.org/zap"

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

// closeTimeout is how long Close waits, and releaseTimeout how long a server may
// take to hear that leases are given back; see store.Store.
const (
	closeTimeout   = 400 * time.Millisecond
	releaseTimeout = 3 * time.Second
)

// Close gives the leases back, and the database. What takes longer than Close may
// goes on for a while, as long as the process does.
func (i *instance) Close() error {
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.db == nil || isClosed(i.closed) {
		return nil
	}
	close(i.closed)
	left := make(chan error, 1)
	go func() {
		ctx, cancel := context.WithTimeout(context.Background(), releaseTimeout)
		defer cancel()
		if err := i.db.engine.release(ctx, i); err != nil {
			i.db.logger.Warn("giving leases back failed: they end by themselves", zap.Error(err))
		}
		left <- i.leave()
	}()
	select {
	case err := <-left:
		return err
	case <-time.After(closeTimeout):
		i.db.logger.Warn("closing the store takes long, and goes on")
		return nil
	}
}

// Put stores an event that the store does not have yet.
func (i *instance) Put(ctx context.Context, event *store.Event) (added bool, err error) {
	return with(i, func(db *database) (bool, error) { return db.put(ctx, event) })
}

// with runs a call that finds the store open.
func with[T any](i *instance, call func(*database) (T, error)) (result T, err error) {
	db, _, err := i.opened()
	if err != nil {
		return result, err
	}
	return call(db)
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
	case err != nil:
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
	_, err := with(i, func(db *database) (any, error) { return nil, db.settle(ctx, lease) })
	return err
}

// Get returns an event.
func (i *instance) Get(ctx context.Context, id string) (*store.Event, error) {
	found, err := with(i, func(db *database) (row, error) { return db.get(ctx, id) })
	return found.Event, err
}

// List returns events, the latest received first.
func (i *instance) List(ctx context.Context, filter store.Filter, after string, limit int) (events []*store.Event, next string, err error) {
	events, err = with(i, func(db *database) (events []*store.Event, err error) {
		events, next, err = db.list(ctx, filter, after, limit)
		return events, err
	})
	return events, next, err
}

// Count returns how many events there are.
func (i *instance) Count(ctx context.Context) ([]store.Count, error) {
	return with(i, func(db *database) ([]store.Count, error) { return db.count(ctx) })
}

// Replay has an event handed over again.
func (i *instance) Replay(ctx context.Context, id string) (was store.State, err error) {
	return with(i, func(db *database) (store.State, error) { return db.replay(ctx, id) })
}

// Drop takes an event out of the way.
func (i *instance) Drop(ctx context.Context, id, reason string) error {
	_, err := with(i, func(db *database) (any, error) { return nil, db.drop(ctx, id, reason) })
	return err
}
