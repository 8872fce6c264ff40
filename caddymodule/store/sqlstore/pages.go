package sqlstore

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/windsome/caddy-wepay/caddymodule/store"
)

// listing is a table that is listed in pages.
type listing struct {
	table   string
	at      string // the column by which the latest comes first
	selects string // its columns
}

// selection is what of a table is listed.
type selection struct {
	from, where string
	args        []any
}

// numbered selects the rows of a table that have a number in one of some columns.
func numbered(table string, numbers []string, columns ...string) selection {
	var found []string
	var args []any
	for _, column := range columns {
		found = append(found, "SELECT seq FROM "+table+" WHERE "+column+" IN "+marks(len(numbers)))
		for _, number := range numbers {
			args = append(args, number)
		}
	}
	// A join, as MySQL asks an IN once for each row of the table.
	return selection{from: "(" + strings.Join(found, " UNION ") + ") found JOIN " + table + " USING (seq)", args: args}
}

// and adds a condition.
func (s *selection) and(condition string, args ...any) {
	s.where += " AND " + condition
	s.args = append(s.args, args...)
}

// page lists up to limit rows of a listing, after the end of another page. Each
// reads one, and says where it stands.
func (d *database) page(ctx context.Context, l listing, choose func(session) (selection, error), after string, limit int,
	each func(scan func(...any) error) (at time.Time, seq int64, err error),
) (next string, err error) {
	var lastAt, lastSeq int64
	if after != "" {
		if lastAt, lastSeq, err = parsePageEnd(after); err != nil {
			return "", err
		}
	}
	err = d.look(ctx, func(s session) error {
		chosen, err := choose(s)
		if err != nil {
			return err
		}
		if after != "" {
			chosen.and(fmt.Sprintf("%[1]s <= ? AND (%[1]s < ? OR seq < ?)", l.at), lastAt, lastAt, lastSeq)
		}
		query := fmt.Sprintf("%[1]s(SELECT seq FROM %[2]s WHERE 1 = 1%[3]s ORDER BY %[4]s DESC, seq DESC LIMIT ?) page "+
			"JOIN %[5]s USING (seq) ORDER BY %[4]s DESC, seq DESC", l.selects, chosen.from, chosen.where, l.at, l.table)
		n := 0
		return s.query(query, func(scan func(...any) error) error {
			if n++; n > limit {
				next = fmt.Sprintf("%d-%d", lastAt, lastSeq)
				return nil
			}
			at, seq, err := each(scan)
			lastAt, lastSeq = at.UnixMilli(), seq
			return err
		}, append(chosen.args, int64(limit)+1)...)
	})
	return next, err
}

// parsePageEnd reads where a page ends.
func parsePageEnd(end string) (at, seq int64, err error) {
	first, second, found := strings.Cut(end, "-")
	at, err = strconv.ParseInt(first, 10, 64)
	if err == nil {
		seq, err = strconv.ParseInt(second, 10, 64)
	}
	if err != nil || !found {
		return 0, 0, store.ErrNoPage
	}
	return at, seq, nil
}

// fewRows is how many are sorted to list those in a state. Where there are more,
// they are found faster by their time.
const fewRows = 10_000

// few reports whether there are few rows of a table that conditions select.
func few(s session, table, conditions string, args ...any) (few bool, err error) {
	var n int64
	err = s.query("SELECT COUNT(*) FROM (SELECT 1 FROM "+table+" WHERE "+conditions+" LIMIT ?) few",
		func(scan func(...any) error) error { return scan(&n) }, append(args, int64(fewRows))...)
	return n < fewRows, err
}

// list returns events, the latest received first.
func (d *database) list(ctx context.Context, f store.Filter, after string, limit int) (events []*store.Event, next string, err error) {
	if !storable(f.Merchant+f.EventType+f.Number+string(f.State)) || limit < 1 {
		return nil, "", nil
	}
	choose := func(s session) (selection, error) { return selectEvents(s, f) }
	next, err = d.page(ctx, listing{"wepay_event", "received", selectEvent}, choose, after, limit,
		func(scan func(...any) error) (time.Time, int64, error) {
			e, err := scanEvent(scan)
			if err != nil {
				return time.Time{}, 0, err
			}
			events = append(events, e.Event)
			return e.Received, e.seq, nil
		})
	if err != nil {
		return nil, "", err
	}
	return events, next, nil
}

// selectEvents returns what selects the events of a filter.
func selectEvents(s session, f store.Filter) (chosen selection, err error) {
	chosen.from = "wepay_event"
	if f.Number != "" {
		chosen = numbered("wepay_event", []string{f.Number}, "out_trade_no", "transaction_id", "out_refund_no")
	}
	if f.State != "" {
		rare, err := few(s, "wepay_event", "state = ?", string(f.State))
		if err != nil {
			return selection{}, err
		}
		state := "state = ?"
		if !rare {
			state = "COALESCE(state, '') = ?" // which keeps the index of states out of it
		}
		chosen.and(state, string(f.State))
	}
	if f.Merchant != "" {
		chosen.and("merchant = ?", f.Merchant)
	}
	if f.EventType != "" {
		chosen.and("event_type = ?", f.EventType)
	}
	return chosen, nil
}

// counted remembers counts that took long, which are not done again for a while.
type counted[C any] struct {
	mu    sync.Mutex
	last  []C
	until time.Time
}

const (
	longCount  = 50 * time.Millisecond
	countAgain = 20 // times as long as it took
)

// count returns what a query counts.
func (c *counted[C]) count(ctx context.Context, d *database, query string, read func(scan func(...any) error) (C, error)) ([]C, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if time.Now().Before(c.until) {
		return append([]C(nil), c.last...), nil
	}
	began := time.Now()
	var counts []C
	err := d.look(ctx, func(s session) error {
		return s.query(query, func(scan func(...any) error) error {
			n, err := read(scan)
			counts = append(counts, n)
			return err
		})
	})
	if err != nil {
		return nil, err
	}
	c.last = append([]C(nil), counts...)
	if took := time.Since(began); took > longCount {
		c.until = time.Now().Add(countAgain * took)
	}
	return counts, nil
}

func (d *database) count(ctx context.Context) ([]store.Count, error) {
	return d.counts.count(ctx, d, "SELECT merchant, state, COUNT(*) FROM wepay_event GROUP BY state, merchant",
		func(scan func(...any) error) (store.Count, error) {
			var merchant, state string
			var n int64
			err := scan(&merchant, &state, &n)
			return store.Count{Merchant: merchant, State: store.State(state), Events: int(n)}, err
		})
}
