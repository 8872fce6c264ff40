package sqlstore

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/windsome/caddy-wepay/caddymodule/internal/dbtest"
	"github.com/windsome/caddy-wepay/caddymodule/store"
)

// An event's whole way: it is put, leased and settled, by some senders and 16
// workers at the same time. `-bench Way -benchtime 3s`
func BenchmarkWay(b *testing.B) {
	for _, engine := range []struct {
		name  string
		place func(b *testing.B) string
	}{
		{"sqlite", func(b *testing.B) string { return filepath.Join(b.TempDir(), "store.db") }},
		{"postgres", func(b *testing.B) string { return dbtest.StartPostgres(b).NewDSN(b) }},
		{"mysql", func(b *testing.B) string { return dbtest.StartMariaDB(b).NewDSN(b) }},
	} {
		b.Run(engine.name, func(b *testing.B) {
			place := engine.place(b)
			for _, senders := range []int{1, 8, 32, 64} {
				b.Run(strconv.Itoa(senders), func(b *testing.B) { benchmarkWay(b, storeOf(engine.name, place), senders, b.N) })
			}
		})
	}
}

var benchmarked atomic.Int64

func benchmarkWay(b *testing.B, s anyStore, senders, n int) {
	open(b, provisioned(b, s), store.Options{})
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	var settled sync.WaitGroup
	settled.Add(n)
	for range 16 {
		go func() {
			for {
				leases, err := s.Lease(ctx, queue, 4, time.Minute)
				if err != nil {
					return // it is done
				}
				for _, lease := range leases {
					lease.Event.State, lease.Event.Ended = store.Delivered, time.Now()
					if err := s.Settle(ctx, lease); err != nil {
						b.Error(err)
					}
					settled.Done()
				}
			}
		}()
	}
	before := usedCPU(b)
	began := time.Now()
	var next atomic.Int64
	var puts sync.WaitGroup
	for range senders {
		puts.Go(func() {
			for next.Add(1) <= int64(n) {
				if _, err := s.Put(ctx, event(eventID(int(benchmarked.Add(1))))); err != nil {
					b.Error(err)
				}
			}
		})
	}
	puts.Wait()
	b.ReportMetric(float64(n)/time.Since(began).Seconds(), "puts/s")
	settled.Wait()
	b.ReportMetric(float64(n)/time.Since(began).Seconds(), "events/s")
	b.ReportMetric(float64((usedCPU(b)-before).Microseconds())/float64(n), "cpu-µs/event")
}

// usedCPU is the time that this process has used, without a server's.
func usedCPU(b *testing.B) time.Duration {
	var usage syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &usage); err != nil {
		b.Fatal(err)
	}
	return time.Duration(usage.Utime.Nano() + usage.Stime.Nano())
}

// A million events wait: opening, memory, and the way of others beside them. `-bench
// Million -benchtime 1x`, with WEPAY_BENCH_EVENTS for another number.
func BenchmarkMillion(b *testing.B) {
	n := 1_000_000
	if text := os.Getenv("WEPAY_BENCH_EVENTS"); text != "" {
		var err error
		if n, err = strconv.Atoi(text); err != nil {
			b.Fatal(err)
		}
	}
	path := filepath.Join(b.TempDir(), "store.db")
	s := provisioned(b, &SQLite{Path: path})
	open(b, s, store.Options{})
	began := time.Now()
	var puts sync.WaitGroup
	for w := range 200 {
		puts.Go(func() {
			for i := w; i < n; i += 200 {
				e := event(eventID(1<<40 + i))
				e.Due = e.Due.Add(time.Hour)
				if _, err := s.Put(b.Context(), e); err != nil {
					b.Error(err)
					return
				}
			}
		})
	}
	puts.Wait()
	b.ReportMetric(float64(n)/time.Since(began).Seconds(), "fill/s")
	if err := s.Close(); err != nil {
		b.Fatal(err)
	}
	info, err := os.Stat(path)
	if err != nil {
		b.Fatal(err)
	}
	b.ReportMetric(float64(info.Size())/float64(n), "bytes/event")
	for _, clean := range []bool{true, false} {
		if !clean {
			if err := os.WriteFile(path+".lock", nil, 0o600); err != nil {
				b.Fatal(err)
			}
		}
		began = time.Now()
		s = provisioned(b, &SQLite{Path: path})
		open(b, s, store.Options{})
		b.ReportMetric(time.Since(began).Seconds(), fmt.Sprintf("s-to-open-clean=%v", clean))
		if err := s.Close(); err != nil {
			b.Fatal(err)
		}
	}
	s = provisioned(b, &SQLite{Path: path})
	open(b, s, store.Options{})
	for what, call := range map[string]func() error{
		"count": func() error { _, err := s.Count(b.Context()); return err },
		"list":  func() error { _, _, err := s.List(b.Context(), store.Filter{}, "", 100); return err },
		"list-waiting": func() error {
			_, _, err := s.List(b.Context(), store.Filter{State: store.Waiting}, "", 100)
			return err
		},
		"list-dead": func() error { _, _, err := s.List(b.Context(), store.Filter{State: store.Dead}, "", 100); return err },
		"get":       func() error { _, err := s.Get(b.Context(), eventID(1<<40)); return err },
	} {
		began = time.Now()
		if err := call(); err != nil {
			b.Errorf("%s: %v", what, err)
		}
		b.ReportMetric(float64(time.Since(began).Microseconds())/1000, "ms-"+what)
	}
	runtime.GC()
	var memory runtime.MemStats
	runtime.ReadMemStats(&memory)
	b.ReportMetric(float64(memory.Sys)/(1<<20), "MB")
	if err := s.Close(); err != nil {
		b.Fatal(err)
	}
	benchmarkWay(b, &SQLite{Path: path}, 32, 10_000)
}
