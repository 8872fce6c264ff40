package caddymodule

import (
	"fmt"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"
	"go.uber.org/zap"

	"github.com/windsome/caddy-wepay/wepay"
)

// newBolt is an outbox in a file, not open yet.
func newBolt(path string) *Bolt {
	return &Bolt{path: path, logger: zap.NewNop(), OutboxOptions: OutboxOptions{Keep: caddy.Duration(defaultKeep)}}
}

// benchEvent is an event of the size of a real one.
func benchEvent(id string) *Event {
	now := time.Now()
	return &Event{
		ID: id, Merchant: "shop", Kind: wepay.Payment, Payload: []byte(`{"total_fee":"1200","attach":"` + strings.Repeat("x", 700) + `"}`),
		Received: now, State: Waiting, Due: now, Since: now,
	}
}

// openBench opens an outbox for a benchmark.
func openBench(b *testing.B, path string) *Bolt {
	b.Helper()
	o := newBolt(path)
	if err := o.Open(b.Context()); err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		if err := o.Close(); err != nil {
			b.Error(err)
		}
	})
	return o
}

// BenchmarkBoltPut is the cost of an event that is durable: of one sender, and
// of 32 at once, whose events share a sync.
func BenchmarkBoltPut(b *testing.B) {
	for _, senders := range []int{1, 32} {
		b.Run(fmt.Sprintf("%d senders", senders), func(b *testing.B) {
			o := openBench(b, filepath.Join(b.TempDir(), "outbox.db"))
			var number atomic.Int64
			b.ReportAllocs()
			b.ResetTimer()
			var all sync.WaitGroup
			for range senders {
				all.Go(func() {
					for n := number.Add(1); n <= int64(b.N); n = number.Add(1) {
						if err := o.Put(b.Context(), benchEvent(fmt.Sprintf("evt_%032x", uint64(n)*0x9E3779B97F4A7C15))); err != nil {
							b.Error(err)
						}
					}
				})
			}
			all.Wait()
		})
	}
}
