package caddymodule

import (
	"bytes"
	"crypto"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"runtime"
	"testing"

	"github.com/caddyserver/caddy/v2"
	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"

	"github.com/windsome/caddy-wepay/wepay"
	"github.com/windsome/caddy-wepay/wepay/apiv3"
	"github.com/windsome/caddy-wepay/wepay/wepaytest"
)

// signed is a notification of API v3 of a payment, with the merchant that it is
// for.
type signed struct {
	merchant *wepay.Merchant
	header   http.Header
	body     []byte
}

func newSigned(tb testing.TB) signed {
	tb.Helper()
	wechat, err := wepaytest.NewServer()
	if err != nil {
		tb.Fatal(err)
	}
	defer wechat.Close()
	m := *testMerchant
	m.API, m.APIv3Key, m.PartnerKey = wepay.V3, testV3Key, ""
	if err := wechat.AddMerchant(wepaytest.Merchant{MchID: m.MchID, AppIDs: []string{m.AppID}, APIv3Key: testV3Key, Mode: wepaytest.ByPublicKey}); err != nil {
		tb.Fatal(err)
	}
	id, text, err := wechat.PublicKey(m.MchID)
	if err != nil {
		tb.Fatal(err)
	}
	if m.PublicKey, err = wepay.ParsePublicKey(text); err != nil {
		tb.Fatal(err)
	}
	m.PublicKeyID = id
	d, err := wechat.Notify(m.MchID, wepaytest.Event{URL: "http://127.0.0.1/", Type: "TRANSACTION.SUCCESS", OriginalType: "transaction", Summary: "支付成功", Resource: map[string]any{
		"mchid": m.MchID, "appid": m.AppID, "out_trade_no": "T20231115061320001", "transaction_id": "4200002001202311156789012345",
		"trade_type": "JSAPI", "trade_state": "SUCCESS", "trade_state_desc": "支付成功", "bank_type": "CMB_DEBIT", "attach": "order=1&x=<y>",
		"success_time": "2023-11-15T06:13:18+08:00", "payer": map[string]any{"openid": "oUpF8uMuAJO_M2pxb1Q9zNjWeS6o"},
		"amount": map[string]any{"total": 888, "payer_total": 788, "currency": "CNY", "payer_currency": "CNY"},
		"promotion_detail": []any{
			map[string]any{"coupon_id": "109519", "name": "满减券", "scope": "GLOBAL", "type": "CASH", "amount": 60},
			map[string]any{"coupon_id": "109520", "name": "立减", "scope": "SINGLE", "type": "NOCASH", "amount": 40},
		},
	}}, wepaytest.Held())
	if err != nil {
		tb.Fatal(err)
	}
	header, err := d.Header()
	if err != nil {
		tb.Fatal(err)
	}
	return signed{&m, header, d.Body()}
}

// among is a handler of the merchant and so many others, each with an account of
// its own, whose order services take no time and no sockets.
func (s signed) among(tb testing.TB, others int) *Handler {
	tb.Helper()
	all := make([]*wepay.Merchant, 0, others+1)
	for n := range others {
		m := *s.merchant
		m.Name, m.MchID, m.PublicKeyID = fmt.Sprintf("shop%d", n), fmt.Sprintf("18%08d", n), fmt.Sprintf("%s%032d", wepay.PublicKeyPrefix, n)
		all = append(all, &m)
	}
	all = append(all, s.merchant)
	merchants, err := wepay.NewMerchants(all...)
	if err != nil {
		tb.Fatal(err)
	}
	metrics, err := newMetrics(prometheus.NewRegistry())
	if err != nil {
		tb.Fatal(err)
	}
	secrets, err := parseSecrets([]string{testSecret})
	if err != nil {
		tb.Fatal(err)
	}
	app := &App{CallbackTimeout: caddy.Duration(defaultCallbackTimeout), metrics: metrics, merchants: merchants, accounts: make(map[*wepay.Merchant]*account)}
	app.platforms = newPlatforms(nil)
	taken := &http.Response{StatusCode: http.StatusNoContent, Body: http.NoBody}
	service := orders(func(r *http.Request) (*http.Response, error) {
		_, err := io.Copy(io.Discard, r.Body)
		return taken, err
	})
	options := []apiv3.Option{apiv3.WithTransport(service)}
	for _, m := range all {
		app.accounts[m] = &account{
			merchant: m, platform: app.platforms.of(m, options),
			callback: &callback{url: m.CbNotifyURL, secrets: secrets, timeout: defaultCallbackTimeout, transport: service},
		}
	}
	app.platforms.Platforms = apiv3.NewPlatforms(app.platforms.all...)
	return &Handler{prefix: defaultPathPrefix, merchants: merchants, logger: zap.NewNop(), app: app}
}

func (s signed) send(tb testing.TB, h *Handler, path string) {
	r := httptest.NewRequest(http.MethodPost, "/apis/v1/wepay/"+path, nil)
	r.Header, r.Body, r.ContentLength = s.header, io.NopCloser(bytes.NewReader(s.body)), int64(len(s.body))
	w := discard{httptest.NewRecorder()}
	if err := h.ServeHTTP(w, r, nil); err != nil {
		tb.Fatal(err)
	}
	if w.Code != http.StatusNoContent {
		tb.Fatal(w.Code, w.Body)
	}
}

// BenchmarkNotificationV3 is BenchmarkNotification for one of API v3, with two
// coupons. What the signature alone takes is BenchmarkSignatureV3.
func BenchmarkNotificationV3(b *testing.B) {
	s := newSigned(b)
	h := s.among(b, 0)
	b.ReportAllocs()
	b.SetBytes(int64(len(s.body)))
	for b.Loop() {
		s.send(b, h, "pay_notify")
	}
}

// BenchmarkNotificationV3Among has 10,000 accounts at one URL: the memory is
// what each of them takes.
func BenchmarkNotificationV3Among(b *testing.B) {
	const others = 10_000
	s := newSigned(b)
	before := heapInUse()
	h := s.among(b, others)
	s.send(b, h, "pay_notify") // which sorts the accounts by their keys
	perMerchant := float64(heapInUse()-before) / others
	for _, path := range []string{"pay_notify", "pay_notify/" + s.merchant.Name} {
		b.Run(path, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				s.send(b, h, path)
			}
			b.ReportMetric(perMerchant, "B/merchant")
		})
	}
}

func heapInUse() int64 {
	runtime.GC()
	var stats runtime.MemStats
	runtime.ReadMemStats(&stats)
	return int64(stats.HeapAlloc)
}

// BenchmarkSignatureV3 is what RSA alone takes of a notification.
func BenchmarkSignatureV3(b *testing.B) {
	s := newSigned(b)
	raw, err := base64.StdEncoding.DecodeString(s.header.Get("Wechatpay-Signature"))
	if err != nil {
		b.Fatal(err)
	}
	digest := sha256.Sum256(fmt.Appendf(nil, "%s\n%s\n%s\n", s.header.Get("Wechatpay-Timestamp"), s.header.Get("Wechatpay-Nonce"), s.body))
	for b.Loop() {
		if err := rsa.VerifyPKCS1v15(s.merchant.PublicKey, crypto.SHA256, digest[:], raw); err != nil {
			b.Fatal(err)
		}
	}
}
