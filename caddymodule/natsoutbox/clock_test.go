package natsoutbox

import (
	"testing"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"github.com/windsome/caddy-wepay/caddymodule"
)

// A node whose clock is wrong neither holds up what others have put nor takes
// what they hold, and what it puts and holds is nothing else to them.
func TestClockOff(t *testing.T) {
	for name, off := range map[string]time.Duration{"behind": -2 * time.Hour, "ahead": 2 * time.Hour} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := startServer(t, nil)
			right := openOutbox(t, &NATS{URLs: []string{s.ClientURL()}, Replicas: 1})
			wrong := newOutbox(t, &NATS{URLs: []string{s.ClientURL(), s.ClientURL()}, Replicas: 1})
			logger, log := observer.New(zap.InfoLevel)
			wrong.logger = zap.New(logger)
			wrong = open(t, wrong)
			now := func() time.Time { return time.Now().Add(off) }
			wrong.store.clock.local = now
			notice := func() {
				t.Helper()
				if err := wrong.store.prepare(within(t, lots), 1); err != nil {
					t.Fatalf("prepare: %v", err)
				}
			}
			notice()
			notice()
			if got := log.FilterMessageSnippet("NTP").Len(); got != 1 || log.Len() != 1 {
				t.Errorf("logged: %v", log.All())
			}

			soon := func(o *NATS, id string, term time.Duration) *caddymodule.Lease {
				t.Helper()
				leases, err := o.Lease(within(t, 3*time.Second), payments, 1, term)
				if err != nil || len(leases) != 1 || leases[0].Event.ID != id {
					t.Fatalf("Lease of %s: %v (%v)", id, leases, err)
				}
				return leases[0]
			}
			put(t, right, "evt_theirs")
			soon(wrong, "evt_theirs", long)
			nothingLeft(t, right)

			e := payment("evt_ours")
			e.Due = now()
			if err := wrong.Put(within(t, lots), e); err != nil {
				t.Fatalf("Put: %v", err)
			}
			soon(right, "evt_ours", long)
			nothingLeft(t, wrong)

			put(t, right, "evt_again")
			l := soon(wrong, "evt_again", long)
			began := time.Now()
			l.Event.Due = now().Add(short)
			if err := wrong.Settle(within(t, lots), l); err != nil {
				t.Fatalf("Settle: %v", err)
			}
			soon(right, "evt_again", short)
			if waited := time.Since(began); waited < short {
				t.Errorf("it comes after %s of %s", waited, short)
			}
			soon(wrong, "evt_again", short)
			settle(t, right, soon(right, "evt_again", long), caddymodule.Delivered)

			wrong.store.clock.local = time.Now
			notice()
			if got := log.FilterMessageSnippet("again").Len(); got != 1 || log.Len() != 2 {
				t.Errorf("logged: %v", log.All())
			}
		})
	}
}
