package natsoutbox

import (
	"testing"
	"time"

	"github.com/nats-io/nuid"

	"github.com/windsome/caddy-wepay/caddymodule"
)

// An event that the consumer has forgotten is handed over all the same, and what
// somebody holds, or what is not due, is not touched.
func TestOverlooked(t *testing.T) {
	t.Parallel()
	s := startServer(t, nil)
	o := openOutbox(t, &NATS{URLs: []string{s.ClientURL()}, Replicas: 1})
	o.store.sweepEvery, o.store.overlooked = time.Millisecond, 0
	later := payment("evt_later")
	later.Due = time.Now().Add(time.Hour)
	if err := o.Put(within(t, lots), later); err != nil {
		t.Fatal(err)
	}
	forget := func(id string) {
		t.Helper()
		if err := pulled(t, o, id)[0].DoubleAck(within(t, lots)); err != nil {
			t.Fatal(err)
		}
	}
	for _, id := range []string{"evt_1", "evt_2"} {
		forget(id)
		l := leaseOne(t, o, long)
		if l.Event.ID != id {
			t.Errorf("leased %s, want %s", l.Event.ID, id)
		}
		if id == "evt_1" {
			settle(t, o, l, caddymodule.Delivered)
		}
	}
	await(t, "a whole round over what is left", func() bool {
		if leases := o.store.sweep(within(t, lots), payments, 10, long); len(leases) > 0 {
			t.Errorf("swept %d events", len(leases))
		}
		return o.store.swept[payments].seq == 0
	})
}

// The events of a queue that is longer than a sweep are all looked at in turn,
// and no more are leased than are wanted.
func TestSweepGoesOn(t *testing.T) {
	t.Parallel()
	s := startServer(t, nil)
	o := openOutbox(t, &NATS{URLs: []string{s.ClientURL()}, Replicas: 1})
	o.store.sweepEvery, o.store.overlooked = 0, 0
	const n = sweepLength + 20
	for range sweepLength {
		later := payment("evt_" + nuid.Next())
		later.Due = time.Now().Add(time.Hour)
		if err := o.Put(within(t, lots), later); err != nil {
			t.Fatal(err)
		}
	}
	for range n - sweepLength {
		put(t, o, "evt_"+nuid.Next())
	}
	found := 0
	await(t, "all that are free", func() bool {
		leases := o.store.sweep(within(t, lots), payments, 7, long)
		if found += len(leases); len(leases) > 7 {
			t.Errorf("leased %d at once", len(leases))
		}
		return found == n-sweepLength
	})
	if leases := o.store.sweep(within(t, lots), payments, 7, long); len(leases) > 0 {
		t.Errorf("leased %d more", len(leases))
	}
}
