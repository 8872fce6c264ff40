package e2e_test

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
	env, shop := newShop(t, patient)
	env.patience = redials
	env.get("get_pay_request_params", shop.order("order-1"))
	notification := string(env.pay(shop, "order-1", wepaytest.Held()).Body())

	const enough = 400
	var reloaded atomic.Bool
	var placed, notified atomic.Int64
	var callers sync.WaitGroup
	for n := range 4 {
		callers.Go(func() {
			for i := 0; !reloaded.Load() || placed.Load()+notified.Load() < enough; i++ {
				id := fmt.Sprintf("order-%d-%d", n, i)
				a, err := env.send(http.MethodPost, env.site+"/apis/v1/wepay/get_pay_request_params", toJSON(t, shop.order(id)))
				if _, found := env.wechat.Order(shop.mchID, id); err != nil || a.Errcode != 0 || a.Result["package"] == "" || !found {
					t.Errorf("order: HTTP %d %s (%v), found: %v", a.status, a.body, err, found)
					return
				}
				placed.Add(1)
				a, err = env.send(http.MethodPost, env.site+"/apis/v1/wepay/pay_notify", notification)
				if err != nil || a.body != taken {
					t.Errorf("notification: HTTP %d %s (%v)", a.status, a.body, err)
					return
				}
				notified.Add(1)
			}
		})
	}
	env.reloads(10, shop)
	reloaded.Store(true)
	callers.Wait()
	env.checkAllDelivered(notified.Load())
}

// reloads loads the config again and again, each time with another option.
func (env *environment) reloads(times int, shop *merchant) {
	env.t.Helper()
	for i := range times {
		if err := env.load(layout{merchants: []*merchant{shop}, options: patient + fmt.Sprintf("\ncall_timeout %ds", 60+i)}); err != nil {
			env.t.Errorf("reload %d: %v", i+1, err)
		}
	}
}

// checkAllDelivered demands that the order service got one event as often as
// WeChat was told that it was taken, or more.
func (env *environment) checkAllDelivered(notified int64) {
	env.t.Helper()
	delivered := env.orders.forget()
	if len(delivered) < int(notified) {
		env.t.Errorf("of %d notifications the order service got %d", notified, len(delivered))
	}
	checkSameEvent(env.t, delivered)
}

// What is on its way when a reload comes is finished by the config that it
// began with.
func TestReloadInTheMiddle(t *testing.T) {
	env, shop := newShop(t, "")
	env.patience = redials
	env.get("get_pay_request_params", shop.order("order-1"))
	notification := string(env.pay(shop, "order-1", wepaytest.Held()).Body())
	entered, leave := make(chan struct{}), make(chan struct{})
	env.orders.answers(func(http.ResponseWriter, *http.Request) {
		entered <- struct{}{}
		<-leave
	})
	var callers sync.WaitGroup
	callers.Go(func() {
		if a, err := env.send(http.MethodPost, env.site+"/apis/v1/wepay/pay_notify", notification); a.body != taken {
			t.Errorf("WeChat hears %s (%v)", a.body, err)
		}
	})
	<-entered
	if err := env.load(layout{merchants: []*merchant{shop}, options: "call_timeout 7s"}); err != nil {
		t.Error(err)
	}
	env.orders.answers(nil)
	if delivered := env.orders.forget(); len(delivered) != 1 {
		t.Errorf("the order service got %d times", len(delivered))
	}
	env.sellAndRefund(shop, "order-2")
	close(leave)
	callers.Wait()
}

// `caddy validate` and a refused reload both set up the whole config beside the
// one that is served, and take it down again.
func TestConfigBesideTheServer(t *testing.T) {
	env, shop := newShop(t, "")
	env.patience = redials
	held, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer held.Close()
	served := layout{merchants: []*merchant{shop}}
	second, unreadable := newMerchant("second", 1), *shop
	second.form, unreadable.form = "no such form", "no such form"
	for n, test := range []struct {
		name  string
		offer func() error
		err   string // that it is refused with
	}{
		{"validated", func() error { return env.validate(served) }, ""},
		{"validated and wrong", func() error { return env.validate(layout{merchants: []*merchant{&unreadable}}) }, `merchant "shop": pfx: `},
		{"reloaded", func() error { return env.load(served) }, ""},
		{"refused when the app is provisioned", func() error { return env.load(layout{merchants: []*merchant{shop, second}}) }, `merchant "second": pfx: `},
		{"refused when a site is provisioned", func() error {
			return env.load(layout{merchants: served.merchants, site: "\twepay {\n\t\tmerchants nobody\n\t}"})
		}, `there is no merchant "nobody"`},
		{"refused when it is started", func() error {
			return env.load(layout{merchants: served.merchants, more: "http://" + held.Addr().String() + " {\n\tbind 127.0.0.1\n\twepay\n}"})
		}, "address already in use"},
	} {
		t.Run(test.name, func(t *testing.T) {
			env := env.in(t)
			for i := range 10 {
				err := test.offer()
				if (err == nil) != (test.err == "") || err != nil && !strings.Contains(err.Error(), test.err) {
					t.Fatalf("time %d: %v", i+1, err)
				}
				env.sellAndRefund(shop, fmt.Sprintf("order-%d-%d", n, i))
			}
		})
	}
	if err := env.load(served); err != nil {
		t.Errorf("the next good reload: %v", err)
	}
	env.sellAndRefund(shop, "the-last-order")
}

func (env *environment) validate(l layout) error {
	env.t.Helper()
	var config caddy.Config
	if err := json.Unmarshal(env.adapt(l), &config); err != nil {
		env.t.Fatal(err)
	}
	return caddy.Validate(&config)
}

// sellAndRefund goes through all that a merchant does.
func (env *environment) sellAndRefund(m *merchant, id string) {
	env.t.Helper()
	env.get("get_pay_request_params", m.order(id))
	delivery := env.pay(m, id)
	env.awaitAnswer(delivery)
	checkTaken(env.t, delivery)
	env.get("refund", m.refund(id, id, 200))
	if delivered := env.orders.forget(); len(delivered) != 1 {
		env.t.Errorf("the order service got %d times", len(delivered))
	}
}

// awaitAnswer has WeChat dial again, as other callers do, until it has an
// answer of whatever kind.
func (env *environment) awaitAnswer(delivery *wepaytest.Delivery) {
	env.t.Helper()
	for range env.patience {
		attempts := delivery.Attempts()
		if attempts[len(attempts)-1].Err == nil {
			return
		}
		if err := delivery.Repeat(); err != nil {
			env.t.Fatal(err)
		}
	}
}

// Two sites share the merchants and what is counted, and each serves those
// that it names.
func TestTwoSites(t *testing.T) {
	env, shop, mini := newEnvironment(t), newMerchant("shop", 1), newMerchant("mini", 2)
	mini.env = "WXAPP"
	second := *env
	second.site = "http://" + freeAddress(t)
	env.serve(layout{
		merchants: []*merchant{shop, mini},
		site:      openSite + "\n\thandle /metrics {\n\t\tmetrics\n\t}",
		more:      second.site + " {\n\tbind 127.0.0.1\n\twepay {\n\t\tallow 127.0.0.1\n\t\tmerchants mini\n\t}\n}",
	})
	env.get("get_pay_request_params", shop.order("order-1"))
	env.get("get_pay_request_params", mini.order("order-2"))
	second.get("get_pay_request_params", mini.order("order-3"))
	unnamed := mini.order("order-4")
	delete(unnamed, "merchant")
	second.get("get_pay_request_params", unnamed)
	if order, _ := env.wechat.Order(mini.mchID, "order-4"); order.Total != 1200 {
		t.Error("without a name the second site's first merchant was not meant")
	}
	if a := second.ask("get_pay_request_params", shop.order("order-5")); a.Errcode != 40004 {
		t.Errorf("the second site serves the first one's merchant: %s", a.body)
	}
	shops, minis := string(env.pay(shop, "order-1").Body()), string(env.pay(mini, "order-2").Body())
	for _, test := range []struct {
		name string
		at   *environment
		body string
		want string
	}{
		{"a forged one", env, strings.Replace(shops, "1200", "1", 1), refused("wrong_signature")},
		{"the first's at the second", &second, shops, refused("foreign")},
		{"the second's at the second", &second, minis, taken},
		{"the second's at the first", env, minis, taken},
	} {
		if a := test.at.post("pay_notify", test.body); a.body != test.want {
			t.Errorf("%s: WeChat hears %s", test.name, a.body)
		}
	}
	env.checkMetrics(map[string]int{
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
func (env *environment) checkMetrics(want map[string]int) {
	env.t.Helper()
	a, err := env.send(http.MethodGet, env.site+"/metrics", "")
	if err != nil {
		env.t.Fatal(err)
	}
	got := make(map[string]int)
	for line := range strings.Lines(a.body) {
		if strings.HasPrefix(line, "caddy_wepay_") {
			name, value, _ := strings.Cut(strings.TrimSpace(line), "} ")
			var number float64
			if _, err := fmt.Sscan(value, &number); err != nil {
				env.t.Errorf("%s: %v", line, err)
			}
			got[name+"}"] = int(number)
		}
	}
	if !maps.Equal(got, want) {
		env.t.Errorf("the site counts\n%v\nwants\n%v", got, want)
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
			env, shop, proxied := newEnvironment(t), newMerchant("shop", 1), newProxied(t, http.StatusOK)
			env.serve(layout{merchants: []*merchant{shop}, site: strings.Replace(test.site, "%s", proxied.URL, 1)})
			env.sellAndRefund(shop, "order-1")
			if a, err := env.send(http.MethodGet, env.site+"/", ""); err != nil || a.body != "the rest of the site" {
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
	env, shop, proxied := newEnvironment(t), newMerchant("shop", 1), newProxied(t, http.StatusPaymentRequired)
	env.serve(layout{merchants: []*merchant{shop}, site: fmt.Sprintf(`
	reverse_proxy %s {
		@unpaid status 402
		handle_response @unpaid {
			wepay {
				allow 127.0.0.1
			}
		}
	}`, proxied.URL)})
	// The proxied server has had the request's body; this one needs none.
	if a := env.post("get_sign_key", ""); a.Errcode != 0 || a.Result["sandbox_signkey"] == "" {
		t.Errorf("HTTP %d %s", a.status, a.body)
	}
	if got := proxied.asked(); !slices.Equal(got, []string{"/apis/v1/wepay/get_sign_key"}) {
		t.Errorf("the proxied server was asked for %v", got)
	}
}

// Whatever proxy a request came through, WeChat is dialled at WeChat's address
// and the order service at its own.
func TestInProxiedContext(t *testing.T) {
	env, shop, proxied := newEnvironment(t), newMerchant("shop", 1), newProxied(t, http.StatusOK)
	env.serve(layout{merchants: []*merchant{shop}, site: fmt.Sprintf(
		"\troute {\n\t\twithin_proxy %s\n\t\twepay {\n\t\t\tallow 127.0.0.1\n\t\t}\n\t}", proxied.Listener.Addr())})
	env.sellAndRefund(shop, "order-1")
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
