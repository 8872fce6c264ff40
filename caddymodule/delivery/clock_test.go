package delivery

import (
	"fmt"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/windsome/caddy-wepay/caddymodule/internal/clock"
	"github.com/windsome/caddy-wepay/caddymodule/store"
	"github.com/windsome/caddy-wepay/wepay"
)

const day = 24 * time.Hour

// systemClock is one that is set in a bubble, and how far ahead of the bubble's.
type systemClock struct{ ahead atomic.Int64 }

// set sets it so far ahead.
func (s *systemClock) set(ahead time.Duration) { s.ahead.Store(int64(ahead)) }

// process is a clock of a process that starts now.
func (s *systemClock) process() *clock.Clock {
	began := time.Now()
	return clock.New(func() time.Time { return time.Now().Add(time.Duration(s.ahead.Load())) }, func() time.Duration { return time.Since(began) })
}

// next stops a dispatcher, and starts another one on the same events.
func (d *dispatched) next(c *clock.Clock) *dispatched {
	d.t.Helper()
	d.Stop(time.Minute)
	return dispatchAs(d.t, func(config *Config) {
		config.Clock = c
		config.Store.(*unsettling).Memory = d.store.Another()
	}, d.backend.answer, "shop")
}

// A clock that is four days ahead for five seconds gives up none of the events
// that wait for an order service, whether it is away or refuses them, and
// whether the process runs by then or starts with it.
func TestClockAhead(t *testing.T) {
	for name, test := range map[string]struct {
		events int
		status int
		starts bool
	}{
		"away":                       {500, 0, false},
		"away, from the start":       {500, 0, true},
		"refuses":                    {50, 404, false},
		"refuses, from the start on": {50, 404, true},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				answer := unreachable
				if test.status != 0 {
					answer = replies(test.status, "")
				}
				system := new(systemClock)
				d := dispatchAs(t, func(c *Config) { c.Clock = system.process() }, answer, "shop")
				for n := range test.events {
					d.put("shop", wepay.Payment, fmt.Sprintf("evt_%d", n), "")
				}
				d.pass(30 * time.Minute)
				system.set(4 * day)
				if test.starts {
					d = d.next(system.process())
				}
				d.pass(5 * time.Second)
				system.set(0)
				d.pass(time.Hour)
				if dead := d.told(); len(dead) > 0 {
					t.Fatalf("%d are given up", len(dead))
				}
				d.backend.answers(replies(204, ""))
				d.pass(longestWait * 2)
				for n := range test.events {
					if e := d.get(fmt.Sprintf("evt_%d", n)); e.State != store.Delivered {
						t.Fatalf("got %+v", e)
					}
				}
			})
		})
	}
}

// What comes while the clock is a day ahead is handed over soon when it is right
// again: in the same process, after a reload and after a restart.
func TestClockAheadAndRight(t *testing.T) {
	for name, test := range map[string]struct {
		starts bool // with the clock ahead
		next   func(d *dispatched, system *systemClock) *dispatched
	}{
		"same process":                    {false, func(d *dispatched, _ *systemClock) *dispatched { return d }},
		"reload":                          {false, func(d *dispatched, _ *systemClock) *dispatched { return d.next(d.Clock) }},
		"restart":                         {false, func(d *dispatched, s *systemClock) *dispatched { return d.next(s.process()) }},
		"started ahead":                   {true, func(d *dispatched, _ *systemClock) *dispatched { return d }},
		"started ahead, and then reload":  {true, func(d *dispatched, _ *systemClock) *dispatched { return d.next(d.Clock) }},
		"started ahead, and then restart": {true, func(d *dispatched, s *systemClock) *dispatched { return d.next(s.process()) }},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				system := new(systemClock)
				if test.starts {
					system.set(day)
				}
				d := dispatchAs(t, func(c *Config) { c.Clock = system.process() }, replies(404, ""), "shop")
				d.pass(time.Minute)
				system.set(day)
				d.put("shop", wepay.Payment, "evt_1", "")
				d.pass(time.Minute)
				system.set(0)
				d = test.next(d, system)
				d.backend.answers(replies(204, ""))
				d.put("shop", wepay.Payment, "evt_2", "")
				d.pass(5 * time.Minute) // more than twice the wait by then
				for _, id := range []string{"evt_1", "evt_2"} {
					if e := d.get(id); e.State != store.Delivered {
						t.Errorf("got %+v at %s", e, time.Now())
					}
				}
			})
		})
	}
}

// A clock that is set back by a day puts off what waits by no more than as much
// again, and is no reason to give it up.
func TestClockBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		system := new(systemClock)
		d := dispatchAs(t, func(c *Config) { c.Clock = system.process() }, replies(503, "", "Retry-After", "300"), "shop")
		d.put("shop", wepay.Payment, "evt_1", "")
		d.pass(time.Second)
		system.set(-day)
		d.backend.answers(replies(204, ""))
		d.pass(10*time.Minute + time.Second)
		if e := d.get("evt_1"); e.State != store.Delivered || e.Attempts != 2 {
			t.Errorf("got %+v", e)
		}
	})
}

// A clock that is days behind all the time makes nothing old, and all times of an
// event are its.
func TestClockBehind(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		system := new(systemClock)
		system.set(-4 * day)
		d := dispatchAs(t, func(c *Config) { c.Clock = system.process() }, replies(404, ""), "shop")
		d.put("shop", wepay.Payment, "evt_1", "")
		d.put("shop", wepay.Refunded, "evt_2", "evt_1")
		d.pass(2 * longestWait)
		if e := d.get("evt_1"); e.State != store.Waiting || e.Attempts < d.Policy.leastAttempts() {
			t.Fatalf("got %+v", e)
		}
		if payment, refund := d.get("evt_1"), d.get("evt_2"); refund.Due.Before(payment.Due) {
			t.Errorf("the refund is looked at again at %s, the payment at %s", refund.Due, payment.Due)
		}
		d.backend.answers(replies(204, ""))
		d.pass(2 * longestWait)
		e := d.get("evt_1")
		if age := d.Clock.Age(e.Ended); e.State != store.Delivered || age < 0 || age > 2*longestWait {
			t.Errorf("got %+v at %s", e, d.Clock.Now())
		}
		d.backend.answers(replies(410, ""))
		d.put("shop", wepay.Payment, "evt_3", "")
		d.pass(time.Second)
		if e := d.get("evt_3"); e.State != store.Dead || d.Clock.Age(e.Ended).Abs() > time.Second {
			t.Errorf("got %+v at %s", e, d.Clock.Now())
		}
	})
}

// Events that are too old are given up once they have had their attempts, or
// their order service has been away for long enough, in this process.
func TestGivenUpForAgeAlone(t *testing.T) {
	for name, test := range map[string]struct {
		answer   func(d *dispatched)
		attempts int
	}{
		"refused": {func(d *dispatched) { d.backend.answers(replies(404, "")) }, Policy{FirstWait: firstWait, LongestWait: longestWait, GiveUp: giveUp}.leastAttempts()},
		"away":    {func(d *dispatched) { d.backend.answers(unreachable) }, 0},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				d := dispatch(t, replies(204, ""), "shop")
				d.pass(2 * longestWait)
				test.answer(d)
				now := time.Now()
				old := &store.Event{
					ID: "evt_old", Merchant: "shop", Kind: wepay.Payment, Payload: []byte("{}"),
					Received: now.Add(-2 * giveUp), State: store.Waiting, Due: now, Since: now.Add(-2 * giveUp),
				}
				if _, err := d.store.Put(t.Context(), old); err != nil {
					t.Fatal(err)
				}
				for range 10 { // so that the breaker opens
					d.put("shop", wepay.Refunded, fmt.Sprintf("evt_%d", len(d.backend.hearings())), "")
					d.pass(time.Millisecond)
				}
				d.pass(longestWait - time.Second)
				if e := d.get("evt_old"); e.State != store.Waiting {
					t.Fatalf("given up too soon: %+v", e)
				}
				d.pass(2 * longestWait)
				if e := d.get("evt_old"); e.State != store.Dead || e.Attempts < test.attempts {
					t.Errorf("got %+v", e)
				}
			})
		})
	}
}

// How long an order service is tried is as long as the longest wait, but for
// events that are given up before.
func TestLeastTime(t *testing.T) {
	for _, test := range []struct{ longest, giveUp, want time.Duration }{
		{10 * time.Minute, giveUp, 10 * time.Minute},
		{10 * time.Minute, time.Minute, time.Minute},
	} {
		if got := (Policy{LongestWait: test.longest, GiveUp: test.giveUp}).leastTime(); got != test.want {
			t.Errorf("%+v: %s", test, got)
		}
	}
}

// How often an event has to be tried is as often as the waits grow, and as there
// is time for.
func TestLeastAttempts(t *testing.T) {
	for _, test := range []struct {
		policy Policy
		want   int
	}{
		{Policy{FirstWait: time.Second, LongestWait: 10 * time.Minute, GiveUp: giveUp}, 11},
		{Policy{FirstWait: time.Second, LongestWait: 10 * time.Minute, GiveUp: time.Minute}, 6},
		{Policy{FirstWait: time.Second, LongestWait: time.Second, GiveUp: time.Minute}, 1},
		{Policy{FirstWait: time.Minute, LongestWait: time.Hour, GiveUp: time.Second}, 1},
	} {
		if got := test.policy.leastAttempts(); got != test.want {
			t.Errorf("%+v: %d, want %d", test.policy, got, test.want)
		}
	}
}
