package apiv3_test

import (
	"testing"

	"github.com/windsome/caddy-wepay/wepay"
	"github.com/windsome/caddy-wepay/wepay/apiv2"
	"github.com/windsome/caddy-wepay/wepay/wepaytest"
)

func refund(number, of, total, fee string) wepay.Fields {
	return fields("out_refund_no", number, "out_trade_no", of, "total_fee", total, "refund_fee", fee)
}

func TestRefund(t *testing.T) {
	everyWay(t, func(t *testing.T, s *shop) {
		id := s.pay(order("ORDER-0001", "1200"))
		in := refund("R*1@|-_", "ORDER-0001", "1200", "200")
		in.Set("refund_desc", "不合适")
		in.Set("notify_url", "https://pay.example.cn/apis/v1/wepay/refund_notify")
		got := s.do(wepay.Refund, in)
		s.checkDone(got)
		check(t, got, "out_refund_no", "R*1@|-_", "transaction_id", id, "out_trade_no", "ORDER-0001", "refund_fee", "200", "total_fee", "1200",
			"cash_fee", "1200", "cash_refund_fee", "200", "coupon_refund_fee", "0", "coupon_refund_count", "0", "settlement_refund_fee", "",
			"sub_mch_id", s.merchant.SubMchID)
		if again := s.do(wepay.Refund, in); again.Get("refund_id") != got.Get("refund_id") {
			t.Errorf("the same number gives %v and %v", got, again)
		}
		query := fields("out_refund_no", "R*1@|-_", "offset", "0")
		state := s.do(wepay.QueryRefund, query)
		s.checkDone(state)
		check(t, state, "refund_count", "1", "refund_status_0", "PROCESSING", "refund_id_0", got.Get("refund_id"), "refund_fee_0", "200",
			"out_refund_no_0", "R*1@|-_", "refund_channel_0", "ORIGINAL", "refund_account_0", "REFUND_SOURCE_UNSETTLED_FUNDS",
			"refund_recv_accout_0", "招商银行信用卡0403", "total_fee", "1200", "cash_fee", "1200", "refund_success_time_0", "")
		for _, status := range []string{wepaytest.RefundChanged, wepaytest.RefundSuccess} {
			if _, err := s.wechat.FinishRefund(mchID, "R*1@|-_", status, wepaytest.Held()); err != nil {
				t.Fatal(err)
			}
			check(t, s.do(wepay.QueryRefund, query), "refund_status_0", status)
		}
		check(t, s.do(wepay.QueryRefund, query), "refund_success_time_0", "2026-01-01 12:00:00")
		s.refused(wepay.Refund, refund("R2", "NOBODYS", "1200", "200"), "ORDERNOTEXIST", wepay.Fix)
		s.refused(wepay.QueryRefund, fields("out_refund_no", "NOBODYS"), "REFUNDNOTEXIST", wepay.Again)
	})
}

// A refund of coupons says what of them goes back, and to whom it never belonged.
func TestRefundCoupons(t *testing.T) {
	s := openShop(t, ways[0])
	s.pay(order("ORDER-0001", "1000"),
		wepaytest.WithCoupons(wepaytest.Coupon{ID: "1", Fee: 100, Type: wepaytest.Cash}, wepaytest.Coupon{ID: "2", Fee: 200, Type: wepaytest.NoCash}))
	got := s.do(wepay.Refund, refund("R1", "ORDER-0001", "1000", "500"))
	check(t, got, "coupon_refund_count", "2", "coupon_refund_fee", "150", "coupon_refund_fee_0", "50", "coupon_type_0", "CASH",
		"coupon_refund_id_1", "2", "coupon_type_1", "NO_CASH", "settlement_total_fee", "800", "settlement_refund_fee", "400", "cash_refund_fee", "350")
	state := s.do(wepay.QueryRefund, fields("out_refund_no", "R1"))
	check(t, state, "coupon_refund_count_0", "2", "coupon_refund_fee_0", "150", "coupon_refund_fee_0_1", "100", "coupon_type_0_0", "CASH",
		"settlement_total_fee", "800", "settlement_refund_fee_0", "400")
	if refunds := state.Numbered(); len(refunds) != 1 || refunds[0].Get("coupon_refund_fee_1") != "100" {
		t.Errorf("as a list: %v", refunds)
	}
}

func TestRefundBody(t *testing.T) {
	s := openShop(t, ways[4])
	s.wechat.Misbehave("", wepaytest.Fault{Kind: wepaytest.Refused, Standing: true, NoEffect: true})
	in := refund("R1", "ORDER-0001", "1200", "200")
	in.Set("transaction_id", "4200002001202311156789012345")
	in.Set("op_user_id", mchID)
	in.Set("refund_fee_type", "CNY")
	in.Set("refund_account", "REFUND_SOURCE_RECHARGE_FUNDS")
	in.Set("detail", `{"goods_detail":[{"goods_id":"g1","wxpay_goods_id":"1001","goods_name":"袜子","price":200,"refund_amount":200,"refund_quantity":1}]}`)
	s.refused(wepay.Refund, in, "SYSTEMERROR", wepay.Again)
	checkSent(t, s, "/v3/refund/domestic/refunds", `{"sub_mchid":"1900000209","out_refund_no":"R1","transaction_id":"4200002001202311156789012345",
		"funds_account":"AVAILABLE","amount":{"refund":200,"total":1200,"currency":"CNY"},
		"goods_detail":[{"merchant_goods_id":"g1","wechatpay_goods_id":"1001","goods_name":"袜子","unit_price":200,"refund_amount":200,"refund_quantity":1}]}`)
	in.Set("refund_account", "REFUND_SOURCE_UNSETTLED_FUNDS")
	in.Set("detail", "a text for people")
	s.refused(wepay.Refund, in, "SYSTEMERROR", wepay.Again)
	checkSent(t, s, "/v3/refund/domestic/refunds", `{"sub_mchid":"1900000209","out_refund_no":"R1","transaction_id":"4200002001202311156789012345",
		"amount":{"refund":200,"total":1200,"currency":"CNY"}}`)

	for field, in := range map[string]wepay.Fields{
		"refund_fee":    refund("R1", "ORDER-0001", "1200", "1201"),
		"out_trade_no":  fields("out_refund_no", "R1", "total_fee", "1", "refund_fee", "1"),
		"out_refund_no": refund("", "ORDER-0001", "1200", "1200"),
		"refund_desc":   with(refund("R1", "ORDER-0001", "1200", "1"), "refund_desc", "🧦"),
	} {
		_, err := s.client.Do(t.Context(), wepay.Refund, in)
		wantField(t, err, field)
	}
	for field, in := range map[string]wepay.Fields{
		"out_refund_no": fields("transaction_id", "4200002001202311156789012345", "refund_id", "503", "out_trade_no", "ORDER-0001"),
		"offset":        fields("out_refund_no", "R1", "offset", "1"),
	} {
		_, err := s.client.Do(t.Context(), wepay.QueryRefund, in)
		wantField(t, err, field)
	}
	if n := len(s.wechat.Requests("/v3/refund/domestic/refunds")); n != 2 {
		t.Errorf("%d requests were sent, want 2", n)
	}
}

// An order that was placed by API v2 is given back by API v3, and the query of
// either tells it.
func TestRefundOfV2Order(t *testing.T) {
	s := openShop(t, ways[0], func(m *wepay.Merchant) { m.PartnerKey = "Kd7q2Vn0sX9tB4mHc6Zr1Lw8Fy3Pj5Ga" })
	transport := wepay.NewTransport(s.merchant)
	transport.TLSClientConfig.RootCAs = s.wechat.RootCAs()
	t.Cleanup(transport.CloseIdleConnections)
	v2 := apiv2.NewClient(s.merchant, wepay.ClientOptions{Transport: transport, Now: s.clock.Now})
	if _, err := v2.Do(t.Context(), wepay.PlaceOrder, order("ORDER-0001", "1200")); err != nil {
		t.Fatal(err)
	}
	if _, err := s.wechat.Pay(mchID, "ORDER-0001", wepaytest.Held()); err != nil {
		t.Fatal(err)
	}
	got := s.do(wepay.Refund, refund("R1", "ORDER-0001", "1200", "200"))
	state, err := v2.Do(t.Context(), wepay.QueryRefund, fields("out_refund_no", "R1"))
	if err != nil || state.Get("refund_id_0") != got.Get("refund_id") {
		t.Errorf("API v2 tells %v, %v, want %s", state, err, got.Get("refund_id"))
	}
	check(t, s.do(wepay.QueryOrder, fields("out_trade_no", "ORDER-0001")), "trade_state", "REFUND")
	for _, name := range []string{"refund_id_0", "refund_fee_0", "refund_status_0", "refund_channel_0", "refund_account_0", "total_fee", "cash_fee", "refund_count"} {
		if ours := s.do(wepay.QueryRefund, fields("out_refund_no", "R1")); ours.Get(name) != state.Get(name) {
			t.Errorf("%s is %q, by API v2 %q", name, ours.Get(name), state.Get(name))
		}
	}
}
