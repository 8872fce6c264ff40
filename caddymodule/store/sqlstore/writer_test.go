package sqlstore

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"

	"github.com/windsome/caddy-wepay/caddymodule/internal/dbtest"
	"github.com/windsome/caddy-wepay/caddymodule/store"
)

// asWriter, in the environment, makes of the tests' binary a process that puts
// events into a store until it is killed, and says which are safe. It has the
// store's engine and where it is.
const asWriter = "WEPAY_TEST_AS_WRITER"

func TestMain(m *testing.M) {
	if engine, place, ok := strings.Cut(os.Getenv(asWriter), " "); ok {
		fmt.Println("error", writeUntilKilled(engine, place))
		os.Exit(1)
	}
	os.Exit(m.Run())
}

// writerTerm is how long the leases of such a process last.
const writerTerm = 3 * time.Second

// anyStore is a store of whichever engine.
type anyStore interface {
	store.Store
	caddy.Provisioner
}

func storeOf(engine, place string) anyStore {
	switch engine {
	case "postgres":
		return &Postgres{DSN: place}
	case "mysql":
		return &MySQL{DSN: place}
	default:
		return &SQLite{Path: place}
	}
}

// writeUntilKilled puts, leases and settles events, and says of each what is safe.
// What it leases last it holds until it is killed.
func writeUntilKilled(engine, place string) error {
	s := storeOf(engine, place)
	ctx, cancel := caddy.NewContext(caddy.Context{Context: context.Background()})
	defer cancel()
	if err := errors.Join(s.Provision(ctx), s.Open(ctx, store.Options{})); err != nil {
		return err
	}
	fmt.Println("open", os.Getpid())
	var mu sync.Mutex
	say := func(what string, is any) {
		mu.Lock()
		defer mu.Unlock()
		fmt.Println(what, is)
	}
	for w := range 8 {
		go func() {
			for n := w; ; n += 8 {
				if err := writeOne(ctx, s, n); err != nil {
					say("error", err)
					return
				}
				say("put", eventID(n))
			}
		}()
	}
	for {
		leases, err := s.Lease(ctx, queue, 8, writerTerm)
		if err != nil {
			return err
		}
		for i, lease := range leases {
			if i == 7 {
				say("held", lease.Event.ID)
				continue
			}
			lease.Event.State, lease.Event.Ended = store.Delivered, time.Now()
			if err := s.Settle(ctx, lease); err != nil {
				return err
			}
			say("settled", lease.Event.ID)
		}
	}
}

// writeOne puts an event, every other with its order.
func writeOne(ctx context.Context, s store.Store, n int) error {
	if n%2 == 0 {
		_, err := s.Put(ctx, event(eventID(n)))
		return err
	}
	return s.Transact(ctx, func(tx store.Tx) error {
		o := placed(n)
		o.EventID = eventID(n)
		_, err := tx.Put(event(o.EventID))
		return errors.Join(err, tx.SetOrder(o))
	})
}

// checkOrdersOf makes sure that each order that a process stored has its event, and
// that those have theirs whose events are safe.
func checkOrdersOf(t *testing.T, s store.Store, safe map[string]bool) {
	t.Helper()
	of := make(map[string]bool)
	for after, more := "", true; more; more = after != "" {
		var orders []*store.Order
		var err error
		if orders, after, err = s.ListOrders(t.Context(), store.OrderFilter{}, after, 500); err != nil {
			t.Fatal(err)
		}
		for _, o := range orders {
			of[o.EventID] = true
			if _, err := s.Get(t.Context(), o.EventID); err != nil {
				t.Errorf("the event of order %s: %v", o.Number, err)
			}
		}
	}
	for id := range safe {
		if strings.ContainsAny(id[len(id)-1:], "13579bdf") && !of[id] {
			t.Errorf("%s is safe, and its order is not there", id)
		}
	}
	if len(of) == 0 {
		t.Error("there are no orders: the test is of no use")
	}
}

// startWriter starts a process that writes to a store, and returns what it says.
func startWriter(t *testing.T, engine, place string) (*exec.Cmd, *bufio.Scanner) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), os.Args[0])
	cmd.Env = append(os.Environ(), asWriter+"="+engine+" "+place)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	said := bufio.NewScanner(out)
	if !said.Scan() || said.Text() != "open "+strconv.Itoa(cmd.Process.Pid) {
		t.Fatalf("the process says %q", said.Text())
	}
	return cmd, said
}

// killWriter lets a process put some events and have some in hand, kills it as kill -9
// does, and returns what it said of which events.
func killWriter(t *testing.T, engine, place string, puts int) map[string]map[string]bool {
	t.Helper()
	cmd, said := startWriter(t, engine, place)
	events := map[string]map[string]bool{"put": {}, "settled": {}, "held": {}}
	for said.Scan() {
		what, id, _ := strings.Cut(said.Text(), " ")
		if events[what] == nil {
			t.Fatal(said.Text())
		}
		events[what][id] = true
		if len(events["put"]) >= puts && len(events["settled"]) > 0 && len(events["held"]) > 0 {
			if err := cmd.Process.Kill(); err != nil {
				t.Fatal(err)
			}
		}
	}
	_ = cmd.Wait() // it was killed
	if len(events["settled"]) == 0 || len(events["held"]) == 0 {
		t.Errorf("%d events are settled and %d held: the test is of no use", len(events["settled"]), len(events["held"]))
	}
	return events
}

// checkTakenOver makes sure that what a process made safe is there, and that a store
// hands over all of it but what was settled.
func checkTakenOver(t *testing.T, s store.Store, events map[string]map[string]bool) {
	t.Helper()
	checkOrdersOf(t, s, events["put"])
	for id := range events["put"] {
		e, err := s.Get(t.Context(), id)
		if err != nil || events["settled"][id] && e.State != store.Delivered {
			t.Errorf("%s: %v (%v)", id, e, err)
		}
	}
	taken := drain(t, s)
	for id := range events["put"] {
		if !taken[id] && !events["settled"][id] {
			if e, err := s.Get(t.Context(), id); err != nil || e.State != store.Delivered {
				t.Errorf("%s is not handed over: %v (%v)", id, e, err)
			}
		}
	}
	for id := range taken {
		if events["settled"][id] {
			t.Errorf("%s was delivered and is handed over again", id)
		}
	}
	for id := range events["held"] { // where it took long, until the process itself had it again
		if e, err := s.Get(t.Context(), id); !taken[id] && (err != nil || e.State != store.Delivered) {
			t.Errorf("%s, which was held, is not taken over: %v (%v)", id, e, err)
		}
	}
}

// What was safe is there after kill -9, as it was, however often.
func TestSQLiteKilled(t *testing.T) {
	for round := range 3 {
		path := filepath.Join(t.TempDir(), "store.db")
		events := killWriter(t, "sqlite", path, 300*(round+1))
		s, _ := openSQLiteAt(t, path)
		checkTakenOver(t, s, events)
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	}
}

// Of two on one server, one is killed with events in hand: the other takes them
// over.
func TestFleetKilled(t *testing.T) {
	for engine, dsn := range map[string]func(t *testing.T) string{
		"mysql":    func(t *testing.T) string { return dbtest.StartMariaDB(t).NewDSN(t) },
		"postgres": func(t *testing.T) string { return dbtest.StartPostgres(t).NewDSN(t) },
	} {
		t.Run(engine, func(t *testing.T) {
			place := dsn(t)
			s := provisioned(t, storeOf(engine, place))
			open(t, s, store.Options{})
			checkTakenOver(t, s, killWriter(t, engine, place, 300))
		})
	}
}

// Two on one PostgreSQL with a standby in step go on when the primary is killed in a
// burst and the standby promoted, and nothing that was acknowledged is lost.
func TestFleetFailover(t *testing.T) {
	primary := dbtest.StartPostgres(t)
	standby := primary.StartStandby(t)
	dsn := primary.NewDSN(t, standby)
	stores := []*Postgres{provisioned(t, &Postgres{DSN: dsn}), provisioned(t, &Postgres{DSN: dsn})}
	for _, s := range stores {
		open(t, s, store.Options{})
	}
	const before, all = 200, 600
	var acknowledged sync.Map
	var count sync.WaitGroup
	burst := make(chan struct{})
	safe := make(chan struct{}, all)
	for w := range 8 {
		count.Go(func() {
			for n := w; n < all; n += 8 {
				for { // as WeChat does, until it hears SUCCESS
					_, err := stores[n%2].Put(t.Context(), event(eventID(n)))
					if err == nil {
						break
					}
					if !errors.Is(err, store.ErrUnavailable) {
						t.Errorf("Put: %v", err)
					}
					select {
					case <-time.After(50 * time.Millisecond):
					case <-t.Context().Done():
						return
					}
				}
				acknowledged.Store(eventID(n), true)
				safe <- struct{}{}
			}
		})
	}
	go func() {
		for range before {
			<-safe
		}
		close(burst)
	}()
	<-burst
	primary.Kill()
	standby.Promote(t)
	count.Wait()
	got := drain(t, stores[1])
	n := 0
	acknowledged.Range(func(id, _ any) bool {
		n++
		if !got[id.(string)] {
			t.Errorf("%s was acknowledged and is not handed over", id)
		}
		return true
	})
	if n != all {
		t.Errorf("%d events were acknowledged, want %d", n, all)
	}
}
