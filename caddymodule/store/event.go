package store

import (
	"encoding/json"
	"net/http"
	"strings"
	"time"

	"github.com/windsome/caddy-wepay/wepay"
)

// Event is a verified notification on its way to the merchant's order service.
type Event struct {
	// The webhook-id: the same for one event however often WeChat sends it.
	ID string `json:"id"`

	// The merchant's name in the config, what the event is about, and WeChat's own
	// word for it, such as TRANSACTION.SUCCESS.
	Merchant  string     `json:"merchant"`
	Kind      wepay.Kind `json:"kind"`
	EventType string     `json:"event_type,omitempty"`

	// The numbers it is found by.
	OutTradeNo    string `json:"out_trade_no,omitempty"`
	TransactionID string `json:"transaction_id,omitempty"`
	OutRefundNo   string `json:"out_refund_no,omitempty"`

	// What was paid, refunded or transferred, in fen of Currency (in its smallest
	// unit where that is not CNY); 0: it does not say.
	Amount   int64  `json:"amount,omitempty"`
	Currency string `json:"currency,omitempty"`

	// The ID of the event that the order service is to have before this one, as a
	// payment before its refund. It is waited for only while it waits itself.
	After string `json:"after,omitempty"`

	// What it is known from; "" stands for SourceNotify. When what it is about
	// happened at WeChat; zero: it does not say.
	Source   Source    `json:"source,omitempty"`
	Occurred time.Time `json:"occurred,omitzero"`

	// The trace that the notification came with, passed on.
	Trace http.Header `json:"trace,omitempty"`

	// What the order service gets, a JSON object, byte for byte, or of a
	// wepay.OtherEvent whatever JSON WeChat wrote; nil once it is no longer kept.
	Payload json.RawMessage `json:"payload,omitempty"`

	// When WeChat's notification was taken.
	Received time.Time `json:"received"`

	State State `json:"state"`

	// Waiting: when it is to be handed over, at the earliest.
	Due time.Time `json:"due,omitzero"`

	// How often the order service was tried, and since when.
	Attempts int       `json:"attempts,omitempty"`
	Since    time.Time `json:"since,omitzero"`

	// Why the last attempt failed, or why it was dropped; whether the order
	// service answered with a refusal, so that an operator has to look; and the first
	// 200 bytes of what it answered then. Reason and Answer are stored as [Text]
	// returns them; all other texts must be UTF-8 without a NUL.
	Reason  string `json:"reason,omitempty"`
	Refused bool   `json:"refused,omitempty"`
	Answer  string `json:"answer,omitempty"`

	// Not waiting: since when.
	Ended time.Time `json:"ended,omitzero"`
}

// State is how far an event has come.
type State string

// The states.
const (
	Waiting   State = "waiting"   // to be handed over, whether leased or not
	Delivered State = "delivered" // taken by the order service
	Dead      State = "dead"      // given up
	Dropped   State = "dropped"   // given up by an operator

	// Quarantined contradicts what is known of its order: it is handed over only by
	// Replay.
	Quarantined State = "quarantined"
)

// States returns all states.
func States() []State { return []State{Waiting, Delivered, Dead, Dropped, Quarantined} }

// MayDrop reports whether an event of the state may be taken out of the way: it is
// neither delivered nor dropped.
func (s State) MayDrop() bool { return s == Waiting || s == Dead || s == Quarantined }

// Queue is a line of events that are handed over at their own pace, so that an
// order service that is away holds up its own events alone.
type Queue struct {
	Merchant string
	Kind     wepay.Kind
}

// Queue returns the queue that the event stands in.
func (e *Event) Queue() Queue { return Queue{e.Merchant, e.Kind} }

// Replayed returns an event as it waits again: due now, not tried yet.
func (e *Event) Replayed(now time.Time) *Event {
	again := *e
	again.State, again.Due, again.Since, again.Ended = Waiting, now, now, time.Time{}
	again.Attempts, again.Reason, again.Refused, again.Answer = 0, "", false, ""
	return &again
}

// Dropped returns an event as it is kept when an operator has given it up.
func (e *Event) Dropped(reason string, now time.Time) *Event {
	gone := *e
	gone.State, gone.Due, gone.Ended, gone.Reason = Dropped, time.Time{}, now, reason
	return &gone
}

// Text returns a text as every database stores it: what is not UTF-8, and NUL, is
// replaced by U+FFFD.
func Text(s string) string {
	return strings.ReplaceAll(strings.ToValidUTF8(s, "\ufffd"), "\x00", "\ufffd")
}

// mostOfReason bounds a Reason that is made by [Reason], in bytes.
const mostOfReason = 300

// Reason returns the first of a text as a row has it for its Reason.
func Reason(text string) string { return Text(text[:min(len(text), mostOfReason)]) }

// Filter selects events. Its zero value selects all.
type Filter struct {
	Merchant string
	State    State

	// EventType selects by WeChat's own word, such as COMPLAINT.CREATE.
	EventType string

	// Number selects by out_trade_no, transaction_id or out_refund_no.
	Number string
}

// Match reports whether the filter selects an event.
func (f Filter) Match(e *Event) bool {
	return (f.Merchant == "" || f.Merchant == e.Merchant) &&
		(f.State == "" || f.State == e.State) &&
		(f.EventType == "" || f.EventType == e.EventType) &&
		(f.Number == "" || f.Number == e.OutTradeNo || f.Number == e.TransactionID || f.Number == e.OutRefundNo)
}
