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

	"github.com/windsome/caddy-wepay/caddymodule/delivery"
	"github.com/windsome/caddy-wepay/caddymodule/internal/clock"
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
// of its own after theirs; the store is closed behind it.
func TestStopsWithinOneGracePeriod(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, service := storetest.NewMemory(), hangingService{make(chan struct{})}
		if err := s.Open(t.Context(), store.Options{}); err != nil {
			t.Fatal(err)
		}
		now := time.Now()
		e := &store.Event{ID: "evt_1", Merchant: "shop", Kind: wepay.Payment, State: store.Waiting, Received: now, Due: now, Since: now, Payload: []byte("{}")}
		if _, err := s.Put(t.Context(), e); err != nil {
			t.Fatal(err)
		}
		a := &App{ctx: caddy.Context{Context: t.Context()}, store: s, gracePeriod: 10 * time.Second, metrics: newMetrics(), logger: zap.NewNop()}
		a.dispatcher = delivery.New(delivery.Config{
			Store: s, Policy: delivery.Policy{FirstWait: time.Second, LongestWait: time.Minute, GiveUp: time.Hour, Workers: 1},
			Clock: clock.System(), Logger: a.logger, Attempted: a.metrics.attempted,
			Endpoints: map[string]*delivery.Endpoint{"shop": {URL: "http://orders/", Kinds: []wepay.Kind{wepay.Payment}, Transport: service, Timeout: time.Hour}},
		})
		a.dispatcher.Start()
		<-service.asked
		began := time.Now()
		if err := a.Stop(); err != nil {
			t.Fatal(err)
		}
		if took := time.Since(began); took > 0 {
			t.Errorf("the sites stop %s later", took)
		}
		time.Sleep(10*time.Second - closePeriod) // theirs
		if err := a.Cleanup(); err != nil {
			t.Fatal(err)
		}
		if took := time.Since(began); took > a.gracePeriod-closePeriod {
			t.Errorf("the stop took %s", took)
		}
		if _, err := s.Put(t.Context(), e); !errors.Is(err, store.ErrClosed) {
			t.Errorf("the store is not closed: %v", err)
		}
	})
}
