package apiv3_test

import (
	"crypto"
	"crypto/rsa"
	"crypto/sha256"
	"testing"

	"github.com/windsome/caddy-wepay/wepay"
	"github.com/windsome/caddy-wepay/wepay/apiv3"
)

// Run them with
//
//	go test ./wepay/apiv3 -run '^$' -bench . -count 6
//
// and compare BenchmarkSign/request with BenchmarkSign/RSA of the same run.

func BenchmarkSign(b *testing.B) {
	v, key := vectors(b)["R1"], privateKey(b, testdata(b, "../certificates/key.pem"))
	m := &wepay.Merchant{MchID: mchID, PrivateKey: key, MchSerial: "048D5A6B7C8D9E0F1A2B3C4D5E6F708192A3B4C5"}
	b.Run("RSA", func(b *testing.B) {
		digest := sha256.Sum256([]byte(v.Message))
		b.ReportAllocs()
		for b.Loop() {
			if _, err := rsa.SignPKCS1v15(nil, key, crypto.SHA256, digest[:]); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("request", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if _, err := apiv3.Authorization(m, v.Method, v.URL, v.Body, start); err != nil {
				b.Fatal(err)
			}
		}
	})
}
