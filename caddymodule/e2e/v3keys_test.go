package e2e_test

import (
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"

	"github.com/windsome/caddy-wepay/wepay/wepaytest"
)

// awaitFetches waits until WeChat was asked for certificates so many times.
func (env *environment) awaitFetches(n int) {
	env.t.Helper()
	env.until(fmt.Sprintf("WeChat was asked %d times for certificates", n), func() bool { return env.fetches() >= n })
}

// awaitKept waits until a merchant's certificates are on disk, where the next config
// finds them.
func (env *environment) awaitKept(m *merchant) {
	env.t.Helper()
	env.until("the certificates of "+m.name+" are kept", func() bool {
		_, err := os.Stat(filepath.Join(env.dir, "caddy", "wepay", "certificates", m.mchID+".json"))
		return err == nil
	})
}

// until looks again until something is so, or the test's time is over.
func (env *environment) until(what string, so func() bool) {
	env.t.Helper()
	late := time.After(soon)
	for !so() {
		select {
		case <-late:
			env.t.Fatal(what + ": it did not become so")
		case <-env.t.Context().Done():
			env.t.Fatal(what + ": it did not become so")
		default:
		}
		if _, err := env.send(http.MethodGet, env.site+"/", ""); err != nil { // which takes its time
			env.t.Fatal(err)
		}
	}
}

// The keys by which WeChat is known: what is fetched, and when.
func TestKeysOfWeChat(t *testing.T) {
	for _, test := range []struct {
		name      string
		mode      wepaytest.KeyMode
		publicKey bool // it is configured
		share     float64
		fetches   int
	}{
		{"certificates", wepaytest.ByCertificate, false, 0, 1},
		{"the public key", wepaytest.ByPublicKey, true, 0, 0},
		{"certificates, with a public key that WeChat does not use yet", wepaytest.ByCertificate, true, 0, 1},
		{"both, half of the notifications each", wepaytest.Migrating, true, 0.5, 1},
		{"both, all with the public key", wepaytest.Migrating, true, 1, 0},
	} {
		t.Run(test.name, func(t *testing.T) {
			env, shop := newEnvironment(t), newV3Merchant("shop", 1)
			shop.v3.mode, shop.v3.publicKey = test.mode, test.publicKey
			env.serve(layout{merchants: []*merchant{shop}, site: counting})
			if test.mode == wepaytest.Migrating {
				if err := env.wechat.Migrate(shop.mchID, test.mode, test.share); err != nil {
					t.Fatal(err)
				}
			}
			for n := range 6 {
				id := fmt.Sprintf("order-%d", n)
				env.get("get_pay_request_params", shop.order3(id))
				checkTakenV3(t, env.pay(shop, id))
				env.deliveredOnce()
			}
			if test.fetches > 0 {
				env.awaitFetches(test.fetches)
			}
			if got := env.fetches(); got != test.fetches {
				t.Errorf("WeChat was asked %d times for certificates, wants %d", got, test.fetches)
			}
			if n := env.counts("shop", "taken"); n != 6 {
				t.Errorf("%d are counted", n)
			}
		})
	}
}

// Certificates are there before they are needed, when a site only waits for
// notifications, and the metrics tell when they expire.
func TestCertificatesAreKept(t *testing.T) {
	env, shop := newV3Shop(t, "")
	env.awaitFetches(1)
	certs, err := env.wechat.PlatformCertificates(shop.mchID)
	if err != nil {
		t.Fatal(err)
	}
	gauge := fmt.Sprintf("caddy_wepay_platform_certificate_expiry_timestamp_seconds{merchant=%q} %s", shop.name,
		scientific(certs[0].NotAfter.Unix()))
	env.until(gauge, func() bool {
		a, err := env.send(http.MethodGet, env.site+"/metrics", "")
		return err == nil && strings.Contains(a.body, gauge)
	})
	text, err := os.ReadFile(filepath.Join(env.dir, "caddy", "wepay", "certificates", shop.mchID+".json"))
	if err != nil || !strings.Contains(string(text), "encrypt_certificate") || strings.Contains(string(text), "BEGIN CERTIFICATE") {
		t.Errorf("what is kept is %s (%v)", text, err)
	}
}

// scientific is a number as Prometheus writes it.
func scientific(n int64) string {
	text := strings.TrimRight(fmt.Sprint(n), "0")
	return text[:1] + "." + text[1:] + fmt.Sprintf("e+%02d", len(fmt.Sprint(n))-1)
}

// A new certificate is listed a day before it signs, so that it is there by
// then. One that was never listed is refused, and WeChat sends again.
func TestCertificateRotates(t *testing.T) {
	env, shop := newEnvironment(t), newV3Merchant("shop", 1)
	env.register(shop)
	env.clock.Advance(time.Second) // the newer of two is the one to name to WeChat
	if _, err := env.wechat.AnnounceCertificate(shop.mchID); err != nil {
		t.Fatal(err)
	}
	shop.shared = true // it has been registered
	env.serve(layout{merchants: []*merchant{shop}, site: counting})
	env.awaitFetches(1)
	for n, rotate := range []func() error{
		func() error { return nil },
		func() error { _, err := env.wechat.RotateCertificate(shop.mchID); return err },
		func() error { return env.wechat.RetireCertificates(shop.mchID) },
	} {
		if err := rotate(); err != nil {
			t.Fatal(err)
		}
		id := fmt.Sprintf("order-%d", n)
		env.get("get_pay_request_params", shop.order3(id))
		checkTakenV3(t, env.pay(shop, id))
	}
	env.get("get_pay_request_params", shop.order3("order-3"))
	if _, err := env.wechat.RotateCertificate(shop.mchID); err != nil {
		t.Fatal(err)
	}
	attempts := env.pay(shop, "order-3").Attempts()
	if attempts[0].Status != http.StatusUnauthorized || attempts[0].Taken {
		t.Errorf("WeChat got %d %s", attempts[0].Status, attempts[0].Answer)
	}
	if n := env.counts("shop", "unknown_key"); n != 1 {
		t.Errorf("%d are counted", n)
	}
	if got := env.fetches(); got != 1 {
		t.Errorf("WeChat was asked %d times for certificates", got)
	}
}

// Serial numbers at random have WeChat asked once, even by whoever has a merchant's
// APIv3 key, whatever the number of merchants, and whether they are named.
func TestFloodOfSerials(t *testing.T) {
	env := newEnvironment(t)
	merchants := []*merchant{newV3Merchant("shop", 1), newV3Merchant("mini", 2), newV3Merchant("app", 3)}
	for _, m := range merchants {
		m.v3.publicKey = true // so that nothing is fetched before it is needed
	}
	env.serve(layout{merchants: merchants, site: counting})
	delivery := env.paidEvent(merchants[0], merchants[0].paid3("order-1"))
	var flood sync.WaitGroup
	for n := range 8 {
		flood.Go(func() {
			for i := range 25 {
				header, err := delivery.Header()
				if err != nil {
					t.Error(err)
					return
				}
				header.Set("Wechatpay-Serial", fmt.Sprintf("%040X", n*1000+i))
				if a := env.deliverBody([]string{"pay_notify", "pay_notify/shop"}[i%2], header, delivery.Body()); a.status != http.StatusUnauthorized {
					t.Errorf("a serial number at random: HTTP %d %s", a.status, a.body)
				}
			}
		})
	}
	flood.Wait()
	if asked := env.fetches(); asked != 1 {
		t.Errorf("WeChat was asked %d times", asked)
	}
	if n := env.counts("", "unknown_key") + env.counts("shop", "unknown_key"); n != 200 {
		t.Errorf("%d are counted", n)
	}
	if err := delivery.Release(); err != nil {
		t.Fatal(err)
	}
	checkTakenV3(t, delivery)
}

// A reload has nothing fetched again that is fresh, and neither has a restart,
// after which WeChat need not even be there.
func TestCertificatesOutliveCaddy(t *testing.T) {
	env, shop := newV3Shop(t, "")
	env.patience = redials
	env.awaitKept(shop)
	env.get("get_pay_request_params", shop.order3("order-1"))
	delivery := env.pay(shop, "order-1", wepaytest.Held())
	served := layout{merchants: []*merchant{shop}, site: counting}
	for range 5 {
		if err := env.load(served); err != nil {
			t.Fatal(err)
		}
		env.get("order_query", map[string]any{"out_trade_no": "order-1"})
	}
	if got := env.fetches(); got != 1 {
		t.Errorf("WeChat was asked %d times for certificates", got)
	}

	if err := caddy.Stop(); err != nil {
		t.Fatal(err)
	}
	alone := *shop
	alone.endpoint = "https://" + freeAddress(t) // where nobody is
	if err := env.load(layout{merchants: []*merchant{&alone}, site: counting}); err != nil {
		t.Fatal(err)
	}
	if err := delivery.Release(); err != nil {
		t.Fatal(err)
	}
	env.awaitAnswer(delivery)
	checkTakenV3(t, delivery)
	if delivered := env.orders.forget(); len(delivered) != 1 {
		t.Errorf("the order service got %d times", len(delivered))
	}
	if got := env.fetches(); got != 1 {
		t.Errorf("WeChat was asked %d times for certificates", got)
	}
}

// A certificate that cannot be used does not keep the others from being used, and
// the log says which it is.
func TestUnusableCertificate(t *testing.T) {
	env, shop := newV3Shop(t, "")
	env.awaitKept(shop)
	path := filepath.Join(env.dir, "caddy", "wepay", "certificates", shop.mchID+".json")
	kept, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	const bad = `{"serial_no":"0000000000000000000000000000000000000BAD","encrypt_certificate":{"algorithm":"AEAD_SM4_GCM"}}`
	if err := os.WriteFile(path, replacing(`"data":[`, `"data":[`+bad+`,`)(kept), 0o600); err != nil {
		t.Fatal(err)
	}
	env.patience = redials
	if err := env.load(layout{merchants: []*merchant{shop}, site: counting}); err != nil {
		t.Fatal(err)
	}
	d := env.paidEvent(shop, shop.paid3("order-1"))
	if err := d.Release(); err != nil {
		t.Fatal(err)
	}
	env.awaitAnswer(d)
	checkTakenV3(t, d)
	if got := env.fetches(); got != 1 {
		t.Errorf("WeChat was asked %d times for certificates", got)
	}
	text, err := os.ReadFile(filepath.Join(env.dir, "caddy.log"))
	if err != nil {
		t.Fatal(err)
	}
	if says := `"msg":"platform certificate left out","merchant":"shop","error":"opening certificate 0000000000000000000000000000000000000BAD: `; strings.Count(string(text), says) != 1 {
		t.Errorf("the log does not say which certificate is left out")
	}
}

// `caddy validate`, and a reload that is refused, ask nobody.
func TestValidatingFetchesNothing(t *testing.T) {
	env, shop := newEnvironment(t), newV3Merchant("shop", 1)
	env.register(shop)
	for range 3 {
		if err := env.validate(layout{merchants: []*merchant{shop}}); err != nil {
			t.Fatal(err)
		}
	}
	if got := len(env.received()); got > 0 {
		t.Errorf("WeChat was asked %d times", got)
	}
}

// Certificates that are not to be had hold up nothing but what needs them, and
// the log says what to do.
func TestNoCertificates(t *testing.T) {
	for _, test := range []struct {
		name  string
		spoil func(env *environment, shop *merchant)
		says  string
	}{
		{"none exist", func(env *environment, shop *merchant) {
			shop.v3.mode = wepaytest.ByPublicKey
		}, "set public_key to WeChat Pay's public key"},
		{"a wrong apiv3_key", func(env *environment, shop *merchant) {
			env.wechatKey = shop.v3.key
			shop.v3.key = "x" + shop.v3.key[1:]
		}, "apiv3_key does not decrypt it"},
		{"not signed by WeChat", func(env *environment, _ *merchant) {
			env.wechat.Misbehave("/v3/certificates", wepaytest.Fault{Kind: wepaytest.WrongSignature, Standing: true})
		}, "wrong signature"},
		{"a probe", func(env *environment, _ *merchant) {
			env.wechat.Misbehave("/v3/certificates", wepaytest.Fault{Kind: wepaytest.Probe, Standing: true})
		}, "a signature probe"},
	} {
		t.Run(test.name, func(t *testing.T) {
			env, shop := newEnvironment(t), newV3Merchant("shop", 1)
			test.spoil(env, shop)
			env.serve(layout{merchants: []*merchant{shop}, site: counting})
			env.awaitFetches(1)
			env.until("the log says "+test.says, func() bool {
				text, err := os.ReadFile(filepath.Join(env.dir, "caddy.log"))
				if err != nil {
					t.Fatal(err)
				}
				for line := range strings.Lines(string(text)) {
					if strings.Contains(line, `"fetching platform certificates failed, and is tried again","merchants":["shop"]`) && strings.Contains(line, test.says) {
						return strings.Contains(line, `"level":"warn"`)
					}
				}
				return false
			})
			a := env.try("get_pay_request_params", shop.order3("order-1"))
			if a.status != http.StatusBadGateway || a.Errcode != 40000 {
				t.Errorf("an order: HTTP %d %s", a.status, a.body)
			}
		})
	}
}
