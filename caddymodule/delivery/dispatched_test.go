package delivery

import (
	"context"
	"errors"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"

	"github.com/windsome/caddy-wepay/caddymodule/internal/clock"
	"github.com/windsome/caddy-wepay/caddymodule/store"
	"github.com/windsome/caddy-wepay/caddymodule/store/storetest"
	"github.com/windsome/caddy-wepay/wepay"
)

// backend is an order service in a bubble: it answers as it is told and
// remembers what it got, and when.
type backend struct {
	mu        sync.Mutex
	answer    func(*http.Request) (*http.Response, error)
	delivered []hearing
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
	b.delivered = append(b.delivered, hearing{r.Header.Get("webhook-id"), r.URL.Host, time.Now()})
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
	return append([]hearing(nil), b.delivered...)
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

// unsettling is a store that settles events as it is told.
type unsettling struct {
	*storetest.Memory

	mu                sync.Mutex
	how               func(ctx context.Context, store func() error) error
	unleased, unfound error // why nothing is leased, or found
	tried             []time.Time
	now               int // how many are being settled
	atOnce            int // the most of these
	limit             int // the most that were to be leased at once
	looks             int // how often events were to be leased
}

func (u *unsettling) Settle(ctx context.Context, lease *store.Lease) error {
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
	return how(ctx, func() error { return u.Memory.Settle(ctx, lease) })
}

func (u *unsettling) Lease(ctx context.Context, queue store.Queue, limit int, term time.Duration) ([]*store.Lease, error) {
	u.mu.Lock()
	u.limit = max(u.limit, limit)
	u.looks++
	err := u.unleased
	u.mu.Unlock()
	if err != nil {
		return nil, err
	}
	return u.Memory.Lease(ctx, queue, limit, term)
}

func (u *unsettling) Get(ctx context.Context, id string) (*store.Event, error) {
	u.mu.Lock()
	err := u.unfound
	u.mu.Unlock()
	if err != nil {
		return nil, err
	}
	return u.Memory.Get(ctx, id)
}

// leasesNot and findsNot have the store lease nothing, or find nothing; with nil
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

// looked returns how often events were to be leased.
func (u *unsettling) looked() int {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.looks
}

// tries returns how often events were to be settled.
func (u *unsettling) tries() int {
	tried, _, _ := u.did()
	return len(tried)
}

// settles has the store settle otherwise from now on.
func (u *unsettling) settles(how func(ctx context.Context, store func() error) error) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.how, u.tried = how, nil
}

// well is how a store settles that works.
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
	*Dispatcher
	t       *testing.T
	store   *unsettling
	backend *backend
	logs    *observer.ObservedLogs

	mu      sync.Mutex
	dead    []string // IDs of events that were told to be dead
	results []string // of attempts, with their merchants
}

// The policy of a dispatcher in a bubble, unless a test changes it.
const (
	firstWait   = time.Second
	longestWait = 10 * time.Minute
	giveUp      = 72 * time.Hour
	workers     = 16
	timeout     = 15 * time.Second
)

// dispatch starts a dispatcher for merchants, each with an order service of its
// name. Names that differ by a digit at their end share one.
func dispatch(t *testing.T, answer func(*http.Request) (*http.Response, error), merchants ...string) *dispatched {
	t.Helper()
	return dispatchAs(t, func(*Config) {}, answer, merchants...)
}

// dispatchAs is dispatch with options and order services changed.
func dispatchAs(t *testing.T, change func(*Config), answer func(*http.Request) (*http.Response, error), merchants ...string) *dispatched {
	t.Helper()
	d := &dispatched{t: t, store: &unsettling{Memory: storetest.NewMemory(), how: well}, backend: &backend{answer: answer}}
	var core zapcore.Core
	core, d.logs = observer.New(zap.DebugLevel)
	endpoints := make(map[string]*Endpoint)
	for _, name := range merchants {
		url := "http://" + strings.TrimRight(name, "0123456789") + "/"
		endpoints[name] = &Endpoint{URL: url, RefundURL: url, Kinds: testMerchant.Kinds(), Transport: d.backend, Timeout: timeout}
	}
	config := Config{
		Store: d.store, Endpoints: endpoints, Logger: zap.New(core), Clock: clock.System(),
		Policy:    Policy{FirstWait: firstWait, LongestWait: longestWait, GiveUp: giveUp, Workers: workers},
		Attempted: d.attempted, Dead: d.died,
	}
	change(&config)
	options := store.Options{LongestWait: config.Policy.LongestWait, Now: config.Clock.Now}
	if err := d.store.Open(t.Context(), options); err != nil {
		t.Fatal(err)
	}
	d.Dispatcher = New(config)
	d.Start()
	t.Cleanup(func() {
		d.Stop(time.Minute)
		if err := d.store.Close(); err != nil {
			t.Error(err)
		}
	})
	return d
}

func (d *dispatched) attempted(e *store.Event, result string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.results = append(d.results, e.Merchant+" "+result)
}

func (d *dispatched) died(e *store.Event) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.dead = append(d.dead, e.ID)
}

// put stores an event that is due now.
func (d *dispatched) put(merchant string, kind wepay.Kind, id, after string) {
	d.t.Helper()
	now := d.Clock.Now()
	e := &store.Event{
		ID: id, Merchant: merchant, Kind: kind, After: after, Payload: []byte("{}"),
		Received: now, State: store.Waiting, Due: now, Since: now,
	}
	if _, err := d.store.Put(d.t.Context(), e); err != nil {
		d.t.Fatal(err)
	}
}

// told returns the IDs of the events that were told to be dead.
func (d *dispatched) told() []string {
	d.mu.Lock()
	defer d.mu.Unlock()
	return slices.Clone(d.dead)
}

func (d *dispatched) get(id string) *store.Event {
	d.t.Helper()
	e, err := d.store.Get(d.t.Context(), id)
	if err != nil {
		d.t.Fatal(err)
	}
	return e
}

// counted returns the results of the attempts, with their merchants.
func (d *dispatched) counted() string {
	d.mu.Lock()
	defer d.mu.Unlock()
	return strings.Join(d.results, ", ")
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
