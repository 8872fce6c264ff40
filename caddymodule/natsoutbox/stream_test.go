package natsoutbox

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/windsome/caddy-wepay/caddymodule"
)

// operator is who works on the streams with other tools.
func operator(t testing.TB, url string) jetstream.JetStream {
	t.Helper()
	nc, err := nats.Connect(url)
	if err != nil {
		t.Fatalf("connecting: %v", err)
	}
	t.Cleanup(nc.Close)
	js, err := jetstream.New(nc)
	if err != nil {
		t.Fatalf("JetStream: %v", err)
	}
	return js
}

// configOf returns how a stream is set up.
func configOf(t testing.TB, js jetstream.JetStream, stream string) jetstream.StreamConfig {
	t.Helper()
	s, err := js.Stream(within(t, lots), stream)
	if err != nil {
		t.Fatalf("stream %s: %v", stream, err)
	}
	return s.CachedInfo().Config
}

// limitBytes limits a stream.
func limitBytes(t testing.TB, js jetstream.JetStream, stream string, bytes int64) {
	t.Helper()
	config := configOf(t, js, stream)
	config.MaxBytes = bytes
	if _, err := js.UpdateStream(within(t, lots), config); err != nil {
		t.Fatalf("limiting the stream: %v", err)
	}
}

// A stream that is set up otherwise is refused with what is wrong, and left as
// it is. What is the operator's own is not wrong.
func TestStreamSettings(t *testing.T) {
	s := startServer(t, nil)
	js := operator(t, s.ClientURL())
	tests := []struct {
		name   string
		letter bool // it is the stream of the dead letters
		change func(*jetstream.StreamConfig)
		want   string // "": it can be used
	}{
		{"as it is made", false, func(*jetstream.StreamConfig) {}, ""},
		{"bytes, description and compression", false, func(c *jetstream.StreamConfig) {
			c.MaxBytes, c.Description, c.Compression = 1<<30, "ours", jetstream.S2Compression
		}, ""},
		{"longer window", false, func(c *jetstream.StreamConfig) { c.Duplicates = 48 * time.Hour }, ""},
		{"max age", false, func(c *jetstream.StreamConfig) { c.MaxAge = 48 * time.Hour }, "max_age is 48h0m0s, needed is none"},
		{"max age of letters", true, func(c *jetstream.StreamConfig) { c.MaxAge = time.Hour }, "max_age is 1h0m0s, needed is none"},
		{"max messages", false, func(c *jetstream.StreamConfig) { c.MaxMsgs = 1000 }, "max_msgs is 1000, needed is -1"},
		{"max message size", false, func(c *jetstream.StreamConfig) { c.MaxMsgSize = 1000 }, "max_msg_size is 1000"},
		{"per subject", false, func(c *jetstream.StreamConfig) { c.MaxMsgsPerSubject = 5 }, "max_msgs_per_subject is 5, needed is 1"},
		{"discard old", false, func(c *jetstream.StreamConfig) { c.Discard = jetstream.DiscardOld }, "discard is DiscardOld, needed is DiscardNew"},
		{"in memory", false, func(c *jetstream.StreamConfig) { c.Storage = jetstream.MemoryStorage }, "storage is Memory, needed is File"},
		{"work queue", false, func(c *jetstream.StreamConfig) { c.Retention = jetstream.WorkQueuePolicy }, "retention is WorkQueue, needed is Limits"},
		{"no TTL", false, func(c *jetstream.StreamConfig) { c.AllowMsgTTL = false }, "allow_msg_ttl is false, needed is true"},
		{"direct gets", false, func(c *jetstream.StreamConfig) { c.AllowDirect = true }, "allow_direct is true, needed is false"},
		{"delete markers", false, func(c *jetstream.StreamConfig) { c.SubjectDeleteMarkerTTL = time.Hour }, "subject_delete_marker_ttl is 1h0m0s, needed is none"},
		{"a counter", false, func(c *jetstream.StreamConfig) {
			c.AllowMsgCounter, c.Discard, c.AllowMsgTTL = true, jetstream.DiscardOld, false
		}, "allow_msg_counter is true, needed is false"},
		{"consumers forgotten soon", false, func(c *jetstream.StreamConfig) { c.ConsumerLimits.InactiveThreshold = time.Minute }, "consumer_limits.inactive_threshold is 1m0s, needed is 24h0m0s or longer"},
		{"nothing deleted", false, func(c *jetstream.StreamConfig) { c.DenyDelete = true }, "deny_delete is true, needed is false"},
		{"short window", false, func(c *jetstream.StreamConfig) { c.Duplicates = time.Minute }, "duplicate_window is 1m0s, needed is 25h0m0s or longer"},
		{"subjects", false, func(c *jetstream.StreamConfig) { c.Subjects = []string{c.Name + ".>"} }, "subjects is ["},
		{"subjects of letters", true, func(c *jetstream.StreamConfig) { c.Subjects = nil }, "subjects is ["},
		{"two at once", false, func(c *jetstream.StreamConfig) { c.MaxAge, c.MaxMsgs = time.Hour*26, 5 }, "max_age is 26h0m0s, needed is none; max_msgs is 5"},
	}
	for i, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			stream := names(fmt.Sprintf("S%d", i))
			config := stream.eventsConfig(1)
			if test.letter {
				config = stream.lettersConfig(1)
			}
			test.change(&config)
			if _, err := js.CreateStream(within(t, lots), config); err != nil {
				t.Fatalf("making the stream: %v", err)
			}
			before := configOf(t, js, config.Name)
			n := newOutbox(t, &NATS{URLs: []string{s.ClientURL()}, Stream: string(stream), Replicas: 1})
			err := n.Open(within(t, lots))
			defer n.Close()
			switch {
			case test.want == "" && err != nil:
				t.Errorf("Open: %v", err)
			case test.want != "" && (err == nil || !strings.Contains(err.Error(), test.want) || !strings.Contains(err.Error(), config.Name)):
				t.Errorf("Open: %v, want %q", err, test.want)
			}
			if after := configOf(t, js, config.Name); fmt.Sprintf("%+v", after) != fmt.Sprintf("%+v", before) {
				t.Errorf("the stream has changed:\n%+v\n%+v", before, after)
			}
		})
	}
}

func TestReplicas(t *testing.T) {
	single := startServer(t, nil)
	n := newOutbox(t, &NATS{URLs: []string{single.ClientURL()}})
	if err := n.Open(within(t, lots)); err == nil || !strings.Contains(err.Error(), "set replicas 1") {
		t.Errorf("three replicas of a single server: %v", err)
	}
	openOutbox(t, &NATS{URLs: []string{single.ClientURL()}, Replicas: 1})
	n = newOutbox(t, &NATS{URLs: []string{single.ClientURL()}})
	if err := n.Open(within(t, lots)); err == nil || !strings.Contains(err.Error(), "num_replicas is 1, needed is 3") {
		t.Errorf("three replicas where there is one: %v", err)
	}
}

// Who has the subjects already, and what to do, is said where they cannot be had.
func TestSubjectsTaken(t *testing.T) {
	s := startServer(t, nil)
	_, err := operator(t, s.ClientURL()).CreateStream(within(t, lots), jetstream.StreamConfig{Name: "ALL", Subjects: []string{"WEPAY.>"}})
	if err != nil {
		t.Fatal(err)
	}
	n := newOutbox(t, &NATS{URLs: []string{s.ClientURL()}, Replicas: 1})
	if err := n.Open(within(t, lots)); err == nil || !strings.Contains(err.Error(), "name another stream here, or take them from that one") {
		t.Errorf("Open: %v", err)
	}
}

func TestVersion(t *testing.T) {
	for version, want := range map[string]bool{
		"2.11.0": true, "2.11.0-preview.2": true, "2.12.3": true, "3.0.0": true, "2.10.29": false, "1.4.1": false, "": false, "two": false,
	} {
		if err := checkVersion(version); (err == nil) != want {
			t.Errorf("%q: %v", version, err)
		}
	}
}

// A full stream refuses an event at once and says so; what is in it is handed
// over all the same, and that makes room.
func TestFull(t *testing.T) {
	s := startServer(t, nil)
	o := openOutbox(t, &NATS{URLs: []string{s.ClientURL()}, Replicas: 1})
	js := operator(t, s.ClientURL())
	const limit = 256 << 10
	limitBytes(t, js, defaultStream, limit)
	event := func(n int) *caddymodule.Event {
		e := payment(fmt.Sprintf("evt_%d", n))
		e.Payload = []byte(`{"attach":"` + strings.Repeat("x", 8<<10) + `"}`)
		return e
	}
	stored := 0
	for ; ; stored++ {
		began := time.Now()
		err := o.Put(within(t, lots), event(stored))
		if err == nil && stored < 1000 {
			continue
		}
		if err == nil || !strings.Contains(err.Error(), "the stream WEPAY is full") || time.Since(began) > time.Second {
			t.Fatalf("Put %d: %v after %s", stored, err, time.Since(began))
		}
		break
	}
	if _, err := o.Get(within(t, lots), fmt.Sprintf("evt_%d", stored)); !errors.Is(err, caddymodule.ErrNoEvent) {
		t.Errorf("what was refused: %v", err)
	}
	if got := counts(t, o); got[caddymodule.Waiting] != stored || len(got) != 1 {
		t.Errorf("counted: %v, want %d", got, stored)
	}
	if info, err := o.store.events.Info(within(t, lots)); err != nil || info.State.Bytes > limit-limit/reserved {
		t.Errorf("the stream holds %d bytes of %d (%v)", info.State.Bytes, limit, err)
	}
	l := leaseOne(t, o, long)
	l.Event.Due, l.Event.Attempts, l.Event.Reason = time.Now(), 1, strings.Repeat("a reason ", 50)
	if err := o.Settle(within(t, lots), l); err != nil {
		t.Errorf("Settle in a full stream: %v", err)
	}
	deliver(t, o, stored)
	await(t, "room", func() bool { return o.Put(within(t, lots), event(stored)) == nil })
	deliver(t, o, 1)
}

// When the servers have no room an event is refused at once, and taken again
// when there is room.
func TestServerFull(t *testing.T) {
	s := startServer(t, func(o *serverOptions) { o.JetStreamMaxStore = 256 << 10 })
	o := openOutbox(t, &NATS{URLs: []string{s.ClientURL()}, Replicas: 1})
	put(t, o, "evt_1")
	js := operator(t, s.ClientURL())
	if _, err := js.CreateStream(within(t, lots), jetstream.StreamConfig{Name: "other", Storage: jetstream.FileStorage}); err != nil {
		t.Fatal(err)
	}
	await(t, "a full server", func() bool {
		_, err := js.Publish(within(t, lots), "other", make([]byte, 16<<10))
		return err != nil
	})
	began := time.Now()
	err := o.Put(within(t, lots), payment("evt_2"))
	if err == nil || !strings.Contains(err.Error(), "takes nothing more") || time.Since(began) > time.Second {
		t.Errorf("Put: %v after %s", err, time.Since(began))
	}
	if got := counts(t, o); got[caddymodule.Waiting] != 1 || len(got) != 1 {
		t.Errorf("counted: %v", got)
	}
	if err := js.DeleteStream(within(t, lots), "other"); err != nil {
		t.Fatal(err)
	}
	put(t, o, "evt_2")
	deliver(t, o, 2)
}

// Who dies between two messages leaves an event in two states. It is in the
// later one, for everybody, and what is left of the earlier is removed.
func TestHalfMoved(t *testing.T) {
	s := startServer(t, nil)
	o := openOutbox(t, &NATS{URLs: []string{s.ClientURL()}, Replicas: 1})
	half := func(l *caddymodule.Lease, state caddymodule.State) {
		t.Helper()
		e := *l.Event
		e.State, e.Due, e.Ended = state, time.Time{}, time.Now()
		if err := o.store.write(within(t, lots), &record{Event: bare(&e)}, l.Token.(*lease).record.seq, time.Duration(o.Keep)); err != nil {
			t.Fatalf("write: %v", err)
		}
	}
	twice := func(id string) int {
		t.Helper()
		subjects, err := o.store.subjects(within(t, lots), o.stream.anyState(id))
		if err != nil {
			t.Fatal(err)
		}
		return len(subjects)
	}
	put(t, o, "evt_1")
	half(leaseOne(t, o, long), caddymodule.Delivered)
	if n := twice("evt_1"); n != 2 {
		t.Fatalf("it has %d messages", n)
	}
	events, next, err := o.List(within(t, lots), caddymodule.Filter{}, "", 10)
	if err != nil || len(events) != 1 || next != "" || events[0].State != caddymodule.Delivered {
		t.Errorf("listed: %v %q (%v)", events, next, err)
	}
	if events, _, err := o.List(within(t, lots), caddymodule.Filter{State: caddymodule.Waiting}, "", 10); err != nil || len(events) != 0 {
		t.Errorf("listed as waiting: %v (%v)", events, err)
	}
	if got := counts(t, o); got[caddymodule.Delivered] != 1 || len(got) != 1 {
		t.Errorf("counted: %v", got)
	}
	if n := twice("evt_1"); n != 1 {
		t.Errorf("it has %d messages still", n)
	}

	// The consumer finds it as well, when the lease has run out.
	put(t, o, "evt_2")
	half(leaseOne(t, o, short), caddymodule.Delivered)
	ctx, cancel := context.WithCancel(within(t, lots))
	defer cancel()
	leased := make(chan []*caddymodule.Lease, 1)
	go func() {
		leases, _ := o.Lease(ctx, payments, 1, long)
		leased <- leases
	}()
	await(t, "its removal", func() bool { return twice("evt_2") == 1 })
	cancel()
	if leases := <-leased; len(leases) > 0 {
		t.Errorf("%s is given out after it was delivered", leases[0].Event.ID)
	}
}
