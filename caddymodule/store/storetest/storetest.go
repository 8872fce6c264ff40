// Package storetest has the contract that every store passes, whatever it keeps
// its events in. A store's own test says how one is made:
//
//	func TestContract(t *testing.T) {
//		storetest.Run(t, func(t testing.TB) func() store.Store {
//			file := filepath.Join(t.TempDir(), "events")
//			return func() store.Store { return newStore(t, file) }
//		})
//	}
//
// It takes some seconds, since it works by the real clock: it waits for what
// becomes due and for leases that run out, and asserts only that nothing comes
// before its time.
//
// [Memory] is a store for tests of what is built on one.
package storetest

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"testing"
	"time"

	"github.com/windsome/caddy-wepay/caddymodule/store"
	"github.com/windsome/caddy-wepay/wepay"
)

// Run checks a store. It calls place for an empty place to keep events in, one
// for each check, and what that returns for an instance that works there. An
// instance comes as Caddy would have provisioned it and is not open yet; Run
// opens several on one place, also at the same time, and closes them.
func Run(t *testing.T, place func(t testing.TB) func() store.Store) {
	for _, c := range contract {
		t.Run(c.name, func(t *testing.T) { c.run(t, place) })
	}
}

// contract is all that is checked.
var contract = []check{
	{"closed", checkClosed},
	{"context", checkContext},
	{"durable", checkDurable},
	{"copies", checkCopies},
	{"known in every state", checkKnown},
	{"same event at once", checkSameAtOnce},
	{"unknown", checkUnknown},

	{"order", checkOrder},
	{"due", checkDue},
	{"due too far ahead", checkDueTooFar},
	{"limit", checkLimit},
	{"put wakes", checkPutWakes},
	{"close wakes", checkCloseWakes},
	{"queues", checkQueues},
	{"names", checkNames},
	{"leased once", checkLeasedOnce},
	{"lease runs out", checkRunsOut},
	{"settled late", checkSettledLate},
	{"leases end with close", checkLeasesEnd},

	{"try again", checkTryAgain},
	{"settled", checkSettled},
	{"hostile text", checkText},
	{"replay", checkReplay},
	{"replay what waits", checkReplayWaiting},
	{"drop", checkDrop},
	{"drop leased", checkDropLeased},
	{"list", checkList},
	{"numbers", checkNumbers},
	{"count", checkCount},
	{"many at once", checkManyAtOnce},
	{"payloads go", checkPayloadsGo},
	{"rows go", checkRowsGo},
	{"quarantined", checkQuarantined},

	{"transaction", checkTransact},
	{"orders copied", checkOrderCopies},
	{"transaction undone", checkUndone},
	{"order refused", checkRefused},
	{"transactions isolated", checkIsolated},
	{"same order at once", checkSameOrderAtOnce},
	{"refunds", checkRefunds},
	{"refunds at once", checkRefundsAtOnce},
	{"order texts", checkOrderTexts},

	{"claim", checkClaim},
	{"claimed once", checkClaimedOnce},
	{"claimed and set", checkClaimedAndSet},
	{"order due too far ahead", checkOrderDueTooFar},
	{"first due", checkFirstDue},

	{"list orders", checkListOrders},
	{"order numbers", checkOrderNumbers},
	{"count orders", checkCountOrders},
	{"match", checkMatch},
	{"occurred", checkOccurred},
	{"orders go", checkOrdersGo},
}

// check is a part of the contract.
type check struct {
	name  string
	check func(s *stage)
}

// patience is how long a check may take: what blocks for longer never ends.
const patience = 30 * time.Second

func (c check) run(t testing.TB, place func(t testing.TB) func() store.Store) {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	s := &stage{TB: t, ctx: ctx, instance: place(t), options: store.Options{LongestWait: 2 * long, LongestOrderWait: 2 * long}}
	defer s.closeAll()
	c.check(s)
}

// stage is what a check works on.
type stage struct {
	testing.TB
	ctx      context.Context
	instance func() store.Store
	options  store.Options
	opened   []store.Store
}

// open returns another instance, opened, which is closed when the check ends.
func (s *stage) open() store.Store {
	s.Helper()
	o := s.instance()
	if err := o.Open(s.ctx, s.options); err != nil {
		s.Fatalf("Open: %v", err)
	}
	s.opened = append(s.opened, o)
	return o
}

// reopen closes the instances that are open and returns another one.
func (s *stage) reopen() store.Store {
	s.Helper()
	s.closeAll()
	return s.open()
}

func (s *stage) closeAll() {
	s.Helper()
	for _, o := range s.opened {
		if err := o.Close(); err != nil {
			s.Errorf("Close: %v", err)
		}
	}
	s.opened = nil
}

// The queue that most checks use, and how long a lease is meant to last when it
// is to run out, and when it is not.
var payments = store.Queue{Merchant: "shop", Kind: wepay.Payment}

const (
	short = 200 * time.Millisecond
	long  = time.Hour
)

// now is the time to the millisecond: a store need not be more exact.
func now() time.Time { return time.Now().Truncate(time.Millisecond) }

// payment returns an event of a queue that is due now. Its payload is not what
// encoding/json would write.
func payment(queue store.Queue, id string) *store.Event {
	at := now()
	return &store.Event{
		ID: id, Merchant: queue.Merchant, Kind: queue.Kind, EventType: "TRANSACTION.SUCCESS",
		OutTradeNo: "order_" + id, TransactionID: "420000_" + id, Amount: 129900, Currency: "CNY",
		Trace:    http.Header{"Traceparent": {"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"}},
		Payload:  json.RawMessage(`{ "out_trade_no":"` + id + `", "attach" : "<茶> & \u003c\/` + "\u2028" + `" }`),
		Received: at, State: store.Waiting, Due: at, Since: at,
	}
}

func (s *stage) put(o store.Store, events ...*store.Event) {
	s.Helper()
	for _, e := range events {
		if added, err := o.Put(s.ctx, e); err != nil || !added {
			s.Fatalf("Put of %s: added is %v (%v)", e.ID, added, err)
		}
	}
}

// putMany puts events that are due one after the other, a second ago and
// earlier, and returns their IDs.
func (s *stage) putMany(o store.Store, queue store.Queue, n int) []string {
	s.Helper()
	var ids []string
	for i := range n {
		e := payment(queue, fmt.Sprintf("evt_%s_%04d", queue.Kind, i))
		e.Due = e.Due.Add(-time.Duration(n-i) * time.Second)
		s.put(o, e)
		ids = append(ids, e.ID)
	}
	return ids
}

// lease takes one event of a queue, whichever is next.
func (s *stage) lease(o store.Store, queue store.Queue, term time.Duration) *store.Lease {
	s.Helper()
	leases, err := o.Lease(s.ctx, queue, 1, term)
	if err != nil || len(leases) != 1 {
		s.Fatalf("Lease: %d events (%v), want one", len(leases), err)
	}
	return leases[0]
}

// leaseAll takes a number of events of a queue.
func (s *stage) leaseAll(o store.Store, queue store.Queue, n int) []*store.Lease {
	s.Helper()
	var all []*store.Lease
	for len(all) < n {
		leases, err := o.Lease(s.ctx, queue, n, long)
		if err != nil || len(leases) == 0 {
			s.Fatalf("Lease: %d events of %d (%v)", len(all), n, err)
		}
		all = append(all, leases...)
	}
	return all
}

func (s *stage) settle(o store.Store, lease *store.Lease) {
	s.Helper()
	if err := o.Settle(s.ctx, lease); err != nil {
		s.Fatalf("Settle of %s: %v", lease.Event.ID, err)
	}
}

// end leaves a leased event in a state that it does not wait in.
func end(lease *store.Lease, state store.State) *store.Lease {
	lease.Event.State, lease.Event.Due, lease.Event.Ended = state, time.Time{}, now()
	return lease
}

func (s *stage) get(o store.Store, id string) *store.Event {
	s.Helper()
	e, err := o.Get(s.ctx, id)
	if err != nil {
		s.Fatalf("Get of %s: %v", id, err)
	}
	return e
}

// is checks that an event is as it should be.
func (s *stage) is(got, want *store.Event) {
	s.Helper()
	for _, field := range []struct {
		name string
		same bool
		got  any
		want any
	}{
		{"ID", got.ID == want.ID, got.ID, want.ID},
		{"Queue", got.Queue() == want.Queue(), got.Queue(), want.Queue()},
		{"EventType", got.EventType == want.EventType, got.EventType, want.EventType},
		{"OutTradeNo", got.OutTradeNo == want.OutTradeNo, got.OutTradeNo, want.OutTradeNo},
		{"TransactionID", got.TransactionID == want.TransactionID, got.TransactionID, want.TransactionID},
		{"OutRefundNo", got.OutRefundNo == want.OutRefundNo, got.OutRefundNo, want.OutRefundNo},
		{"Amount", got.Amount == want.Amount, got.Amount, want.Amount},
		{"Currency", got.Currency == want.Currency, got.Currency, want.Currency},
		{"After", got.After == want.After, got.After, want.After},
		{"Source", got.Source == want.Source, got.Source, want.Source},
		{"Occurred", got.Occurred.Equal(want.Occurred), got.Occurred, want.Occurred},
		{"Trace", maps.EqualFunc(got.Trace, want.Trace, sameText), got.Trace, want.Trace},
		{"Payload", bytes.Equal(got.Payload, want.Payload), got.Payload, want.Payload},
		{"Received", got.Received.Equal(want.Received), got.Received, want.Received},
		{"State", got.State == want.State, got.State, want.State},
		{"Due", got.Due.Equal(want.Due), got.Due, want.Due},
		{"Attempts", got.Attempts == want.Attempts, got.Attempts, want.Attempts},
		{"Since", got.Since.Equal(want.Since), got.Since, want.Since},
		{"Reason", got.Reason == want.Reason, got.Reason, want.Reason},
		{"Refused", got.Refused == want.Refused, got.Refused, want.Refused},
		{"Answer", got.Answer == want.Answer, got.Answer, want.Answer},
		{"Ended", got.Ended.Equal(want.Ended), got.Ended, want.Ended},
	} {
		if !field.same {
			s.Errorf("%s: %s is %#v, want %#v", want.ID, field.name, field.got, field.want)
		}
	}
}

func sameText(a, b []string) bool { return fmt.Sprintf("%q", a) == fmt.Sprintf("%q", b) }
