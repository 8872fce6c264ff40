package natsoutbox

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"github.com/windsome/caddy-wepay/caddymodule"
)

// consumerOf returns how the consumer of the payments is set up.
func consumerOf(t testing.TB, js jetstream.JetStream) *jetstream.ConsumerInfo {
	t.Helper()
	consumer, err := js.Consumer(within(t, lots), defaultStream, names(defaultStream).consumer(payments))
	if err != nil {
		t.Fatalf("the queue's consumer: %v", err)
	}
	return consumer.CachedInfo()
}

// A queue's consumer is no more than an alarm: one of another release is changed,
// one that nobody pulls by is forgotten by the servers, and one that is gone is
// made anew, also while a Lease waits.
func TestConsumer(t *testing.T) {
	s := startServer(t, nil)
	js := operator(t, s.ClientURL())
	o := openOutbox(t, &NATS{URLs: []string{s.ClientURL()}, Replicas: 1})
	config := jetstream.ConsumerConfig{
		Durable: o.stream.consumer(payments), FilterSubject: o.stream.waiting(payments), AckPolicy: jetstream.AckExplicitPolicy,
		AckWait: time.Minute, MaxAckPending: 10,
	}
	if _, err := js.CreateConsumer(within(t, lots), defaultStream, config); err != nil {
		t.Fatalf("making a consumer: %v", err)
	}
	put(t, o, "evt_1")
	deliver(t, o, 1)
	if is := consumerOf(t, js).Config; is.AckWait != ackWait || is.MaxAckPending != -1 || is.InactiveThreshold != consumerKeep {
		t.Errorf("the consumer is as it was: %+v", is)
	}

	leased := make(chan *caddymodule.Lease)
	go func() {
		leases, err := o.Lease(within(t, lots), payments, 1, long)
		if err != nil {
			t.Errorf("Lease: %v", err)
			close(leased)
			return
		}
		leased <- leases[0]
	}()
	await(t, "a Lease that waits", func() bool { return consumerOf(t, js).NumWaiting > 0 })
	if err := js.DeleteConsumer(within(t, lots), defaultStream, config.Durable); err != nil {
		t.Fatalf("removing the consumer: %v", err)
	}
	put(t, o, "evt_2")
	if l := <-leased; l == nil || l.Event.ID != "evt_2" {
		t.Errorf("leased: %v", l)
	}

	other := openOutbox(t, &NATS{URLs: []string{s.ClientURL()}, Replicas: 1, Stream: "OTHER"})
	config.DeliverPolicy, config.FilterSubject = jetstream.DeliverNewPolicy, other.stream.waiting(payments)
	if _, err := js.CreateConsumer(within(t, lots), "OTHER", config); err != nil {
		t.Fatalf("making a consumer: %v", err)
	}
	if _, err := other.Lease(within(t, lots), payments, 1, long); err == nil || !strings.Contains(err.Error(), "it may be removed") {
		t.Errorf("Lease by a consumer that cannot be changed: %v", err)
	}
}

// waitingLease is an outbox in which a Lease of a caller waits, and how that ends.
func waitingLease(t testing.TB, caller context.Context) (o *NATS, ended <-chan error) {
	t.Helper()
	s := startServer(t, nil)
	js := operator(t, s.ClientURL())
	o = openOutbox(t, &NATS{URLs: []string{s.ClientURL()}, Replicas: 1})
	put(t, o, "evt_1")
	deliver(t, o, 1) // so that there is a consumer
	end := make(chan error)
	go func() {
		_, err := o.Lease(caller, payments, 1, long)
		end <- err
	}()
	await(t, "a Lease that waits", func() bool { return consumerOf(t, js).NumWaiting > 0 })
	return o, end
}

// Close ends what waits and does not wait for it.
func TestCloseEndsPulls(t *testing.T) {
	o, ended := waitingLease(t, context.Background())
	began := time.Now()
	if err := o.Close(); err != nil {
		t.Errorf("Close: %v", err)
	}
	if took := time.Since(began); took > pullWait/2 {
		t.Errorf("Close takes %s", took)
	}
	if err := <-ended; !errors.Is(err, caddymodule.ErrOutboxClosed) {
		t.Errorf("Lease: %v", err)
	}
}

// What comes for a caller that has left goes to another at once, and not when the
// server takes it for lost.
func TestCallerLeaves(t *testing.T) {
	ctx, leave := context.WithCancel(within(t, lots))
	o, left := waitingLease(t, ctx)
	leave()
	if err := <-left; !errors.Is(err, context.Canceled) {
		t.Errorf("Lease: %v", err)
	}
	began := time.Now()
	put(t, o, "evt_2")
	leaseOne(t, o, long)
	if took := time.Since(began); took > ackWait/2 {
		t.Errorf("it comes after %s", took)
	}
}

// What is not due comes once, and again when it is: it is not asked for over and
// over meanwhile.
func TestNotDue(t *testing.T) {
	s := startServer(t, nil)
	o := openOutbox(t, &NATS{URLs: []string{s.ClientURL()}, Replicas: 1})
	later := payment("evt_later")
	later.Due = later.Due.Add(time.Hour)
	if err := o.Put(within(t, lots), later); err != nil {
		t.Fatalf("Put: %v", err)
	}
	put(t, o, "evt_1")
	deliver(t, o, 1)
	nothingLeft(t, o)
	if is := consumerOf(t, operator(t, s.ClientURL())); is.Delivered.Consumer > 5 || is.NumRedelivered > 1 {
		t.Errorf("%d messages are given out, %d of them again", is.Delivered.Consumer, is.NumRedelivered)
	}
}

// A message that is no event, or not the one that its subject names, stays where
// it is, is told of, and holds up nothing.
func TestDamaged(t *testing.T) {
	s := startServer(t, nil)
	js := operator(t, s.ClientURL())
	n := newOutbox(t, &NATS{URLs: []string{s.ClientURL()}, Replicas: 1})
	logger, log := observer.New(zap.ErrorLevel)
	n.logger = zap.New(logger)
	o := open(t, n)
	forged, err := (&record{Event: payment("evt_other")}).encode()
	if err != nil {
		t.Fatal(err)
	}
	for id, data := range map[string][]byte{"evt_cut": []byte("{"), "evt_text": []byte("text\n"), "evt_none": []byte("{}\n"), "evt_forged": forged} {
		if _, err := js.Publish(within(t, lots), o.stream.event(payment(id)), data); err != nil {
			t.Fatal(err)
		}
	}
	put(t, o, "evt_1", "evt_2")
	deliver(t, o, 2)
	nothingLeft(t, o)
	if log.FilterMessageSnippet("damaged").Len() != 4 || log.Len() != 4 {
		t.Errorf("logged: %v", log.All())
	}
	for _, id := range []string{"evt_cut", "evt_forged"} {
		if e, err := o.Get(within(t, lots), id); err == nil || errors.Is(err, caddymodule.ErrNoEvent) {
			t.Errorf("Get of %s: %v (%v)", id, e, err)
		}
	}
	if got := counts(t, o); got[caddymodule.Waiting] != 4 {
		t.Errorf("counted: %v", got)
	}
	listed, damaged := 0, 0
	for after := ""; ; {
		var is caddymodule.Damaged
		events, next, err := o.List(within(t, lots), caddymodule.Filter{}, after, 1)
		if err != nil && !errors.As(err, &is) {
			t.Fatal(err)
		}
		listed, damaged = listed+len(events), damaged+is.Events
		if after = next; next == "" {
			break
		}
	}
	if listed != 2 || damaged != 4 {
		t.Errorf("%d events are listed, and %d said to be damaged", listed, damaged)
	}
}

// Calls that wait for one another's answer go when their own contexts end.
func TestTurns(t *testing.T) {
	s := startServer(t, nil)
	o := openOutbox(t, &NATS{URLs: []string{s.ClientURL()}, Replicas: 1})
	for name, test := range map[string]struct {
		turn turn
		call func(context.Context) error
	}{
		"Put":   {o.store.room.turn, func(ctx context.Context) error { return o.Put(ctx, payment("evt_1")) }},
		"Count": {o.store.tally.turn, func(ctx context.Context) error { _, err := o.Count(ctx); return err }},
		"List": {o.store.paging.turn, func(ctx context.Context) error {
			_, _, err := o.List(ctx, caddymodule.Filter{}, "", 1)
			return err
		}},
	} {
		if err := test.turn.take(t.Context()); err != nil {
			t.Fatal(err)
		}
		began := time.Now()
		if err := test.call(within(t, short)); !errors.Is(err, context.DeadlineExceeded) || time.Since(began) > lots/2 {
			t.Errorf("%s while another has the turn: %v after %s", name, err, time.Since(began))
		}
		test.turn.end()
		if err := test.call(within(t, lots)); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// A lease that NATS has taken without saying so is given back, since nobody knows
// of it; one that is somebody's is not.
func TestTakeBack(t *testing.T) {
	s := startServer(t, nil)
	o := openOutbox(t, &NATS{URLs: []string{s.ClientURL()}, Replicas: 1})
	put(t, o, "evt_lost", "evt_held")
	var lost, held *lease
	for range 2 {
		l := leaseOne(t, o, long).Token.(*lease)
		if l.waiting.ID == "evt_held" {
			held = l
		} else {
			lost = l
		}
	}
	unknown := *held.record
	unknown.Mark, unknown.seq = "another's", 0
	o.store.takeBack(&lease{record: &unknown, waiting: held.waiting})
	unheard := *lost.record
	unheard.seq = 0
	o.store.takeBack(&lease{record: &unheard, waiting: lost.waiting})
	if id := leaseOne(t, o, long).Event.ID; id != "evt_lost" {
		t.Errorf("%s is given out", id)
	}
	nothingLeft(t, o)
}
