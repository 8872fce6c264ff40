package sampler_test

import (
	"maps"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/windsome/caddy-wepay/caddymodule/internal/sampler"
)

// The first in a minute is logged, and the others are counted by what they are.
func TestSampler(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var told []map[string]int
		s := sampler.Sampler{Counted: func(more map[string]int) { told = append(told, more) }}
		happens := func(what string, times, logged int) {
			t.Helper()
			n := 0
			for range times {
				if s.Log(what) {
					n++
				}
			}
			if n != logged {
				t.Errorf("%s: of %d times %d are logged, wants %d", what, times, n, logged)
			}
		}
		happens("a", 100, 1)
		<-time.After(20 * time.Second)
		happens("b", 3, 1)
		happens("c", 1, 1)
		<-time.After(40*time.Second - 1)
		happens("a", 1, 0)
		<-time.After(1)
		synctest.Wait()
		if len(told) != 1 || !maps.Equal(told[0], map[string]int{"a": 100, "b": 2}) {
			t.Fatalf("told %v", told)
		}
		happens("a", 5, 1)
		happens("b", 1, 0) // it was logged 40 s ago
		s.Flush()
		if len(told) != 2 || !maps.Equal(told[1], map[string]int{"a": 4, "b": 1}) {
			t.Errorf("told %v", told)
		}
		<-time.After(10 * time.Minute)
		happens("a", 1, 1)
		s.Flush()
		if len(told) != 2 {
			t.Errorf("told %v, of nothing", told[2:])
		}
	})
}

// What is over is logged when it begins again.
func TestOver(t *testing.T) {
	var s sampler.Sampler
	if s.Over("a") {
		t.Error("what never happened is over")
	}
	for range 2 {
		if !s.Log("a") || s.Log("a") || !s.Over("a") || s.Over("a") {
			t.Error("it is not logged once")
		}
	}
}

func TestManyAtOnce(t *testing.T) {
	total := 0
	s := sampler.Sampler{Counted: func(more map[string]int) { total += more["a"] }}
	var all sync.WaitGroup
	var logged sync.Map
	for n := range 50 {
		all.Go(func() {
			if s.Log("a") {
				logged.Store(n, true)
			}
		})
	}
	all.Wait()
	s.Flush()
	n := 0
	logged.Range(func(any, any) bool { n++; return true })
	if n != 1 || total != 49 {
		t.Errorf("%d are logged, %d counted", n, total)
	}
}
