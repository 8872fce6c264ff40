package caddymodule

import (
	"encoding/binary"
	"errors"
	"fmt"

	bolterrors "go.etcd.io/bbolt/errors"
	"go.uber.org/zap"
)

// The indexes and counts can be made anew from the events themselves, as long
// as those are whole.

// mistrustIndexes has the indexes made anew soon.
func (s *boltStore) mistrustIndexes(why string) {
	if s.writes == nil { // it is just being opened, or looked into
		return
	}
	select {
	case s.rebuild <- struct{}{}:
		s.logger.Error("the outbox's indexes are damaged and are made anew from the events", zap.String("path", s.path), zap.String("reason", why))
	default: // they are about to be
	}
}

// readIndexes compares the indexes with the counts, without looking at the
// events, and takes the IDs into memory.
func (s *boltStore) readIndexes() error {
	return s.transact(s.db.View, (*boltTx).readIndexes)
}

func (tx *boltTx) readIndexes() error {
	counts, err := tx.counts()
	if err != nil {
		return err
	}
	waiting, ended, known := make(map[string]int), 0, 0
	for _, count := range counts {
		known += count.Events
		switch count.State {
		case Waiting:
			waiting[count.Merchant] += count.Events
		case Delivered, Dropped:
			ended += count.Events
		}
	}
	cursor := tx.Bucket(boltDue).Cursor()
	for key, _ := cursor.First(); key != nil; key, _ = cursor.Next() {
		merchant, ok := merchantOf(key)
		if !ok {
			return fmt.Errorf("an index: %w", errDamaged)
		}
		if waiting[string(merchant)]--; waiting[string(merchant)] < 0 {
			return fmt.Errorf("more events wait than were counted: %w", errDamaged)
		}
	}
	for _, missing := range waiting {
		if missing != 0 {
			return fmt.Errorf("fewer events wait than were counted: %w", errDamaged)
		}
	}
	cursor = tx.Bucket(boltEnded).Cursor()
	for key, _ := cursor.First(); key != nil; key, _ = cursor.Next() {
		ended--
	}
	if ended != 0 {
		return fmt.Errorf("%d more events have ended than are noted: %w", ended, errDamaged)
	}
	if err := tx.readIDs(known); err != nil {
		return err
	}
	if met := tx.Bucket(boltMeta).Get(boltDamaged); met != nil {
		return fmt.Errorf("%w on %s", errMarked, met)
	}
	return nil
}

// errMarked says that the indexes are whole, and something else is not.
var errMarked = fmt.Errorf("%w: a page that could not be read was met", errDamaged)

// merchantOf returns the merchant of a queue whose key begins another key.
func merchantOf(key []byte) (merchant []byte, ok bool) {
	length, n := binary.Uvarint(key)
	if n <= 0 || length > uint64(len(key)-n) {
		return nil, false
	}
	return key[n : n+int(length)], true
}

// boltAside holds indexes that are damaged until the file is made anew: their
// pages cannot be told to be free.
var boltAside = []byte("aside")

// renew empties an index.
func (tx *boltTx) renew(name []byte) error {
	if !tx.store.damaged.Load() {
		if err := tx.DeleteBucket(name); err != nil && !errors.Is(err, bolterrors.ErrBucketNotFound) {
			return err
		}
	} else if err := tx.setAside(name); err != nil {
		return err
	}
	_, err := tx.CreateBucket(name)
	return err
}

func (tx *boltTx) setAside(name []byte) error {
	aside, err := tx.CreateBucketIfNotExists(boltAside)
	if err != nil {
		return err
	}
	number, err := aside.NextSequence()
	if err != nil {
		return err
	}
	place, err := aside.CreateBucket(numberKey(number))
	if err != nil {
		return err
	}
	return tx.MoveBucket(name, nil, place)
}

// remakeIndexes is rebuildIndexes of a file that is in use.
func (s *boltStore) remakeIndexes() {
	if err := s.rebuildIndexes(); err != nil {
		s.logger.Error("the outbox's indexes stay damaged until the next start", zap.Error(err))
	}
}

// rebuildIndexes makes the indexes anew. An event that is damaged itself stays
// where it is, and is in none.
func (s *boltStore) rebuildIndexes() error {
	select {
	case <-s.rebuild: // whoever found something before this is answered with it
	default:
	}
	var damaged, pages int
	var anew *boltTx
	err := s.change(func(tx *boltTx) error {
		anew = tx
		for _, name := range boltIndexes {
			if err := tx.renew(name); err != nil {
				return err
			}
		}
		err := tx.records(func(number uint64, record []byte) error {
			e, err := decodeRecord(record)
			if err != nil {
				damaged++
				s.logger.Error("an event in the outbox is damaged and stays there", zap.Uint64("number", number), zap.Error(err))
				return nil
			}
			if err := tx.know(numbered{e, number}); err != nil {
				return err
			}
			return tx.index(numbered{e, number})
		}, func(err error) {
			pages++
			s.suspect(err)
		})
		return errors.Join(err, tx.noteCounts())
	})
	if err != nil {
		return fmt.Errorf("making the indexes of %s anew: %w", s.path, err)
	}
	s.logger.Warn("the outbox's indexes are made anew", zap.String("path", s.path), zap.Int("damaged", damaged), zap.Int("damaged_pages", pages))
	s.numbers.replace(anew.known)
	s.leases.settle(nil, anew.touched)
	return nil
}
