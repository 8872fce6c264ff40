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
	"github.com/windsome/caddy-wepay/wepay"
)

// metrics counts what the module does. Labels come from the config and from
// constants only, so that no stranger can add series.
type metrics struct {
	notifications *prometheus.CounterVec
	operations    *prometheus.CounterVec
	noRoutes      *prometheus.CounterVec
	deliveries    *prometheus.CounterVec
	questions     *prometheus.CounterVec
	recovered     *prometheus.CounterVec
	quarantined   *prometheus.CounterVec
	findings      *prometheus.GaugeVec
	expiry        *prometheus.GaugeVec
	keyRing       *prometheus.GaugeVec
}

func newMetrics() *metrics {
	return &metrics{
		notifications: counter("notifications_total",
			"Notifications received, by merchant (empty when none was found) and by what came of them.", "merchant", "result"),
		operations: counter("operations_total",
			"Operations asked for, by merchant and errcode (0: done).", "merchant", "operation", "errcode"),
		noRoutes: counter("no_route_total",
			"Requests under the path prefix that no route is for, by the route that they resemble most (empty: none).", "nearest"),
		deliveries: counter("deliveries_total",
			"Attempts to hand over an event of the store, by merchant and by what came of it: delivered, failed, refused, dead.", "merchant", "result"),
		questions: counter("order_questions_total",
			"Questions to WeChat Pay about orders that nothing was heard of, by merchant and by what it said: pending, succeeded, closed, failed, abnormal, missing, no_answer.", "merchant", "result"),
		recovered: counter("orders_recovered_total",
			"Payments that WeChat Pay did not notify of and that were found by asking, by merchant.", "merchant"),
		quarantined: counter("quarantined_total",
			"Events that contradict their order and are not handed over, by merchant.", "merchant"),
		findings: gauge("reconciliation_findings",
			"Differences between the bill that was reconciled last and what is known here, by the first merchant of the account and by what differs.", "merchant", "finding"),
		expiry: gauge("certificate_expiry_timestamp_seconds",
			"When a merchant's certificate expires.", "merchant"),
		keyRing: gauge("platform_certificate_expiry_timestamp_seconds",
			"When the last of the platform certificates in force expires by which a merchant knows WeChat Pay.", "merchant"),
	}
}

// counter and gauge are metrics of this module.
func counter(name, help string, labels ...string) *prometheus.CounterVec {
	return prometheus.NewCounterVec(prometheus.CounterOpts{Namespace: "caddy", Subsystem: "wepay", Name: name, Help: help}, labels)
}

func gauge(name, help string, labels ...string) *prometheus.GaugeVec {
	return prometheus.NewGaugeVec(prometheus.GaugeOpts{Namespace: "caddy", Subsystem: "wepay", Name: name, Help: help}, labels)
}

func (m *metrics) collectors() []prometheus.Collector {
	return []prometheus.Collector{m.notifications, m.operations, m.noRoutes, m.deliveries, m.questions, m.recovered, m.quarantined, m.findings, m.expiry, m.keyRing}
}

// Describe implements [prometheus.Collector].
func (m *metrics) Describe(descs chan<- *prometheus.Desc) {
	for _, collector := range m.collectors() {
		collector.Describe(descs)
	}
}

// Collect implements [prometheus.Collector].
func (m *metrics) Collect(metrics chan<- prometheus.Metric) {
	for _, collector := range m.collectors() {
		collector.Collect(metrics)
	}
}

// attempted counts an attempt to hand over an event.
func (m *metrics) attempted(e *store.Event, result string) {
	m.deliveries.WithLabelValues(e.Merchant, result).Inc()
}

// asked counts a question about an order.
func (m *metrics) asked(o *store.Order, result string) {
	m.questions.WithLabelValues(o.Merchant, result).Inc()
}

func (m *metrics) certificate(merchant *wepay.Merchant) {
	if merchant.Certificate != nil {
		m.expiry.WithLabelValues(merchant.Name).Set(float64(merchant.Certificate.Leaf.NotAfter.Unix()))
	}
}

// platformCertificate is of all the merchants that share an account.
func (m *metrics) platformCertificate(merchants []string, expires time.Time) {
	for _, name := range merchants {
		m.keyRing.WithLabelValues(name).Set(float64(expires.Unix()))
	}
}

func init() {
	admin.AddCollector(liveMetrics{})
}

// liveMetrics are those of the app that is live, in the registry of whichever
// config is asked.
type liveMetrics struct{}

// Describe implements [prometheus.Collector]: all that an app may have.
func (liveMetrics) Describe(descs chan<- *prometheus.Desc) {
	newMetrics().Describe(descs)
	(*storeMetrics)(nil).Describe(descs)
}

// Collect implements [prometheus.Collector]: what the live app has.
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

// storeMetrics tell how many events a store has, counted when scraped.
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

// Describe implements [prometheus.Collector].
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
