package caddymodule

import (
	"crypto"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"net/http"
	"runtime"
	"slices"
	"testing"
	"time"

	"github.com/windsome/caddy-wepay/wepay"
	"github.com/windsome/caddy-wepay/wepay/wepaytest"
)

// newSignedV3 is one of API v3, of the payment that newSigned is of.
func newSignedV3(tb testing.TB) signed {
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
		"mchid": m.MchID, "appid": m.AppID, "out_trade_no": "5ba27cc3a70db45dd108b53f", "transaction_id": "4200000000202001010000000001",
		"trade_type": "JSAPI", "trade_state": "SUCCESS", "trade_state_desc": "支付成功", "bank_type": "CMB_CREDIT", "attach": "福州路店 & 🧦",
		"success_time": "2020-01-01T12:00:00+08:00", "payer": map[string]any{"openid": "oUpF8uMuAJO_M2pxb1Q9zNjWeS6o"},
		"amount": map[string]any{"total": 1200, "payer_total": 1100, "currency": "CNY", "payer_currency": "CNY"},
		"promotion_detail": []any{
			map[string]any{"coupon_id": "10001", "name": "满减券", "scope": "GLOBAL", "type": "CASH", "amount": 60},
			map[string]any{"coupon_id": "10002", "name": "立减", "scope": "SINGLE", "type": "NOCASH", "amount": 40},
		},
	}}, wepaytest.Held())
	if err != nil {
		tb.Fatal(err)
	}
	header, err := d.Header()
	if err != nil {
		tb.Fatal(err)
	}
	return signed{&m, header, d.Body(), http.StatusNoContent}
}

// BenchmarkNotificationV3 is BenchmarkNotification for one of API v3. What the
// signature alone takes is BenchmarkSignatureV3.
func BenchmarkNotificationV3(b *testing.B) { benchmark(b, newSignedV3(b)) }

// BenchmarkNotificationV3Among has 10,000 accounts at one URL: the memory is
// what each of them takes.
func BenchmarkNotificationV3Among(b *testing.B) {
	const others = 10_000
	s := newSignedV3(b)
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
	verify := newSignedV3(b).signature(b)
	for b.Loop() {
		verify()
	}
}

// signature verifies the notification's by the standard library alone.
func (s signed) signature(b *testing.B) func() {
	raw, err := base64.StdEncoding.DecodeString(s.header.Get("Wechatpay-Signature"))
	if err != nil {
		b.Fatal(err)
	}
	digest := sha256.Sum256(fmt.Appendf(nil, "%s\n%s\n%s\n", s.header.Get("Wechatpay-Timestamp"), s.header.Get("Wechatpay-Nonce"), s.body))
	return func() {
		if err := rsa.VerifyPKCS1v15(s.merchant.PublicKey, crypto.SHA256, digest[:], raw); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkNotificationRatio takes the same payment's notifications of API v2 and
// of API v3 and does RSA alone, in turn, so that all three have the same share of
// a busy machine and of its caches. It reports the medians, and how many times as
// long as one of API v2 one of API v3 takes, RSA left out.
func BenchmarkNotificationRatio(b *testing.B) {
	v2, v3 := newSigned(b), newSignedV3(b)
	atV2, atV3, verify := v2.among(b, 0), v3.among(b, 0), v3.signature(b)
	takes := []func(){
		func() { v2.send(b, atV2, "pay_notify") },
		func() { v3.send(b, atV3, "pay_notify") },
		verify,
	}
	took := make([][]time.Duration, len(takes))
	for b.Loop() {
		for i, take := range takes {
			start := time.Now()
			take()
			took[i] = append(took[i], time.Since(start))
		}
	}
	var medians [3]float64
	for i := range took {
		slices.Sort(took[i])
		medians[i] = float64(took[i][len(took[i])/2])
	}
	b.ReportMetric(medians[0], "v2-ns")
	b.ReportMetric(medians[1], "v3-ns")
	b.ReportMetric(medians[2], "rsa-ns")
	b.ReportMetric((medians[1]-medians[2])/medians[0], "ratio")
	b.ReportMetric(0, "ns/op") // says nothing here
}
