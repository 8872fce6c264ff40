package caddymodule

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
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
						if err := o.Put(b.Context(), benchEvent(benchID(uint64(n)))); err != nil {
							b.Error(err)
						}
					}
				})
			}
			all.Wait()
		})
	}
}

// BenchmarkBoltTransaction is the cost of a transaction under load, 16 new
// events and 16 that are delivered, among many that were before: how many pages
// it writes is what a sync takes its time for.
func BenchmarkBoltTransaction(b *testing.B) {
	o := openBench(b, filepath.Join(b.TempDir(), "outbox.db"))
	const before, share = 24_000, 16
	fillBench(b, o, before, 1000, Delivered)
	last := uint64(before)
	began := o.store.db.Stats()
	for b.Loop() {
		err := o.write(b.Context(), func(tx *boltTx) error {
			for n := last + 1; n <= last+share; n++ {
				if err := tx.add(benchEvent(benchID(n))); err != nil {
					return err
				}
			}
			for n := last - share + 1; n <= last && last > before; n++ {
				e, err := tx.get(benchID(n))
				if err != nil {
					return err
				}
				delivered := *e.Event
				delivered.State, delivered.Due, delivered.Ended = Delivered, time.Time{}, time.Now()
				if err := tx.change(e, &delivered); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			b.Fatal(err)
		}
		last += share
	}
	ended := o.store.db.Stats()
	spent := ended.Sub(&began)
	b.ReportMetric(float64(spent.TxStats.GetWrite())/float64(b.N), "pages/op")
}

// BenchmarkBoltFileSize is how large a file is for each event that waits, and for
// each that is remembered after its delivery. -benchtime 1x
func BenchmarkBoltFileSize(b *testing.B) {
	const events, batch = 100_000, 1000
	for _, state := range []State{Waiting, Delivered} {
		b.Run(string(state), func(b *testing.B) {
			for b.Loop() {
				o := openBench(b, filepath.Join(b.TempDir(), "outbox.db"))
				fillBench(b, o, events, batch, state)
				info, err := os.Stat(o.path)
				if err != nil {
					b.Fatal(err)
				}
				b.ReportMetric(float64(info.Size())/events, "file-B/event")
			}
		})
	}
}

// fillBench puts events into an outbox, many in a transaction.
func fillBench(b *testing.B, o *Bolt, events, batch int, state State) {
	b.Helper()
	number := uint64(0)
	for range events / batch {
		err := o.write(b.Context(), func(tx *boltTx) error {
			for range batch {
				number++
				e := benchEvent(benchID(number))
				e.State = state
				if state != Waiting {
					e.Due, e.Ended = time.Time{}, time.Now()
				}
				if err := tx.add(e); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			b.Fatal(err)
		}
	}
}

// benchID is the ID of one of many events, in no order, as real ones are.
func benchID(number uint64) string {
	return fmt.Sprintf("evt_%016x%016x", number*0x9E3779B97F4A7C15, number)
}

// BenchmarkBoltMillion is what an outbox is like in which a million events wait:
// how long it takes to open, what memory it holds then, how fast events come in
// and go out, and how large its file is. -benchtime 1x; it writes 2 GB.
func BenchmarkBoltMillion(b *testing.B) {
	const waiting, batch = 1_000_000, 10_000
	path := filepath.Join(b.TempDir(), "outbox.db")
	var number atomic.Uint64
	number.Store(waiting)
	next := func() *Event { return benchEvent(benchID(number.Add(1))) }
	o := newBolt(path)
	if err := o.Open(b.Context()); err != nil {
		b.Fatal(err)
	}
	before := heap()
	fillBench(b, o, waiting, batch, Waiting)
	if err := o.Close(); err != nil {
		b.Fatal(err)
	}
	o = nil
	info, err := os.Stat(path)
	if err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		b.ReportMetric(float64(info.Size())/waiting, "file-B/event")
		o = newBolt(path)
		began := time.Now()
		if err := o.Open(b.Context()); err != nil {
			b.Fatal(err)
		}
		b.ReportMetric(time.Since(began).Seconds(), "open-s")
		b.ReportMetric(heap()-before, "open-heap-MB")
		b.ReportMetric(perSecond(b, func() error { return o.Put(b.Context(), next()) }), "put/s")
		b.ReportMetric(perSecond(b, func() error {
			leases, err := o.Lease(b.Context(), Queue{"shop", wepay.Payment}, 1, time.Hour)
			if err != nil {
				return err
			}
			lease := leases[0]
			lease.Event.State, lease.Event.Ended = Delivered, time.Now()
			return o.Settle(b.Context(), lease)
		}), "deliver/s")
		b.ReportMetric(heap()-before, "work-heap-MB")
		b.ReportMetric(residentMB(b), "resident-MB")
		b.ReportMetric(openAfterCrash(b, path), "crash-open-s")
		if err := o.Close(); err != nil {
			b.Fatal(err)
		}
	}
}

// openAfterCrash is how long it takes to open a file as it is in the middle of
// its use, in seconds.
func openAfterCrash(b *testing.B, path string) float64 {
	b.Helper()
	crashed := path + ".crashed"
	from, err := os.Open(path)
	if err != nil {
		b.Fatal(err)
	}
	defer from.Close()
	to, err := os.Create(crashed)
	if err != nil {
		b.Fatal(err)
	}
	_, err = io.Copy(to, from)
	if err := errors.Join(err, to.Close()); err != nil {
		b.Fatal(err)
	}
	o := newBolt(crashed)
	began := time.Now()
	if err := o.Open(b.Context()); err != nil {
		b.Fatal(err)
	}
	defer o.Close()
	return time.Since(began).Seconds()
}

// perSecond is how often 32 callers together do something in a second.
func perSecond(b *testing.B, do func() error) float64 {
	b.Helper()
	const callers, times = 32, 500
	began := time.Now()
	var all sync.WaitGroup
	for range callers {
		all.Go(func() {
			for range times {
				if err := do(); err != nil {
					b.Error(err)
					return
				}
			}
		})
	}
	all.Wait()
	return callers * times / time.Since(began).Seconds()
}

// heap is how much memory is in use, in MB.
func heap() float64 {
	for range 3 { // pools are emptied in the second
		runtime.GC()
	}
	var stats runtime.MemStats
	runtime.ReadMemStats(&stats)
	return float64(stats.HeapAlloc) / 1e6
}

// residentMB is the process's memory that is its own, in MB: not the pages of
// the file, which the system takes back when it needs them. 0 where it does not
// tell.
func residentMB(b *testing.B) float64 {
	text, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return 0
	}
	_, rest, _ := strings.Cut(string(text), "RssAnon:")
	var kilobytes float64
	if _, err := fmt.Sscan(rest, &kilobytes); err != nil {
		b.Error(err)
	}
	return kilobytes / 1000
}
