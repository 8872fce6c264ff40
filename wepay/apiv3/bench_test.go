package apiv3_test

import (
	"crypto"
	"crypto/aes"
	"crypto/cipher"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"testing"

	"github.com/windsome/caddy-wepay/wepay"
	"github.com/windsome/caddy-wepay/wepay/apiv3"
)

// BenchmarkNotification is everything from the headers of a payment's
// notification to its fields under API v2's names. BenchmarkCryptography is
// what of it no code can leave out; the two are to be compared in one run.
func BenchmarkNotification(b *testing.B) {
	keys, v := vectorInto[keyVectors](b, "K1"), vectorInto[notificationVector](b, "N1")
	key, header, body := publicKey(b, keys.PlatformPublicKey), v.header(), []byte(v.Body)
	merchant := &wepay.Merchant{MchID: "1900000001", AppID: "wxd678efh567hg6787"}
	b.ReportAllocs()
	for b.Loop() {
		u, err := apiv3.ReadNotification(header, body)
		if err != nil {
			b.Fatal(err)
		}
		s, err := u.Verify(key, sent)
		if err != nil {
			b.Fatal(err)
		}
		o, err := s.Open(keys.APIv3Key)
		if err != nil {
			b.Fatal(err)
		}
		if n := o.Notification(merchant); n.Fields.Get("total_fee") != "888" {
			b.Fatal("the total_fee is another")
		}
	}
}

// BenchmarkCryptography verifies the signature of that notification and decrypts
// it, by the standard library alone: hash, RSA, base64 and GCM.
func BenchmarkCryptography(b *testing.B) {
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
	nonce, data := []byte(envelope.Resource.Nonce), []byte(envelope.Resource.AssociatedData)
	b.ReportAllocs()
	for b.Loop() {
		signature, err := base64.StdEncoding.DecodeString(v.Headers["Wechatpay-Signature"])
		if err != nil {
			b.Fatal(err)
		}
		digest := sha256.Sum256(message)
		if err := rsa.VerifyPKCS1v15(key, crypto.SHA256, digest[:], signature); err != nil {
			b.Fatal(err)
		}
		sealed, err := base64.StdEncoding.DecodeString(envelope.Resource.Ciphertext)
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
		if _, err := gcm.Open(sealed[:0], nonce, sealed, data); err != nil {
			b.Fatal(err)
		}
	}
}
