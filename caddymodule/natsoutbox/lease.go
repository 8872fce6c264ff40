package natsoutbox

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"go.uber.org/zap"

	"github.com/windsome/caddy-wepay/caddymodule"
)

// lease is what a holder knows its lease by: the message that says so. Whatever
// else happens to the event comes after that message, and the lease is lost.
type lease struct {
	record  *record
	waiting *caddymodule.Event // as it was before
}

const (
	// ackWait is how long a node may take to lease what it was given, before it
	// is given to another. A lease itself lasts as long as its message says.
	ackWait = 5 * time.Second

	// pullWait is how long to ask for what is not there yet, before asking again:
	// a server that is lost forgets who asks.
	pullWait = 5 * time.Second

	// leastPull is how long to ask when the caller's time ends sooner: of a pull
	// that ends as soon as it begins the server may send what nobody takes.
	leastPull = time.Second

	// leaseTimeout bounds how long it may take to lease what was pulled, also
	// when the caller has left: a lease that nobody knows of holds its event up.
	leaseTimeout = 3 * time.Second

	// leaveTimeout bounds it once the caller has left, who may be waited for.
	leaveTimeout = 500 * time.Millisecond

	// consumerKeep is how long after the last pull a queue's consumer is kept:
	// merchants come and go, and each consumer costs the servers something.
	consumerKeep = 24 * time.Hour

	// damagedWait is how long a message that cannot be read is passed over before
	// it is tried, and told of, again.
	damagedWait = time.Hour
)

// The stream gives what waits in a queue to whichever node asks next, by a
// consumer of the queue's that all nodes share. It is no more than the alarm: a
// node that is given an event says in the stream that it leases it, and who is
// given one that is leased, or not due yet, has it come again when it is. So
// nothing is lost with the consumer, and no two nodes hold an event whatever it
// does. An event that it does not give out is found by sweep.
func (s *store) consumer(ctx context.Context, q caddymodule.Queue) (jetstream.Consumer, error) {
	s.mu.Lock()
	consumer := s.consumers[q]
	s.mu.Unlock()
	if consumer != nil {
		return consumer, nil
	}
	consumer, err := s.events.CreateOrUpdateConsumer(ctx, jetstream.ConsumerConfig{
		Durable:           s.stream.consumer(q),
		Description:       "caddy-wepay: events that wait to be handed over",
		FilterSubject:     s.stream.waiting(q),
		DeliverPolicy:     jetstream.DeliverAllPolicy,
		AckPolicy:         jetstream.AckExplicitPolicy,
		AckWait:           ackWait,
		MaxDeliver:        -1,
		MaxAckPending:     -1, // all that are not due yet are pending
		InactiveThreshold: consumerKeep,
	})
	if err != nil {
		return nil, fmt.Errorf("making the consumer %s of the stream %s (where it exists, it may be removed: nothing is lost with it): %w%s",
			s.stream.consumer(q), s.stream, err, advice(err))
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.consumers[q] = consumer
	return consumer, nil
}

func (s *store) forgetConsumer(q caddymodule.Queue) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.consumers, q)
}

// lease leases up to limit events of a queue that are due, and waits until there
// is one.
func (s *store) lease(ctx context.Context, q caddymodule.Queue, limit int, term time.Duration) ([]*lease, error) {
	for {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		var consumer jetstream.Consumer
		err := s.retry(ctx, func(ctx context.Context) (err error) {
			consumer, err = s.consumer(ctx, q)
			return err
		})
		if err != nil {
			return nil, err
		}
		if leases := s.sweep(ctx, q, limit, term); len(leases) > 0 {
			return leases, nil
		}
		msgs, err := s.pull(ctx, consumer, limit)
		if err != nil {
			s.forgetConsumer(q) // it may be gone
			if err := s.await(ctx, err); err != nil {
				return nil, err
			}
			continue
		}
		if leases, err := s.take(ctx, msgs, term); len(leases) > 0 || err != nil {
			return leases, err
		}
	}
}

// await waits before a pull that failed is tried again, or says why it is not.
func (s *store) await(ctx context.Context, err error) error {
	if !isTransient(err) && !errors.Is(err, jetstream.ErrConsumerDeleted) && ctx.Err() == nil {
		return fmt.Errorf("pulling from the stream %s: %w", s.stream, err)
	}
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(pause):
		return nil
	}
}

// pull gets what is there, up to limit messages, or waits for one.
func (s *store) pull(ctx context.Context, consumer jetstream.Consumer, limit int) ([]jetstream.Msg, error) {
	msgs, err := s.collect(ctx, func() {}, func() (jetstream.MessageBatch, error) { return consumer.FetchNoWait(limit) })
	if len(msgs) > 0 || err != nil {
		return msgs, err
	}
	wait := pullWait
	if end, limited := ctx.Deadline(); limited {
		wait = min(wait, max(time.Until(end), leastPull))
	}
	// Not of the caller's context: see collect.
	pulling, cancel := context.WithTimeout(s.open, wait)
	return s.collect(ctx, cancel, func() (jetstream.MessageBatch, error) {
		return consumer.Fetch(1, jetstream.FetchContext(pulling))
	})
}

// collect returns what a pull brings. The pull goes on when the caller leaves, so
// that what comes too late is given back and does not wait for a node that has
// forgotten it; the store ends only after that. Release is called at the pull's
// end.
func (s *store) collect(ctx context.Context, release func(), fetch func() (jetstream.MessageBatch, error)) ([]jetstream.Msg, error) {
	if !s.beginDraining() {
		release()
		return nil, caddymodule.ErrOutboxClosed
	}
	done := func() {
		release()
		s.draining.Done()
	}
	if !s.nc.IsConnected() { // the client would keep what it has begun
		done()
		return nil, nats.ErrDisconnected
	}
	batch, err := fetch()
	if err != nil {
		done()
		return nil, err
	}
	msgs, err := s.receive(ctx, batch)
	if ctx.Err() == nil {
		done()
		return msgs, err
	}
	go func() {
		defer done()
		giveBack(batch)
	}()
	return msgs, err
}

// receive returns what a pull brings. Its end is no error.
func (s *store) receive(ctx context.Context, batch jetstream.MessageBatch) (msgs []jetstream.Msg, err error) {
	for {
		select {
		case msg, more := <-batch.Messages():
			if more {
				msgs = append(msgs, msg)
				continue
			}
			if err := batch.Error(); err != nil && !errors.Is(err, context.DeadlineExceeded) && !errors.Is(err, context.Canceled) {
				return msgs, err
			}
			return msgs, nil
		case <-ctx.Done():
			if len(msgs) > 0 {
				return msgs, nil
			}
			return nil, ctx.Err()
		}
	}
}

// giveBack has what a pull brings given to others.
func giveBack(batch jetstream.MessageBatch) {
	for msg := range batch.Messages() {
		_ = msg.Nak() // else it is given to another after ackWait
	}
}

// whileLeasing returns a context for what is to be leased when the caller leaves
// just then. NATS has only a moment for that: what it does not say is found out,
// and taken back, without the caller.
func whileLeasing(ctx context.Context) (context.Context, context.CancelFunc) {
	leasing, cancel := context.WithTimeout(context.WithoutCancel(ctx), leaseTimeout)
	stop := context.AfterFunc(ctx, func() { time.AfterFunc(leaveTimeout, cancel) })
	return leasing, func() {
		stop()
		cancel()
	}
}

// take leases those of the messages that are free, those due first before others.
func (s *store) take(ctx context.Context, msgs []jetstream.Msg, term time.Duration) ([]*lease, error) {
	ctx, cancel := whileLeasing(ctx)
	defer cancel()
	taken, failed := make([]*lease, len(msgs)), make([]error, len(msgs))
	var writing sync.WaitGroup
	for i, msg := range msgs {
		writing.Go(func() { taken[i], failed[i] = s.takeOne(ctx, msg, term) })
	}
	writing.Wait()
	taken = slices.DeleteFunc(taken, func(l *lease) bool { return l == nil })
	failed = slices.DeleteFunc(failed, func(err error) bool { return err == nil })
	if len(failed) > 0 { // all by the same, as a rule
		err := fmt.Errorf("leasing %d of %d events: %w", len(failed), len(msgs), failed[0])
		if len(taken) == 0 {
			return nil, err
		}
		s.logger.Error("leasing events failed", zap.Error(err))
	}
	slices.SortStableFunc(taken, func(a, b *lease) int { return a.waiting.Due.Compare(b.waiting.Due) })
	return taken, nil
}

// takeOne leases the event of a message, if that is free and the last word about
// it. The acknowledgements need not arrive: the message comes again, and is
// found to be settled.
func (s *store) takeOne(ctx context.Context, msg jetstream.Msg, term time.Duration) (*lease, error) {
	given, err := s.read(msg)
	if err != nil {
		s.logger.Error("a message of the outbox is damaged and stays there", zap.String("subject", msg.Subject()), zap.Error(err))
		_ = msg.NakWithDelay(damagedWait)
		return nil, nil
	}
	now := s.clock.now()
	if wait := given.free().Sub(now); wait > 0 {
		_ = msg.NakWithDelay(wait + time.Millisecond)
		return nil, nil
	}
	l, err := s.claim(ctx, given, now.Add(term))
	switch {
	case errors.Is(err, errChanged):
		s.discard(ctx, given)
		_ = msg.Ack()
		return nil, nil
	case err != nil:
		_ = msg.NakWithDelay(attemptTimeout)
		return nil, err
	}
	_ = msg.Ack()
	return l, nil
}

// claim leases an event that is free until a time, if it is still as given.
func (s *store) claim(ctx context.Context, given *record, until time.Time) (*lease, error) {
	r := &record{Event: given.Event, Leased: until}
	switch err := s.write(ctx, r, given.seq, 0); {
	case errors.Is(err, errChanged):
		return nil, err
	case err != nil:
		r.seq = given.seq
		s.takeBack(&lease{record: r, waiting: given.Event})
		return nil, err
	}
	// What the holder does with the event is the holder's.
	waiting := *given.Event
	waiting.Payload, waiting.Trace = slices.Clone(waiting.Payload), waiting.Trace.Clone()
	return &lease{record: r, waiting: &waiting}, nil
}

// takeBack gives back a lease of which NATS did not say whether it has begun: as
// a leader is lost, say. Nobody holds it, and it would hold its event up.
func (s *store) takeBack(l *lease) {
	if !s.beginDraining() {
		return
	}
	go func() {
		defer s.draining.Done()
		ctx, cancel := context.WithDeadline(s.open, l.record.Leased)
		defer cancel()
		// Where it has not begun it cannot any more, once this is written.
		err := s.write(ctx, &record{Event: l.waiting}, l.record.seq, 0)
		if !errors.Is(err, errChanged) {
			return
		}
		var last *record
		err = s.retry(ctx, func(ctx context.Context) (err error) {
			last, err = s.last(ctx, idToken(l.waiting.ID))
			return err
		})
		if err == nil && last.Mark == l.record.Mark {
			l.record.seq = last.seq
			s.release([]*lease{l}, tidyTimeout)
		}
	}()
}

// release has leases end before their time. What cannot be told NATS now ends
// with its term.
func (s *store) release(leases []*lease, timeout time.Duration) {
	ctx, cancel := context.WithTimeout(s.open, timeout)
	defer cancel()
	var writing sync.WaitGroup
	for _, l := range leases {
		writing.Go(func() {
			err := s.write(ctx, &record{Event: l.waiting}, l.record.seq, 0)
			if err != nil && !errors.Is(err, errChanged) {
				s.logger.Warn("giving back an event failed: it is handed over when its lease has run out",
					zap.String("event", l.waiting.ID), zap.Time("until", l.record.Leased), zap.Error(err))
			}
		})
	}
	writing.Wait()
}

func (s *store) read(msg jetstream.Msg) (*record, error) {
	meta, err := msg.Metadata()
	if err != nil {
		return nil, err
	}
	return s.decode(msg.Subject(), msg.Data(), meta.Sequence.Stream)
}

// discard removes a message that is not the last about its event: who wrote the
// last may have got no further.
func (s *store) discard(ctx context.Context, r *record) {
	var last *record
	err := s.retry(ctx, func(ctx context.Context) (err error) {
		last, err = s.last(ctx, idToken(r.ID))
		return err
	})
	if err == nil && last.seq > r.seq && last.State != caddymodule.Waiting {
		s.tidy(ctx, s.events, r.seq)
	}
}
