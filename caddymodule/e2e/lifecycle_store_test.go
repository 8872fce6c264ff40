package e2e_test

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
func (env *environment) notify(shop *merchant, id string) {
	env.t.Helper()
	delivered := env.orders.listen()
	if a := env.post("pay_notify", shop.notification(env.t, id)); a.body != taken {
		env.t.Fatalf("WeChat hears %s", a.body)
	}
	if event := await(env.t, delivered); event != shop.eventID(id) {
		env.t.Errorf("the order service hears of %s", event)
	}
}

func TestReloadChangesStoreOption(t *testing.T) {
	env, shop := newStored(t)
	env.patience = redials
	for n, option := range []string{"workers 2", "keep 30h", "give_up 2h", ""} {
		if err := env.load(layout{merchants: []*merchant{shop}, options: env.store(option)}); err != nil {
			t.Errorf("%q: %v", option, err)
		}
		env.notify(shop, fmt.Sprintf("order-%d", n))
	}
	slower := strings.Replace(env.store(), "retry 50ms 200ms", "retry 1s 10s", 1)
	if err := env.load(layout{merchants: []*merchant{shop}, options: slower}); err != nil {
		t.Error(err)
	}
	env.notify(shop, "order-last")
}

func TestValidateServedConfig(t *testing.T) {
	env, shop := newStored(t)
	served := layout{merchants: []*merchant{shop}, options: env.store()}
	for n := range 3 {
		if err := env.validate(served); err != nil {
			t.Fatal(err)
		}
		env.notify(shop, fmt.Sprintf("order-%d", n))
	}
	// The same by another process, as from a shell.
	env.write("Caddyfile", []byte(env.caddyfile(served)))
	if text, err := env.caddy("validate", "--config", filepath.Join(env.dir, "Caddyfile"), "--adapter", "caddyfile"); err != nil {
		t.Errorf("%v\n%s", err, text)
	}
	env.notify(shop, "order-last")
}

func TestTwoSitesOneRegistry(t *testing.T) {
	env, shop, mini := newEnvironment(t), newMerchant("shop", 1), newMerchant("mini", 2)
	second := *env
	second.site = "http://" + freeAddress(t)
	env.serve(layout{
		merchants: []*merchant{shop, mini}, options: env.store(),
		site: openSite + "\n\thandle /metrics {\n\t\tmetrics\n\t}",
		more: second.site + " {\n\tbind 127.0.0.1\n\twepay {\n\t\tmerchants mini\n\t}\n}",
	})
	env.notify(shop, "order-1")
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
	for began := time.Now(); len(want) > 0; { // the last deliveries are noted after they were delivered
		a, err := env.send(http.MethodGet, env.site+"/metrics", "")
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
	env, shop := newStored(t)
	unreadable := *shop
	unreadable.form = "no such form"
	env.orders.answers(func(rw http.ResponseWriter, _ *http.Request) { rw.WriteHeader(http.StatusBadGateway) })
	if a := env.post("pay_notify", shop.notification(t, "order-away")); a.body != taken {
		t.Fatalf("WeChat hears %s", a.body)
	}
	for _, l := range []layout{
		{merchants: []*merchant{&unreadable}, options: env.store()},
		{merchants: []*merchant{shop}, options: env.store(), site: "\twepay {\n\t\tmerchants nobody\n\t}"},
		{merchants: []*merchant{shop}, options: env.store("keep 1h")},
	} {
		if err := env.load(l); err == nil {
			t.Fatal("a wrong config is taken")
		}
	}
	// What waited is still handed over, by the dispatcher that was there.
	delivered := env.orders.listen()
	if event := await(t, delivered); event != shop.eventID("order-away") {
		t.Errorf("the order service hears of %s", event)
	}
	env.notify(shop, "order-last")
}

// refusedLayouts are layouts of a merchant's that are refused, each at another point.
func (env *environment) refusedLayouts(shop *merchant) map[string]layout {
	env.t.Helper()
	unreadable := *shop
	unreadable.form = "no such form"
	held, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		env.t.Fatal(err)
	}
	env.t.Cleanup(func() { _ = held.Close() }) // nothing is left to be done with it
	taken := "http://" + held.Addr().String() + " {\n\tbind 127.0.0.1\n\twepay\n}"
	env.write("none.db", []byte(strings.Repeat("this is no store ", 1000)))
	merchants, options := []*merchant{shop}, env.store("workers 3")
	return map[string]layout{
		"when a merchant is provisioned":         {merchants: []*merchant{&unreadable}, options: options},
		"when the store is provisioned":          {merchants: merchants, options: env.store("keep 1h")},
		"when the store is opened":               {merchants: merchants, options: strings.Replace(options, "events.db", "none.db", 1)},
		"when a site is started":                 {merchants: merchants, options: options, more: taken},
		"when a site is started without a store": {merchants: merchants, more: taken},
	}
}

func TestRefusedReloads(t *testing.T) {
	env, shop := newStored(t)
	env.patience = redials
	for name, refused := range env.refusedLayouts(shop) {
		t.Run(name, func(t *testing.T) {
			env := env.in(t)
			for n := range 10 {
				if err := env.load(refused); err == nil {
					t.Fatalf("time %d: it is taken", n+1)
				}
				env.notify(shop, fmt.Sprintf("%s-%d", strings.ReplaceAll(name, " ", "-"), n))
			}
			if err := env.load(layout{merchants: []*merchant{shop}, options: env.store("workers 4")}); err != nil {
				t.Errorf("the next good reload: %v", err)
			}
			env.notify(shop, strings.ReplaceAll(name, " ", "-")+"-last")
		})
	}
}

func TestRequestsDuringReloads(t *testing.T) {
	env, shop := newEnvironment(t), newMerchant("shop", 1)
	env.register(shop)
	env.patience = redials
	delivered := env.orders.listen()
	admin := freeAddress(t)
	config := func(options ...string) string {
		text := env.caddyfile(layout{merchants: []*merchant{shop}, options: env.store(options...)})
		return strings.Replace(text, "admin off", "admin "+admin, 1)
	}
	env.write("Caddyfile", []byte(config()))
	env.runCaddy(filepath.Join(env.dir, "Caddyfile"))
	const senders, each = 4, 100
	var all sync.WaitGroup
	for n := range senders {
		all.Go(func() {
			for i := range each {
				a, err := env.send(http.MethodPost, env.site+"/apis/v1/wepay/pay_notify", shop.notification(t, fmt.Sprintf("order-%d-%d", n, i)))
				if err != nil || a.status != http.StatusOK || a.body != taken {
					t.Errorf("HTTP %d %s (%v)", a.status, a.body, err)
				}
			}
		})
	}
	for n := range 5 {
		env.reload(admin, config(fmt.Sprintf("workers %d", n+3)))
	}
	all.Wait()
	times := make(map[string]int)
	for len(times) < senders*each {
		times[await(t, delivered)]++
	}
	if text, err := env.caddy("validate", "--config", filepath.Join(env.dir, "Caddyfile"), "--adapter", "caddyfile"); err != nil {
		t.Errorf("validate: %v\n%s", err, text)
	}
	if a, err := env.send(http.MethodGet, "http://"+admin+"/wepay/events/counts", ""); err != nil || !strings.Contains(a.body, `"merchant":"shop"`) {
		t.Errorf("the admin API answers HTTP %d %s (%v)", a.status, a.body, err)
	}
	if text, err := env.caddy("wepay", "nosuch"); err == nil || !strings.Contains(text, `unknown command "nosuch"`) {
		t.Errorf("a command that there is none of says %s (%v)", text, err)
	}
	if text, err := env.caddy("wepay", "events", "--address", admin); err != nil || !strings.Contains(text, "shop") {
		t.Errorf("the command says %s (%v)", text, err)
	}
}

// reload has the server of an admin endpoint run another Caddyfile.
func (env *environment) reload(admin, config string) {
	env.t.Helper()
	resp, err := env.web.Post("http://"+admin+"/load", "text/caddyfile", strings.NewReader(config))
	if err != nil {
		env.t.Error(err)
		return
	}
	defer resp.Body.Close()
	if text, err := io.ReadAll(resp.Body); err != nil || resp.StatusCode != http.StatusOK {
		env.t.Errorf("reload: HTTP %d %s (%v)", resp.StatusCode, text, err)
	}
}

// caddy runs a command of Caddy's in a process of its own.
func (env *environment) caddy(args ...string) (string, error) {
	cmd := exec.CommandContext(env.t.Context(), os.Args[0], args...)
	cmd.Env = append(os.Environ(), asCaddy+"=1")
	text, err := cmd.CombinedOutput()
	return string(text), err
}
