package sqlstore

import (
	"context"
	"fmt"
	"math"
	"slices"
	"time"

	"github.com/windsome/caddy-wepay/caddymodule/store"
)

// FirstDue returns the merchants that have orders with a Due.
func (i *instance) FirstDue(ctx context.Context) (map[string]time.Time, error) {
	return with(i, func(db *database) (map[string]time.Time, error) { return db.firstDue(ctx) })
}

// Claim takes orders that are due.
func (i *instance) Claim(ctx context.Context, merchant string, limit int, term time.Duration) ([]*store.Order, error) {
	return with(i, func(db *database) ([]*store.Order, error) { return db.claim(ctx, merchant, limit, term) })
}

// ListOrders returns orders, the latest placed first.
func (i *instance) ListOrders(ctx context.Context, filter store.OrderFilter, after string, limit int) (orders []*store.Order, next string, err error) {
	orders, err = with(i, func(db *database) (orders []*store.Order, err error) {
		orders, next, err = db.listOrders(ctx, filter, after, limit)
		return orders, err
	})
	return orders, next, err
}

// CountOrders returns how many orders there are.
func (i *instance) CountOrders(ctx context.Context) ([]store.OrderCount, error) {
	return with(i, func(db *database) ([]store.OrderCount, error) { return db.countOrders(ctx) })
}

// Match returns the orders and events that have one of the numbers.
func (i *instance) Match(ctx context.Context, kind store.OrderKind, numbers []string) (orders []*store.Order, events []*store.Event, err error) {
	orders, err = with(i, func(db *database) (orders []*store.Order, err error) {
		orders, events, err = db.match(ctx, kind, numbers)
		return orders, err
	})
	return orders, events, err
}

// Occurred calls each for the events of a time.
func (i *instance) Occurred(ctx context.Context, queue store.Queue, from, to time.Time, each func(*store.Event) error) error {
	_, err := with(i, func(db *database) (any, error) { return nil, db.occurred(ctx, queue, from, to, each) })
	return err
}

func (d *database) firstDue(ctx context.Context) (map[string]time.Time, error) {
	merchants := make(map[string]time.Time)
	options := d.options.Load()
	now := options.Now()
	err := d.look(ctx, func(s session) error {
		return s.query(d.dialect.merchants, func(scan func(...any) error) error {
			var merchant string
			var first, last int64
			if err := scan(&merchant, &first, &last); err != nil {
				return err
			}
			at := time.UnixMilli(first)
			if longest := options.LongestOrderWait; longest > 0 && time.UnixMilli(last).Sub(now) > longest {
				at = earlier(at, now)
			}
			merchants[merchant] = at
			return nil
		})
	})
	if err != nil {
		return nil, err
	}
	return merchants, nil
}

func (d *database) claim(ctx context.Context, merchant string, limit int, term time.Duration) (claimed []*store.Order, err error) {
	if !storable(merchant) || limit < 1 {
		return nil, nil
	}
	options := d.options.Load()
	err = d.change(ctx, func(s session) error {
		now := options.Now()
		again := millis(now.Add(term))
		claimed = nil
		var rows []any
		take := func(condition string, due time.Time) error {
			query := selectOrder + "wepay_order WHERE merchant = ? AND " + condition + " ORDER BY due, seq LIMIT ?" + d.dialect.skipLocked
			return s.query(query, func(scan func(...any) error) error {
				o, err := scanOrder(scan)
				if err != nil {
					return err
				}
				o.Due = time.UnixMilli(again)
				claimed, rows = append(claimed, o.Order), append(rows, o.seq)
				return nil
			}, merchant, millis(due), int64(limit-len(rows)))
		}
		err := take("due <= ?", now)
		if err == nil && len(rows) < limit && options.LongestOrderWait > 0 {
			err = take("due > ?", now.Add(options.LongestOrderWait))
		}
		if err != nil {
			return err
		}
		for part := range slices.Chunk(rows, d.dialect.rows) {
			if _, err := s.exec("UPDATE wepay_order SET due = ? WHERE seq IN "+marks(len(part)), append([]any{again}, part...)...); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return claimed, nil
}

func (d *database) listOrders(ctx context.Context, f store.OrderFilter, after string, limit int) (orders []*store.Order, next string, err error) {
	if !storable(f.Merchant+string(f.Kind)+string(f.State)+f.Number) || limit < 1 {
		return nil, "", nil
	}
	choose := func(s session) (selection, error) { return selectOrders(s, f) }
	next, err = d.page(ctx, listing{"wepay_order", "placed", selectOrder}, choose, after, limit,
		func(scan func(...any) error) (time.Time, int64, error) {
			o, err := scanOrder(scan)
			if err != nil {
				return time.Time{}, 0, err
			}
			orders = append(orders, o.Order)
			return o.Placed, o.seq, nil
		})
	if err != nil {
		return nil, "", err
	}
	return orders, next, nil
}

// selectOrders returns what selects the orders of a filter. Where they are few, and
// have no number, they are found by the index of states, which begins with state and
// kind: with all of those where the filter has none.
func selectOrders(s session, f store.OrderFilter) (chosen selection, err error) {
	chosen.from = "wepay_order"
	var byState, byTime selection
	for _, c := range []struct {
		column, is string
		all        []any
	}{
		{"state", string(f.State), texts(store.OrderStates())},
		{"kind", string(f.Kind), texts(store.OrderKinds())},
		{"merchant", f.Merchant, nil},
	} {
		switch {
		case c.is != "":
			byState.and(c.column+" = ?", c.is)
			byTime.and("COALESCE("+c.column+", '') = ?", c.is) // which keeps the index out of it
		case c.all != nil:
			byState.and(c.column+" IN "+marks(len(c.all)), c.all...)
		}
	}
	if f.Number != "" {
		chosen = numbered("wepay_order", []string{f.Number}, "number", "out_trade_no", "transaction_id")
	} else if byTime.where != "" {
		rare, err := few(s, "wepay_order", "1 = 1"+byState.where, byState.args...)
		if err != nil {
			return selection{}, err
		}
		if rare {
			byTime = byState
		}
	}
	chosen.where, chosen.args = byTime.where, append(chosen.args, byTime.args...)
	return chosen, nil
}

func texts[T ~string](of []T) (texts []any) {
	for _, text := range of {
		texts = append(texts, string(text))
	}
	return texts
}

func (d *database) countOrders(ctx context.Context) ([]store.OrderCount, error) {
	return d.orderCounts.count(ctx, d, "SELECT merchant, kind, state, COUNT(*) FROM wepay_order GROUP BY state, kind, merchant",
		func(scan func(...any) error) (store.OrderCount, error) {
			var merchant, kind, state string
			var n int64
			err := scan(&merchant, &kind, &state, &n)
			return store.OrderCount{Merchant: merchant, Kind: store.OrderKind(kind), State: store.OrderState(state), Orders: int(n)}, err
		})
}

func (d *database) match(ctx context.Context, kind store.OrderKind, numbers []string) (orders []*store.Order, events []*store.Event, err error) {
	if len(numbers) > store.MostNumbers {
		return nil, nil, fmt.Errorf("there are %d numbers to match, at most %d at a time", len(numbers), store.MostNumbers)
	}
	numbers = slices.DeleteFunc(slices.Clone(numbers), func(number string) bool { return number == "" || !storable(number) })
	if len(numbers) == 0 || !storable(string(kind)) {
		return nil, nil, ctx.Err()
	}
	err = d.look(ctx, func(s session) error {
		err := s.query(selectOrder+"wepay_order WHERE number IN "+marks(len(numbers))+" AND kind = ?", func(scan func(...any) error) error {
			o, err := scanOrder(scan)
			orders = append(orders, o.Order)
			return err
		}, append(texts(numbers), string(kind))...)
		if err != nil {
			return err
		}
		found := numbered("wepay_event", numbers, "transaction_id", "out_trade_no", "out_refund_no")
		return s.query(selectRecord+found.from, func(scan func(...any) error) error {
			e, err := scanEvent(scan)
			events = append(events, e.Event)
			return err
		}, found.args...)
	})
	if err != nil {
		return nil, nil, err
	}
	return orders, events, nil
}

// A look of Occurred reads so many rows: what else looks in waits no longer.
const occurredRows = 2000

// receivedEarlier is how long before it happened, by WeChat's clock, an event may
// have been received by ours: see store.Orders.
const receivedEarlier = time.Hour

func (d *database) occurred(ctx context.Context, queue store.Queue, from, to time.Time, each func(*store.Event) error) error {
	if !storable(queue.Merchant + string(queue.Kind)) {
		return ctx.Err()
	}
	at, seq, more := millis(from.Add(-receivedEarlier)), int64(math.MaxInt64), true
	for more {
		const after = "received >= ? AND (received > ? OR seq > ?)"
		var found []*store.Event
		err := d.look(ctx, func(s session) error {
			rows := selection{where: after, args: []any{at, at, seq}}
			more = false
			err := s.query("SELECT received, seq FROM wepay_event WHERE "+after+" ORDER BY received, seq LIMIT 1 OFFSET ?",
				func(scan func(...any) error) error { more = true; return scan(&at, &seq) }, at, at, seq, int64(occurredRows))
			if err != nil {
				return err
			}
			if more {
				rows.and("received <= ? AND (received < ? OR seq <= ?)", at, at, seq)
			}
			rows.and("merchant = ? AND kind = ? AND occurred >= ? AND occurred < ?", queue.Merchant, string(queue.Kind), millis(from), millis(to))
			return s.query(selectRecord+"wepay_event WHERE "+rows.where, func(scan func(...any) error) error {
				e, err := scanEvent(scan)
				found = append(found, e.Event)
				return err
			}, rows.args...)
		})
		for _, e := range found {
			if err == nil {
				err = each(e)
			}
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// Interface guards: each engine's store has orders by it.
var _ store.Orders = (*instance)(nil)

var _ store.Tx = (*tx)(nil)
