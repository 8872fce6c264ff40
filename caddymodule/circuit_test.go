package caddymodule

import (
	"testing"
	"testing/synctest"
	"time"
)

// Merchants whose events go to one order service share what is known of it.
func TestCircuit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCircuit(longestOpening)
		for n := range failuresToOpen {
			if ok, probe, _ := c.enter(time.Now()); !ok || probe {
				t.Fatalf("shut after %d failures", n)
			}
			c.fail(time.Now(), false, 0)
		}
		for n := 1; n < 8; n++ {
			began := time.Now()
			if ok, _, retry := c.enter(began); ok || !retry.After(began) {
				t.Fatalf("open circuit lets an event in (again at %s)", retry)
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
			if ok, _, _ := c.enter(time.Now()); ok {
				t.Fatal("two probes are let in")
			}
			c.fail(time.Now(), true, 0)
		}
		c.succeed()
		if limit, err := c.await(t.Context(), 8); limit != 8 || err != nil {
			t.Errorf("closed: %d (%v)", limit, err)
		}
		c.fail(time.Now(), false, time.Minute)
		if ok, _, retry := c.enter(time.Now()); ok || time.Until(retry) != time.Minute {
			t.Errorf("left alone until %s", retry)
		}
	})
}
