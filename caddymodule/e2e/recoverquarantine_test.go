package e2e_test

import (
	"path/filepath"
	"strings"
	"testing"

	"github.com/windsome/caddy-wepay/wepay/wepaytest"
)

// A payment that contradicts its order is acknowledged and not handed over; operators
// hear of it, and have it handed over once they have looked.
func TestQuarantine(t *testing.T) {
	for kind := range followed {
		t.Run(kind, func(t *testing.T) {
			env, shop := newEnvironment(t), newFollower(kind)
			env.patience = redials
			admin := freeAddress(t)
			config := func(l layout) string { return strings.Replace(env.caddyfile(l), "admin off", "admin "+admin, 1) }
			l := env.followed(stall{shop, nil})
			l.options = strings.Replace(l.options, "schedule 1s 1s 2s", "schedule 1h", 1) // what is quarantined first is the notification
			env.write("Caddyfile", []byte(config(l)))
			env.runCaddy(filepath.Join(env.dir, "Caddyfile"))
			changes := map[string][]wepaytest.PayOption{
				"order-amount":   {wepaytest.WithField("total_fee", "1")},
				"order-currency": {wepaytest.WithField("fee_type", "HKD")},
			}
			if shop.v3.api != "" {
				changes["order-amount"] = []wepaytest.PayOption{wepaytest.WithMember("amount.total", 1)}
				changes["order-currency"] = []wepaytest.PayOption{wepaytest.WithMember("amount.currency", "HKD")}
			}
			for id, change := range changes {
				env.get("get_pay_request_params", shop.order3(id))
				d := env.pay(shop, id, change...)
				if !d.Taken() {
					t.Errorf("%s: WeChat got %+v", id, d.Attempts())
				}
				env.checkQuarantined(id, "notify")
				if err := d.Repeat(); err != nil || !d.Taken() {
					t.Errorf("%s: %v", id, err)
				}
			}

			// The same found by asking: WeChat has the order with another amount, of
			// which it was first placed beside this store.
			env.reload(admin, config(layout{merchants: []*merchant{shop}}))
			order := shop.order3("order-asked")
			order["fee"] = 1
			env.get("get_pay_request_params", order)
			env.reload(admin, config(env.followed(stall{shop, nil})))
			if a := env.try("get_pay_request_params", shop.order3("order-asked")); a.Errcode != 40000 || a.Verdict != "QUERY" {
				t.Errorf("HTTP %d %s", a.status, a.body)
			}
			env.wechat.LoseNotifications(1, 0)
			env.pay(shop, "order-asked")
			env.awaitState("order-asked", "quarantined")
			event := env.checkQuarantined("order-asked", "query")
			if got := env.orders.forget(); len(got) > 0 {
				t.Fatalf("the order service got %s", got[0].body)
			}
			env.admin(admin, "GET", "/metrics", "", `caddy_wepay_quarantined_total{merchant="shop"}`)

			told := env.orders.listen()
			if text, err := env.caddy("wepay", "events", "replay", event, "--address", admin); err != nil || !strings.Contains(text, `"replayed": 1`) {
				t.Errorf("%v: %s", err, text)
			}
			if id := await(t, told); id != event {
				t.Errorf("the order service hears of %s", id)
			}
			if got := env.take(); got.header.Get("wepay-source") != "query" || !strings.Contains(string(got.body), "order-asked") {
				t.Errorf("got %v %s", got.header, got.body)
			}
			if s := env.awaitRest("order-asked"); s.State != "quarantined" || len(s.Events) != 1 || s.Events[0].State != "delivered" {
				t.Errorf("got %+v", s)
			}
		})
	}
}

// checkQuarantined demands what there is of a payment that was quarantined, and returns
// its event.
func (env *environment) checkQuarantined(id, source string) string {
	env.t.Helper()
	s := env.state(id)
	if s.State != "quarantined" || s.Source != source || s.Reason == "" || s.TotalFee != 1200 || len(s.Events) != 1 || s.Events[0].State != "quarantined" {
		env.t.Fatalf("got %+v", s)
	}
	event := s.Events[0].ID
	if n := env.logs(`"level":"error"`, "event quarantined", "events replay", `"event":"`+event+`"`, `"out_trade_no":"`+id+`"`, `"reason":"`); n != 1 {
		env.t.Errorf("the log has %d lines of %s", n, id)
	}
	if n := env.emitted("quarantined", `"event":"`+event+`"`, `"reason":"`); n != 1 {
		env.t.Errorf("%d Caddy events of %s", n, id)
	}
	return event
}
