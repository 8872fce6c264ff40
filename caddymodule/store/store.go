// Package store keeps what the server has promised: every verified notification
// until the order service has taken it, every order until its fate is known, and
// their records for long after.
//
// A [Store] is a Caddy module of the namespace wepay.store. Package sqlstore has
// those for SQLite, PostgreSQL and MySQL; package storetest has the contract that
// each store passes, also one of a third party.
package store

import (
	"context"
	"errors"
	"time"
)

// Store keeps events and [Orders]. All methods but Open and Close may be called by many
// goroutines, by those of several configs at once (a reload starts the new one
// before the old one ends), and, where a store is shared by several servers, by
// all of them. A method returns when its context ends, with the context's error,
// except where what it does may have been done by then: then it says what came of
// it.
type Store interface {
	// Open makes the store ready. It is called once, when the app starts and not
	// when it is provisioned, since a config that is only validated must not
	// touch what a running server holds. An error refuses the config.
	Open(ctx context.Context, options Options) error

	// Close gives back what Open took. Leases end with it, and calls that wait
	// return [ErrClosed], as later ones do; what another config of this process
	// still has open goes on. It takes no more than half a second, also with a
	// database that does not answer. Without an Open that succeeded it does
	// nothing.
	Close() error

	// Put stores an event in its state. When it returns nil the event is durable:
	// neither kill -9 nor the loss of power takes it away. An event whose ID the
	// store has, in whatever state, is left as it is, and added is false. An ID is
	// at most 64 bytes long.
	Put(ctx context.Context, event *Event) (added bool, err error)

	// Lease takes up to limit waiting events of a queue that are due, those due
	// first before others, and waits until there is one. An event that is due
	// further ahead than Options.LongestWait is due now: a clock was wrong. No
	// other Lease returns them until they are settled or the term has passed; then
	// their holder is taken for dead. An event whose lease has run out may still
	// be settled, unless another lease of it has begun.
	Lease(ctx context.Context, queue Queue, limit int, term time.Duration) ([]*Lease, error)

	// Settle ends a lease and stores its event as the holder leaves it: delivered,
	// dead, or waiting with another Due. The payload stays. It returns
	// [ErrLeaseLost] where the event is leased by another by now, or settled.
	Settle(ctx context.Context, lease *Lease) error

	// Get returns an event, or [ErrNoEvent].
	Get(ctx context.Context, id string) (*Event, error)

	// List returns up to limit events that a filter selects, the latest received
	// first, beginning after the end of another page: "" for the first page. The
	// next page's is "" where there is none. It returns [ErrNoPage] for what cannot
	// be a page's end.
	List(ctx context.Context, filter Filter, after string, limit int) (events []*Event, next string, err error)

	// Count returns how many events there are, for each merchant and state that
	// has any.
	Count(ctx context.Context) ([]Count, error)

	// Replay has an event handed over again, whatever its state, and returns the
	// state it was in: it waits, is due now, and has not been tried yet. For one
	// that waits it means now; one that is leased is left to its holder. It
	// returns [ErrNoEvent], or [ErrNoPayload] where there is nothing left to hand
	// over.
	Replay(ctx context.Context, id string) (was State, err error)

	// Drop takes an event that waits, is dead or quarantined out of the way, with a
	// reason. It keeps its payload, and Replay undoes it. It returns [ErrNoEvent] or,
	// for one that is delivered or dropped, [ErrWrongState].
	Drop(ctx context.Context, id, reason string) error

	Orders
}

// Options are what the app says of all stores.
type Options struct {
	// LongestWait is the longest time until an event that waits is due, and
	// LongestOrderWait until an order is. 0: any.
	LongestWait, LongestOrderWait time.Duration

	// Keep is how long the payload of an event that has ended stays; KeepRows is how
	// long the row of what has ended does, also of an order. Older ones are removed in small portions, in rounds that are a
	// tenth of Keep apart and at most a minute. 0: for ever.
	Keep, KeepRows time.Duration

	// Now is the clock for due times and ages; nil: time.Now. A store that several
	// servers share measures the terms of leases by the database's clock.
	Now func() time.Time
}

// Errors of a store, to be found with errors.Is.
var (
	// ErrClosed says that the store is not open: not yet, or no longer.
	ErrClosed = errors.New("the store is not open")

	// ErrUnavailable says that the store cannot be used now: its database does not
	// answer, its disk is full, its file is damaged.
	ErrUnavailable = errors.New("the store is unavailable")

	// ErrNoEvent says that the store has no such event.
	ErrNoEvent = errors.New("the store has no such event")

	// ErrNoPayload says that the event's payload is gone: it ended longer ago than
	// payloads are kept.
	ErrNoPayload = errors.New("the event's payload is no longer stored")

	// ErrWrongState says that the event's state does not allow it.
	ErrWrongState = errors.New("the event's state does not allow it")

	// ErrNoPage says that no page ends there.
	ErrNoPage = errors.New("the store has no page that ends there")

	// ErrLeaseLost says that the event was settled, or leased by another.
	ErrLeaseLost = errors.New("the lease of the event is lost")
)

// Lease is an event that its holder alone may change until the term ends.
type Lease struct {
	Event *Event

	// Token is what the store knows the lease by.
	Token any
}

// Count is how many events of a merchant are in a state.
type Count struct {
	Merchant string `json:"merchant"`
	State    State  `json:"state"`
	Events   int    `json:"events"`
}

// Left returns how many events wait, and how many are dead, of all merchants:
// what is no longer handed over when a store is removed.
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
