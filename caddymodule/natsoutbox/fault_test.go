package natsoutbox

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	natsserver "github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"

	"github.com/windsome/caddy-wepay/caddymodule"
	"github.com/windsome/caddy-wepay/caddymodule/outboxtest"
)

func TestContractOfCluster(t *testing.T) {
	t.Parallel()
	c := startCluster(t, nil)
	outboxtest.Run(t, func(t testing.TB) func() caddymodule.Outbox {
		stream, next := streamOf(t), 0
		// Each instance is at another node than the one before.
		return func() caddymodule.Outbox {
			next++
			return newOutbox(t, &NATS{URLs: []string{c.nodes[next%3].ClientURL()}, Stream: stream})
		}
	})
}

// The same event put by many at once through different nodes is one event.
func TestSameEventThroughNodes(t *testing.T) {
	t.Parallel()
	c := startCluster(t, nil)
	a, b := c.outbox(0, ""), c.outbox(1, "")
	for round := range 5 {
		var callers sync.WaitGroup
		for i := range 30 {
			callers.Go(func() {
				if err := []*NATS{a, b}[i%2].Put(within(t, lots), payment(fmt.Sprintf("evt_%d", round))); err != nil {
					t.Errorf("Put: %v", err)
				}
			})
		}
		callers.Wait()
	}
	if got := counts(t, b); got[caddymodule.Waiting] != 5 || len(got) != 1 {
		t.Errorf("counted: %v", got)
	}
	deliver(t, a, 5)
	nothingLeft(t, b)
}

// burst puts many events through outboxes, each as long as WeChat waits, calls
// half after half of them, and returns those that were acknowledged.
func burst(t testing.TB, n int, half func(), outboxes ...*NATS) map[string]bool {
	t.Helper()
	var mu sync.Mutex
	acknowledged := make(map[string]bool)
	var next, asked atomic.Int64
	var callers sync.WaitGroup
	halfway := make(chan struct{})
	for i := range 8 {
		callers.Go(func() {
			for k := next.Add(1); k <= int64(n); k = next.Add(1) {
				ctx, cancel := context.WithTimeout(context.Background(), 4*time.Second)
				id := fmt.Sprintf("evt_%04d", k)
				began := time.Now()
				err := outboxes[i%len(outboxes)].Put(ctx, payment(id))
				cancel()
				if took := time.Since(began); took > 5*time.Second {
					t.Errorf("Put took %s", took)
				}
				mu.Lock()
				if err == nil {
					acknowledged[id] = true
				}
				mu.Unlock()
				if asked.Add(1) == int64(n)/2 {
					close(halfway)
				}
			}
		})
	}
	<-halfway
	half()
	callers.Wait()
	return acknowledged
}

// What was acknowledged is there when the leader is lost in the middle, and is
// delivered once. What was not is acknowledged when WeChat sends it again.
func TestLeaderKilled(t *testing.T) {
	t.Parallel()
	c := startCluster(t, nil)
	c.outbox(0, "") // makes the stream
	leader := c.leader(defaultStream)
	stays := c.outbox((leader+1)%3, "")
	moves := openOutbox(t, &NATS{URLs: []string{c.nodes[leader].ClientURL(), c.nodes[(leader+2)%3].ClientURL()}})
	const n = 400
	acknowledged := burst(t, n, func() { c.stop(leader) }, stays, moves)
	t.Logf("%d of %d acknowledged at once", len(acknowledged), n)
	for k := range n {
		if id := fmt.Sprintf("evt_%04d", k+1); !acknowledged[id] {
			put(t, moves, id)
		}
	}
	for id := range acknowledged {
		if _, err := stays.Get(within(t, lots), id); err != nil {
			t.Errorf("%s was acknowledged: %v", id, err)
		}
	}
	deliver(t, stays, n)
	nothingLeft(t, moves)
	if got := counts(t, moves); got[caddymodule.Delivered] != n || len(got) != 1 {
		t.Errorf("counted: %v", got)
	}
}

// A node that is cut off from the others acknowledges nothing, fails in time,
// and is one of them again afterwards.
func TestPartition(t *testing.T) {
	t.Parallel()
	var network, ways []*proxy
	c := startCluster(t, func(o *natsserver.Options) {
		// Each node is known by its proxy. Only the two that stay together have a
		// way around it.
		node := len(network)
		network = append(network, startProxy(t, o.Routes[node].Host))
		o.Cluster.Advertise = network[node].address()
		direct := slices.Clone(o.Routes)
		o.Routes = nil
		for other, route := range direct {
			switch {
			case other > 0 && node > 0:
				o.Routes = append(o.Routes, route)
			case other < node:
				o.Routes = append(o.Routes, &url.URL{Scheme: "nats", Host: network[other].address()})
			case node == 0 && other > 0:
				way := startProxy(t, route.Host)
				ways = append(ways, way)
				o.Routes = append(o.Routes, &url.URL{Scheme: "nats", Host: way.address()})
			}
		}
	})
	cut := func(cut bool) {
		for _, p := range slices.Concat(network, ways) {
			p.setCut(cut)
		}
	}
	inside, outside := c.outbox(1, ""), c.outbox(0, "")
	c.lead(defaultStream, 0)
	put(t, inside, "evt_before")
	cut(true)
	ctx, began := within(t, time.Second), time.Now()
	if err := outside.Put(ctx, payment("evt_outside")); err == nil {
		t.Error("a node that is cut off acknowledges an event")
	} else if took := time.Since(began); took > 2*time.Second {
		t.Errorf("it takes %s to fail: %v", took, err)
	}
	put(t, inside, "evt_inside")
	cut(false)
	put(t, outside, "evt_after", "evt_outside", "evt_inside")
	delivered := deliver(t, outside, 4)
	for _, id := range []string{"evt_before", "evt_outside", "evt_inside", "evt_after"} {
		if !delivered[id] {
			t.Errorf("%s is lost", id)
		}
	}
	nothingLeft(t, inside)
}

// lead has a node lead a stream.
func (c *cluster) lead(stream string, node int) {
	c.Helper()
	nc, err := nats.Connect(c.nodes[node].ClientURL())
	if err != nil {
		c.Fatalf("connecting: %v", err)
	}
	defer nc.Close()
	request, _ := json.Marshal(map[string]any{"placement": map[string]any{"preferred": c.options[node].ServerName}})
	c.await("another leader", func() bool {
		if c.leader(stream) == node {
			return true
		}
		_, _ = nc.Request("$JS.API.STREAM.LEADER.STEPDOWN."+stream, request, time.Second)
		return false
	})
}

// No event is in two nodes' hands at once, however often the leaders change.
func TestLeasedOnceThroughLeaders(t *testing.T) {
	t.Parallel()
	c := startCluster(t, nil)
	outboxes := []*NATS{c.outbox(0, ""), c.outbox(1, ""), c.outbox(2, "")}
	const n = 150
	for k := range n {
		put(t, outboxes[k%3], fmt.Sprintf("evt_%d", k))
	}
	ctx, cancel := context.WithCancel(within(t, lots))
	defer cancel()
	given := make(chan string, 10*n)
	var callers sync.WaitGroup
	for _, o := range outboxes {
		callers.Go(func() {
			for {
				leases, err := o.Lease(ctx, payments, 3, long)
				if ctx.Err() != nil {
					return
				}
				if err != nil {
					t.Logf("Lease: %v", err)
				}
				for _, l := range leases {
					given <- l.Event.ID
				}
			}
		})
	}
	seen := make(map[string]bool)
	for k := range n {
		if k%40 == 20 {
			c.lead(defaultStream, (c.leader(defaultStream)+1)%3)
			c.stepDownConsumer(defaultStream, names(defaultStream).consumer(payments))
		}
		select {
		case id := <-given:
			if seen[id] {
				t.Errorf("%s is given out twice", id)
			}
			seen[id] = true
		case <-ctx.Done():
			t.Fatalf("%d events are given out, want %d", len(seen), n)
		}
	}
	cancel()
	callers.Wait()
	if len(given) > 0 {
		t.Errorf("%s is given out once more", <-given)
	}
}

func (c *cluster) stepDownConsumer(stream, consumer string) {
	c.Helper()
	nc, err := nats.Connect(c.nodes[0].ClientURL())
	if err != nil {
		c.Fatalf("connecting: %v", err)
	}
	defer nc.Close()
	if _, err := nc.Request(fmt.Sprintf("$JS.API.CONSUMER.LEADER.STEPDOWN.%s.%s", stream, consumer), nil, 5*time.Second); err != nil {
		c.Logf("consumer's leader: %v", err)
	}
}

// What a node held that has died is given to others when its term has passed,
// and not before.
func TestNodeDiesWithLeases(t *testing.T) {
	t.Parallel()
	c := startCluster(t, nil)
	dies, lives := c.outbox(0, ""), c.outbox(1, "")
	put(t, dies, "evt_1", "evt_2", "evt_3")
	const term = 2 * time.Second
	held := make(map[string]time.Time)
	for range 3 {
		began := time.Now()
		held[leaseOne(t, dies, term).Event.ID] = began
	}
	dies.store.nc.Close()
	for range 3 {
		id := leaseOne(t, lives, long).Event.ID
		if waited := time.Since(held[id]); waited < term {
			t.Errorf("%s is given to another after %s of %s", id, waited, term)
		}
		delete(held, id)
	}
	if len(held) > 0 {
		t.Errorf("not given to another: %v", held)
	}
}

// All servers may stop and start again: what waits until another time is there,
// and comes when it is due.
func TestDueSurvivesRestart(t *testing.T) {
	t.Parallel()
	c := startCluster(t, nil)
	o := openOutbox(t, &NATS{URLs: []string{c.nodes[0].ClientURL(), c.nodes[1].ClientURL(), c.nodes[2].ClientURL()}})
	put(t, o, "evt_1")
	l := leaseOne(t, o, long)
	due := time.Now().Add(3 * time.Second)
	l.Event.Due, l.Event.Attempts, l.Event.Reason = due, 1, "HTTP status 503"
	if err := o.Settle(within(t, lots), l); err != nil {
		t.Fatalf("Settle: %v", err)
	}
	for i := range c.nodes {
		c.stop(i)
	}
	if _, err := o.Get(within(t, short), "evt_1"); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("Get when all servers are away: %v", err)
	}
	for i := range c.nodes {
		c.start(i)
	}
	e := leaseOne(t, o, long).Event
	if time.Now().Before(due) || e.Attempts != 1 || e.Reason == "" {
		t.Errorf("it is given out %s before its time, after %d attempts", time.Until(due), e.Attempts)
	}
}
