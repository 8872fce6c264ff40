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

// KeyRing holds the keys of WeChat's that one merchant account verifies with: WeChat
// Pay's public key, platform certificates, or both while the account moves to the
// public key. It may be used by many goroutines, and by the clients of all merchants
// of the account. Close it when it is no longer needed.
type KeyRing struct {
	wire
	store Store
	gcm   func() (cipher.AEAD, error) // of the APIv3 key, made on first use

	certificates atomic.Pointer[certificates] // replaced as a whole
	changed      func()                       // called when they are replaced; may be nil

	loading chan struct{} // held while loading from the store; guards loaded
	loaded  bool          // the store was read

	// fetched fetches into certificates.
	fetched *flight.Flight[struct{}]
}

// Store stores certificates, so that a restart without a network can still verify.
// It reports its own errors: certificates that are not stored are fetched again.
type Store interface {
	Store(ctx context.Context, key string, value []byte) error
	// Load also returns when the value was stored.
	Load(ctx context.Context, key string) (value []byte, stored time.Time, err error)
}

// The least time between two fetches of certificates: for notifications, since
// anyone can send one that names an unknown certificate; and for replies.
const (
	askForNotification = time.Minute
	askForReply        = 5 * time.Second
)

// NewKeyRing returns the key ring of the merchant's account. With a nil store it
// stores nothing.
func NewKeyRing(merchant *wepay.Merchant, store Store, options wepay.ClientOptions) *KeyRing {
	gcm := sync.OnceValues(func() (cipher.AEAD, error) { return newGCM(merchant.APIv3Key) })
	k := &KeyRing{wire: newWire(merchant, options), store: store, gcm: gcm, loading: make(chan struct{}, 1)}
	k.fetched = flight.New("platform certificates", k.options.Now, k.fetch)
	return k
}

// Merchant returns the merchant of the account that fetches certificates.
func (k *KeyRing) Merchant() *wepay.Merchant { return k.merchant }

// Close ends the running fetch of certificates, unless a caller still waits for it:
// then it ends when the last of them leaves. An ended fetch stores nothing after
// Close has returned. Key keeps working.
func (k *KeyRing) Close() { k.fetched.Close() }

// Key returns WeChat's key by a notification's serial number: that of a platform
// certificate, or the id of the public key. An unknown certificate is fetched, once
// for all callers and at most once a minute, and only if the content decrypts with
// the account's APIv3 key, which forgeries do not. Decrypting is a reason to fetch
// and verifies nothing. The error wraps wepay.ErrUnknownKey, wepay.ErrNoAnswer if
// the fetch failed, wepay.ErrStale or wepay.ErrMalformed.
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
		return nil, k.unknown(serial, "apiv3_key does not decrypt the content either: it is forged, another account's, or apiv3_key is wrong")
	}
	return k.key(ctx, serial, askForNotification)
}

// key returns WeChat's key by its serial number. An unknown certificate is fetched,
// unless the last fetch began less than again ago. The errors are Key's.
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

// checkSerial returns why an unknown serial number cannot be that of a platform
// certificate of the account.
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

// namesCertificate reports whether a serial number has the form of a certificate's.
func namesCertificate(serial string) bool {
	parsed, err := wepay.ParseSerial(serial)
	return err == nil && parsed == serial
}

func (k *KeyRing) unknown(serial, why string) error {
	return fmt.Errorf("%w: %s %s of merchant %q: %s", wepay.ErrUnknownKey, headerSerial, serial, k.merchant.Name, why)
}

// Holds reports whether a serial number names a valid key in the ring. It fetches
// nothing.
func (k *KeyRing) Holds(serial string) bool { return k.held(serial) != nil }

func (k *KeyRing) held(serial string) *rsa.PublicKey {
	if k.merchant.PublicKey != nil && serial == k.merchant.PublicKeyID {
		return k.merchant.PublicKey
	}
	return k.certificates.Load().key(serial, k.options.Now())
}

// Serial names the key that WeChat is to sign replies with: the public key, else the
// newest valid certificate; "" if there is none yet. It fetches nothing.
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

// encryption returns the key that encrypts sensitive fields, and its serial number.
// The errors are Key's.
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
