package apiv3

import (
	"context"
	"crypto/cipher"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/windsome/caddy-wepay/wepay"
)

// certificate is a platform certificate (微信支付平台证书).
type certificate struct {
	serial              string
	key                 *rsa.PublicKey
	notBefore, notAfter time.Time
}

func (c *certificate) inForce(now time.Time) bool {
	return !now.Before(c.notBefore) && !now.After(c.notAfter)
}

// certificates are those that WeChat listed in one reply; nil: none. They are
// immutable.
type certificates struct {
	bySerial map[string]*certificate
	unusable map[string]error // why the others are left out
}

func (cs *certificates) key(serial string, now time.Time) *rsa.PublicKey {
	if cs == nil {
		return nil
	}
	c, found := cs.bySerial[serial]
	if !found || !c.inForce(now) {
		return nil
	}
	return c.key
}

// whyNot returns why there is no key with a serial number.
func (cs *certificates) whyNot(serial string) string {
	if cs != nil && cs.bySerial[serial] != nil {
		c := cs.bySerial[serial]
		return fmt.Sprintf("that certificate is in force from %s to %s only (is this machine's clock right?)",
			c.notBefore.Format(time.DateOnly), c.notAfter.Format(time.DateOnly))
	}
	if cs != nil && cs.unusable[serial] != nil {
		return "it cannot be used: " + cs.unusable[serial].Error()
	}
	return "WeChat Pay does not list that certificate"
}

// newest returns the valid certificate that started last, which encrypts while
// WeChat rotates them; nil without one.
func (cs *certificates) newest(now time.Time) (newest *certificate) {
	if cs == nil {
		return nil
	}
	for _, c := range cs.bySerial {
		if c.inForce(now) && (newest == nil || c.notBefore.After(newest.notBefore)) {
			newest = c
		}
	}
	return newest
}

// RefreshEvery is how often platform certificates are fetched. WeChat demands less
// than 12 hours; a new one is listed for a day before it signs.
// Source: WeChat Pay, 平台证书更新指引.
const RefreshEvery = 10 * time.Hour

// Due returns when to call Refresh: at once if nothing was fetched yet, a while
// after a failure, and never for an account with the public key that has not seen a
// certificate in use, or whose certificates are no longer listed.
func (k *KeyRing) Due() (at time.Time, ever bool) {
	asked, failed := k.fetched.Last()
	switch {
	case k.merchant.PublicKey != nil && (k.certificates.Load() == nil || failed != nil):
		return time.Time{}, false
	case asked.IsZero():
		return time.Time{}, true
	case failed != nil:
		return asked.Add(retryEvery), true
	default:
		return asked.Add(RefreshEvery), true
	}
}

// retryEvery is how long after a failed fetch the next is due.
const retryEvery = 5 * time.Minute

// Refresh fetches the platform certificates that WeChat lists for the account. If
// that fails the old ones stay.
func (k *KeyRing) Refresh(ctx context.Context) error {
	k.Load(ctx)
	_, err := k.fetched.Get(ctx, 0, 0)
	return err
}

// Whether a refusal of WeChat's passes by itself.
var (
	errRefused = errors.New("WeChat Pay refused")
	errBusy    = errors.New("WeChat Pay refused for now")
)

// fetch fetches the certificates and replaces the old ones.
// Source: WeChat Pay, 下载平台证书 (/v3/certificates).
func (k *KeyRing) fetch(ctx context.Context) (none struct{}, err error) {
	failing := func(err error) (struct{}, error) {
		return none, fmt.Errorf("%w: fetching platform certificates of merchant %q: %w", wepay.ErrNoAnswer, k.merchant.Name, k.quoter.QuoteError(err))
	}
	if err := k.merchant.RequireV3(); err != nil {
		return failing(err)
	}
	// No certificate is named, as a retired one would keep the new ones from coming.
	// The public key counts as in use only if it is named.
	answer, err := k.ask(ctx, request{method: http.MethodGet, uri: "/v3/certificates", repeatable: true, serial: k.merchant.PublicKeyID})
	if err != nil {
		return failing(err)
	}
	if told, refused := answer.refusal(); refused {
		why := errRefused
		if answer.status >= http.StatusInternalServerError || answer.status == http.StatusTooManyRequests {
			why = errBusy
		}
		return failing(fmt.Errorf("%w: %s %s%s", why, k.quoter.Quote(told.code), k.quoter.Quote(told.text()), k.hint(told.code)))
	}
	fresh, err := k.open(answer.body)
	if err != nil {
		return failing(err)
	}
	if err := k.verifyCertificates(answer, fresh); err != nil {
		return failing(err)
	}
	k.replace(fresh)
	if k.store != nil {
		_ = k.store.Store(ctx, k.storeKey(), answer.body) // which reports errors
	}
	return none, nil
}

// hint returns what to do about a refusal.
func (k *KeyRing) hint(code string) string {
	switch {
	case code == "RESOURCE_NOT_EXISTS" && k.merchant.PublicKey != nil:
		return ": the account has none any more, and is known by public_key alone"
	case code == "RESOURCE_NOT_EXISTS":
		return ": the account has none; set public_key to WeChat Pay's public key (微信支付公钥) from the merchant platform"
	case code == "SIGN_ERROR":
		return ": are mch_id, mch_serial and private_key of one certificate, and is this machine's clock right?"
	default:
		return ""
	}
}

// verifyCertificates verifies the reply with the certificates: with a known key, or
// else with one of its own, which the APIv3 key authenticates.
func (k *KeyRing) verifyCertificates(answer *reply, fresh *certificates) error {
	s, err := readSignature(answer.header)
	if err != nil {
		return err
	}
	now := k.options.Now()
	key := k.held(s.serial)
	if key == nil {
		key = fresh.key(s.serial, now)
	}
	if key == nil {
		return fmt.Errorf("%w: the reply is signed with %s: %s", wepay.ErrUnknownKey, s.serial, fresh.whyNot(s.serial))
	}
	return s.verify(key, answer.body, now)
}

// open decrypts the certificates of a reply with the APIv3 key. An unusable one is
// left out, unless that leaves none.
func (k *KeyRing) open(body []byte) (*certificates, error) {
	var listed struct {
		Data []struct {
			Serial    string `json:"serial_no"`
			Encrypted sealed `json:"encrypt_certificate"`
		} `json:"data"`
	}
	if err := decode(body, &listed); err != nil {
		return nil, fmt.Errorf("%w: reading the list: %w", wepay.ErrMalformed, err)
	}
	gcm, err := k.gcm()
	if err != nil {
		return nil, err
	}
	cs := &certificates{bySerial: make(map[string]*certificate, len(listed.Data)), unusable: make(map[string]error)}
	none := fmt.Errorf("%w: the list is empty", wepay.ErrMalformed)
	for _, item := range listed.Data {
		c, err := k.openCertificate(gcm, item.Serial, &item.Encrypted)
		if err != nil {
			none, cs.unusable[item.Serial] = err, err
			continue
		}
		cs.bySerial[c.serial] = c
	}
	if len(cs.bySerial) == 0 {
		return nil, none
	}
	return cs, nil
}

// openCertificate decrypts one that is listed under a serial number.
func (k *KeyRing) openCertificate(gcm cipher.AEAD, serial string, encrypted *sealed) (*certificate, error) {
	text, err := encrypted.open(gcm)
	if err != nil {
		return nil, fmt.Errorf("opening certificate %s: %w", serial, err)
	}
	c, err := parseCertificate(text)
	if err != nil {
		return nil, fmt.Errorf("reading certificate %s: %w", serial, err)
	}
	if c.serial != serial {
		return nil, fmt.Errorf("%w: certificate %s is listed as %s", wepay.ErrMalformed, c.serial, serial)
	}
	if _, own := k.merchant.SigningKey(); own.PublicKey.Equal(c.key) {
		return nil, fmt.Errorf("%w: certificate %s is the merchant's own", wepay.ErrMalformed, c.serial)
	}
	return c, nil
}

// minKeyBits is the length of WeChat Pay's RSA keys.
const minKeyBits = 2048

// parseCertificate reads a certificate that the APIv3 key authenticates. Its issuer
// is not checked: WeChat's root is in no trust store, and anyone with the APIv3 key
// can encrypt a certificate.
func parseCertificate(text []byte) (*certificate, error) {
	block, _ := pem.Decode(text)
	if block == nil || block.Type != "CERTIFICATE" {
		return nil, errors.New("it is no certificate in PEM")
	}
	cert, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		return nil, err
	}
	key, ok := cert.PublicKey.(*rsa.PublicKey)
	if !ok {
		return nil, errors.New("its key is not RSA")
	}
	if bits := key.N.BitLen(); bits < minKeyBits {
		return nil, fmt.Errorf("its key is of %d bits, WeChat Pay's are of %d", bits, minKeyBits)
	}
	return &certificate{wepay.CertificateSerial(cert), key, cert.NotBefore, cert.NotAfter}, nil
}

// replace replaces the certificates, and reports those that are unusable.
func (k *KeyRing) replace(fresh *certificates) {
	k.certificates.Store(fresh)
	if k.changed != nil {
		k.changed()
	}
	for _, err := range fresh.unusable {
		if k.options.Unusable != nil {
			k.options.Unusable(k.merchant, err)
		}
	}
}

// storeKey is the key of the account's certificates in the store.
func (k *KeyRing) storeKey() string { return "wepay/certificates/" + k.merchant.MchID + ".json" }

// Load loads the stored certificates, once, unless the context ends first. Stored is
// WeChat's reply as it came, which only the APIv3 key can have encrypted. Its age is
// that in the store, so that a restart does not fetch before Due.
func (k *KeyRing) Load(ctx context.Context) {
	select {
	case k.loading <- struct{}{}:
		defer func() { <-k.loading }()
	case <-ctx.Done():
		return
	}
	if k.loaded {
		return
	}
	if k.store == nil || k.merchant.RequireV3() != nil {
		k.loaded = true
		return
	}
	body, at, err := k.store.Load(ctx, k.storeKey())
	k.loaded = ctx.Err() == nil
	if err != nil {
		return // there are none, or the store has reported the error
	}
	stored, err := k.open(body)
	if err != nil || k.certificates.Load() != nil {
		return // what does not decrypt was stored under another key
	}
	k.replace(stored)
	k.fetched.Assume(struct{}{}, at)
}

// Expires returns when the last valid platform certificate expires; zero if there is
// none.
func (k *KeyRing) Expires() (last time.Time) {
	now := k.options.Now()
	if cs := k.certificates.Load(); cs != nil {
		for _, c := range cs.bySerial {
			if c.inForce(now) && c.notAfter.After(last) {
				last = c.notAfter
			}
		}
	}
	return last
}
