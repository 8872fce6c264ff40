package delivery

import (
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/windsome/caddy-wepay/caddymodule/store"
	"github.com/windsome/caddy-wepay/wepay"
)

// Merchants whose events go to one order service share what is known of it.
func TestCircuit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newBreaker(longestOpening)
		for n := range failuresToOpen {
			if ok, probe, _ := c.enter(time.Now()); !ok || probe {
				t.Fatalf("shut after %d failures", n)
			}
			c.fail(time.Now(), false, 0)
		}
		for n := 1; n < 8; n++ {
			began := time.Now()
			if ok, _, retry := c.enter(began); ok || retry <= 0 {
				t.Fatalf("open circuit lets an event in (again in %s)", retry)
			}
			c.fail(began, false, 0) // a late one of before
			if limit, err := c.await(t.Context(), 8); limit != 1 || err != nil {
				t.Fatalf("%d (%v)", limit, err)
			}
			if want := growing(time.Second, longestOpening, n); time.Since(began) != want {
				t.Errorf("opening %d took %s, want %s", n, time.Since(began), want)
			}
			if ok, probe, _ := c.enter(time.Now()); !ok || !probe {
				t.Fatal("no probe is let in")
			}
			if ok, _, retry := c.enter(time.Now()); ok || retry <= 0 {
				t.Fatalf("two probes are let in, or in %s", retry)
			}
			c.fail(time.Now(), true, 0)
		}
		c.succeed()
		if limit, err := c.await(t.Context(), 8); limit != 8 || err != nil {
			t.Errorf("closed: %d (%v)", limit, err)
		}
		c.fail(time.Now(), false, time.Minute)
		if ok, _, retry := c.enter(time.Now()); ok || retry != time.Minute {
			t.Errorf("left alone for %s", retry)
		}
	})
}

// Whoever waits for a probe to end is woken by it, and none is let in before.
func TestCircuitWakes(t *testing.T) {
	for name, end := range map[string]func(*breaker){
		"closed": (*breaker).succeed,
		"open":   func(c *breaker) { c.fail(time.Now(), true, 0) },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c := newBreaker(longestOpening)
				c.fail(time.Now(), false, time.Second)
				<-time.After(time.Second)
				if ok, probe, _ := c.enter(time.Now()); !ok || !probe {
					t.Fatal("no probe is let in")
				}
				var woken atomic.Bool
				go func() {
					_, err := c.await(t.Context(), 8)
					woken.Store(err == nil)
				}()
				<-time.After(time.Minute)
				synctest.Wait()
				if woken.Load() {
					t.Error("somebody is let in beside the probe")
				}
				end(c)
				<-time.After(time.Minute)
				synctest.Wait()
				if !woken.Load() {
					t.Error("nobody is woken")
				}
			})
		})
	}
}

// Failures count in a row alone, and an opening lasts no longer than the longest
// wait and, unless the order service wants it, than the longest opening; nor
// does a short wish make it shorter.
func TestCircuitOpens(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for _, test := range []struct{ longest, leaveAlone, want time.Duration }{
			{2 * time.Second, 0, 2 * time.Second},
			{time.Hour, 0, longestOpening},
			{time.Hour, time.Second, longestOpening},
			{time.Hour, time.Minute, time.Minute},
		} {
			c := newBreaker(test.longest)
			for range 3 {
				for range failuresToOpen - 1 {
					c.fail(time.Now(), false, 0)
				}
				if ok, _, _ := c.enter(time.Now()); !ok {
					t.Fatal("it opens too soon")
				}
				c.succeed()
			}
			for range failuresToOpen {
				c.fail(time.Now(), false, 0)
			}
			for range 10 {
				c.fail(time.Now(), true, test.leaveAlone)
			}
			if _, _, retry := c.enter(time.Now()); retry != test.want {
				t.Errorf("it is open for %s, want %s", retry, test.want)
			}
		}
	})
}

func TestGrowing(t *testing.T) {
	for n, want := range []time.Duration{1, 1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 600, 600} { // the 0th as the first
		if got := growing(time.Second, 10*time.Minute, n); got != want*time.Second {
			t.Errorf("wait %d is %s, want %s", n, got, want*time.Second)
		}
	}
	if got := growing(time.Second, 1<<62, 1000); got != 1<<62 {
		t.Errorf("the longest is %s", got)
	}
}

// What is too old when its order service is away is given up, whether it was its
// turn to be tried or not; what is not so old waits.
func TestGivenUpWhileAway(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const events, giveUp = 300, 3 * time.Hour
		d := dispatchAs(t, func(c *Config) { c.Policy.GiveUp = giveUp }, unreachable, "shop")
		for n := range events {
			d.put("shop", wepay.Payment, fmt.Sprintf("evt_%d", n), "")
		}
		d.pass(giveUp - time.Hour)
		if dead := d.told(); len(dead) > 0 {
			t.Fatalf("%d are given up too soon", len(dead))
		}
		d.put("shop", wepay.Payment, "evt_young", "")
		d.pass(time.Hour + 11*time.Minute) // the longest wait, and that of the circuit
		if dead := d.told(); len(dead) != events {
			t.Errorf("%d are given up", len(dead))
		}
		for n := range events {
			e := d.get(fmt.Sprintf("evt_%d", n))
			if e.State != store.Dead || e.Ended.Sub(e.Since) < giveUp || !strings.Contains(e.Reason, "away") && e.Attempts == 0 {
				t.Fatalf("got %+v", e)
			}
		}
		d.backend.answers(replies(204, ""))
		d.pass(11 * time.Minute)
		if e := d.get("evt_young"); e.State != store.Delivered {
			t.Errorf("got %+v", e)
		}
	})
}
