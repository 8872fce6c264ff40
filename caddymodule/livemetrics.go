package caddymodule

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"
)

// liveApp returns the app of the config that is live. A reload that is refused
// leaves Caddy's admin endpoint with the refused config, of which nothing runs.
func liveApp() (*App, error) {
	live := caddy.ActiveContext()
	if live.Context == nil {
		return nil, fmt.Errorf("no config is running: %w", ErrOutboxClosed)
	}
	app, err := live.AppIfConfigured("wepay")
	if err != nil {
		return nil, err
	}
	return app.(*App), nil
}

// liveMetrics are those of the app that is live, in the registry of whichever
// config is asked.
type liveMetrics struct{}

// registerMetrics registers them with a config's registry, once: the app does
// that, and the admin API, whose config may have no app or a refused one.
func registerMetrics(ctx caddy.Context) error {
	err := ctx.GetMetricsRegistry().Register(liveMetrics{})
	var registered prometheus.AlreadyRegisteredError
	if err == nil || errors.As(err, &registered) {
		return nil
	}
	return fmt.Errorf("registering metrics: %w", err)
}

// Describe tells of all that an app may have.
func (liveMetrics) Describe(descs chan<- *prometheus.Desc) {
	newMetrics().Describe(descs)
	(*outboxMetrics)(nil).Describe(descs)
}

// Collect collects what the app has that is live.
func (liveMetrics) Collect(metrics chan<- prometheus.Metric) {
	app, err := liveApp()
	if err != nil {
		return // there is none
	}
	app.metrics.Collect(metrics)
	if app.counted != nil {
		app.counted.Collect(metrics)
	}
}

// outboxMetrics tell how many events an outbox has, asked when somebody looks.
type outboxMetrics struct {
	outbox Outbox
	logger *zap.Logger

	mu   sync.Mutex
	told time.Time // when it was last said that counting fails
}

var (
	outboxEvents = prometheus.NewDesc("caddy_wepay_outbox_events",
		"Events in the outbox, by merchant and state.", []string{"merchant", "state"}, nil)
	outboxUp = prometheus.NewDesc("caddy_wepay_outbox_up",
		"Whether the outbox could be asked for its events: 1, or 0, and then caddy_wepay_outbox_events is not there.", nil, nil)
)

// scrapeTimeout bounds how long an outbox may take to count: whoever asks for
// the metrics wants the others, too, and soon.
const scrapeTimeout = 2 * time.Second

// Describe tells of both.
func (*outboxMetrics) Describe(descs chan<- *prometheus.Desc) {
	descs <- outboxEvents
	descs <- outboxUp
}

// Collect counts. An outbox that is not open has nothing to tell, and one that
// cannot be asked only that.
func (c *outboxMetrics) Collect(metrics chan<- prometheus.Metric) {
	ctx, cancel := context.WithTimeout(context.Background(), scrapeTimeout)
	defer cancel()
	counts, err := c.outbox.Count(ctx)
	if errors.Is(err, ErrOutboxClosed) {
		return
	}
	up := 1.0
	if err != nil {
		up = 0
		c.tell(err)
	}
	metrics <- prometheus.MustNewConstMetric(outboxUp, prometheus.GaugeValue, up)
	for _, count := range counts {
		metrics <- prometheus.MustNewConstMetric(outboxEvents, prometheus.GaugeValue, float64(count.Events), count.Merchant, string(count.State))
	}
}

// tell says that counting fails, unless that was said lately.
func (c *outboxMetrics) tell(err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if time.Since(c.told) < tellEvery {
		return
	}
	c.told = time.Now()
	c.logger.Error("counting the outbox's events for the metrics failed", zap.Error(err))
}
