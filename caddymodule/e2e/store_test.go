package e2e_test

import (
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"

	"github.com/windsome/caddy-wepay/wepay"
	"github.com/windsome/caddy-wepay/wepay/apiv2"
)

// soon is longer than anything takes that these tests wait for. The longest is a
// lease whose end could not be stored: it runs out after 75 s.
const soon = 2 * time.Minute

// store is a store of the environment's own, with further options: of the hand-over,
// or of how long is kept.
func (env *environment) store(options ...string) string {
	lines, deliver := []string{"store sqlite " + filepath.Join(env.dir, "events.db")}, []string{"retry 50ms 200ms"}
	for _, option := range options {
		if strings.HasPrefix(option, "keep") {
			lines = append(lines, option)
		} else {
			deliver = append(deliver, option)
		}
	}
	return strings.Join(lines, "\n") + "\ndeliver {\n\t" + strings.Join(deliver, "\n\t") + "\n}"
}

// newStored is an environment with one merchant and a store.
func newStored(t *testing.T) (*environment, *merchant) {
	t.Helper()
	env, shop := newEnvironment(t), newMerchant("shop", 1)
	env.serve(layout{merchants: []*merchant{shop}, options: env.store()})
	return env, shop
}

// notification is WeChat's of a payment, of 21 fields, signed.
func (m *merchant) notification(t testing.TB, id string) string {
	t.Helper()
	fields := wepay.NewFields(map[string]string{
		"appid": m.appID, "mch_id": m.mchID, "return_code": "SUCCESS", "result_code": "SUCCESS", "nonce_str": "5K8264ILTKCH16CQ2502SI8ZNMTM67VS",
		"device_info": "013467007045764", "sign_type": "MD5", "attach": "福州路店",
		"openid": openID, "out_trade_no": id, "transaction_id": "42" + id, "trade_type": "JSAPI", "bank_type": "CMC",
		"total_fee": "1200", "settlement_total_fee": "1200", "fee_type": "CNY", "cash_fee": "1200", "cash_fee_type": "CNY",
		"time_end": "20260101120000", "is_subscribe": "N",
	})
	fields.Set("sign", apiv2.Sign(fields, wepay.MD5, m.key))
	text, err := apiv2.Encode("xml", fields)
	if err != nil {
		t.Error(err)
	}
	return string(text)
}

// listen has the order service take what it hears and tell of each by its
// webhook-id.
func (s *orderService) listen() <-chan string {
	delivered := make(chan string, 10000)
	s.answers(func(w http.ResponseWriter, r *http.Request) {
		delivered <- r.Header.Get("webhook-id")
		w.WriteHeader(http.StatusNoContent)
	})
	return delivered
}

// await returns the next that is delivered.
func await(t *testing.T, delivered <-chan string) string {
	t.Helper()
	select {
	case id := <-delivered:
		return id
	case <-time.After(soon):
		t.Fatal("the order service hears nothing")
		return ""
	}
}

// WeChat hears SUCCESS while the order service is away, which has the payment
// when it is back, as it would have had it at once.
func TestStoreWhileAway(t *testing.T) {
	env, shop := newStored(t)
	away := make(chan struct{}, 100)
	env.orders.answers(func(w http.ResponseWriter, _ *http.Request) {
		away <- struct{}{}
		w.WriteHeader(http.StatusBadGateway)
	})
	env.get("get_pay_request_params", shop.order("order-1"))
	delivery := env.pay(shop, "order-1")
	checkTaken(t, delivery)
	<-away
	<-away
	env.orders.forget()
	delivered := env.orders.listen()
	await(t, delivered)
	checkCallback(t, env, shop, delivery)
	if err := delivery.Repeat(); err != nil {
		t.Fatal(err)
	}
	checkTaken(t, delivery)
	env.get("get_pay_request_params", shop.order("order-2"))
	checkTaken(t, env.pay(shop, "order-2"))
	await(t, delivered)
	if again := env.orders.forget(); len(again) != 1 {
		t.Errorf("delivered %d times, of which the first payment was one", len(again))
	}
}

// What is not to be believed is not stored, and without a cb_notify_url
// nothing is.
func TestStoreTakesWhatIsTrue(t *testing.T) {
	env, shop := newStored(t)
	delivered := env.orders.listen()
	checkRefused(t, env, env.post("pay_notify", strings.Replace(shop.notification(t, "order-1"), "1200", "1", 1)), "wrong_signature")
	if a := env.post("pay_notify", shop.notification(t, "order-2")); a.body != taken {
		t.Fatalf("WeChat hears %s", a.body)
	}
	await(t, delivered)
	if again := env.orders.forget(); len(again) != 1 || !strings.Contains(string(again[0].body), "order-2") {
		t.Errorf("delivered %d times", len(again))
	}
}

// The same event thirty times, most of them at the same time, is delivered once.
func TestStoreSameEvent(t *testing.T) {
	env, shop := newStored(t)
	delivered := env.orders.listen()
	text := shop.notification(t, "order-1")
	var senders sync.WaitGroup
	for range 30 {
		senders.Go(func() {
			if a, err := env.send(http.MethodPost, env.site+"/apis/v1/wepay/pay_notify", text); err != nil || a.body != taken {
				t.Errorf("WeChat hears %s (%v)", a.body, err)
			}
		})
	}
	senders.Wait()
	first := await(t, delivered)
	if a := env.post("pay_notify", text); a.body != taken {
		t.Errorf("WeChat hears %s", a.body)
	}
	if a := env.post("pay_notify", shop.notification(t, "order-2")); a.body != taken {
		t.Errorf("WeChat hears %s", a.body)
	}
	if next := await(t, delivered); next == first {
		t.Error("the event is delivered again")
	}
	if again := env.orders.forget(); len(again) != 2 {
		t.Errorf("delivered %d times", len(again))
	}
}

// Ten reloads within a burst, each with other options: nothing is lost, refused
// or delivered twice.
func TestStoreReloads(t *testing.T) {
	env, shop := newStored(t)
	env.patience = redials
	delivered := env.orders.listen()
	done := make(chan struct{})
	var senders sync.WaitGroup
	var mu sync.Mutex
	sent := 0
	for n := range 4 {
		senders.Go(func() {
			for i := 0; ; i++ {
				select {
				case <-done:
					return
				default:
				}
				a, err := env.send(http.MethodPost, env.site+"/apis/v1/wepay/pay_notify", shop.notification(t, fmt.Sprintf("order-%d-%d", n, i)))
				if err != nil || a.body != taken {
					t.Errorf("WeChat hears %s (%v)", a.body, err)
					return
				}
				mu.Lock()
				sent++
				mu.Unlock()
			}
		})
	}
	for n := range 10 {
		if err := env.load(layout{merchants: []*merchant{shop}, options: env.store(fmt.Sprintf("workers %d", n+2), fmt.Sprintf("keep %dd", n+2))}); err != nil {
			t.Errorf("reload %d: %v", n, err)
		}
	}
	close(done)
	senders.Wait()
	times := make(map[string]int)
	for len(times) < sent {
		times[await(t, delivered)]++
	}
	for id, n := range times {
		if n > 1 {
			t.Errorf("%s is delivered %d times", id, n)
		}
	}
}

// Neither `caddy validate` nor a refused reload touches what the running server
// holds; and a good reload with a store added, changed, moved or removed goes
// through.
func TestStoreBesideTheServer(t *testing.T) {
	env, shop := newStored(t)
	env.patience = redials
	served := layout{merchants: []*merchant{shop}, options: env.store()}
	unreadable := *shop
	unreadable.form = "no such form"
	moved := strings.Replace(env.store(), "events.db", "moved.db", 1)
	var delivered <-chan string
	for n, test := range []struct {
		name  string
		offer func() error
		err   string
	}{
		{"validated", func() error { return env.validate(served) }, ""},
		{"reloaded", func() error { return env.load(served) }, ""},
		{"refused", func() error { return env.load(layout{merchants: []*merchant{&unreadable}, options: env.store()}) }, "pfx: "},
		{"wrong option", func() error { return env.load(layout{merchants: served.merchants, options: env.store("keep 24h")}) }, "keep: must be at least 25h"},
		{"a file that is none", func() error {
			env.write("none.db", []byte(strings.Repeat("this is no store ", 1000)))
			return env.load(layout{merchants: served.merchants, options: strings.Replace(env.store(), "events.db", "none.db", 1)})
		}, "none.db"},
		{"moved", func() error { return env.load(layout{merchants: served.merchants, options: moved}) }, ""},
		{"removed", func() error { return env.load(layout{merchants: served.merchants}) }, ""},
		{"added", func() error { return env.load(served) }, ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			env := env.in(t)
			for i := range 3 {
				err := test.offer()
				if (err == nil) != (test.err == "") || err != nil && !strings.Contains(err.Error(), test.err) {
					t.Fatalf("time %d: %v", i+1, err)
				}
				delivered = env.orders.listen()
				if a := env.post("pay_notify", shop.notification(t, fmt.Sprintf("order-%d-%d", n, i))); a.body != taken {
					t.Fatalf("WeChat hears %s", a.body)
				}
				await(t, delivered)
			}
		})
	}
}

// runCaddy starts the server as a process of its own, and waits until it
// serves.
func (env *environment) runCaddy(config string) *exec.Cmd {
	env.t.Helper()
	cmd := exec.Command(os.Args[0], "run", "--config", config, "--adapter", "caddyfile")
	cmd.Env = append(os.Environ(), asCaddy+"=1")
	log, err := os.OpenFile(filepath.Join(env.dir, "output"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		env.t.Fatal(err)
	}
	defer log.Close()
	cmd.Stdout, cmd.Stderr = log, log
	if err := cmd.Start(); err != nil {
		env.t.Fatal(err)
	}
	env.t.Cleanup(func() { // where the test ends early; else it is gone by now
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	for began := time.Now(); ; {
		a, err := env.sendOnce(http.MethodGet, env.site+"/", "")
		if err == nil && a.body == "the rest of the site" {
			return cmd
		}
		if time.Since(began) > soon {
			text, _ := os.ReadFile(log.Name())
			env.t.Fatalf("the server does not start: %v\n%s", err, text)
		}
	}
}

// A server that is killed in the middle of a burst has handed over, when it has
// run again, all that WeChat was told SUCCESS for.
func TestStoreKilled(t *testing.T) {
	env, shop := newEnvironment(t), newMerchant("shop", 1)
	env.register(shop)
	env.write("Caddyfile", []byte(env.caddyfile(layout{merchants: []*merchant{shop}, options: env.store()})))
	const rounds = 20
	var mu sync.Mutex
	acknowledged, got := make(map[string]bool), make(map[string]bool)
	delivered := make(chan struct{}, 1)
	env.orders.answers(func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		got[r.Header.Get("webhook-id")] = true
		mu.Unlock()
		select {
		case delivered <- struct{}{}:
		default:
		}
		w.WriteHeader(http.StatusNoContent)
	})
	for round := range rounds {
		server := env.runCaddy(filepath.Join(env.dir, "Caddyfile"))
		var senders sync.WaitGroup
		for n := range 8 {
			senders.Go(func() {
				for i := 0; ; i++ {
					id := fmt.Sprintf("order-%d-%d-%d", round, n, i)
					a, err := env.sendOnce(http.MethodPost, env.site+"/apis/v1/wepay/pay_notify", shop.notification(t, id))
					if err != nil {
						return // killed
					}
					if a.body == taken {
						mu.Lock()
						acknowledged[shop.eventID(id)] = true
						mu.Unlock()
					}
				}
			})
		}
		for range 1 + rand.IntN(30) {
			<-delivered
		}
		if err := server.Process.Kill(); err != nil {
			t.Fatal(err)
		}
		_ = server.Wait() // it was killed
		senders.Wait()
	}
	env.runCaddy(filepath.Join(env.dir, "Caddyfile"))
	late := time.After(soon)
	for {
		mu.Lock()
		missing := slices.Collect(maps.Keys(acknowledged))
		missing = slices.DeleteFunc(missing, func(id string) bool { return got[id] })
		total := len(acknowledged)
		mu.Unlock()
		if len(missing) == 0 {
			t.Logf("%d acknowledged", total)
			return
		}
		select {
		case <-delivered:
		case <-late:
			t.Fatalf("%d of %d acknowledged events never arrive", len(missing), total)
		}
	}
}

// eventID is the webhook-id of an order's payment.
func (m *merchant) eventID(id string) string {
	n := wepay.Notification{
		Kind: wepay.Payment, Merchant: &wepay.Merchant{MchID: m.mchID},
		Fields: wepay.NewFields(map[string]string{"transaction_id": "42" + id, "result_code": "SUCCESS"}),
	}
	return n.EventID()
}

// A server that is asked to stop finishes what it is handing over.
func TestStoreStops(t *testing.T) {
	env, shop := newStored(t)
	entered, leave := make(chan struct{}), make(chan struct{})
	env.orders.answers(func(rw http.ResponseWriter, _ *http.Request) {
		close(entered)
		<-leave
		_, _ = io.WriteString(rw, `{"errcode":0}`)
	})
	if a := env.post("pay_notify", shop.notification(t, "order-1")); a.body != taken {
		t.Fatalf("WeChat hears %s", a.body)
	}
	<-entered
	stopped := make(chan error)
	go func() { stopped <- caddy.Stop() }()
	close(leave)
	if err := <-stopped; err != nil {
		t.Fatal(err)
	}
	delivered := env.orders.listen()
	if err := env.load(layout{merchants: []*merchant{shop}, options: env.store()}); err != nil {
		t.Fatal(err)
	}
	if a := env.post("pay_notify", shop.notification(t, "order-2")); a.body != taken {
		t.Fatalf("WeChat hears %s", a.body)
	}
	if id := await(t, delivered); id != shop.eventID("order-2") {
		t.Error("what was finished is delivered again")
	}
}
