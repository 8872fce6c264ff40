package e2e_test

import (
	"database/sql"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/windsome/caddy-wepay/caddymodule/internal/dbtest"
)

// fleet is two Caddys that share a store, each a process of its own, and their
// order service, which knows by its path which Caddy it is called by.
type fleet struct {
	*environment
	shop  *merchant
	sites []*environment // a Caddy each
	runs  []*exec.Cmd
	alone atomic.Bool // the first Caddy is the only one

	holding atomic.Bool   // the order service answers the second Caddy
	killed  chan struct{} // only when that is killed

	mu        sync.Mutex
	held      int
	delivered map[string][]string // the paths that it was told of an event at, by webhook-id
}

// newFleet starts two Caddys with a store.
func newFleet(t *testing.T, store string) *fleet {
	t.Helper()
	f := &fleet{environment: newEnvironment(t), shop: newMerchant("shop", 1), killed: make(chan struct{}), delivered: make(map[string][]string)}
	f.register(f.shop)
	f.orders.answers(func(w http.ResponseWriter, r *http.Request) {
		if f.hear(r.Header.Get("webhook-id"), r.URL.Path) {
			<-f.killed
		}
		w.WriteHeader(http.StatusNoContent)
	})
	for i := range 2 {
		site, shop := *f.environment, *f.shop
		site.site, shop.orders = "http://"+freeAddress(t), fmt.Sprintf("%s/%d", f.environment.orders.URL, i)
		name := fmt.Sprintf("Caddyfile%d", i)
		site.write(name, []byte(site.caddyfile(layout{merchants: []*merchant{&shop}, options: store + "\ndeliver {\n\tretry 50ms 200ms\n}"})))
		f.sites = append(f.sites, &site)
		f.runs = append(f.runs, site.runCaddy(filepath.Join(f.dir, name)))
	}
	t.Cleanup(func() {
		if t.Failed() {
			text, _ := os.ReadFile(filepath.Join(f.dir, "caddy.log")) // for the message alone
			t.Logf("the Caddys' log ends with:\n%s", text[max(0, len(text)-10000):])
		}
	})
	return f
}

// hear notes that the order service is told of an event, and reports whether it
// is to wait with its answer.
func (f *fleet) hear(id, path string) (hold bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.delivered[id] = append(f.delivered[id], path)
	if hold = path == "/1" && f.holding.Load(); hold {
		f.held++
	}
	return hold
}

// burst has WeChat tell of events until each is acknowledged, by one Caddy after
// the other, and some by both at once.
func (f *fleet) burst(n int, acknowledged *atomic.Int64) {
	var next atomic.Int64
	var senders sync.WaitGroup
	tell := func(caddy int, text string) bool {
		if caddy %= 2; f.alone.Load() {
			caddy = 0
		}
		a, err := f.sendOnce(http.MethodPost, f.sites[caddy].site+"/apis/v1/wepay/pay_notify", text)
		return err == nil && a.body == taken
	}
	for range 12 {
		senders.Go(func() {
			for k := int(next.Add(1)); k <= n; k = int(next.Add(1)) {
				text := f.shop.notification(f.t, fmt.Sprintf("order-%d", k))
				if k%5 == 0 {
					var both sync.WaitGroup
					both.Go(func() { tell(0, text) })
					both.Go(func() { tell(1, text) })
					both.Wait()
				}
				for try := k; !tell(try, text); try++ {
					if f.t.Context().Err() != nil {
						return
					}
				}
				acknowledged.Add(1)
			}
		})
	}
	senders.Wait()
}

// awaitDelivered waits until the order service has been told of so many events.
func (f *fleet) awaitDelivered(n int) {
	f.t.Helper()
	f.awaitSo(fmt.Sprintf("the order service hears of %d events", n), func() bool {
		f.mu.Lock()
		defer f.mu.Unlock()
		return len(f.delivered) >= n
	})
}

// awaitSo looks again until something is so. The first Caddy answers each time,
// which takes its time.
func (f *fleet) awaitSo(what string, so func() bool) {
	f.t.Helper()
	f.sites[0].t = f.t
	f.sites[0].until(what, so)
}

// check demands that the order service was told of each event, and of those that
// the killed Caddy had no hold of, once.
func (f *fleet) check(n int, mayRepeat func(paths []string) bool) {
	f.t.Helper()
	f.mu.Lock()
	defer f.mu.Unlock()
	repeated := 0
	for k := range n {
		paths := f.delivered[f.shop.eventID(fmt.Sprintf("order-%d", k+1))]
		switch {
		case len(paths) == 0:
			f.t.Errorf("order %d was acknowledged, and is never delivered", k+1)
		case len(paths) > 1 && !mayRepeat(paths):
			f.t.Errorf("order %d is delivered at %s", k+1, paths)
		case len(paths) > 1:
			repeated++
		}
	}
	f.t.Logf("%d of %d events were delivered again", repeated, n)
}

// The primary of a PostgreSQL with a synchronous standby is killed in the middle
// of a burst, and the standby takes its place: what two Caddys acknowledged
// arrives, each event once.
func TestFleetOnPostgres(t *testing.T) {
	primary := dbtest.StartPostgres(t)
	standby := primary.StartStandby(t)
	f := newFleet(t, fmt.Sprintf("store postgres %q", primary.NewDSN(t, standby)+"&target_session_attrs=read-write"))
	const n = 1000
	var acknowledged atomic.Int64
	done := make(chan struct{})
	go func() {
		defer close(done)
		f.burst(n, &acknowledged)
	}()
	f.awaitSo("a part of the burst is acknowledged", func() bool { return acknowledged.Load() > n/5 })
	primary.Kill()
	before := acknowledged.Load()
	standby.Promote(t)
	<-done
	if before == n {
		t.Error("the primary was killed after the burst")
	}
	f.awaitDelivered(n)
	f.check(n, func([]string) bool { return false })
}

// One of two Caddys on a MariaDB is killed with events in hand: the other one
// hands them over when their leases end.
func TestFleetOnMariaDB(t *testing.T) {
	dsn := dbtest.StartMariaDB(t).NewDSN(t)
	f := newFleet(t, fmt.Sprintf("store mysql %q", dsn))
	const n = 1000
	var acknowledged atomic.Int64
	done := make(chan struct{})
	go func() {
		defer close(done)
		f.burst(n, &acknowledged)
	}()
	f.awaitDelivered(n / 10)
	f.holding.Store(true)
	f.awaitSo("the second Caddy has events in hand", func() bool {
		f.mu.Lock()
		defer f.mu.Unlock()
		return f.held > 4
	})
	if err := f.runs[1].Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = f.runs[1].Wait() // it was killed
	f.holding.Store(false)
	close(f.killed)
	f.alone.Store(true)
	<-done
	f.endLeases(dsn)
	f.awaitDelivered(n)
	f.awaitSo("all events are delivered", func() bool { return f.waiting(dsn) == 0 })
	f.check(n, func(paths []string) bool {
		return len(paths) == 2 && paths[0] == "/1" && strings.HasPrefix(paths[1], "/0")
	})
}

// endLeases has the leases of the Caddy that was killed end before their time.
func (f *fleet) endLeases(dsn string) {
	f.t.Helper()
	db, err := sql.Open("mysql", dsn)
	if err != nil {
		f.t.Fatal(err)
	}
	defer db.Close()
	// The other one's last no second. A lease is for 75 of them.
	const others = "SELECT COUNT(*) FROM wepay_event WHERE state = 'waiting' AND (leased_until IS NULL OR leased_until > 1000 * UNIX_TIMESTAMP(NOW(3)) + 74000)"
	f.awaitSo("only the killed Caddy's leases are left", func() bool {
		n := -1
		err := db.QueryRowContext(f.t.Context(), others).Scan(&n)
		return err == nil && n == 0
	})
	if _, err := db.ExecContext(f.t.Context(), "UPDATE wepay_event SET leased_until = 0 WHERE state = 'waiting'"); err != nil {
		f.t.Fatal(err)
	}
}

// waiting is how many events wait.
func (f *fleet) waiting(dsn string) (n int) {
	f.t.Helper()
	db, err := sql.Open("mysql", dsn)
	if err != nil {
		f.t.Fatal(err)
	}
	defer db.Close()
	if err := db.QueryRowContext(f.t.Context(), "SELECT COUNT(*) FROM wepay_event WHERE state = 'waiting'").Scan(&n); err != nil {
		f.t.Fatal(err)
	}
	return n
}
