package natsoutbox

import (
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/windsome/caddy-wepay/caddymodule"
)

// BenchmarkPut is the cost of an event that one server has, or three have, in
// their disks' caches: of one sender, and of 32 at once.
func BenchmarkPut(b *testing.B) {
	for replicas, o := range map[int]*NATS{
		1: openOutbox(b, &NATS{URLs: []string{startServer(b, nil).ClientURL()}, Replicas: 1}),
		3: startCluster(b, nil).outbox(0, ""),
	} {
		var n atomic.Int64
		for _, senders := range []int{1, 32} {
			b.Run(fmt.Sprintf("replicas=%d/senders=%d", replicas, senders), func(b *testing.B) {
				benchmarkPut(b, o, senders, &n)
			})
		}
	}
}

func benchmarkPut(b *testing.B, o *NATS, senders int, n *atomic.Int64) {
	var sending sync.WaitGroup
	var left atomic.Int64
	left.Store(int64(b.N))
	for range senders {
		sending.Go(func() {
			for left.Add(-1) >= 0 {
				e := payment(fmt.Sprintf("evt_%032d", n.Add(1)))
				e.Payload = []byte(`{"total_fee":"1200","attach":"` + strings.Repeat("x", 700) + `"}`)
				if err := o.Put(b.Context(), e); err != nil {
					b.Error(err)
					return
				}
			}
		})
	}
	sending.Wait()
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "events/s")
	info, err := o.store.events.Info(b.Context())
	if err != nil {
		b.Fatal(err)
	}
	b.ReportMetric(float64(info.State.Bytes)/float64(info.State.Msgs), "bytes/event")
}

// BenchmarkHandOver is the cost of an event from Put until it is settled, all
// nodes working at it.
func BenchmarkHandOver(b *testing.B) {
	c := startCluster(b, nil)
	outboxes := []*NATS{c.outbox(0, ""), c.outbox(1, ""), c.outbox(2, "")}
	var left, settled atomic.Int64
	left.Store(int64(b.N))
	ctx := b.Context()
	done := make(chan struct{})
	var working sync.WaitGroup
	b.ResetTimer()
	for i := range 24 {
		working.Go(func() {
			for n := left.Add(-1); n >= 0; n = left.Add(-1) {
				if err := outboxes[i%3].Put(ctx, payment(fmt.Sprintf("evt_%d", n))); err != nil {
					b.Error(err)
					return
				}
			}
		})
	}
	for _, o := range outboxes {
		go func() {
			for {
				leases, err := o.Lease(ctx, payments, 8, long)
				if err != nil {
					return
				}
				var settling sync.WaitGroup
				for _, l := range leases {
					settling.Go(func() {
						settle(b, o, l, caddymodule.Delivered)
						if settled.Add(1) == int64(b.N) {
							close(done)
						}
					})
				}
				settling.Wait()
			}
		}()
	}
	working.Wait()
	<-done
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "events/s")
}
