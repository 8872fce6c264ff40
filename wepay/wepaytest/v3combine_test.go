package wepaytest_test

import (
	"errors"
	"net/http"
	"testing"

	"github.com/windsome/caddy-wepay/wepay/wepaytest"
)

const v3Combine = "/v3/combine-transactions"

func (s *v3shop) combine(number string) obj {
	part := func(of, number string, total int) obj {
		return obj{
			"mchid": of, "out_trade_no": number, "attach": "shelf 7", "description": "袜子",
			"amount": obj{"total_amount": total, "currency": "CNY"},
		}
	}
	return obj{
		"combine_appid": appID, "combine_mchid": mchID, "combine_out_trade_no": number, "notify_url": s.notified.URL,
		"combine_payer_info": obj{"openid": openID},
		"sub_orders":         []obj{part(mchID, number+"-1", 100), part("1900000110", number+"-2", 250)},
	}
}

func combiner(t *testing.T, changes ...func(*wepaytest.Merchant)) *v3shop {
	t.Helper()
	s := newV3Shop(t, changes...)
	if err := s.wechat.AddMerchant(wepaytest.Merchant{MchID: "1900000110", APIv3Key: apiV3Key}); err != nil {
		t.Fatal(err)
	}
	return s
}

func TestV3Combine(t *testing.T) {
	s := combiner(t)
	body := s.combine("COMBINE-1")
	first := s.granted("POST", v3Combine+"/jsapi", body)
	if again := s.granted("POST", v3Combine+"/jsapi", body); first.at("prepay_id") == "" || again.at("prepay_id") != first.at("prepay_id") {
		t.Errorf("the same order gives %s and %s", first.raw, again.raw)
	}
	if _, err := s.wechat.Pay(mchID, "COMBINE-1-1"); !errors.Is(err, wepaytest.ErrCombined) {
		t.Errorf("paying a part gives %v", err)
	}
	d, err := s.wechat.PayCombined(mchID, "COMBINE-1")
	if err != nil {
		t.Fatal(err)
	}
	envelope, resource := s.decrypted(d)
	checkAt(t, envelope, map[string]string{"event_type": "TRANSACTION.SUCCESS", "resource.original_type": "transaction"})
	want := map[string]string{
		"combine_appid": appID, "combine_mchid": mchID, "combine_out_trade_no": "COMBINE-1", "combine_payer_info.openid": openID,
		"sub_orders.0.mchid": mchID, "sub_orders.0.amount.total_amount": "100", "sub_orders.0.amount.payer_amount": "100",
		"sub_orders.1.mchid": "1900000110", "sub_orders.1.trade_state": "SUCCESS", "sub_orders.1.amount.total_amount": "250",
		"sub_orders.1.success_time": "2026-01-01T20:00:00+08:00", "trade_state": "",
	}
	checkAt(t, resource, want)
	checkAt(t, s.granted("GET", v3Combine+"/out-trade-no/COMBINE-1", nil).body, want)
	s.wallet(mchID, wepaytest.Funds{Available: 100})
	s.wallet("1900000110", wepaytest.Funds{Available: 250})
	s.granted("POST", v3RefundPath, s.refund("COMBINE-1-1", "R-1", 100, 40))
	if o, _ := s.wechat.Order("1900000110", "COMBINE-1-2"); o.TradeState != "SUCCESS" {
		t.Errorf("the other part is %s", o.TradeState)
	}
	if _, err := s.wechat.PayCombined(mchID, "COMBINE-1"); !errors.Is(err, wepaytest.ErrNotPayable) {
		t.Errorf("paying twice gives %v", err)
	}
	s.denied(400, "ORDERPAID", s.message("POST", v3Combine+"/jsapi", body))
}

func TestV3CombineClose(t *testing.T) {
	s := combiner(t)
	s.granted("POST", v3Combine+"/jsapi", s.combine("COMBINE-1"))
	path := v3Combine + "/out-trade-no/COMBINE-1/close"
	parts := []obj{{"mchid": mchID, "out_trade_no": "COMBINE-1-1"}, {"mchid": "1900000110", "out_trade_no": "COMBINE-1-2"}}
	s.denied(400, "PARAM_ERROR", s.message("POST", path, obj{"combine_appid": appID, "sub_orders": parts[:1]}))
	closing := s.message("POST", path, obj{"combine_appid": appID, "sub_orders": parts})
	if a := s.send(closing); a.status != http.StatusNoContent || s.verify(a.header, nil) != nil {
		t.Errorf("closing answers %d %s", a.status, a.raw)
	}
	s.denied(400, "ORDER_CLOSED", closing)
	if o, _ := s.wechat.Order("1900000110", "COMBINE-1-2"); o.TradeState != "CLOSED" {
		t.Errorf("the other part is %s", o.TradeState)
	}
}

// A partner's payer may be known by the appid that the orders name.
func TestV3CombineBySubOpenID(t *testing.T) {
	s := newV3Shop(t, partnerOf)
	body := s.combine("COMBINE-1")
	part := changed(body["sub_orders"].([]obj)[0], "sub_mchid", "1900000209")
	body = changed(body, "combine_payer_info", obj{"sub_openid": "o-sub"})
	s.denied(400, "PARAM_ERROR", s.message("POST", v3Combine+"/jsapi", changed(body, "sub_orders", []obj{part})))
	s.denied(400, "APPID_MCHID_NOT_MATCH", s.message("POST", v3Combine+"/jsapi", changed(body, "sub_orders", []obj{changed(part, "sub_appid", "wxother")})))
	s.granted("POST", v3Combine+"/jsapi", changed(body, "sub_orders", []obj{changed(part, "sub_appid", "wxaabbccddeeff0011")}))
	if _, err := s.wechat.PayCombined(mchID, "COMBINE-1"); err != nil {
		t.Fatal(err)
	}
	checkAt(t, s.granted("GET", v3Combine+"/out-trade-no/COMBINE-1", nil).body, map[string]string{
		"sub_orders.0.sub_appid": "wxaabbccddeeff0011", "sub_orders.0.sub_openid": "o-sub", "sub_orders.0.trade_state": "SUCCESS",
	})
}

// Every part is placed or none.
func TestV3CombineRefuses(t *testing.T) {
	s := combiner(t)
	s.granted("POST", jsapiPath, s.jsapi("COMBINE-1-1", 100))
	right := s.combine("COMBINE-2")
	other := s.combine("COMBINE-2")["sub_orders"].([]obj)[1]
	for name, c := range map[string]struct {
		status int
		code   string
		body   obj
	}{
		"a number used":       {403, "OUT_TRADE_NO_USED", s.combine("COMBINE-1")},
		"a part twice":        {403, "OUT_TRADE_NO_USED", changed(right, "sub_orders", []obj{other, other})},
		"an unknown merchant": {400, "MCH_NOT_EXISTS", changed(right, "sub_orders", []obj{other, changed(other, "mchid", "1900000999")})},
		"another appid":       {400, "APPID_MCHID_NOT_MATCH", changed(right, "combine_appid", "wxother")},
		"another merchant":    {400, "PARAM_ERROR", changed(right, "combine_mchid", "1900000110")},
		"a foreign sub":       {403, "NO_AUTH", changed(right, "sub_orders", []obj{changed(other, "sub_mchid", "1900000209")})},
		"no parts":            {400, "PARAM_ERROR", changed(right, "sub_orders", []obj{})},
		"no payer":            {400, "PARAM_ERROR", changed(right, "combine_payer_info", nil)},
		"nobody":              {400, "PARAM_ERROR", changed(right, "combine_payer_info", obj{})},
	} {
		t.Run(name, func(t *testing.T) {
			shop := *s
			shop.t = t
			shop.denied(c.status, c.code, shop.message("POST", v3Combine+"/jsapi", c.body))
			for _, number := range []string{"COMBINE-1-2", "COMBINE-2-2"} {
				if _, found := s.wechat.Order("1900000110", number); found {
					t.Errorf("%s was placed", number)
				}
			}
		})
	}
	s.denied(404, "ORDER_NOT_EXIST", s.message("GET", v3Combine+"/out-trade-no/COMBINE-9", nil))
}
