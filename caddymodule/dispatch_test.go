package caddymodule

import (
	"fmt"
	"net/http"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/windsome/caddy-wepay/wepay"
)

func TestDeliverySettled(t *testing.T) {
	for _, test := range []struct {
		name    string
		answer  func(*http.Request) (*http.Response, error)
		state   State
		refused bool
		result  string
		wait    time.Duration // until it is due again, at least
	}{
		{"taken", replies(200, `{"errcode":0}`), Delivered, false, "delivered", 0},
		{"unreachable", unreachable, Waiting, false, "failed", 800 * time.Millisecond},
		{"server error", replies(500, ""), Waiting, false, "failed", 800 * time.Millisecond},
		{"no JSON", replies(200, "OK"), Waiting, false, "failed", 800 * time.Millisecond},
		{"not found", replies(404, ""), Waiting, true, "refused", 800 * time.Millisecond},
		{"errcode", replies(200, `{"errcode":7}`), Waiting, true, "refused", 800 * time.Millisecond},
		{"request timeout", replies(408, ""), Waiting, false, "failed", 800 * time.Millisecond},
		{"too early", replies(425, ""), Waiting, false, "failed", 800 * time.Millisecond},
		{"too many requests", replies(429, ""), Waiting, false, "failed", 800 * time.Millisecond},
		{"too many requests, seconds", replies(429, "", "Retry-After", "90"), Waiting, false, "failed", 90 * time.Second},
		{"unavailable, seconds", replies(503, "", "Retry-After", "40"), Waiting, false, "failed", 40 * time.Second},
		{"unavailable for ever", replies(503, "", "Retry-After", "2000000000"), Waiting, false, "failed", defaultGiveUp},
		{"gone", replies(410, ""), Dead, true, "dead", 0},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				d := dispatch(t, test.answer, "shop")
				d.put("shop", wepay.Payment, "evt_1", "")
				synctest.Wait()
				now, e := time.Now(), d.get("evt_1")
				if e.State != test.state || e.Refused != test.refused || e.Attempts != 1 || (e.Reason == "") != (test.state == Delivered) {
					t.Errorf("got %+v", e)
				}
				if wait := e.Due.Sub(now); test.state == Waiting && (wait < test.wait || wait > max(test.wait, time.Second)) {
					t.Errorf("due in %s, want %s", wait, test.wait)
				}
				if got := d.counted(); got != "shop "+test.result+" 1" {
					t.Errorf("counted: %s", got)
				}
				if (len(d.dead) == 1) != (test.state == Dead) {
					t.Errorf("told to be dead: %q", d.dead)
				}
			})
		})
	}
}

// Waits double from the first to the longest, each less by up to a fifth, for
// longer than WeChat would try; then the event is given up. Replayed it is
// handed over.
func TestDeliveryGivenUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := dispatch(t, replies(404, ""), "shop")
		d.put("shop", wepay.Payment, "evt_1", "")
		d.pass(defaultGiveUp + defaultLongestWait)
		e, heard := d.get("evt_1"), d.backend.hearings()
		if e.State != Dead || e.Attempts != len(heard) || len(d.dead) != 1 {
			t.Fatalf("got %+v after %d attempts", e, len(heard))
		}
		var shortest, longest float64 = 2, 0
		for n := 1; n < len(heard); n++ {
			want := growing(defaultFirstWait, defaultLongestWait, n)
			wait := heard[n].at.Sub(heard[n-1].at)
			if wait < want*4/5 || wait > want {
				t.Errorf("wait %d is %s, want %s less a fifth at most", n, wait, want)
			}
			part := float64(wait) / float64(want)
			shortest, longest = min(shortest, part), max(longest, part)
		}
		if shortest > 0.85 || longest < 0.95 {
			t.Errorf("the waits are %.2f to %.2f of what they could be: they differ too little", shortest, longest)
		}
		tried := heard[len(heard)-1].at.Sub(heard[0].at)
		if tried < defaultGiveUp || tried > defaultGiveUp+defaultLongestWait {
			t.Errorf("given up after %s", tried)
		}
		for whose, span := range map[string]time.Duration{"WeChat's own": 24*time.Hour + 4*time.Minute, "Svix's": 27*time.Hour + 36*time.Minute} {
			if tried <= span {
				t.Errorf("given up after %s, which is no longer than %s schedule of %s", tried, whose, span)
			}
		}
		d.backend.answers(replies(204, ""))
		if err := d.store.Replay(t.Context(), "evt_1"); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		if e := d.get("evt_1"); e.State != Delivered || e.Attempts != 1 {
			t.Errorf("got %+v", e)
		}
	})
}

// An order service that was away for an hour has everything soon after, and was
// hardly asked meanwhile.
func TestDeliveryAfterAnHour(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := dispatch(t, unreachable, "shop")
		const events = 500
		for n := range events {
			d.put("shop", wepay.Payment, fmt.Sprintf("evt_%d", n), "")
		}
		d.pass(time.Hour)
		if asked := len(d.backend.hearings()); asked < 60 || asked > 200 {
			t.Errorf("asked %d times in an hour", asked)
		}
		d.backend.answers(replies(204, ""))
		d.pass(defaultLongestWait + longestOpening)
		for n := range events {
			if e := d.get(fmt.Sprintf("evt_%d", n)); e.State != Delivered {
				t.Fatalf("got %+v", e)
			}
		}
	})
}

// An order service that hangs holds up nobody else's events, whichever and
// whosever events it has.
func TestDeliveryIsFair(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		hanging := map[string]bool{"dead": true}
		d := dispatch(t, func(r *http.Request) (*http.Response, error) {
			if hanging[r.URL.Host] {
				return hangs(r)
			}
			return replies(204, "")(r)
		}, "dead1", "dead2", "shop")
		for n := range 100 {
			d.put("dead1", wepay.Payment, fmt.Sprintf("evt_dead1_%d", n), "")
			d.put("dead1", wepay.Refunded, fmt.Sprintf("evt_refund_%d", n), "")
			d.put("dead2", wepay.Payment, fmt.Sprintf("evt_dead2_%d", n), "")
		}
		synctest.Wait()
		for n := range 20 {
			began, id := time.Now(), fmt.Sprintf("evt_%d", n)
			d.put("shop", wepay.Payment, id, "")
			synctest.Wait()
			if e := d.get(id); e.State != Delivered || !e.Ended.Equal(began) {
				t.Fatalf("got %+v at %s", e, began)
			}
			d.pass(7 * time.Second)
		}
	})
}

// A refund waits for its payment as long as that one waits; others do not wait.
func TestRefundAfterPayment(t *testing.T) {
	for _, test := range []struct {
		name   string
		answer func(*http.Request) (*http.Response, error) // to the payment, at first
		after  State                                       // of the payment, when the refund is heard
	}{
		{"paid at once", replies(204, ""), Delivered},
		{"paid later", replies(404, ""), Delivered},
		{"payment given up", replies(410, ""), Dead},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var again atomic.Bool
				d := dispatch(t, nil, "shop")
				d.backend.answers(func(r *http.Request) (*http.Response, error) {
					switch r.Header.Get("webhook-id") {
					case "evt_payment":
						if !again.Load() {
							return test.answer(r)
						}
					case "evt_refund":
						if e := d.get("evt_payment"); e.State != test.after {
							t.Errorf("the refund is heard while the payment is %s", e.State)
						}
					}
					return replies(204, "")(r)
				})
				d.put("shop", wepay.Payment, "evt_payment", "")
				d.put("shop", wepay.Refunded, "evt_refund", "evt_payment")
				d.put("shop", wepay.Refunded, "evt_other", "evt_unknown")
				synctest.Wait()
				if e := d.get("evt_other"); e.State != Delivered {
					t.Errorf("the other refund is %s", e.State)
				}
				d.pass(time.Minute)
				again.Store(true)
				d.pass(2 * time.Minute)
				if e := d.get("evt_refund"); e.State != Delivered || e.Attempts != 1 {
					t.Errorf("got %+v", e)
				}
			})
		})
	}
}

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
