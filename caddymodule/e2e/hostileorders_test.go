package e2e_test

import (
	"fmt"
	"net/http"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyevents"
	"go.uber.org/goleak"
)

// neverTaking are misbehaviours that no order service takes an event by.
var neverTaking = []string{
	"switching", "switching-talks", "switching-floods", "silence", "dribbled-head", "endless-head", "hints", "dribbled-hints",
	"dribbled-body", "dribbled-chunks", "endless-body", "dribbled-trailer", "endless-extension", "no-end", "proxied", "bomb", "redirect",
}

// notifies has each order service owed some payments, which WeChat has been told
// are taken.
func (b *besieged) notifies(each int) {
	b.t.Helper()
	for n, misbehaviour := range b.names {
		for i := range each {
			payer := *b.opening
			payer.appID, payer.mchID = appID(n), mchID(n)
			a, err := b.send(http.MethodPost, b.site+"/apis/v1/wepay/pay_notify/"+oldKind+misbehaviour, payer.notification(b.t, fmt.Sprintf("order-%d", i)))
			if err != nil || a.body != taken {
				b.t.Fatalf("%s: WeChat hears %s (%v)", misbehaviour, a.body, err)
			}
		}
	}
}

var toOrderService = regexp.MustCompile(`cb_notify_url \S+`)

// What order services do to whom events are handed over loses none of these, and
// leaves nothing behind; they have them once they are well.
func TestHostileOrderServices(t *testing.T) {
	b := besiege(t, neverTaking)
	var mu sync.Mutex
	asked := make(map[string]int)
	b.servers.does = func(r *http.Request) string {
		name := b.does(r)
		mu.Lock()
		defer mu.Unlock()
		asked[name]++
		return name
	}
	before := goleak.IgnoreCurrent()
	options := shortTimes + b.store() + "\n" + b.merchants()
	if err := b.load(layout{options: options}); err != nil {
		t.Fatal(err)
	}
	const each = 3
	b.notifies(each)
	b.until("each has been asked again and again", func() bool {
		mu.Lock()
		defer mu.Unlock()
		for _, name := range b.names {
			if asked[name] < 3*each {
				return false
			}
		}
		return true
	})
	if err := caddy.Stop(); err != nil {
		t.Error(err)
	}
	b.web.CloseIdleConnections()
	b.servers.untilClosed(t)
	goleak.VerifyNone(t, before)

	delivered := b.orders.listen()
	b.serve(layout{options: toOrderService.ReplaceAllString(options, "cb_notify_url "+b.orders.URL+"/paid")})
	events := make(map[string]bool)
	for len(events) < each*len(b.names) {
		events[await(t, delivered)] = true
	}
}

// A reload and a stop are in time while order services take no event and do not
// end, with a grace period and without one.
func TestStopWithHostileOrderServices(t *testing.T) {
	for name, grace := range map[string]string{"grace period": "\n\tgrace_period 1s", "none": ""} {
		t.Run(name, func(t *testing.T) {
			b := besiege(t, []string{"silence", "switching", "dribbled-head", "dribbled-body", "no-end"})
			admin := freeAddress(t)
			config := func(options string) string {
				text := b.caddyfile(layout{options: "callback_timeout 1m\n" + options + b.store() + "\n" + b.merchants()})
				return strings.NewReplacer("admin off", "admin "+admin, "auto_https off", "auto_https off"+grace).Replace(text)
			}
			b.write("Caddyfile", []byte(config("")))
			server := b.runCaddy(filepath.Join(b.dir, "Caddyfile"))
			b.notifies(2)
			hanging := func() bool { return b.servers.hanging("silence at /silence/paid") > 0 }
			b.until("an order service has been asked", hanging)
			if grace != "" {
				began := time.Now()
				b.reload(admin, config("call_timeout 61s\n"))
				if took := time.Since(began); took > callTimeout/2 {
					t.Errorf("the reload took %v", took)
				}
				b.until("it is asked again", hanging)
			}
			if took := stop(t, server); took > callTimeout/2 {
				t.Errorf("the server took %v to stop", took)
			}
			if n := b.logs("event given up"); n > 0 {
				t.Errorf("%d events are given up", n)
			}
		})
	}
}

// The handing over ends as soon as Caddy begins to stop, and not when the sites have
// stopped: what comes then is for the next process.
func TestHandingOverEndsWithCaddy(t *testing.T) {
	env, shop := newStored(t)
	var next atomic.Bool
	delivered := make(chan bool, 1)
	env.orders.answers(func(w http.ResponseWriter, _ *http.Request) {
		delivered <- next.Load()
		w.WriteHeader(http.StatusNoContent)
	})
	ctx := caddy.ActiveContext()
	events, err := ctx.App("events")
	if err != nil {
		t.Fatal(err)
	}
	events.(*caddyevents.App).Emit(ctx, "stopping", nil)
	if a := env.post("pay_notify", shop.notification(t, "order-1")); a.body != taken {
		t.Fatalf("WeChat hears %s", a.body)
	}
	for n := range 20 { // so that it would be handed over by now
		env.post("order_query", fmt.Sprintf(`{"out_trade_no":"o%d"}`, n))
	}
	next.Store(true)
	if err := env.load(layout{merchants: []*merchant{shop}, options: env.store() + "\ncall_timeout 61s"}); err != nil {
		t.Fatal(err)
	}
	if !<-delivered {
		t.Error("it is handed over while Caddy stops")
	}
}
