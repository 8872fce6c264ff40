package natsoutbox

import (
	"errors"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/windsome/caddy-wepay/caddymodule"
)

// shortenWindow has a stream forget each Nats-Msg-Id at once.
func shortenWindow(t testing.TB, js jetstream.JetStream) {
	t.Helper()
	config := configOf(t, js, defaultStream)
	config.Duplicates = 100 * time.Millisecond
	if _, err := js.UpdateStream(within(t, lots), config); err != nil {
		t.Fatalf("shortening the window: %v", err)
	}
}

// pastWindow waits until the stream has forgotten the Nats-Msg-Id of an event.
func pastWindow(t testing.TB, js jetstream.JetStream, id string) {
	t.Helper()
	await(t, "the end of the window", func() bool {
		ack, err := js.Publish(within(t, lots), defaultStream+".dropped.probe.x.y", nil, jetstream.WithMsgID(id))
		return err == nil && !ack.Duplicate
	})
}

// Past the window of Nats-Msg-Id an event is known as long as the stream says
// anything of it: while it waits, while somebody holds it, while it is dead, and
// until `keep` after it ended.
func TestKnownPastTheWindow(t *testing.T) {
	s := startServer(t, nil)
	o := openOutbox(t, &NATS{URLs: []string{s.ClientURL()}, Replicas: 1})
	js := operator(t, s.ClientURL())
	shortenWindow(t, js)
	states := make(map[string]caddymodule.State)
	for _, state := range []caddymodule.State{caddymodule.Delivered, caddymodule.Dead, caddymodule.Dropped} {
		id := "evt_" + string(state)
		states[id] = state
		put(t, o, id)
		if state == caddymodule.Dropped {
			if err := o.Drop(within(t, lots), id, "a reason"); err != nil {
				t.Fatalf("Drop: %v", err)
			}
			continue
		}
		settle(t, o, leaseOne(t, o, long), state)
	}
	put(t, o, "evt_held")
	held := leaseOne(t, o, long)
	waiting := payment("evt_waiting")
	waiting.Due = waiting.Due.Add(time.Hour)
	if err := o.Put(within(t, lots), waiting); err != nil {
		t.Fatalf("Put: %v", err)
	}
	states["evt_held"], states["evt_waiting"] = caddymodule.Waiting, caddymodule.Waiting

	for id, state := range states {
		pastWindow(t, js, id)
		put(t, o, id)
		if e, err := o.Get(within(t, lots), id); err != nil || e.State != state {
			t.Errorf("%s is %v (%v), want %s", id, e, err, state)
		}
		checkSaid(t, o, id, state)
	}
	nothingLeft(t, o)
	settle(t, o, held, caddymodule.Delivered)
}

// checkSaid checks that there is one message about an event, which the stream
// forgets by itself only where the event has ended.
func checkSaid(t *testing.T, o *NATS, id string, state caddymodule.State) {
	t.Helper()
	subjects, err := o.store.subjects(within(t, lots), o.stream.anyState(idToken(id)))
	if err != nil || len(subjects) != 1 {
		t.Fatalf("%s has the messages %q (%v)", id, subjects, err)
	}
	msg, err := o.store.events.GetLastMsgForSubject(within(t, lots), subjects[0])
	if err != nil {
		t.Fatalf("the message about %s: %v", id, err)
	}
	want := ""
	if state == caddymodule.Delivered || state == caddymodule.Dropped {
		want = time.Duration(o.Keep).String()
	}
	if ttl := msg.Header.Get(jetstream.MsgTTLHeader); ttl != want {
		t.Errorf("%s is forgotten after %q, want %q", id, ttl, want)
	}
}

// What was delivered is known until `keep` is over, and then forgotten by the
// stream itself. Told again after that it is a new event, which the order service
// knows by the same webhook-id; whether its Nats-Msg-Id is known decides nothing.
func TestForgotten(t *testing.T) {
	for name, past := range map[string]bool{"past the window": true, "within the window": false} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := startServer(t, nil)
			o := openOutbox(t, &NATS{URLs: []string{s.ClientURL()}, Replicas: 1})
			js := operator(t, s.ClientURL())
			if past {
				shortenWindow(t, js)
			}
			put(t, o, "evt_1")
			l := leaseOne(t, o, long)
			const left = 3 * time.Second
			l.Event.State, l.Event.Due, l.Event.Ended = caddymodule.Delivered, time.Time{}, time.Now().Add(left-time.Duration(o.Keep))
			ends := time.Now().Add(left)
			if err := o.Settle(within(t, lots), l); err != nil {
				t.Fatalf("Settle: %v", err)
			}
			if past {
				pastWindow(t, js, "evt_1")
			}
			put(t, o, "evt_1")
			if e, err := o.Get(within(t, lots), "evt_1"); err != nil || e.State != caddymodule.Delivered {
				t.Errorf("within keep it is %v (%v)", e, err)
			}
			await(t, "its end", func() bool {
				_, err := o.Get(within(t, lots), "evt_1")
				return errors.Is(err, caddymodule.ErrNoEvent)
			})
			if early := time.Until(ends); early > time.Second {
				t.Errorf("it is forgotten %s before keep is over", early)
			}
			put(t, o, "evt_1")
			if again := leaseOne(t, o, long); again.Event.ID != "evt_1" {
				t.Errorf("%s is given out", again.Event.ID)
			}
		})
	}
}

// An event whose messages an operator has purged is not known any more, though
// its Nats-Msg-Id is: SUCCESS would be no truth.
func TestPurged(t *testing.T) {
	s := startServer(t, nil)
	o := openOutbox(t, &NATS{URLs: []string{s.ClientURL()}, Replicas: 1})
	put(t, o, "evt_1")
	stream, err := operator(t, s.ClientURL()).Stream(within(t, lots), defaultStream)
	if err != nil {
		t.Fatal(err)
	}
	if err := stream.Purge(within(t, lots)); err != nil {
		t.Fatalf("Purge: %v", err)
	}
	put(t, o, "evt_1")
	deliver(t, o, 1)
}

// The window is longer than WeChat repeats a notification, and no stream has a
// shorter one.
func TestWindow(t *testing.T) {
	s := startServer(t, nil)
	openOutbox(t, &NATS{URLs: []string{s.ClientURL()}, Replicas: 1})
	if is, least := configOf(t, operator(t, s.ClientURL()), defaultStream).Duplicates, 24*time.Hour+4*time.Minute; is <= least {
		t.Errorf("the window is %s, WeChat repeats for %s", is, least)
	}
}
