package caddymodule

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"time"

	bolt "go.etcd.io/bbolt"
	"go.uber.org/zap"
)

// The file's buckets. Events are numbered as they come, so that those of one
// transaction stand side by side, in few pages: pages are what a sync takes its
// time for.
var (
	boltMeta   = []byte("meta")   // what the file is
	boltEvents = []byte("events") // number -> record
	boltIDs    = []byte("ids")    // number -> hash of the ID
	boltDue    = []byte("due")    // queue, when due, number -> nothing: those that wait
	boltEnded  = []byte("ended")  // when ended, number -> nothing: those to be forgotten
	boltCounts = []byte("counts") // state, merchant -> how many events

	boltIndexes = [][]byte{boltIDs, boltDue, boltEnded, boltCounts}
)

// boltTx is a transaction.
type boltTx struct {
	*bolt.Tx

	store *boltStore

	// Of one that writes:
	touched []Queue               // whose events have changed
	ended   map[uint64]*boltLease // by events' numbers: leases that end with this
	changes map[boltCount]int64   // of counts
	known   map[idHash]uint64     // numbers of events that have come
	unknown map[idHash]uint64     // numbers of events that are forgotten
	free    int64                 // bytes of the file that may be written over
	room    *error                // whether there is room for new events; nil: it was not asked for yet
}

// numbered is an event and its number in the file.
type numbered struct {
	*Event

	number uint64
}

// boltCount is what is counted.
type boltCount struct {
	state    State
	merchant string
}

// end ends an event's lease, as it is now: one that begins while this is being
// written is another.
func (tx *boltTx) end(number uint64) {
	if lease := tx.store.leases.current(number); lease != nil {
		tx.ended[number] = lease
	}
}

// dense is how full pages are made whose keys come in order: what is written
// there again may become a little longer.
const dense = 0.9

// bucket returns a bucket whose keys come in order.
func (tx *boltTx) bucket(name []byte) *bolt.Bucket {
	b := tx.Bucket(name)
	b.FillPercent = dense
	return b
}

// get returns the event of an ID.
func (tx *boltTx) get(id string) (numbered, error) {
	number, found := tx.known[hashOf(id)]
	if !found {
		number = tx.store.numbers.find(id) // 0 without one, which is no event's
	}
	e, err := tx.at(number)
	switch {
	case errors.Is(err, errDamaged):
		return numbered{}, fmt.Errorf("event %q: %w", id, err)
	case err != nil, e.ID != id: // another one's hash may be the same
		return numbered{}, ErrNoEvent
	}
	return e, nil
}

// at returns the event of a number. One in a damaged page is damaged, and no
// other.
func (tx *boltTx) at(number uint64) (e numbered, err error) {
	err = guard(tx.store.path, func() error {
		record := tx.Bucket(boltEvents).Get(numberKey(number))
		if record == nil {
			return ErrNoEvent
		}
		event, err := decodeRecord(record)
		e = numbered{event, number}
		return err
	})
	tx.store.suspect(err)
	return e, err
}

// add stores an event unless it is known already. One that is known but damaged
// is stored once more: it is whole now.
func (tx *boltTx) add(e *Event) error {
	if _, err := tx.get(e.ID); !errors.Is(err, ErrNoEvent) && !errors.Is(err, errDamaged) {
		return err
	}
	if err := tx.checkRoom(); err != nil {
		return err
	}
	number, err := tx.Bucket(boltEvents).NextSequence()
	if err != nil {
		return err
	}
	if err := tx.know(numbered{e, number}); err != nil {
		return err
	}
	return tx.put(numbered{e, number})
}

// change stores an event in the place of what it was before.
func (tx *boltTx) change(before numbered, e *Event) error {
	tx.end(before.number)
	if err := tx.unindex(before); err != nil {
		return err
	}
	return tx.put(numbered{e, before.number})
}

// know notes an event's ID.
func (tx *boltTx) know(e numbered) error {
	hash := hashOf(e.ID)
	tx.known[hash] = e.number
	return tx.bucket(boltIDs).Put(numberKey(e.number), hash[:])
}

func (tx *boltTx) put(e numbered) error {
	if e.State == Delivered || e.State == Dropped {
		e.Payload = nil
	}
	record, err := encodeRecord(e.Event)
	if err != nil {
		return err
	}
	if err := tx.bucket(boltEvents).Put(numberKey(e.number), record); err != nil {
		return err
	}
	return tx.index(e)
}

// index notes an event where it is looked for, and among those of its state.
func (tx *boltTx) index(e numbered) error {
	var err error
	tx.touched = append(tx.touched, e.Queue())
	switch e.State {
	case Waiting:
		err = tx.bucket(boltDue).Put(dueKey(e.Queue(), e.Due, e.number), nil)
	case Delivered, Dropped:
		err = tx.bucket(boltEnded).Put(endedKey(e), nil)
	}
	tx.changes[boltCount{e.State, e.Merchant}]++
	return err
}

// unindex takes back what was noted of an event elsewhere.
func (tx *boltTx) unindex(e numbered) error {
	var err error
	switch e.State {
	case Waiting:
		err = tx.bucket(boltDue).Delete(dueKey(e.Queue(), e.Due, e.number))
	case Delivered, Dropped:
		err = tx.bucket(boltEnded).Delete(endedKey(e))
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

// list pages by the numbers. Those that are damaged are passed over, and told of
// with the page that they would be on.
func (tx *boltTx) list(filter Filter, after string, limit int) (events []*Event, next string, err error) {
	last := uint64(0) // the first event's number is 1
	if after != "" {
		if last, err = strconv.ParseUint(after, 10, 63); err != nil {
			return nil, "", fmt.Errorf("after %q: %w", after, ErrNoPage)
		}
	}
	var damaged []uint64
	err = tx.from(last+1, func(e numbered, err error) bool {
		switch {
		case err != nil:
			damaged = append(damaged, e.number)
		case !filter.Match(e.Event):
		case len(events) == limit:
			next = strconv.FormatUint(last, 10)
			return false
		default:
			events, last = append(events, e.Event), e.number
		}
		return true
	})
	slices.Sort(damaged)
	damaged = slices.Compact(damaged) // one may be met twice in a page
	if next != "" {
		damaged = slices.DeleteFunc(damaged, func(number uint64) bool { return number > last })
	}
	if err == nil && len(damaged) > 0 {
		tx.store.logger.Error("events in the outbox are damaged and left out of what is listed", zap.Uint64s("numbers", damaged))
		err = Damaged{len(damaged)}
	}
	return events, next, err
}

// from calls look for the events from a number on, in order, as long as it
// returns true, and with an error for those that are damaged.
func (tx *boltTx) from(number uint64, look func(e numbered, err error) (more bool)) error {
	for more := true; more; {
		err := guard(tx.store.path, func() error {
			cursor := tx.Bucket(boltEvents).Cursor()
			for key, record := cursor.Seek(numberKey(number)); key != nil && more; key, record = cursor.Next() {
				e, err := decodeRecord(record)
				found := numbered{e, numberOf(key)}
				if err == nil { // else the key may be damaged as well
					number = max(number, found.number) + 1
				}
				more = look(found, err)
			}
			more = false
			return nil
		})
		if err == nil {
			return nil
		}
		tx.store.suspect(err)
		key, _ := tx.Bucket(boltIDs).Cursor().Seek(numberKey(number)) // of the next that there should be
		if key == nil {
			return nil
		}
		damaged := numbered{number: numberOf(key)}
		number = max(number, damaged.number) + 1
		more = look(damaged, err)
	}
	return nil
}

// forget removes up to limit of those that ended before a time, and returns how
// many there were.
func (tx *boltTx) forget(before time.Time, limit int) (found int, err error) {
	end := timeKey(before)
	var gone [][]byte
	cursor := tx.Bucket(boltEnded).Cursor()
	for key, _ := cursor.First(); key != nil && bytes.Compare(key, end) < 0 && len(gone) < limit; key, _ = cursor.Next() {
		gone = append(gone, bytes.Clone(key))
	}
	for _, key := range gone {
		switch e, err := tx.at(numberOf(key)); {
		case errors.Is(err, errDamagedPage): // beside which nothing can be removed
			return 0, err
		case errors.Is(err, errDamaged):
			tx.store.logger.Error("an event in the outbox is damaged and stays there", zap.Uint64("number", numberOf(key)), zap.Error(err))
			if err := tx.Bucket(boltEnded).Delete(key); err != nil { // it would be met, and in the others' way, each time
				return 0, err
			}
		case err != nil || !bytes.Equal(endedKey(e), key):
			tx.store.mistrustIndexes("an event did not end when it is said to")
		default:
			if err := tx.remove(e); err != nil {
				return 0, err
			}
		}
	}
	return len(gone), nil
}

func (tx *boltTx) remove(e numbered) error {
	if err := tx.unindex(e); err != nil {
		return err
	}
	tx.unknown[hashOf(e.ID)] = e.number
	if err := tx.bucket(boltIDs).Delete(numberKey(e.number)); err != nil {
		return err
	}
	return tx.bucket(boltEvents).Delete(numberKey(e.number))
}

// waits reports whether an event waits and is due when it says.
func (tx *boltTx) waits(e numbered) bool {
	want := dueKey(e.Queue(), e.Due, e.number)
	key, _ := tx.Bucket(boltDue).Cursor().Seek(want)
	return bytes.Equal(key, want)
}

// waiting calls look for those of a queue that wait, in the order in which they
// are due, as long as it returns true.
func (tx *boltTx) waiting(q Queue, look func(number uint64, due time.Time) bool) {
	prefix := queueKey(q)
	cursor := tx.Bucket(boltDue).Cursor()
	for key, _ := cursor.Seek(prefix); bytes.HasPrefix(key, prefix); key, _ = cursor.Next() {
		number, due := uint64(0), time.Time{} // of a key that is damaged, which no event has
		if rest := key[len(prefix):]; len(rest) == 16 {
			number, due = numberOf(rest), time.Unix(0, int64(binary.BigEndian.Uint64(rest)))
		}
		if !look(number, due) {
			return
		}
	}
}

// boltVersion is the version of what this file says about the buckets.
var boltVersion = []byte("caddy-wepay outbox 2")

// prepare makes the buckets of a new file.
func (tx *boltTx) prepare() error {
	for _, name := range append([][]byte{boltMeta, boltEvents}, boltIndexes...) {
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
	for _, name := range append([][]byte{boltEvents}, boltIndexes...) {
		if tx.Bucket(name) == nil {
			return fmt.Errorf("%w: it has no %s", errDamaged, name)
		}
	}
	return nil
}
