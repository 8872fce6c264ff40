package wepaytest_test

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/windsome/caddy-wepay/wepay"
	"github.com/windsome/caddy-wepay/wepay/apiv2"
	"github.com/windsome/caddy-wepay/wepay/wepaytest"
)

const sandboxQueryPath = "/xdc/apiv2sandbox/pay/orderquery"

func TestSandbox(t *testing.T) {
	s := newShop(t, func(m *wepay.Merchant) {
		m.Sandbox, m.Certificate = true, nil
		m.SignType = wepay.HMACSHA256 // which the sandbox does not take
	})
	s.do(wepay.PlaceOrder, order("ORDER-0001", 101))
	if _, found := s.wechat.Order(mchID, "ORDER-0001"); found {
		t.Error("the sandbox's order is a real one")
	}
	if _, err := s.wechat.Pay(mchID, "ORDER-0001"); !errors.Is(err, wepaytest.ErrNoOrder) {
		t.Errorf("paying it for real gives %v", err)
	}
	d, err := s.wechat.Pay(mchID, "ORDER-0001", wepaytest.InSandbox())
	if err != nil || !d.Taken() {
		t.Fatalf("error %v, attempts %+v", err, d)
	}
	check(t, s.verified(d), map[string]string{"out_trade_no": "ORDER-0001", "total_fee": "101"})
	check(t, s.do(wepay.QueryOrder, query("ORDER-0001")), map[string]string{"trade_state": "SUCCESS"})
	refund := refundOf("ORDER-0001", "R-1", 101, 101)
	refund.Set("notify_url", s.notified.URL)
	check(t, s.do(wepay.Refund, refund), map[string]string{"refund_fee": "101"})
	if d, err = s.wechat.FinishRefund(mchID, "R-1", wepaytest.RefundSuccess, wepaytest.InSandbox()); err != nil {
		t.Fatal(err)
	}
	check(t, s.verified(d), map[string]string{"out_refund_no": "R-1", "refund_fee": "101", "refund_status": "SUCCESS"})
	if got := s.wechat.Requests("/xdc/apiv2sandbox/secapi/pay/refund"); len(got) != 1 || got[0].Certificate != nil {
		t.Errorf("refunds in the sandbox: %+v", got)
	}
}

func TestSandboxKey(t *testing.T) {
	s := newShop(t)
	fetch := func() string {
		request := sealed(map[string]string{}, wepay.MD5)
		request.Delete("appid")
		request.Set("sign", apiv2.Sign(request, wepay.MD5, key))
		_, reply, body := s.raw(keyPath, request)
		check(t, reply, map[string]string{"return_code": "SUCCESS", "mch_id": mchID, "result_code": "", "sign": ""})
		if len(reply.Get("sandbox_signkey")) != 32 {
			t.Errorf("the reply is %s", body)
		}
		return reply.Get("sandbox_signkey")
	}
	refusedBy := func(key string) bool {
		request := sealed(map[string]string{"out_trade_no": "ORDER-0001"}, wepay.MD5)
		request.Set("sign", apiv2.Sign(request, wepay.MD5, key))
		_, reply, _ := s.raw(sandboxQueryPath, request)
		return reply.Get("return_msg") == "沙箱验证签名失败"
	}
	if !refusedBy("") {
		t.Error("without a key anybody is let in")
	}
	first := fetch()
	s.clock.Advance(3*24*time.Hour - time.Second)
	if again := fetch(); again != first || refusedBy(first) {
		t.Error("the key did not live for three days")
	}
	if !refusedBy(key) {
		t.Error("the real key is taken")
	}
	s.clock.Advance(time.Second)
	if !refusedBy(first) {
		t.Error("the key lives for more than three days")
	}
	if fetch() == first {
		t.Error("the same key comes again")
	}
}

func TestSandboxTakesMD5Alone(t *testing.T) {
	s := newShop(t)
	_, _, body := s.raw(sandboxQueryPath, sealed(map[string]string{"out_trade_no": "ORDER-0001"}, wepay.HMACSHA256))
	if !strings.Contains(body, "sign_type") {
		t.Errorf("HMAC-SHA256 gives %s", body)
	}
}
