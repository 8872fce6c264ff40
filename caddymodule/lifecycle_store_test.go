package caddymodule_test

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

// Six mistakes that modules make around a reload, and the tests that this one
// does not:
//
//  1. What is shared by old and new config is known by all of its options, so
//     that changing one opens it twice: TestReloadChangesStoreOption.
//  2. Something that only one may hold is opened when a config is provisioned,
//     so that the config that is served cannot be validated beside the server:
//     TestValidateServedConfig.
//  3. Metrics are registered once for the process or once for each site, so
//     that the second counts into nothing: TestTwoSitesOneRegistry.
//  4. A config that is refused gives back, when it is cleaned up, what belongs
//     to the one that is served: TestRefusedConfigTakesNothing.
//  5. Requests fail, or the admin API looks at the config of before, while
//     reloads go on: TestRequestsDuringReloads.
//  6. A config that is refused leaves something behind, so that a later good
//     one is refused as well: TestRefusedReloads.

// notify has WeChat tell of an order's payment, which the order service hears.
func (w *world) notify(shop *seller, id string) {
	w.t.Helper()
	heard := w.orders.listen()
	if a := w.post("pay_notify", shop.notification(w.t, id)); a.body != taken {
		w.t.Fatalf("WeChat hears %s", a.body)
	}
	if event := await(w.t, heard); event != shop.eventID(id) {
		w.t.Errorf("the order service hears of %s", event)
	}
}

func TestReloadChangesStoreOption(t *testing.T) {
	w, shop := newStored(t)
	w.patience = redials
	for n, option := range []string{"workers 2", "keep 30h", "give_up 2h", ""} {
		if err := w.load(layout{sellers: []*seller{shop}, options: w.store(option)}); err != nil {
			t.Errorf("%q: %v", option, err)
		}
		w.notify(shop, fmt.Sprintf("order-%d", n))
	}
	slower := strings.Replace(w.store(), "retry 50ms 200ms", "retry 1s 10s", 1)
	if err := w.load(layout{sellers: []*seller{shop}, options: slower}); err != nil {
		t.Error(err)
	}
	w.notify(shop, "order-last")
}

func TestValidateServedConfig(t *testing.T) {
	w, shop := newStored(t)
	served := layout{sellers: []*seller{shop}, options: w.store()}
	for n := range 3 {
		if err := w.validate(served); err != nil {
			t.Fatal(err)
		}
		w.notify(shop, fmt.Sprintf("order-%d", n))
	}
	// The same by another process, as from a shell.
	w.write("Caddyfile", []byte(w.caddyfile(served)))
	if text, err := w.caddy("validate", "--config", filepath.Join(w.dir, "Caddyfile"), "--adapter", "caddyfile"); err != nil {
		t.Errorf("%v\n%s", err, text)
	}
	w.notify(shop, "order-last")
}

func TestTwoSitesOneRegistry(t *testing.T) {
	w, shop, mini := newWorld(t), newSeller("shop", 1), newSeller("mini", 2)
	second := *w
	second.site = "http://" + freeAddress(t)
	w.serve(layout{
		sellers: []*seller{shop, mini}, options: w.store(),
		site: openSite + "\n\thandle /metrics {\n\t\tmetrics\n\t}",
		more: second.site + " {\n\tbind 127.0.0.1\n\twepay {\n\t\tmerchants mini\n\t}\n}",
	})
	w.notify(shop, "order-1")
	second.notify(mini, "order-2")
	second.notify(mini, "order-3")
	want := []string{
		`caddy_wepay_notifications_total{merchant="shop",result="taken"} 1`,
		`caddy_wepay_notifications_total{merchant="mini",result="taken"} 2`,
		`caddy_wepay_deliveries_total{merchant="shop",result="delivered"} 1`,
		`caddy_wepay_deliveries_total{merchant="mini",result="delivered"} 2`,
		`caddy_wepay_store_events{merchant="shop",state="delivered"} 1`,
		`caddy_wepay_store_events{merchant="mini",state="delivered"} 2`,
	}
	for began := time.Now(); len(want) > 0; { // the last deliveries are noted after they were heard
		a, err := w.send(http.MethodGet, w.site+"/metrics", "")
		if err != nil {
			t.Fatal(err)
		}
		for len(want) > 0 && strings.Contains(a.body, want[0]+"\n") {
			want = want[1:]
		}
		if time.Since(began) > soon {
			t.Fatalf("the site does not count %s:\n%s", want, a.body)
		}
	}
}

func TestRefusedConfigTakesNothing(t *testing.T) {
	w, shop := newStored(t)
	unreadable := *shop
	unreadable.form = "no such form"
	w.orders.answers(func(rw http.ResponseWriter, _ *http.Request) { rw.WriteHeader(http.StatusBadGateway) })
	if a := w.post("pay_notify", shop.notification(t, "order-away")); a.body != taken {
		t.Fatalf("WeChat hears %s", a.body)
	}
	for _, l := range []layout{
		{sellers: []*seller{&unreadable}, options: w.store()},
		{sellers: []*seller{shop}, options: w.store(), site: "\twepay {\n\t\tmerchants nobody\n\t}"},
		{sellers: []*seller{shop}, options: w.store("keep 1h")},
	} {
		if err := w.load(l); err == nil {
			t.Fatal("a wrong config is taken")
		}
	}
	// What waited is still handed over, by the dispatcher that was there.
	heard := w.orders.listen()
	if event := await(t, heard); event != shop.eventID("order-away") {
		t.Errorf("the order service hears of %s", event)
	}
	w.notify(shop, "order-last")
}

// refusedLayouts are layouts of a seller's that are refused, each at another point.
func (w *world) refusedLayouts(shop *seller) map[string]layout {
	w.t.Helper()
	unreadable := *shop
	unreadable.form = "no such form"
	held, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() { _ = held.Close() }) // nothing is left to be done with it
	taken := "http://" + held.Addr().String() + " {\n\tbind 127.0.0.1\n\twepay\n}"
	w.write("none.db", []byte(strings.Repeat("this is no store ", 1000)))
	sellers, options := []*seller{shop}, w.store("workers 3")
	return map[string]layout{
		"when a merchant is provisioned":         {sellers: []*seller{&unreadable}, options: options},
		"when the store is provisioned":          {sellers: sellers, options: w.store("keep 1h")},
		"when the store is opened":               {sellers: sellers, options: strings.Replace(options, "events.db", "none.db", 1)},
		"when a site is started":                 {sellers: sellers, options: options, more: taken},
		"when a site is started without a store": {sellers: sellers, more: taken},
	}
}

func TestRefusedReloads(t *testing.T) {
	w, shop := newStored(t)
	w.patience = redials
	for name, refused := range w.refusedLayouts(shop) {
		t.Run(name, func(t *testing.T) {
			w := w.in(t)
			for n := range 10 {
				if err := w.load(refused); err == nil {
					t.Fatalf("time %d: it is taken", n+1)
				}
				w.notify(shop, fmt.Sprintf("%s-%d", strings.ReplaceAll(name, " ", "-"), n))
			}
			if err := w.load(layout{sellers: []*seller{shop}, options: w.store("workers 4")}); err != nil {
				t.Errorf("the next good reload: %v", err)
			}
			w.notify(shop, strings.ReplaceAll(name, " ", "-")+"-last")
		})
	}
}

func TestRequestsDuringReloads(t *testing.T) {
	w, shop := newWorld(t), newSeller("shop", 1)
	w.register(shop)
	w.patience = redials
	heard := w.orders.listen()
	admin := freeAddress(t)
	config := func(options ...string) string {
		text := w.caddyfile(layout{sellers: []*seller{shop}, options: w.store(options...)})
		return strings.Replace(text, "admin off", "admin "+admin, 1)
	}
	w.write("Caddyfile", []byte(config()))
	w.runCaddy(filepath.Join(w.dir, "Caddyfile"))
	const senders, each = 4, 100
	var all sync.WaitGroup
	for n := range senders {
		all.Go(func() {
			for i := range each {
				a, err := w.send(http.MethodPost, w.site+"/apis/v1/wepay/pay_notify", shop.notification(t, fmt.Sprintf("order-%d-%d", n, i)))
				if err != nil || a.status != http.StatusOK || a.body != taken {
					t.Errorf("HTTP %d %s (%v)", a.status, a.body, err)
				}
			}
		})
	}
	for n := range 5 {
		w.reload(admin, config(fmt.Sprintf("workers %d", n+3)))
	}
	all.Wait()
	times := make(map[string]int)
	for len(times) < senders*each {
		times[await(t, heard)]++
	}
	if text, err := w.caddy("validate", "--config", filepath.Join(w.dir, "Caddyfile"), "--adapter", "caddyfile"); err != nil {
		t.Errorf("validate: %v\n%s", err, text)
	}
	if a, err := w.send(http.MethodGet, "http://"+admin+"/wepay/events/counts", ""); err != nil || !strings.Contains(a.body, `"merchant":"shop"`) {
		t.Errorf("the admin API answers HTTP %d %s (%v)", a.status, a.body, err)
	}
	if text, err := w.caddy("wepay", "nosuch"); err == nil || !strings.Contains(text, `unknown command "nosuch"`) {
		t.Errorf("a command that there is none of says %s (%v)", text, err)
	}
	if text, err := w.caddy("wepay", "events", "--address", admin); err != nil || !strings.Contains(text, "shop") {
		t.Errorf("the command says %s (%v)", text, err)
	}
}

// reload has the server of an admin endpoint run another Caddyfile.
func (w *world) reload(admin, config string) {
	w.t.Helper()
	resp, err := w.web.Post("http://"+admin+"/load", "text/caddyfile", strings.NewReader(config))
	if err != nil {
		w.t.Error(err)
		return
	}
	defer resp.Body.Close()
	if text, err := io.ReadAll(resp.Body); err != nil || resp.StatusCode != http.StatusOK {
		w.t.Errorf("reload: HTTP %d %s (%v)", resp.StatusCode, text, err)
	}
}

// caddy runs a command of Caddy's in a process of its own.
func (w *world) caddy(args ...string) (string, error) {
	cmd := exec.CommandContext(w.t.Context(), os.Args[0], args...)
	cmd.Env = append(os.Environ(), asCaddy+"=1")
	text, err := cmd.CombinedOutput()
	return string(text), err
}
