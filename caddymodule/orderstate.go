package caddymodule

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/windsome/caddy-wepay/caddymodule/recovery"
	"github.com/windsome/caddy-wepay/caddymodule/store"
	"github.com/windsome/caddy-wepay/wepay"
)

// orderState is the operation that says what the store knows of an order.
const orderState wepay.Operation = "order_state"

// orderStateRules are the fields of order_state.
var orderStateRules = wepay.Rules{
	{Name: "out_trade_no", Required: true, Max: 32, Is: wepay.Number},
	{Name: "sub_mch_id", Max: 32, Is: wepay.Digits},
	{Name: "fresh", Is: wepay.OneOf("true", "false")},
}

// errNoStore says that there is nothing to look into.
var errNoStore = errors.New("this needs a store: see the option store of the global option wepay")

// askOrderState says what the store knows of an order; with fresh, once WeChat was
// asked.
func askOrderState(ctx context.Context, h *Handler, o operation) (any, error) {
	if h.app.store == nil {
		return nil, &wepay.MerchantError{Merchant: o.merchant.Name, Err: fmt.Errorf("%w: %w", wepay.ErrNotAble, errNoStore)}
	}
	if err := orderStateRules.Check(o.fields); err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, stateTime)
	defer cancel()
	var story *stateAnswer
	err := h.app.inStore(ctx, func(live *App) (err error) {
		story, err = live.storyOf(ctx, o)
		if err != nil || o.fields.Get("fresh") != "true" {
			return err
		}
		if story.order.Operation == "" {
			return &wepay.FieldError{Field: "fresh", Reason: "the order was not placed here, so that WeChat is asked with order_query"}
		}
		for _, asked := range append([]*store.Order{story.order}, story.open...) {
			if _, err := live.asking.Ask(ctx, asked); err != nil {
				return err
			}
		}
		story, err = live.storyOf(ctx, o)
		return err
	})
	return story, err
}

// stateTime bounds how long order_state takes, also where WeChat is asked.
const stateTime = 20 * time.Second

// storyOf finds an order of a merchant's account, by its number.
func (a *App) storyOf(ctx context.Context, o operation) (*stateAnswer, error) {
	stories, err := recovery.Stories(ctx, a.store, o.fields.Get("out_trade_no"))
	if err != nil {
		return nil, err
	}
	subMchID := o.fields.Get("sub_mch_id")
	for _, story := range stories {
		order := story.Order
		if order == nil || order.MchID != o.merchant.MchID || subMchID != "" && order.SubMchID != subMchID || order.Number != o.fields.Get("out_trade_no") {
			continue
		}
		return newStateAnswer(story), nil
	}
	return nil, &wepay.FieldError{Field: "out_trade_no", Reason: "no such order was placed here: query it with order_query"}
}

// stateAnswer is what order_state answers, in API v2's names where it has them.
// Amounts are whole fen, and times RFC 3339.
type stateAnswer struct {
	Merchant      string           `json:"merchant"`
	Kind          store.OrderKind  `json:"kind"`
	State         store.OrderState `json:"state"`
	Source        store.Source     `json:"source,omitempty"`
	OutTradeNo    string           `json:"out_trade_no"`
	TransactionID string           `json:"transaction_id,omitempty"`
	AppID         string           `json:"appid,omitempty"`
	MchID         string           `json:"mch_id"`
	SubMchID      string           `json:"sub_mch_id,omitempty"`
	TotalFee      int64            `json:"total_fee"`
	AlsoFee       int64            `json:"also_total_fee,omitempty"`
	FeeType       string           `json:"fee_type"`
	RefundFee     int64            `json:"refund_fee"`
	Placed        time.Time        `json:"placed"`
	Expires       time.Time        `json:"expires,omitzero"`
	CloseAt       time.Time        `json:"close_at,omitzero"`
	Asked         int              `json:"asked"`
	LastAsked     time.Time        `json:"last_asked,omitzero"`
	NextAsked     time.Time        `json:"next_asked,omitzero"`
	Paid          time.Time        `json:"paid,omitzero"`
	Ended         time.Time        `json:"ended,omitzero"`
	Reason        string           `json:"reason,omitempty"`
	Refunds       []refundAnswer   `json:"refunds"`
	Events        []eventAnswer    `json:"events"`
	order         *store.Order
	open          []*store.Order // its refunds that have not ended
}

type refundAnswer struct {
	OutRefundNo string           `json:"out_refund_no"`
	RefundID    string           `json:"refund_id,omitempty"`
	RefundFee   int64            `json:"refund_fee"`
	State       store.OrderState `json:"state"`
	Placed      time.Time        `json:"placed"`
	Refunded    time.Time        `json:"refunded,omitzero"`
	Reason      string           `json:"reason,omitempty"`
}

type eventAnswer struct {
	ID        string       `json:"id"`
	Kind      wepay.Kind   `json:"kind"`
	EventType string       `json:"event_type,omitempty"`
	Source    store.Source `json:"source"`
	State     store.State  `json:"state"`
	Received  time.Time    `json:"received"`
	Attempts  int          `json:"attempts"`
	Ended     time.Time    `json:"ended,omitzero"`
	Reason    string       `json:"reason,omitempty"`
}

func newStateAnswer(story *recovery.Story) *stateAnswer {
	o := story.Order
	answer := &stateAnswer{
		Merchant: o.Merchant, Kind: o.Kind, State: o.State, Source: o.Source, OutTradeNo: o.Number, TransactionID: o.TransactionID,
		AppID: o.AppID, MchID: o.MchID, SubMchID: o.SubMchID, TotalFee: o.Amount, AlsoFee: o.Also, FeeType: o.Currency, RefundFee: o.Refunded,
		Placed: beijing(o.Placed), Expires: beijing(o.Expires), CloseAt: beijing(o.CloseAt),
		Asked: o.Asked, LastAsked: beijing(o.LastAsked), NextAsked: beijing(o.Due), Paid: beijing(o.Paid), Ended: beijing(o.Ended), Reason: o.Reason,
		Refunds: []refundAnswer{}, Events: []eventAnswer{}, order: o,
	}
	for _, r := range story.Refunds {
		switch r.State {
		case store.OrderPlaced, store.OrderUnknown, store.OrderRefunding, store.OrderAbnormal:
			if r.Operation != "" {
				answer.open = append(answer.open, r)
			}
		}
		refund := refundAnswer{
			OutRefundNo: r.Number, RefundID: r.TransactionID, RefundFee: r.Amount, State: r.State, Placed: beijing(r.Placed), Reason: r.Reason,
		}
		if r.State == store.OrderRefunded {
			refund.Refunded = beijing(r.Paid)
		}
		answer.Refunds = append(answer.Refunds, refund)
	}
	for _, e := range story.Events {
		answer.Events = append(answer.Events, eventAnswer{
			ID: e.ID, Kind: e.Kind, EventType: e.EventType, Source: e.Source, State: e.State, Received: beijing(e.Received), Attempts: e.Attempts, Ended: beijing(e.Ended), Reason: e.Reason,
		})
	}
	return answer
}

// beijing is a time in WeChat's zone, to the second.
func beijing(t time.Time) time.Time {
	if t.IsZero() {
		return t
	}
	return t.In(wepay.Beijing).Truncate(time.Second)
}
