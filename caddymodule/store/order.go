package store

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"time"

	"github.com/windsome/caddy-wepay/wepay"
)

// Orders is the part of a [Store] that keeps what was asked of WeChat and moves
// money.
type Orders interface {
	// Transact runs something in one transaction: what it reads through the Tx
	// nobody changes until it ends, and what it writes is durable when Transact
	// returns nil. An error of run, or of the Tx, undoes all of it and is returned.
	//
	// Run may be called again after it was undone, and must do nothing that cannot
	// be. Others may have to wait for it: it neither blocks nor calls the store, but
	// through the Tx, which ends with it.
	Transact(ctx context.Context, run func(Tx) error) error

	// FirstDue returns the merchants that have orders with a Due, and when the
	// first of each is due.
	FirstDue(ctx context.Context) (map[string]time.Time, error)

	// Claim takes up to limit orders of a merchant that are due, those due first
	// before others, and has them due again after a term: until then no other Claim
	// returns them, and whoever dies with one leaves it to another. It returns them
	// as they were, but with the new Due, by Options.Now. An order that is due further
	// ahead than Options.LongestOrderWait is due now: a clock was wrong.
	Claim(ctx context.Context, merchant string, limit int, term time.Duration) ([]*Order, error)

	// ListOrders is List for orders: the latest placed first.
	ListOrders(ctx context.Context, filter OrderFilter, after string, limit int) (orders []*Order, next string, err error)

	// CountOrders returns how many orders there are, for each merchant, kind and
	// state that has any.
	CountOrders(ctx context.Context) ([]OrderCount, error)

	// Match returns the orders of a kind that have one of the numbers, and the events
	// without their payloads that have one of them as their TransactionID, OutTradeNo
	// or OutRefundNo, in any order. There are at most MostNumbers.
	Match(ctx context.Context, kind OrderKind, numbers []string) (orders []*Order, events []*Event, err error)

	// Occurred calls each for every event of a queue, without its payload, that is
	// about what happened from one time on and before another, until each returns an
	// error, which it returns. No event is called for whose Received is an hour or more
	// before from. It may take long, and holds nothing up: what is put or settled
	// meanwhile may be seen or not.
	Occurred(ctx context.Context, queue Queue, from, to time.Time, each func(*Event) error) error
}

// MostNumbers bounds the numbers of one Match.
const MostNumbers = 500

// Tx is a transaction of a store. It sees what it has written itself.
type Tx interface {
	// Orders returns the orders of a kind and number, of whichever account, the
	// latest placed first. Where there is none yet, and another transaction places one
	// with that number meanwhile, SetOrder has this one run again.
	Orders(kind OrderKind, number string) ([]*Order, error)

	// Refunds returns the refunds of an order of an account, by the order's
	// out_trade_no, the latest placed first. None is added meanwhile if whoever adds
	// one has read the order itself first, as this transaction must have.
	Refunds(mchID, subMchID, outTradeNo string) ([]*Order, error)

	// SetOrder stores an order, in the place of the one with its Kind, Number, MchID
	// and SubMchID, if there is one. It refuses what Order.Check does.
	SetOrder(*Order) error

	// Put stores an event, as Store.Put does.
	Put(*Event) (added bool, err error)
}

// Order is what was asked of WeChat with a number of the merchant's, and what is
// known of it: an order, a payment by code, a refund, a transfer. Nothing in it is
// personal.
type Order struct {
	// What it is known by: the merchant's own number is of a kind, at an account of
	// WeChat's.
	Kind     OrderKind `json:"kind"`
	Number   string    `json:"number"`
	MchID    string    `json:"mch_id"`
	SubMchID string    `json:"sub_mch_id,omitempty"`

	// The merchant's name in the config, the appid, and what placed it over which
	// API. Operation is "" for one that was not placed here, but heard of.
	Merchant  string          `json:"merchant"`
	AppID     string          `json:"appid,omitempty"`
	Operation wepay.Operation `json:"operation,omitempty"`
	API       wepay.API       `json:"api,omitempty"`

	// The numbers it is found by besides Number: of a refund the order's, and
	// WeChat's own number of the order, the refund or the transfer.
	OutTradeNo    string `json:"out_trade_no,omitempty"`
	TransactionID string `json:"transaction_id,omitempty"`

	// How much it is about, in fen of Currency (in its smallest unit where that is
	// not CNY). Also is another amount that the same number was placed with, of
	// which WeChat has not said which it took, or that it refused; 0: none.
	Amount   int64  `json:"amount"`
	Also     int64  `json:"also,omitempty"`
	Currency string `json:"currency,omitempty"`

	// Of an order, in fen: what of it has been refunded.
	Refunded int64 `json:"refunded,omitempty"`

	State OrderState `json:"state"`

	// When it was recorded, before WeChat was called; when WeChat takes no payment
	// for it any more; and when it is to be closed if it is not paid by then.
	Placed  time.Time `json:"placed"`
	Expires time.Time `json:"expires,omitzero"`
	CloseAt time.Time `json:"close_at,omitzero"`

	// When WeChat is to be asked about it, at the earliest; zero: not any more.
	// How often it was asked, and when last.
	Due       time.Time `json:"due,omitzero"`
	Asked     int       `json:"asked,omitempty"`
	LastAsked time.Time `json:"last_asked,omitzero"`

	// What told of its State, when WeChat says that it was paid, refunded or closed,
	// and since when nothing more is expected of it: its row goes KeepRows later.
	Source Source    `json:"source,omitempty"`
	Paid   time.Time `json:"paid,omitzero"`
	Ended  time.Time `json:"ended,omitzero"`

	// WeChat's word and text of the last refusal, or why there was no answer. It is
	// stored as [Text] returns it; all other texts must be UTF-8 without a NUL.
	Reason string `json:"reason,omitempty"`

	// The webhook-id of the event that the order service was told by.
	EventID string `json:"event_id,omitempty"`

	// The trace that the call came with.
	Trace http.Header `json:"trace,omitempty"`
}

// Check returns why an order cannot be stored, or nil: its kind or state is none of
// this package's, it has no number, or has a text that not every database stores.
func (o *Order) Check() error {
	switch {
	case !slices.Contains(OrderKinds(), o.Kind):
		return fmt.Errorf("order %q: %q is no kind of orders", o.Number, o.Kind)
	case !slices.Contains(OrderStates(), o.State):
		return fmt.Errorf("order %q: %q is no state of orders", o.Number, o.State)
	case o.Number == "":
		return errors.New("an order has no number")
	}
	for _, text := range []string{
		o.Number, o.MchID, o.SubMchID, o.Merchant, o.AppID, string(o.Operation), string(o.API), o.OutTradeNo, o.TransactionID, o.Currency,
		string(o.Source), o.EventID,
	} {
		if text != Text(text) {
			return fmt.Errorf("order %q has a text that is not UTF-8, or has a NUL in it: %q", o.Number, text)
		}
	}
	return nil
}

// OrderKey is what an order is known by.
type OrderKey struct {
	Kind                    OrderKind
	Number, MchID, SubMchID string
}

// Key returns what the order is known by.
func (o *Order) Key() OrderKey { return OrderKey{o.Kind, o.Number, o.MchID, o.SubMchID} }

// FindOrder returns the order of a key; nil: there is none.
func FindOrder(tx Tx, key OrderKey) (*Order, error) {
	orders, err := tx.Orders(key.Kind, key.Number)
	if err != nil {
		return nil, err
	}
	for _, o := range orders {
		if o.Key() == key {
			return o, nil
		}
	}
	return nil, nil
}

// OrderKind is what an order is about.
type OrderKind string

// The kinds.
const (
	Ordered   OrderKind = "order" // also a payment by code: they share their numbers
	Combined  OrderKind = "combined_order"
	Refund    OrderKind = "refund"
	Transfer  OrderKind = "transfer"   // to a wallet, to a bank card, or as a red packet
	DailyBill OrderKind = "daily_bill" // whose Number is the day, such as 2026-11-30
)

// OrderKinds returns all kinds.
func OrderKinds() []OrderKind { return []OrderKind{Ordered, Combined, Refund, Transfer, DailyBill} }

// OrderState is what is known of an order.
type OrderState string

// The states.
const (
	OrderPlaced         OrderState = "placed"          // WeChat has it, or is being called
	OrderUnknown        OrderState = "unknown"         // WeChat gave no valid answer, and is asked
	OrderPaid           OrderState = "paid"            // the money has arrived; of a transfer at the payee's
	OrderClosed         OrderState = "closed"          // it cannot be paid any more, and was not
	OrderFailed         OrderState = "failed"          // WeChat refused it, or never had it
	OrderRefunding      OrderState = "refunding"       // paid, and a refund is under way; or that refund
	OrderPartlyRefunded OrderState = "partly_refunded" // paid, and in part given back
	OrderRefunded       OrderState = "refunded"        // given back whole; or a refund that has arrived
	OrderAbnormal       OrderState = "abnormal"        // a refund that needs a person (退款异常)
	OrderQuarantined    OrderState = "quarantined"     // what WeChat says of it contradicts it
	OrderReconciled     OrderState = "reconciled"      // a daily bill
)

// OrderStates returns all states.
func OrderStates() []OrderState {
	return []OrderState{
		OrderPlaced, OrderUnknown, OrderPaid, OrderClosed, OrderFailed, OrderRefunding, OrderPartlyRefunded, OrderRefunded,
		OrderAbnormal, OrderQuarantined, OrderReconciled,
	}
}

// Source is what an event, or the state of an order, is known from.
type Source string

// The sources.
const (
	SourceReply  Source = "reply"  // to the call that placed it; of an order alone
	SourceNotify Source = "notify" // WeChat notified of it
	SourceQuery  Source = "query"  // WeChat was asked about it
	SourceBill   Source = "bill"   // WeChat's bill of the day
)

// OrderFilter selects orders. Its zero value selects all.
type OrderFilter struct {
	Merchant string
	Kind     OrderKind
	State    OrderState

	// Number selects by Number, OutTradeNo or TransactionID.
	Number string
}

// Match reports whether the filter selects an order.
func (f OrderFilter) Match(o *Order) bool {
	return (f.Merchant == "" || f.Merchant == o.Merchant) &&
		(f.Kind == "" || f.Kind == o.Kind) &&
		(f.State == "" || f.State == o.State) &&
		(f.Number == "" || f.Number == o.Number || f.Number == o.OutTradeNo || f.Number == o.TransactionID)
}

// OrderCount is how many orders of a merchant and kind are in a state.
type OrderCount struct {
	Merchant string     `json:"merchant"`
	Kind     OrderKind  `json:"kind"`
	State    OrderState `json:"state"`
	Orders   int        `json:"orders"`
}
