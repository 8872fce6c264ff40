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
	return signedOf(tb, wepaytest.Event{URL: "http://127.0.0.1/", Type: "TRANSACTION.SUCCESS", OriginalType: "transaction", Summary: "支付成功", Resource: map[string]any{
		"mchid": testMerchant.MchID, "appid": testMerchant.AppID, "out_trade_no": "5ba27cc3a70db45dd108b53f", "transaction_id": "4200000000202001010000000001",
		"trade_type": "JSAPI", "trade_state": "SUCCESS", "trade_state_desc": "支付成功", "bank_type": "CMB_CREDIT", "attach": "福州路店 & 🧦",
		"success_time": "2020-01-01T12:00:00+08:00", "payer": map[string]any{"openid": "oUpF8uMuAJO_M2pxb1Q9zNjWeS6o"},
		"amount": map[string]any{"total": 1200, "payer_total": 1100, "currency": "CNY", "payer_currency": "CNY"},
		"promotion_detail": []any{
			map[string]any{"coupon_id": "10001", "name": "满减券", "scope": "GLOBAL", "type": "CASH", "amount": 60},
			map[string]any{"coupon_id": "10002", "name": "立减", "scope": "SINGLE", "type": "NOCASH", "amount": 40},
		},
	}})
}

// signedOf is a notification of API v3 as WeChat sends it.
func signedOf(tb testing.TB, event wepaytest.Event, options ...wepaytest.PayOption) signed {
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
	d, err := wechat.Notify(m.MchID, event, append(options, wepaytest.Held())...)
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
	verify := signatureCheck(b, s.merchant.PublicKey, s.header, s.body)
	return func() {
		if err := verify(); err != nil {
			b.Fatal(err)
		}
	}
}

// signatureCheck readies a notification's signature, so that RSA is all that is
// left to do.
func signatureCheck(b *testing.B, key *rsa.PublicKey, header http.Header, body []byte) func() error {
	b.Helper()
	raw, err := base64.StdEncoding.DecodeString(header.Get("Wechatpay-Signature"))
	if err != nil {
		b.Fatal(err)
	}
	digest := sha256.Sum256(fmt.Appendf(nil, "%s\n%s\n%s\n", header.Get("Wechatpay-Timestamp"), header.Get("Wechatpay-Nonce"), body))
	return func() error { return rsa.VerifyPKCS1v15(key, crypto.SHA256, digest[:], raw) }
}

// BenchmarkNotificationRatio takes the same payment's notifications of API v2 and
// of API v3 and does RSA alone, in turn, so that all three have the same share of
// a busy machine and of its caches. It reports the medians, and how many times as
// long as one of API v2 one of API v3 takes in the handler alone, RSA left out: by
// the medians, and as if nobody else were there. Over a network, and with an
// order service, it is BenchmarkNotifyRouteV3.
func BenchmarkNotificationRatio(b *testing.B) {
	v2, v3 := newSigned(b), newSignedV3(b)
	atV2, atV3, verify := v2.among(b, 0), v3.among(b, 0), v3.signature(b)
	var tookV2, tookV3, tookRSA []time.Duration
	for b.Loop() {
		began := time.Now()
		v2.send(b, atV2, "pay_notify")
		answeredV2 := time.Now()
		v3.send(b, atV3, "pay_notify")
		answeredV3 := time.Now()
		verify()
		tookRSA = append(tookRSA, time.Since(answeredV3))
		tookV2, tookV3 = append(tookV2, answeredV2.Sub(began)), append(tookV3, answeredV3.Sub(answeredV2))
	}
	for _, took := range [][]time.Duration{tookV2, tookV3, tookRSA} {
		slices.Sort(took)
	}
	ratio := func(i int) float64 { return float64(tookV3[i]-tookRSA[i]) / float64(tookV2[i]) }
	n := len(tookV2)
	b.ReportMetric(float64(tookV2[n/2]), "v2-ns")
	b.ReportMetric(float64(tookV3[n/2]), "v3-ns")
	b.ReportMetric(float64(tookRSA[n/2]), "rsa-ns")
	b.ReportMetric(ratio(n/2), "ratio")
	b.ReportMetric(ratio(n/20), "quiet-ratio")
}

// The two tell the same, but for what API v3 has no names for and what it tells
// more.
func TestBenchmarksTellTheSame(t *testing.T) {
	v2, v3 := newSigned(t), newSignedV3(t)
	_, told, err := v2.among(t, 0).verifyNotification(t.Context(), v2.body, "")
	if err != nil {
		t.Fatal(err)
	}
	want := told.Fields.Clone()
	for _, name := range []string{"is_subscribe", "new_field_of_2031", "nonce_str", "sign"} {
		want.Delete(name)
	}
	want.Set("cash_fee_type", "CNY")
	_, told, err = v3.among(t, 0).openNotification(t.Context(), v3.header, v3.body, "")
	if err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(told.Fields, want) {
		t.Errorf("API v3 tells %v, want %v", told.Fields, want)
	}
}
