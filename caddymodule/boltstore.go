package caddymodule

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"sync/atomic"
	"time"

	"github.com/caddyserver/caddy/v2"
	bolt "go.etcd.io/bbolt"
	"go.uber.org/zap"
)

// boltStore is an open file. One goroutine writes: whatever waits for it goes
// into one transaction, and is durable after one sync.
type boltStore struct {
	path    string
	file    *os.File // that is open, wherever it is by now
	db      *bolt.DB
	logger  *zap.Logger
	numbers *boltNumbers
	leases  *boltLeases
	keep    atomic.Int64          // nanoseconds
	broken  atomic.Pointer[error] // why nothing can be written any more
	untrue  error                 // what was wrong with the file when it was opened
	damaged atomic.Bool           // a damaged page was met
	looked  time.Time             // when the writer looked at what is damaged

	writes  chan *boltWrite
	damage  chan struct{} // the writer is to look at what is damaged
	rebuild chan struct{} // the indexes are to be made anew
	closed  chan struct{} // closed when nothing more is written
	done    chan struct{} // closed when the writer has ended
}

// boltWrite is what somebody waits to have written.
type boltWrite struct {
	apply func(*boltTx) error
	err   error
	done  chan struct{}
}

const (
	// batchLimit is how many writes one transaction takes.
	batchLimit = 1024

	// lockTimeout is how long to wait for another process to leave the file.
	lockTimeout = time.Second

	// forgetEvery and forgetLimit are how often and how many of those that ended
	// long ago are removed at once. While there are more it goes on after
	// forgetPause.
	forgetEvery = time.Minute
	forgetLimit = 1000
	forgetPause = time.Second

	// longFreelist, and one in longFreePart of all pages, are up to how many free
	// ones are written down with each transaction. With more of them that costs
	// more than to look for them in the whole file when it is opened after a
	// crash.
	longFreelist = 4 << 10
	longFreePart = 16
)

// realPath is the same for all names of a file.
func realPath(path string) string {
	if dir, err := filepath.EvalSymlinks(filepath.Dir(path)); err == nil {
		path = filepath.Join(dir, filepath.Base(path))
	}
	if real, err := filepath.EvalSymlinks(path); err == nil {
		return real
	}
	return path
}

// openBoltStore opens a file, or makes one, and writes to it until Destruct.
func openBoltStore(path string, logger *zap.Logger) (*boltStore, error) {
	s, err := openBoltFile(path, false, logger)
	if err != nil {
		return nil, err
	}
	s.writes, s.done = make(chan *boltWrite, batchLimit), make(chan struct{})
	go s.run()
	return s, nil
}

// Destruct ends the writing and closes the file.
func (s *boltStore) Destruct() error {
	close(s.closed)
	<-s.done
	s.reportLeft()
	if s.broken.Load() != nil {
		return nil // bbolt's own Close might wait for ever: the process's end closes the file
	}
	// The free pages are written down, so that the next start need not look for
	// them.
	s.db.NoFreelistSync = false
	err := s.change(func(*boltTx) error { return nil })
	return errors.Join(err, s.db.Close())
}

// reportLeft says what is left in a file that no config uses any more.
func (s *boltStore) reportLeft() {
	if caddy.Exiting() {
		return
	}
	var counts []Count
	err := s.read(func(tx *boltTx) (err error) {
		counts, err = tx.counts()
		return err
	})
	if waiting, dead := Left(counts); err != nil || waiting+dead > 0 {
		s.logger.Warn("the config has this outbox no more: what waits or is dead there is not handed over",
			zap.String("path", s.path), zap.Int("waiting", waiting), zap.Int("dead", dead), zap.Error(err))
	}
}

// write has the writer do something, and returns nil when that is durable.
func (s *boltStore) write(ctx context.Context, apply func(*boltTx) error) error {
	if s.writes == nil {
		return errors.New("the file is open for reading only")
	}
	if broken := s.broken.Load(); broken != nil {
		return *broken
	}
	w := &boltWrite{apply: apply, done: make(chan struct{})}
	if err := ctx.Err(); err != nil {
		return err
	}
	select {
	case <-s.closed:
		return ErrOutboxClosed
	case <-ctx.Done():
		return ctx.Err()
	case s.writes <- w:
	}
	select {
	case <-w.done:
		return w.err
	case <-ctx.Done(): // it may be written still, and is known when it comes again
		return ctx.Err()
	case <-s.done: // it came too late to be looked at, or has just been done
		select {
		case <-w.done:
			return w.err
		default:
			return ErrOutboxClosed
		}
	}
}

// run writes until the store is closed, and then what waits still.
func (s *boltStore) run() {
	defer close(s.done)
	timer := time.NewTimer(forgetEvery)
	defer timer.Stop()
	for {
		select {
		case w := <-s.writes:
			s.writeBatch(s.gather(w))
		case <-timer.C:
			timer.Reset(s.lookAfter())
		case <-s.damage:
			s.lookAtDamage()
		case <-s.rebuild:
			s.remakeIndexes()
		case <-s.closed:
			if rest := s.gather(nil); len(rest) > 0 {
				s.writeBatch(rest)
			}
			return
		}
	}
}

// gather takes what waits, and what comes while everybody else has a turn: on a
// busy machine a sync takes the longer, and what comes is the more. On an idle
// one nothing is waited for.
func (s *boltStore) gather(first *boltWrite) []*boltWrite {
	var batch []*boltWrite
	if first != nil {
		batch = append(batch, first)
	}
	for more := true; more && len(batch) < batchLimit; {
		runtime.Gosched()
		for more = false; len(batch) < batchLimit; more = true {
			select {
			case w := <-s.writes:
				batch = append(batch, w)
				continue
			default:
			}
			break
		}
	}
	return batch
}

// writeBatch writes all of a batch in one transaction. Where one of them cannot
// be written the others are, each by itself.
func (s *boltStore) writeBatch(batch []*boltWrite) {
	err := s.update(batch)
	if err != nil && len(batch) > 1 {
		for _, w := range batch {
			w.err = nil
			if err := s.update([]*boltWrite{w}); err != nil {
				w.err = err
			}
		}
	} else if err != nil {
		batch[0].err = err
	}
	for _, w := range batch {
		close(w.done)
	}
}

// update runs a transaction. Errors that say something of an event are its
// caller's; any other undoes the transaction.
func (s *boltStore) update(batch []*boltWrite) error {
	if broken := s.broken.Load(); broken != nil {
		return *broken
	}
	var done *boltTx
	err := s.change(func(tx *boltTx) error {
		done = tx
		stats, pageSize := s.db.Stats(), s.db.Info().PageSize
		tx.free = int64(stats.FreePageN * pageSize)
		pages := int(tx.Size()) / pageSize
		s.db.NoFreelistSync = !s.damaged.Load() && stats.FreePageN+stats.PendingPageN > max(longFreelist, pages/longFreePart)
		for _, w := range batch {
			switch err := w.apply(tx); {
			case errors.Is(err, ErrNoEvent), errors.Is(err, ErrWrongState), errors.Is(err, ErrLeaseLost), errors.Is(err, errNoRoom):
				w.err = err
			case err != nil:
				return err
			}
		}
		return tx.noteCounts()
	})
	if err != nil {
		return fmt.Errorf("writing to %s: %w", s.path, err)
	}
	s.numbers.settle(done.known, done.unknown)
	s.leases.settle(done.ended, done.touched)
	return nil
}

// lookAfter does what is to be done once a minute, and returns when to go on.
func (s *boltStore) lookAfter() time.Duration {
	if err := s.checkPlace(); err != nil {
		s.logger.Error("the outbox's file is not where it belongs", zap.Error(err))
	}
	return s.forget()
}

// forget removes those that ended longer ago than they are kept, and returns when
// to go on. Beside a damaged page nothing can be removed.
func (s *boltStore) forget() time.Duration {
	if s.damaged.Load() {
		return forgetEvery
	}
	before := time.Now().Add(-time.Duration(s.keep.Load()))
	found := 0
	w := &boltWrite{done: make(chan struct{}), apply: func(tx *boltTx) (err error) {
		found, err = tx.forget(before, forgetLimit)
		return err
	}}
	s.writeBatch([]*boltWrite{w})
	switch {
	case w.err != nil:
		s.logger.Error("forgetting what ended long ago failed", zap.Error(w.err))
	case found == forgetLimit:
		return forgetPause
	}
	return forgetEvery
}
