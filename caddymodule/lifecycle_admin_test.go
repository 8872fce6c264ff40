package caddymodule_test

import (
	"net/http"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// admin asks the admin endpoint, and fails the test unless it answers with all
// that is wanted.
func (w *world) admin(address, method, path, body string, wanted ...string) {
	w.t.Helper()
	a, err := w.send(method, "http://"+address+path, body)
	if err != nil || a.status != http.StatusOK {
		w.t.Errorf("%s %s: HTTP %d %s (%v)", method, path, a.status, a.body, err)
	}
	for _, want := range wanted {
		if !strings.Contains(a.body, want) {
			w.t.Errorf("%s %s: no %s in\n%s", method, path, want, a.body)
		}
	}
}

// What operators see is what runs: after a reload that was refused, at whichever
// point, it is what it was before.
func TestOperatorsAfterRefusedReload(t *testing.T) {
	w, shop := newWorld(t), newSeller("shop", 1)
	w.register(shop)
	w.patience = redials
	w.orders.answers(func(rw http.ResponseWriter, _ *http.Request) { rw.WriteHeader(http.StatusGone) })
	admin := freeAddress(t)
	served := layout{sellers: []*seller{shop}, options: w.store()}
	config := func(l layout) string { return strings.Replace(w.caddyfile(l), "admin off", "admin "+admin, 1) }
	w.write("Caddyfile", []byte(config(served)))
	w.runCaddy(filepath.Join(w.dir, "Caddyfile"))
	if a := w.post("pay_notify", shop.notification(t, "order-1")); a.body != taken {
		t.Fatalf("WeChat hears %s", a.body)
	}
	w.awaitAdmin(admin, "/wepay/events/counts", `{"merchant":"shop","state":"dead","events":1}`)

	for name, refused := range w.refusedLayouts(shop) {
		t.Run(name, func(t *testing.T) {
			w := w.in(t)
			if a, err := w.send(http.MethodPost, "http://"+admin+"/load", config(refused), "Content-Type", "text/caddyfile"); err != nil || a.status == http.StatusOK {
				t.Fatalf("the reload: HTTP %d %s (%v)", a.status, a.body, err)
			}
			w.admin(admin, http.MethodGet, "/wepay/events/counts", "", `{"merchant":"shop","state":"dead","events":1}`)
			w.admin(admin, http.MethodGet, "/wepay/events", "", shop.eventID("order-1"))
			w.admin(admin, http.MethodGet, "/wepay/events/export", "", `{"exported":1}`)
			w.admin(admin, http.MethodPost, "/wepay/events/replay", `{"all":true}`, `{"replayed":1}`)
			w.awaitAdmin(admin, "/wepay/events/counts", `{"merchant":"shop","state":"dead","events":1}`)
			w.admin(admin, http.MethodGet, "/metrics", "",
				"\n"+`caddy_wepay_store_events{merchant="shop",state="dead"} 1`, "\ncaddy_wepay_store_up 1\n",
				"\n"+`caddy_wepay_notifications_total{merchant="shop",result="taken"} 1`)
		})
	}
	w.reload(admin, config(layout{sellers: []*seller{shop}, options: w.store("workers 3")}))
	w.admin(admin, http.MethodGet, "/wepay/events/counts", "", `{"merchant":"shop","state":"dead","events":1}`)
	w.reload(admin, config(layout{sellers: []*seller{shop}}))
	if a, err := w.send(http.MethodGet, "http://"+admin+"/wepay/events/counts", ""); err != nil || a.status != http.StatusNotFound {
		t.Errorf("without a store: HTTP %d %s (%v)", a.status, a.body, err)
	}
}

// awaitAdmin waits until the admin endpoint answers with something.
func (w *world) awaitAdmin(address, path, want string) {
	w.t.Helper()
	for began := time.Now(); ; {
		a, err := w.send(http.MethodGet, "http://"+address+path, "")
		if err == nil && a.status == http.StatusOK && strings.Contains(a.body, want) {
			return
		}
		if time.Since(began) > soon {
			w.t.Fatalf("%s: HTTP %d %s (%v), want %s", path, a.status, a.body, err, want)
		}
	}
}
