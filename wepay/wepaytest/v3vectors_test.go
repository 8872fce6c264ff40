package wepaytest

import (
	"crypto/rsa"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"net/http"
	"os"
	"testing"

	"github.com/windsome/caddy-wepay/wepay"
)

// vector is one of those that were computed by other programs.
type vector struct {
	Method, URL, Timestamp, Nonce, Body, Message, Signature, Authorization string

	Key, Plaintext, Ciphertext string
	AssociatedData             string `json:"associated_data"`
	Headers                    map[string]string

	MerchantCertificate string `json:"merchant_certificate"`
	MerchantSerial      string `json:"merchant_serial"`
	PlatformPrivateKey  string `json:"platform_private_key"`
	PlatformPublicKey   string `json:"platform_public_key"`
	PublicKeyID         string `json:"public_key_id"`
}

func readVectors(t *testing.T) map[string]vector {
	t.Helper()
	raw, err := os.ReadFile("../../testdata/apiv3/vectors.json")
	if err != nil {
		t.Fatal(err)
	}
	var vectors map[string]vector
	if err := json.Unmarshal(raw, &vectors); err != nil {
		t.Fatal(err)
	}
	return vectors
}

func TestV3RequestVectors(t *testing.T) {
	vectors := readVectors(t)
	block, _ := pem.Decode([]byte(vectors["K1"].MerchantCertificate))
	cert, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	if got := wepay.CertificateSerial(cert); got != vectors["K1"].MerchantSerial {
		t.Errorf("the serial is %s", got)
	}
	for _, name := range []string{"R1", "R2", "R3"} {
		v := vectors[name]
		auth, ok := readAuthorization(http.Header{"Authorization": {v.Authorization}})
		if !ok || auth != (authorization{"1900000001", v.Nonce, v.Signature, v.Timestamp, vectors["K1"].MerchantSerial}) {
			t.Errorf("%s: the header is read as %+v", name, auth)
		}
		message := requestMessage(v.Method, v.URL, v.Timestamp, v.Nonce, []byte(v.Body))
		if string(message) != v.Message || !signedBy(cert, message, auth.signature) {
			t.Errorf("%s: the message is %q", name, message)
		}
		if signedBy(cert, append(message, '\n'), auth.signature) {
			t.Errorf("%s: another message is signed too", name)
		}
	}
}

func TestV3ReplyVectors(t *testing.T) {
	vectors := readVectors(t)
	key := wechatKeyOf(t, vectors["K1"])
	public, err := publicKeyPEM(key)
	if err != nil || string(public) != vectors["K1"].PlatformPublicKey {
		t.Errorf("the public key is %s, error %v", public, err)
	}
	for _, name := range []string{"A1", "A2", "A3", "N1", "N2", "N3"} {
		v := vectors[name]
		message := replyMessage(v.Headers["Wechatpay-Timestamp"], v.Headers["Wechatpay-Nonce"], []byte(v.Body))
		if string(message) != v.Message {
			t.Errorf("%s: the message is %q", name, message)
		}
		signature, err := signV3(key, message)
		if err != nil || signature != v.Headers["Wechatpay-Signature"] {
			t.Errorf("%s: the signature is %s, error %v", name, signature, err)
		}
	}
}

func TestV3CipherVectors(t *testing.T) {
	vectors := readVectors(t)
	for _, name := range []string{"G1", "G2"} {
		v := vectors[name]
		if got, err := seal(v.Key, v.Nonce, v.AssociatedData, []byte(v.Plaintext)); err != nil || got != v.Ciphertext {
			t.Errorf("%s: sealed as %s, error %v", name, got, err)
		}
	}
	k := &wechatKey{key: wechatKeyOf(t, vectors["K1"])}
	if got, ok := k.open(vectors["O1"].Ciphertext); !ok || got != vectors["O1"].Plaintext {
		t.Errorf("O1 is %q", got)
	}
	if got, ok := k.open(vectors["O2"].Ciphertext); ok {
		t.Errorf("O2, which is the merchant's, is %q", got)
	}
}

func wechatKeyOf(t *testing.T, v vector) *rsa.PrivateKey {
	t.Helper()
	block, _ := pem.Decode([]byte(v.PlatformPrivateKey))
	key, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	return key.(*rsa.PrivateKey)
}
