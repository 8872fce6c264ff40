package delivery

import (
	"fmt"
	"net/http"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"

	"github.com/windsome/caddy-wepay/caddymodule/store"
	"github.com/windsome/caddy-wepay/wepay"
)

func TestDeliverySettled(t *testing.T) {
	for _, test := range []struct {
		name    string
		answer  func(*http.Request) (*http.Response, error)
		state   store.State
		refused bool
		result  string
		level   zapcore.Level
		wait    time.Duration // until it is due again, at least
	}{
		{"taken", replies(200, `{"errcode":0}`), store.Delivered, false, "delivered", zap.DebugLevel, 0},
		{"unreachable", unreachable, store.Waiting, false, "failed", zap.WarnLevel, 800 * time.Millisecond},
		{"server error", replies(500, ""), store.Waiting, false, "failed", zap.WarnLevel, 800 * time.Millisecond},
		{"no JSON", replies(200, "OK"), store.Waiting, true, "refused", zap.ErrorLevel, 800 * time.Millisecond},
		{"not found", replies(404, ""), store.Waiting, true, "refused", zap.ErrorLevel, 800 * time.Millisecond},
		{"errcode", replies(200, `{"errcode":7}`), store.Waiting, true, "refused", zap.ErrorLevel, 800 * time.Millisecond},
		{"request timeout", replies(408, ""), store.Waiting, false, "failed", zap.WarnLevel, 800 * time.Millisecond},
		{"too early", replies(425, ""), store.Waiting, false, "failed", zap.WarnLevel, 800 * time.Millisecond},
		{"too many requests", replies(429, ""), store.Waiting, false, "failed", zap.WarnLevel, 800 * time.Millisecond},
		{"too many requests, seconds", replies(429, "", "Retry-After", "90"), store.Waiting, false, "failed", zap.WarnLevel, 90 * time.Second},
		{"unavailable, seconds", replies(503, "", "Retry-After", "40"), store.Waiting, false, "failed", zap.WarnLevel, 40 * time.Second},
		{"unavailable for ever", replies(503, "", "Retry-After", "2000000000"), store.Waiting, false, "failed", zap.WarnLevel, longestWait},
		{"gone", replies(410, ""), store.Dead, true, "dead", zap.ErrorLevel, 0},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				d := dispatch(t, test.answer, "shop")
				d.put("shop", wepay.Payment, "evt_1", "")
				synctest.Wait()
				now, e := time.Now(), d.get("evt_1")
				if e.State != test.state || e.Refused != test.refused || e.Attempts != 1 || (e.Reason == "") != (test.state == store.Delivered) {
					t.Errorf("got %+v", e)
				}
				if wait := e.Due.Sub(now); test.state == store.Waiting && (wait < test.wait || wait > max(test.wait, time.Second)) {
					t.Errorf("due in %s, want %s", wait, test.wait)
				}
				if got := d.counted(); got != "shop "+test.result {
					t.Errorf("counted: %s", got)
				}
				if (len(d.told()) == 1) != (test.state == store.Dead) || e.Ended.IsZero() != (test.state == store.Waiting) {
					t.Errorf("told to be dead: %q, ended %s", d.told(), e.Ended)
				}
				for _, entry := range d.logs.All() {
					if entry.Level != test.level {
						t.Errorf("logged as %s: %s", entry.Level, entry.Message)
					}
				}
				d.backend.answers(replies(204, ""))
				d.pass(test.wait + time.Second)
				if e := d.get("evt_1"); test.state == store.Waiting && (e.State != store.Delivered || e.Attempts != 2 || e.Reason != "" || e.Refused) {
					t.Errorf("taken at last: %+v", e)
				}
			})
		})
	}
}

// Waits double from the first to the longest, each less by up to a fifth, for
// longer than WeChat would try, also where the order service would have it come
// sooner; then the event is given up. Replayed it is tried as long again.
func TestDeliveryGivenUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := dispatch(t, replies(404, "", "Retry-After", "1"), "shop")
		d.put("shop", wepay.Payment, "evt_1", "")
		d.pass(giveUp + longestWait)
		e, delivered := d.get("evt_1"), d.backend.hearings()
		if e.State != store.Dead || e.Attempts != len(delivered) || len(d.told()) != 1 {
			t.Fatalf("got %+v after %d attempts", e, len(delivered))
		}
		var shortest, longest float64 = 2, 0
		for n := 1; n < len(delivered); n++ {
			want := growing(firstWait, longestWait, n)
			wait := delivered[n].at.Sub(delivered[n-1].at)
			if wait < want*4/5 || wait > want {
				t.Errorf("wait %d is %s, want %s less a fifth at most", n, wait, want)
			}
			part := float64(wait) / float64(want)
			shortest, longest = min(shortest, part), max(longest, part)
		}
		if shortest > 0.85 || longest < 0.95 {
			t.Errorf("the waits are %.2f to %.2f of what they could be: they differ too little", shortest, longest)
		}
		tried := delivered[len(delivered)-1].at.Sub(delivered[0].at)
		if tried < giveUp || tried > giveUp+longestWait {
			t.Errorf("given up after %s", tried)
		}
		for whose, span := range map[string]time.Duration{"WeChat's own": 24*time.Hour + 4*time.Minute, "Svix's": 27*time.Hour + 36*time.Minute} {
			if tried <= span {
				t.Errorf("given up after %s, which is no longer than %s schedule of %s", tried, whose, span)
			}
		}
		if _, err := d.store.Replay(t.Context(), "evt_1"); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		if e := d.get("evt_1"); e.State != store.Waiting || e.Attempts != 1 {
			t.Errorf("replayed: %+v", e)
		}
		d.pass(giveUp + longestWait)
		if e, again := d.get("evt_1"), len(d.backend.hearings())-len(delivered); e.State != store.Dead || again < len(delivered)*9/10 || e.Attempts != again {
			t.Errorf("replayed it is given up after %d attempts, not %d: %+v", again, len(delivered), e)
		}
	})
}

// An order service that was away for an hour has everything soon after, and was
// hardly asked meanwhile.
func TestDeliveryAfterAnHour(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := dispatch(t, unreachable, "shop")
		const events = 500
		for n := range events {
			d.put("shop", wepay.Payment, fmt.Sprintf("evt_%d", n), "")
		}
		d.pass(time.Hour)
		if asked, written := len(d.backend.hearings()), d.store.tries(); asked < 60 || asked > 200 || written > 4*events { // some 14 for each without a breaker
			t.Errorf("asked %d times in an hour, and written %d times", asked, written)
		}
		d.backend.answers(replies(204, ""))
		d.pass(longestWait + longestOpening)
		for n := range events {
			if e := d.get(fmt.Sprintf("evt_%d", n)); e.State != store.Delivered {
				t.Fatalf("got %+v", e)
			}
		}
	})
}
