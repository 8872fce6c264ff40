package wepaytest_test

import (
	"errors"
	"testing"

	"github.com/windsome/caddy-wepay/wepay/wepaytest"
)

// identified is an order that one person alone may pay.
func (s *v3shop) identified(number, name string) obj {
	return changed(s.jsapi(number, 100), "payer", obj{
		"openid": openID, "identity": obj{"type": "IDCARD", "number": s.encrypted("43102119910910512X"), "name": s.encrypted(name)},
	})
}

func TestV3Identity(t *testing.T) {
	s := newV3Shop(t, byPublicKey)
	s.wechat.NamePayee(openID, "张三")
	first := s.granted("POST", jsapiPath, s.identified("ORDER-0001", "张三"))
	if again := s.granted("POST", jsapiPath, s.identified("ORDER-0001", "张三")); again.at("prepay_id") != first.at("prepay_id") { // another text of the same name
		t.Errorf("the same order gives %s and %s", first.raw, again.raw)
	}
	s.denied(403, "OUT_TRADE_NO_USED", s.message("POST", jsapiPath, s.identified("ORDER-0001", "李四")))
	if _, err := s.wechat.Pay(mchID, "ORDER-0001"); err != nil {
		t.Error(err)
	}
	s.granted("POST", jsapiPath, s.identified("ORDER-0002", "李四"))
	if _, err := s.wechat.Pay(mchID, "ORDER-0002"); !errors.Is(err, wepaytest.ErrNotPayable) {
		t.Errorf("another person pays: %v", err)
	}
	right := s.identified("ORDER-0003", "张三")
	for path, value := range map[string]any{"payer.identity.name": "张三", "payer.identity.number": nil, "payer.identity.type": "PASSPORT", "payer.identity.sex": "f"} {
		s.denied(400, "PARAM_ERROR", s.message("POST", jsapiPath, changed(right, path, value)))
	}
	s.denied(400, "PARAM_ERROR", s.message("POST", "/v3/pay/transactions/native", right))
	unnamed := s.message("POST", jsapiPath, right)
	unnamed.header.Set("Wechatpay-Serial", "PUB_KEY_ID_0100000000000000000000000000000001")
	s.denied(400, "PARAM_ERROR", unnamed)
}

func TestV3IdentityOfCombined(t *testing.T) {
	s := newV3Shop(t, byPublicKey)
	if err := s.wechat.AddMerchant(wepaytest.Merchant{MchID: "1900000110", APIv3Key: apiV3Key}); err != nil {
		t.Fatal(err)
	}
	s.wechat.NamePayee(openID, "张三")
	body := changed(s.combine("COMBINE-1"), "combine_payer_info", s.identified("", "李四")["payer"])
	s.granted("POST", v3Combine+"/jsapi", body)
	if _, err := s.wechat.PayCombined(mchID, "COMBINE-1"); !errors.Is(err, wepaytest.ErrNotPayable) {
		t.Errorf("another person pays: %v", err)
	}
}
