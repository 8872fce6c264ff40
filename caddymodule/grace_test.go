package caddymodule

import (
	"context"
	"errors"
	"net/http"
	"testing"
	"testing/synctest"
	"time"

	"github.com/caddyserver/caddy/v2"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"github.com/windsome/caddy-wepay/caddymodule/delivery"
	"github.com/windsome/caddy-wepay/caddymodule/internal/clock"
	"github.com/windsome/caddy-wepay/caddymodule/recovery"
	"github.com/windsome/caddy-wepay/caddymodule/store"
	"github.com/windsome/caddy-wepay/caddymodule/store/storetest"
	"github.com/windsome/caddy-wepay/wepay"
)

// A reload waits for the deliveries that are under way, as long as they may take;
// a server that stops does so within its grace period, with time left to close
// the store.
func TestGrace(t *testing.T) {
	for _, test := range []struct {
		configured time.Duration
		exiting    bool
		want       time.Duration
	}{
		{0, false, delivery.GraceFor(defaultDeliveryTimeout)},
		{0, true, 5 * time.Second},
		{2 * time.Second, false, 1500 * time.Millisecond},
		{10 * time.Second, true, 9500 * time.Millisecond},
		{time.Second, true, 750 * time.Millisecond},
	} {
		app := &App{CallbackTimeout: caddy.Duration(defaultDeliveryTimeout), gracePeriod: test.configured}
		if got := app.grace(test.exiting); got != test.want {
			t.Errorf("of %s, exiting: %t: %s, want %s", test.configured, test.exiting, got, test.want)
		}
	}
}

// hangingService is an order service that never answers.
type hangingService struct{ asked chan struct{} }

func (s hangingService) RoundTrip(req *http.Request) (*http.Response, error) {
	s.asked <- struct{}{}
	<-req.Context().Done()
	return nil, context.Cause(req.Context())
}

// What is being handed over has the grace period that the sites have, and not one
// of its own after theirs; the store is closed behind it, however quick they are.
func TestStopsWithinOneGracePeriod(t *testing.T) {
	const grace = 10 * time.Second
	for name, test := range map[string]struct{ sites, want time.Duration }{
		"with the sites":   {grace - closePeriod, grace - closePeriod},
		"without any site": {0, (grace - closePeriod) * 4 / 5},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				a, e := handingOver(t, grace)
				began := time.Now()
				if err := (stopHandler{a}).Handle(t.Context(), caddy.Event{}); err != nil {
					t.Fatal(err)
				}
				stopping := a.stopping
				if err := a.Stop(); err != nil || stopping == nil || a.stopping != stopping {
					t.Fatalf("it stops twice, or only with the app (%v)", err)
				}
				if took := time.Since(began); took > 0 {
					t.Errorf("the sites stop %s later", took)
				}
				time.Sleep(test.sites)
				if err := a.Cleanup(); err != nil {
					t.Fatal(err)
				}
				if took := time.Since(began); took != test.want {
					t.Errorf("the stop took %s", took)
				}
				if _, err := a.store.Put(t.Context(), e); !errors.Is(err, store.ErrClosed) {
					t.Errorf("the store is not closed: %v", err)
				}
			})
		})
	}
}

// handingOver returns an app that is handing an event over, which takes for ever.
func handingOver(t *testing.T, grace time.Duration) (*App, *store.Event) {
	t.Helper()
	s, service := storetest.NewMemory(), hangingService{make(chan struct{})}
	if err := s.Open(t.Context(), store.Options{}); err != nil {
		t.Fatal(err)
	}
	now := time.Now()
	e := &store.Event{ID: "evt_1", Merchant: "shop", Kind: wepay.Payment, State: store.Waiting, Received: now, Due: now, Since: now, Payload: []byte("{}")}
	if _, err := s.Put(t.Context(), e); err != nil {
		t.Fatal(err)
	}
	a := &App{ctx: caddy.Context{Context: t.Context()}, store: s, gracePeriod: grace, metrics: newMetrics(), logger: zap.NewNop()}
	a.dispatcher = delivery.New(delivery.Config{
		Store: s, Policy: delivery.Policy{FirstWait: time.Second, LongestWait: time.Minute, GiveUp: time.Hour, Workers: 1},
		Clock: clock.System(), Logger: a.logger, Attempted: a.metrics.attempted,
		Endpoints: map[string]*delivery.Endpoint{"shop": {URL: "http://orders/", Kinds: []wepay.Kind{wepay.Payment}, Transport: service, Timeout: time.Hour}},
	})
	a.dispatcher.Start()
	<-service.asked
	return a, e
}

// The log says in which direction the system's clock was set.
func TestWarnsOfStep(t *testing.T) {
	core, logged := observer.New(zap.WarnLevel)
	a := &App{logger: zap.New(core)}
	a.warnOfStep(time.Hour, time.Minute)
	a.warnOfStep(-time.Hour, -time.Minute)
	for i, direction := range []string{"forward", "back"} {
		if fields := logged.All()[i].ContextMap(); fields["direction"] != direction || fields["by"] != time.Hour {
			t.Errorf("the log has %v, wants %s", fields, direction)
		}
	}
}

// optioned is a store that remembers how it was opened.
type optioned struct {
	*storetest.Memory
	options store.Options
}

func (o *optioned) Open(ctx context.Context, options store.Options) error {
	o.options = options
	return o.Memory.Open(ctx, options)
}

// Whatever has to do with when an event is due goes by one clock, which is not the
// system's; when that is set the log says so.
func TestOneClock(t *testing.T) {
	process := steady
	t.Cleanup(func() { steady = process })
	began, set := time.Now(), -4*24*time.Hour
	steady = clock.New(func() time.Time { return time.Now().Add(set) }, func() time.Duration { return time.Since(began) })
	core, logged := observer.New(zap.WarnLevel)
	ctx, cancel := caddy.NewContext(caddy.Context{Context: context.Background()})
	defer cancel()
	s := &optioned{Memory: storetest.NewMemory()}
	a := &App{store: s, metrics: newMetrics(), logger: zap.New(core), opened: make(chan struct{}), ctx: ctx, policy: delivery.Policy{LongestWait: time.Hour, Workers: 1}}
	a.ledger = &recovery.Ledger{Store: s, Now: steady.Now}
	merchant := &wepay.Merchant{Name: "shop"}
	a.accounts = map[*wepay.Merchant]*account{merchant: {merchant: merchant, endpoint: &delivery.Endpoint{URL: "http://orders/"}}}
	if err := a.startStore(); err != nil {
		t.Fatal(err)
	}
	n := &wepay.Notification{Merchant: merchant, Kind: wepay.Payment, Fields: wepay.NewFields(map[string]string{"transaction_id": "4200000001", "out_trade_no": "order-1"})}
	if err := a.take(t.Context(), n, http.Header{}); err != nil {
		t.Fatal(err)
	}
	put, err := s.Get(t.Context(), n.EventID())
	if err != nil {
		t.Fatal(err)
	}
	isIts := func(at time.Time) bool { return steady.Now().Sub(at).Abs() < time.Hour }
	if !isIts(s.options.Now()) || !isIts(put.Since) || a.dispatcher.Clock != steady || s.options.LongestWait != time.Hour+clocksDiffer {
		t.Errorf("the store is opened with %+v, an event put with %+v", s.options, put)
	}
	set = 0
	steady.Now()
	if lines := logged.FilterMessageSnippet("the system clock was set").Len(); lines != 1 {
		t.Errorf("the log has %v", logged.All())
	}
	a.stopDelivering()
	a.reporting.stop()
	if err := a.Cleanup(); err != nil {
		t.Fatal(err)
	}
}
