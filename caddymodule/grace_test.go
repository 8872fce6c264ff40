package caddymodule

import (
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"

	"github.com/windsome/caddy-wepay/caddymodule/delivery"
)

// A reload waits for the deliveries that are under way, as long as they may take;
// a server that stops does so within its grace period, with time left to close
// the store.
func TestGrace(t *testing.T) {
	for _, test := range []struct {
		configured time.Duration
		exiting    bool
		want       time.Duration
	}{
		{0, false, delivery.GraceFor(defaultDeliveryTimeout)},
		{0, true, 5 * time.Second},
		{2 * time.Second, false, 1500 * time.Millisecond},
		{10 * time.Second, true, 9500 * time.Millisecond},
		{time.Second, true, 750 * time.Millisecond},
	} {
		app := &App{CallbackTimeout: caddy.Duration(defaultDeliveryTimeout), gracePeriod: test.configured}
		if got := app.grace(test.exiting); got != test.want {
			t.Errorf("of %s, exiting: %t: %s, want %s", test.configured, test.exiting, got, test.want)
		}
	}
}
