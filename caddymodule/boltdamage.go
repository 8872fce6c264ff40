package caddymodule

import (
	"errors"
	"fmt"
	"runtime/debug"
	"time"

	bolt "go.etcd.io/bbolt"
	bolterrors "go.etcd.io/bbolt/errors"
	"go.uber.org/zap"
)

func (s *boltStore) read(look func(*boltTx) error) error {
	err := s.transact(s.db.View, look)
	if errors.Is(err, bolterrors.ErrDatabaseNotOpen) {
		return ErrOutboxClosed
	}
	return err
}

// change runs a transaction that writes. Where bbolt panics in ending it, and
// does not get as far as to undo it, its lock may be held for good and what it
// knows of the file be wrong: nothing more is written then.
func (s *boltStore) change(do func(*boltTx) error) error {
	var begun *bolt.Tx
	ended, committed := false, false
	err := s.transact(func(run func(*bolt.Tx) error) error {
		err := s.db.Update(func(tx *bolt.Tx) error {
			begun = tx
			tx.OnCommit(func() { committed = true })
			return guard(s.path, func() error { return run(tx) })
		})
		ended = true
		return err
	}, func(tx *boltTx) error {
		tx.ended, tx.changes = make(map[uint64]*boltLease), make(map[boltCount]int64)
		tx.known, tx.unknown = make(map[idHash]uint64), make(map[idHash]uint64)
		return do(tx)
	})
	undone := begun != nil && begun.DB() == nil && !committed
	if !ended && !undone {
		err = fmt.Errorf("nothing more can be written until the server is restarted: %w", err)
		s.broken.Store(&err)
		s.logger.Error("the outbox is broken: WeChat hears FAIL until the server is restarted", zap.Error(err))
	}
	return err
}

// transact runs a transaction in which pages that are not what they should be
// are an error and no panic, nor a fault.
func (s *boltStore) transact(run func(func(*bolt.Tx) error) error, do func(*boltTx) error) error {
	err := guard(s.path, func() error {
		return run(func(tx *bolt.Tx) error {
			return do(&boltTx{Tx: tx, store: s})
		})
	})
	s.suspect(err)
	return err
}

// errDamagedPage says that a page is not what bbolt wrote.
var errDamagedPage = fmt.Errorf("a page is %w", errDamaged)

// guard makes errors of panics and faults.
func guard(path string, do func() error) (err error) {
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer func() {
		if cause := recover(); cause != nil {
			err = fmt.Errorf("%s: %w: %v", path, errDamagedPage, cause)
		}
	}()
	return do()
}

// suspect has the writer look, soon, at what is damaged where an error says that
// a page is.
func (s *boltStore) suspect(err error) {
	if s.writes == nil || !errors.Is(err, errDamagedPage) { // nil: it is just being opened, or looked into
		return
	}
	if !s.damaged.Swap(true) {
		s.logger.Error("a page of the outbox's file is damaged: the events in it stay there until the next start, which makes the file anew from all others and keeps a copy. "+
			"What is whole is handed over; none that is delivered is forgotten until then", zap.String("path", s.path), zap.Error(err))
	}
	select {
	case s.damage <- struct{}{}:
	default: // it is about to
	}
}

// lookEvery is how often the indexes are looked at because of damage.
const lookEvery = 10 * time.Second

// boltDamaged, in the file, says when a damaged page was met.
var boltDamaged = []byte("damaged")

// lookAtDamage has the next start make the file anew, and makes the indexes anew
// at once if they are concerned: without them events would not be found.
func (s *boltStore) lookAtDamage() {
	if time.Since(s.looked) < lookEvery {
		return
	}
	s.looked = time.Now()
	s.db.NoFreelistSync = false // what cannot be read must not be looked through for free pages
	err := s.change(func(tx *boltTx) error {
		meta := tx.Bucket(boltMeta)
		if meta.Get(boltDamaged) != nil {
			return nil
		}
		return meta.Put(boltDamaged, []byte(time.Now().UTC().Format(time.RFC3339)))
	})
	if err != nil {
		s.logger.Error("noting that the outbox's file is damaged failed", zap.Error(err))
	}
	if err := s.transact(s.db.View, (*boltTx).touchIndexes); err != nil {
		s.mistrustIndexes(err.Error())
		s.remakeIndexes()
	}
}

// touchIndexes reads all of the indexes.
func (tx *boltTx) touchIndexes() error {
	for _, name := range boltIndexes {
		if err := tx.Bucket(name).ForEach(func(_, _ []byte) error { return nil }); err != nil {
			return err
		}
	}
	return nil
}
