package e2e_test

import (
	"io"
	"net"
	"net/http"
	"sync"
	"testing"
	"time"

	"github.com/windsome/caddy-wepay/wepay/wepaytest"
)

// silent is an access point that takes questions and answers none.
type silent struct {
	url  string
	took chan struct{} // one for each connection
	left chan struct{} // one for each that the client has closed
}

func newSilent(t *testing.T) *silent {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { listener.Close() })
	s := &silent{"http://" + listener.Addr().String(), make(chan struct{}, 9), make(chan struct{}, 9)}
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			go func() {
				defer conn.Close()
				s.took <- struct{}{}
				_, _ = io.Copy(io.Discard, conn)
				s.left <- struct{}{}
			}()
		}
	}()
	return s
}

// An access point that never answers does not hold up the end of a config,
// whatever the time-out is, and what is fetched from it ends with the config.
func TestStopWaitsForNoCertificates(t *testing.T) {
	env, shop, dead := newEnvironment(t), newV3Merchant("shop", 1), newSilent(t)
	env.patience = redials
	shop.endpoint = dead.url
	l := layout{merchants: []*merchant{shop}, options: "call_timeout 30s", site: counting}
	env.serve(l)
	for _, end := range []struct {
		name string
		do   func() error
	}{
		{"a reload", func() error { return env.load(l) }},
		{"stopping", env.unload},
	} {
		<-dead.took
		began := time.Now()
		if err := end.do(); err != nil {
			t.Fatal(err)
		}
		<-dead.left
		if took := time.Since(began); took > 10*time.Second {
			t.Errorf("%s took %s", end.name, took)
		}
	}
}

// A download that is slower than WeChat's patience holds up no notification for
// longer than that: WeChat hears that the key is not there yet, and sends again,
// which finds what has arrived meanwhile.
func TestSlowCertificates(t *testing.T) {
	for _, name := range []string{"with a store", "without a store"} {
		t.Run(name, func(t *testing.T) {
			env, shop := newEnvironment(t), newV3Merchant("shop", 1)
			options := "call_timeout 1m\n"
			if name == "with a store" {
				options += env.store()
			}
			env.wechat.Misbehave("/v3/certificates", wepaytest.Fault{Kind: wepaytest.Slow, Delay: time.Second, Standing: true})
			env.serve(layout{merchants: []*merchant{shop}, options: options, site: counting})
			env.awaitFetches(1)
			d := env.paidEvent(shop, shop.paid3("order-1"))
			began := time.Now()
			var at sync.WaitGroup
			for _, route := range []string{"pay_notify", "pay_notify/shop"} {
				at.Go(func() {
					checkRefusedV3(t, env, env.deliver(route, d, nil), http.StatusServiceUnavailable, "no_certificates")
				})
			}
			at.Wait()
			if took := time.Since(began); took < 3*time.Second || took > 6*time.Second {
				t.Errorf("WeChat hears after %s", took)
			}
			env.clock.Advance(time.Second)
			delivered := env.orders.listen()
			for _, route := range []string{"pay_notify", "pay_notify/shop"} {
				if a := env.deliver(route, d, nil); a.status != http.StatusNoContent {
					t.Errorf("then WeChat hears %d %s", a.status, a.body)
				}
			}
			await(t, delivered)
			if asked := env.fetches(); asked != 1 {
				t.Errorf("WeChat was asked %d times for certificates", asked)
			}
		})
	}
}
