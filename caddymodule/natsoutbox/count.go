package natsoutbox

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/windsome/caddy-wepay/caddymodule"
)

// tally is the last count of very many events.
type tally struct {
	turn

	mu     sync.Mutex
	at     time.Time // zero: none
	counts []caddymodule.Count
}

// What is counted is counted again, unless there were so many events that to
// count them for each look at the metrics would be a burden: then the count is
// good for a minute. Who cannot wait for the next may have it for longer.
const (
	tallyFrom  = 100_000
	tallyKeep  = time.Minute
	tallyStale = 5 * time.Minute

	// countTimeout bounds how long a count may take that goes on for the next who
	// asks.
	countTimeout = time.Minute
)

// kept returns the last count if it is not older than that.
func (t *tally) kept(age time.Duration) (counts []caddymodule.Count, ok bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	return slices.Clone(t.counts), !t.at.IsZero() && time.Since(t.at) < age
}

func (t *tally) keep(counts []caddymodule.Count) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.at, t.counts = time.Now(), slices.Clone(counts)
}

// count returns how many events there are. A count that takes longer than the
// caller has goes on, for whoever asks next.
func (s *store) count(ctx context.Context) ([]caddymodule.Count, error) {
	if err := s.reach(ctx); err != nil {
		return nil, err
	}
	type result struct {
		counts []caddymodule.Count
		err    error
	}
	counted := make(chan result, 1)
	if !s.beginDraining() {
		return nil, caddymodule.ErrOutboxClosed
	}
	go func() {
		defer s.draining.Done()
		counts, err := s.countInTurn()
		counted <- result{counts, err}
	}()
	select {
	case r := <-counted:
		return r.counts, r.err
	case <-ctx.Done():
		if counts, ok := s.tally.kept(tallyStale); ok {
			return counts, nil
		}
		return nil, fmt.Errorf("counting the events of the stream %s: %w", s.stream, ctx.Err())
	}
}

func (s *store) countInTurn() ([]caddymodule.Count, error) {
	ctx, cancel := context.WithTimeout(s.open, countTimeout)
	defer cancel()
	err := s.tally.take(ctx)
	if s.open.Err() != nil {
		err = caddymodule.ErrOutboxClosed
	}
	if err != nil {
		return nil, err
	}
	defer s.tally.end()
	if counts, ok := s.tally.kept(tallyKeep); ok {
		return counts, nil
	}
	subjects, err := s.subjects(ctx, s.stream.eventSubjects())
	if err != nil {
		return nil, err
	}
	counts, err := s.countSubjects(ctx, subjects)
	if err == nil && len(subjects) >= tallyFrom {
		s.tally.keep(counts)
	}
	return counts, err
}

// countSubjects returns how many events there are by what the subjects say.
func (s *store) countSubjects(ctx context.Context, subjects []string) (counts []caddymodule.Count, err error) {
	sums := make(map[caddymodule.Count]int)
	seen := make(map[string]caddymodule.Count, len(subjects))
	for _, subject := range subjects {
		state, id, merchant, ok := s.stream.parse(subject)
		if !ok {
			continue
		}
		is := caddymodule.Count{Merchant: merchant, State: state}
		if other, twice := seen[id]; twice {
			sums[other]--
			if is, ok, err = s.settleTwice(ctx, id); err != nil {
				return nil, err
			} else if !ok {
				continue
			}
		}
		seen[id] = is
		sums[is]++
	}
	for is, n := range sums {
		if is.Events = n; n > 0 {
			counts = append(counts, is)
		}
	}
	return counts, nil
}

// settleTwice finds out what has become of an event that is in two states: it
// is going from one to the other, or who moved it got no further than to say so.
// What is left of the earlier is removed: it would count again when the later is
// forgotten.
func (s *store) settleTwice(ctx context.Context, id string) (is caddymodule.Count, ok bool, err error) {
	r, _, err := s.get(ctx, id)
	if errors.Is(err, caddymodule.ErrNoEvent) {
		return is, false, nil
	}
	if err != nil {
		return is, false, err
	}
	subjects, err := s.subjects(ctx, s.stream.anyState(id))
	if err != nil {
		return is, false, err
	}
	for _, subject := range subjects {
		msg, err := s.events.GetLastMsgForSubject(ctx, subject)
		if err == nil && msg.Sequence < r.seq {
			s.tidy(ctx, s.events, msg.Sequence)
		}
	}
	return caddymodule.Count{Merchant: r.Merchant, State: r.State}, true, nil
}
