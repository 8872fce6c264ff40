package wepaytest_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/windsome/caddy-wepay/wepay"
	"github.com/windsome/caddy-wepay/wepay/wepaytest"
)

// Of the four names the first in WeChat's order decides, and the others are not
// looked at.
func TestRefundQueryNames(t *testing.T) {
	s := newShop(t)
	s.pay("ORDER-0001", 100)
	s.pay("ORDER-0002", 100)
	first := s.do(wepay.Refund, refundOf("ORDER-0001", "R-1", 100, 10))
	second := s.do(wepay.Refund, refundOf("ORDER-0002", "R-2", 100, 20))
	third := s.do(wepay.Refund, refundOf("ORDER-0002", "R-3", 100, 30))
	in := map[string]string{
		"refund_id": third.Get("refund_id"), "out_refund_no": "R-2",
		"transaction_id": second.Get("transaction_id"), "out_trade_no": "ORDER-0001",
	}
	for _, c := range []struct {
		name string
		want map[string]string
	}{
		{"refund_id", map[string]string{"refund_count": "1", "out_refund_no_0": "R-3", "out_trade_no": "ORDER-0002"}},
		{"out_refund_no", map[string]string{"refund_count": "1", "out_refund_no_0": "R-2", "refund_fee_0": "20"}},
		{"transaction_id", map[string]string{"refund_count": "2", "out_refund_no_0": "R-2", "out_refund_no_1": "R-3"}},
		{"out_trade_no", map[string]string{"refund_count": "1", "out_refund_no_0": "R-1", "refund_id_0": first.Get("refund_id")}},
	} {
		got := s.granted(refundQueryPath, in)
		check(t, got, c.want)
		check(t, got, map[string]string{"total_refund_count": "", "total_fee": "100", "cash_fee": "100", "fee_type": "CNY"})
		delete(in, c.name)
	}
	s.denied(refundQueryPath, "LACK_PARAMS", in)
	for name, c := range map[string]struct{ value, code string }{
		"refund_id":      {"50000000000", "REFUNDNOTEXIST"},
		"out_refund_no":  {"R-4", "REFUNDNOTEXIST"},
		"transaction_id": {"4200x", "INVALID_TRANSACTIONID"},
		"out_trade_no":   {"NONE-0001", "REFUNDNOTEXIST"},
	} {
		s.denied(refundQueryPath, c.code, map[string]string{name: c.value})
	}
	s.pay("ORDER-0003", 100)
	s.denied(refundQueryPath, "REFUNDNOTEXIST", map[string]string{"out_trade_no": "ORDER-0003"})
}

func TestRefundQueryPages(t *testing.T) {
	s := newShop(t)
	s.pay("ORDER-0001", 100)
	refund := func(from, to int) {
		for i := from; i < to; i++ {
			s.do(wepay.Refund, refundOf("ORDER-0001", fmt.Sprintf("R-%d", i), 100, 1))
		}
	}
	refund(0, 10)
	in := map[string]string{"out_trade_no": "ORDER-0001"}
	check(t, s.granted(refundQueryPath, in), map[string]string{"refund_count": "10", "total_refund_count": ""})
	refund(10, 23)
	for offset, want := range map[string]map[string]string{
		"":   {"refund_count": "10", "total_refund_count": "23", "out_refund_no_0": "R-0", "out_refund_no_9": "R-9", "out_refund_no_10": "", "refund_fee": "10"},
		"10": {"refund_count": "10", "total_refund_count": "23", "out_refund_no_0": "R-10", "out_refund_no_9": "R-19"},
		"22": {"refund_count": "1", "total_refund_count": "23", "out_refund_no_0": "R-22", "out_refund_no_1": "", "refund_fee": "1"},
	} {
		if offset != "" {
			in["offset"] = offset
		}
		check(t, s.granted(refundQueryPath, in), want)
		delete(in, "offset")
	}
	for offset, code := range map[string]string{"23": "REFUNDNOTEXIST", "24": "REFUNDNOTEXIST", "9999999999": "REFUNDNOTEXIST", "-1": "PARAM_ERROR"} {
		s.denied(refundQueryPath, code, with(in, "offset", offset))
	}
}

func TestRefundStates(t *testing.T) {
	s := newShop(t)
	s.pay("ORDER-0001", 1000, wepaytest.WithCoupons(
		wepaytest.Coupon{Type: wepaytest.Cash, ID: "10001", Fee: 66}, wepaytest.Coupon{Type: wepaytest.NoCash, ID: "10002", Fee: 34},
	))
	s.wallet(mchID, wepaytest.Funds{Available: 966})
	s.do(wepay.Refund, refundOf("ORDER-0001", "R-1", 1000, 333))
	s.wallet(mchID, wepaytest.Funds{Available: 966 - 322})
	in := map[string]string{"out_refund_no": "R-1"}
	check(t, s.granted(refundQueryPath, in), map[string]string{
		"refund_status_0": "PROCESSING", "refund_success_time_0": "", "refund_channel_0": "ORIGINAL",
		"refund_recv_accout_0": "招商银行信用卡0403", "refund_account_0": "REFUND_SOURCE_UNSETTLED_FUNDS",
		"settlement_total_fee": "966", "settlement_refund_fee_0": "322", "coupon_refund_fee_0": "32", "coupon_refund_count_0": "2",
		"coupon_type_0_0": "CASH", "coupon_refund_id_0_1": "10002", "coupon_refund_fee_0_0": "21", "coupon_refund_fee_0_1": "11",
	})
	s.clock.Advance(time.Hour)
	if _, err := s.wechat.FinishRefund(mchID, "R-1", wepaytest.RefundSuccess); err != nil {
		t.Fatal(err)
	}
	check(t, s.granted(refundQueryPath, in), map[string]string{
		"refund_status_0": "SUCCESS", "refund_success_time_0": "2026-01-01 21:00:00",
	})
}

// A refund that was closed gave the money back, and a new one can take its
// place; coupons are given back once all the same.
func TestRefundIsClosed(t *testing.T) {
	s := newShop(t)
	s.pay("ORDER-0001", 1000, wepaytest.WithCoupons(wepaytest.Coupon{Type: wepaytest.Cash, ID: "10001", Fee: 1}))
	s.do(wepay.Refund, refundOf("ORDER-0001", "R-1", 1000, 300))
	check(t, s.do(wepay.Refund, refundOf("ORDER-0001", "R-2", 1000, 700)), map[string]string{"coupon_refund_fee_0": "1"})
	if _, err := s.wechat.FinishRefund(mchID, "R-1", wepaytest.RefundClosed); err != nil {
		t.Fatal(err)
	}
	s.wallet(mchID, wepaytest.Funds{Available: 300})
	check(t, s.granted(refundQueryPath, map[string]string{"out_refund_no": "R-1"}), map[string]string{"refund_status_0": "REFUNDCLOSE"})
	s.do(wepay.Refund, refundOf("ORDER-0001", "R-1", 1000, 300)) // which refunds nothing any more
	s.wallet(mchID, wepaytest.Funds{Available: 300})
	check(t, s.do(wepay.Refund, refundOf("ORDER-0001", "R-3", 1000, 300)), map[string]string{"coupon_refund_fee_0": "0"})
	s.wallet(mchID, wepaytest.Funds{})
	if got, _ := s.wechat.Order(mchID, "ORDER-0001"); got.Refunded != 1000 || got.Refunds != 3 {
		t.Errorf("the books have %+v", got)
	}
}
