package sqlstore

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"go.uber.org/zap"

	"github.com/windsome/caddy-wepay/caddymodule/store"
)

// engine is what runs the statements: SQLite in this process, or a server.
type engine interface {
	// update runs a transaction that writes, and view one that looks in.
	update(ctx context.Context, run func(session) error) error
	view(ctx context.Context, run func(session) error) error

	// admit refuses a number of new events, of some bytes in all, where they would not
	// be safe.
	admit(events, bytes int) error

	// lease leases what is due of a queue to an instance, and says when to look again;
	// zero: unknown.
	lease(ctx context.Context, to *instance, queue store.Queue, limit int, term time.Duration) (leases []*store.Lease, next time.Time, err error)

	// leased reports whether an event is held, and guard returns what ends a
	// statement that changes one of a lease alone, or ErrLeaseLost.
	leased(s session, seq int64) (bool, error)
	guard(token *token) (condition string, args []any, err error)

	// freed is called for a lease that has ended, nil: whichever its event has, and says
	// when that is due again; zero: it waits no more. release ends those of an instance
	// that leaves.
	freed(seq int64, of *token, due time.Time)
	release(ctx context.Context, of *instance) error

	// added is called for jobs that were committed, before anything else is, and changed
	// after events were changed that nobody had leased.
	added(batch []*job, now time.Time)
	changed()

	// tend is called now and then, at least once a second.
	tend(d *database)

	close() error
}

// token is what a lease is known by.
type token struct {
	holder *instance
	seq    int64
	number int64
	queue  store.Queue
	until  time.Time // where leases are in memory
}

// database is an open place of events. Several instances may
// have it open.
type database struct {
	engine   engine
	dialect  *dialect
	logger   *zap.Logger
	options  atomic.Pointer[store.Options]
	schedule *schedule
	stopping chan struct{}

	commits *committer
	settles *committer // the same where there may be one writer

	counts      counted[store.Count]
	orderCounts counted[store.OrderCount]

	background sync.WaitGroup
}

// viewTimeout is how long looking in takes, at most.
const viewTimeout = 3 * time.Second

// start begins to write, and to tend the database, until stop.
func (d *database) start() {
	d.schedule = newSchedule()
	d.stopping = make(chan struct{})
	d.commits = d.newCommitter(d.writeBatch)
	d.settles = d.commits
	if !d.dialect.oneWriter {
		d.settles = d.newCommitter(d.writeSettles)
	}
	d.background.Go(d.tend)
}

func (d *database) newCommitter(write func(ctx context.Context, batch []*job) error) *committer {
	c := &committer{jobs: make(chan *job, mostJobs), ending: d.stopping, ended: make(chan struct{}), write: write, admit: d.engine.admit}
	go c.run()
	return c
}

// stop ends what start began, and closes the database.
func (d *database) stop() error {
	close(d.stopping)
	<-d.commits.ended
	<-d.settles.ended
	d.background.Wait()
	return d.engine.close()
}

// ending returns a context that ends with the database.
func (d *database) ending() (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancel(context.Background())
	go func() {
		select {
		case <-d.stopping:
			cancel()
		case <-ctx.Done():
		}
	}()
	return ctx, cancel
}

func (d *database) now() time.Time { return d.options.Load().Now() }

// write has something written by the committer.
func (d *database) write(ctx context.Context, apply func(session) error) error {
	return d.commits.do(&job{ctx: ctx, apply: apply})
}

// look looks in, and gives up in time.
func (d *database) look(ctx context.Context, run func(session) error) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	bounded, cancel := context.WithTimeout(ctx, viewTimeout)
	defer cancel()
	err := d.engine.view(bounded, run)
	switch {
	case err == nil || harmless(err):
		return err
	case ctx.Err() != nil:
		return ctx.Err()
	case bounded.Err() != nil:
		return fmt.Errorf("%w: it did not answer within %s", store.ErrUnavailable, viewTimeout)
	default:
		return err
	}
}

func (d *database) get(ctx context.Context, id string) (found row, err error) {
	err = d.look(ctx, func(s session) error {
		found, err = find(s, id, "")
		return err
	})
	return found, err
}

// change writes a change of an event: by the committer where there may be one
// writer, else at once.
func (d *database) change(ctx context.Context, apply func(session) error) error {
	if d.dialect.oneWriter {
		return d.write(ctx, apply)
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	bounded, cancel := context.WithTimeout(ctx, commitTimeout)
	defer cancel()
	err := d.engine.update(bounded, apply)
	if err != nil && !harmless(err) && ctx.Err() != nil {
		return ctx.Err()
	}
	return err
}

// replay has an event handed over again.
func (d *database) replay(ctx context.Context, id string) (was store.State, err error) {
	var changed row
	err = d.change(ctx, func(s session) error {
		e, err := find(s, id, d.dialect.forUpdate)
		if err != nil {
			return err
		}
		was, changed = e.State, row{}
		if e.State == store.Waiting {
			if held, err := d.engine.leased(s, e.seq); held || err != nil {
				return err
			}
		} else {
			// Now, as once it waits again it may be leased again.
			d.engine.freed(e.seq, nil, time.Time{})
		}
		if e.Payload == nil {
			return store.ErrNoPayload
		}
		changed = row{e.Replayed(d.now()), e.seq}
		return d.store(s, changed)
	})
	if err == nil && changed.Event != nil {
		d.engine.changed()
		d.schedule.add(changed.Queue(), changed.Due)
	}
	return was, err
}

// drop takes an event out of the way.
func (d *database) drop(ctx context.Context, id, reason string) error {
	var changed row
	err := d.change(ctx, func(s session) error {
		e, err := find(s, id, d.dialect.forUpdate)
		if err != nil {
			return err
		}
		if !e.State.MayDrop() {
			return store.ErrWrongState
		}
		changed = row{e.Dropped(reason, d.now()), e.seq}
		return d.store(s, changed)
	})
	if err == nil {
		d.engine.freed(changed.seq, nil, time.Time{})
		d.engine.changed()
	}
	return err
}

// store stores how far an event has come, whoever has it leased.
func (d *database) store(s session, e row) error {
	_, err := s.exec(setProgress+d.dialect.free+" WHERE seq = ?", append(progressArgs(e.Event), e.seq)...)
	return err
}
