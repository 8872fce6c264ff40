package natsoutbox

import (
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/windsome/caddy-wepay/caddymodule"
)

// deafOutbox is an outbox by way of a network that can lose what the server says.
func deafOutbox(t testing.TB) (o *NATS, network *proxy, direct *NATS) {
	t.Helper()
	s := startServer(t, nil)
	direct = openOutbox(t, &NATS{URLs: []string{s.ClientURL()}, Replicas: 1})
	network = startProxy(t, s.Addr().String())
	return openOutbox(t, &NATS{URLs: []string{"nats://" + network.address()}, Replicas: 1}), network, direct
}

// unheard does something that the server does and of which the answer is lost,
// and returns what comes of it when the answers come again.
func unheard(t testing.TB, network *proxy, done func() bool, do func() error) error {
	t.Helper()
	network.setDeaf(true)
	came := make(chan error, 1)
	go func() { came <- do() }()
	await(t, "what is not heard of", done)
	network.setDeaf(false)
	return <-came
}

// What was done though its answer got lost is done once, and is no failure: a
// Put, the end of a lease, and a lease, whose holder has the event.
func TestAnswerLost(t *testing.T) {
	t.Parallel()
	o, network, direct := deafOutbox(t)
	is := func(id string, state caddymodule.State) func() bool {
		return func() bool {
			e, err := direct.Get(within(t, lots), id)
			return err == nil && e.State == state
		}
	}
	put(t, o, "evt_0") // the room is known
	if err := unheard(t, network, is("evt_1", caddymodule.Waiting), func() error {
		return o.store.move(within(t, lots), &record{Event: payment("evt_1")}, payment("evt_1"), time.Duration(o.Keep))
	}); err != nil {
		t.Errorf("storing an event: %v", err)
	}
	for range 2 {
		l := leaseOne(t, o, long)
		if err := unheard(t, network, is(l.Event.ID, caddymodule.Delivered), func() error {
			l.Event.State, l.Event.Due, l.Event.Ended = caddymodule.Delivered, time.Time{}, time.Now()
			return o.Settle(within(t, lots), l)
		}); err != nil {
			t.Errorf("Settle: %v", err)
		}
	}
	if got := counts(t, direct); got[caddymodule.Delivered] != 2 || len(got) != 1 {
		t.Errorf("counted: %v", got)
	}
}

// leased reports whether the stream says that an event is leased.
func leased(t testing.TB, o *NATS, id string) bool {
	t.Helper()
	r, err := o.store.last(within(t, lots), idToken(id))
	if err != nil {
		t.Fatalf("reading %s: %v", id, err)
	}
	return !r.Leased.IsZero()
}

// pulled returns the message of an event that is put.
func pulled(t testing.TB, o *NATS, id string) []jetstream.Msg {
	t.Helper()
	put(t, o, id)
	consumer, err := o.store.consumer(within(t, lots), payments)
	if err != nil {
		t.Fatalf("consumer: %v", err)
	}
	msgs, err := o.store.pull(within(t, lots), consumer, 1)
	if err != nil || len(msgs) != 1 {
		t.Fatalf("pull: %d messages (%v)", len(msgs), err)
	}
	return msgs
}

// A lease whose answer got lost is the caller's when the answers come again in
// time.
func TestLeaseUnheard(t *testing.T) {
	t.Parallel()
	o, network, direct := deafOutbox(t)
	msgs := pulled(t, o, "evt_1")
	var taken []*lease
	if err := unheard(t, network, func() bool { return leased(t, direct, "evt_1") }, func() (err error) {
		taken, err = o.store.take(t.Context(), msgs, long)
		return err
	}); err != nil || len(taken) != 1 {
		t.Errorf("leased: %d (%v)", len(taken), err)
	}
	nothingLeft(t, direct)
}

// A lease whose answer does not come in time is nobody's, and its event is given
// out again long before the term is over.
func TestLeaseUnheardTooLong(t *testing.T) {
	t.Parallel()
	o, network, direct := deafOutbox(t)
	msgs := pulled(t, o, "evt_1")
	network.setDeaf(true)
	if taken, err := o.store.take(t.Context(), msgs, long); err == nil || len(taken) > 0 {
		t.Errorf("leased: %d (%v)", len(taken), err)
	}
	if !leased(t, direct, "evt_1") {
		t.Error("the lease has not begun")
	}
	network.setDeaf(false)
	leaseOne(t, direct, long)
}

// What a node was given that dies before it leases it is given to another soon.
func TestNodeDiesBeforeLease(t *testing.T) {
	t.Parallel()
	o, network, direct := deafOutbox(t)
	pulled(t, o, "evt_1")
	network.setCut(true)
	if leases, err := direct.Lease(within(t, lots), payments, 1, long); err != nil || len(leases) != 1 {
		t.Errorf("Lease: %d events (%v)", len(leases), err)
	}
	network.setCut(false)
}

// An event whose lease the stream does not take, since it is full, comes again
// when there is room.
func TestLeaseRefused(t *testing.T) {
	t.Parallel()
	s := startServer(t, nil)
	o := openOutbox(t, &NATS{URLs: []string{s.ClientURL()}, Replicas: 1})
	js := operator(t, s.ClientURL())
	msgs := pulled(t, o, "evt_1")
	limitBytes(t, js, defaultStream, 100)
	if taken, err := o.store.take(t.Context(), msgs, long); err == nil || len(taken) > 0 || !strings.Contains(err.Error(), "the stream WEPAY takes nothing more") {
		t.Errorf("leased: %d (%v)", len(taken), err)
	}
	limitBytes(t, js, defaultStream, -1)
	leaseOne(t, o, long)
}
