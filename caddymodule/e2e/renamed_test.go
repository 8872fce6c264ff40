package e2e_test

import (
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// What waits for a merchant whose name is gone stays, and is handed over once
// when there is one of that name again: beside the one that it has become.
func TestRenamedMerchant(t *testing.T) {
	env, shop := newStored(t)
	env.patience = redials
	tried := make(chan struct{}, 100)
	env.orders.answers(func(rw http.ResponseWriter, _ *http.Request) {
		tried <- struct{}{}
		rw.WriteHeader(http.StatusBadGateway)
	})
	if a := env.post("pay_notify", shop.notification(t, "order-1")); a.body != taken {
		t.Fatalf("WeChat hears %s", a.body)
	}
	<-tried
	renamed := *shop
	renamed.name, renamed.notify, renamed.orders, renamed.form = "shop2", "pay_notify/shop2", env.orders.URL+"/paid/shop", none
	load := func(merchants ...*merchant) {
		t.Helper()
		if err := env.load(layout{merchants: merchants, options: env.store()}); err != nil {
			t.Fatal(err)
		}
	}
	load(&renamed)
	delivered := env.orders.listen()
	for _, id := range []string{"order-1", "order-2"} { // the first one again: it is known
		if a := env.post("pay_notify", renamed.notification(t, id)); a.body != taken {
			t.Fatalf("WeChat hears %s", a.body)
		}
	}
	if event := await(t, delivered); event != shop.eventID("order-2") {
		t.Errorf("the order service hears of %s", event)
	}
	env.until("the log says what waits", func() bool {
		log, err := os.ReadFile(filepath.Join(env.dir, "caddy.log"))
		return err == nil && strings.Contains(string(log), "events wait for a merchant that is not configured")
	})
	load(&renamed, shop)
	if event := await(t, delivered); event != shop.eventID("order-1") {
		t.Errorf("the order service hears of %s", event)
	}
	env.post("pay_notify", shop.notification(t, "order-3"))
	if event := await(t, delivered); event != shop.eventID("order-3") {
		t.Errorf("the order service hears of %s", event)
	}
	load(&renamed)
	if err := env.load(layout{merchants: []*merchant{&renamed}}); err != nil { // closes the file
		t.Fatal(err)
	}
	text, err := env.caddy("wepay", "events", "--path", filepath.Join(env.dir, "events.db"))
	if lines := strings.Fields(text); err != nil || strings.Join(lines, " ") != "MERCHANT STATE EVENTS shop delivered 1 shop2 delivered 2" {
		t.Errorf("at last there is %s (%v)", text, err)
	}
	if len(delivered) > 0 {
		t.Errorf("the order service hears of %s again", <-delivered)
	}
}
