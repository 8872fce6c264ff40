package sqlstore

import (
	"context"
	"errors"
	"runtime"
	"sync/atomic"
	"time"

	"github.com/windsome/caddy-wepay/caddymodule/store"
)

// job is what a caller wants written. Either event is put, or apply runs; settles
// says what that settles.
type job struct {
	ctx     context.Context
	event   *store.Event
	apply   func(session) error
	settles *settlement

	// That apply adds events or orders, and the events.
	transaction bool
	puts        []*job

	added   bool
	seq     int64 // of the row that was added, and what it has, where there is one writer
	written []any
	err     error
	taken   atomic.Bool
	done    chan struct{}
}

// adds reports whether a job stores what is new, and how many bytes that may have.
func (j *job) adds() (adds bool, bytes int) {
	switch {
	case j.event != nil:
		return true, len(j.event.Payload)
	case j.transaction:
		return true, usualPayload
	default:
		return false, 0
	}
}

// usualPayload is more than most events have.
const usualPayload = 4096

// What is written in one transaction, at most.
const (
	mostJobs    = 256
	mostPayload = 1 << 20 // bytes
)

// committer writes all that waits at a time in one transaction, so that they share
// one sync of the disk.
type committer struct {
	jobs   chan *job
	ending chan struct{}
	ended  chan struct{}
	write  func(ctx context.Context, batch []*job) error
	admit  func(events, bytes int) error
}

// commitTimeout is how long a database may take for a transaction: WeChat waits
// five seconds.
const commitTimeout = 4 * time.Second

// do has a job done, and waits until that is durable. Once a job is taken its end
// is waited for, so that no outcome is left in doubt.
func (c *committer) do(j *job) error {
	if err := j.ctx.Err(); err != nil {
		return err
	}
	j.done = make(chan struct{})
	select {
	case c.jobs <- j:
	case <-c.ending:
		return store.ErrClosed
	case <-j.ctx.Done():
		return j.ctx.Err()
	}
	select {
	case <-j.done:
		return j.err
	case <-j.ctx.Done():
		if j.taken.CompareAndSwap(false, true) {
			return j.ctx.Err()
		}
	case <-c.ended:
		if j.taken.CompareAndSwap(false, true) {
			return store.ErrClosed
		}
	}
	<-j.done
	return j.err
}

// run commits until the committer is ended.
func (c *committer) run() {
	defer close(c.ended)
	for {
		select {
		case first := <-c.jobs:
			runtime.Gosched() // whoever is about to have something written goes first, and shares the sync
			c.commit(c.batch(first))
		case <-c.ending:
			return
		}
	}
}

// batch takes what waits, but what was given up meanwhile.
func (c *committer) batch(first *job) (batch []*job) {
	bytes := 0
	for j := first; ; {
		if j.taken.CompareAndSwap(false, true) {
			batch = append(batch, j)
			_, more := j.adds()
			bytes += more
		}
		if len(batch) == mostJobs || bytes > mostPayload {
			return batch
		}
		select {
		case j = <-c.jobs:
		default:
			return batch
		}
	}
}

// commit writes a batch. Events and orders that there is no room for, or that could get lost,
// are refused; what else there is to write is written all the same.
func (c *committer) commit(batch []*job) {
	events, bytes := 0, 0
	for _, j := range batch {
		if adds, more := j.adds(); adds {
			events, bytes = events+1, bytes+more
		}
	}
	if events > 0 {
		if err := c.admit(events, bytes); err != nil {
			batch = refusePuts(batch, err)
		}
	}
	err := c.try(batch)
	switch {
	case err == nil:
	case !errors.Is(err, store.ErrUnavailable) && len(batch) > 1:
		// One that the database refuses takes no others with it.
		for _, j := range batch {
			failAll([]*job{j}, c.try([]*job{j}))
		}
	case errors.Is(err, errFull):
		batch = refusePuts(batch, err)
		failAll(batch, c.try(batch))
	default:
		failAll(batch, err)
	}
	for _, j := range batch {
		close(j.done)
	}
}

// try writes a batch, and leaves to each job what it came to.
func (c *committer) try(batch []*job) error {
	if len(batch) == 0 {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), commitTimeout)
	defer cancel()
	return c.write(ctx, batch)
}

func failAll(batch []*job, err error) {
	if err == nil {
		return
	}
	for _, j := range batch {
		j.err = err
	}
}

// refusePuts ends the jobs that store what is new, and returns the others.
func refusePuts(batch []*job, err error) (others []*job) {
	for _, j := range batch {
		if adds, _ := j.adds(); !adds {
			others = append(others, j)
			continue
		}
		j.err = err
		close(j.done)
	}
	return others
}
