package e2e_test

import (
	"cmp"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/http"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/windsome/caddy-wepay/wepay/wepaytest"
)

// shopper is who places orders, pays, and has some of it given back, at a server that
// may be gone at any moment.
type shopper struct {
	*environment
	shop *merchant

	asked chan struct{} // one for each call that began

	mu      sync.Mutex
	placed  map[string]bool // by out_trade_no
	refunds map[string]int  // amounts, by out_refund_no
}

// ask asks for something that may get no answer.
func (s *shopper) ask(route string, request map[string]any) {
	select {
	case s.asked <- struct{}{}:
	default:
	}
	a, err := s.sendOnce(http.MethodPost, s.site+"/apis/v1/wepay/"+route, toJSON(s.t, request))
	if err == nil && a.Errcode != 0 && a.Verdict != "QUERY" && a.Verdict != "AGAIN" {
		s.t.Errorf("%s: HTTP %d %s", route, a.status, a.body)
	}
}

// shopping goes on until it is over.
func (s *shopper) shopping(name string, over <-chan struct{}) {
	for n := 0; ; n++ {
		select {
		case <-over:
			return
		default:
		}
		id, refund := fmt.Sprintf("order-%s-%d", name, n), fmt.Sprintf("refund-%s-%d", name, n)
		s.mu.Lock()
		s.placed[id] = true
		s.mu.Unlock()
		s.ask("get_pay_request_params", s.shop.order3(id))
		if n%4 == 0 {
			continue // nobody pays
		}
		if _, err := s.wechat.Pay(s.shop.mchID, id); err != nil {
			continue // WeChat has never heard of it
		}
		if n%4 > 1 {
			fee := []int{300, 1200}[n%2]
			s.mu.Lock()
			s.refunds[refund] = fee
			s.mu.Unlock()
			s.ask("refund", s.shop.refund(id, refund, fee))
			_, _ = s.wechat.FinishRefund(s.shop.mchID, refund, wepaytest.RefundSuccess) // if it has it
		}
	}
}

// A server that is killed at any moment knows in the end what WeChat knows, and so
// does the order service: each payment and each refund once, under one webhook-id, with
// the amount that it has.
func TestRecoveryKilled(t *testing.T) {
	for _, kind := range []string{"API v2", "API v3"} {
		t.Run(kind, func(t *testing.T) {
			env := newEnvironment(t)
			s := &shopper{environment: env, shop: newFollower(kind), asked: make(chan struct{}), placed: make(map[string]bool), refunds: make(map[string]int)}
			env.write("Caddyfile", []byte(env.caddyfile(env.followed(stall{s.shop, nil}))))
			env.wechat.LoseNotifications(0.3, rand.Uint64())
			for round := range 5 {
				server := env.runCaddy(filepath.Join(env.dir, "Caddyfile"))
				over := make(chan struct{})
				var shoppers sync.WaitGroup
				for n := range 3 {
					shoppers.Go(func() { s.shopping(fmt.Sprintf("%d-%d", round, n), over) })
				}
				for range 10 + rand.IntN(100) {
					<-s.asked
				}
				if err := server.Process.Kill(); err != nil {
					t.Fatal(err)
				}
				_ = server.Wait() // it was killed
				close(over)
				shoppers.Wait()
			}
			env.runCaddy(filepath.Join(env.dir, "Caddyfile"))
			s.check()
		})
	}
}

// check waits until the shop knows what WeChat knows, and demands that it was told no
// more than that.
func (s *shopper) check() {
	s.t.Helper()
	want := make(map[string]string) // amounts by numbers
	for id := range s.placed {
		placed, _ := s.wechat.Order(s.shop.mchID, id)
		if placed.TransactionID == "" {
			continue
		}
		want[id] = "1200"
		if placed.Refunded > 0 {
			want[strings.Replace(id, "order", "refund", 1)] = fmt.Sprint(placed.Refunded)
		}
		s.checkState(id, placed)
	}
	told := make(map[string]string) // webhook-ids by numbers
	s.until("all is told", func() bool {
		for _, got := range s.orders.forget() {
			var fields map[string]string
			if err := json.Unmarshal(got.body, &fields); err != nil {
				s.t.Fatal(err)
			}
			number, fee := cmp.Or(fields["out_refund_no"], fields["out_trade_no"]), cmp.Or(fields["refund_fee"], fields["total_fee"])
			id := got.header.Get("webhook-id")
			if before, again := told[number]; again && before != id || want[number] != fee {
				s.t.Errorf("%s of %s is told as %s, and was as %s; WeChat has %s", number, fee, id, before, want[number])
			}
			told[number] = id
		}
		return len(told) == len(want)
	})
	s.t.Logf("%d orders, %d refunds: %d are told", len(s.placed), len(s.refunds), len(told))
}

// checkState waits until an order is known as WeChat has it.
func (s *shopper) checkState(id string, placed wepaytest.Order) {
	s.t.Helper()
	state := "paid"
	switch {
	case placed.Refunded >= placed.Total:
		state = "refunded"
	case placed.Refunded > 0:
		state = "partly_refunded"
	}
	if got := s.awaitState(id, state); got.TransactionID != placed.TransactionID || got.RefundFee != placed.Refunded || got.TotalFee != placed.Total {
		s.t.Errorf("%s is %+v, and %+v at WeChat", id, got, placed)
	}
}
