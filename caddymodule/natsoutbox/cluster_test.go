package natsoutbox

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/url"
	"sync"
	"testing"
	"time"

	natsserver "github.com/nats-io/nats-server/v2/server"

	"github.com/windsome/caddy-wepay/caddymodule"
)

// cluster is three servers that keep each stream three times.
type cluster struct {
	testing.TB
	options []*natsserver.Options
	nodes   []*natsserver.Server
}

// startCluster starts three servers and waits until they have a leader.
func startCluster(t testing.TB, change func(*natsserver.Options)) *cluster {
	t.Helper()
	c := &cluster{TB: t, nodes: make([]*natsserver.Server, 3)}
	ports := freePorts(t, len(c.nodes))
	var routes []*url.URL
	for _, port := range ports {
		routes = append(routes, &url.URL{Scheme: "nats", Host: fmt.Sprintf("127.0.0.1:%d", port)})
	}
	for i := range c.nodes {
		o := &natsserver.Options{
			ServerName: fmt.Sprintf("n%d", i), Host: "127.0.0.1", Port: -1, NoLog: true, NoSigs: true, JetStream: true, StoreDir: t.TempDir(),
			// Clients are told of no other node, so that each stays with its own.
			Cluster: natsserver.ClusterOpts{Name: "c", Host: "127.0.0.1", Port: ports[i], NoAdvertise: true},
			Routes:  routes,
		}
		if change != nil {
			change(o)
		}
		c.options = append(c.options, o)
		c.start(i)
	}
	t.Cleanup(func() {
		for i := range c.nodes {
			c.stop(i)
		}
	})
	for i := range c.nodes {
		c.awaitReady(i)
	}
	return c
}

// given are the ports that tests got, which nobody gets again.
var given sync.Map

// freePorts returns ports that nobody listens at, below those that systems give
// out themselves, so that no connection made meanwhile takes one.
func freePorts(t testing.TB, n int) (ports []int) {
	t.Helper()
	for tries := 0; len(ports) < n; tries++ {
		if tries > 1000 {
			t.Fatal("there is no free port")
		}
		port := 20000 + rand.IntN(10000)
		if _, taken := given.LoadOrStore(port, true); taken {
			continue
		}
		l, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", port))
		if err != nil {
			continue // somebody else's
		}
		if err := l.Close(); err != nil {
			t.Fatalf("finding a port: %v", err)
		}
		ports = append(ports, port)
	}
	return ports
}

// start starts a node, again at the port that it had before.
func (c *cluster) start(i int) {
	c.Helper()
	s, err := natsserver.NewServer(c.options[i].Clone())
	if err != nil {
		c.Fatalf("making NATS server %d: %v", i, err)
	}
	c.nodes[i] = s
	s.Start()
}

func (c *cluster) awaitReady(i int) {
	c.Helper()
	if !c.nodes[i].ReadyForConnections(30 * time.Second) {
		c.Fatalf("NATS server %d does not come up", i)
	}
	c.options[i].Port = c.nodes[i].Addr().(*net.TCPAddr).Port
	c.await("the cluster's leader", func() bool {
		for _, n := range c.nodes {
			if n != nil && n.JetStreamIsLeader() {
				return true
			}
		}
		return false
	})
}

func (c *cluster) stop(i int) {
	if c.nodes[i] != nil {
		c.nodes[i].Shutdown()
		c.nodes[i].WaitForShutdown()
		c.nodes[i] = nil
	}
}

// await waits for a condition.
func (c *cluster) await(what string, ok func() bool) {
	c.Helper()
	await(c, what, ok)
}

func await(t testing.TB, what string, ok func() bool) {
	t.Helper()
	awaitLong(t, lots, what, ok)
}

func awaitLong(t testing.TB, limit time.Duration, what string, ok func() bool) {
	t.Helper()
	ticker := time.NewTicker(20 * time.Millisecond)
	defer ticker.Stop()
	for deadline := time.After(limit); !ok(); {
		select {
		case <-ticker.C:
		case <-deadline:
			t.Fatalf("waiting for %s: it does not come", what)
		}
	}
}

// leader is the node that leads a stream.
func (c *cluster) leader(stream string) int {
	c.Helper()
	leader := -1
	c.await("a leader of the stream", func() bool {
		for i, n := range c.nodes {
			if n != nil && n.JetStreamIsStreamLeader(natsserver.DEFAULT_GLOBAL_ACCOUNT, stream) {
				leader = i
				return true
			}
		}
		return false
	})
	return leader
}

// outbox returns an open outbox that is connected to one node, and goes to no
// other.
func (c *cluster) outbox(i int, stream string) *NATS {
	c.Helper()
	return openOutbox(c, &NATS{URLs: []string{c.nodes[i].ClientURL()}, Stream: stream})
}

// openOutbox opens an outbox, which is closed when the test ends.
func openOutbox(t testing.TB, n *NATS) *NATS {
	t.Helper()
	return open(t, newOutbox(t, n))
}

// open opens an outbox that is provisioned.
func open(t testing.TB, n *NATS) *NATS {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	if err := n.Open(ctx); err != nil {
		t.Fatalf("Open: %v", err)
	}
	t.Cleanup(func() {
		if err := n.Close(); err != nil {
			t.Errorf("Close: %v", err)
		}
	})
	return n
}

var payments = caddymodule.Queue{Merchant: "shop", Kind: "payment"}

const (
	short = 300 * time.Millisecond
	long  = time.Hour
	lots  = 30 * time.Second
)

func payment(id string) *caddymodule.Event {
	now := time.Now()
	return &caddymodule.Event{
		ID: id, Merchant: payments.Merchant, Kind: payments.Kind, Payload: []byte(`{"out_trade_no":"` + id + `"}`),
		Received: now, State: caddymodule.Waiting, Due: now, Since: now,
	}
}

// within returns a context that ends with the test, or after a time.
func within(t testing.TB, limit time.Duration) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	t.Cleanup(cancel)
	return ctx
}

func put(t testing.TB, o *NATS, ids ...string) {
	t.Helper()
	for _, id := range ids {
		if err := o.Put(within(t, 20*time.Second), payment(id)); err != nil {
			t.Fatalf("Put of %s: %v", id, err)
		}
	}
}

// leaseOne leases the event that is next.
func leaseOne(t testing.TB, o *NATS, term time.Duration) *caddymodule.Lease {
	t.Helper()
	leases, err := o.Lease(within(t, 30*time.Second), payments, 1, term)
	if err != nil || len(leases) != 1 {
		t.Fatalf("Lease: %d events (%v), want one", len(leases), err)
	}
	return leases[0]
}

func settle(t testing.TB, o *NATS, l *caddymodule.Lease, state caddymodule.State) {
	t.Helper()
	l.Event.State, l.Event.Due, l.Event.Ended = state, time.Time{}, time.Now()
	if err := o.Settle(within(t, 20*time.Second), l); err != nil {
		t.Fatalf("Settle of %s: %v", l.Event.ID, err)
	}
}

// deliver leases and settles until each of a number of events was delivered,
// and fails for one that is given out twice.
func deliver(t testing.TB, o *NATS, n int) map[string]bool {
	t.Helper()
	delivered := make(map[string]bool)
	for len(delivered) < n {
		leases, err := o.Lease(within(t, 30*time.Second), payments, 16, long)
		if err != nil {
			t.Fatalf("Lease after %d of %d: %v", len(delivered), n, err)
		}
		for _, l := range leases {
			if delivered[l.Event.ID] {
				t.Errorf("%s is given out twice", l.Event.ID)
			}
			delivered[l.Event.ID] = true
			settle(t, o, l, caddymodule.Delivered)
		}
	}
	return delivered
}

// nothingLeft checks that no event is given out any more.
func nothingLeft(t testing.TB, o *NATS) {
	t.Helper()
	if leases, err := o.Lease(within(t, short), payments, 1, long); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("Lease when all are settled: %d events (%v)", len(leases), err)
	}
}

func counts(t testing.TB, o *NATS) map[caddymodule.State]int {
	t.Helper()
	counted, err := o.Count(within(t, 20*time.Second))
	if err != nil {
		t.Fatalf("Count: %v", err)
	}
	sums := make(map[caddymodule.State]int)
	for _, c := range counted {
		sums[c.State] += c.Events
	}
	return sums
}
