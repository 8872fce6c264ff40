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
	"github.com/nats-io/nuid"
	"go.uber.org/zap"

	"github.com/windsome/caddy-wepay/caddymodule"
)

// store is a stream that this process is connected to.
//
// The last message about an event says how it is. Each message names the one
// that it follows, and the stream takes it only if that is still the last, so
// that of several who change an event at once one does, whatever servers they
// are connected to. What came before is removed afterwards: within a state by
// the stream, since it keeps one message of a subject, and else by who wrote the
// new one, or by whoever finds it.
type store struct {
	stream names
	hosts  string // of the servers
	nc     *nats.Conn
	js     jetstream.JetStream
	logger *zap.Logger

	open     context.Context // ends with Destruct
	close    context.CancelFunc
	closing  sync.Mutex // held while the store is closed, or draining begins
	draining sync.WaitGroup

	mu        sync.Mutex
	events    jetstream.Stream // nil: not prepared
	letters   jetstream.Stream
	used      identity // of the stream
	consumers map[caddymodule.Queue]jetstream.Consumer
	swept     map[caddymodule.Queue]sweeping

	sweepEvery, overlooked time.Duration

	clock  clock
	room   room
	tally  tally
	paging paging
}

const (
	// attemptTimeout is how long NATS may take to answer before it is asked once
	// more: the one that was to answer may be gone.
	attemptTimeout = time.Second

	// pause is how long to wait before that; it doubles up to longestPause.
	pause        = 50 * time.Millisecond
	longestPause = 400 * time.Millisecond

	// tidyTimeout bounds what is done after a call has got what it wanted.
	tidyTimeout = 2 * time.Second
)

// errChanged says that an event is not as its writer thought.
var errChanged = errors.New("the event has changed meanwhile")

// errUnsettled says that another's writing about the event is on its way.
var errUnsettled = errors.New("the event is just being written by another")

func newStore(ctx context.Context, server server, stream names, logger *zap.Logger) (*store, error) {
	nc, err := server.connect(ctx, logger)
	if err != nil {
		return nil, err
	}
	if err := checkVersion(nc.ConnectedServerVersion()); err != nil {
		nc.Close()
		return nil, fmt.Errorf("NATS at %s: %w", server.hosts, err)
	}
	js, err := jetstream.New(nc)
	if err != nil {
		nc.Close()
		return nil, fmt.Errorf("NATS at %s: %w", server.hosts, err)
	}
	s := &store{
		stream: stream, hosts: server.hosts, nc: nc, js: js, logger: logger, consumers: make(map[caddymodule.Queue]jetstream.Consumer),
		swept: make(map[caddymodule.Queue]sweeping), sweepEvery: sweepEvery, overlooked: overlooked,
		clock: clock{local: time.Now, logger: logger},
		room:  room{turn: newTurn()}, tally: tally{turn: newTurn()}, paging: paging{turn: newTurn()},
	}
	s.open, s.close = context.WithCancel(context.Background())
	return s, nil
}

// beginDraining counts a pull that has to be drained before the connection ends,
// unless the store is closed already.
func (s *store) beginDraining() bool {
	s.closing.Lock()
	defer s.closing.Unlock()
	if s.open.Err() != nil {
		return false
	}
	s.draining.Add(1)
	return true
}

// Destruct ends the connection, with what is still on its way where NATS does
// not answer.
func (s *store) Destruct() error {
	s.reportLeft()
	s.closing.Lock()
	s.close()
	s.closing.Unlock()
	drained := make(chan struct{})
	go func() {
		s.draining.Wait() // nothing of it outlives the connection for long
		close(drained)
	}()
	select {
	case <-drained:
	case <-time.After(drainTimeout):
	}
	s.nc.Close()
	return nil
}

// transient are errors after which the same may well work: they come when a
// server or a leader is lost.
var transient = []error{
	errUnsettled, context.DeadlineExceeded, nats.ErrTimeout, nats.ErrNoResponders, nats.ErrReconnectBufExceeded,
	nats.ErrConnectionReconnecting, nats.ErrDisconnected, nats.ErrNoServers, jetstream.ErrNoStreamResponse,
	jetstream.ErrNoHeartbeat, jetstream.ErrConsumerLeadershipChanged, jetstream.ErrServerShutdown,
}

// The server's codes of errors that have no name in the client.
const (
	errCodeNoPeers     = 10005 // too few servers at the moment
	errCodeUnavailable = 10008 // no leader at the moment
	errCodeResources   = 10023 // the servers, or the account, are full
	errCodeStorage     = 10047 // the same
	errCodeOverlap     = 10065 // another stream has the subjects
	errCodeStoreFailed = 10077 // among others: the stream is full
	errCodeInProcess   = 10158 // the same Nats-Msg-Id is on its way
)

func isTransient(err error) bool {
	var api *jetstream.APIError
	if errors.As(err, &api) {
		return api.ErrorCode == errCodeUnavailable || api.ErrorCode == errCodeNoPeers
	}
	return slices.ContainsFunc(transient, func(known error) bool { return errors.Is(err, known) })
}

// isConflict reports whether the stream has taken something else before.
func isConflict(err error) bool {
	var api *jetstream.APIError
	return errors.As(err, &api) && slices.Contains([]jetstream.ErrorCode{
		jetstream.JSErrCodeStreamWrongLastSequence, jetstream.JSErrCodeStreamWrongLastSequenceConstant, errCodeInProcess,
	}, api.ErrorCode)
}

// retry asks NATS for something until there is an answer, or the context ends.
func (s *store) retry(ctx context.Context, ask func(context.Context) error) error {
	for wait := pause; ; wait = min(2*wait, longestPause) {
		if s.open.Err() != nil {
			return caddymodule.ErrOutboxClosed
		}
		if err := ctx.Err(); err != nil {
			return err
		}
		attempt, cancel := context.WithTimeout(ctx, attemptTimeout)
		err := ask(attempt)
		cancel()
		switch {
		case err == nil:
			return nil
		case errors.Is(err, nats.ErrConnectionClosed):
			return caddymodule.ErrOutboxClosed
		case !isTransient(err) && ctx.Err() == nil:
			return err
		}
		select {
		case <-s.open.Done():
			return caddymodule.ErrOutboxClosed
		case <-ctx.Done():
			return fmt.Errorf("%w; NATS: %w", ctx.Err(), err)
		case <-time.After(wait):
		}
	}
}

// last returns how the event of an ID's token is.
func (s *store) last(ctx context.Context, id string) (r *record, err error) {
	msg, err := s.events.GetLastMsgForSubject(ctx, s.stream.anyState(id))
	if errors.Is(err, jetstream.ErrMsgNotFound) {
		return &record{}, caddymodule.ErrNoEvent
	}
	if err != nil {
		return nil, fmt.Errorf("reading the stream %s: %w", s.stream, err)
	}
	return s.decode(msg.Subject, msg.Data, msg.Sequence)
}

// decode reads what a message of the stream says about the event that its subject
// names.
func (s *store) decode(subject string, data []byte, seq uint64) (*record, error) {
	r, err := decode(data, seq)
	if err == nil && s.stream.event(r.Event) != subject {
		return nil, fmt.Errorf("%w: number %d of the stream is about another event than its subject says", errDamaged, seq)
	}
	return r, err
}

// get returns how the event of an ID's token is, with its payload.
func (s *store) get(ctx context.Context, id string) (r *record, letter uint64, err error) {
	err = s.retry(ctx, func(ctx context.Context) error {
		if r, err = s.last(ctx, id); err != nil || r.State != caddymodule.Dead {
			return err
		}
		msg, err := s.letters.GetLastMsgForSubject(ctx, s.stream.letter(r.Event))
		if errors.Is(err, jetstream.ErrMsgNotFound) {
			return s.stillDead(ctx, r)
		}
		if err != nil {
			return fmt.Errorf("reading the stream %s: %w", s.stream.letters(), err)
		}
		kept, err := decode(msg.Data, msg.Sequence)
		if err == nil {
			r.Payload, letter = kept.Payload, kept.seq
		}
		return err
	})
	return r, letter, err
}

// stillDead tells an event whose dead letter somebody has removed from one that
// is not dead any more.
func (s *store) stillDead(ctx context.Context, r *record) error {
	now, err := s.last(ctx, idToken(r.ID))
	if err == nil && now.seq != r.seq {
		return errUnsettled
	}
	return err
}

// write writes how an event is now, after the message expected, or as the first
// about it, where that is 0. It returns errChanged if another is the last.
//
// The stream looks for the ID in what it stores, and not only among those of
// its duplicate window: an event is known as long as anything is said about it,
// that is while it waits or is dead, and for `keep` after it has ended.
// Nats-Msg-Id is there for whoever looks at the messages, and answers a Put that
// is repeated with no look at the disk; it decides nothing, since the stream
// goes on to know an ID by it when the event itself was purged.
func (s *store) write(ctx context.Context, r *record, expected uint64, keep time.Duration) error {
	r.Mark = nuid.Next()
	data, err := r.encode()
	if err != nil {
		return err
	}
	id := idToken(r.ID)
	options := []jetstream.PublishOpt{
		jetstream.WithExpectLastSequenceForSubject(expected, s.stream.anyState(id)),
		jetstream.WithExpectStream(s.stream.events()),
		jetstream.WithRetryAttempts(0),
	}
	if ttl, ended := r.ended(keep); ended {
		options = append(options, jetstream.WithMsgTTL(ttl))
	}
	byID := expected == 0
	return s.retry(ctx, func(ctx context.Context) error {
		options := options
		if byID {
			options = append(slices.Clip(options), jetstream.WithMsgID(r.ID))
		}
		ack, err := s.js.PublishMsg(ctx, &nats.Msg{Subject: s.stream.event(r.Event), Data: data}, options...)
		switch {
		case err == nil && !ack.Duplicate:
			r.seq = ack.Sequence
			return nil
		case err != nil && !isConflict(err):
			return s.explain(s.stream.events(), err)
		}
		byID = false
		return s.compare(ctx, r, expected)
	})
}

// compare finds out why a message was not taken. A conflict alone does not mean
// that anything is durable: what it is in conflict with may still be on its way,
// and get lost.
func (s *store) compare(ctx context.Context, r *record, expected uint64) error {
	last, err := s.last(ctx, idToken(r.ID))
	switch {
	case err != nil && !errors.Is(err, caddymodule.ErrNoEvent):
		return err
	case last.Mark == r.Mark: // an attempt before, whose answer did not come
		r.seq = last.seq
		return nil
	case last.seq == expected:
		return errUnsettled
	default:
		return errChanged
	}
}

// explain says what to do about what the server says.
func (s *store) explain(stream string, err error) error {
	var api *jetstream.APIError
	if errors.As(err, &api) && slices.Contains([]jetstream.ErrorCode{errCodeResources, errCodeStorage, errCodeStoreFailed}, api.ErrorCode) {
		return fmt.Errorf("the stream %s takes nothing more: make room at the NATS servers, or raise the limits of the account or the stream: %w", stream, err)
	}
	return fmt.Errorf("writing to the stream %s: %w", stream, err)
}

// move writes an event as it is after a message, and removes that. What of an
// event is dead is told in the stream, and kept among the dead letters, which
// are written first: a letter counts as long as the stream says so.
func (s *store) move(ctx context.Context, before *record, after *caddymodule.Event, keep time.Duration) error {
	if after.State == caddymodule.Dead {
		if err := s.putLetter(ctx, after); err != nil {
			return err
		}
	}
	r := &record{Event: bare(after)}
	if err := s.write(ctx, r, before.seq, keep); err != nil {
		return err
	}
	if before.State != after.State {
		s.tidy(ctx, s.events, before.seq)
	}
	return nil
}

// bare returns an event as the stream says how it is: only one that waits has
// its payload there.
func bare(e *caddymodule.Event) *caddymodule.Event {
	said := *e
	if e.State != caddymodule.Waiting {
		said.Payload = nil
	}
	return &said
}

// putLetter keeps a dead letter, in the place of another of the same event.
func (s *store) putLetter(ctx context.Context, e *caddymodule.Event) error {
	data, err := (&record{Event: e, Mark: nuid.Next()}).encode()
	if err != nil {
		return err
	}
	return s.retry(ctx, func(ctx context.Context) error {
		_, err := s.js.PublishMsg(ctx, &nats.Msg{Subject: s.stream.letter(e), Data: data},
			jetstream.WithExpectStream(s.stream.letters()), jetstream.WithRetryAttempts(0))
		if err != nil {
			return s.explain(s.stream.letters(), err)
		}
		return nil
	})
}

// tidy removes a message that nothing depends on any more. If it fails, whoever
// comes across the message removes it.
func (s *store) tidy(ctx context.Context, stream jetstream.Stream, seq uint64) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), tidyTimeout)
	defer cancel()
	err := s.retry(ctx, func(ctx context.Context) error {
		err := stream.DeleteMsg(ctx, seq)
		if errors.Is(err, jetstream.ErrMsgDeleteUnsuccessful) { // it is gone already
			return nil
		}
		return err
	})
	if err != nil {
		s.logger.Debug("removing a message that counts no more failed", zap.Uint64("sequence", seq), zap.Error(err))
	}
}
