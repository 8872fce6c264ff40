package caddymodule

import (
	"errors"
	"fmt"
	"os"
	"time"

	"go.uber.org/zap"
)

// mend makes the file, which is open for reading, anew from the events that can
// be read, page by page. The damaged one stays beside it, with all that is in it.
func (s *boltStore) mend() error {
	m := mending{from: s, counted: s.counted()}
	aside, err := makeAside(realPath(s.path), m.fill)
	if err != nil {
		return fmt.Errorf("it is damaged (%v), and making it anew failed: %w", s.untrue, err)
	}
	if m.events == 0 && m.damaged+m.pages > 0 {
		return errors.Join(fmt.Errorf("no event can be read: %w", s.untrue), os.Remove(aside))
	}
	kept, err := s.replaceBy(aside)
	if err != nil {
		return errors.Join(fmt.Errorf("it is damaged (%v), and putting one made anew in its place failed: %w", s.untrue, err), os.Remove(aside))
	}
	s.logger.Error("the outbox's file is damaged and is made anew from what can be read: the damaged one is kept, look there for what is missing",
		zap.String("path", s.path), zap.String("kept", kept), zap.NamedError("reason", s.untrue),
		zap.Int("events", m.events), zap.Int("counted", m.counted), zap.Int("damaged", m.damaged), zap.Int("damaged_pages", m.pages))
	return nil
}

// counted is how many events there should be; -1: that cannot be read either.
func (s *boltStore) counted() (events int) {
	err := s.read(func(tx *boltTx) error {
		counts, err := tx.counts()
		for _, count := range counts {
			events += count.Events
		}
		return err
	})
	if err != nil {
		return -1
	}
	return events
}

// replaceBy closes the file and puts another one in its place. It is kept under
// another name.
func (s *boltStore) replaceBy(aside string) (kept string, err error) {
	// Another process may have done it meanwhile.
	if err := errors.Join(s.checkPlace(), s.db.Close()); err != nil {
		return "", err
	}
	path := realPath(s.path)
	kept = damagedName(path, time.Now())
	if err := os.Link(path, kept); err != nil {
		return "", err
	}
	if err := os.Rename(aside, path); err != nil {
		return "", errors.Join(err, os.Remove(kept))
	}
	return kept, syncNames(path)
}

// damagedName is the name that a damaged file is kept by.
func damagedName(path string, at time.Time) string {
	return path + ".damaged-" + at.UTC().Format("20060102T150405.000000000Z")
}

// mending is what is found in a damaged file.
type mending struct {
	from    *boltStore
	counted int // events, before

	events, damaged, pages int
}

// mendLimit is how many events are written in one transaction.
const mendLimit = 1000

// fill writes what can be read to another file.
func (m *mending) fill(to *boltStore) error {
	to.db.NoSync = true // until all is there
	var some []*Event
	write := func() error {
		err := to.update([]*boltWrite{{apply: func(tx *boltTx) error {
			for _, e := range some {
				if err := tx.add(e); err != nil {
					return err
				}
			}
			return nil
		}}})
		some = some[:0]
		return err
	}
	err := m.from.read(func(tx *boltTx) error {
		return tx.records(func(number uint64, record []byte) error {
			e, err := decodeRecord(record)
			if err != nil {
				m.damaged++
				m.from.logger.Error("an event in the outbox is damaged", zap.Uint64("number", number), zap.Error(err))
				return nil
			}
			m.events++
			if some = append(some, e); len(some) == mendLimit {
				return write()
			}
			return nil
		}, func(err error) {
			m.pages++
			m.from.logger.Error("events in the outbox are damaged", zap.Error(err))
		})
	})
	if err != nil {
		return err
	}
	if err := write(); err != nil {
		return err
	}
	to.db.NoFreelistSync = false
	return errors.Join(to.change(func(*boltTx) error { return nil }), to.db.Sync())
}
