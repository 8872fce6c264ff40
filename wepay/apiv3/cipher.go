package apiv3

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha1"
	"encoding/base64"
	"errors"
	"fmt"

	"github.com/windsome/caddy-wepay/wepay"
)

// algorithm encrypts contents.
const algorithm = "AEAD_AES_256_GCM"

// strict is WeChat's base64: each value has one encoding only.
var strict = base64.StdEncoding.Strict()

// sealed is what was encrypted under the merchant's APIv3 key.
// Source: WeChat Pay, 证书和回调报文解密.
type sealed struct {
	Algorithm      string `json:"algorithm"`
	Ciphertext     string `json:"ciphertext"`
	AssociatedData string `json:"associated_data"`
	Nonce          string `json:"nonce"`
	OriginalType   string `json:"original_type"`
}

func readSealed(d document) (s sealed) {
	for name, value := range walk(d) {
		switch name {
		case "algorithm":
			s.Algorithm = textOf(value)
		case "ciphertext":
			s.Ciphertext = textOf(value)
		case "associated_data":
			s.AssociatedData = textOf(value)
		case "nonce":
			s.Nonce = textOf(value)
		case "original_type":
			s.OriginalType = textOf(value)
		}
	}
	return s
}

// newGCM returns the cipher of an APIv3 key of 32 bytes. The error wraps
// wepay.ErrAPIv3Key.
func newGCM(key string) (cipher.AEAD, error) {
	block, err := aes.NewCipher([]byte(key))
	if err != nil {
		return nil, fmt.Errorf("%w: %w", wepay.ErrAPIv3Key, err)
	}
	return cipher.NewGCM(block)
}

// The lengths of a nonce and of the tag that ends a ciphertext, in bytes.
const (
	nonceSize = 12
	tagSize   = 16
)

// bytes returns a well-formed ciphertext. The error wraps wepay.ErrMalformed.
func (s *sealed) bytes() ([]byte, error) {
	if s.Algorithm != algorithm {
		return nil, fmt.Errorf("%w: it is not encrypted by %s", wepay.ErrMalformed, algorithm)
	}
	text, err := strict.DecodeString(s.Ciphertext)
	if err != nil {
		return nil, fmt.Errorf("%w: its ciphertext is not base64", wepay.ErrMalformed)
	}
	// GCM panics on a nonce of another length.
	if len(s.Nonce) != nonceSize || len(text) < tagSize {
		return nil, fmt.Errorf("%w: its nonce or its ciphertext has a wrong length", wepay.ErrMalformed)
	}
	return text, nil
}

// open decrypts with an APIv3 key's GCM. The error wraps wepay.ErrMalformed, or
// wepay.ErrAPIv3Key where another key is needed.
func (s *sealed) open(gcm cipher.AEAD) ([]byte, error) {
	text, err := s.bytes()
	if err != nil {
		return nil, err
	}
	plain, err := gcm.Open(text[:0], []byte(s.Nonce), text, []byte(s.AssociatedData))
	if err != nil {
		return nil, wepay.ErrAPIv3Key
	}
	return plain, nil
}

// encrypt encrypts a sensitive field for WeChat: RSA-OAEP with SHA-1, base64.
// Source: WeChat Pay, 敏感信息加解密.
func encrypt(key *rsa.PublicKey, value string) (string, error) {
	text, err := rsa.EncryptOAEP(sha1.New(), rand.Reader, key, []byte(value), nil)
	if errors.Is(err, rsa.ErrMessageTooLong) {
		return "", fmt.Errorf("is too long to be encrypted, the limit is %d bytes of UTF-8", key.Size()-2*sha1.Size-2)
	}
	if err != nil {
		return "", fmt.Errorf("encrypting: %w", err)
	}
	return base64.StdEncoding.EncodeToString(text), nil
}

// decrypt decrypts a sensitive field that WeChat encrypted for the merchant.
func decrypt(key *rsa.PrivateKey, value string) (string, error) {
	text, err := strict.DecodeString(value)
	if err != nil {
		return "", errors.New("is not base64")
	}
	plain, err := rsa.DecryptOAEP(sha1.New(), nil, key, text, nil)
	if err != nil {
		return "", errors.New("is not encrypted for the merchant's key")
	}
	return string(plain), nil
}
