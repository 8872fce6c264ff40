package apiv3

import (
	"context"
	"crypto/cipher"
	"crypto/rsa"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/windsome/caddy-wepay/wepay"
	"github.com/windsome/caddy-wepay/wepay/internal/flight"
)

// KeyRing is what one merchant account knows WeChat by: WeChat Pay's public
// key, platform certificates, or both while the account moves to the public
// key. It may be used by many goroutines, and by the clients of all merchants
// that share the account. Close it when it is not needed any more.
type KeyRing struct {
	wire
	store Store
	gcm   func() (cipher.AEAD, error) // of the APIv3 key, made when it is needed first

	certificates atomic.Pointer[certificates] // replaced as a whole
	changed      func()                       // told when the certificates are others; may be nil

	loading chan struct{} // holds whoever asks the store, and guards loaded
	loaded  bool          // the store was asked for what it has

	// fetched are the certificates' fetches; what they bring is in certificates.
	fetched *flight.Flight[struct{}]
}

// Store keeps what WeChat told of certificates, so that a restart without a
// network still knows WeChat. What goes wrong with it is for itself to report:
// certificates that are not kept are fetched again.
type Store interface {
	Store(ctx context.Context, key string, value []byte) error
	// Load also tells when the value was stored.
	Load(ctx context.Context, key string) (value []byte, stored time.Time, err error)
}

// The least time between two questions for certificates: of notifications, so
// that what WeChat does not list does not have us hammer it; and of replies, which
// come while WeChat is asked anyway.
const (
	askForNotification = time.Minute
	askForReply        = 5 * time.Second
)

// NewKeyRing returns what the merchant's account knows WeChat by. A nil store
// keeps nothing.
func NewKeyRing(merchant *wepay.Merchant, store Store, options wepay.ClientOptions) *KeyRing {
	gcm := sync.OnceValues(func() (cipher.AEAD, error) { return newGCM(merchant.APIv3Key) })
	k := &KeyRing{wire: newWire(merchant, options), store: store, gcm: gcm, loading: make(chan struct{}, 1)}
	k.fetched = flight.New("platform certificates", k.options.Now, k.fetch)
	return k
}

// Merchant returns a merchant of the account, the one in whose name WeChat is
// asked for certificates.
func (k *KeyRing) Merchant() *wepay.Merchant { return k.merchant }

// Close ends the fetch of certificates that is running, unless a caller still
// waits for it: then it ends with the last of them. It stores nothing any more
// when Close returns. Key serves later callers as before.
func (k *KeyRing) Close() { k.fetched.Close() }

// Key returns the key of WeChat's that a notification's serial number names: the
// id of the public key, or a platform certificate's. For a certificate that is
// not known WeChat is asked, once for all who wait, and not more often than once
// in a minute; and only about a notification whose content opens with the
// account's APIv3 key, as no stranger's does. That is a reason to ask, and vouches
// for nothing. The error wraps wepay.ErrUnknownKey, or wepay.ErrNoAnswer where
// WeChat could not be asked, or wepay.ErrStale or wepay.ErrMalformed.
func (k *KeyRing) Key(ctx context.Context, u *Unverified) (*rsa.PublicKey, error) {
	serial := u.Serial()
	if key := k.held(serial); key != nil {
		return key, nil
	}
	if err := k.checkSerial(serial); err != nil {
		return nil, err
	}
	t, err := u.trialDecryption(k.options.Now())
	if err != nil {
		return nil, err
	}
	if !t.opens(k) {
		return nil, k.unknown(serial, "apiv3_key does not open the content either, so that WeChat Pay is not asked: it is a stranger's, another account's, or apiv3_key is wrong")
	}
	return k.key(ctx, serial, askForNotification)
}

// key returns the key that a serial number names, for whoever may have WeChat
// asked again after a time. The errors are Key's.
func (k *KeyRing) key(ctx context.Context, serial string, again time.Duration) (*rsa.PublicKey, error) {
	if key := k.held(serial); key != nil {
		return key, nil
	}
	if err := k.checkSerial(serial); err != nil {
		return nil, err
	}
	k.Load(ctx)
	if key := k.held(serial); key != nil {
		return key, nil
	}
	if _, err := k.fetched.Get(ctx, again, again); err != nil {
		return nil, err
	}
	if key := k.held(serial); key != nil {
		return key, nil
	}
	return nil, k.unknown(serial, k.certificates.Load().whyNot(serial))
}

// checkSerial says why a serial number that is not known cannot be that of a
// platform certificate of the account.
func (k *KeyRing) checkSerial(serial string) error {
	own, _ := k.merchant.SigningKey()
	switch {
	case strings.HasPrefix(serial, wepay.PublicKeyPrefix):
		return k.unknown(serial, "it is WeChat Pay's public key of another account, or public_key is missing")
	case !namesCertificate(serial):
		return fmt.Errorf("%w: %s names neither a certificate nor a public key", wepay.ErrUnknownKey, headerSerial)
	case serial == own:
		return k.unknown(serial, "it is the merchant's own certificate")
	default:
		return nil
	}
}

// namesCertificate says whether a serial number has the form of a certificate's.
func namesCertificate(serial string) bool {
	parsed, err := wepay.ParseSerial(serial)
	return err == nil && parsed == serial
}

func (k *KeyRing) unknown(serial, why string) error {
	return fmt.Errorf("%w: %s %s of merchant %q: %s", wepay.ErrUnknownKey, headerSerial, serial, k.merchant.Name, why)
}

// Holds says whether a serial number names a key that is known and in force. It
// asks nobody.
func (k *KeyRing) Holds(serial string) bool { return k.held(serial) != nil }

func (k *KeyRing) held(serial string) *rsa.PublicKey {
	if k.merchant.PublicKey != nil && serial == k.merchant.PublicKeyID {
		return k.merchant.PublicKey
	}
	return k.certificates.Load().key(serial, k.options.Now())
}

// Serial names the key that WeChat is to sign replies with: the public key,
// else the newest certificate in force; "" where none is known yet. It asks
// nobody.
func (k *KeyRing) Serial() string {
	if k.merchant.PublicKey != nil {
		return k.merchant.PublicKeyID
	}
	newest := k.certificates.Load().newest(k.options.Now())
	if newest == nil {
		return ""
	}
	return newest.serial
}

// encryption returns the key that sensitive fields are encrypted with, and what
// names it. The errors are Key's.
func (k *KeyRing) encryption(ctx context.Context) (serial string, key *rsa.PublicKey, err error) {
	k.Load(ctx)
	if k.Serial() == "" {
		if _, err := k.fetched.Get(ctx, askForReply, askForReply); err != nil {
			return "", nil, err
		}
	}
	serial = k.Serial()
	if key = k.held(serial); key == nil {
		return "", nil, fmt.Errorf("%w: merchant %q has no platform certificate in force", wepay.ErrUnknownKey, k.merchant.Name)
	}
	return serial, key, nil
}
