package caddymodule

import (
	"context"
	"errors"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"

	"github.com/windsome/caddy-wepay/caddymodule/admin"
	"github.com/windsome/caddy-wepay/caddymodule/internal/sampler"
	"github.com/windsome/caddy-wepay/caddymodule/store"
)

func init() {
	admin.AddCollector(liveMetrics{})
}

// liveMetrics are those of the app that is live, in the registry of whichever
// config is asked.
type liveMetrics struct{}

// Describe tells of all that an app may have.
func (liveMetrics) Describe(descs chan<- *prometheus.Desc) {
	newMetrics().Describe(descs)
	(*storeMetrics)(nil).Describe(descs)
}

// Collect collects what the app has that is live.
func (liveMetrics) Collect(metrics chan<- prometheus.Metric) {
	live, err := admin.Live()
	if err != nil {
		return // there is none
	}
	app := live.(*App)
	app.metrics.Collect(metrics)
	if app.counted != nil {
		app.counted.Collect(metrics)
	}
}

// storeMetrics tell how many events a store has, asked when somebody looks.
type storeMetrics struct {
	store    store.Store
	logger   *zap.Logger
	failures sampler.Sampler
}

var (
	storeEvents = prometheus.NewDesc("caddy_wepay_store_events",
		"Events in the store, by merchant and state.", []string{"merchant", "state"}, nil)
	storeUp = prometheus.NewDesc("caddy_wepay_store_up",
		"Whether the store could be asked for its events: 1, or 0, and then caddy_wepay_store_events is not there.", nil, nil)
)

// scrapeTimeout bounds how long a store may take to count: whoever asks for
// the metrics wants the others, too, and soon.
const scrapeTimeout = 2 * time.Second

// Describe tells of both.
func (*storeMetrics) Describe(descs chan<- *prometheus.Desc) {
	descs <- storeEvents
	descs <- storeUp
}

// Collect counts. A store that is not open has nothing to tell, and one that
// cannot be asked only that.
func (c *storeMetrics) Collect(metrics chan<- prometheus.Metric) {
	ctx, cancel := context.WithTimeout(context.Background(), scrapeTimeout)
	defer cancel()
	counts, err := c.store.Count(ctx)
	if errors.Is(err, store.ErrClosed) {
		return
	}
	up := 1.0
	if err != nil {
		up = 0
		if c.failures.Log("counting") {
			c.logger.Error("counting the store's events for the metrics failed", zap.Error(err))
		}
	}
	metrics <- prometheus.MustNewConstMetric(storeUp, prometheus.GaugeValue, up)
	for _, count := range counts {
		metrics <- prometheus.MustNewConstMetric(storeEvents, prometheus.GaugeValue, float64(count.Events), count.Merchant, string(count.State))
	}
}
