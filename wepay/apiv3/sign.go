package apiv3

import (
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"io"
	"strconv"
	"time"

	"github.com/windsome/caddy-wepay/wepay"
)

// scheme is the algorithm of this package: RSASSA-PKCS1-v1_5 with SHA-256.
const scheme = "WECHATPAY2-SHA256-RSA2048"

// digest hashes the lines of a message, each of which ends with a line feed.
func digest(lines ...string) []byte {
	hash := sha256.New()
	for _, line := range lines {
		_, _ = io.WriteString(hash, line) // a hash takes whatever comes
		_, _ = io.WriteString(hash, "\n")
	}
	return hash.Sum(nil)
}

// sign signs the lines of a message and returns base64.
func sign(key *rsa.PrivateKey, lines ...string) (string, error) {
	signature, err := rsa.SignPKCS1v15(nil, key, crypto.SHA256, digest(lines...))
	if err != nil {
		return "", fmt.Errorf("signing with the merchant's key: %w", err)
	}
	return base64.StdEncoding.EncodeToString(signature), nil
}

// authorization is the header that signs a request of a merchant which
// RequireV3 accepts. The URI is path and query as they are sent.
// Source: WeChat Pay, 如何构造接口请求签名.
func authorization(m *wepay.Merchant, method, uri, body string, now time.Time) (string, error) {
	serial, key := m.SigningKey()
	timestamp, nonce := strconv.FormatInt(now.Unix(), 10), nonce()
	signature, err := sign(key, method, uri, timestamp, nonce, body)
	if err != nil {
		return "", err
	}
	return scheme + ` mchid="` + m.MchID + `",nonce_str="` + nonce + `",signature="` + signature +
		`",timestamp="` + timestamp + `",serial_no="` + serial + `"`, nil
}

// nonce returns 26 random letters and digits, more than 128 bits of chance.
func nonce() string { return rand.Text() }
