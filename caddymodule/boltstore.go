package caddymodule

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"sync/atomic"
	"time"

	"github.com/caddyserver/caddy/v2"
	bolt "go.etcd.io/bbolt"
	bolterrors "go.etcd.io/bbolt/errors"
	"go.uber.org/zap"
)

// boltStore is an open file. One goroutine writes: whatever waits for it goes
// into one transaction, and is durable after one sync.
type boltStore struct {
	path    string
	db      *bolt.DB
	logger  *zap.Logger
	numbers *boltNumbers
	leases  *boltLeases
	keep    atomic.Int64          // nanoseconds
	broken  atomic.Pointer[error] // why nothing can be written any more
	untrue  error                 // what was wrong with the indexes when the file was opened

	writes  chan *boltWrite
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
	s, err := openBoltFile(path, false)
	if err != nil {
		return nil, err
	}
	s.logger = logger
	s.writes, s.done = make(chan *boltWrite, batchLimit), make(chan struct{})
	if s.untrue != nil {
		logger.Error("the outbox's indexes are damaged", zap.String("path", path), zap.Error(s.untrue))
		if err := s.rebuildIndexes(); err != nil {
			return nil, errors.Join(err, s.db.Close())
		}
	}
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
	waiting := 0
	err := s.read(func(tx *boltTx) error {
		counts, err := tx.counts()
		for _, count := range counts {
			if count.State == Waiting {
				waiting += count.Events
			}
		}
		return err
	})
	if err != nil || waiting > 0 {
		s.logger.Warn("the config has this outbox no more: what waits there is not handed over",
			zap.String("path", s.path), zap.Int("waiting", waiting), zap.Error(err))
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
			timer.Reset(s.forget())
		case <-s.rebuild:
			if err := s.rebuildIndexes(); err != nil {
				s.logger.Error("the outbox's indexes stay damaged until the next start", zap.Error(err))
			}
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
		stats, pages := s.db.Stats(), int(tx.Size())/s.db.Info().PageSize
		s.db.NoFreelistSync = stats.FreePageN+stats.PendingPageN > max(longFreelist, pages/longFreePart)
		for _, w := range batch {
			switch err := w.apply(tx); {
			case errors.Is(err, ErrNoEvent), errors.Is(err, ErrWrongState), errors.Is(err, ErrLeaseLost):
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

func (s *boltStore) read(look func(*boltTx) error) error {
	err := s.transact(s.db.View, look)
	if errors.Is(err, bolterrors.ErrDatabaseNotOpen) {
		return ErrOutboxClosed
	}
	return err
}

// change runs a transaction that writes. Where bbolt itself panics, in ending
// it, its lock may be held for good and what it knows of the file be wrong:
// nothing more is written then.
func (s *boltStore) change(do func(*boltTx) error) error {
	ended := false
	err := s.transact(func(run func(*bolt.Tx) error) error {
		err := s.db.Update(func(tx *bolt.Tx) error {
			return guard(s.path, func() error { return run(tx) })
		})
		ended = true
		return err
	}, func(tx *boltTx) error {
		tx.ended, tx.changes = make(map[uint64]*boltLease), make(map[boltCount]int64)
		tx.known, tx.unknown = make(map[idHash]uint64), make(map[idHash]uint64)
		return do(tx)
	})
	if !ended {
		err = fmt.Errorf("nothing more can be written until the server is restarted: %w", err)
		s.broken.Store(&err)
		s.logger.Error("the outbox is broken: WeChat hears FAIL until the server is restarted", zap.Error(err))
	}
	return err
}

// transact runs a transaction in which pages that are not what they should be
// are an error and no panic, nor a fault.
func (s *boltStore) transact(run func(func(*bolt.Tx) error) error, do func(*boltTx) error) error {
	return guard(s.path, func() error {
		return run(func(tx *bolt.Tx) error {
			return do(&boltTx{Tx: tx, store: s})
		})
	})
}

// guard makes errors of panics and faults.
func guard(path string, do func() error) (err error) {
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer func() {
		if cause := recover(); cause != nil {
			err = fmt.Errorf("%s: %w: %v", path, errDamaged, cause)
		}
	}()
	return do()
}

// forget removes those that ended longer ago than they are kept, and returns when
// to go on.
func (s *boltStore) forget() time.Duration {
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
