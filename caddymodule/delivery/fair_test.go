package delivery

import (
	"errors"
	"fmt"
	"net/http"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/zap"

	"github.com/windsome/caddy-wepay/caddymodule/store"
	"github.com/windsome/caddy-wepay/wepay"
)

// Order services that hang hold up nobody else's events, whichever and whosever
// events they have.
func TestDeliveryIsFair(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		hanging := map[string]bool{"dead": true, "gone": true, "away": true}
		d := dispatch(t, func(r *http.Request) (*http.Response, error) {
			if hanging[r.URL.Host] {
				return hangs(r)
			}
			return replies(204, "")(r)
		}, "dead1", "dead2", "gone1", "away1", "shop")
		for n := range 100 {
			d.put("gone1", wepay.Payment, fmt.Sprintf("evt_gone1_%d", n), "")
			d.put("away1", wepay.Payment, fmt.Sprintf("evt_away1_%d", n), "")
			d.put("dead1", wepay.Payment, fmt.Sprintf("evt_dead1_%d", n), "")
			d.put("dead1", wepay.Refunded, fmt.Sprintf("evt_refund_%d", n), "")
			d.put("dead2", wepay.Payment, fmt.Sprintf("evt_dead2_%d", n), "")
		}
		synctest.Wait()
		for n := range 20 {
			began, id := time.Now(), fmt.Sprintf("evt_%d", n)
			d.put("shop", wepay.Payment, id, "")
			synctest.Wait()
			if e := d.get(id); e.State != store.Delivered || !e.Ended.Equal(began) {
				t.Fatalf("got %+v at %s", e, began)
			}
			d.pass(7 * time.Second)
		}
	})
}

// There are never more deliveries at once than workers, of one queue, or of one of
// several order services, half as many, and some are left for those that come.
func TestDeliveriesAtOnce(t *testing.T) {
	type events struct {
		merchant string
		kind     wepay.Kind
	}
	for _, test := range []struct {
		name    string
		workers int
		events  []events // a hundred of each
		want    int      // at least
		most    int
	}{
		{"one queue", 16, []events{{"shop", wepay.Payment}}, 8, 8},
		{"one order service", 16, []events{{"shop", wepay.Payment}, {"shop", wepay.Refunded}}, 16, 16},
		{"one of several order services", 16, []events{{"shop1", wepay.Payment}, {"shop2", wepay.Refunded}, {"mini", "none"}}, 8, 8},
		{"several order services", 16, []events{{"shop", wepay.Payment}, {"mini", wepay.Payment}, {"counter", wepay.Payment}}, 12, 14},
		{"one worker", 1, []events{{"shop", wepay.Payment}, {"mini", wepay.Payment}}, 1, 1},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var merchants []string
				for _, e := range test.events {
					merchants = append(merchants, e.merchant)
				}
				d := dispatchAs(t, func(c *Config) { c.Policy.Workers = test.workers }, hangs, merchants...)
				for n := range 100 {
					for _, e := range test.events {
						d.put(e.merchant, e.kind, fmt.Sprintf("evt_%s_%s_%d", e.merchant, e.kind, n), "")
					}
				}
				synctest.Wait()
				if delivered := len(d.backend.hearings()); delivered < test.want || delivered > test.most {
					t.Errorf("%d deliveries at once, want %d to %d", delivered, test.want, test.most)
				}
				want := max(test.workers/2, 1) * leasedAhead
				if _, _, limit := d.store.did(); limit != want {
					t.Errorf("%d events are leased at once, want %d", limit, want)
				}
			})
		})
	}
}

// Where many events wait the store is asked for several at once, each time.
func TestLeasedTogether(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := dispatchAs(t, func(*Config) {}, func(r *http.Request) (*http.Response, error) {
			<-time.After(time.Second)
			return replies(204, "")(r)
		}, "shop")
		const events = 50 * leasedAhead
		for n := range events {
			d.put("shop", wepay.Payment, fmt.Sprintf("evt_%d", n), "")
		}
		d.pass(events * time.Second)
		const most = events / leasedAhead // some are for the first few, as they come
		if heard, looked := len(d.backend.hearings()), d.store.looked(); heard != events || looked > most {
			t.Errorf("%d events are delivered with %d looks, want %d with %d at most", heard, looked, events, most)
		}
	})
}

// A lease that waited for a worker so long that it might not last is given back:
// nothing is delivered twice.
func TestDeliveryWaitsForWorker(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := dispatchAs(t, func(c *Config) { c.Policy.Workers = 1 }, func(r *http.Request) (*http.Response, error) {
			<-time.After(timeout - time.Second)
			return replies(204, "")(r)
		}, "shop")
		const events = 2 * leasedAhead
		for n := range events {
			d.put("shop", wepay.Payment, fmt.Sprintf("evt_%d", n), "")
		}
		d.pass(events * timeout)
		if delivered, lost := len(d.backend.hearings()), d.logged(zap.WarnLevel); delivered != events || len(lost) > 0 {
			t.Errorf("delivered %d times, logged: %q", delivered, lost)
		}
		if tried := d.store.tries(); tried == events {
			t.Error("no lease was given back")
		}
	})
}

// What one merchant's events show of an order service holds for another one's.
// An order service that is away, or says when to come again, is asked no more
// than once at a time; one that refuses events may want others.
func TestDeliveryBreaker(t *testing.T) {
	for _, test := range []struct {
		name   string
		answer func(*http.Request) (*http.Response, error)
		before int           // how many of ten events it hears at once
		after  time.Duration // when it hears the next one, of another merchant
	}{
		{"away", unreachable, failuresToOpen, time.Second},
		{"comes again", replies(429, "", "Retry-After", "90"), 1, 90 * time.Second},
		{"comes again by a date", replies(503, "", "Retry-After", "Sat, 01 Jan 2000 00:01:30 GMT"), 1, 90 * time.Second},
		{"comes again, never", replies(503, "", "Retry-After", "2000000000"), 1, longestWait},
		{"was to come again", replies(503, "", "Retry-After", "Fri, 31 Dec 1999 00:00:00 GMT"), failuresToOpen, time.Second},
		{"refuses", replies(404, ""), 10, 0},
		{"refuses by errcode", replies(200, `{"errcode":7}`), 10, 0},
		{"gone", replies(410, ""), 10, 0},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				d := dispatchAs(t, func(c *Config) { c.Policy.Workers = 1 }, test.answer, "shop1", "shop2")
				began := time.Now()
				for n := range 10 {
					d.put("shop1", wepay.Payment, fmt.Sprintf("evt_%d", n), "")
				}
				synctest.Wait()
				if delivered := len(d.backend.hearings()); delivered != test.before {
					t.Errorf("%d events are delivered", delivered)
				}
				d.backend.answers(replies(204, ""))
				d.put("shop2", wepay.Payment, "evt_other", "")
				if test.after > 0 {
					d.pass(test.after - time.Nanosecond)
					if e := d.get("evt_other"); len(d.backend.hearings()) != test.before || e.Attempts > 0 {
						t.Errorf("it is asked before %s: %+v", test.after, e)
					}
				}
				d.pass(2 * time.Second)
				e := d.get("evt_other")
				if e.State != store.Delivered || e.Ended.Sub(began) < test.after {
					t.Errorf("got %+v", e)
				}
			})
		})
	}
}

// An order service that asked to be left alone, and then is away, is asked again
// until it is back.
func TestDeliveryBreakerAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := dispatch(t, replies(429, "", "Retry-After", "5"), "shop")
		d.put("shop", wepay.Payment, "evt_1", "")
		synctest.Wait()
		d.backend.answers(unreachable)
		d.pass(time.Minute)
		d.backend.answers(replies(204, ""))
		d.pass(2 * time.Minute)
		if e, delivered := d.get("evt_1"), len(d.backend.hearings()); e.State != store.Delivered || delivered < 4 {
			t.Errorf("delivered %d times: %+v", delivered, e)
		}
	})
}

// A store that cannot say what waits is asked again each second, which is told
// of each minute, and what it says then is handed over.
func TestLeaseFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := dispatch(t, replies(204, ""), "shop")
		synctest.Wait() // both queues' leases wait for something
		d.store.leasesNot(errors.New("no space left on device"))
		d.put("shop", wepay.Payment, "evt_0", "") // ends the wait of before
		d.pass(5*time.Minute - 2*time.Second)
		if logged := d.logged(zap.ErrorLevel); len(logged) != 5 || count(logged, "leasing events fails: it is tried again each second") != len(logged) {
			t.Errorf("logged %d times: %q", len(logged), logged[:min(len(logged), 3)])
		}
		d.store.leasesNot(nil)
		d.put("shop", wepay.Payment, "evt_1", "")
		d.pass(time.Second)
		if e := d.get("evt_1"); e.State != store.Delivered {
			t.Errorf("got %+v", e)
		}
		if logged := d.logged(zap.InfoLevel); count(logged, "events are leased again") != 1 {
			t.Errorf("logged %q", logged)
		}
	})
}

// What there is no URL for waits, untried, until there is one.
func TestDeliveryWithoutURL(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := dispatchAs(t, func(c *Config) { c.Endpoints["shop"].URL = "" }, replies(204, ""), "shop")
		d.put("shop", wepay.Payment, "evt_payment", "")
		d.put("shop", wepay.Refunded, "evt_refund", "")
		d.put("gone", wepay.Payment, "evt_gone", "")
		d.pass(2 * giveUp)
		for id, want := range map[string]store.State{"evt_payment": store.Waiting, "evt_refund": store.Delivered, "evt_gone": store.Waiting} {
			if e := d.get(id); e.State != want || want == store.Waiting && e.Attempts > 0 {
				t.Errorf("got %+v", e)
			}
		}
	})
}
