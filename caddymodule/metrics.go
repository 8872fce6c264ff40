package caddymodule

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/windsome/caddy-wepay/caddymodule/store"
	"github.com/windsome/caddy-wepay/wepay"
)

// metrics counts what the module does. Labels come from the config and from
// constants only, so that no stranger can add series.
type metrics struct {
	notifications *prometheus.CounterVec
	operations    *prometheus.CounterVec
	deliveries    *prometheus.CounterVec
	expiry        *prometheus.GaugeVec
	platform      *prometheus.GaugeVec
}

func newMetrics() *metrics {
	return &metrics{
		notifications: prometheus.NewCounterVec(prometheus.CounterOpts{
			Namespace: "caddy", Subsystem: "wepay", Name: "notifications_total",
			Help: "Notifications received, by merchant (empty when none was found) and by what came of them.",
		}, []string{"merchant", "result"}),
		operations: prometheus.NewCounterVec(prometheus.CounterOpts{
			Namespace: "caddy", Subsystem: "wepay", Name: "operations_total",
			Help: "Operations asked for, by merchant and errcode (0: done).",
		}, []string{"merchant", "operation", "errcode"}),
		deliveries: prometheus.NewCounterVec(prometheus.CounterOpts{
			Namespace: "caddy", Subsystem: "wepay", Name: "deliveries_total",
			Help: "Attempts to hand over an event of the store, by merchant and by what came of it: delivered, failed, refused, dead.",
		}, []string{"merchant", "result"}),
		expiry: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Namespace: "caddy", Subsystem: "wepay", Name: "certificate_expiry_timestamp_seconds",
			Help: "When a merchant's certificate expires.",
		}, []string{"merchant"}),
		platform: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Namespace: "caddy", Subsystem: "wepay", Name: "platform_certificate_expiry_timestamp_seconds",
			Help: "When the last of the platform certificates in force expires by which a merchant knows WeChat Pay.",
		}, []string{"merchant"}),
	}
}

func (m *metrics) collectors() []prometheus.Collector {
	return []prometheus.Collector{m.notifications, m.operations, m.deliveries, m.expiry, m.platform}
}

// Describe tells of all of them.
func (m *metrics) Describe(descs chan<- *prometheus.Desc) {
	for _, collector := range m.collectors() {
		collector.Describe(descs)
	}
}

// Collect collects all of them.
func (m *metrics) Collect(metrics chan<- prometheus.Metric) {
	for _, collector := range m.collectors() {
		collector.Collect(metrics)
	}
}

// attempted counts an attempt to hand over an event.
func (m *metrics) attempted(e *store.Event, result string) {
	m.deliveries.WithLabelValues(e.Merchant, result).Inc()
}

func (m *metrics) certificate(merchant *wepay.Merchant) {
	if merchant.Certificate != nil {
		m.expiry.WithLabelValues(merchant.Name).Set(float64(merchant.Certificate.Leaf.NotAfter.Unix()))
	}
}

// platformCertificate is of all the merchants that share an account.
func (m *metrics) platformCertificate(merchants []string, expires time.Time) {
	for _, name := range merchants {
		m.platform.WithLabelValues(name).Set(float64(expires.Unix()))
	}
}
