package apiv3

import (
	"encoding/base64"
	"errors"
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
		if plain, err := s.open(v.Key); err != nil || string(plain) != v.Plaintext {
			t.Errorf("%s: got %q, %v", name, plain, err)
		}
		raw, err := base64.StdEncoding.DecodeString(v.Ciphertext)
		if err != nil {
			t.Fatal(err)
		}
		for i := range raw {
			raw[i] ^= 0x80
			s.Ciphertext = base64.StdEncoding.EncodeToString(raw)
			if _, err := s.open(v.Key); !errors.Is(err, wepay.ErrAPIv3Key) {
				t.Errorf("%s with byte %d changed: got %v", name, i, err)
			}
			raw[i] ^= 0x80
		}
	}
}
