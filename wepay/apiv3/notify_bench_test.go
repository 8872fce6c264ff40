package apiv3

import (
	"crypto"
	"crypto/aes"
	"crypto/cipher"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
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

// BenchmarkSearch is what a forgery costs that names neither a merchant nor a key
// that is known: a trial with the APIv3 key of each of 10,000 accounts. It reports
// the medians for one as large as a payment's and for one as large as is read.
func BenchmarkSearch(b *testing.B) {
	all := make([]*KeyRing, 10_000)
	for n := range all {
		all[n] = NewKeyRing(&wepay.Merchant{Name: "shop", APIv3Key: fmt.Sprintf("%032d", n)}, nil, wepay.ClientOptions{Transport: http.DefaultTransport, Now: func() time.Time { return sent }})
	}
	rings, s := NewKeyRings(all...), newSender(b)
	const largest = 64 << 10
	for name, plain := range map[string]string{
		"usual":   vectorInto[notificationVector](b, "N1").Plaintext,
		"largest": strings.Repeat("x", largest/4*3-600),
	} {
		b.Run(name, func(b *testing.B) {
			body := s.body("TRANSACTION.SUCCESS", "transaction", plain, nil)
			if len(body) > largest {
				b.Fatalf("%d bytes are more than are read", len(body))
			}
			header := s.header(body, sent)
			header.Set("Wechatpay-Serial", "048D5A6B7C8D9E0F1A2B3C4D5E6F708192A3B4C5")
			u, err := ReadNotification(header, body)
			if err != nil {
				b.Fatal(err)
			}
			search := func() {
				if _, err := rings.Find(b.Context(), u); !errors.Is(err, wepay.ErrUnknownKey) {
					b.Fatal(err)
				}
			}
			search() // which readies the keys
			b.ReportAllocs()
			var took []time.Duration
			for b.Loop() {
				began := time.Now()
				search()
				took = append(took, time.Since(began))
			}
			slices.Sort(took)
			b.ReportMetric(float64(took[len(took)/2])/1e6, "median-ms")
			b.ReportMetric(float64(len(body)), "B/body")
		})
	}
}

func takeNotification(b *testing.B) func() {
	keys, v := vectorInto[keyVectors](b, "K1"), vectorInto[notificationVector](b, "N1")
	key, header, body := publicKey(b, keys.PlatformPublicKey), v.header(), []byte(v.Body)
	merchant := &wepay.Merchant{MchID: "1900000001", AppID: "wxd678efh567hg6787", APIv3Key: keys.APIv3Key}
	ring := NewKeyRing(merchant, nil, wepay.ClientOptions{})
	return func() {
		u, err := ReadNotification(header, body)
		if err != nil {
			b.Fatal(err)
		}
		s, err := u.Verify(key, sent)
		if err != nil {
			b.Fatal(err)
		}
		o, err := ring.Open(s)
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
