package sqlstore

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/windsome/caddy-wepay/caddymodule/store"
)

// longestID bounds a webhook-id.
const longestID = 64

// checkEvent refuses what not every database stores as it is.
func checkEvent(e *store.Event) error {
	if e.ID == "" || len(e.ID) > longestID {
		return fmt.Errorf("the event's ID has %d bytes, want 1 to %d", len(e.ID), longestID)
	}
	for _, s := range []string{
		e.ID, e.Merchant, string(e.Kind), e.EventType, e.OutTradeNo, e.TransactionID, e.OutRefundNo, e.Currency, e.After,
		string(e.Source),
	} {
		if !storable(s) {
			return fmt.Errorf("event %q has a text that is not UTF-8, or has a NUL in it: %q", e.ID, s)
		}
	}
	return nil
}

// storable reports whether every database stores a text as it is.
func storable(s string) bool { return s == store.Text(s) }

// Put stores an event that the store does not have yet.
func (d *database) put(ctx context.Context, e *store.Event) (added bool, err error) {
	if err := checkEvent(e); err != nil {
		return false, err
	}
	j := &job{ctx: ctx, event: e}
	if err := d.commits.do(j); err != nil {
		return false, err
	}
	return j.added, nil
}

// writeBatch writes what jobs want in one transaction. Events that it adds are
// scheduled together, so that they are found with one look.
func (d *database) writeBatch(ctx context.Context, batch []*job) error {
	err := d.engine.update(ctx, func(s session) error {
		var puts []*job
		for _, j := range batch {
			if j.err = nil; j.event != nil {
				puts = append(puts, j)
				continue
			}
			if j.err = j.apply(s); !harmless(j.err) {
				return j.err
			}
		}
		return d.insert(s, puts)
	})
	if err != nil {
		return err
	}
	var puts []*job
	for _, j := range batch {
		if j.event != nil {
			puts = append(puts, j)
		}
		puts = append(puts, j.puts...)
	}
	d.announce(puts)
	return nil
}

// announce has the events leased that were put, once they are durable.
func (d *database) announce(puts []*job) {
	d.engine.added(puts, d.now())
	for _, j := range puts {
		if j.added && j.event.State == store.Waiting {
			d.schedule.add(j.event.Queue(), dueOf(j.event))
		}
	}
}

// harmless tells what a store says of an event, or a transaction of itself, from what
// ails its database: the first leaves a transaction as it was.
func harmless(err error) bool {
	return err == nil || errors.Is(err, store.ErrLeaseLost) || errors.Is(err, store.ErrNoEvent) ||
		errors.Is(err, store.ErrNoPayload) || errors.Is(err, store.ErrWrongState) || errors.As(err, new(*undone))
}

// errRace says that another server put one of the events a moment ago: the
// transaction is run again, and finds it there.
var errRace = errors.New("another server put the event at the same time")

// insert inserts the events of jobs, as many with one statement as the engine
// likes, and says of each whether it was added.
func (d *database) insert(s session, puts []*job) error {
	first := make(map[key]*job, len(puts)) // the same event may come several times at once
	keys := make([]key, 0, len(puts))
	for _, j := range puts {
		k, _ := keyOf(j.event.ID)
		if other := first[k]; other == nil {
			first[k] = j
			keys = append(keys, k)
		} else if other.event.ID != j.event.ID {
			j.err = collision(j.event.ID, other.event.ID)
		}
		j.added = first[k] == j
	}
	// Two servers that insert the same events do so in the same order.
	slices.SortFunc(keys, func(a, b key) int { return bytes.Compare(a[:], b[:]) })
	for part := range slices.Chunk(keys, d.dialect.rows) {
		if err := d.insertPart(s, part, first); err != nil {
			return err
		}
	}
	return nil
}

func (d *database) insertPart(s session, part []key, jobs map[key]*job) error {
	if len(part) == 1 { // most events are new
		inserted, err := d.insertRows(s, part, jobs)
		if err != nil || inserted == 1 {
			return err
		}
	}
	ids := make([]any, len(part))
	for i := range part {
		ids[i] = part[i][:]
	}
	err := s.query("SELECT id, COALESCE(id_text, '') FROM wepay_event WHERE id IN "+marks(len(part)), func(scan func(...any) error) error {
		var id []byte
		var idText string
		if err := scan(&id, &idText); err != nil {
			return err
		}
		j := jobs[key(id)]
		j.added = false
		if is := idOf(id, idText); is != j.event.ID {
			j.err = collision(j.event.ID, is)
		}
		return nil
	}, ids...)
	if err != nil {
		return err
	}
	part = slices.DeleteFunc(part, func(k key) bool { return !jobs[k].added })
	inserted, err := d.insertRows(s, part, jobs)
	if err == nil && inserted != len(part) {
		err = errRace
	}
	return err
}

// insertRows inserts what is not there yet, and returns how many that were.
func (d *database) insertRows(s session, part []key, jobs map[key]*job) (inserted int, err error) {
	if len(part) == 0 {
		return 0, nil
	}
	var args []any
	for _, k := range part {
		row, err := putArgs(jobs[k].event)
		if err != nil {
			return 0, err
		}
		args = append(args, row...)
	}
	affected, err := s.exec("INSERT INTO wepay_event ("+putColumns+") VALUES "+putRow+strings.Repeat(", "+putRow, len(part)-1)+" "+d.dialect.ignore, args...)
	if file, ok := s.(*conn); ok && affected == 1 {
		jobs[part[0]].seq, jobs[part[0]].written = file.LastInsertRowID(), args
	}
	return int(affected), err
}

// collision says that two IDs have one key, which has never been seen.
func collision(id, other string) error {
	return fmt.Errorf("event %q cannot be told from %q, which the store has", id, other)
}
