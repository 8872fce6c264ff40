package sqlstore

import (
	"context"
	"time"

	"go.uber.org/zap"

	"github.com/windsome/caddy-wepay/caddymodule/internal/clock"
	"github.com/windsome/caddy-wepay/caddymodule/store"
	"github.com/windsome/caddy-wepay/wepay"
)

// tendEvery is how often a database is tended: what others put is noticed, and
// what befell a file.
const tendEvery = time.Second

// tend looks after the database until it is closed.
func (d *database) tend() {
	ctx, cancel := d.ending()
	defer cancel()
	ticker := time.NewTicker(tendEvery)
	defer ticker.Stop()
	retention := time.NewTimer(d.retentionPause())
	defer retention.Stop()
	even := clock.System()
	for {
		select {
		case <-ticker.C:
			d.engine.tend(d)
		case <-retention.C:
			d.retain(ctx, even)
			retention.Reset(d.retentionPause())
		case <-ctx.Done():
			return
		}
	}
}

// scheduleWaiting has all queues looked at when something in them is due.
func (d *database) scheduleWaiting(ctx context.Context) error {
	return d.look(ctx, func(s session) error {
		return s.query(d.dialect.queues, func(scan func(...any) error) error {
			var merchant, kind string
			var first, last int64
			if err := scan(&merchant, &kind, &first, &last); err != nil {
				return err
			}
			queue := store.Queue{Merchant: merchant, Kind: wepay.Kind(kind)}
			d.schedule.add(queue, fromMillis(first))
			if longest := d.options.Load().LongestWait; longest > 0 && fromMillis(last).Sub(d.now()) > longest {
				d.schedule.add(queue, d.now())
			}
			return nil
		})
	})
}

// How expired payloads and rows are removed: in rounds, and each of them
// in portions that hold nothing up.
const (
	longestRetentionPause = time.Minute
	portion               = 200
	portionPause          = 50 * time.Millisecond
)

func (d *database) retentionPause() time.Duration {
	keep := d.options.Load().Keep
	if keep <= 0 {
		return longestRetentionPause
	}
	return min(max(keep/10, portionPause), longestRetentionPause)
}

// retain removes the payloads and the rows that have expired, by
// a clock that goes on evenly: one that is set to a wrong time removes nothing.
func (d *database) retain(ctx context.Context, even *clock.Clock) {
	o := d.options.Load()
	now := even.Now()
	if other := o.Now(); other.Before(now) {
		now = other
	}
	if o.KeepRows > 0 {
		before := millis(now.Add(-o.KeepRows))
		d.remove(ctx, "DELETE FROM wepay_event WHERE ended < ? AND seq IN ", before,
			"SELECT seq FROM wepay_event WHERE received < ? AND ended < ? LIMIT ?", before, before, int64(portion))
		d.remove(ctx, "DELETE FROM wepay_order WHERE ended < ? AND seq IN ", before,
			"SELECT seq FROM wepay_order WHERE ended < ? LIMIT ?", before, int64(portion))
	}
	if o.Keep > 0 {
		before := millis(now.Add(-o.Keep))
		d.remove(ctx, "UPDATE wepay_event SET payload = NULL WHERE ended < ? AND seq IN ", before,
			"SELECT seq FROM wepay_event WHERE "+d.dialect.payloadEnded+" < ? LIMIT ?", before, int64(portion))
	}
}

// remove writes what a statement makes of the rows that another one selects, if
// they ended before a time, a portion after the other.
func (d *database) remove(ctx context.Context, write string, before int64, selects string, args ...any) {
	for more := true; more; {
		var err error
		if more, err = d.removePortion(ctx, write, before, selects, args); err != nil {
			if ctx.Err() == nil {
				d.logger.Warn("removing expired payloads and rows failed and is tried again", zap.Error(err))
			}
			return
		}
		select {
		case <-time.After(portionPause):
		case <-ctx.Done():
			return
		}
	}
}

func (d *database) removePortion(ctx context.Context, write string, before int64, selects string, args []any) (more bool, err error) {
	var rows []any
	err = d.look(ctx, func(s session) error {
		rows = nil
		return s.query(selects, func(scan func(...any) error) error {
			var seq int64
			err := scan(&seq)
			rows = append(rows, seq)
			return err
		}, args...)
	})
	if err != nil || len(rows) == 0 {
		return false, err
	}
	err = d.change(ctx, func(s session) error {
		_, err := s.exec(write+marks(len(rows)), append([]any{before}, rows...)...)
		return err
	})
	return len(rows) == portion, err
}
