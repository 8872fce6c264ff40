package admin

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"

	"golang.org/x/sync/errgroup"

	"github.com/windsome/caddy-wepay/caddymodule/store"
)

func serveCounts(s store.Store, w http.ResponseWriter, r *http.Request) error {
	counts, err := count(r.Context(), s)
	if err != nil {
		return err
	}
	return answer(w, map[string][]store.Count{"counts": append([]store.Count{}, counts...)})
}

func count(ctx context.Context, s store.Store) (counts []store.Count, err error) {
	err = look(ctx, func(ctx context.Context) error {
		counts, err = s.Count(ctx)
		return err
	})
	return counts, err
}

// The numbers of events on a page.
const (
	defaultPage = 100
	longestPage = 1000
)

// eventPage is a page of events.
type eventPage struct {
	Events []*store.Event `json:"events"`
	Next   string         `json:"next,omitempty"`
}

func serveEvents(s store.Store, w http.ResponseWriter, r *http.Request) error {
	filter, err := filterOf(r, "limit", "after")
	if err != nil {
		return err
	}
	limit, err := limitOf(r)
	if err != nil {
		return err
	}
	events, next, err := list(r.Context(), s, filter, r.FormValue("after"), limit)
	if err != nil {
		return err
	}
	page := eventPage{Events: []*store.Event{}, Next: next}
	for _, e := range events {
		e.Payload = nil
		page.Events = append(page.Events, e)
	}
	return answer(w, page)
}

// limitOf is how many a request wants on a page.
func limitOf(r *http.Request) (int, error) {
	text := r.FormValue("limit")
	if text == "" {
		return defaultPage, nil
	}
	limit, err := strconv.Atoi(text)
	if err != nil || limit < 1 || limit > longestPage {
		return 0, badRequest(fmt.Sprintf("limit must be 1 to %d", longestPage))
	}
	return limit, nil
}

func list(ctx context.Context, s store.Store, filter store.Filter, after string, limit int) (events []*store.Event, next string, err error) {
	err = look(ctx, func(ctx context.Context) error {
		events, next, err = s.List(ctx, filter, after, limit)
		return err
	})
	return events, next, err
}

// checkParameters refuses a request with any parameter but these.
func checkParameters(r *http.Request, names ...string) error {
	for name := range r.URL.Query() {
		if !slices.Contains(names, name) {
			return badRequest(fmt.Sprintf("there is no parameter %.64q here", name))
		}
	}
	return nil
}

func filterOf(r *http.Request, others ...string) (store.Filter, error) {
	if err := checkParameters(r, append(others, "merchant", "state", "event", "number")...); err != nil {
		return store.Filter{}, err
	}
	filter := store.Filter{Merchant: r.FormValue("merchant"), State: store.State(r.FormValue("state")), EventType: r.FormValue("event"), Number: r.FormValue("number")}
	if filter.State != "" && !slices.Contains(store.States(), filter.State) {
		return filter, badRequest("state must be waiting, delivered, dead, dropped or quarantined")
	}
	return filter, nil
}

func serveEvent(s store.Store, w http.ResponseWriter, r *http.Request) error {
	id := r.PathValue("id")
	e, err := get(r.Context(), s, id)
	if err != nil {
		return fmt.Errorf("event %s: %w", id, err)
	}
	if r.FormValue("personal") != "true" && e.Payload != nil {
		if e.Payload, err = redact(e.Payload); err != nil {
			return err
		}
	}
	return answer(w, e)
}

func get(ctx context.Context, s store.Store, id string) (e *store.Event, err error) {
	err = look(ctx, func(ctx context.Context) error {
		e, err = s.Get(ctx, id)
		return err
	})
	return e, err
}

// replayed says what state an event was in that is handed over again.
type replayed struct {
	Replayed int         `json:"replayed"`
	Was      store.State `json:"was,omitempty"`
}

func serveReplay(s store.Store, w http.ResponseWriter, r *http.Request) error {
	id := r.PathValue("id")
	was, err := s.Replay(r.Context(), id)
	if err != nil {
		return fmt.Errorf("event %s: %w", id, err)
	}
	return answer(w, replayed{1, was})
}

func serveDrop(s store.Store, w http.ResponseWriter, r *http.Request) error {
	var request struct {
		Reason string `json:"reason"`
	}
	if err := readRequest(w, r, &request); err != nil {
		return err
	}
	reason, id := strings.TrimSpace(request.Reason), r.PathValue("id")
	if reason == "" {
		return badRequest("reason is required: it is stored with the event")
	}
	if err := s.Drop(r.Context(), id, reason); err != nil {
		return notDropped(r.Context(), s, id, err)
	}
	return answer(w, map[string]int{"dropped": 1})
}

// notDropped says which event it was that could not be dropped, and what it is
// where that is why.
func notDropped(ctx context.Context, s store.Store, id string, err error) error {
	if errors.Is(err, store.ErrWrongState) {
		if e, getErr := get(ctx, s, id); getErr == nil {
			return fmt.Errorf("event %s is %s, only one that waits or is dead is dropped: %w", id, e.State, err)
		}
	}
	return fmt.Errorf("event %s: %w", id, err)
}

// mostFailures is how many events may fail before the others are not tried any
// more.
const mostFailures = 10

// serveReplayAll has all dead events handed over again, or a merchant's. One that
// cannot be does not keep the others from it.
func serveReplayAll(s store.Store, w http.ResponseWriter, r *http.Request) error {
	var request struct {
		Merchant string `json:"merchant"`
		All      bool   `json:"all"`
	}
	if err := readRequest(w, r, &request); err != nil {
		return err
	}
	if request.All == (request.Merchant != "") {
		return badRequest("needs either a merchant or all")
	}
	if err := checkMerchant(r.Context(), s, request.Merchant); err != nil {
		return err
	}
	number, err := replayDead(r.Context(), s, request.Merchant)
	if err != nil {
		return fmt.Errorf("%d events are replayed, others are not: %w", number, err)
	}
	return answer(w, replayed{Replayed: number})
}

// checkMerchant refuses a name that no event has, which is most likely
// misspelled. "" stands for all.
func checkMerchant(ctx context.Context, s store.Store, name string) error {
	counts, err := count(ctx, s)
	if err != nil {
		return err
	}
	if name != "" && !slices.ContainsFunc(counts, func(c store.Count) bool { return c.Merchant == name }) {
		return fmt.Errorf("merchant %q: %w", name, errNoMerchant)
	}
	return nil
}

// changedAtOnce is how many events are stored or replayed at the same time, so
// that they share a sync of the disk.
const changedAtOnce = 64

func replayDead(ctx context.Context, s store.Store, merchant string) (replayed int, err error) {
	var mu sync.Mutex
	var failed []error
	replay := func(id string) {
		_, err := s.Replay(ctx, id)
		mu.Lock()
		defer mu.Unlock()
		switch {
		case err == nil:
			replayed++
		case errors.Is(err, store.ErrNoEvent): // removed meanwhile
		default:
			failed = append(failed, fmt.Errorf("event %s: %w", id, err))
		}
	}
	var replays errgroup.Group
	replays.SetLimit(changedAtOnce)
	err = each(ctx, s, store.Filter{Merchant: merchant, State: store.Dead}, func(e *store.Event) error {
		replays.Go(func() error { replay(e.ID); return nil })
		mu.Lock()
		defer mu.Unlock()
		if len(failed) >= mostFailures {
			return errors.New("the others are not tried any more")
		}
		return nil
	})
	_ = replays.Wait() // what fails is in failed
	return replayed, errors.Join(append(failed, err)...)
}

// each goes through the events that a filter selects.
func each(ctx context.Context, s store.Store, filter store.Filter, do func(*store.Event) error) error {
	for after := ""; ; {
		events, next, err := list(ctx, s, filter, after, longestPage)
		if err != nil {
			return err
		}
		for _, e := range events {
			if err := do(e); err != nil {
				return err
			}
		}
		if next == "" {
			return nil
		}
		after = next
	}
}
