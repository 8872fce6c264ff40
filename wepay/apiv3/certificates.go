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

// certificates are all that WeChat listed in one reply; nil: none. They do not
// change.
type certificates struct {
	bySerial map[string]*certificate
	unusable map[string]error // why others are left out
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

// whyNot says why there is no key of a serial number.
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

// newest returns the certificate in force that began last, which is the one to
// encrypt with while WeChat rotates them; nil without one.
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

// RefreshEvery is how often platform certificates are to be fetched. WeChat
// asks for less than 12 hours; a new one is listed for a day before it signs.
// Source: WeChat Pay, 平台证书更新指引.
const RefreshEvery = 10 * time.Hour

// Due says when Refresh should be called: at once where there is nothing yet,
// a while after it failed, and never for an account with the public key, as
// long as WeChat used no certificate with it, or once it lists none any more.
func (p *Platform) Due() (at time.Time, ever bool) {
	cs := p.certificates.Load()
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case p.merchant.PublicKey != nil && (cs == nil || p.failed != nil):
		return time.Time{}, false
	case p.asked.IsZero():
		return time.Time{}, true
	case p.failed != nil:
		return p.asked.Add(retryEvery), true
	default:
		return p.asked.Add(RefreshEvery), true
	}
}

// retryEvery is how long after a failed fetch the next is due.
const retryEvery = 5 * time.Minute

// Refresh fetches the platform certificates that WeChat lists for the account.
// Those held before stay where that fails.
func (p *Platform) Refresh(ctx context.Context) error {
	p.Load(ctx)
	return p.refresh(ctx, 0)
}

// fetch asks WeChat for the certificates and takes them in place of those
// before.
// Source: WeChat Pay, 下载平台证书 (/v3/certificates).
func (p *Platform) fetch(ctx context.Context) error {
	failing := func(err error) error {
		return fmt.Errorf("%w: fetching platform certificates of merchant %q: %w", wepay.ErrNoAnswer, p.merchant.Name, p.quoter.QuoteError(err))
	}
	if err := p.merchant.RequireV3(); err != nil {
		return failing(err)
	}
	// A certificate that WeChat has retired must not keep the new ones from coming,
	// so that none is named; the public key counts as in use only where it is.
	answer, err := p.ask(ctx, request{method: http.MethodGet, uri: "/v3/certificates", repeatable: true, serial: p.merchant.PublicKeyID})
	if err != nil {
		return failing(err)
	}
	if told, refused := answer.refusal(); refused {
		return failing(fmt.Errorf("WeChat Pay refused: %s %s%s", p.quoter.Quote(told.Code), p.quoter.Quote(told.Message), p.hint(told.Code)))
	}
	fresh, err := p.open(answer.body)
	if err != nil {
		return failing(err)
	}
	if err := p.believeCertificates(answer, fresh); err != nil {
		return failing(err)
	}
	p.replace(fresh)
	if p.store != nil {
		_ = p.store.Store(ctx, p.storeKey(), answer.body) // which reports why not
	}
	return nil
}

// hint says what to do about a refusal of certificates.
func (p *Platform) hint(code string) string {
	switch {
	case code == "RESOURCE_NOT_EXISTS" && p.merchant.PublicKey != nil:
		return ": the account has none any more, and is known by public_key alone"
	case code == "RESOURCE_NOT_EXISTS":
		return ": the account has none; set public_key to WeChat Pay's public key (微信支付公钥) from the merchant platform"
	case code == "SIGN_ERROR":
		return ": are mch_id, mch_serial and private_key of one certificate, and is this machine's clock right?"
	default:
		return ""
	}
}

// believeCertificates verifies the reply that brought certificates: with a key
// that is known already, or else with one of its own, which the APIv3 key
// vouches for.
func (p *Platform) believeCertificates(answer *reply, fresh *certificates) error {
	s, err := readSignature(answer.header)
	if err != nil {
		return err
	}
	now := p.now()
	key := p.held(s.serial)
	if key == nil {
		key = fresh.key(s.serial, now)
	}
	if key == nil {
		return fmt.Errorf("%w: the reply is signed with %s: %s", wepay.ErrUnknownKey, s.serial, fresh.whyNot(s.serial))
	}
	return s.verify(key, answer.body, now)
}

// open decrypts the certificates of a reply with the APIv3 key. One that cannot be
// used is left out, unless that leaves none.
func (p *Platform) open(body []byte) (*certificates, error) {
	var listed struct {
		Data []struct {
			Serial    string `json:"serial_no"`
			Encrypted sealed `json:"encrypt_certificate"`
		} `json:"data"`
	}
	if err := decode(body, &listed); err != nil {
		return nil, fmt.Errorf("%w: reading the list: %w", wepay.ErrMalformed, err)
	}
	gcm, err := p.gcm()
	if err != nil {
		return nil, err
	}
	cs := &certificates{bySerial: make(map[string]*certificate, len(listed.Data)), unusable: make(map[string]error)}
	none := fmt.Errorf("%w: the list is empty", wepay.ErrMalformed)
	for _, item := range listed.Data {
		c, err := p.openCertificate(gcm, item.Serial, &item.Encrypted)
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
func (p *Platform) openCertificate(gcm cipher.AEAD, serial string, encrypted *sealed) (*certificate, error) {
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
	if _, own := p.merchant.SigningKey(); own.PublicKey.Equal(c.key) {
		return nil, fmt.Errorf("%w: certificate %s is the merchant's own", wepay.ErrMalformed, c.serial)
	}
	return c, nil
}

// minKeyBits is the length of WeChat Pay's RSA keys.
const minKeyBits = 2048

// parseCertificate reads a certificate that the APIv3 key vouches for. Who issued
// it is not checked: WeChat's root is in no store, and whoever has that key could
// as well send what it opens.
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

// replace takes certificates in place of those before, and reports which are left
// out.
func (p *Platform) replace(fresh *certificates) {
	p.certificates.Store(fresh)
	if p.changed != nil {
		p.changed()
	}
	for _, err := range fresh.unusable {
		if p.unusable != nil {
			p.unusable(p.merchant, err)
		}
	}
}

// storeKey is where the account's certificates are kept.
func (p *Platform) storeKey() string { return "wepay/certificates/" + p.merchant.MchID + ".json" }

// Load takes the certificates that were kept from before, once, unless the
// context ends first. What is kept is WeChat's reply as it came: nobody without
// the APIv3 key can have made it. It is as old as it is in the store, so that a
// restart does not have WeChat asked before Due.
func (p *Platform) Load(ctx context.Context) {
	select {
	case p.loading <- struct{}{}:
		defer func() { <-p.loading }()
	case <-ctx.Done():
		return
	}
	if p.loaded {
		return
	}
	if p.store == nil || p.merchant.RequireV3() != nil {
		p.loaded = true
		return
	}
	body, stored, err := p.store.Load(ctx, p.storeKey())
	p.loaded = ctx.Err() == nil
	if err != nil {
		return // there are none, or the store has reported why not
	}
	kept, err := p.open(body)
	if err != nil || p.certificates.Load() != nil {
		return // what does not open was kept under another key
	}
	p.replace(kept)
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.asked.IsZero() && !stored.After(p.now()) {
		p.asked = stored
	}
}

// Expires returns when the last of the platform certificates in force expires;
// the zero time where none is.
func (p *Platform) Expires() (last time.Time) {
	now := p.now()
	if cs := p.certificates.Load(); cs != nil {
		for _, c := range cs.bySerial {
			if c.inForce(now) && c.notAfter.After(last) {
				last = c.notAfter
			}
		}
	}
	return last
}
