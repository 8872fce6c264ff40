package wepaytest_test

import (
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/windsome/caddy-wepay/wepay/wepaytest"
)

func TestV3Notification(t *testing.T) {
	s := newV3Shop(t)
	d := s.pay("ORDER-0001", 1000, wepaytest.WithCoupons(
		wepaytest.Coupon{Type: wepaytest.Cash, ID: "10001", Fee: 60},
		wepaytest.Coupon{Type: wepaytest.NoCash, ID: "10002", Fee: 40},
	))
	envelope, resource := s.decrypted(d)
	checkAt(t, envelope, map[string]string{
		"event_type": "TRANSACTION.SUCCESS", "resource_type": "encrypt-resource", "summary": "支付成功",
		"create_time": "2026-01-01T20:00:00+08:00", "resource.original_type": "transaction",
		"resource.algorithm": "AEAD_AES_256_GCM", "resource.associated_data": "transaction",
	})
	checkAt(t, resource, map[string]string{
		"trade_state": "SUCCESS", "amount.total": "1000", "amount.payer_total": "900",
		"promotion_detail.0.type": "CASH", "promotion_detail.0.amount": "60", "promotion_detail.0.coupon_id": "10001",
		"promotion_detail.1.type": "NOCASH", "attach": "shelf <7>",
	})
	if len(at(envelope, "id")) != 36 {
		t.Errorf("the id is %q", at(envelope, "id"))
	}
	if !d.Taken() || string(s.notified.received()[0]) != string(d.Body()) {
		t.Error("the notification did not arrive")
	}
	if err := s.verify(s.notified.header, d.Body()); err != nil {
		t.Errorf("as it arrived: %v", err)
	}
	for name, want := range map[string]string{"Content-Type": "application/json", "User-Agent": "Mozilla/4.0"} {
		if got := s.notified.header.Get(name); got != want {
			t.Errorf("%s is %q, want %q", name, got, want)
		}
	}
}

// The status decides whether a notification is taken, and nothing else.
func TestV3Answers(t *testing.T) {
	s := newV3Shop(t)
	for i, c := range []struct {
		status int
		body   string
		taken  bool
	}{
		{204, "", true},
		{200, "", true},
		{200, `{"code":"FAIL","message":"no"}`, true},
		{200, "<xml><return_code>FAIL</return_code></xml>", true},
		{201, "", false},
		{302, "", false},
		{401, `{"code":"FAIL","message":"signature"}`, false},
		{500, `{"code":"SUCCESS"}`, false},
	} {
		s.notified.answers(func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(c.status)
			_, _ = io.WriteString(w, c.body)
		})
		if d := s.pay("ORDER-000"+string(rune('0'+i)), 100); d.Taken() != c.taken {
			t.Errorf("%d %s: taken is %t", c.status, c.body, d.Taken())
		}
	}
}

// Every attempt is signed anew, at its own time, over the same body.
func TestV3Retries(t *testing.T) {
	s := newV3Shop(t)
	var headers []http.Header
	s.notified.answers(func(w http.ResponseWriter, r *http.Request) {
		headers = append(headers, r.Header.Clone())
		w.WriteHeader(http.StatusInternalServerError)
	})
	d := s.pay("ORDER-0001", 100)
	for n := range 15 {
		if err := s.verify(headers[n], d.Body()); err != nil {
			t.Errorf("attempt %d: %v", n, err)
		}
		s.clock.Advance([]time.Duration{
			15 * time.Second, 15 * time.Second, 30 * time.Second, 3 * time.Minute, 10 * time.Minute, 20 * time.Minute,
			30 * time.Minute, 30 * time.Minute, 30 * time.Minute, time.Hour, 3 * time.Hour, 3 * time.Hour, 3 * time.Hour, 6 * time.Hour, 6 * time.Hour,
		}[n])
	}
	s.clock.Advance(24 * time.Hour)
	if got := len(d.Attempts()); got != 16 {
		t.Errorf("%d attempts, want 16", got)
	}
	seen := map[string]bool{}
	for _, header := range headers {
		seen[header.Get("Wechatpay-Nonce")] = true
	}
	if len(seen) != 16 {
		t.Errorf("%d nonces in 16 attempts", len(seen))
	}
}

func TestV3SpoiltNotifications(t *testing.T) {
	s := newV3Shop(t)
	changed := func(name, value string) wepaytest.Fault {
		return wepaytest.Fault{Kind: wepaytest.HeaderChanged, Header: name, Message: value}
	}
	probe, err := s.pay("ORDER-PROBE", 100, wepaytest.WithFault(wepaytest.Fault{Kind: wepaytest.Probe})).Header()
	if err != nil || !strings.HasPrefix(probe.Get("Wechatpay-Signature"), "WECHATPAY/SIGNTEST/") {
		t.Errorf("the probe has %v, error %v", probe, err)
	}
	for i, c := range []struct {
		name  string
		fault wepaytest.Fault
		says  string
	}{
		{"probe", wepaytest.Fault{Kind: wepaytest.Probe}, ""},
		{"wrong signature", wepaytest.Fault{Kind: wepaytest.WrongSignature}, "verification error"},
		{"no signature", wepaytest.Fault{Kind: wepaytest.NoSignature}, "0 of Wechatpay-Timestamp"},
		{"late", wepaytest.Fault{Kind: wepaytest.Skewed, Delay: -301 * time.Second}, "stale"},
		{"early", wepaytest.Fault{Kind: wepaytest.Skewed, Delay: 301 * time.Second}, "stale"},
		{"missing", wepaytest.Fault{Kind: wepaytest.HeaderMissing, Header: "Wechatpay-Nonce"}, "0 of Wechatpay-Nonce"},
		{"doubled", wepaytest.Fault{Kind: wepaytest.HeaderDoubled, Header: "wechatpay-serial"}, "2 of Wechatpay-Serial"},
		{"empty", changed("Wechatpay-Signature", ""), "1 of Wechatpay-Signature"},
		{"unknown serial", changed("Wechatpay-Serial", strings.Repeat("A", 40)), "unknown serial"},
		{"the merchant's serial", changed("Wechatpay-Serial", s.credential.Serial), "unknown serial"},
	} {
		t.Run(c.name, func(t *testing.T) {
			s.notified.answers(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusUnauthorized) })
			d := s.pay("ORDER-000"+string(rune('0'+i)), 100, wepaytest.WithFault(c.fault))
			header, err := d.Header()
			if err != nil {
				t.Fatal(err)
			}
			if err := s.verify(header, d.Body()); err == nil || !strings.Contains(err.Error(), c.says) {
				t.Errorf("the notification is verified as %v, want %s", err, c.says)
			}
			if err := s.verify(s.notified.header, d.Body()); err == nil {
				t.Error("what arrived is right")
			}
			s.notified.answers(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNoContent) })
			s.clock.Advance(15 * time.Second)
			if err := s.verify(s.notified.header, d.Body()); err != nil || !d.Taken() {
				t.Errorf("the second attempt is wrong too: %v", err)
			}
		})
	}
}

func TestV3WrongKey(t *testing.T) {
	s := newV3Shop(t)
	d := s.pay("ORDER-0001", 100, wepaytest.WithFault(wepaytest.Fault{Kind: wepaytest.WrongKey}))
	header, err := d.Header()
	if err != nil || s.verify(header, d.Body()) != nil {
		t.Errorf("its signature is wrong, error %v", err)
	}
	resource := decodeJSON(t, d.Body())["resource"].(map[string]any)
	if plain, err := unseal(apiV3Key, at(resource, "nonce"), "transaction", at(resource, "ciphertext")); err == nil {
		t.Errorf("the merchant can read %s", plain)
	}
}

func TestV3Events(t *testing.T) {
	s := newV3Shop(t)
	d, err := s.wechat.Notify(mchID, wepaytest.Event{
		URL: s.notified.URL, Type: "TRANSACTION.SUCCESS", OriginalType: "transaction", Summary: "分账",
		Resource: obj{"mchid": mchID, "order_id": "3000", "receiver": obj{"type": "MERCHANT_ID", "amount": 7}},
	})
	if err != nil {
		t.Fatal(err)
	}
	_, resource := s.decrypted(d)
	checkAt(t, resource, map[string]string{"receiver.amount": "7", "order_id": "3000"})
	if _, err := s.wechat.Notify("1", wepaytest.Event{}); err == nil {
		t.Error("an unknown merchant was notified")
	}

	d = s.pay("ORDER-0001", 100, wepaytest.WithMember("amount.total", 1), wepaytest.WithMember("payer", nil), wepaytest.WithField("mchid", "1999999999"))
	_, resource = s.decrypted(d)
	checkAt(t, resource, map[string]string{"amount.total": "1", "payer": "", "mchid": "1999999999"})
}

func TestV3WithoutKey(t *testing.T) {
	s := newV3Shop(t, withV2, func(m *wepaytest.Merchant) { m.APIv3Key = "" })
	s.granted("POST", jsapiPath, s.jsapi("ORDER-0001", 100))
	if _, err := s.wechat.Pay(mchID, "ORDER-0001"); !errors.Is(err, wepaytest.ErrNoAPIv3Key) {
		t.Errorf("paying gives %v", err)
	}
	s.denied(400, "INVALID_REQUEST", s.message("GET", "/v3/certificates", nil))
}
