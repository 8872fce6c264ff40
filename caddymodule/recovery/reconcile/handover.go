package reconcile

import (
	"context"
	"errors"
	"slices"

	"golang.org/x/sync/errgroup"

	"github.com/windsome/caddy-wepay/caddymodule/recovery"
	"github.com/windsome/caddy-wepay/caddymodule/store"
	"github.com/windsome/caddy-wepay/wepay"
)

// isTold reports whether the backend knows how an order ended although there is no
// event of it: by the answer to its call, or by asking, where no order service is told.
func (m *matching) isTold(o *store.Order) bool {
	if o == nil {
		return false
	}
	kind := wepay.Payment
	if o.Kind == store.Refund {
		kind = wepay.Refunded
	}
	switch o.State {
	case store.OrderPaid, store.OrderRefunding, store.OrderPartlyRefunded, store.OrderRefunded:
		return (o.Kind != store.Refund || o.State == store.OrderRefunded) && (o.Operation == wepay.Micropay || !m.tells(o.Merchant, kind))
	default:
		return false
	}
}

// askedAtOnce is how many orders WeChat is asked about at a time, at the pace of the
// account.
const askedAtOnce = 8

// result is what came of handing a trade over.
type result struct {
	outcome Outcome
	taken   recovery.Taken
}

// handOver has WeChat asked about trades that were not handed over.
func (m *matching) handOver(ctx context.Context, unheard []*trade, record func(*trade) *store.Order) (map[*trade]result, error) {
	results := make([]result, len(unheard))
	var asking errgroup.Group
	asking.SetLimit(askedAtOnce)
	for i, t := range unheard {
		asking.Go(func() error {
			var err error
			results[i], err = m.handOverOne(ctx, record(t))
			return err
		})
	}
	if err := asking.Wait(); err != nil {
		return nil, err
	}
	outcomes := make(map[*trade]result, len(unheard))
	for i, t := range unheard {
		outcomes[t] = results[i]
		if results[i].outcome == NoAnswer {
			m.unasked++
		}
	}
	return outcomes, nil
}

func (m *matching) handOverOne(ctx context.Context, o *store.Order) (result, error) {
	if m.ask == nil {
		return result{outcome: NotAsked}, nil
	}
	taken, err := m.ask(ctx, o)
	switch {
	case ctx.Err() != nil:
		return result{}, context.Cause(ctx)
	case errors.Is(err, store.ErrUnavailable), errors.Is(err, store.ErrClosed):
		return result{}, err
	case err != nil:
		return result{outcome: NoAnswer}, nil
	case taken.Event != nil && taken.Event.State == store.Quarantined:
		return result{Quarantined, taken}, nil
	case taken.Event != nil && taken.Event.EventType != recovery.OrderClosed:
		return result{HandedOver, taken}, nil
	case taken.Order != nil && slices.Contains(ended, taken.Order.State):
		return result{Recorded, taken}, nil
	default:
		return result{Unconfirmed, taken}, nil
	}
}

// ended are the states of what was paid or refunded.
var ended = []store.OrderState{store.OrderPaid, store.OrderRefunding, store.OrderPartlyRefunded, store.OrderRefunded}
