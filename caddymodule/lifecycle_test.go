package caddymodule_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/httpcaddyfile"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp/reverseproxy"

	"github.com/windsome/caddy-wepay/wepay/wepaytest"
)

// redials is how often callers dial again around a reload. Caddy opens another
// listener for each config and lets connections go that the old one has not
// begun to serve, whatever its handlers are.
const redials = 20

// patient has time enough on a busy machine.
const patient = "callback_timeout 1m"

// A reload with other options refuses neither an order nor a notification that
// comes in the middle of it, and loses none.
func TestReloadUnderTraffic(t *testing.T) {
	w, shop := newShop(t, patient)
	w.patience = redials
	w.get("get_pay_request_params", shop.order("order-1"))
	notification := string(w.pay(shop, "order-1", wepaytest.Held()).Body())

	const enough = 400
	var reloaded atomic.Bool
	var placed, notified atomic.Int64
	var callers sync.WaitGroup
	for n := range 4 {
		callers.Go(func() {
			for i := 0; !reloaded.Load() || placed.Load()+notified.Load() < enough; i++ {
				id := fmt.Sprintf("order-%d-%d", n, i)
				a, err := w.send(http.MethodPost, w.site+"/apis/v1/wepay/get_pay_request_params", toJSON(t, shop.order(id)))
				if _, found := w.wechat.Order(shop.mchID, id); err != nil || a.Errcode != 0 || a.Result["package"] == "" || !found {
					t.Errorf("order: HTTP %d %s (%v), found: %v", a.status, a.body, err, found)
					return
				}
				placed.Add(1)
				a, err = w.send(http.MethodPost, w.site+"/apis/v1/wepay/pay_notify", notification)
				if err != nil || a.body != taken {
					t.Errorf("notification: HTTP %d %s (%v)", a.status, a.body, err)
					return
				}
				notified.Add(1)
			}
		})
	}
	w.reloads(10, shop)
	reloaded.Store(true)
	callers.Wait()
	w.checkAllHeard(notified.Load())
}

// reloads loads the config again and again, each time with another option.
func (w *world) reloads(times int, shop *seller) {
	w.t.Helper()
	for i := range times {
		if err := w.load(layout{sellers: []*seller{shop}, options: patient + fmt.Sprintf("\ncall_timeout %ds", 60+i)}); err != nil {
			w.t.Errorf("reload %d: %v", i+1, err)
		}
	}
}

// checkAllHeard demands that the order service heard of one event as often as
// WeChat was told that it was taken, or more.
func (w *world) checkAllHeard(notified int64) {
	w.t.Helper()
	heard := w.orders.forget()
	if len(heard) < int(notified) {
		w.t.Errorf("of %d notifications the order service heard %d", notified, len(heard))
	}
	checkSameEvent(w.t, heard)
}

// What is on its way when a reload comes is finished by the config that it
// began with.
func TestReloadInTheMiddle(t *testing.T) {
	w, shop := newShop(t, "")
	w.patience = redials
	w.get("get_pay_request_params", shop.order("order-1"))
	notification := string(w.pay(shop, "order-1", wepaytest.Held()).Body())
	entered, leave := make(chan struct{}), make(chan struct{})
	w.orders.answers(func(http.ResponseWriter, *http.Request) {
		entered <- struct{}{}
		<-leave
	})
	var callers sync.WaitGroup
	callers.Go(func() {
		if a, err := w.send(http.MethodPost, w.site+"/apis/v1/wepay/pay_notify", notification); a.body != taken {
			t.Errorf("WeChat hears %s (%v)", a.body, err)
		}
	})
	<-entered
	if err := w.load(layout{sellers: []*seller{shop}, options: "call_timeout 7s"}); err != nil {
		t.Error(err)
	}
	w.orders.answers(nil)
	if heard := w.orders.forget(); len(heard) != 1 {
		t.Errorf("the order service heard %d times", len(heard))
	}
	w.sellAndRefund(shop, "order-2")
	close(leave)
	callers.Wait()
}

// `caddy validate` and a refused reload both set up the whole config beside the
// one that is served, and take it down again.
func TestConfigBesideTheServer(t *testing.T) {
	w, shop := newShop(t, "")
	w.patience = redials
	held, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer held.Close()
	served := layout{sellers: []*seller{shop}}
	second, unreadable := newSeller("second", 1), *shop
	second.form, unreadable.form = "no such form", "no such form"
	for n, test := range []struct {
		name  string
		offer func() error
		err   string // that it is refused with
	}{
		{"validated", func() error { return w.validate(served) }, ""},
		{"validated and wrong", func() error { return w.validate(layout{sellers: []*seller{&unreadable}}) }, `merchant "shop": pfx: `},
		{"reloaded", func() error { return w.load(served) }, ""},
		{"refused when the app is provisioned", func() error { return w.load(layout{sellers: []*seller{shop, second}}) }, `merchant "second": pfx: `},
		{"refused when a site is provisioned", func() error {
			return w.load(layout{sellers: served.sellers, site: "\twepay {\n\t\tmerchants nobody\n\t}"})
		}, `there is no merchant "nobody"`},
		{"refused when it is started", func() error {
			return w.load(layout{sellers: served.sellers, more: "http://" + held.Addr().String() + " {\n\tbind 127.0.0.1\n\twepay\n}"})
		}, "address already in use"},
	} {
		t.Run(test.name, func(t *testing.T) {
			w := w.in(t)
			for i := range 10 {
				err := test.offer()
				if (err == nil) != (test.err == "") || err != nil && !strings.Contains(err.Error(), test.err) {
					t.Fatalf("time %d: %v", i+1, err)
				}
				w.sellAndRefund(shop, fmt.Sprintf("order-%d-%d", n, i))
			}
		})
	}
	if err := w.load(served); err != nil {
		t.Errorf("the next good reload: %v", err)
	}
	w.sellAndRefund(shop, "the-last-order")
}

func (w *world) validate(l layout) error {
	w.t.Helper()
	var config caddy.Config
	if err := json.Unmarshal(w.adapt(l), &config); err != nil {
		w.t.Fatal(err)
	}
	return caddy.Validate(&config)
}

// sellAndRefund goes through all that a merchant does.
func (w *world) sellAndRefund(s *seller, id string) {
	w.t.Helper()
	w.get("get_pay_request_params", s.order(id))
	delivery := w.pay(s, id)
	w.awaitAnswer(delivery)
	checkTaken(w.t, delivery)
	w.get("refund", s.refund(id, id, 200))
	if heard := w.orders.forget(); len(heard) != 1 {
		w.t.Errorf("the order service heard %d times", len(heard))
	}
}

// awaitAnswer has WeChat dial again, as other callers do, until it has an
// answer of whatever kind.
func (w *world) awaitAnswer(delivery *wepaytest.Delivery) {
	w.t.Helper()
	for range w.patience {
		attempts := delivery.Attempts()
		if attempts[len(attempts)-1].Err == nil {
			return
		}
		if err := delivery.Repeat(); err != nil {
			w.t.Fatal(err)
		}
	}
}

// Two sites share the merchants and what is counted, and each serves those
// that it names.
func TestTwoSites(t *testing.T) {
	w, shop, mini := newWorld(t), newSeller("shop", 1), newSeller("mini", 2)
	mini.env = "WXAPP"
	second := *w
	second.site = "http://" + freeAddress(t)
	w.serve(layout{
		sellers: []*seller{shop, mini},
		site:    openSite + "\n\thandle /metrics {\n\t\tmetrics\n\t}",
		more:    second.site + " {\n\tbind 127.0.0.1\n\twepay {\n\t\tallow 127.0.0.1\n\t\tmerchants mini\n\t}\n}",
	})
	w.get("get_pay_request_params", shop.order("order-1"))
	w.get("get_pay_request_params", mini.order("order-2"))
	second.get("get_pay_request_params", mini.order("order-3"))
	unnamed := mini.order("order-4")
	delete(unnamed, "merchant")
	second.get("get_pay_request_params", unnamed)
	if order, _ := w.wechat.Order(mini.mchID, "order-4"); order.Total != 1200 {
		t.Error("without a name the second site's first merchant was not meant")
	}
	if a := second.ask("get_pay_request_params", shop.order("order-5")); a.Errcode != 40004 {
		t.Errorf("the second site serves the first one's merchant: %s", a.body)
	}
	shops, minis := string(w.pay(shop, "order-1").Body()), string(w.pay(mini, "order-2").Body())
	for _, test := range []struct {
		name string
		at   *world
		body string
		want string
	}{
		{"a forged one", w, strings.Replace(shops, "1200", "1", 1), refused("wrong_signature")},
		{"the first's at the second", &second, shops, refused("foreign")},
		{"the second's at the second", &second, minis, taken},
		{"the second's at the first", w, minis, taken},
	} {
		if a := test.at.post("pay_notify", test.body); a.body != test.want {
			t.Errorf("%s: WeChat hears %s", test.name, a.body)
		}
	}
	w.checkMetrics(map[string]int{
		`caddy_wepay_notifications_total{merchant="shop",result="taken"}`:                              1,
		`caddy_wepay_notifications_total{merchant="mini",result="taken"}`:                              3,
		`caddy_wepay_notifications_total{merchant="shop",result="wrong_signature"}`:                    1,
		`caddy_wepay_notifications_total{merchant="",result="foreign"}`:                                1,
		`caddy_wepay_operations_total{errcode="0",merchant="shop",operation="get_pay_request_params"}`: 1,
		`caddy_wepay_operations_total{errcode="0",merchant="mini",operation="get_pay_request_params"}`: 3,
		`caddy_wepay_operations_total{errcode="40004",merchant="",operation="get_pay_request_params"}`: 1,
		`caddy_wepay_certificate_expiry_timestamp_seconds{merchant="shop"}`:                            int(shop.credential.Certificate.Leaf.NotAfter.Unix()),
		`caddy_wepay_certificate_expiry_timestamp_seconds{merchant="mini"}`:                            int(mini.credential.Certificate.Leaf.NotAfter.Unix()),
	})
}

// checkMetrics demands that the site counts just this.
func (w *world) checkMetrics(want map[string]int) {
	w.t.Helper()
	a, err := w.send(http.MethodGet, w.site+"/metrics", "")
	if err != nil {
		w.t.Fatal(err)
	}
	got := make(map[string]int)
	for line := range strings.Lines(a.body) {
		if strings.HasPrefix(line, "caddy_wepay_") {
			name, value, _ := strings.Cut(strings.TrimSpace(line), "} ")
			var number float64
			if _, err := fmt.Sscan(value, &number); err != nil {
				w.t.Errorf("%s: %v", line, err)
			}
			got[name+"}"] = int(number)
		}
	}
	if !maps.Equal(got, want) {
		w.t.Errorf("the site counts\n%v\nwants\n%v", got, want)
	}
}

// The directive works wherever a site puts it, and what a proxy in front of it
// leaves behind in the request does not send WeChat's calls elsewhere.
func TestPlacesOfTheDirective(t *testing.T) {
	const open = "wepay {\n\t\t\tallow 127.0.0.1\n\t\t}"
	for _, test := range []struct{ name, site string }{
		{"handle", "\thandle /apis/v1/wepay/* {\n\t\t" + open + "\n\t}\n\thandle {\n\t\trespond \"the rest of the site\"\n\t}"},
		{"route", "\troute {\n\t\t" + open + "\n\t\trespond \"the rest of the site\"\n\t}"},
		{"after a matcher", "\t" + strings.Replace(open, "wepay", "wepay /apis/*", 1) + "\n\trespond \"the rest of the site\""},
		{"after forward_auth", "\tforward_auth %s {\n\t\turi /auth\n\t}\n\t" + open + "\n\trespond \"the rest of the site\""},
	} {
		t.Run(test.name, func(t *testing.T) {
			w, shop, proxied := newWorld(t), newSeller("shop", 1), newProxied(t, http.StatusOK)
			w.serve(layout{sellers: []*seller{shop}, site: strings.Replace(test.site, "%s", proxied.URL, 1)})
			w.sellAndRefund(shop, "order-1")
			if a, err := w.send(http.MethodGet, w.site+"/", ""); err != nil || a.body != "the rest of the site" {
				t.Errorf("the rest of the site is %q (%v)", a.body, err)
			}
			want := []string(nil)
			if strings.Contains(test.site, "%s") {
				want = slices.Repeat([]string{"/auth"}, 4) // an order, a notification, a refund and the rest
			}
			if got := proxied.asked(); !slices.Equal(got, want) {
				t.Errorf("the proxied server was asked for %v", got)
			}
		})
	}
}

// A reverse proxy's handle_response runs the directive within the proxied
// request, with the proxied server's address still in it.
func TestInHandleResponse(t *testing.T) {
	w, shop, proxied := newWorld(t), newSeller("shop", 1), newProxied(t, http.StatusPaymentRequired)
	w.serve(layout{sellers: []*seller{shop}, site: fmt.Sprintf(`
	reverse_proxy %s {
		@unpaid status 402
		handle_response @unpaid {
			wepay {
				allow 127.0.0.1
			}
		}
	}`, proxied.URL)})
	// The proxied server has had the request's body; this one needs none.
	if a := w.post("get_sign_key", ""); a.Errcode != 0 || a.Result["sandbox_signkey"] == "" {
		t.Errorf("HTTP %d %s", a.status, a.body)
	}
	if got := proxied.asked(); !slices.Equal(got, []string{"/apis/v1/wepay/get_sign_key"}) {
		t.Errorf("the proxied server was asked for %v", got)
	}
}

// Whatever proxy a request came through, WeChat is dialled at WeChat's address
// and the order service at its own.
func TestInProxiedContext(t *testing.T) {
	w, shop, proxied := newWorld(t), newSeller("shop", 1), newProxied(t, http.StatusOK)
	w.serve(layout{sellers: []*seller{shop}, site: fmt.Sprintf(
		"\troute {\n\t\twithin_proxy %s\n\t\twepay {\n\t\t\tallow 127.0.0.1\n\t\t}\n\t}", proxied.Listener.Addr())})
	w.sellAndRefund(shop, "order-1")
	if got := proxied.asked(); len(got) > 0 {
		t.Errorf("the proxied server was asked for %v", got)
	}
}

func init() {
	caddy.RegisterModule(withinProxy{})
	httpcaddyfile.RegisterHandlerDirective("within_proxy", func(h httpcaddyfile.Helper) (caddyhttp.MiddlewareHandler, error) {
		var within withinProxy
		h.Next()
		if !h.AllArgs(&within.Address) {
			return nil, h.ArgErr()
		}
		return within, nil
	})
}

// withinProxy is a handler that leaves in a request's context what a reverse
// proxy has there for its transport.
type withinProxy struct {
	Address string `json:"address,omitempty"`
}

func (withinProxy) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{ID: "http.handlers.within_proxy", New: func() caddy.Module { return new(withinProxy) }}
}

func (p withinProxy) ServeHTTP(w http.ResponseWriter, r *http.Request, next caddyhttp.Handler) error {
	ctx := context.WithValue(r.Context(), caddy.CtxKey("reverse_proxy.dial_info"), reverseproxy.DialInfo{Network: "tcp", Address: p.Address})
	if _, found := reverseproxy.GetDialInfo(ctx); !found {
		return errors.New("the reverse proxy keeps the address to dial elsewhere now")
	}
	return next.ServeHTTP(w, r.WithContext(ctx))
}

// proxied is a server that a site proxies to, and remembers for what.
type proxied struct {
	*httptest.Server

	mu    sync.Mutex
	paths []string
}

func newProxied(t *testing.T, status int) *proxied {
	t.Helper()
	p := new(proxied)
	p.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		p.mu.Lock()
		defer p.mu.Unlock()
		p.paths = append(p.paths, r.URL.Path)
		w.WriteHeader(status)
	}))
	p.Config.ErrorLog = quiet
	t.Cleanup(p.Close)
	return p
}

func (p *proxied) asked() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Clone(p.paths)
}
