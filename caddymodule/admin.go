package caddymodule

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/caddyserver/caddy/v2"
	strictjson "github.com/go-json-experiment/json"
	"golang.org/x/sync/errgroup"
)

func init() {
	caddy.RegisterModule(&adminAPI{})
}

// adminAPI is the operators' view of the outbox, under /wepay/outbox of Caddy's
// admin endpoint.
type adminAPI struct {
	mux *http.ServeMux
}

// CaddyModule returns the Caddy module information.
func (*adminAPI) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{
		ID:  "admin.api.wepay",
		New: func() caddy.Module { return new(adminAPI) },
	}
}

// Provision sets up the routes, and the metrics at the admin endpoint. The app
// is looked for when it is asked for: the admin endpoint is set up before the
// apps, and stays when they are refused.
func (a *adminAPI) Provision(ctx caddy.Context) error {
	a.mux = outboxRoutes(liveOutbox)
	return registerMetrics(ctx)
}

// Routes returns the one route that leads to all of them.
func (a *adminAPI) Routes() []caddy.AdminRoute {
	return []caddy.AdminRoute{
		{Pattern: "/wepay/outbox", Handler: caddy.AdminHandlerFunc(a.serve)},
		{Pattern: "/wepay/outbox/", Handler: caddy.AdminHandlerFunc(a.serve)},
	}
}

func (a *adminAPI) serve(w http.ResponseWriter, r *http.Request) error {
	a.mux.ServeHTTP(w, r)
	return nil
}

// Errors of the operators' view.
var (
	// errNoOutbox says that there is nothing to look into.
	errNoOutbox = errors.New("the config has no outbox: see the option outbox of the global option wepay")

	// errNoMerchant says that there is nothing of a merchant.
	errNoMerchant = errors.New("the outbox has no events of it")
)

// liveOutbox returns the outbox of the config that is live.
func liveOutbox() (Outbox, error) {
	app, err := liveApp()
	if errors.Is(err, caddy.ErrNotConfigured) {
		return nil, errNoOutbox
	}
	if err != nil {
		return nil, err
	}
	if app.outbox == nil {
		return nil, errNoOutbox
	}
	return app.outbox, nil
}

// outboxRoutes serves an outbox, wherever it is found.
func outboxRoutes(find func() (Outbox, error)) *http.ServeMux {
	mux := http.NewServeMux()
	for pattern, serve := range map[string]func(o Outbox, w http.ResponseWriter, r *http.Request) error{
		"GET /wepay/outbox":                     serveCounts,
		"GET /wepay/outbox/events":              serveEvents,
		"GET /wepay/outbox/events/{id}":         serveEvent,
		"POST /wepay/outbox/events/{id}/replay": serveReplay,
		"POST /wepay/outbox/events/{id}/drop":   serveDrop,
		"POST /wepay/outbox/replay":             serveReplayAll,
		"GET /wepay/outbox/export":              serveExport,
		"POST /wepay/outbox/import":             serveImport,
	} {
		mux.HandleFunc(pattern, func(w http.ResponseWriter, r *http.Request) {
			outbox, err := find()
			if err == nil && r.PathValue("id") != "" && !eventID.MatchString(r.PathValue("id")) {
				err = badRequest("this is no event's id")
			}
			if err == nil {
				err = serve(outbox, w, r)
			}
			if err != nil {
				writeAdminError(w, err)
			}
		})
	}
	return mux
}

// eventID is the form of an event's ID.
var eventID = regexp.MustCompile(`^[A-Za-z0-9_-]{1,64}$`)

// badRequest says what is wrong with a request.
type badRequest string

func (e badRequest) Error() string { return string(e) }

// writeAdminError answers as Caddy's own admin API does.
func writeAdminError(w http.ResponseWriter, err error) {
	status := http.StatusInternalServerError
	var bad badRequest
	switch {
	case errors.As(err, &bad), errors.Is(err, ErrNoPage):
		status = http.StatusBadRequest
	case errors.Is(err, ErrNoEvent), errors.Is(err, errNoOutbox), errors.Is(err, errNoMerchant):
		status = http.StatusNotFound
	case errors.Is(err, ErrWrongState):
		status = http.StatusConflict
	case errors.Is(err, ErrOutboxClosed), errors.Is(err, ErrOutboxAway):
		status = http.StatusServiceUnavailable
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	writeLine(w, map[string]string{"error": err.Error()})
}

// writeLine writes a line of JSON. Whoever does not wait for it has hung up.
func writeLine(w io.Writer, v any) {
	encoder := json.NewEncoder(w)
	encoder.SetEscapeHTML(false)
	_ = encoder.Encode(v)
}

func answer(w http.ResponseWriter, v any) error {
	w.Header().Set("Content-Type", "application/json")
	writeLine(w, v)
	return nil
}

func serveCounts(o Outbox, w http.ResponseWriter, r *http.Request) error {
	counts, err := o.Count(r.Context())
	if err != nil {
		return err
	}
	return answer(w, map[string][]Count{"counts": append([]Count{}, counts...)})
}

// The numbers of events on a page.
const (
	defaultPage = 100
	longestPage = 1000
)

// eventPage is a page of events.
type eventPage struct {
	Events []*Event `json:"events"`
	Next   string   `json:"next,omitempty"`

	// How many events cannot be read and are left out.
	Damaged int `json:"damaged,omitempty"`
}

func serveEvents(o Outbox, w http.ResponseWriter, r *http.Request) error {
	filter, err := filterOf(r)
	if err != nil {
		return err
	}
	limit := defaultPage
	if text := r.FormValue("limit"); text != "" {
		if limit, err = strconv.Atoi(text); err != nil || limit < 1 || limit > longestPage {
			return badRequest(fmt.Sprintf("limit must be 1 to %d", longestPage))
		}
	}
	page := eventPage{Events: []*Event{}}
	var damaged Damaged
	events, next, err := o.List(r.Context(), filter, r.FormValue("after"), limit)
	if err != nil && !errors.As(err, &damaged) {
		return err
	}
	for _, e := range events {
		e.Payload = nil
		page.Events = append(page.Events, e)
	}
	page.Next, page.Damaged = next, damaged.Events
	return answer(w, page)
}

func filterOf(r *http.Request) (Filter, error) {
	filter := Filter{Merchant: r.FormValue("merchant"), State: State(r.FormValue("state"))}
	switch filter.State {
	case "", Waiting, Delivered, Dead, Dropped:
		return filter, nil
	default:
		return filter, badRequest("state must be waiting, delivered, dead or dropped")
	}
}

func serveEvent(o Outbox, w http.ResponseWriter, r *http.Request) error {
	id := r.PathValue("id")
	e, err := o.Get(r.Context(), id)
	if err != nil {
		return fmt.Errorf("event %s: %w", id, err)
	}
	if r.FormValue("personal") != "true" && e.Payload != nil {
		if e.Payload, err = maskPersonal(e.Payload); err != nil {
			return err
		}
	}
	return answer(w, e)
}

func serveReplay(o Outbox, w http.ResponseWriter, r *http.Request) error {
	id := r.PathValue("id")
	if err := o.Replay(r.Context(), id); err != nil {
		return notChanged(r.Context(), o, id, "only a dead one is replayed", err)
	}
	return answer(w, map[string]int{"replayed": 1})
}

func serveDrop(o Outbox, w http.ResponseWriter, r *http.Request) error {
	var request struct {
		Reason string `json:"reason"`
	}
	if err := readAdminRequest(w, r, &request); err != nil {
		return err
	}
	reason, id := strings.TrimSpace(request.Reason), r.PathValue("id")
	if reason == "" {
		return badRequest("reason is required: it is kept with the event")
	}
	if err := o.Drop(r.Context(), id, reason); err != nil {
		return notChanged(r.Context(), o, id, "only one that waits or is dead is dropped", err)
	}
	return answer(w, map[string]int{"dropped": 1})
}

// notChanged says which event it was that could not be changed, and what it is
// where that is why.
func notChanged(ctx context.Context, o Outbox, id, rule string, err error) error {
	if errors.Is(err, ErrWrongState) {
		if e, getErr := o.Get(ctx, id); getErr == nil {
			return fmt.Errorf("event %s is %s, %s: %w", id, e.State, rule, err)
		}
	}
	return fmt.Errorf("event %s: %w", id, err)
}

func readAdminRequest(w http.ResponseWriter, r *http.Request, request any) error {
	body := http.MaxBytesReader(w, r.Body, maxBody)
	if err := strictjson.UnmarshalRead(body, request, strictjson.RejectUnknownMembers(true)); err != nil {
		return badRequest("reading the request: " + err.Error())
	}
	return nil
}

// mostFailures is how many events may fail before the others are not tried any
// more.
const mostFailures = 10

// serveReplayAll has all dead events handed over again, or a merchant's. One that
// cannot be does not keep the others from it.
func serveReplayAll(o Outbox, w http.ResponseWriter, r *http.Request) error {
	var request struct {
		Merchant string `json:"merchant"`
		All      bool   `json:"all"`
	}
	if err := readAdminRequest(w, r, &request); err != nil {
		return err
	}
	if request.All == (request.Merchant != "") {
		return badRequest("needs either a merchant or all")
	}
	if err := checkMerchant(r.Context(), o, request.Merchant); err != nil {
		return err
	}
	replayed, err := replayDead(r.Context(), o, request.Merchant)
	if err != nil {
		return fmt.Errorf("%d events are replayed, others are not: %w", replayed, err)
	}
	return answer(w, map[string]int{"replayed": replayed})
}

// checkMerchant refuses a name that no event has, which is most likely
// misspelled. "" stands for all.
func checkMerchant(ctx context.Context, o Outbox, name string) error {
	counts, err := o.Count(ctx)
	if err != nil {
		return err
	}
	if name != "" && !slices.ContainsFunc(counts, func(c Count) bool { return c.Merchant == name }) {
		return fmt.Errorf("merchant %q: %w", name, errNoMerchant)
	}
	return nil
}

// changedAtOnce is how many events are stored or replayed at the same time, so
// that they share a sync of the disk.
const changedAtOnce = 64

func replayDead(ctx context.Context, o Outbox, merchant string) (replayed int, err error) {
	var mu sync.Mutex
	var failed []error
	replay := func(id string) {
		err := o.Replay(ctx, id)
		mu.Lock()
		defer mu.Unlock()
		switch {
		case err == nil:
			replayed++
		case errors.Is(err, ErrWrongState) || errors.Is(err, ErrNoEvent): // somebody else was quicker
		default:
			failed = append(failed, fmt.Errorf("event %s: %w", id, err))
		}
	}
	var replays errgroup.Group
	replays.SetLimit(changedAtOnce)
	err = each(ctx, o, Filter{Merchant: merchant, State: Dead}, func(e *Event) error {
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

// each goes through the events that a filter selects. It returns Damaged when it
// has gone through all that can be read.
func each(ctx context.Context, o Outbox, filter Filter, do func(*Event) error) error {
	var all Damaged
	for after := ""; ; {
		var damaged Damaged
		events, next, err := o.List(ctx, filter, after, longestPage)
		if err != nil && !errors.As(err, &damaged) {
			return err
		}
		all.Events += damaged.Events
		for _, e := range events {
			if err := do(e); err != nil {
				return err
			}
		}
		if next == "" && all.Events > 0 {
			return all
		}
		if next == "" {
			return nil
		}
		after = next
	}
}

// Interface guards
var (
	_ caddy.AdminRouter = (*adminAPI)(nil)
	_ caddy.Provisioner = (*adminAPI)(nil)
)
