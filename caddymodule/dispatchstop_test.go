package caddymodule

import (
	"context"
	"fmt"
	"net/http"
	"testing"
	"testing/synctest"
	"time"

	"github.com/caddyserver/caddy/v2"

	"github.com/windsome/caddy-wepay/wepay"
)

// What is on its way when the dispatcher stops is finished, or given back within
// the grace period.
func TestDispatcherStops(t *testing.T) {
	for _, test := range []struct {
		name   string
		answer time.Duration
		grace  time.Duration
		state  State
		took   time.Duration
	}{
		{"finished", 3 * time.Second, 5 * time.Second, Delivered, 3 * time.Second},
		{"given back", time.Hour, 5 * time.Second, Waiting, 4 * time.Second},
		{"finished in a reload", defaultDeliveryTimeout, graceOf(0, false), Delivered, defaultDeliveryTimeout},
		{"given back as the server stops", time.Hour, graceOf(0, true), Waiting, 4 * time.Second},
		{"given back in a reload with a grace_period", time.Hour, graceOf(2*time.Second, false), Waiting, 1200 * time.Millisecond},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				d := dispatch(t, func(r *http.Request) (*http.Response, error) {
					select {
					case <-time.After(test.answer):
						return replies(204, "")(r)
					case <-r.Context().Done():
						return nil, r.Context().Err()
					}
				}, "shop")
				d.put("shop", wepay.Payment, "evt_1", "")
				synctest.Wait()
				began := time.Now()
				d.stop(test.grace)
				if took := time.Since(began); took != test.took {
					t.Errorf("it took %s", took)
				}
				if e := d.get("evt_1"); e.State != test.state || e.State == Waiting && e.Attempts != 0 {
					t.Errorf("got %+v", e)
				}
				if e := d.get("evt_1"); e.State == Waiting {
					leases, err := d.store.Lease(t.Context(), e.Queue(), 1, time.Minute)
					if err != nil || len(leases) != 1 || time.Since(began) != test.took {
						t.Errorf("leased again: %d (%v)", len(leases), err)
					}
				}
			})
		})
	}
}

// graceOf is the grace of an app with the usual time-out and a grace_period, or
// none.
func graceOf(configured time.Duration, exiting bool) time.Duration {
	app := &App{CallbackTimeout: caddy.Duration(defaultDeliveryTimeout), gracePeriod: configured}
	return app.grace(exiting)
}

// What was taken in the last moment is taken.
func TestDispatcherStopsLate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := dispatch(t, func(r *http.Request) (*http.Response, error) {
			<-r.Context().Done() // while the answer is on its way
			return replies(204, "")(r)
		}, "shop")
		d.put("shop", wepay.Payment, "evt_1", "")
		synctest.Wait()
		d.stop(5 * time.Second)
		if e := d.get("evt_1"); e.State != Delivered || e.Attempts != 1 {
			t.Errorf("got %+v", e)
		}
	})
}

// What waits for a worker when the dispatcher stops is given back at once, and
// nothing is leased any more; an outbox that is away does not hold up the stop.
func TestDispatcherStopsWaiting(t *testing.T) {
	for _, test := range []struct {
		name string
		how  func(context.Context, func() error) error
		took time.Duration
	}{
		{"well", well, 3 * time.Second},
		{"away", stuck, 5 * time.Second},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				d := dispatch(t, func(r *http.Request) (*http.Response, error) {
					<-time.After(3 * time.Second)
					return replies(204, "")(r)
				}, "shop")
				const events = 100
				for n := range events {
					d.put("shop", wepay.Payment, fmt.Sprintf("evt_%d", n), "")
				}
				synctest.Wait()
				d.store.settles(test.how)
				began := time.Now()
				d.stop(5 * time.Second)
				if took := time.Since(began); took != test.took {
					t.Errorf("it took %s", took)
				}
				if heard := len(d.backend.hearings()); heard != d.share {
					t.Errorf("%d events are heard of", heard)
				}
				if test.took == 5*time.Second {
					return
				}
				leases, err := d.store.Lease(t.Context(), Queue{"shop", wepay.Payment}, events, time.Minute)
				if err != nil || len(leases) != events-d.share || time.Since(began) != test.took {
					t.Errorf("leased again: %d (%v)", len(leases), err)
				}
				for _, lease := range leases {
					if lease.Event.Attempts != 0 {
						t.Errorf("got %+v", lease.Event)
					}
				}
			})
		})
	}
}
