package sqlstore

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"strings"
	"time"

	"github.com/windsome/caddy-wepay/caddymodule/store"
)

// settlement is a leased event as its holder leaves it.
type settlement struct {
	held  *token
	event store.Event
}

// settle stores a leased event as its holder leaves it.
func (d *database) settle(ctx context.Context, lease *store.Lease) error {
	held, ok := lease.Token.(*token)
	if !ok {
		return store.ErrLeaseLost
	}
	st := &settlement{held, *lease.Event}
	err := d.settles.do(&job{ctx: ctx, settles: st, apply: func(s session) error { return d.settleOne(s, st) }})
	switch {
	case err == nil && st.event.State == store.Waiting:
		d.engine.freed(held.seq, held, dueOf(&st.event))
		d.schedule.add(held.queue, dueOf(&st.event))
	case err == nil || errors.Is(err, store.ErrLeaseLost):
		d.engine.freed(held.seq, held, time.Time{})
	}
	return err
}

func (d *database) settleOne(s session, st *settlement) error {
	condition, args, err := d.engine.guard(st.held)
	if err != nil {
		return err
	}
	args = append(append(progressArgs(&st.event), st.held.seq), args...)
	changed, err := s.exec(setProgress+d.dialect.free+" WHERE seq = ? AND state = 'waiting'"+condition, args...)
	if err == nil && changed == 0 {
		err = store.ErrLeaseLost
	}
	return err
}

// writeSettles settles what waits for it in one transaction, as many events with one
// statement as the engine likes.
func (d *database) writeSettles(ctx context.Context, batch []*job) error {
	return d.engine.update(ctx, func(s session) error {
		if len(batch) == 1 {
			if batch[0].err = batch[0].apply(s); harmless(batch[0].err) {
				return nil
			}
			return batch[0].err
		}
		jobs := slices.SortedFunc(slices.Values(batch), func(a, b *job) int { return cmp.Compare(a.settles.held.seq, b.settles.held.seq) })
		for part := range slices.Chunk(jobs, d.dialect.rows) {
			if err := d.settlePart(s, part); err != nil {
				return err
			}
		}
		return nil
	})
}

// settlePart settles some events, which are in the order of their rows: two servers
// that lock the same ones do so in the same order.
func (d *database) settlePart(s session, part []*job) error {
	type lease struct{ seq, number int64 }
	var conditions []string
	var args []any
	for _, j := range part {
		condition, guarded, err := d.engine.guard(j.settles.held)
		if err != nil {
			return err
		}
		conditions = append(conditions, "seq = ?"+condition)
		args = append(append(args, j.settles.held.seq), guarded...)
	}
	held := make(map[lease]bool, len(part))
	err := s.query("SELECT seq, lease FROM wepay_event WHERE state = 'waiting' AND ("+strings.Join(conditions, " OR ")+") ORDER BY seq"+d.dialect.forUpdate,
		func(scan func(...any) error) error {
			var l lease
			err := scan(&l.seq, &l.number)
			held[l] = true
			return err
		}, args...)
	if err != nil {
		return err
	}
	var settled []*settlement
	for _, j := range part {
		l := lease{j.settles.held.seq, j.settles.held.number}
		if j.err = nil; !held[l] {
			j.err = store.ErrLeaseLost
			continue
		}
		held[l] = false // once
		settled = append(settled, j.settles)
	}
	return d.storeAll(s, settled)
}

// storeAll stores how far events have come that are locked.
func (d *database) storeAll(s session, settled []*settlement) error {
	if len(settled) == 0 {
		return nil
	}
	var rows, args []any
	var progress [][]any
	for _, st := range settled {
		rows, progress = append(rows, st.held.seq), append(progress, progressArgs(&st.event))
	}
	var set []string
	for i, column := range progressColumns {
		set = append(set, column+" = CASE seq"+strings.Repeat(" WHEN ? THEN ?", len(settled))+" ELSE "+column+" END")
		for n, row := range rows {
			args = append(args, row, progress[n][i])
		}
	}
	_, err := s.exec("UPDATE wepay_event SET "+strings.Join(set, ", ")+d.dialect.free+" WHERE seq IN "+marks(len(rows)), append(args, rows...)...)
	return err
}
