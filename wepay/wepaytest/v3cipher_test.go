package wepaytest_test

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha1"
	"encoding/base64"
	"fmt"
	"testing"
)

// open decrypts a resource under an APIv3 key.
func open(t *testing.T, key string, resource map[string]any) []byte {
	t.Helper()
	plain, err := unseal(key, at(resource, "nonce"), at(resource, "associated_data"), at(resource, "ciphertext"))
	if err != nil {
		t.Fatal(err)
	}
	return plain
}

func unseal(key, nonce, data, ciphertext string) ([]byte, error) {
	raw, err := base64.StdEncoding.DecodeString(ciphertext)
	if err != nil {
		return nil, err
	}
	block, err := aes.NewCipher([]byte(key))
	if err != nil {
		return nil, err
	}
	gcm, err := cipher.NewGCM(block)
	if err != nil {
		return nil, err
	}
	if len(nonce) != gcm.NonceSize() {
		return nil, fmt.Errorf("a nonce of %d", len(nonce))
	}
	return gcm.Open(nil, []byte(nonce), raw, []byte(data))
}

// encrypted is a sensitive field for WeChat, under the key that requests name.
func (s *v3shop) encrypted(plain string) string {
	s.t.Helper()
	sealed, err := rsa.EncryptOAEP(sha1.New(), rand.Reader, s.wechatKey(s.serial), []byte(plain), nil)
	if err != nil {
		s.t.Fatal(err)
	}
	return base64.StdEncoding.EncodeToString(sealed)
}
