package natsoutbox

import (
	"fmt"
	"sync"
	"testing"

	"github.com/windsome/caddy-wepay/caddymodule"
	"github.com/windsome/caddy-wepay/caddymodule/outboxtest"
)

func TestContractOfCluster(t *testing.T) {
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
	c := startCluster(t, nil)
	a, b := c.outbox(0, ""), c.outbox(1, "")
	for round := range 5 {
		id := fmt.Sprintf("evt_%d", round)
		var callers sync.WaitGroup
		for i := range 30 {
			callers.Go(func() {
				if err := []*NATS{a, b}[i%2].Put(within(t, lots), payment(id)); err != nil {
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
