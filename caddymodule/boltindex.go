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
	select {
	case s.rebuild <- struct{}{}:
		s.logger.Error("the outbox's indexes are damaged and are made anew from the events", zap.String("path", s.path), zap.String("reason", why))
	default: // they are about to be
	}
}

// checkIndexes compares the indexes with the counts, without looking at the
// events.
func (s *boltStore) checkIndexes() error {
	return s.transact(s.db.View, (*boltTx).checkIndexes)
}

func (tx *boltTx) checkIndexes() error {
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
	if noted := tx.keys(boltEnded); noted != ended {
		return fmt.Errorf("%d events have ended, and %d are noted: %w", ended, noted, errDamaged)
	}
	if noted := tx.keys(boltIDs); noted != known {
		return fmt.Errorf("there are %d events, and %d are known by their IDs: %w", known, noted, errDamaged)
	}
	return nil
}

// keys returns how many keys a bucket has.
func (tx *boltTx) keys(name []byte) (n int) {
	cursor := tx.Bucket(name).Cursor()
	for key, _ := cursor.First(); key != nil; key, _ = cursor.Next() {
		n++
	}
	return n
}

// merchantOf returns the merchant of a queue whose key begins another key.
func merchantOf(key []byte) (merchant []byte, ok bool) {
	length, n := binary.Uvarint(key)
	if n <= 0 || length > uint64(len(key)-n) {
		return nil, false
	}
	return key[n : n+int(length)], true
}

// rebuildIndexes makes the indexes anew. An event that is damaged itself stays
// where it is, and is in none.
func (s *boltStore) rebuildIndexes() {
	var damaged int
	var touched []Queue
	err := s.change(func(tx *boltTx) error {
		for _, name := range boltIndexes {
			if err := tx.DeleteBucket(name); err != nil && !errors.Is(err, bolterrors.ErrBucketNotFound) {
				return err
			}
			if _, err := tx.CreateBucket(name); err != nil {
				return err
			}
		}
		err := tx.Bucket(boltEvents).ForEach(func(key, record []byte) error {
			number := numberOf(key)
			e, err := decodeRecord(record)
			if err != nil {
				damaged++
				s.logger.Error("an event in the outbox is damaged and stays there", zap.Uint64("number", number), zap.Error(err))
				return nil
			}
			if err := tx.Bucket(boltIDs).Put(idKey(e.ID), numberKey(number)); err != nil {
				return err
			}
			return tx.index(numbered{e, number})
		})
		touched = tx.touched
		return errors.Join(err, tx.noteCounts())
	})
	if err != nil {
		s.logger.Error("making the outbox's indexes anew failed", zap.String("path", s.path), zap.Error(err))
		return
	}
	s.logger.Warn("the outbox's indexes are made anew", zap.String("path", s.path), zap.Int("damaged", damaged))
	s.leases.settle(nil, touched)
}
