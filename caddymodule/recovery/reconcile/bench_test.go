package reconcile_test

import (
	"context"
	"fmt"
	"io"
	"runtime"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/windsome/caddy-wepay/caddymodule/recovery/reconcile"
	"github.com/windsome/caddy-wepay/caddymodule/store"
	"github.com/windsome/caddy-wepay/caddymodule/store/storetest"
	"github.com/windsome/caddy-wepay/wepay"
)

// endless is a store that has an order and an event of each payment, made as they are
// asked for.
type endless struct {
	*storetest.Memory
	payments int
}

func (s endless) Match(_ context.Context, kind store.OrderKind, numbers []string) (orders []*store.Order, events []*store.Event, err error) {
	for _, number := range numbers {
		orders = append(orders, order(number, 100))
		events = append(events, event(number, "T"+strings.TrimPrefix(number, "A"), 100))
	}
	return orders, events, nil
}

func (s endless) Occurred(_ context.Context, queue store.Queue, _, _ time.Time, each func(*store.Event) error) error {
	if queue.Kind != wepay.Payment {
		return nil
	}
	for i := range s.payments {
		if err := each(event("A"+strconv.Itoa(i), "T"+strconv.Itoa(i), 100)); err != nil {
			return err
		}
	}
	return nil
}

// longBill is a bill of so many payments that is made as it is read.
func longBill(payments int) io.Reader {
	r, w := io.Pipe()
	go func() {
		_, err := io.WriteString(w, titles+"\r\n")
		line := strings.Split(strings.TrimPrefix(billOf(row{transactionID: "T#", number: "A#", total: 100}), "\ufeff"+titles+"\r\n"), "\r\n")[0]
		for i := 0; i < payments && err == nil; i++ {
			_, err = io.WriteString(w, strings.ReplaceAll(line, "#", strconv.Itoa(i))+"\r\n")
		}
		if err == nil {
			_, err = fmt.Fprintf(w, "%s\r\n`%d,`%s,`0.0,`0.0,`%s,`%s,`0.0\r\n", summary, payments, yuan(int64(payments)*100), yuan(int64(payments)*6/10), yuan(int64(payments)*100))
		}
		w.CloseWithError(err)
	}()
	return r
}

// mostHeap samples the heap, garbage included, until stop is called, which returns by how
// much it grew at most.
func mostHeap() (stop func() uint64) {
	heap := func() uint64 {
		var stats runtime.MemStats
		runtime.ReadMemStats(&stats)
		return stats.HeapAlloc
	}
	runtime.GC()
	before := heap()
	var most atomic.Uint64
	end, ended := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		ticker := time.NewTicker(20 * time.Millisecond)
		defer ticker.Stop()
		for {
			most.Store(max(most.Load(), heap()))
			select {
			case <-ticker.C:
			case <-end:
				return
			}
		}
	}()
	return func() uint64 {
		close(end)
		<-ended
		return max(most.Load(), before) - before
	}
}

// reconciled reconciles a bill of so many payments with a store that has them all.
func reconciled(tb testing.TB, payments int) (grew uint64) {
	tb.Helper()
	memory := storetest.NewMemory()
	if err := memory.Open(tb.Context(), store.Options{}); err != nil {
		tb.Fatal(err)
	}
	stop := mostHeap()
	r, err := reconcile.Offline(tb.Context(), endless{memory, payments}, []string{"shop"}, date, longBill(payments))
	grew = stop()
	if err != nil || r.Matched != payments || r.All() != 0 {
		tb.Fatalf("%d matched, findings %v (%v)", r.Matched, r.Counts, err)
	}
	return grew
}

// A bill needs 16 bytes of memory a line.
func TestMemory(t *testing.T) {
	if grew := reconciled(t, 50_000); grew > 32<<20 {
		t.Errorf("the heap grew by %d MB", grew>>20)
	}
}

// Run it with
//
//	go test ./caddymodule/recovery/reconcile -run '^$' -bench Million -benchtime 1x
func BenchmarkMillion(b *testing.B) {
	var most uint64
	for b.Loop() {
		most = max(most, reconciled(b, 1_000_000))
	}
	b.ReportMetric(float64(most)/(1<<20), "MB-of-heap")
}
