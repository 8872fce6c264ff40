package apiv3

import (
	"fmt"
	"time"

	"github.com/windsome/caddy-wepay/wepay"
)

// trialDecryption is what a notification brings that nothing vouches for yet, to find out
// whose APIv3 key opens it. GCM authenticates, so that one was made by somebody
// who has that key: by WeChat. That is a reason to ask WeChat for the key that
// signed it, and what it says is not looked at.
type trialDecryption struct {
	text, nonce, associated []byte
	plain                   []byte // room for what opens
}

// trialDecryption readies a notification that is of now. What cannot be one is refused as
// one that opens with no key is, but for its time, as if it were verified.
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
		return nil, fmt.Errorf("%w, and there is nothing to be opened: %w", wepay.ErrUnknownKey, err)
	}
	return &trialDecryption{
		text: text, nonce: []byte(s.resource.Nonce), associated: []byte(s.resource.AssociatedData),
		plain: make([]byte, 0, len(text)),
	}, nil
}

// opens says whether the account's APIv3 key does.
func (t *trialDecryption) opens(k *KeyRing) bool {
	gcm, err := k.gcm()
	if err != nil {
		return false // its own user is told
	}
	_, err = gcm.Open(t.plain, t.nonce, t.text, t.associated)
	return err == nil
}
