package natsoutbox

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/windsome/caddy-wepay/caddymodule"
)

// callTimeout bounds a call whose context has no end.
const callTimeout = 30 * time.Second

// opened returns the store for a call. Calls other than Lease still get through
// after Close as long as another instance has the connection: the requests of a
// config that has ended.
func (n *NATS) opened(ctx context.Context) (*store, context.Context, context.CancelFunc, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.store == nil || n.store.open.Err() != nil {
		return nil, nil, nil, caddymodule.ErrOutboxClosed
	}
	if err := ctx.Err(); err != nil {
		return nil, nil, nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	return n.store, ctx, cancel, nil
}

// reached is opened for whoever looks, and is told soon that NATS does not answer.
func (n *NATS) reached(ctx context.Context) (*store, context.Context, context.CancelFunc, error) {
	s, within, cancel, err := n.opened(ctx)
	if err != nil {
		return nil, nil, nil, err
	}
	if err := s.reach(within); err != nil {
		cancel()
		return nil, nil, nil, err
	}
	return s, within, cancel, nil
}

// Put stores an event that is not known yet. It is durable when most of the
// servers that keep the stream have it.
func (n *NATS) Put(ctx context.Context, event *caddymodule.Event) error {
	s, ctx, cancel, err := n.opened(ctx)
	if err != nil {
		return err
	}
	defer cancel()
	if length := len(s.stream.event(event)); length > longestSubject {
		return fmt.Errorf("the merchant's name is too long for NATS: the event's subject has %d bytes, of %d", length, longestSubject)
	}
	if err := s.checkRoom(ctx, event); err != nil {
		return err
	}
	if event.State == caddymodule.Dead { // of an import; the letter of one that is known stays as it is
		if _, _, err := s.get(ctx, idToken(event.ID)); !errors.Is(err, caddymodule.ErrNoEvent) {
			return err
		}
	}
	stored := *event
	stored.Due = s.clock.served(event.Due)
	err = s.move(ctx, &record{Event: event}, &stored, time.Duration(n.Keep))
	if errors.Is(err, errChanged) {
		return nil
	}
	return err
}

// longestSubject is in bytes: the server takes lines of 4096.
const longestSubject = 2048

// Lease takes waiting events that are due, and waits until there are any.
func (n *NATS) Lease(ctx context.Context, queue caddymodule.Queue, limit int, term time.Duration) ([]*caddymodule.Lease, error) {
	n.mu.Lock()
	s, open := n.store, n.open
	n.mu.Unlock()
	if s == nil || open.Err() != nil {
		return nil, caddymodule.ErrOutboxClosed
	}
	within, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(open, cancel)()
	taken, err := s.lease(within, queue, limit, term)
	if len(taken) == 0 {
		switch {
		case open.Err() != nil:
			return nil, caddymodule.ErrOutboxClosed
		case ctx.Err() != nil:
			return nil, ctx.Err()
		default:
			return nil, err
		}
	}
	if !n.hold(taken) {
		s.release(taken, tidyTimeout)
		return nil, caddymodule.ErrOutboxClosed
	}
	var leases []*caddymodule.Lease
	for _, l := range taken {
		leases = append(leases, &caddymodule.Lease{Event: l.record.Event, Token: l})
	}
	return leases, nil
}

// hold notes leases, to be given back by Close, unless that has come before.
func (n *NATS) hold(taken []*lease) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.open.Err() != nil {
		return false
	}
	now := n.store.clock.now()
	for l := range n.held {
		if l.record.Leased.Before(now) {
			delete(n.held, l) // given to others anyhow
		}
	}
	for _, l := range taken {
		n.held[l] = struct{}{}
	}
	return true
}

// Settle stores a leased event as its holder has left it.
func (n *NATS) Settle(ctx context.Context, l *caddymodule.Lease) error {
	held, ok := l.Token.(*lease)
	if !ok {
		return caddymodule.ErrLeaseLost
	}
	s, ctx, cancel, err := n.opened(ctx)
	if err != nil {
		return err
	}
	defer cancel()
	after := *l.Event
	after.Due = s.clock.served(after.Due)
	err = s.move(ctx, &record{Event: held.waiting, seq: held.record.seq}, &after, time.Duration(n.Keep))
	if errors.Is(err, errChanged) {
		err = caddymodule.ErrLeaseLost
	}
	if err == nil || errors.Is(err, caddymodule.ErrLeaseLost) {
		n.mu.Lock()
		delete(n.held, held)
		n.mu.Unlock()
	}
	return err
}

// Get returns an event.
func (n *NATS) Get(ctx context.Context, id string) (*caddymodule.Event, error) {
	s, ctx, cancel, err := n.reached(ctx)
	if err != nil {
		return nil, err
	}
	defer cancel()
	r, _, err := s.get(ctx, idToken(id))
	if err != nil {
		return nil, err
	}
	return r.Event, nil
}

// List returns events in the order of their IDs.
func (n *NATS) List(ctx context.Context, filter caddymodule.Filter, after string, limit int) ([]*caddymodule.Event, string, error) {
	s, ctx, cancel, err := n.reached(ctx)
	if err != nil {
		return nil, "", err
	}
	defer cancel()
	return s.list(ctx, filter, after, limit)
}

// Count returns how many events there are.
func (n *NATS) Count(ctx context.Context) ([]caddymodule.Count, error) {
	s, ctx, cancel, err := n.opened(ctx)
	if err != nil {
		return nil, err
	}
	defer cancel()
	return s.count(ctx)
}

// Replay has a dead event handed over again, and takes its letter away.
func (n *NATS) Replay(ctx context.Context, id string) error {
	return n.change(ctx, id, func(r *record) (*caddymodule.Event, error) {
		switch {
		case r.State != caddymodule.Dead:
			return nil, caddymodule.ErrWrongState
		case r.Payload == nil:
			return nil, fmt.Errorf("replaying %s: its letter is gone from the stream %s, so it can only be dropped", id, n.stream.letters())
		default:
			return r.Replayed(n.store.clock.now()), nil
		}
	})
}

// Drop takes an event out of the way.
func (n *NATS) Drop(ctx context.Context, id, reason string) error {
	return n.change(ctx, id, func(r *record) (*caddymodule.Event, error) {
		if r.State != caddymodule.Waiting && r.State != caddymodule.Dead {
			return nil, caddymodule.ErrWrongState
		}
		return r.Dropped(reason, time.Now()), nil
	})
}

// change changes an event as an operator wants, however often it changes
// meanwhile.
func (n *NATS) change(ctx context.Context, id string, change func(*record) (*caddymodule.Event, error)) error {
	s, ctx, cancel, err := n.reached(ctx)
	if err != nil {
		return err
	}
	defer cancel()
	for {
		before, letter, err := s.get(ctx, idToken(id))
		if err != nil {
			return err
		}
		after, err := change(before)
		if err != nil {
			return err
		}
		switch err := s.move(ctx, before, after, time.Duration(n.Keep)); {
		case errors.Is(err, errChanged):
			continue
		case err != nil:
			return err
		}
		if letter != 0 {
			s.tidy(ctx, s.letters, letter)
		}
		return nil
	}
}
