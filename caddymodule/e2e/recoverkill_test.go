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
	env := newEnvironment(t)
	var shoppers []*shopper
	for _, m := range []*merchant{newMerchant("old", 1), moving("new", 2, "v3")} {
		shoppers = append(shoppers, &shopper{environment: env, shop: m, asked: make(chan struct{}), placed: make(map[string]bool), refunds: make(map[string]int)})
	}
	env.write("Caddyfile", []byte(env.caddyfile(env.followed(stall{shoppers[0].shop, nil}, stall{shoppers[1].shop, nil}))))
	env.wechat.LoseNotifications(0.3, rand.Uint64())
	for round := range 5 {
		server := env.runCaddy(filepath.Join(env.dir, "Caddyfile"))
		over := make(chan struct{})
		var all sync.WaitGroup
		for _, s := range shoppers {
			for n := range 2 {
				all.Go(func() { s.shopping(fmt.Sprintf("%s-%d-%d", s.shop.name, round, n), over) })
			}
		}
		for range 5 + rand.IntN(60) {
			<-shoppers[0].asked
		}
		if err := server.Process.Kill(); err != nil {
			t.Fatal(err)
		}
		_ = server.Wait() // it was killed
		close(over)
		all.Wait()
	}
	env.runCaddy(filepath.Join(env.dir, "Caddyfile"))
	told := env.orders.tally()
	for _, s := range shoppers {
		s.check(told)
	}
}

// tally is what an order service was told, and tells of what does not agree.
type tally struct {
	*orderService
	ids, fees map[string]string // by out_trade_no and out_refund_no
}

func (s *orderService) tally() *tally {
	return &tally{orderService: s, ids: make(map[string]string), fees: make(map[string]string)}
}

// count adds what was told since it last was counted.
func (y *tally) count(t *testing.T) {
	t.Helper()
	for _, got := range y.forget() {
		var fields map[string]string
		if err := json.Unmarshal(got.body, &fields); err != nil {
			t.Fatal(err)
		}
		number, fee := cmp.Or(fields["out_refund_no"], fields["out_trade_no"]), cmp.Or(fields["refund_fee"], fields["total_fee"])
		id := got.header.Get("webhook-id")
		if before, again := y.ids[number]; again && (before != id || y.fees[number] != fee) {
			t.Errorf("%s of %s is told as %s, and was of %s as %s", number, fee, id, y.fees[number], before)
		}
		y.ids[number], y.fees[number] = id, fee
	}
}

// check waits until the shop knows what WeChat knows, and demands that it was told no
// more than that.
func (s *shopper) check(told *tally) {
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
	s.until("all is told", func() bool {
		told.count(s.t)
		for number := range want {
			if told.ids[number] == "" {
				return false
			}
		}
		return true
	})
	for number, fee := range told.fees {
		if strings.Contains(number, "-"+s.shop.name+"-") && want[number] != fee {
			s.t.Errorf("%s of %s is told, and WeChat has %q", number, fee, want[number])
		}
	}
	if len(want) == 0 {
		s.t.Error("nothing was paid")
	}
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
	var got orderState
	s.until(fmt.Sprintf("%s is as %+v at WeChat", id, placed), func() bool {
		got = s.state(id, "merchant", s.shop.name)
		return got.State == state && got.TransactionID == placed.TransactionID && got.RefundFee == placed.Refunded
	})
	if got.TotalFee != placed.Total {
		s.t.Errorf("%s is %+v, and %+v at WeChat", id, got, placed)
	}
}
