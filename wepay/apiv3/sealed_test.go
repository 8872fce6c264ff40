package apiv3

import (
	"encoding/base64"
	"errors"
	"sync"
	"testing"

	"github.com/windsome/caddy-wepay/wepay"
)

type cipherVector struct {
	Key            string `json:"key"`
	Nonce          string `json:"nonce"`
	AssociatedData string `json:"associated_data"`
	Plaintext      string `json:"plaintext"`
	Ciphertext     string `json:"ciphertext"`
}

// An empty text is nothing but its tag.
func TestCipherVectors(t *testing.T) {
	for _, name := range []string{"G1", "G2"} {
		v := vectorInto[cipherVector](t, name)
		s := sealed{Algorithm: algorithm, Ciphertext: v.Ciphertext, AssociatedData: v.AssociatedData, Nonce: v.Nonce}
		gcm, err := newGCM(v.Key)
		if err != nil {
			t.Fatal(err)
		}
		if plain, err := s.open(gcm); err != nil || string(plain) != v.Plaintext {
			t.Errorf("%s: got %q, %v", name, plain, err)
		}
		raw, err := base64.StdEncoding.DecodeString(v.Ciphertext)
		if err != nil {
			t.Fatal(err)
		}
		for i := range raw {
			raw[i] ^= 0x80
			s.Ciphertext = base64.StdEncoding.EncodeToString(raw)
			if _, err := s.open(gcm); !errors.Is(err, wepay.ErrAPIv3Key) {
				t.Errorf("%s with byte %d changed: got %v", name, i, err)
			}
			raw[i] ^= 0x80
		}
	}
}

// What an account opens notifications with serves all of them at once.
func TestKeyRingOpens(t *testing.T) {
	s := newSender(t)
	account := NewKeyRing(&wepay.Merchant{APIv3Key: s.keys.APIv3Key}, nil, wepay.ClientOptions{})
	var openers sync.WaitGroup
	for _, name := range []string{"N1", "N2", "N3"} {
		v := vectorInto[notificationVector](t, name)
		u, err := ReadNotification(v.header(), []byte(v.Body))
		if err != nil {
			t.Fatal(err)
		}
		sealed, err := u.Verify(&s.key.PublicKey, sent)
		if err != nil {
			t.Fatal(err)
		}
		for range 3 {
			openers.Go(func() {
				o, err := account.Open(sealed)
				if err != nil || string(o.resource) != v.Plaintext || o.Recipient().APIv3Key != s.keys.APIv3Key {
					t.Errorf("%s: %v", name, err)
				}
			})
		}
	}
	openers.Wait()
}
