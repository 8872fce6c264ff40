package e2e_test

import (
	"fmt"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/windsome/caddy-wepay/caddymodule/internal/dbtest"
	"github.com/windsome/caddy-wepay/wepay/wepaytest"
)

// Of two Caddys that share a store one asks about an order at a time, by the schedule;
// and when one is killed the other one goes on.
func TestFleetAsks(t *testing.T) {
	env, shop := newEnvironment(t), newFollower("API v3")
	l := env.stalls(stall{shop, nil})
	l.options += fmt.Sprintf("store postgres %q", dbtest.StartPostgres(t).NewDSN(t)) + "\nrecover {\n\tschedule 2s 4s 8s\n}\n"
	var sites []*environment
	var second *exec.Cmd
	for i := range 2 {
		site := *env
		site.site = "http://" + freeAddress(t)
		name := fmt.Sprintf("Caddyfile%d", i)
		site.write(name, []byte(site.caddyfile(l)))
		second = site.runCaddy(filepath.Join(env.dir, name))
		sites = append(sites, &site)
	}
	env.wechat.LoseNotifications(1, 0)
	const orders = 40
	began := time.Now()
	for n := range orders {
		sites[n%2].get("get_pay_request_params", shop.order3(fmt.Sprintf("order-%d", n)))
	}
	sites[0].until("each is asked about twice", func() bool {
		for n := range orders {
			if sites[0].state(fmt.Sprintf("order-%d", n)).Asked < 2 {
				return false
			}
		}
		return true
	})
	env.checkPace(began, orders)
	for n := range orders {
		env.pay(shop, fmt.Sprintf("order-%d", n))
	}
	if err := second.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = second.Wait() // it was killed
	for n := range orders {
		sites[0].awaitState(fmt.Sprintf("order-%d", n), "paid")
		if s := sites[0].awaitRest(fmt.Sprintf("order-%d", n)); len(s.Events) != 1 {
			t.Errorf("got %+v", s)
		}
	}
	told := make(map[string]bool)
	for _, got := range env.orders.forget() {
		told[got.header.Get("webhook-id")] = true
	}
	if len(told) != orders {
		t.Errorf("%d are told", len(told))
	}
}

// checkPace demands that WeChat was not asked about an order sooner than the schedule
// of the test above has it.
func (env *environment) checkPace(began time.Time, orders int) {
	env.t.Helper()
	asked := make(map[string]int)
	for _, request := range env.received() {
		if id, found := askedAbout(request); found {
			asked[id]++
		}
	}
	most := 1 + int((time.Since(began)-2*time.Second)/(4*time.Second))
	for n := range orders {
		id := fmt.Sprintf("order-%d", n)
		if asked[id] < 2 || asked[id] > most {
			env.t.Errorf("%s was asked about %d times, and may be %d", id, asked[id], most)
		}
	}
}

// askedAbout is the order that WeChat was asked about.
func askedAbout(r wepaytest.Request) (id string, found bool) {
	if r.Path == "/pay/orderquery" {
		return r.Fields.Get("out_trade_no"), true
	}
	return strings.CutPrefix(r.Path, "/v3/pay/transactions/out-trade-no/")
}
