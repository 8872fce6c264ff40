package wepaytest_test

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/windsome/caddy-wepay/wepay"
	"github.com/windsome/caddy-wepay/wepay/wepaytest"
)

// lostOf pays orders and says which of their notifications never came.
func lostOf(t *testing.T, share float64, seed uint64) (lost []bool) {
	t.Helper()
	s := newShop(t)
	s.wechat.LoseNotifications(share, seed)
	for n := range 100 {
		d := s.pay(fmt.Sprintf("ORDER-%04d", n), 1)
		attempts := d.Attempts()
		if len(attempts) != 1 || errors.Is(attempts[0].Err, wepaytest.ErrLost) == d.Taken() {
			t.Fatalf("the attempts are %+v", attempts)
		}
		lost = append(lost, !d.Taken())
	}
	return lost
}

func TestLostNotifications(t *testing.T) {
	count := func(lost []bool) (n int) {
		for _, l := range lost {
			if l {
				n++
			}
		}
		return n
	}
	some := lostOf(t, 0.1, 1)
	if n := count(some); n < 2 || n > 25 {
		t.Errorf("of a tenth of 100 %d are lost", n)
	}
	if again := lostOf(t, 0.1, 1); fmt.Sprint(again) != fmt.Sprint(some) {
		t.Error("the same seed loses others")
	}
	if other := lostOf(t, 0.1, 2); fmt.Sprint(other) == fmt.Sprint(some) {
		t.Error("another seed loses the same")
	}
	if n := count(lostOf(t, 1, 1)); n != 100 {
		t.Errorf("of all 100 %d are lost", n)
	}
}

// What is lost stays lost, whenever it is sent again, and what happens later is not.
func TestLostForEver(t *testing.T) {
	s := newShop(t)
	s.wechat.LoseNotifications(1, 0)
	d := s.pay("ORDER-0001", 100)
	held := s.pay("ORDER-0002", 100, wepaytest.Held())
	in := refundOf("ORDER-0001", "R-1", 100, 30)
	in.Set("notify_url", s.notified.URL)
	s.do(wepay.Refund, in)
	refund, err := s.wechat.FinishRefund(mchID, "R-1", wepaytest.RefundSuccess)
	if err != nil {
		t.Fatal(err)
	}
	s.wechat.LoseNotifications(0, 0)
	s.clock.Advance(25 * time.Hour)
	if err := errors.Join(d.Repeat(), held.Release()); err != nil {
		t.Fatal(err)
	}
	if n := len(d.Attempts()); n != 17 || refund.Taken() || held.Taken() {
		t.Errorf("it was sent %d times", n)
	}
	if got := s.notified.received(); len(got) != 0 {
		t.Errorf("received %q", got)
	}
	if later := s.pay("ORDER-0003", 100); !later.Taken() {
		t.Errorf("the attempts are %+v", later.Attempts())
	}
}

func TestDelayedNotification(t *testing.T) {
	s := newShop(t)
	d := s.pay("ORDER-0001", 100, wepaytest.Delayed(10*time.Minute))
	if err := d.Release(); err != nil { // which it is already
		t.Fatal(err)
	}
	s.clock.Advance(10*time.Minute - time.Second)
	if n := len(d.Attempts()); n != 0 {
		t.Fatalf("it was sent %d times", n)
	}
	s.clock.Advance(time.Second)
	if a := d.Attempts(); len(a) != 1 || !d.Taken() || !a[0].At.Equal(start.Add(10*time.Minute)) {
		t.Errorf("the attempts are %+v", a)
	}
	if held := s.pay("ORDER-0002", 100, wepaytest.Delayed(time.Minute), wepaytest.Held()); len(held.Attempts()) != 0 {
		t.Error("what is held was sent")
	}
}

// A notification may tell another amount than was paid, with a signature that is
// right; a query tells what was paid.
func TestOtherAmountIsNotified(t *testing.T) {
	s := newShop(t)
	d := s.pay("ORDER-0001", 1200, wepaytest.WithField("total_fee", "1"), wepaytest.WithField("fee_type", "USD"))
	check(t, s.verified(d), map[string]string{"total_fee": "1", "fee_type": "USD", "out_trade_no": "ORDER-0001"})
	check(t, s.do(wepay.QueryOrder, query("ORDER-0001")), map[string]string{"total_fee": "1200", "fee_type": "CNY"})

	v3 := newV3Shop(t)
	d = v3.pay("ORDER-0001", 1200, wepaytest.WithMember("amount.total", 1), wepaytest.WithMember("amount.currency", "USD"))
	_, resource := v3.decrypted(d)
	checkAt(t, resource, map[string]string{"amount.total": "1", "amount.currency": "USD", "out_trade_no": "ORDER-0001"})
	checkAt(t, v3.granted("GET", "/v3/pay/transactions/out-trade-no/ORDER-0001?mchid="+mchID, nil).body, map[string]string{"amount.total": "1200", "amount.currency": "CNY"})
}
