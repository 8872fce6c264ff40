package e2e_test

import (
	"context"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/windsome/caddy-wepay/wepay/wepaytest"
)

// stop has a process stop, and returns how long that took.
func stop(t *testing.T, server *exec.Cmd) time.Duration {
	t.Helper()
	began := time.Now()
	if err := server.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- server.Wait() }()
	select {
	case err := <-ended:
		if err != nil {
			t.Errorf("the server ends with %v", err)
		}
	case <-time.After(soon):
		t.Fatal("the server does not end")
	}
	return time.Since(began)
}

// caddyLog is what an environment's server has logged, a line each.
func (env *environment) caddyLog() []string {
	env.t.Helper()
	text, err := os.ReadFile(filepath.Join(env.dir, "caddy.log"))
	if err != nil {
		env.t.Fatal(err)
	}
	return strings.Split(string(text), "\n")
}

// logs counts the log's lines that have all of some texts.
func (env *environment) logs(texts ...string) (n int) {
	env.t.Helper()
	for _, line := range env.caddyLog() {
		has := true
		for _, text := range texts {
			has = has && strings.Contains(line, text)
		}
		if has {
			n++
		}
	}
	return n
}

// callTimeout is much longer than a reload or a stop may take.
const callTimeout = time.Minute

// A server that is stopped stops within its grace period, and a reload does not wait,
// whatever those do whom Caddy has asked; and the log has each call that may have
// moved money.
func TestStopWithHostileUpstreams(t *testing.T) {
	quiet := []string{"silence", "switching", "half-a-head", "processing", "dribbled-body", "no-end"}
	b := besiege(t, quiet)
	admin := freeAddress(t)
	config := func(options string) string {
		text := b.caddyfile(layout{options: "callback_timeout 1m\n" + options + b.merchants()})
		return strings.NewReplacer("admin off", "admin "+admin, "auto_https off", "auto_https off\n\tgrace_period 1s").Replace(text)
	}
	b.write("Caddyfile", []byte(config("call_timeout 1m\n")))
	server := b.runCaddy(filepath.Join(b.dir, "Caddyfile"))
	ctx, hangUp := context.WithCancel(t.Context())
	var asks sync.WaitGroup
	defer asks.Wait()
	defer hangUp()
	besiege := func(hanging int) {
		for n, misbehaviour := range quiet {
			for _, ask := range everyAsk() {
				asks.Go(func() {
					req, err := ask.send(ctx, b, n, misbehaviour)
					if err != nil {
						t.Error(err)
						return
					}
					if resp, err := b.web.Do(req); err == nil {
						_ = resp.Body.Close()
					}
				})
			}
		}
		b.until("there are calls that hang", func() bool { return b.servers.hanging("silence at /silence/secapi/pay/refund") >= hanging })
	}
	besiege(1)
	began := time.Now()
	b.reload(admin, config("call_timeout 61s\n"))
	if took := time.Since(began); took > callTimeout/2 {
		t.Errorf("the reload took %v", took)
	}
	besiege(2)
	if took := stop(t, server); took > callTimeout/2 {
		t.Errorf("the server took %v to stop", took)
	}
	for _, call := range []string{`"operation":"refund"`, `"operation":"v3"`} {
		if n := b.logs(`"level":"error"`, "operation failed", call, `"verdict":"QUERY"`, "the server stops"); n < 2 {
			t.Errorf("the log has %d lines of %s, of before the reload and after it", n, call)
		}
	}
	if n := b.logs("the server stops", `"merchant":"old-silence"`, `"out_trade_no":"o1"`, `"out_refund_no":"r1"`, `"refund_fee":"1"`, `"total_fee":"2"`); n != 2 {
		t.Errorf("the log has %d lines of one refund that was asked for twice", n)
	}
}

// hanging counts the connections on which a misbehaviour goes on at a path.
func (s *hostileServer) hanging(name string) (n int) {
	for _, what := range s.open() {
		if strings.HasPrefix(what, name) {
			n++
		}
	}
	return n
}

// A refund goes on when its caller hangs up in the middle, and the log says that it
// was done.
func TestRefundWithoutCaller(t *testing.T) {
	env, shop := newShop(t, "call_timeout 1m")
	env.paid(shop, "order-1", nil)
	env.wechat.Misbehave("/secapi/pay/refund", wepaytest.Fault{Kind: wepaytest.Slow, Delay: time.Second})
	ctx, hangUp := context.WithCancel(t.Context())
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, env.site+"/apis/v1/wepay/refund", strings.NewReader(toJSON(t, shop.refund("order-1", "refund-1", 200))))
	if err != nil {
		t.Fatal(err)
	}
	var caller sync.WaitGroup
	caller.Go(func() {
		if resp, err := env.web.Do(req); err == nil {
			resp.Body.Close()
			t.Errorf("the caller hears HTTP %d", resp.StatusCode)
		}
	})
	env.until("WeChat is asked", func() bool { return len(env.wechat.Requests("/secapi/pay/refund")) == 1 })
	hangUp()
	caller.Wait()
	served := 0
	env.until("the server has seen it", func() bool {
		served++
		return served > 50
	})
	env.clock.Advance(time.Second)
	env.until("the log says so", func() bool {
		return env.logs("its caller has hung up", `"level":"warn"`, `"operation":"refund"`, `"merchant":"shop"`, `"out_refund_no":"refund-1"`, `"refund_fee":"200"`) == 1
	})
	if order, _ := env.wechat.Order(shop.mchID, "order-1"); order.Refunded != 200 {
		t.Errorf("WeChat has %+v", order)
	}
}
