package e2e_test

import (
	"net/http"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// admin asks the admin endpoint, and fails the test unless it answers with all
// that is wanted.
func (env *environment) admin(address, method, path, body string, wanted ...string) {
	env.t.Helper()
	a, err := env.send(method, "http://"+address+path, body)
	if err != nil || a.status != http.StatusOK {
		env.t.Errorf("%s %s: HTTP %d %s (%v)", method, path, a.status, a.body, err)
	}
	for _, want := range wanted {
		if !strings.Contains(a.body, want) {
			env.t.Errorf("%s %s: no %s in\n%s", method, path, want, a.body)
		}
	}
}

// What operators see is what runs: after a reload that was refused, at whichever
// point, it is what it was before.
func TestOperatorsAfterRefusedReload(t *testing.T) {
	env, shop := newEnvironment(t), newMerchant("shop", 1)
	env.register(shop)
	env.patience = redials
	env.orders.answers(func(rw http.ResponseWriter, _ *http.Request) { rw.WriteHeader(http.StatusGone) })
	admin := freeAddress(t)
	served := layout{merchants: []*merchant{shop}, options: env.store()}
	config := func(l layout) string { return strings.Replace(env.caddyfile(l), "admin off", "admin "+admin, 1) }
	env.write("Caddyfile", []byte(config(served)))
	env.runCaddy(filepath.Join(env.dir, "Caddyfile"))
	if a := env.post("pay_notify", shop.notification(t, "order-1")); a.body != taken {
		t.Fatalf("WeChat hears %s", a.body)
	}
	env.awaitAdmin(admin, "/wepay/events/counts", `{"merchant":"shop","state":"dead","events":1}`)

	for name, refused := range env.refusedLayouts(shop) {
		t.Run(name, func(t *testing.T) {
			env := env.in(t)
			if a, err := env.send(http.MethodPost, "http://"+admin+"/load", config(refused), "Content-Type", "text/caddyfile"); err != nil || a.status == http.StatusOK {
				t.Fatalf("the reload: HTTP %d %s (%v)", a.status, a.body, err)
			}
			env.admin(admin, http.MethodGet, "/wepay/events/counts", "", `{"merchant":"shop","state":"dead","events":1}`)
			env.admin(admin, http.MethodGet, "/wepay/events", "", shop.eventID("order-1"))
			env.admin(admin, http.MethodGet, "/wepay/events/export", "", `{"exported":1}`)
			env.admin(admin, http.MethodPost, "/wepay/events/replay", `{"all":true}`, `{"replayed":1}`)
			env.awaitAdmin(admin, "/wepay/events/counts", `{"merchant":"shop","state":"dead","events":1}`)
			env.admin(admin, http.MethodGet, "/metrics", "",
				"\n"+`caddy_wepay_store_events{merchant="shop",state="dead"} 1`, "\ncaddy_wepay_store_up 1\n",
				"\n"+`caddy_wepay_notifications_total{merchant="shop",result="taken"} 1`)
		})
	}
	env.reload(admin, config(layout{merchants: []*merchant{shop}, options: env.store("workers 3")}))
	env.admin(admin, http.MethodGet, "/wepay/events/counts", "", `{"merchant":"shop","state":"dead","events":1}`)
	env.reload(admin, config(layout{merchants: []*merchant{shop}}))
	if a, err := env.send(http.MethodGet, "http://"+admin+"/wepay/events/counts", ""); err != nil || a.status != http.StatusNotFound {
		t.Errorf("without a store: HTTP %d %s (%v)", a.status, a.body, err)
	}
}

// awaitAdmin waits until the admin endpoint answers with something.
func (env *environment) awaitAdmin(address, path, want string) {
	env.t.Helper()
	for began := time.Now(); ; {
		a, err := env.send(http.MethodGet, "http://"+address+path, "")
		if err == nil && a.status == http.StatusOK && strings.Contains(a.body, want) {
			return
		}
		if time.Since(began) > soon {
			env.t.Fatalf("%s: HTTP %d %s (%v), want %s", path, a.status, a.body, err, want)
		}
	}
}
