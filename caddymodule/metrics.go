package caddymodule

import (
	"errors"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/windsome/caddy-wepay/wepay"
)

// metrics counts what the module does. Labels come from the config and from
// constants only, so that no stranger can add series.
type metrics struct {
	notifications *prometheus.CounterVec
	operations    *prometheus.CounterVec
	expiry        *prometheus.GaugeVec
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
		expiry: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Namespace: "caddy", Subsystem: "wepay", Name: "certificate_expiry_timestamp_seconds",
			Help: "When a merchant's certificate expires.",
		}, []string{"merchant"}),
	}
	var err error
	if m.notifications, err = registerOrExisting(registry, m.notifications); err != nil {
		return nil, err
	}
	if m.operations, err = registerOrExisting(registry, m.operations); err != nil {
		return nil, err
	}
	m.expiry, err = registerOrExisting(registry, m.expiry)
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
