package sqlstore

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"unicode/utf8"

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
	} {
		if !storable(s) {
			return fmt.Errorf("event %q has a text that is not UTF-8, or has a NUL in it: %q", e.ID, s)
		}
	}
	return nil
}

// storable reports whether every database stores a text as it is.
func storable(s string) bool { return utf8.ValidString(s) && !strings.Contains(s, "\x00") }

// Put stores an event that the store does not have yet.
func (d *database) put(ctx context.Context, e *store.Event) (added bool, err error) {
	if err := checkEvent(e); err != nil {
		return false, err
	}
	own := *e
	own.Payload, own.Trace = bytes.Clone(e.Payload), e.Trace.Clone()
	j := &job{ctx: ctx, event: &own}
	if err := d.commits.do(j); err != nil {
		return false, err
	}
	if j.added && own.State == store.Waiting {
		d.schedule.add(own.Queue(), own.Due)
	}
	return j.added, nil
}

// writeBatch writes what jobs want in one transaction.
func (d *database) writeBatch(ctx context.Context, batch []*job) error {
	return d.engine.update(ctx, func(s session) error {
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
}

// harmless tells what a store says of an event from what ails its database: the
// first leaves a transaction as it was.
func harmless(err error) bool {
	return err == nil || errors.Is(err, store.ErrLeaseLost) || errors.Is(err, store.ErrNoEvent) ||
		errors.Is(err, store.ErrNoPayload) || errors.Is(err, store.ErrWrongState)
}

// insert inserts the events of jobs, as many with one statement as the engine
// likes, and says of each whether it was added.
func (d *database) insert(s session, puts []*job) error {
	byKey := make(map[key][]*job, len(puts)) // the same event may come several times at once
	keys := make([]key, 0, len(puts))
	for _, j := range puts {
		k, _ := keyOf(j.event.ID)
		if byKey[k] == nil {
			keys = append(keys, k)
		}
		j.added, byKey[k] = false, append(byKey[k], j)
	}
	// Two servers that insert the same events do so in the same order.
	slices.SortFunc(keys, func(a, b key) int { return bytes.Compare(a[:], b[:]) })
	for part := range slices.Chunk(keys, d.dialect.rows) {
		if err := d.insertPart(s, part, byKey); err != nil {
			return err
		}
	}
	for _, same := range byKey {
		for _, j := range same {
			if j.event.ID != same[0].event.ID {
				j.err = collision(j.event.ID, same[0].event.ID)
			}
		}
	}
	return nil
}

func (d *database) insertPart(s session, part []key, byKey map[key][]*job) error {
	mark := rand.Int64()
	var args []any
	for _, k := range part {
		row, err := putArgs(byKey[k][0].event)
		if err != nil {
			return err
		}
		args = append(args, d.dialect.markedRow(row, mark)...)
	}
	inserted, err := s.exec(d.dialect.insert(len(part)), args...)
	if err != nil {
		return err
	}
	if inserted == int64(len(part)) {
		for _, k := range part {
			byKey[k][0].added = true
		}
		return nil
	}
	return d.insertedOf(s, part, byKey, mark, inserted)
}

// insertedOf finds out which of some events a statement inserted, and which were
// there before.
func (d *database) insertedOf(s session, part []key, byKey map[key][]*job, mark, inserted int64) error {
	ids := make([]any, len(part))
	for i := range part {
		ids[i] = part[i][:]
	}
	query := "SELECT id, COALESCE(id_text, ''), " + d.dialect.markColumn + " FROM wepay_event WHERE id IN " + marks(len(part))
	return s.query(query, func(scan func(...any) error) error {
		var id []byte
		var idText string
		var marked int64
		if err := scan(&id, &idText, &marked); err != nil {
			return err
		}
		j := byKey[key(id)][0]
		if is := idOf(id, idText); is != j.event.ID {
			j.err = collision(j.event.ID, is)
		}
		j.added = inserted > 0 && marked == mark
		return nil
	}, ids...)
}

// collision says that two IDs have one key, which nobody has seen yet.
func collision(id, other string) error {
	return fmt.Errorf("event %q cannot be told from %q, which the store has", id, other)
}
