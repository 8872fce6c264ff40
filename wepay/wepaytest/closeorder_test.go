package wepaytest_test

import (
	"errors"
	"testing"
	"time"

	"github.com/windsome/caddy-wepay/wepay"
	"github.com/windsome/caddy-wepay/wepay/wepaytest"
)

func TestCloseOrder(t *testing.T) {
	s := newShop(t)
	s.do(wepay.PlaceOrder, order("OPEN-0001", 100))
	closeOf := func(number string) map[string]string { return map[string]string{"out_trade_no": number} }
	check(t, s.granted(closePath, closeOf("OPEN-0001")), map[string]string{"result_msg": "OK"})
	check(t, s.do(wepay.QueryOrder, query("OPEN-0001")), map[string]string{"trade_state": "CLOSED"})
	s.denied(closePath, "ORDERCLOSED", closeOf("OPEN-0001"))
	if _, err := s.wechat.Pay(mchID, "OPEN-0001"); !errors.Is(err, wepaytest.ErrNotPayable) {
		t.Errorf("paying it gives %v", err)
	}
	if code := s.refused(wepay.PlaceOrder, order("OPEN-0001", 100)).Code; code != "ORDERCLOSED" {
		t.Errorf("placing it again gives %s", code)
	}
	s.pay("PAID-0001", 100)
	s.denied(closePath, "ORDERPAID", closeOf("PAID-0001"))
	s.do(wepay.Refund, refundOf("PAID-0001", "R-1", 100, 100))
	s.denied(closePath, "ORDERPAID", closeOf("PAID-0001"))
	s.denied(closePath, "ORDERNOTEXIST", closeOf("NONE-0001"))
}

func TestEarlyCloseIsLost(t *testing.T) {
	clock := wepaytest.NewFakeClock(start)
	s := newShopAt(t, newServer(t, wepaytest.WithClock(clock), wepaytest.WithEarlyClosesLost()))
	s.do(wepay.PlaceOrder, order("OPEN-0001", 100))
	for _, c := range []struct {
		after time.Duration
		want  string
	}{{5*time.Minute - 1, "NOTPAY"}, {1, "CLOSED"}} {
		clock.Advance(c.after)
		s.granted(closePath, map[string]string{"out_trade_no": "OPEN-0001"})
		check(t, s.do(wepay.QueryOrder, query("OPEN-0001")), map[string]string{"trade_state": c.want})
	}
}
