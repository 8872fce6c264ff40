package apiv3

import (
	"crypto"
	"crypto/aes"
	"crypto/cipher"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"slices"
	"testing"
	"time"

	"github.com/windsome/caddy-wepay/wepay"
)

// BenchmarkNotification is everything from the headers of a payment's
// notification to its fields under API v2's names.
func BenchmarkNotification(b *testing.B) {
	take := takeNotification(b)
	b.ReportAllocs()
	for b.Loop() {
		take()
	}
}

// BenchmarkCryptography is what of that no code can leave out.
func BenchmarkCryptography(b *testing.B) {
	decrypt := bareCryptography(b)
	b.ReportAllocs()
	for b.Loop() {
		decrypt()
	}
}

// BenchmarkRatio does the two in turn, so that both have the same share of a
// busy machine, and reports how many times as long the first takes: by the
// medians, and as if nobody else were there.
func BenchmarkRatio(b *testing.B) {
	take, decrypt := takeNotification(b), bareCryptography(b)
	var took, least []time.Duration
	for b.Loop() {
		start := time.Now()
		take()
		middle := time.Now()
		decrypt()
		took, least = append(took, middle.Sub(start)), append(least, time.Since(middle))
	}
	slices.Sort(took)
	slices.Sort(least)
	n := len(took)
	b.ReportMetric(float64(took[n/2]), "notification-ns")
	b.ReportMetric(float64(least[n/2]), "cryptography-ns")
	b.ReportMetric(float64(took[n/2])/float64(least[n/2]), "ratio")
	b.ReportMetric(float64(took[n/20])/float64(least[n/20]), "quiet-ratio")
}

func takeNotification(b *testing.B) func() {
	keys, v := vectorInto[keyVectors](b, "K1"), vectorInto[notificationVector](b, "N1")
	key, header, body := publicKey(b, keys.PlatformPublicKey), v.header(), []byte(v.Body)
	merchant := &wepay.Merchant{MchID: "1900000001", AppID: "wxd678efh567hg6787", APIv3Key: keys.APIv3Key}
	platform := NewPlatform(merchant, nil)
	return func() {
		u, err := ReadNotification(header, body)
		if err != nil {
			b.Fatal(err)
		}
		s, err := u.Verify(key, sent)
		if err != nil {
			b.Fatal(err)
		}
		o, err := platform.Open(s)
		if err != nil {
			b.Fatal(err)
		}
		if n := o.Notification(merchant, merchant.AppID); n.Fields.Get("total_fee") != "888" {
			b.Fatal("the total_fee is another")
		}
	}
}

// bareCryptography verifies the signature of that notification and decrypts it,
// by the standard library alone: hash, RSA, base64 and GCM.
func bareCryptography(b *testing.B) func() {
	keys, v := vectorInto[keyVectors](b, "K1"), vectorInto[notificationVector](b, "N1")
	key := publicKey(b, keys.PlatformPublicKey)
	message := []byte(v.Headers["Wechatpay-Timestamp"] + "\n" + v.Headers["Wechatpay-Nonce"] + "\n" + v.Body + "\n")
	var envelope struct {
		Resource struct {
			Ciphertext     string `json:"ciphertext"`
			Nonce          string `json:"nonce"`
			AssociatedData string `json:"associated_data"`
		} `json:"resource"`
	}
	if err := json.Unmarshal([]byte(v.Body), &envelope); err != nil {
		b.Fatal(err)
	}
	r := envelope.Resource
	return func() {
		signature, err := base64.StdEncoding.DecodeString(v.Headers["Wechatpay-Signature"])
		if err != nil {
			b.Fatal(err)
		}
		digest := sha256.Sum256(message)
		if err := rsa.VerifyPKCS1v15(key, crypto.SHA256, digest[:], signature); err != nil {
			b.Fatal(err)
		}
		sealed, err := base64.StdEncoding.DecodeString(r.Ciphertext)
		if err != nil {
			b.Fatal(err)
		}
		block, err := aes.NewCipher([]byte(keys.APIv3Key))
		if err != nil {
			b.Fatal(err)
		}
		gcm, err := cipher.NewGCM(block)
		if err != nil {
			b.Fatal(err)
		}
		if _, err := gcm.Open(sealed[:0], []byte(r.Nonce), sealed, []byte(r.AssociatedData)); err != nil {
			b.Fatal(err)
		}
	}
}
