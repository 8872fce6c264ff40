package recovery

import (
	"context"
	"slices"

	"github.com/windsome/caddy-wepay/caddymodule/store"
)

// Story is all that is known of an order, a transfer or a refund.
type Story struct {
	Order *store.Order `json:"order"`

	// Its refunds, the first placed first, and its events, the first received first,
	// without their payloads.
	Refunds []*store.Order `json:"refunds,omitempty"`
	Events  []*store.Event `json:"events,omitempty"`
}

// mostOfStory bounds the orders and the events that one number leads to.
const mostOfStory = 200

// Stories returns what is known of the orders that have a number, whosever it is: an
// out_trade_no, a transaction_id, an out_refund_no, or what another call has for one.
// Events that belong to none of them, since their order was not placed here or with
// another account, are a story without an Order, the last one.
func Stories(ctx context.Context, s store.Store, number string) ([]*Story, error) {
	if number == "" {
		return nil, nil
	}
	found, _, err := s.ListOrders(ctx, store.OrderFilter{Number: number}, "", mostOfStory)
	if err != nil {
		return nil, err
	}
	events, err := eventsOf(ctx, s, number)
	if err != nil {
		return nil, err
	}
	toldOf, err := ordersOf(ctx, s, number, events)
	if err != nil {
		return nil, err
	}
	var stories []*Story
	for _, o := range append(found, toldOf...) {
		if o.Kind == store.Refund {
			if o, err = orderOf(ctx, s, o); err != nil {
				return nil, err
			}
		}
		if slices.ContainsFunc(stories, func(story *Story) bool { return story.Order.Key() == o.Key() }) {
			continue
		}
		story, err := storyOf(ctx, s, o)
		if err != nil {
			return nil, err
		}
		stories = append(stories, story)
	}
	events = slices.DeleteFunc(events, func(e *store.Event) bool {
		return slices.ContainsFunc(stories, func(story *Story) bool {
			return slices.ContainsFunc(story.Events, func(told *store.Event) bool { return told.ID == e.ID })
		})
	})
	if len(events) > 0 {
		stories = append(stories, &Story{Events: events})
	}
	return stories, nil
}

// ordersOf returns the orders that events with a number are about by another one: of
// a payment that is quarantined, the order does not have the transaction_id.
func ordersOf(ctx context.Context, s store.Store, number string, events []*store.Event) (all []*store.Order, err error) {
	asked := map[string]bool{"": true, number: true}
	for _, e := range events {
		if asked[e.OutTradeNo] {
			continue
		}
		asked[e.OutTradeNo] = true
		orders, _, err := s.ListOrders(ctx, store.OrderFilter{Kind: store.Ordered, Merchant: e.Merchant, Number: e.OutTradeNo}, "", mostOfStory)
		if err != nil {
			return nil, err
		}
		all = append(all, orders...)
	}
	return all, nil
}

// refunds reports whether a refund is of an order.
func refunds(refund, o *store.Order) bool {
	return o.Kind == store.Ordered && refund.OutTradeNo == o.Number && refund.MchID == o.MchID && refund.SubMchID == o.SubMchID
}

// orderOf returns the order that a refund gives back, or the refund itself where the
// order was not placed here: a refund stands in its order's story.
func orderOf(ctx context.Context, s store.Store, refund *store.Order) (*store.Order, error) {
	if refund.OutTradeNo == "" {
		return refund, nil
	}
	orders, _, err := s.ListOrders(ctx, store.OrderFilter{Kind: store.Ordered, Number: refund.OutTradeNo}, "", mostOfStory)
	if err != nil {
		return nil, err
	}
	for _, o := range orders {
		if refunds(refund, o) {
			return o, nil
		}
	}
	return refund, nil
}

func storyOf(ctx context.Context, s store.Store, o *store.Order) (*Story, error) {
	story := &Story{Order: o}
	related, _, err := s.ListOrders(ctx, store.OrderFilter{Kind: store.Refund, Number: o.Number}, "", mostOfStory)
	if err != nil {
		return nil, err
	}
	for _, refund := range slices.Backward(related) {
		if refunds(refund, o) {
			story.Refunds = append(story.Refunds, refund)
		}
	}
	events, err := eventsOf(ctx, s, o.Number)
	if err != nil {
		return nil, err
	}
	for _, e := range events {
		if e.Merchant == o.Merchant || e.ID == o.EventID {
			story.Events = append(story.Events, e)
		}
	}
	return story, nil
}

func eventsOf(ctx context.Context, s store.Store, number string) ([]*store.Event, error) {
	events, _, err := s.List(ctx, store.Filter{Number: number}, "", mostOfStory)
	if err != nil {
		return nil, err
	}
	slices.Reverse(events)
	for _, e := range events {
		e.Payload = nil
	}
	return events, nil
}
