package caddymodule

import (
	"context"
	"errors"
	"time"

	"github.com/prometheus/client_golang/prometheus"

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

// newMetrics registers the collectors with a config's registry. Where another
// module of the same config has registered them they are shared.
func newMetrics(registry *prometheus.Registry) (*metrics, error) {
	m := &metrics{
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
			Help: "Attempts to hand over an event of the outbox, by merchant and by what came of it: delivered, failed, refused, dead.",
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
	var err error
	if m.notifications, err = registerOrExisting(registry, m.notifications); err != nil {
		return nil, err
	}
	if m.operations, err = registerOrExisting(registry, m.operations); err != nil {
		return nil, err
	}
	if m.deliveries, err = registerOrExisting(registry, m.deliveries); err != nil {
		return nil, err
	}
	if m.expiry, err = registerOrExisting(registry, m.expiry); err != nil {
		return nil, err
	}
	m.platform, err = registerOrExisting(registry, m.platform)
	return m, err
}

func registerOrExisting[C prometheus.Collector](registry *prometheus.Registry, collector C) (C, error) {
	err := registry.Register(collector)
	var registered prometheus.AlreadyRegisteredError
	if errors.As(err, &registered) {
		if existing, ok := registered.ExistingCollector.(C); ok {
			return existing, nil
		}
	}
	return collector, err
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

// outboxEvents tells how many events an outbox has, asked when somebody looks.
type outboxEvents struct {
	outbox Outbox
	desc   *prometheus.Desc
}

// scrapeTimeout bounds how long an outbox may take to count.
const scrapeTimeout = 5 * time.Second

func newOutboxEvents(outbox Outbox) *outboxEvents {
	return &outboxEvents{outbox, prometheus.NewDesc("caddy_wepay_outbox_events",
		"Events in the outbox, by merchant and state.", []string{"merchant", "state"}, nil)}
}

// Describe tells of the one metric.
func (c *outboxEvents) Describe(descs chan<- *prometheus.Desc) { descs <- c.desc }

// Collect counts. An outbox that is not open has nothing to tell.
func (c *outboxEvents) Collect(metrics chan<- prometheus.Metric) {
	ctx, cancel := context.WithTimeout(context.Background(), scrapeTimeout)
	defer cancel()
	counts, err := c.outbox.Count(ctx)
	if errors.Is(err, ErrOutboxClosed) {
		return
	}
	if err != nil {
		metrics <- prometheus.NewInvalidMetric(c.desc, err)
		return
	}
	for _, count := range counts {
		metrics <- prometheus.MustNewConstMetric(c.desc, prometheus.GaugeValue, float64(count.Events), count.Merchant, string(count.State))
	}
}
