package natsoutbox

import (
	"context"
	"errors"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"go.uber.org/zap"

	"github.com/windsome/caddy-wepay/caddymodule"
)

const (
	// sweepEvery is how often a queue is swept, and sweepLength how many messages
	// are looked at then, the oldest first.
	sweepEvery  = 30 * time.Second
	sweepLength = 100

	// overlooked is how long an event is free before it is taken without having
	// been given out.
	overlooked = 30 * time.Second
)

// sweeping is how far a queue has been swept.
type sweeping struct {
	last time.Time // when it was swept
	seq  uint64    // of the last message that was looked at; 0: none of this round
}

// sweep leases up to limit events of a queue that have been free for so long that
// the consumer seems to have overlooked them: of what it gives out to nodes that
// die, or close, while the servers are busy it may forget one. (That a consumer
// ceases to deliver what the stream still has is reported of JetStream again and
// again, as in nats-server's issues 4736 and 6290.) It does nothing mostly. Where events simply wait for their turn this takes the oldest, whose
// turn it is.
func (s *store) sweep(ctx context.Context, q caddymodule.Queue, limit int, term time.Duration) (leases []*lease) {
	at, due := s.beginSweep(q)
	if !due {
		return nil
	}
	// As what was pulled is leased when the caller has left, so is this.
	ctx, cancel := whileLeasing(ctx)
	defer cancel()
	for range sweepLength {
		r, err := s.following(ctx, q, at)
		if err != nil {
			s.logger.Debug("looking for overlooked events failed", zap.Error(err))
			break
		}
		if r == nil {
			at = 0 // the next sweep begins anew
			break
		}
		at = r.seq
		if r.Event == nil || s.clock.now().Sub(r.free()) < s.overlooked {
			continue
		}
		l, err := s.claim(ctx, r, s.clock.now().Add(term))
		if err == nil {
			leases = append(leases, l)
		}
		if len(leases) == limit || err != nil && !errors.Is(err, errChanged) {
			break
		}
	}
	s.endSweep(q, at)
	return leases
}

func (s *store) beginSweep(q caddymodule.Queue) (at uint64, due bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	now, before := time.Now(), s.swept[q]
	if before.last.IsZero() { // the consumer has as long for what is there at first
		before.last = now
	}
	if due = now.Sub(before.last) >= s.sweepEvery; due {
		before.last = now
	}
	s.swept[q] = before
	return before.seq, due
}

func (s *store) endSweep(q caddymodule.Queue, at uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.swept[q] = sweeping{s.swept[q].last, at}
}

// following returns the message of a queue that follows another; nil: none does
// that is old enough to be looked at. One that cannot be read has no event.
func (s *store) following(ctx context.Context, q caddymodule.Queue, seq uint64) (*record, error) {
	msg, err := s.events.GetMsg(ctx, seq+1, jetstream.WithGetMsgSubject(s.stream.waiting(q)))
	switch {
	case errors.Is(err, jetstream.ErrMsgNotFound):
		return nil, nil
	case err != nil:
		return nil, err
	case s.clock.now().Sub(msg.Time) < s.overlooked: // those that follow are younger still
		return nil, nil
	}
	r, err := s.decode(msg.Subject, msg.Data, msg.Sequence)
	if err != nil {
		return &record{seq: msg.Sequence}, nil // takeOne tells of it
	}
	return r, nil
}
