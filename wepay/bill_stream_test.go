package wepay_test

import (
	"errors"
	"fmt"
	"io"
	"runtime"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/windsome/caddy-wepay/wepay"
)

// manyTrades is a bill of so many trades that is made as it is read.
type manyTrades struct {
	trades int
	rest   string
	part   int
}

func (b *manyTrades) Read(p []byte) (int, error) {
	for b.rest == "" {
		switch {
		case b.part == 0:
			b.rest = lines(allTitles)
		case b.part <= b.trades:
			b.rest = lines(rowOf("SUCCESS", "CMB_CREDIT", "CNY", "12.00", "0.00", "0", "0", "0.00", "0.00", "", "",
				"袜子1件,衣服2件", "attach", "0.07000", "0.60%", "12.00", "0.00", ""))
		case b.part == b.trades+1:
			b.rest = lines(allSummary, "`"+fmt.Sprintf("%d,`%d.0,`0.0,`0.0,`%d.0,`%d.0,`0.0", b.trades, 12*b.trades, 7*b.trades/100, 12*b.trades))
		default:
			return 0, io.EOF
		}
		b.part++
	}
	n := copy(p, b.rest)
	b.rest = b.rest[n:]
	return n, nil
}

// watching counts what is written, and what memory is in use meanwhile.
type watching struct {
	written, writes int
	most            uint64
}

func (w *watching) Write(p []byte) (int, error) {
	w.written += len(p)
	if w.writes++; w.writes%256 == 0 {
		w.most = max(w.most, heap())
	}
	return len(p), nil
}

func heap() uint64 {
	var stats runtime.MemStats
	runtime.ReadMemStats(&stats)
	return stats.HeapAlloc
}

// streamed writes a bill of so many trades and returns how long it was, and by
// how much the heap, garbage included, grew at most.
func streamed(tb testing.TB, trades int) (written int, grew uint64) {
	tb.Helper()
	runtime.GC()
	before := heap()
	out := new(watching)
	b := wepay.Bill{Reader: &manyTrades{trades: trades}}
	if err := b.WriteJSON(out); err != nil {
		tb.Fatal(err)
	}
	return out.written, max(out.most, before) - before
}

// A bill needs the memory of one line, however many it has.
func TestBillMemory(t *testing.T) {
	written, grew := streamed(t, 20_000)
	if written < 12_000_000 || grew > 8_000_000 {
		t.Errorf("%d bytes were written and the heap grew by %d", written, grew)
	}
}

// Run it with
//
//	go test ./wepay -run '^$' -bench Bill -count 6
func BenchmarkBillWriteJSON(b *testing.B) {
	var most uint64
	for b.Loop() {
		written, grew := streamed(b, 100_000)
		b.SetBytes(int64(written))
		most = max(most, grew)
	}
	b.ReportMetric(float64(most)/(1<<20), "MB-of-heap")
}

// breaking takes so many bytes and fails then, as a connection does.
type breaking struct {
	left int
	err  error
}

func (b *breaking) Write(p []byte) (int, error) {
	if len(p) > b.left {
		return b.left, b.err
	}
	b.left -= len(p)
	return len(p), nil
}

// Who reads the bill and goes away does not make it malformed.
func TestBillWriterFails(t *testing.T) {
	gone := errors.New("gone")
	for _, left := range []int{0, 1, 5000} {
		b := wepay.Bill{Reader: &manyTrades{trades: 100}}
		if err := b.WriteJSON(&breaking{left, gone}); !errors.Is(err, gone) || errors.Is(err, wepay.ErrMalformed) {
			t.Errorf("after %d bytes: got %v, want the writer's error alone", left, err)
		}
	}
}

func TestBillReaderFails(t *testing.T) {
	reset := errors.New("reset")
	for _, left := range []int{0, 1, 500, 5000} {
		text := io.MultiReader(io.LimitReader(&manyTrades{trades: 100}, int64(left)), iotest.ErrReader(reset))
		b := wepay.Bill{Reader: text}
		if err := b.WriteJSON(io.Discard); !errors.Is(err, reset) || !errors.Is(err, wepay.ErrMalformed) {
			t.Errorf("after %d bytes: got %v, want ErrMalformed for the reader's error", left, err)
		}
	}
}

// A line may be as long as the limit, and an error says which it was.
func TestBillLongestLine(t *testing.T) {
	for size, ok := range map[int]bool{64<<10 - 1: true, 64 << 10: true, 64<<10 + 1: false} {
		long := "`" + strings.Repeat("a", size-len("`\n"))
		_, err := objects(t, "a\n`1\n"+long+"\nb\n`1\n")
		if ok != (err == nil) || !ok && !strings.Contains(err.Error(), "line 3 ") {
			t.Errorf("a line of %d bytes: got %v", size, err)
		}
	}
}

// Run it for longer with
//
//	go test ./wepay -run '^$' -fuzz '^FuzzBillWriteJSON$' -fuzztime 2m
func FuzzBillWriteJSON(f *testing.F) {
	for _, text := range bills {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		got, err := objects(t, text)
		if err != nil {
			if !errors.Is(err, wepay.ErrMalformed) {
				t.Fatalf("got %v", err)
			}
			return
		}
		if summary, found := got[len(got)-1]["summary"]; !found || summary == nil {
			t.Fatalf("a bill without a summary passed: %v", got)
		}
	})
}
