package delivery

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/zap"

	"github.com/windsome/caddy-wepay/caddymodule/store"
	"github.com/windsome/caddy-wepay/wepay"
)

// What came of an event is noted although the store cannot note it for a
// minute: the order service hears of it once, and the log says it once.
func TestSettleAgain(t *testing.T) {
	for _, test := range []struct {
		name   string
		answer func(*http.Request) (*http.Response, error)
		fails  func(context.Context, func() error) error
		state  store.State
	}{
		{"taken, disk full", replies(204, ""), full, store.Delivered},
		{"taken, store away", replies(204, ""), stuck, store.Delivered},
		{"refused", replies(404, "", "Retry-After", "600"), full, store.Waiting},
		{"gone", replies(410, ""), full, store.Dead},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				d := dispatch(t, test.answer, "shop")
				d.store.settles(test.fails)
				began := time.Now()
				d.put("shop", wepay.Payment, "evt_1", "")
				d.pass(time.Minute)
				if e := d.get("evt_1"); e.State != store.Waiting || e.Attempts != 0 || len(d.told()) > 0 {
					t.Errorf("not settled yet: %+v, told to be dead: %q", e, d.told())
				}
				tried, _, _ := d.store.did()
				d.store.settles(well)
				d.pass(term)
				if e := d.get("evt_1"); e.State != test.state || e.Attempts != 1 {
					t.Errorf("got %+v", e)
				}
				if delivered := d.backend.hearings(); len(delivered) != 1 || d.store.tries() != 1 {
					t.Errorf("delivered %d times, settled %d times", len(delivered), d.store.tries())
				}
				if (len(d.told()) == 1) != (test.state == store.Dead) {
					t.Errorf("told to be dead: %q", d.told())
				}
				if _, atOnce, _ := d.store.did(); atOnce != 1 {
					t.Errorf("settled %d times at once", atOnce)
				}
				checkWaits(t, began, tried)
				const fails, settled = "settling an event fails: it is tried again while the lease lasts", "event settled after all"
				if logged := d.logged(zap.InfoLevel); count(logged, fails) != 1 || count(logged, settled) != 1 {
					t.Errorf("logged: %q", logged)
				}
			})
		})
	}
}

// term is how long the leases of a dispatcher in a bubble last.
const term = timeout + time.Minute

// checkWaits checks that each wait between tries is longer than the one before,
// up to the longest.
func checkWaits(t *testing.T, began time.Time, tried []time.Time) {
	t.Helper()
	if len(tried) < 4 || len(tried) > 20 || !tried[0].Equal(began) {
		t.Fatalf("tried %d times", len(tried))
	}
	for n := 1; n < len(tried); n++ {
		least := growing(firstSettleWait, longestSettleWait, n)
		if wait := tried[n].Sub(tried[n-1]); wait < least || wait > least+settleTimeout {
			t.Errorf("wait %d is %s, want %s", n, wait, least)
		}
	}
}

func count(messages []string, message string) (n int) {
	for _, m := range messages {
		if m == message {
			n++
		}
	}
	return n
}

// A store that does not know any more what it has stored is asked.
func TestSettledWithoutAnswer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := dispatch(t, replies(410, ""), "shop")
		d.store.settles(func(_ context.Context, store func() error) error {
			return errors.Join(store(), context.DeadlineExceeded)
		})
		d.put("shop", wepay.Payment, "evt_1", "")
		d.pass(term)
		if d.store.tries() != 2 || len(d.told()) != 1 || count(d.logged(zap.InfoLevel), "event settled after all") != 1 {
			t.Errorf("tried %d times, told to be dead: %q", d.store.tries(), d.told())
		}
	})
}

// What trying again does not help is tried once, and what takes longer than the
// lease lasts is given up with it.
func TestSettleGivenUp(t *testing.T) {
	answers := func(err error) func(context.Context, func() error) error {
		return func(context.Context, func() error) error { return err }
	}
	for _, test := range []struct {
		name  string
		how   func(context.Context, func() error) error
		after time.Duration // how soon it is delivered again
		tries int           // before that, at most
		logs  int
	}{
		{"lost", answers(fmt.Errorf("settling: %w", store.ErrLeaseLost)), term, 1, 1},
		{"closed", answers(fmt.Errorf("settling: %w", store.ErrClosed)), term, 1, 1},
		{"full", full, term, 25, 2},
		{"away", stuck, term, 25, 2},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				d := dispatch(t, replies(410, ""), "shop")
				d.store.settles(test.how)
				d.put("shop", wepay.Payment, "evt_1", "")
				d.pass(test.after - time.Nanosecond)
				if delivered, tries := len(d.backend.hearings()), d.store.tries(); delivered != 1 || tries > test.tries {
					t.Errorf("delivered %d times, settled %d times", delivered, tries)
				}
				d.store.settles(well)
				d.pass(settleTimeout)
				if delivered, logged := len(d.backend.hearings()), d.logged(zap.ErrorLevel); delivered != 2 || len(logged) != test.logs+2 {
					t.Errorf("delivered %d times, logged: %q", delivered, logged)
				}
				if e := d.get("evt_1"); e.State != store.Dead || len(d.told()) != 1 {
					t.Errorf("got %+v, told to be dead: %q", e, d.told())
				}
			})
		})
	}
}

// A dispatcher that stops tries once more to settle, and waits no longer than
// the grace period.
func TestSettleStopped(t *testing.T) {
	for _, test := range []struct {
		name  string
		how   func(context.Context, func() error) error // once it stops
		state store.State
		took  time.Duration
	}{
		{"well again", well, store.Delivered, 0},
		{"full", full, store.Waiting, 0},
		{"away", stuck, store.Waiting, 5 * time.Second},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				d := dispatch(t, replies(204, ""), "shop")
				d.store.settles(full)
				d.put("shop", wepay.Payment, "evt_1", "")
				d.pass(time.Minute - 2*time.Second)
				d.store.settles(test.how)
				began := time.Now()
				d.Stop(5 * time.Second)
				if took := time.Since(began); took != test.took || d.store.tries() != 1 {
					t.Errorf("it took %s and %d tries", took, d.store.tries())
				}
				if e := d.get("evt_1"); e.State != test.state {
					t.Errorf("got %+v", e)
				}
			})
		})
	}
}

// What cannot be settled takes neither workers nor hands from what can be
// delivered.
func TestSettleHoldsNobodyUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := dispatch(t, replies(204, ""), "shop", "mini")
		d.store.settles(full)
		for n := range workers {
			d.put("shop", wepay.Payment, fmt.Sprintf("evt_shop_%d", n), "")
			d.put("mini", wepay.Payment, fmt.Sprintf("evt_mini_%d", n), "")
		}
		synctest.Wait()
		if delivered := len(d.backend.hearings()); delivered != 2*workers {
			t.Errorf("%d events are delivered", delivered)
		}
	})
}

// An event is stored when all that its settling changes is there, to the
// millisecond.
func TestStored(t *testing.T) {
	d := dispatch(t, replies(204, ""))
	now := time.Now()
	event := func(change func(*store.Event)) *store.Event {
		e := &store.Event{ID: "evt_1", Merchant: "shop", Kind: wepay.Payment, State: store.Dead, Attempts: 3, Due: now, Ended: now}
		change(e)
		return e
	}
	if _, err := d.store.Put(t.Context(), event(func(*store.Event) {})); err != nil {
		t.Fatal(err)
	}
	for name, test := range map[string]struct {
		change func(*store.Event)
		want   bool
	}{
		"as it is":           {func(*store.Event) {}, true},
		"rounded":            {func(e *store.Event) { e.Due, e.Ended = e.Due.Round(time.Microsecond), e.Ended.Round(time.Microsecond) }, true},
		"another":            {func(e *store.Event) { e.ID = "evt_2" }, false},
		"in another state":   {func(e *store.Event) { e.State = store.Waiting }, false},
		"attempted again":    {func(e *store.Event) { e.Attempts++ }, false},
		"due later":          {func(e *store.Event) { e.Due = e.Due.Add(time.Second) }, false},
		"ended before":       {func(e *store.Event) { e.Ended = e.Ended.Add(-time.Second) }, false},
		"ended and not here": {func(e *store.Event) { e.Ended = time.Time{} }, false},
	} {
		if got := (&queueWorker{Dispatcher: d.Dispatcher}).stored(event(test.change)); got != test.want {
			t.Errorf("%s: %t", name, got)
		}
	}
}
