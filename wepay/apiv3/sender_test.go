package apiv3

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/rsa"
	"encoding/base64"
	"encoding/json"
	"net/http"
	"os"
	"strconv"
	"testing"
	"time"

	"github.com/windsome/caddy-wepay/wepay"
)

// sent is when the vectors' notifications were signed.
var sent = time.Unix(1700000000, 0)

// notificationVector is what one of ../../testdata/apiv3/vectors.json has of a notification.
type notificationVector struct {
	Headers   map[string]string `json:"headers"`
	Body      string            `json:"body"`
	Plaintext string            `json:"plaintext"`
}

func (v notificationVector) header() http.Header {
	header := http.Header{}
	for name, value := range v.Headers {
		header.Set(name, value)
	}
	return header
}

// keyVectors are the keys of ../../testdata/apiv3/vectors.json.
type keyVectors struct {
	PlatformPublicKey  string `json:"platform_public_key"`
	PlatformPrivateKey string `json:"platform_private_key"`
	MerchantPublicKey  string `json:"merchant_public_key"`
	MerchantSerial     string `json:"merchant_serial"`
	APIv3Key           string `json:"apiv3_key"`
}

// vectorInto reads one of ../../testdata/apiv3/vectors.json.
func vectorInto[T any](tb testing.TB, name string) T {
	tb.Helper()
	text, err := os.ReadFile("../../testdata/apiv3/vectors.json")
	if err != nil {
		tb.Fatal(err)
	}
	var all map[string]json.RawMessage
	if err := json.Unmarshal(text, &all); err != nil {
		tb.Fatal(err)
	}
	var one T
	if err := json.Unmarshal(all[name], &one); err != nil {
		tb.Fatalf("%s: %v", name, err)
	}
	return one
}

func publicKey(tb testing.TB, text string) *rsa.PublicKey {
	tb.Helper()
	key, err := wepay.ParsePublicKey([]byte(text))
	if err != nil {
		tb.Fatal(err)
	}
	return key
}

// sender is WeChat, as the vectors have it: it signs with their key, and
// encrypts under their APIv3 key.
type sender struct {
	tb   testing.TB
	keys keyVectors
	key  *rsa.PrivateKey
}

func newSender(tb testing.TB) *sender {
	tb.Helper()
	keys := vectorInto[keyVectors](tb, "K1")
	key, err := wepay.ParsePrivateKey([]byte(keys.PlatformPrivateKey))
	if err != nil {
		tb.Fatal(err)
	}
	return &sender{tb, keys, key}
}

// seal encrypts as WeChat does.
func (s *sender) seal(nonce, associated, plain string) string {
	s.tb.Helper()
	block, err := aes.NewCipher([]byte(s.keys.APIv3Key))
	if err != nil {
		s.tb.Fatal(err)
	}
	gcm, err := cipher.NewGCM(block)
	if err != nil {
		s.tb.Fatal(err)
	}
	return base64.StdEncoding.EncodeToString(gcm.Seal(nil, []byte(nonce), []byte(plain), []byte(associated)))
}

// body is that of a notification of a resource, of which a test may change what
// it likes.
func (s *sender) body(event, original, plain string, changes map[string]any) []byte {
	s.tb.Helper()
	const nonce = "fdasflkja489"
	envelope := object{
		"id": "EV-2018022511223320873", "create_time": "2023-11-15T06:13:20+08:00", "resource_type": "encrypt-resource",
		"event_type": event, "summary": "x",
		"resource": object{
			"original_type": original, "algorithm": "AEAD_AES_256_GCM", "associated_data": original, "nonce": nonce,
			"ciphertext": s.seal(nonce, original, plain),
		},
	}
	for path, value := range changes {
		envelope.put(path, value)
	}
	body, err := encode(envelope)
	if err != nil {
		s.tb.Fatal(err)
	}
	return body
}

// header signs a body, at a time.
func (s *sender) header(body []byte, at time.Time) http.Header {
	s.tb.Helper()
	h := http.Header{}
	h.Set("Wechatpay-Timestamp", strconv.FormatInt(at.Unix(), 10))
	h.Set("Wechatpay-Nonce", "n6bc43e556b1df283839f053eb02e2bb")
	h.Set("Wechatpay-Serial", "PUB_KEY_ID_0119000000012024101100000000000001")
	signature, err := sign(s.key, h.Get("Wechatpay-Timestamp"), h.Get("Wechatpay-Nonce"), string(body))
	if err != nil {
		s.tb.Fatal(err)
	}
	h.Set("Wechatpay-Signature", signature)
	return h
}

// take is what a merchant does with a notification.
func (s *sender) take(header http.Header, body []byte) (*Opened, error) {
	u, err := ReadNotification(header, body)
	if err != nil {
		return nil, err
	}
	sealed, err := u.Verify(&s.key.PublicKey, sent)
	if err != nil {
		return nil, err
	}
	return sealed.Open(s.keys.APIv3Key)
}

// tell has a resource told and taken.
func (s *sender) tell(event, original, plain string) (*Opened, error) {
	s.tb.Helper()
	body := s.body(event, original, plain, nil)
	return s.take(s.header(body, sent), body)
}

// takeBody is take of a body that is signed now.
func (s *sender) takeBody(body []byte) (*Opened, error) { return s.take(s.header(body, sent), body) }

// opened is tell with an account's key.
func (s *sender) opened(ring *KeyRing, event, original, plain string) (*Opened, error) {
	s.tb.Helper()
	body := s.body(event, original, plain, nil)
	u, err := ReadNotification(s.header(body, sent), body)
	if err != nil {
		return nil, err
	}
	sealed, err := u.Verify(&s.key.PublicKey, sent)
	if err != nil {
		return nil, err
	}
	return ring.Open(sealed)
}
