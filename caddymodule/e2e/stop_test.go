package e2e_test

import (
	"cmp"
	"context"
	"fmt"
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

// moneyAsk is an operation that may move money, at a merchant whose servers hang.
type moneyAsk struct {
	kind, route, path string
	request           map[string]any
	logged            string // what of it the log has when nobody knows what came of it
}

// everyMoneyAsk is all of them that WeChat is asked for at once, of the merchants of
// a misbehaviour.
func everyMoneyAsk(n int) (all []moneyAsk) {
	for _, c := range everyCall(&merchant{env: "H5", mchID: mchID(n)}) {
		if c.open == "AGAIN" || c.route == "reverse" || c.route == "pay_bank" {
			continue // can be sent again, or asks for a key first
		}
		delete(c.request, "merchant")
		number := cmp.Or(c.request["out_refund_no"], c.request["partner_trade_no"], c.request["mch_billno"], c.request["out_return_no"], c.request["out_order_no"], c.request["out_trade_no"], c.request["id"])
		all = append(all, moneyAsk{oldKind, c.route, c.path, c.request, fmt.Sprintf(`":"%s"`, number)})
	}
	detail := map[string]any{"out_detail_no": "d1", "transfer_amount": 100, "transfer_remark": "奖金", "openid": openID}
	batch := map[string]any{
		"out_batch_no": "b1", "batch_name": "奖金", "batch_remark": "一月", "total_amount": 100, "total_num": 1, "transfer_detail_list": []any{detail},
	}
	refund := map[string]any{"out_trade_no": "o1", "out_refund_no": "r8", "total_fee": 2, "refund_fee": 1}
	const bills = "/v3/fund-app/mch-transfer/transfer-bills"
	return append(all,
		moneyAsk{oldKind, "v2/secapi/pay/refund", "/secapi/pay/refund", refund, `"out_refund_no":"r8"`},
		moneyAsk{newKind, "combine_order", "/v3/combine-transactions/jsapi", combinedOrder(), `"combine_out_trade_no":"c1"`},
		moneyAsk{newKind, "transfer", bills, transferV3(), `"partner_trade_no":"t1"`},
		moneyAsk{newKind, "transfer_cancel", bills + "/out-bill-no/t9/cancel", map[string]any{"partner_trade_no": "t9"}, `"partner_trade_no":"t9"`},
		moneyAsk{newKind, "transfer_batch", "/v3/transfer/batches", batch, `"out_batch_no":"b1"`},
	)
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
	everyAsk, everyMoneyAsk := everyAsk(), everyMoneyAsk(0)
	for _, m := range everyMoneyAsk {
		everyAsk = append(everyAsk, operationOf(m.kind, m.route, m.request))
	}
	besiege := func(hanging int) {
		for n, misbehaviour := range quiet {
			for _, ask := range everyAsk {
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
		for _, m := range everyMoneyAsk {
			b.until(m.route+" hangs", func() bool { return b.servers.hanging("silence at /silence"+m.path) >= hanging })
		}
		b.until("what is passed on hangs", func() bool { return b.servers.hanging("silence at /silence/v3/refund/domestic/refunds") >= 2*hanging })
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
	for _, m := range everyMoneyAsk {
		operation, _, _ := strings.Cut(m.route, "/")
		if n := b.logs(`"level":"error"`, "operation failed", `"operation":"`+operation+`"`, `"merchant":"`+m.kind+`silence"`, `"verdict":"QUERY"`, m.logged, "the server stops"); n < 2 {
			t.Errorf("the log has %d lines of %s, of before the reload and after it", n, m.route)
		}
	}
	for _, numbers := range [][]string{
		{`"merchant":"old-silence"`, `"operation":"refund"`, `"out_trade_no":"o1"`, `"out_refund_no":"r1"`, `"refund_fee":"1"`, `"total_fee":"2"`},
		{`"merchant":"new-silence"`, `"operation":"v3"`, `"out_trade_no":"o1"`, `"out_refund_no":"r9"`, `"refund_fee":"1"`, `"total_fee":"2"`},
		{`"merchant":"new-silence"`, `"operation":"v3"`}, // and not the file, nor the upload
	} {
		if n := b.logs(append(numbers, "the server stops")...); n != 2 {
			t.Errorf("the log has %d lines of what was asked for twice: %v", n, numbers)
		}
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
