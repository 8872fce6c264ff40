package outboxtest

import (
	"fmt"
	"runtime"
	"sync/atomic"
	"testing"
	"testing/synctest"

	"github.com/windsome/caddy-wepay/caddymodule"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(
		m,
		// Caddy starts these when it is loaded.
		goleak.IgnoreCurrent(),
	)
}

// inMemory returns a place in memory, with a fault or without.
func inMemory(f fault) func(testing.TB) func() caddymodule.Outbox {
	return func(testing.TB) func() caddymodule.Outbox {
		d := &disk{fault: f, changed: make(chan struct{}), events: make(map[string]*record)}
		return func() caddymodule.Outbox { return &memory{disk: d} }
	}
}

// The plainest store passes.
func TestPlainStore(t *testing.T) {
	Run(t, inMemory(""))
}

// A store that has a fault is found out, by the check that is there for it.
func TestFaults(t *testing.T) {
	for _, test := range []struct {
		fault fault
		check string
	}{
		{"forgets", "durable"},
		{"compacts", "durable"},
		{"stays open", "closed"},
		{"stays open", "close wakes"},
		{"ignores contexts", "context"},
		{"lends its own", "copies"},
		{"puts twice", "known in every state"},
		{"forgets the delivered", "known in every state"},
		{"forgets the delivered", "same event at once"},
		{"disorders", "order"},
		{"hurries", "due"},
		{"has no limit", "limit"},
		{"sleeps", "put wakes"},
		{"mixes queues", "queues"},
		{"mixes queues", "names"},
		{"leases twice", "leased once"},
		{"leases twice", "many at once"},
		{"hurries", "lease runs out"},
		{"never ends leases", "lease runs out"},
		{"settles what is lost", "lease runs out"},
		{"settles in time only", "settled late"},
		{"keeps leases", "leases end with close"},
		{"forgets attempts", "try again"},
		{"keeps payloads", "settled"},
		{"replays as it was", "replay"},
		{"changes any", "replay"},
		{"changes any", "drop"},
		{"drops without reason", "drop"},
		{"settles what is lost", "drop leased"},
		{"changes any", "unknown"},
		{"lists any", "list"},
		{"skips when paging", "list"},
		{"counts together", "count"},
	} {
		t.Run(fmt.Sprintf("%s, %s", test.fault, test.check), func(t *testing.T) {
			for _, c := range contract {
				if c.name == test.check && !fails(t, c, test.fault) {
					t.Errorf("a store that %s passes the check %q", test.fault, test.check)
				}
			}
		})
	}
}

// fails reports whether a check fails with a store that has a fault. It takes
// no time, however long the fault makes the check wait.
func fails(t *testing.T, c check, f fault) (failed bool) {
	synctest.Test(t, func(t *testing.T) {
		listener := &verdict{TB: t}
		done := make(chan struct{})
		go func() {
			defer close(done)
			c.run(listener, inMemory(f))
		}()
		<-done
		failed = listener.failed.Load()
	})
	return failed
}

// verdict is a test that only notes whether it has failed.
type verdict struct {
	testing.TB
	failed atomic.Bool
}

func (v *verdict) Errorf(string, ...any) { v.failed.Store(true) }

func (v *verdict) Fatalf(string, ...any) {
	v.failed.Store(true)
	runtime.Goexit()
}
