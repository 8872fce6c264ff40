package apiv3_test

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/windsome/caddy-wepay/wepay"
	"github.com/windsome/caddy-wepay/wepay/wepaytest"
)

const parts = `[{"out_trade_no":"PART-1","total_fee":"100","body":"袜子","attach":"a","profit_sharing":"Y"},
	{"out_trade_no":"PART-2","total_fee":250,"body":"鞋","attach":"b","goods_tag":"WXG","fee_type":"CNY"}]`

func combined(number, orders string) wepay.Fields {
	return fields("combine_out_trade_no", number, "sub_orders", orders, "openid", openID, "spbill_create_ip", "203.0.113.7")
}

func TestCombine(t *testing.T) {
	everyWay(t, func(t *testing.T, s *shop) {
		query := fields("combine_out_trade_no", "COMBINE-1")
		params := s.do(wepay.CombineOrder, with(combined("COMBINE-1", parts), "time_expire", "20260101130000", "device_info", "013"))
		check(t, params, "appId", appID, "signType", "RSA")
		got := s.do(wepay.QueryCombined, query)
		s.checkDone(got)
		check(t, got, "combine_out_trade_no", "COMBINE-1", "sub_order_count", "2", "trade_state_0", "NOTPAY", "trade_state_1", "NOTPAY",
			"total_fee_1", "250", "transaction_id_0", "", "device_info", "013")
		if _, err := s.wechat.PayCombined(mchID, "COMBINE-1", wepaytest.Held()); err != nil {
			t.Fatal(err)
		}
		got = s.do(wepay.QueryCombined, query)
		check(t, got, "openid", openID, "trade_state_0", "SUCCESS", "out_trade_no_1", "PART-2", "total_fee_0", "100", "cash_fee_0", "100",
			"mch_id_0", mchID, "sub_mch_id_1", s.merchant.SubMchID, "attach_1", "b", "time_end_0", "20260101120000", "fee_type_0", "CNY")
		if got.Get("transaction_id_0") == "" || got.Get("transaction_id_0") == got.Get("transaction_id_1") {
			t.Errorf("got %v", got)
		}
		s.refused(wepay.CloseCombined, with(query, "sub_orders", `[{"out_trade_no":"PART-1"},{"out_trade_no":"PART-2"}]`), "ORDERPAID", wepay.Done)

		other := `[{"out_trade_no":"PART-3","total_fee":1,"body":"袜子","attach":"a"},{"out_trade_no":"PART-4","total_fee":2,"body":"袜子","attach":"a"}]`
		s.do(wepay.CombineOrder, combined("COMBINE-2", other))
		s.checkDone(s.do(wepay.CloseCombined, fields("combine_out_trade_no", "COMBINE-2", "sub_orders", `[{"out_trade_no":"PART-3"},{"out_trade_no":"PART-4"}]`)))
		check(t, s.do(wepay.QueryCombined, fields("combine_out_trade_no", "COMBINE-2")), "trade_state_0", "CLOSED", "trade_state_1", "CLOSED")
		s.refused(wepay.QueryCombined, fields("combine_out_trade_no", "NOBODYS"), "ORDERNOTEXIST", wepay.Again)
	})
}

// An order of another merchant's may be among those that are paid together.
func TestCombineOfSeveral(t *testing.T) {
	for env, want := range map[wepay.Env]struct{ path, field string }{
		wepay.H5: {"jsapi", "paySign"}, wepay.APP: {"app", "sign"}, wepay.MWEB: {"h5", "mweb_url"}, wepay.NATIVE: {"native", "code_url"},
	} {
		t.Run(string(env), func(t *testing.T) {
			s := openShop(t, ways[0], func(m *wepay.Merchant) { m.Env = env })
			got := s.do(wepay.CombineOrder, combined("COMBINE-1", strings.Replace(parts, `{"out_trade_no":"PART-2"`, `{"mch_id":"1900000110","out_trade_no":"PART-2"`, 1)))
			if got.Get(want.field) == "" || len(s.wechat.Requests("/v3/combine-transactions/"+want.path)) != 1 {
				t.Errorf("got %v", got)
			}
			if env == wepay.APP {
				check(t, got, "partnerid", mchID, "appid", appID)
			}
			check(t, s.do(wepay.QueryCombined, fields("combine_out_trade_no", "COMBINE-1")), "mch_id_0", mchID, "mch_id_1", otherMch)
			s.checkDone(s.do(wepay.CloseCombined, fields("combine_out_trade_no", "COMBINE-1", "sub_orders", `[{"out_trade_no":"PART-1"},{"mch_id":"1900000110","out_trade_no":"PART-2"}]`)))
		})
	}
}

// A payer may be known by the appid that all orders name; then the page is that
// appid's.
func TestCombineBySubOpenID(t *testing.T) {
	const subApp, payer = "wxaabbccddeeff0011", "oSubUF8uMuAJO_M2pxb1Q9zNjWeS6o"
	s := openShop(t, ways[4])
	if err := s.wechat.AddMerchant(wepaytest.Merchant{
		MchID: mchID, AppIDs: []string{appID}, APIv3Key: apiV3Key, Mode: wepaytest.ByPublicKey,
		SubMerchants: []wepaytest.SubMerchant{{MchID: subMchID, AppIDs: []string{subApp}}},
	}); err != nil {
		t.Fatal(err)
	}
	orders := `[{"sub_appid":"` + subApp + `","out_trade_no":"PART-1","total_fee":1,"body":"袜子","attach":"a"},
		{"sub_appid":"` + subApp + `","out_trade_no":"PART-2","total_fee":2,"body":"鞋","attach":"b"}]`
	in := with(combined("COMBINE-1", orders), "openid", "", "sub_openid", payer)
	check(t, s.do(wepay.CombineOrder, in), "appId", subApp, "signType", "RSA")
	var sent struct {
		Payer map[string]string `json:"combine_payer_info"`
	}
	requests := s.wechat.Requests("/v3/combine-transactions/jsapi")
	if err := json.Unmarshal(requests[len(requests)-1].Body, &sent); err != nil || len(sent.Payer) != 1 || sent.Payer["sub_openid"] != payer {
		t.Errorf("sent %s, %v", requests[len(requests)-1].Body, err)
	}
	if _, err := s.wechat.PayCombined(mchID, "COMBINE-1", wepaytest.Held()); err != nil {
		t.Fatal(err)
	}
	check(t, s.do(wepay.QueryCombined, fields("combine_out_trade_no", "COMBINE-1")), "sub_openid_1", payer, "sub_appid_1", subApp, "trade_state_0", "SUCCESS")
	for name, orders := range map[string]string{
		"no sub_appid":      strings.ReplaceAll(orders, `"sub_appid":"`+subApp+`",`, ""),
		"one has none":      strings.Replace(orders, `"sub_appid":"`+subApp+`",`, "", 1),
		"another sub_appid": strings.Replace(orders, subApp, "wxaabbccddeeff0022", 1),
	} {
		_, err := s.client.Do(t.Context(), wepay.CombineOrder, with(in, "sub_orders", orders, "combine_out_trade_no", "COMBINE-2"))
		wantField(t, err, "sub_openid")
		if err == nil {
			t.Error(name)
		}
	}
	if n := len(s.wechat.Requests("/v3/combine-transactions/jsapi")); n != 1 {
		t.Errorf("%d orders were sent", n)
	}
}

func TestCombineIsRefused(t *testing.T) {
	s := openShop(t, ways[3], func(m *wepay.Merchant) { m.SubMchID, m.SubMchIDs = "", []string{"1900000209", "1900000210"} })
	good := `[{"sub_mch_id":"1900000209","out_trade_no":"PART-1","total_fee":1,"body":"袜子","attach":"a"}]`
	for name, test := range map[string]struct{ field, reason, orders string }{
		"no array":               {"sub_orders", "1 to 50", `{}`},
		"none":                   {"sub_orders", "1 to 50", `[]`},
		"too many":               {"sub_orders", "1 to 50", "[" + strings.Repeat(`{},`, 50) + `{}]`},
		"no number":              {"sub_orders", "order 1: out_trade_no", strings.Replace(good, "PART-1", "", 1)},
		"a number of five":       {"sub_orders", "order 1: out_trade_no is 5 bytes of UTF-8, the least is 6", strings.Replace(good, "PART-1", "PART1", 1)},
		"no amount":              {"sub_orders", "order 1: total_fee", strings.Replace(good, `"total_fee":1,`, "", 1)},
		"an odd amount":          {"sub_orders", "order 1: total_fee", strings.Replace(good, `:1,`, ":1.5,", 1)},
		"an object for a number": {"sub_orders", "order 1: total_fee", strings.Replace(good, `:1,`, ":{},", 1)},
		"an unknown field":       {"sub_orders", "order 1: price", strings.Replace(good, `"total_fee"`, `"price"`, 1)},
		"nobody's":               {"sub_orders", "order 1: sub_mch_id is required", strings.Replace(good, `"sub_mch_id":"1900000209",`, "", 1)},
		"another's":              {"sub_orders", "order 1: sub_mch_id is not among", strings.Replace(good, "1900000209", "1900000211", 1)},
		"an emoji":               {"sub_orders", "order 1: body", strings.Replace(good, "袜子", "🧦", 1)},
	} {
		_, err := s.client.Do(t.Context(), wepay.CombineOrder, combined("COMBINE-1", test.orders))
		wantField(t, err, test.field)
		if err == nil || !strings.Contains(err.Error(), test.reason) {
			t.Errorf("%s: got %v, want %q", name, err, test.reason)
		}
	}
	for field, in := range map[string]wepay.Fields{
		"openid":     with(combined("COMBINE-1", good), "openid", ""),
		"sub_mch_id": with(combined("COMBINE-1", good), "sub_mch_id", "1900000209"),
	} {
		_, err := s.client.Do(t.Context(), wepay.CombineOrder, in)
		wantField(t, err, field)
	}
	if n := len(s.wechat.Requests("")); n != 0 {
		t.Errorf("%d requests were sent", n)
	}
}
