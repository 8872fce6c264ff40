package recovery_test

import (
	"errors"
	"flag"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/windsome/caddy-wepay/caddymodule/recovery"
	"github.com/windsome/caddy-wepay/caddymodule/store"
	"github.com/windsome/caddy-wepay/caddymodule/store/storetest"
	"github.com/windsome/caddy-wepay/wepay"
)

var (
	seeds = flag.Int("seeds", 1000, "how many schedules of faults TestEndsAsWeChat goes through")
	seed  = flag.Uint64("seed", 0, "the one schedule to go through; 0: all")
)

// Whatever goes wrong on the way, in the end the shop knows what WeChat knows: of each
// payment and each refund once, with the amount that it has, and under one webhook-id;
// and so does the ledger.
func TestEndsAsWeChat(t *testing.T) {
	recovery.LookEvery(t, time.Minute)
	first, last := uint64(1), uint64(*seeds)
	if *seed != 0 {
		first, last = *seed, *seed
	}
	for n := first; n <= last; n++ {
		synctest.Test(t, func(t *testing.T) {
			run := &faults{TB: t, rand: rand.New(rand.NewPCG(n, 15)), place: storetest.NewMemory(), weChat: newWeChat(), service: newShopService()}
			run.start()
			for range 5 + run.rand.IntN(60) {
				run.step()
			}
			run.heal()
			run.check()
			run.site.stop()
		})
		if t.Failed() {
			t.Fatalf("seed %d", n)
		}
	}
}

// faults is one schedule.
type faults struct {
	testing.TB
	rand    *rand.Rand
	place   *storetest.Memory
	weChat  *weChat
	service *shopService
	site    *site
	orders  []string
	sent    []*wepay.Notification // which WeChat may repeat
	log     []string
}

func (f *faults) start() {
	f.site = newSite(f, f.place, f.weChat, f.service)
	f.site.CloseAfter["shop"] = 20 * time.Minute
}

func (f *faults) note(format string, args ...any) {
	f.log = append(f.log, time.Now().Format(time.TimeOnly)+" "+fmt.Sprintf(format, args...))
}

// step is something that happens.
func (f *faults) step() {
	steps := []func(){
		f.order, f.order, f.order, f.again, f.pay, f.pay, f.pay, f.payWrong, f.refund, f.refund, f.endRefund, f.endRefund, f.repeat, f.repeat,
		f.down, f.limit, f.serviceAway, f.crash, f.wait, f.wait, f.wait,
	}
	steps[f.rand.IntN(len(steps))]()
	synctest.Wait()
}

func (f *faults) any(among []string) string { return among[f.rand.IntN(len(among))] }

// order places an order: WeChat may have it, or not, and answer, or not.
func (f *faults) order() {
	number := "o" + strconv.Itoa(len(f.orders))
	f.orders = append(f.orders, number)
	f.call(number, 100)
}

// again places one again, perhaps with another amount.
func (f *faults) again() {
	if len(f.orders) > 0 {
		f.call(f.any(f.orders), []int64{100, 100, 200}[f.rand.IntN(3)])
	}
}

func (f *faults) call(number string, fen int64) {
	request := order(number, strconv.FormatInt(fen, 10))
	r, err := f.site.Record(f.Context(), shop, wepay.PlaceOrder, wepay.V2, request, nil)
	if err != nil {
		f.Fatal(err)
	}
	reached, heard := f.rand.IntN(5) > 0, f.rand.IntN(5) > 0
	var failed error = noAnswer
	if reached {
		refusal := f.weChat.place(number, fen)
		if heard {
			failed = refusal
		}
	}
	f.note("order %s of %d: reached %v, heard %v: %v", number, fen, reached, heard, failed)
	if f.rand.IntN(6) == 0 {
		f.note("killed before the answer is recorded")
		f.restart()
		return
	}
	if err := f.site.Answer(f.Context(), r, nil, failed); err != nil {
		f.Fatal(err)
	}
}

// place is what WeChat does with an order.
func (w *weChat) place(number string, fen int64) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	o := w.orders[number]
	switch {
	case o == nil:
		w.orders[number] = &wanted{number: number, fen: fen, state: "NOTPAY"}
		return nil
	case o.state == "CLOSED":
		return &wepay.Error{Code: "ORDERCLOSED", Verdict: wepay.Never}
	case o.state != "NOTPAY":
		return &wepay.Error{Code: "ORDERPAID", Verdict: wepay.Done}
	case o.fen != fen:
		return &wepay.Error{Code: "OUT_TRADE_NO_USED", Verdict: wepay.Query}
	default:
		return nil
	}
}

// pay has somebody pay. WeChat's notification may be lost, or come twice.
func (f *faults) pay() { f.paid("NOTPAY", func(*wanted) {}) }

// payWrong has WeChat say another amount than was ever placed.
func (f *faults) payWrong() {
	if f.rand.IntN(3) == 0 {
		f.paid("NOTPAY", func(o *wanted) { o.fen = 1 })
	}
}

func (f *faults) paid(from string, change func(*wanted)) {
	f.weChat.mu.Lock()
	var open []string
	for _, number := range slices.Sorted(maps.Keys(f.weChat.orders)) {
		if f.weChat.orders[number].state == from {
			open = append(open, number)
		}
	}
	if len(open) == 0 {
		f.weChat.mu.Unlock()
		return
	}
	o := f.weChat.orders[f.any(open)]
	change(o)
	o.state, o.at = "SUCCESS", time.Now()
	n := paidNotification(o)
	f.weChat.mu.Unlock()
	f.note("%s is paid with %d", o.number, o.fen)
	f.send(n)
}

// send is WeChat's notification on its way.
func (f *faults) send(n *wepay.Notification) {
	f.sent = append(f.sent, n)
	for range []int{0, 0, 1, 1, 2}[f.rand.IntN(5)] {
		f.note("notified: %s", n.EventID())
		f.site.notify(n)
	}
}

// repeat has a notification come late, or once more.
func (f *faults) repeat() {
	if len(f.sent) > 0 {
		n := f.sent[f.rand.IntN(len(f.sent))]
		f.note("notified late: %s", n.EventID())
		f.site.notify(n)
	}
}

// refund gives some of an order back: WeChat may have heard it, and answer.
func (f *faults) refund() {
	f.weChat.mu.Lock()
	var paid []string
	for _, number := range slices.Sorted(maps.Keys(f.weChat.orders)) {
		if f.weChat.orders[number].state == "SUCCESS" && f.weChat.orders[number].fen == 100 {
			paid = append(paid, number)
		}
	}
	f.weChat.mu.Unlock()
	if len(paid) == 0 {
		return
	}
	of, number := f.any(paid), fmt.Sprintf("r%d", len(f.weChat.refunds))
	r, err := f.site.Record(f.Context(), shop, wepay.Refund, wepay.V2, wepay.NewFields(map[string]string{
		"out_refund_no": number, "out_trade_no": of, "refund_fee": "10", "total_fee": "100",
	}), nil)
	if err != nil {
		f.Fatal(err)
	}
	reached, heard := f.rand.IntN(5) > 0, f.rand.IntN(5) > 0
	var failed error = noAnswer
	if reached {
		f.weChat.mu.Lock()
		f.weChat.refunds[number] = &wanted{number: number, of: of, fen: 10, state: "PROCESSING"}
		f.weChat.mu.Unlock()
		if heard {
			failed = nil
		}
	}
	f.note("refund %s of %s: reached %v, heard %v", number, of, reached, heard)
	if err := f.site.Answer(f.Context(), r, nil, failed); err != nil {
		f.Fatal(err)
	}
}

// endRefund has a refund end.
func (f *faults) endRefund() {
	f.weChat.mu.Lock()
	var open []string
	for _, number := range slices.Sorted(maps.Keys(f.weChat.refunds)) {
		if f.weChat.refunds[number].state == "PROCESSING" {
			open = append(open, number)
		}
	}
	if len(open) == 0 {
		f.weChat.mu.Unlock()
		return
	}
	r := f.weChat.refunds[f.any(open)]
	r.state, r.at = []string{"SUCCESS", "SUCCESS", "CHANGE", "REFUNDCLOSE"}[f.rand.IntN(4)], time.Now()
	n := f.weChat.refundNotification(r)
	f.weChat.mu.Unlock()
	f.note("refund %s ends: %s", r.number, r.state)
	f.send(n)
}

func (f *faults) down()        { f.set(func() { f.weChat.away = !f.weChat.away }) }
func (f *faults) limit()       { f.set(func() { f.weChat.limited = !f.weChat.limited }) }
func (f *faults) serviceAway() { f.set(func() { f.service.away = !f.service.away }) }

func (f *faults) set(change func()) {
	f.weChat.mu.Lock()
	f.service.mu.Lock()
	change()
	f.note("WeChat away %v, limited %v, order service away %v", f.weChat.away, f.weChat.limited, f.service.away)
	f.service.mu.Unlock()
	f.weChat.mu.Unlock()
}

func (f *faults) crash() {
	f.note("restarted")
	f.restart()
}

func (f *faults) restart() {
	f.site.stop()
	f.start()
}

func (f *faults) wait() {
	wait := []time.Duration{time.Second, 20 * time.Second, 5 * time.Minute, time.Hour, 5 * time.Hour}[f.rand.IntN(5)]
	f.note("%v", wait)
	time.Sleep(wait)
}

// heal ends all faults, and gives it time.
func (f *faults) heal() {
	f.set(func() { f.weChat.away, f.weChat.limited, f.service.away = false, false, false })
	time.Sleep(20 * time.Hour) // refunds are asked about each six hours in the end
	synctest.Wait()
}

// check holds what the shop and the ledger know against what WeChat knows.
func (f *faults) check() {
	err := errors.Join(f.service.wrong...)
	want := make(map[string]bool)
	for _, number := range f.orders {
		err = errors.Join(err, f.checkOrder(number, want))
	}
	for _, r := range f.weChat.refunds {
		if r.state != "PROCESSING" {
			want[fmt.Sprintf("refund %s %s %d", r.number, r.state, r.fen)] = true
		}
		state := map[string]store.OrderState{
			"PROCESSING": store.OrderRefunding, "SUCCESS": store.OrderRefunded, "CHANGE": store.OrderAbnormal, "REFUNDCLOSE": store.OrderClosed,
		}[r.state]
		if o := f.site.get(store.Refund, r.number); o.State != state {
			err = errors.Join(err, fmt.Errorf("refund %s is %s at WeChat: %+v", r.number, r.state, o))
		}
	}
	for what := range want {
		if f.service.paid[what] == "" {
			err = errors.Join(err, fmt.Errorf("not told: %s", what))
		}
	}
	for what := range f.service.paid {
		if !want[what] && !strings.HasPrefix(what, "TRANSACTION.CLOSED") {
			err = errors.Join(err, fmt.Errorf("told, and not so: %s", what))
		}
	}
	if err != nil {
		events, _, _ := f.site.List(f.Context(), store.Filter{}, "", 100)
		for _, e := range events {
			f.note("%s %s %s %s: attempts %d, due %v, %s", e.ID, e.Kind, e.OutTradeNo, e.State, e.Attempts, e.Due, e.Reason)
		}
		f.Errorf("%v\n%s", err, strings.Join(f.log, "\n"))
	}
}

// checkOrder holds an order against WeChat's, and adds what is to be told of it.
func (f *faults) checkOrder(number string, want map[string]bool) error {
	o, theirs := f.site.get(store.Ordered, number), f.weChat.orders[number]
	var states []store.OrderState
	switch {
	case theirs == nil:
		states = []store.OrderState{store.OrderFailed, store.OrderClosed} // and WeChat may be asked about a closed one no more
	case theirs.state == "CLOSED":
		states = []store.OrderState{store.OrderClosed}
	case theirs.state == "NOTPAY": // and expired
		states = []store.OrderState{store.OrderClosed}
	case theirs.fen == 1:
		states = []store.OrderState{store.OrderQuarantined}
	default:
		states = []store.OrderState{store.OrderPaid, store.OrderRefunding, store.OrderPartlyRefunded, store.OrderRefunded}
		want[fmt.Sprintf("paid %s %d", number, theirs.fen)] = true
	}
	if !slices.Contains(states, o.State) {
		return fmt.Errorf("%s is %+v at WeChat: %+v", number, theirs, o)
	}
	return nil
}
