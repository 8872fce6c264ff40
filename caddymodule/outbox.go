package caddymodule

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/windsome/caddy-wepay/wepay"
)

// Outbox keeps events from the moment WeChat hears SUCCESS until the order
// service has taken them. A store is a Caddy module of the namespace
// wepay.outbox that implements it and embeds [OutboxOptions]; package
// outboxtest holds what each store must pass.
//
// All methods but Open and Close may be called by many goroutines, by those of
// several configs at once (a reload starts the new one before the old one
// ends), and, where a store is shared by several servers, by all of them. A
// method returns when its context ends, with the context's error, except where
// it can no longer tell whether what it does has been done: then it says what
// came of it.
type Outbox interface {
	// Open makes the store ready. It is called once, when the app starts and not
	// when it is provisioned, since a config that is only validated must not
	// touch what a running server holds. An error stops the config.
	Open(ctx context.Context) error

	// Close gives back what Open took. Leases end with it, and calls that wait
	// return [ErrOutboxClosed], as later ones do; a store that another config of
	// this process still has open may go on serving those that came before. It
	// does not wait for a server elsewhere that does not answer for more than
	// half a second in all: that is what the app leaves it of a grace_period.
	// Without an Open that succeeded it does nothing.
	Close() error

	// Put stores an event in its state. When it returns nil the event is
	// durable: neither kill -9 nor the loss of power takes it away. An event
	// whose ID the store knows, in whatever state, is left as it is, and that is
	// no error.
	Put(ctx context.Context, event *Event) error

	// Lease takes up to limit waiting events of a queue that are due, those due
	// first before others, and waits until there is one. No other Lease gives
	// them out until they are settled or the term has passed; then their
	// holders are taken for dead. An event of a lease that has run out may be
	// settled still, unless another lease of it has begun.
	Lease(ctx context.Context, queue Queue, limit int, term time.Duration) ([]*Lease, error)

	// Settle ends a lease and stores its event as the holder has left it:
	// delivered, dead, or waiting until another Due. It returns [ErrLeaseLost]
	// where the event is another's by now, or settled.
	Settle(ctx context.Context, lease *Lease) error

	// Get returns an event, or [ErrNoEvent].
	Get(ctx context.Context, id string) (*Event, error)

	// List returns up to limit events that a filter selects, in an order of the
	// store's own that stays the same, from after a page's end on: "" for the
	// first page. The next page's is "" where there is none. It returns
	// [ErrNoPage] for what cannot be a page's end. A store that cannot read some
	// of its events leaves them out, and returns [Damaged] with the others.
	List(ctx context.Context, filter Filter, after string, limit int) (events []*Event, next string, err error)

	// Count returns how many events there are, for each merchant and state that
	// has any.
	Count(ctx context.Context) ([]Count, error)

	// Replay has a dead event handed over again: it waits, is due now, and has
	// not been tried yet. It returns [ErrNoEvent] or, for one that is not dead,
	// [ErrWrongState].
	Replay(ctx context.Context, id string) error

	// Drop takes an event that waits or is dead out of the way. It is remembered
	// as dropped, with the reason, so that it does not come back when WeChat
	// repeats it. It returns [ErrNoEvent] or, for one that has ended otherwise,
	// [ErrWrongState].
	Drop(ctx context.Context, id, reason string) error

	// Options returns how events are delivered. OutboxOptions has it.
	Options() *OutboxOptions
}

// Errors of an outbox, to be found with errors.Is.
var (
	// ErrOutboxClosed says that the outbox is not open: not yet, or no longer.
	ErrOutboxClosed = errors.New("the outbox is not open")

	// ErrOutboxAway says that what the outbox keeps its events in, such as a
	// server elsewhere, does not answer.
	ErrOutboxAway = errors.New("the outbox is away")

	// ErrNoEvent says that the outbox does not know the event.
	ErrNoEvent = errors.New("the outbox has no such event")

	// ErrWrongState says that nothing like that can be done with the event as it
	// is.
	ErrWrongState = errors.New("the event's state does not allow it")

	// ErrNoPage says that no page ends there.
	ErrNoPage = errors.New("the outbox has no page that ends there")

	// ErrLeaseLost says that an event was settled by somebody else, or is being
	// handed over by somebody else.
	ErrLeaseLost = errors.New("the lease of the event is lost")
)

// Damaged says that some events cannot be read, and how many are left out for
// that of what comes with it.
type Damaged struct{ Events int }

func (d Damaged) Error() string {
	return fmt.Sprintf("damaged events are left out: %d", d.Events)
}

// Event is a verified notification on its way to the merchant's order service.
type Event struct {
	// The webhook-id: the same for one event however often WeChat tells of it.
	ID string `json:"id"`

	// The merchant's name in the config, and what the event is about.
	Merchant string     `json:"merchant"`
	Kind     wepay.Kind `json:"kind"`

	// The ID of the event that the order service is to have before this one, as
	// a payment before its refund. It is waited for only while it waits itself.
	After string `json:"after,omitempty"`

	// The trace that the notification came with, to be passed on.
	Trace http.Header `json:"trace,omitempty"`

	// What the order service gets, a JSON object, byte for byte. It is gone when
	// the event is delivered or dropped.
	Payload json.RawMessage `json:"payload,omitempty"`

	// When WeChat's notification was taken.
	Received time.Time `json:"received"`

	State State `json:"state"`

	// Waiting: when it is to be handed over, at the earliest.
	Due time.Time `json:"due,omitzero"`

	// How often the order service was tried, and since when: the event is given
	// up a time after that.
	Attempts int       `json:"attempts,omitempty"`
	Since    time.Time `json:"since,omitzero"`

	// Why the last attempt failed, or why it was dropped; and whether the order
	// service answered with a refusal, so that somebody has to look.
	Reason  string `json:"reason,omitempty"`
	Refused bool   `json:"refused,omitempty"`

	// Not waiting: since when.
	Ended time.Time `json:"ended,omitzero"`
}

// State is how far an event has come.
type State string

// The states.
const (
	Waiting   State = "waiting"   // to be handed over, whether leased or not
	Delivered State = "delivered" // taken by the order service
	Dead      State = "dead"      // given up; an operator may replay or drop it
	Dropped   State = "dropped"   // given up by an operator
)

// Queue is a line of events: each goes its own pace, so that a dead order
// service holds up its own events alone.
type Queue struct {
	Merchant string
	Kind     wepay.Kind
}

// Queue returns the queue that the event stands in.
func (e *Event) Queue() Queue { return Queue{e.Merchant, e.Kind} }

// Replayed returns a dead event as it waits again: due now, not tried yet.
func (e *Event) Replayed(now time.Time) *Event {
	again := *e
	again.State, again.Due, again.Since, again.Ended = Waiting, now, now, time.Time{}
	again.Attempts, again.Reason, again.Refused = 0, "", false
	return &again
}

// Dropped returns an event as it is remembered when an operator has given it
// up for a reason.
func (e *Event) Dropped(reason string, now time.Time) *Event {
	gone := *e
	gone.State, gone.Due, gone.Ended, gone.Reason, gone.Payload = Dropped, time.Time{}, now, reason, nil
	return &gone
}

// Lease is an event in the hands of a dispatcher, which alone may change it.
type Lease struct {
	Event *Event

	// What the store knows the lease by.
	Token any
}

// Filter selects events. Its zero value selects all.
type Filter struct {
	Merchant string
	State    State
}

// Match reports whether the filter selects an event.
func (f Filter) Match(e *Event) bool {
	return (f.Merchant == "" || f.Merchant == e.Merchant) && (f.State == "" || f.State == e.State)
}

// Left returns how many events wait, and how many are dead, of all merchants: what
// is lost sight of where an outbox is left.
func Left(counts []Count) (waiting, dead int) {
	for _, count := range counts {
		switch count.State {
		case Waiting:
			waiting += count.Events
		case Dead:
			dead += count.Events
		}
	}
	return waiting, dead
}

// Count is how many events of a merchant are in a state.
type Count struct {
	Merchant string `json:"merchant"`
	State    State  `json:"state"`
	Events   int    `json:"events"`
}

// newEvent returns what the order service is to get of a notification that came
// with a header.
func newEvent(n *wepay.Notification, header http.Header, now time.Time) (*Event, error) {
	payload, err := n.Payload()
	if err != nil {
		return nil, err
	}
	e := &Event{
		ID: n.EventID(), Merchant: n.Merchant.Name, Kind: n.Kind, After: n.PrecedingID(), Payload: payload,
		Received: now, State: Waiting, Due: now, Since: now, Trace: traceOf(header),
	}
	return e, nil
}
