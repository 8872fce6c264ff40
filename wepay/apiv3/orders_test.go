package apiv3_test

import (
	"encoding/json"
	"testing"

	"github.com/windsome/caddy-wepay/wepay"
	"github.com/windsome/caddy-wepay/wepay/wepaytest"
)

func TestOrder(t *testing.T) {
	everyWay(t, func(t *testing.T, s *shop) {
		in := order("ORDER-0001", "1200")
		in.Set("attach", "a=1&b=<2>")
		in.Set("device_info", "013467007045764")
		query := fields("out_trade_no", "ORDER-0001")
		params := s.do(wepay.PlaceOrder, in)
		check(t, params, "appId", appID, "signType", "RSA", "timeStamp", "1767240000", "timestamp", "1767240000")
		got := s.do(wepay.QueryOrder, query)
		s.checkDone(got)
		check(t, got, "trade_state", "NOTPAY", "out_trade_no", "ORDER-0001", "total_fee", "1200", "device_info", "013467007045764",
			"transaction_id", "", "cash_fee", "", "sub_mch_id", s.merchant.SubMchID)

		id := s.pay(in, wepaytest.WithCoupons(wepaytest.Coupon{ID: "1", Fee: 100, Type: wepaytest.Cash}, wepaytest.Coupon{ID: "2", Fee: 50, Type: wepaytest.NoCash}))
		for _, by := range []wepay.Fields{query, fields("transaction_id", id), fields("transaction_id", id, "out_trade_no", "ANOTHER")} {
			got := s.do(wepay.QueryOrder, by)
			s.checkDone(got)
			check(t, got, "trade_state", "SUCCESS", "transaction_id", id, "attach", "a=1&b=<2>", "time_end", "20260101120000",
				"total_fee", "1200", "cash_fee", "1050", "coupon_fee", "150", "coupon_count", "2", "coupon_type_1", "NO_CASH",
				"coupon_fee_0", "100", "settlement_total_fee", "1150", "openid", openID, "trade_type", "JSAPI")
		}
		s.refused(wepay.PlaceOrder, in, "ORDERPAID", wepay.Done)
		s.refused(wepay.CloseOrder, query, "ORDERPAID", wepay.Done)

		s.do(wepay.PlaceOrder, order("ORDER-0002", "1"))
		s.checkDone(s.do(wepay.CloseOrder, fields("out_trade_no", "ORDER-0002")))
		check(t, s.do(wepay.QueryOrder, fields("out_trade_no", "ORDER-0002")), "trade_state", "CLOSED")
		s.refused(wepay.CloseOrder, fields("out_trade_no", "ORDER-0002"), "ORDERCLOSED", wepay.Done)
		s.refused(wepay.PlaceOrder, order("ORDER-0002", "1"), "OUT_TRADE_NO_USED", wepay.Query)
		s.refused(wepay.QueryOrder, fields("out_trade_no", "NOBODYS"), "ORDERNOTEXIST", wepay.Again)
	})
}

// Each environment has its product, and its client its own parameters.
func TestOrderEnvironments(t *testing.T) {
	for env, want := range map[wepay.Env]struct{ path, field string }{
		wepay.H5:     {"jsapi", "paySign"},
		wepay.WXAPP:  {"jsapi", "paySign"},
		wepay.APP:    {"app", "sign"},
		wepay.MWEB:   {"h5", "mweb_url"},
		wepay.NATIVE: {"native", "code_url"},
	} {
		for _, w := range []way{ways[0], ways[4]} {
			t.Run(string(env)+" "+w.name, func(t *testing.T) {
				s := openShop(t, w, func(m *wepay.Merchant) { m.Env = env })
				got := s.do(wepay.PlaceOrder, order("ORDER-0001", "1200"))
				root := "/v3/pay/transactions/"
				if w.partner {
					root = "/v3/pay/partner/transactions/"
				}
				if len(s.wechat.Requests(root+want.path)) != 1 || got.Get(want.field) == "" {
					t.Errorf("got %v, and %d requests", got, len(s.wechat.Requests(root+want.path)))
				}
			})
		}
	}
}

// What API v2 says of an order API v3 has in other places.
func TestOrderBody(t *testing.T) {
	s := openShop(t, ways[2], func(m *wepay.Merchant) { m.Env = wepay.MWEB })
	in := order("ORDER-0001", "1200")
	for name, value := range map[string]string{
		"time_start": "20260101110000", "time_expire": "20260101130000", "goods_tag": "WXG", "receipt": "Y", "limit_pay": "no_credit",
		"profit_sharing": "Y", "fee_type": "CNY", "version": "1.0", "product_id": "12",
		"detail":     `{"cost_price":608800,"receipt_id":"wx123","goods_detail":[{"goods_id":"g1","wxpay_goods_id":"1001","goods_name":"iPhone6s 16G","goods_num":1,"quantity":1,"price":528800},{"goods_id":"g2","goods_num":2,"unit_price":1}]}`,
		"scene_info": `{"h5_info":{"type":"IOS","app_name":"王者荣耀","bundle_id":"com.tencent.wzryIOS"},"store_info":{"id":"SZTX001","name":"腾大餐厅"}}`,
	} {
		in.Set(name, value)
	}
	s.do(wepay.PlaceOrder, in)
	checkSent(t, s, "/v3/pay/transactions/h5", `{
		"appid":"wx00112233445566aa","mchid":"1900000109","description":"袜子","out_trade_no":"ORDER-0001",
		"notify_url":"https://pay.example.cn/apis/v1/wepay/pay_notify","time_expire":"2026-01-01T13:00:00+08:00","goods_tag":"WXG",
		"support_fapiao":true,"limit_pay":["no_credit"],"amount":{"total":1200,"currency":"CNY"},"settle_info":{"profit_sharing":true},
		"detail":{"cost_price":608800,"invoice_id":"wx123","goods_detail":[
			{"merchant_goods_id":"g1","wechatpay_goods_id":"1001","goods_name":"iPhone6s 16G","quantity":1,"unit_price":528800},
			{"merchant_goods_id":"g2","quantity":2,"unit_price":1}]},
		"scene_info":{"payer_client_ip":"203.0.113.7","store_info":{"id":"SZTX001","name":"腾大餐厅"},
			"h5_info":{"type":"iOS","app_name":"王者荣耀","bundle_id":"com.tencent.wzryIOS"}}}`)
	for _, test := range []struct{ field, value string }{
		{"body", "🧦"},
		{"attach", "𝄞"},
		{"detail", `{"goods_detail":[{"goods_name":"🧦"}]}`},
		{"detail", `{"goods_detail":[{"goods_num":1,"quantity":2}]}`},
		{"detail", `{"goods_detail":[{"goods_num":"1"}]}`},
		{"detail", `{"goods_detail":[{"quantity":null}]}`},
		{"detail", `{"goods_detail":[{"quantity":1,"price":"528800"}]}`},
		{"detail", `{"cost_price":"1"}`},
		{"detail", `{"goods_detail":[{"price":1,"unit_price":2}]}`},
		{"detail", `{"goods_detail":[{"price":{},"unit_price":{"a":1}}]}`},
		{"scene_info", `{"store_info":null}`},
		{"total_fee", "1.5"},
		{"openid", ""},
		{"notify_url", "https://example.com"},
	} {
		field := test.field
		in := order("ORDER-0002", "1200")
		in.Set(field, test.value)
		if field == "openid" {
			s.merchant.Env = wepay.H5
		}
		_, err := s.client.Do(t.Context(), wepay.PlaceOrder, in)
		s.merchant.Env = wepay.MWEB
		wantField(t, err, field)
	}
	if n := len(s.wechat.Requests("/v3/pay/transactions/h5")); n != 1 {
		t.Errorf("%d requests were sent", n)
	}
}

// checkSent compares the body of the last request to a path.
func checkSent(t *testing.T, s *shop, path, want string) {
	t.Helper()
	requests := s.wechat.Requests(path)
	if len(requests) == 0 {
		t.Fatalf("nothing was sent to %s", path)
	}
	if got, want := canonical(t, requests[len(requests)-1].Body), canonical(t, []byte(want)); got != want {
		t.Errorf("sent %s\nwant %s", got, want)
	}
}

// canonical writes JSON with its members in order.
func canonical(t *testing.T, text []byte) string {
	t.Helper()
	var value any
	if err := json.Unmarshal(text, &value); err != nil {
		t.Fatalf("%v: %s", err, text)
	}
	sorted, _ := json.Marshal(value) // what was read can be written
	return string(sorted)
}
