package natsoutbox

import (
	"strings"
	"testing"
	"time"

	"github.com/windsome/caddy-wepay/caddymodule"
)

// A dead event's letter is in a stream of its own, as long as it is dead.
func TestDeadLetters(t *testing.T) {
	s := startServer(t, nil)
	o := openOutbox(t, &NATS{URLs: []string{s.ClientURL()}, Replicas: 1})
	letters, err := operator(t, s.ClientURL()).Stream(within(t, lots), "WEPAY_DEAD")
	if err != nil {
		t.Fatal(err)
	}
	kept := func(want uint64) {
		t.Helper()
		info, err := letters.Info(within(t, lots))
		if err != nil || info.State.Msgs != want {
			t.Errorf("%d letters, want %d (%v)", info.State.Msgs, want, err)
		}
	}
	die := func() { settle(t, o, leaseOne(t, o, long), caddymodule.Dead) }
	put(t, o, "evt_1")
	die()
	kept(1)
	msg, err := letters.GetLastMsgForSubject(within(t, lots), "WEPAY_DEAD.evt_1.shop.payment")
	if err != nil || !strings.HasSuffix(string(msg.Data), "\n"+`{"out_trade_no":"evt_1"}`) {
		t.Errorf("the letter is %v (%v)", msg, err)
	}
	if err := o.Replay(within(t, lots), "evt_1"); err != nil {
		t.Fatalf("Replay: %v", err)
	}
	kept(0)
	die()
	if err := o.Drop(within(t, lots), "evt_1", "a reason"); err != nil {
		t.Fatalf("Drop: %v", err)
	}
	kept(0)

	// Of an import.
	dead := payment("evt_2")
	dead.State, dead.Due, dead.Ended = caddymodule.Dead, time.Time{}, time.Now()
	for range 2 {
		if err := o.Put(within(t, lots), dead); err != nil {
			t.Fatalf("Put: %v", err)
		}
	}
	kept(1)
	if e, err := o.Get(within(t, lots), "evt_2"); err != nil || string(e.Payload) != string(dead.Payload) {
		t.Errorf("it is %v (%v)", e, err)
	}

	// An operator may have removed it with other tools.
	if err := letters.Purge(within(t, lots)); err != nil {
		t.Fatal(err)
	}
	if err := o.Replay(within(t, lots), "evt_2"); err == nil || !strings.Contains(err.Error(), "WEPAY_DEAD") {
		t.Errorf("Replay of what has no letter: %v", err)
	}
	if err := o.Drop(within(t, lots), "evt_2", "a reason"); err != nil {
		t.Errorf("Drop of what has no letter: %v", err)
	}
}

// What cannot become a dead letter, since their stream is full, waits on and is
// tried again, and is given up when there is room.
func TestLettersFull(t *testing.T) {
	s := startServer(t, nil)
	o := openOutbox(t, &NATS{URLs: []string{s.ClientURL()}, Replicas: 1})
	js := operator(t, s.ClientURL())
	limitBytes(t, js, "WEPAY_DEAD", 100)
	put(t, o, "evt_1")
	die := func(l *caddymodule.Lease) error {
		l.Event.State, l.Event.Due, l.Event.Ended, l.Event.Attempts = caddymodule.Dead, time.Time{}, time.Now(), 9
		return o.Settle(within(t, lots), l)
	}
	if err := die(leaseOne(t, o, short)); err == nil || !strings.Contains(err.Error(), "the stream WEPAY_DEAD takes nothing more") {
		t.Errorf("Settle: %v", err)
	}
	if got := counts(t, o); got[caddymodule.Waiting] != 1 || len(got) != 1 {
		t.Errorf("counted: %v", got)
	}
	again := leaseOne(t, o, long)
	if string(again.Event.Payload) != string(payment("evt_1").Payload) {
		t.Errorf("it comes again with %s", again.Event.Payload)
	}
	limitBytes(t, js, "WEPAY_DEAD", -1)
	if err := die(again); err != nil {
		t.Errorf("Settle when there is room: %v", err)
	}
	if got := counts(t, o); got[caddymodule.Dead] != 1 || len(got) != 1 {
		t.Errorf("counted: %v", got)
	}
}
