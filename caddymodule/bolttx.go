package caddymodule

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"slices"
	"time"

	bolt "go.etcd.io/bbolt"
	"go.uber.org/zap"
)

// The file's buckets.
var (
	boltMeta   = []byte("meta")   // what the file is
	boltEvents = []byte("events") // ID -> record
	boltDue    = []byte("due")    // queue, when due, ID -> nothing: those that wait
	boltEnded  = []byte("ended")  // when ended, ID -> nothing: those to be forgotten
	boltCounts = []byte("counts") // state, merchant -> number of events
)

// boltTx is a transaction.
type boltTx struct {
	*bolt.Tx

	store   *boltStore
	touched []Queue               // whose events have changed
	ended   map[string]*boltLease // by events' IDs: leases that end with this
	changes map[boltCount]int64   // of numbers of events
}

// boltCount is what is counted.
type boltCount struct {
	state    State
	merchant string
}

// end ends an event's lease, as it is now: one that begins while this is being
// written is another.
func (tx *boltTx) end(id string) {
	if lease := tx.store.leases.current(id); lease != nil {
		tx.ended[id] = lease
	}
}

// errDamaged says that what was read is not what was written.
var errDamaged = errors.New("damaged")

// encodeRecord writes an event down: a checksum, the length of what follows as
// JSON, that, and the payload byte for byte, which JSON would write otherwise.
func encodeRecord(e *Event) ([]byte, error) {
	meta := *e
	meta.Payload = nil
	text, err := json.Marshal(&meta)
	if err != nil {
		return nil, err
	}
	record := make([]byte, 8, 8+len(text)+len(e.Payload))
	binary.BigEndian.PutUint32(record[4:], uint32(len(text)))
	record = append(append(record, text...), e.Payload...)
	binary.BigEndian.PutUint32(record, crc32.Checksum(record[4:], crc32.MakeTable(crc32.Castagnoli)))
	return record, nil
}

func decodeRecord(id string, record []byte) (*Event, error) {
	if len(record) < 8 || binary.BigEndian.Uint32(record) != crc32.Checksum(record[4:], crc32.MakeTable(crc32.Castagnoli)) {
		return nil, fmt.Errorf("event %q: %w", id, errDamaged)
	}
	length := uint64(binary.BigEndian.Uint32(record[4:]))
	if length > uint64(len(record)-8) {
		return nil, fmt.Errorf("event %q: %w", id, errDamaged)
	}
	e := new(Event)
	if err := json.Unmarshal(record[8:8+length], e); err != nil {
		return nil, fmt.Errorf("event %q: %w: %w", id, errDamaged, err)
	}
	if payload := record[8+length:]; len(payload) > 0 {
		e.Payload = bytes.Clone(payload)
	}
	return e, nil
}

func (tx *boltTx) has(id string) bool { return tx.Bucket(boltEvents).Get([]byte(id)) != nil }

func (tx *boltTx) get(id string) (*Event, error) {
	record := tx.Bucket(boltEvents).Get([]byte(id))
	if record == nil {
		return nil, ErrNoEvent
	}
	return decodeRecord(id, record)
}

// put stores an event in the place of what was known of it before, which may be
// nothing.
func (tx *boltTx) put(before, e *Event) error {
	if e.State == Delivered || e.State == Dropped {
		e.Payload = nil
	}
	if before != nil {
		tx.end(e.ID)
		if err := tx.unindex(before); err != nil {
			return err
		}
	}
	record, err := encodeRecord(e)
	if err != nil {
		return err
	}
	if err := tx.Bucket(boltEvents).Put([]byte(e.ID), record); err != nil {
		return err
	}
	return tx.index(e)
}

// index notes an event where it is looked for, and among those of its state.
func (tx *boltTx) index(e *Event) error {
	var err error
	tx.touched = append(tx.touched, e.Queue())
	switch e.State {
	case Waiting:
		err = tx.Bucket(boltDue).Put(dueKey(e.Queue(), e.Due, e.ID), nil)
	case Delivered, Dropped:
		err = tx.Bucket(boltEnded).Put(endedKey(e), nil)
	}
	tx.changes[boltCount{e.State, e.Merchant}]++
	return err
}

// unindex takes back what was noted of an event elsewhere.
func (tx *boltTx) unindex(e *Event) error {
	var err error
	switch e.State {
	case Waiting:
		err = tx.Bucket(boltDue).Delete(dueKey(e.Queue(), e.Due, e.ID))
	case Delivered, Dropped:
		err = tx.Bucket(boltEnded).Delete(endedKey(e))
	}
	tx.changes[boltCount{e.State, e.Merchant}]--
	return err
}

// noteCounts writes down how the numbers of events have changed.
func (tx *boltTx) noteCounts() error {
	counts := tx.Bucket(boltCounts)
	for of, change := range tx.changes {
		key, number := []byte(string(of.state)+"\x00"+of.merchant), change
		if value := counts.Get(key); len(value) == 8 {
			number += int64(binary.BigEndian.Uint64(value))
		}
		if number < 0 {
			tx.store.mistrustIndexes("fewer events were counted than there are")
		}
		err := counts.Delete(key)
		if number > 0 {
			err = counts.Put(key, binary.BigEndian.AppendUint64(nil, uint64(number)))
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func (tx *boltTx) counts() ([]Count, error) {
	var counts []Count
	err := tx.Bucket(boltCounts).ForEach(func(key, value []byte) error {
		state, merchant, found := bytes.Cut(key, []byte{0})
		if !found || len(value) != 8 {
			tx.store.mistrustIndexes("a count is damaged")
			return fmt.Errorf("counts: %w", errDamaged)
		}
		counts = append(counts, Count{string(merchant), State(state), int(binary.BigEndian.Uint64(value))})
		return nil
	})
	return counts, err
}

func (tx *boltTx) list(filter Filter, after string, limit int) (events []*Event, next string, err error) {
	cursor := tx.Bucket(boltEvents).Cursor()
	id, record := cursor.Seek([]byte(after))
	if string(id) == after {
		id, record = cursor.Next()
	}
	for ; id != nil; id, record = cursor.Next() {
		e, err := decodeRecord(string(id), record)
		if err != nil {
			return nil, "", err
		}
		if !filter.Match(e) {
			continue
		}
		if len(events) == limit {
			return events, events[limit-1].ID, nil
		}
		events = append(events, e)
	}
	return events, "", nil
}

// forget removes up to limit of those that ended before a time.
func (tx *boltTx) forget(before time.Time, limit int) error {
	end := timeKey(before)
	var gone [][]byte
	cursor := tx.Bucket(boltEnded).Cursor()
	for key, _ := cursor.First(); key != nil && bytes.Compare(key, end) < 0 && len(gone) < limit; key, _ = cursor.Next() {
		gone = append(gone, bytes.Clone(key))
	}
	for _, key := range gone {
		switch e, err := tx.get(string(key[len(end):])); {
		case errors.Is(err, errDamaged):
			tx.store.logger.Error("an event in the outbox is damaged and stays there", zap.Error(err))
		case err != nil || !bytes.Equal(endedKey(e), key):
			tx.store.mistrustIndexes("an event did not end when it is said to")
		default:
			if err := tx.unindex(e); err != nil {
				return err
			}
			if err := tx.Bucket(boltEvents).Delete([]byte(e.ID)); err != nil {
				return err
			}
		}
	}
	return nil
}

// queueKey begins the keys of a queue, and of no other.
func queueKey(q Queue) []byte {
	key := binary.AppendUvarint(nil, uint64(len(q.Merchant)))
	key = append(key, q.Merchant...)
	key = binary.AppendUvarint(key, uint64(len(q.Kind)))
	return append(key, q.Kind...)
}

// timeKey sorts by time.
func timeKey(t time.Time) []byte {
	return binary.BigEndian.AppendUint64(nil, uint64(max(t.UnixNano(), 0)))
}

func endedKey(e *Event) []byte { return append(timeKey(e.Ended), e.ID...) }

func dueKey(q Queue, due time.Time, id string) []byte {
	return append(append(queueKey(q), timeKey(due)...), id...)
}

// waits reports whether an event waits and is due when it says.
func (tx *boltTx) waits(e *Event) bool {
	want := dueKey(e.Queue(), e.Due, e.ID)
	key, _ := tx.Bucket(boltDue).Cursor().Seek(want)
	return bytes.Equal(key, want)
}

// waiting calls look for those of a queue that wait, in the order in which they
// are due, as long as it returns true.
func (tx *boltTx) waiting(q Queue, look func(id string, due time.Time) bool) {
	prefix := queueKey(q)
	cursor := tx.Bucket(boltDue).Cursor()
	for key, _ := cursor.Seek(prefix); bytes.HasPrefix(key, prefix); key, _ = cursor.Next() {
		id, due := "", time.Time{} // of a key that is damaged, which no event has
		if rest := key[len(prefix):]; len(rest) > 8 {
			id, due = string(rest[8:]), time.Unix(0, int64(binary.BigEndian.Uint64(rest)))
		}
		if !look(id, due) {
			return
		}
	}
}

// boltVersion is the version of what this file says about the buckets.
var boltVersion = []byte("caddy-wepay outbox 1")

// prepare makes the buckets of a new file.
func (tx *boltTx) prepare() error {
	for _, name := range [][]byte{boltMeta, boltEvents, boltDue, boltEnded, boltCounts} {
		if _, err := tx.CreateBucket(name); err != nil {
			return err
		}
	}
	return tx.Bucket(boltMeta).Put([]byte("version"), boltVersion)
}

// checkVersion refuses a file that is another program's, or of another version.
func (tx *boltTx) checkVersion() error {
	meta := tx.Bucket(boltMeta)
	if meta == nil {
		return errors.New("it is another program's")
	}
	if version := meta.Get([]byte("version")); !slices.Equal(version, boltVersion) {
		return fmt.Errorf("its version is %q, this is %q: use the caddy-wepay that wrote it", version, boltVersion)
	}
	for _, name := range [][]byte{boltEvents, boltDue, boltEnded, boltCounts} {
		if tx.Bucket(name) == nil {
			return fmt.Errorf("%w: it has no %s", errDamaged, name)
		}
	}
	return nil
}
