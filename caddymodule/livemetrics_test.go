package caddymodule

import (
	"context"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"github.com/windsome/caddy-wepay/caddymodule/store"
	"github.com/windsome/caddy-wepay/caddymodule/store/storetest"
)

// uncounted is a store that cannot be counted.
type uncounted struct {
	*storetest.Memory
	err  error
	hung bool
}

func (u *uncounted) Count(ctx context.Context) ([]store.Count, error) {
	if u.hung {
		<-ctx.Done()
		return nil, ctx.Err()
	}
	if u.err != nil {
		return nil, u.err
	}
	return u.Memory.Count(ctx)
}

// scraped is what a scrape finds, a series each, and how long it takes.
func scraped(t *testing.T, registry *prometheus.Registry) (series string, took time.Duration) {
	t.Helper()
	began := time.Now()
	families, err := registry.Gather()
	if err != nil {
		t.Errorf("the scrape fails: %v", err)
	}
	var all []string
	for _, family := range families {
		for _, metric := range family.GetMetric() {
			all = append(all, family.GetName()+" "+strings.ReplaceAll(metric.String(), "  ", " "))
		}
	}
	return strings.Join(all, "\n"), time.Since(began)
}

// A store that cannot be counted takes its own series out of a scrape and
// nothing else, says so, and does not hold it up.
func TestUncountedStore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		core, logs := observer.New(zap.ErrorLevel)
		o := &uncounted{Memory: storetest.NewMemory()}
		if err := o.Open(t.Context(), store.Options{}); err != nil {
			t.Fatal(err)
		}
		if _, err := o.Put(t.Context(), &store.Event{ID: "evt_1", Merchant: "shop", State: store.Waiting, Due: time.Now()}); err != nil {
			t.Fatal(err)
		}
		registry, other := prometheus.NewPedanticRegistry(), prometheus.NewCounter(prometheus.CounterOpts{Name: "other_total"})
		registry.MustRegister(&storeMetrics{store: o, logger: zap.New(core)}, other)
		check := func(up string, events bool, within time.Duration) {
			t.Helper()
			series, took := scraped(t, registry)
			if !strings.Contains(series, "caddy_wepay_store_up gauge:{value:"+up+"}") || strings.Contains(series, "caddy_wepay_store_events") != events ||
				!strings.Contains(series, "other_total") || took > within {
				t.Errorf("after %s:\n%s", took, series)
			}
		}
		check("1", true, 0)
		o.err = errors.New("no servers available")
		check("0", false, 0)
		o.hung = true
		check("0", false, 2*time.Second)
		if n := logs.Len(); n != 1 {
			t.Errorf("it is told %d times", n)
		}
		<-time.After(time.Minute)
		check("0", false, 2*time.Second)
		if n := logs.Len(); n != 2 {
			t.Errorf("it is told %d times", n)
		}
		o.hung, o.err = false, store.ErrClosed
		if series, _ := scraped(t, registry); strings.Contains(series, "store_up") {
			t.Errorf("a store that is not open:\n%s", series)
		}
		o.err = nil
		check("1", true, 0)
	})
}
