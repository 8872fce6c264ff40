package delivery

import (
	"context"
	"fmt"
	"net/http"
	"testing"
	"testing/synctest"
	"time"

	"github.com/windsome/caddy-wepay/caddymodule/store"
	"github.com/windsome/caddy-wepay/wepay"
)

// What is on its way when the dispatcher stops is finished, or given back within
// the grace period.
func TestDispatcherStops(t *testing.T) {
	for _, test := range []struct {
		name   string
		answer time.Duration
		grace  time.Duration
		state  store.State
		took   time.Duration
	}{
		{"finished", 3 * time.Second, 5 * time.Second, store.Delivered, 3 * time.Second},
		{"given back", time.Hour, 5 * time.Second, store.Waiting, 4 * time.Second},
		{"finished in a reload", timeout, GraceFor(timeout), store.Delivered, timeout},
		{"given back soon", time.Hour, 1500 * time.Millisecond, store.Waiting, 1200 * time.Millisecond},
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
				d.Stop(test.grace)
				if took := time.Since(began); took != test.took {
					t.Errorf("it took %s", took)
				}
				if e := d.get("evt_1"); e.State != test.state || e.State == store.Waiting && e.Attempts != 0 {
					t.Errorf("got %+v", e)
				}
				if e := d.get("evt_1"); e.State == store.Waiting {
					leases, err := d.store.Lease(t.Context(), e.Queue(), 1, time.Minute)
					if err != nil || len(leases) != 1 || time.Since(began) != test.took {
						t.Errorf("leased again: %d (%v)", len(leases), err)
					}
				}
			})
		})
	}
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
		d.Stop(5 * time.Second)
		if e := d.get("evt_1"); e.State != store.Delivered || e.Attempts != 1 {
			t.Errorf("got %+v", e)
		}
	})
}

// What waits for a worker when the dispatcher stops is given back at once, and
// nothing is leased any more; a store that is away does not hold up the stop.
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
				d.Stop(5 * time.Second)
				if took := time.Since(began); took != test.took {
					t.Errorf("it took %s", took)
				}
				if delivered := len(d.backend.hearings()); delivered != d.share {
					t.Errorf("%d events are delivered", delivered)
				}
				if test.took == 5*time.Second {
					return
				}
				leases, err := d.store.Lease(t.Context(), store.Queue{Merchant: "shop", Kind: wepay.Payment}, events, time.Minute)
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
