package apiv3

import (
	"fmt"
	"time"

	"github.com/windsome/caddy-wepay/wepay"
)

// trialDecryption finds the account whose APIv3 key decrypts a notification that is
// not verified yet. GCM authenticates: only WeChat and the merchant have that key.
// Success is a reason to fetch the certificate that signed it; the plaintext is not
// used.
type trialDecryption struct {
	text, nonce, associated []byte
	plain                   []byte // room for the plaintext
}

// trialDecryption prepares a notification for it. A malformed one gets the error of
// one that no key decrypts; one that is not current gets Verify's.
func (u *Unverified) trialDecryption(now time.Time) (*trialDecryption, error) {
	if err := u.signature.fresh(now); err != nil {
		return nil, err
	}
	s, err := readEnvelope(u.body)
	var text []byte
	if err == nil {
		text, err = s.resource.bytes()
	}
	if err != nil {
		return nil, fmt.Errorf("%w, and there is nothing to decrypt: %w", wepay.ErrUnknownKey, err)
	}
	return &trialDecryption{
		text: text, nonce: []byte(s.resource.Nonce), associated: []byte(s.resource.AssociatedData),
		plain: make([]byte, 0, len(text)),
	}, nil
}

// opens reports whether the account's APIv3 key decrypts it.
func (t *trialDecryption) opens(k *KeyRing) bool {
	gcm, err := k.gcm()
	if err != nil {
		return false // KeyRing.Open reports it
	}
	_, err = gcm.Open(t.plain, t.nonce, t.text, t.associated)
	return err == nil
}
