package natsoutbox

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"go.uber.org/zap"
	"golang.org/x/sync/errgroup"

	"github.com/windsome/caddy-wepay/caddymodule"
)

// subjects returns the subjects of a pattern that have a message: the leader
// tells them without their messages.
func (s *store) subjects(ctx context.Context, pattern string) ([]string, error) {
	var info *jetstream.StreamInfo
	err := s.retry(ctx, func(context.Context) (err error) {
		ctx, cancel := context.WithTimeout(ctx, subjectsTimeout)
		defer cancel()
		info, err = s.events.Info(ctx, jetstream.WithSubjectFilter(pattern))
		if err != nil {
			return fmt.Errorf("listing the stream %s: %w", s.stream, err)
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return slices.Collect(maps.Keys(info.State.Subjects)), nil
}

// subjectsTimeout is how long NATS may take to tell the subjects before it is
// asked once more: where there are many they come in several answers.
const subjectsTimeout = 20 * time.Second

// readAtOnce is how many events are read at the same time.
const readAtOnce = 32

// paging is the IDs of those who page through many events, so that the subjects
// are not told for each page.
type paging struct {
	turn
	pattern string
	ids     []string // sorted
	until   time.Time
}

// pagingKeep is how long after a page the next is of the same listing.
const pagingKeep = time.Minute

// ids returns the tokens of the IDs that a pattern holds, after one, sorted.
func (s *store) ids(ctx context.Context, pattern, after string) ([]string, error) {
	p := &s.paging
	if err := p.take(ctx); err != nil {
		return nil, err
	}
	defer p.end()
	if after == "" || p.pattern != pattern || time.Now().After(p.until) {
		subjects, err := s.subjects(ctx, pattern)
		if err != nil {
			return nil, err
		}
		ids := make([]string, 0, len(subjects))
		for _, subject := range subjects {
			if _, id, _, ok := s.stream.parse(subject); ok {
				ids = append(ids, id)
			}
		}
		slices.Sort(ids)
		p.pattern, p.ids = pattern, slices.Compact(ids) // one that just goes from state to state has two
	}
	p.until = time.Now().Add(pagingKeep)
	begin, found := slices.BinarySearch(p.ids, after)
	if found {
		begin++
	}
	return p.ids[begin:], nil
}

// list returns a page of events in the order of their IDs' tokens, which no
// event changes whatever becomes of it. Messages that are no events are told of
// with the page that they would be on.
func (s *store) list(ctx context.Context, filter caddymodule.Filter, after string, limit int) (events []*caddymodule.Event, next string, err error) {
	if !isToken(after) {
		return nil, "", fmt.Errorf("after %q: %w", after, caddymodule.ErrNoPage)
	}
	ids, err := s.ids(ctx, s.stream.filter(filter), after)
	if err != nil {
		return nil, "", err
	}
	var damaged caddymodule.Damaged
	since := 0 // damaged ones that come after the last event
	told := func() error {
		if damaged.Events > 0 {
			return damaged
		}
		return nil
	}
	for chunk := range slices.Chunk(ids, min(limit+1, 1024)) {
		records, err := s.getAll(ctx, chunk)
		if err != nil {
			return nil, "", err
		}
		for i, r := range records {
			switch {
			case r == nil: // it is gone meanwhile
			case r.Event == nil:
				since++
			case !filter.Match(r.Event): // it has changed meanwhile
			case len(events) == limit:
				return events, next, told()
			default:
				events, next = append(events, r.Event), chunk[i]
				damaged.Events, since = damaged.Events+since, 0
			}
		}
	}
	damaged.Events += since
	return events, "", told()
}

// getAll reads events by their IDs' tokens. Those that are gone are nil, and
// those that are damaged have no event.
func (s *store) getAll(ctx context.Context, ids []string) ([]*record, error) {
	records := make([]*record, len(ids))
	reading, ctx := errgroup.WithContext(ctx)
	reading.SetLimit(readAtOnce)
	for i, id := range ids {
		reading.Go(func() error {
			r, _, err := s.get(ctx, id)
			switch {
			case errors.Is(err, caddymodule.ErrNoEvent):
				return nil
			case errors.Is(err, errDamaged):
				s.logger.Error("a message of the outbox is damaged and left out of what is listed", zap.String("id", id), zap.Error(err))
				records[i] = new(record)
				return nil
			}
			records[i] = r
			return err
		})
	}
	return records, reading.Wait()
}
