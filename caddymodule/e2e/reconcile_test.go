package e2e_test

import (
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"

	"github.com/windsome/caddy-wepay/caddymodule/admin"
	"github.com/windsome/caddy-wepay/caddymodule/recovery/reconcile"
	"github.com/windsome/caddy-wepay/wepay"
	"github.com/windsome/caddy-wepay/wepay/wepaytest"
)

// A payment that WeChat never notified of reaches the order service through the bill,
// also where nothing else asks, and the report is in Caddy's storage.
func TestReconcile(t *testing.T) {
	env := newEnvironment(t)
	now := time.Now().In(wepay.Beijing)
	noon := time.Date(now.Year(), now.Month(), now.Day()-2, 12, 0, 0, 0, wepay.Beijing) // its bill is there at any hour
	env.clock = wepaytest.NewFakeClock(noon)
	var err error
	if env.wechat, err = wepaytest.NewServer(wepaytest.WithClock(env.clock)); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(env.wechat.Close)
	env.write("wechat_ca.pem", env.wechat.CACertPEM())
	shop := newMerchant("shop", 1)
	shop.more = "reconcile"
	env.serve(layout{merchants: []*merchant{shop}, options: env.store() + "\nrecover off"})

	env.get("get_pay_request_params", shop.order("order-1"))
	if _, err := env.wechat.Pay(shop.mchID, "order-1", wepaytest.Held()); err != nil {
		t.Fatal(err)
	}
	env.clock.Advance(time.Since(noon))
	told := env.orders.listen()
	report := env.reconcile("shop", noon.Format(time.DateOnly))
	if report.Paid.Fen != 1200 || report.Counts[reconcile.PaidNotHandedOver] != 1 || report.All() != 1 || report.Findings[0].Outcome != reconcile.HandedOver {
		t.Errorf("got %+v", report)
	}
	await(t, told)
	if got := env.orders.delivered[0].header.Get("wepay-source"); got != "bill" {
		t.Errorf("its source is %q", got)
	}
	text, err := os.ReadFile(filepath.Join(env.dir, "caddy", "wepay", "reconcile", shop.mchID, noon.Format(time.DateOnly)+".json"))
	var stored reconcile.Report
	if err != nil || json.Unmarshal(text, &stored) != nil || stored.All() != 1 {
		t.Errorf("stored is %s (%v)", text, err)
	}
	if again := env.reconcile(shop.mchID, report.Date); again.All() != 1 || len(env.orders.delivered) != 1 {
		t.Errorf("again there is %+v", again)
	}
}

// reconcile reconciles a bill by hand. At the start the server may be at yesterday's.
func (env *environment) reconcile(name, date string) *reconcile.Report {
	env.t.Helper()
	app, err := caddy.ActiveContext().App("wepay")
	if err != nil {
		env.t.Fatal(err)
	}
	for {
		report, err := app.(admin.App).Reconciler().ByHand(env.t.Context(), name, date)
		if !errors.Is(err, reconcile.ErrBusy) {
			if err != nil {
				env.t.Fatal(err)
			}
			return report
		}
		<-time.After(10 * time.Millisecond)
	}
}
