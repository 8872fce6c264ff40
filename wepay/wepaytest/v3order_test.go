package wepaytest_test

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/windsome/caddy-wepay/wepay"
	"github.com/windsome/caddy-wepay/wepay/wepaytest"
)

func TestV3Products(t *testing.T) {
	s := newV3Shop(t)
	scene := obj{"payer_client_ip": "203.0.113.9", "h5_info": obj{"type": "Wap"}}
	for _, c := range []struct {
		product, reply, begins string
		body                   obj
	}{
		{"jsapi", "prepay_id", "wx2026", s.jsapi("ORDER-JSAPI", 100)},
		{"app", "prepay_id", "wx2026", changed(s.jsapi("ORDER-APP", 100), "payer", nil)},
		{"native", "code_url", "weixin://wxpay/bizpayurl?pr=", changed(s.jsapi("ORDER-NATIVE", 100), "payer", nil)},
		{"h5", "h5_url", "https://wx.tenpay.com/", changed(changed(s.jsapi("ORDER-H5", 100), "payer", nil), "scene_info", scene)},
	} {
		path := "/v3/pay/transactions/" + c.product
		first := s.granted("POST", path, c.body)
		if !strings.HasPrefix(first.at(c.reply), c.begins) || len(first.body) != 1 {
			t.Errorf("%s answers %s", c.product, first.raw)
		}
		if again := s.granted("POST", path, c.body); again.at(c.reply) != first.at(c.reply) {
			t.Errorf("%s answers %s, and again %s", c.product, first.raw, again.raw)
		}
	}
}

func TestV3OrderLife(t *testing.T) {
	s := newV3Shop(t)
	s.granted("POST", jsapiPath, s.jsapi("ORDER-0001", 1200))
	const query = "/v3/pay/transactions/out-trade-no/ORDER-0001?mchid=" + mchID
	open := s.granted("GET", query, nil)
	checkAt(t, open.body, map[string]string{
		"trade_state": "NOTPAY", "amount.total": "1200", "amount.payer_total": "", "transaction_id": "", "success_time": "", "mchid": mchID,
	})
	if _, err := s.wechat.Pay(mchID, "ORDER-0001"); err != nil {
		t.Fatal(err)
	}
	paid := s.granted("GET", query, nil)
	want := map[string]string{
		"trade_state": "SUCCESS", "trade_type": "JSAPI", "appid": appID, "mchid": mchID, "out_trade_no": "ORDER-0001",
		"bank_type": "CMB_CREDIT", "attach": "shelf <7>", "success_time": "2026-01-01T20:00:00+08:00", "payer.openid": openID,
		"amount.total": "1200", "amount.payer_total": "1200", "amount.currency": "CNY", "amount.payer_currency": "CNY",
	}
	checkAt(t, paid.body, want)
	checkAt(t, s.granted("GET", "/v3/pay/transactions/id/"+paid.at("transaction_id")+"?mchid="+mchID, nil).body, want)

	s.denied(400, "ORDERPAID", s.message("POST", jsapiPath, s.jsapi("ORDER-0001", 1200)))
	s.denied(400, "ORDERPAID", s.message("POST", "/v3/pay/transactions/out-trade-no/ORDER-0001/close", obj{"mchid": mchID}))
}

func TestV3Close(t *testing.T) {
	s := newV3Shop(t)
	s.granted("POST", jsapiPath, s.jsapi("ORDER-0001", 1200))
	closing := s.message("POST", "/v3/pay/transactions/out-trade-no/ORDER-0001/close", obj{"mchid": mchID})
	if a := s.send(closing); a.status != http.StatusNoContent || len(a.raw) > 0 || s.verify(a.header, nil) != nil {
		t.Errorf("closing answers %d %s", a.status, a.raw)
	}
	s.denied(400, "ORDER_CLOSED", closing)
	s.denied(403, "OUT_TRADE_NO_USED", s.message("POST", jsapiPath, s.jsapi("ORDER-0001", 1200)))
	s.denied(404, "ORDER_NOT_EXIST", s.message("POST", "/v3/pay/transactions/out-trade-no/NONE-0001/close", obj{"mchid": mchID}))
	s.denied(404, "ORDER_NOT_EXIST", s.message("GET", "/v3/pay/transactions/out-trade-no/NONE-0001?mchid="+mchID, nil))
}

// A number is used in both APIs alike, and its order is known to both.
func TestV3SharesNumbersWithV2(t *testing.T) {
	s := newV3Shop(t, withV2)
	old := newShopAt(t, s.wechat)
	if err := s.wechat.AddMerchant(wepaytest.Merchant{MchID: mchID, AppIDs: []string{appID}, Key: key, APIv3Key: apiV3Key}); err != nil {
		t.Fatal(err)
	}
	old.do(wepay.PlaceOrder, order("ORDER-V2", 100))
	s.denied(403, "OUT_TRADE_NO_USED", s.message("POST", jsapiPath, s.jsapi("ORDER-V2", 100)))
	checkAt(t, s.granted("GET", "/v3/pay/transactions/out-trade-no/ORDER-V2?mchid="+mchID, nil).body, map[string]string{"trade_state": "NOTPAY", "amount.total": "100"})

	s.granted("POST", jsapiPath, s.jsapi("ORDER-V3", 100))
	if got := old.refused(wepay.PlaceOrder, order("ORDER-V3", 100)); got.Code != "OUT_TRADE_NO_USED" {
		t.Errorf("API v2 says %v", got)
	}
	if _, err := s.wechat.Pay(mchID, "ORDER-V3"); err != nil {
		t.Fatal(err)
	}
	check(t, old.do(wepay.QueryOrder, query("ORDER-V3")), map[string]string{"trade_state": "SUCCESS", "total_fee": "100", "trade_type": "JSAPI"})
}

func TestV3Expiry(t *testing.T) {
	s := newV3Shop(t)
	for _, c := range []struct {
		number, expire string
		open, closed   time.Duration // since the order was placed
	}{
		{"SOON-0001", "2026-01-01T20:00:01+08:00", 59 * time.Second, time.Minute},
		{"GIVEN-001", "2026-01-01T12:30:00Z", 29 * time.Minute, 30 * time.Minute},
		{"WEEK-0001", "", 7*24*time.Hour - time.Second, 7 * 24 * time.Hour},
		{"LATE-0001", "2027-01-01T00:00:00+08:00", 90*24*time.Hour - time.Second, 90 * 24 * time.Hour},
	} {
		body := s.jsapi(c.number, 100)
		if c.expire != "" {
			body["time_expire"] = c.expire
		}
		s.granted("POST", jsapiPath, body)
	}
	state := func(number string) string {
		o, _ := s.wechat.Order(mchID, number)
		return o.TradeState
	}
	for _, step := range []struct {
		number string
		at     time.Duration
		want   string
	}{
		{"SOON-0001", 59 * time.Second, "NOTPAY"},
		{"SOON-0001", time.Minute, "CLOSED"},
		{"GIVEN-001", 29 * time.Minute, "NOTPAY"},
		{"GIVEN-001", 30 * time.Minute, "CLOSED"},
		{"WEEK-0001", 7*24*time.Hour - time.Second, "NOTPAY"},
		{"WEEK-0001", 7 * 24 * time.Hour, "CLOSED"},
		{"LATE-0001", 90*24*time.Hour - time.Second, "NOTPAY"},
		{"LATE-0001", 90 * 24 * time.Hour, "CLOSED"},
	} {
		s.clock.Advance(start.Add(step.at).Sub(s.clock.Now()))
		if got := state(step.number); got != step.want {
			t.Errorf("%s after %s is %s, want %s", step.number, step.at, got, step.want)
		}
	}
}

func TestV3Partner(t *testing.T) {
	s := newV3Shop(t, partnerOf)
	body := changed(changed(s.jsapi("ORDER-0001", 100), "appid", nil), "mchid", nil)
	for name, value := range map[string]any{
		"sp_appid": appID, "sp_mchid": mchID, "sub_mchid": "1900000209", "sub_appid": "wxaabbccddeeff0011",
		"payer": obj{"sub_openid": "orM1B5QURRH3PAqNItiFpY-HAAAA"},
	} {
		body = changed(body, name, value)
	}
	const path = "/v3/pay/partner/transactions/jsapi"
	s.granted("POST", path, body)
	d, err := s.wechat.Pay(mchID, "ORDER-0001")
	if err != nil {
		t.Fatal(err)
	}
	_, resource := s.decrypted(d)
	want := map[string]string{
		"sp_appid": appID, "sp_mchid": mchID, "sub_appid": "wxaabbccddeeff0011", "sub_mchid": "1900000209",
		"payer.sub_openid": "orM1B5QURRH3PAqNItiFpY-HAAAA", "payer.sp_openid": openID, "appid": "", "mchid": "",
	}
	checkAt(t, resource, want)
	const query = "/v3/pay/partner/transactions/out-trade-no/ORDER-0001?sp_mchid=" + mchID
	checkAt(t, s.granted("GET", query+"&sub_mchid=1900000209", nil).body, want)

	s.denied(403, "NO_AUTH", s.message("GET", query+"&sub_mchid=1900000210", nil))
	s.denied(403, "NO_AUTH", s.message("POST", jsapiPath, s.jsapi("ORDER-0002", 100)))
	s.denied(400, "PARAM_ERROR", s.message("POST", path, changed(body, "sub_appid", nil)))
	s.denied(400, "PARAM_ERROR", s.message("POST", path, changed(body, "payer", obj{})))
	s.denied(400, "APPID_MCHID_NOT_MATCH", s.message("POST", path, changed(body, "sub_appid", appID)))
}

func TestV3CodePay(t *testing.T) {
	s := newV3Shop(t)
	const path = "/v3/pay/transactions/codepay"
	body := func(number, code string) obj {
		return changed(changed(changed(s.jsapi(number, 100), "notify_url", nil), "payer", obj{"auth_code": code}),
			"scene_info", obj{"device_ip": "203.0.113.9", "store_info": obj{"id": "0001"}})
	}
	paid := s.granted("POST", path, body("CODE-0001", s.wechat.ShowCode(openID)))
	checkAt(t, paid.body, map[string]string{"trade_state": "SUCCESS", "trade_type": "MICROPAY", "payer.openid": openID})

	s.denied(202, "USERPAYING", s.message("POST", path, body("CODE-0002", s.wechat.ShowCode(openID, wepaytest.AsksPassword()))))
	const query = "/v3/pay/transactions/out-trade-no/CODE-0002?mchid=" + mchID
	checkAt(t, s.granted("GET", query, nil).body, map[string]string{"trade_state": "USERPAYING"})
	const reverse = "/v3/pay/transactions/out-trade-no/CODE-0002/reverse"
	checkAt(t, s.granted("POST", reverse, obj{"appid": appID, "mchid": mchID}).body, map[string]string{"out_trade_no": "CODE-0002"})
	checkAt(t, s.granted("GET", query, nil).body, map[string]string{"trade_state": "REVOKED"})
	s.denied(400, "AUTH_CODE_INVALID", s.message("POST", path, body("CODE-0003", "9")))
}
