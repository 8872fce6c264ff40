package caddymodule

import (
	"context"
	"errors"
	"io"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"

	"github.com/windsome/caddy-wepay/wepay"
)

// backend is an order service in a bubble: it answers as it is told and
// remembers what it heard, and when.
type backend struct {
	mu     sync.Mutex
	answer func(*http.Request) (*http.Response, error)
	heard  []hearing
}

type hearing struct {
	id   string
	host string
	at   time.Time
}

func (b *backend) RoundTrip(r *http.Request) (*http.Response, error) {
	if _, err := io.Copy(io.Discard, r.Body); err != nil {
		return nil, err
	}
	b.mu.Lock()
	b.heard = append(b.heard, hearing{r.Header.Get("webhook-id"), r.URL.Host, time.Now()})
	answer := b.answer
	b.mu.Unlock()
	return answer(r)
}

func (b *backend) answers(answer func(*http.Request) (*http.Response, error)) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.answer = answer
}

func (b *backend) hearings() []hearing {
	b.mu.Lock()
	defer b.mu.Unlock()
	return append([]hearing(nil), b.heard...)
}

// replies is an order service that always answers the same.
func replies(status int, body string, header ...string) func(*http.Request) (*http.Response, error) {
	h := make(http.Header)
	for i := 0; i+1 < len(header); i += 2 {
		h.Set(header[i], header[i+1])
	}
	return func(*http.Request) (*http.Response, error) {
		return &http.Response{StatusCode: status, Header: h, Body: io.NopCloser(strings.NewReader(body))}, nil
	}
}

func unreachable(*http.Request) (*http.Response, error) { return nil, errors.New("connection refused") }

// hangs is an order service that never answers.
func hangs(r *http.Request) (*http.Response, error) {
	<-r.Context().Done()
	return nil, r.Context().Err()
}

// unsettling is an outbox that notes what came of events as it is told.
type unsettling struct {
	*memoryOutbox

	mu                sync.Mutex
	how               func(ctx context.Context, store func() error) error
	unleased, unfound error // why nothing is leased, or found
	tried             []time.Time
	now               int // how many are being settled
	atOnce            int // the most of these
	limit             int // the most that were to be leased at once
}

func (u *unsettling) Settle(ctx context.Context, lease *Lease) error {
	u.mu.Lock()
	u.tried = append(u.tried, time.Now())
	u.now++
	u.atOnce = max(u.atOnce, u.now)
	how := u.how
	u.mu.Unlock()
	defer func() {
		u.mu.Lock()
		defer u.mu.Unlock()
		u.now--
	}()
	return how(ctx, func() error { return u.memoryOutbox.Settle(ctx, lease) })
}

func (u *unsettling) Lease(ctx context.Context, queue Queue, limit int, term time.Duration) ([]*Lease, error) {
	u.mu.Lock()
	u.limit = max(u.limit, limit)
	err := u.unleased
	u.mu.Unlock()
	if err != nil {
		return nil, err
	}
	return u.memoryOutbox.Lease(ctx, queue, limit, term)
}

func (u *unsettling) Get(ctx context.Context, id string) (*Event, error) {
	u.mu.Lock()
	err := u.unfound
	u.mu.Unlock()
	if err != nil {
		return nil, err
	}
	return u.memoryOutbox.Get(ctx, id)
}

// leasesNot and findsNot have the outbox lease nothing, or find nothing; with nil
// it does again.
func (u *unsettling) leasesNot(err error) { u.fail(&u.unleased, err) }
func (u *unsettling) findsNot(err error)  { u.fail(&u.unfound, err) }

func (u *unsettling) fail(how *error, err error) {
	u.mu.Lock()
	defer u.mu.Unlock()
	*how = err
}

// did returns when events were to be settled, the most of these at once, and the
// most that were to be leased at once.
func (u *unsettling) did() (tried []time.Time, atOnce, limit int) {
	u.mu.Lock()
	defer u.mu.Unlock()
	return slices.Clone(u.tried), u.atOnce, u.limit
}

// tries returns how often events were to be settled.
func (u *unsettling) tries() int {
	tried, _, _ := u.did()
	return len(tried)
}

// settles has the outbox settle otherwise from now on.
func (u *unsettling) settles(how func(ctx context.Context, store func() error) error) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.how, u.tried = how, nil
}

// well is how an outbox settles that works.
func well(_ context.Context, store func() error) error { return store() }

// full is how one does whose disk is full.
func full(context.Context, func() error) error { return errors.New("no space left on device") }

// stuck is how one does that is away.
func stuck(ctx context.Context, _ func() error) error {
	<-ctx.Done()
	return ctx.Err()
}

// dispatched is a dispatcher at work in a bubble.
type dispatched struct {
	*dispatcher
	t       *testing.T
	store   *unsettling
	backend *backend
	counts  *prometheus.Registry
	logs    *observer.ObservedLogs

	mu   sync.Mutex
	dead []string // IDs of events that were told to be dead
}

// dispatch starts a dispatcher for merchants, each with an order service of its
// name. Names that differ by a digit at their end share one.
func dispatch(t *testing.T, answer func(*http.Request) (*http.Response, error), merchants ...string) *dispatched {
	t.Helper()
	return dispatchAs(t, func(*OutboxOptions, map[string]*callback) {}, answer, merchants...)
}

// dispatchAs is dispatch with options and order services changed.
func dispatchAs(t *testing.T, change func(*OutboxOptions, map[string]*callback), answer func(*http.Request) (*http.Response, error), merchants ...string) *dispatched {
	t.Helper()
	d := &dispatched{t: t, store: &unsettling{memoryOutbox: newMemoryOutbox(), how: well}, backend: &backend{answer: answer}, counts: prometheus.NewRegistry()}
	metrics := newMetrics()
	d.counts.MustRegister(metrics)
	if err := d.store.Options().Provision(); err != nil {
		t.Fatal(err)
	}
	if err := d.store.Open(t.Context()); err != nil {
		t.Fatal(err)
	}
	var core zapcore.Core
	core, d.logs = observer.New(zap.DebugLevel)
	callbacks := make(map[string]*callback)
	for _, name := range merchants {
		url := "http://" + strings.TrimRight(name, "0123456789") + "/"
		callbacks[name] = &callback{url: url, refundURL: url, kinds: testMerchant.Kinds(), transport: d.backend, timeout: defaultDeliveryTimeout}
	}
	change(d.store.Options(), callbacks)
	d.dispatcher = newDispatcher(d.store, callbacks, zap.New(core), metrics, func(e *Event) {
		d.mu.Lock()
		defer d.mu.Unlock()
		d.dead = append(d.dead, e.ID)
	})
	d.start()
	t.Cleanup(func() {
		d.stop(time.Minute)
		if err := d.store.Close(); err != nil {
			t.Error(err)
		}
	})
	return d
}

// put stores an event that is due now.
func (d *dispatched) put(merchant string, kind wepay.Kind, id, after string) {
	d.t.Helper()
	now := time.Now()
	e := &Event{
		ID: id, Merchant: merchant, Kind: kind, After: after, Payload: []byte("{}"),
		Received: now, State: Waiting, Due: now, Since: now,
	}
	if err := d.store.Put(d.t.Context(), e); err != nil {
		d.t.Fatal(err)
	}
}

// told returns the IDs of the events that were told to be dead.
func (d *dispatched) told() []string {
	d.mu.Lock()
	defer d.mu.Unlock()
	return slices.Clone(d.dead)
}

func (d *dispatched) get(id string) *Event {
	d.t.Helper()
	e, err := d.store.Get(d.t.Context(), id)
	if err != nil {
		d.t.Fatal(err)
	}
	return e
}

// counted returns the deliveries counted, as merchant, result and number.
func (d *dispatched) counted() string {
	d.t.Helper()
	families, err := d.counts.Gather()
	if err != nil {
		d.t.Fatal(err)
	}
	var text []string
	for _, family := range families {
		if family.GetName() != "caddy_wepay_deliveries_total" {
			continue
		}
		for _, metric := range family.GetMetric() {
			for _, label := range metric.GetLabel() {
				text = append(text, label.GetValue())
			}
			text = append(text, strconv.FormatFloat(metric.GetCounter().GetValue(), 'f', -1, 64))
		}
	}
	return strings.Join(text, " ")
}

// logged returns the messages logged at a level or above, and forgets all.
func (d *dispatched) logged(level zapcore.Level) []string {
	var messages []string
	for _, entry := range d.logs.TakeAll() {
		if entry.Level >= level {
			messages = append(messages, entry.Message)
		}
	}
	return messages
}

// pass lets time go by, and what falls due then be done.
func (d *dispatched) pass(duration time.Duration) {
	<-time.After(duration) // of the bubble's clock, which turns at once
	synctest.Wait()
}
