package wepaytest

import (
	"crypto/x509"
	"errors"
	"fmt"
	"time"

	"github.com/windsome/caddy-wepay/wepay"
)

// ErrNoCertificate is for merchants that verify with the public key only.
var ErrNoCertificate = errors.New("no platform certificate")

// PublicKey returns the WeChat Pay public key that the merchant platform offers
// to a merchant, with its id: PUB_KEY_ID_01… and pub_key.pem. Until the merchant
// is Migrating nothing is signed with it. The error wraps wepay.ErrNoMerchant.
func (s *Server) PublicKey(mchID string) (id string, pem []byte, err error) {
	err = s.withKeys(mchID, func(_ *account, p *keyRing) error {
		id = p.public.id
		pem, err = publicKeyPEM(p.public.key)
		return err
	})
	return id, pem, err
}

// PlatformCertificates returns the certificates that GET /v3/certificates lists, the
// oldest first. The error wraps wepay.ErrNoMerchant or ErrNoCertificate.
func (s *Server) PlatformCertificates(mchID string) (certs []*x509.Certificate, err error) {
	err = s.withKeys(mchID, func(_ *account, p *keyRing) error {
		if p.mode == ByPublicKey {
			return ErrNoCertificate
		}
		for _, k := range p.valid(s.clock.Now()) {
			certs = append(certs, k.cert)
		}
		return nil
	})
	return certs, err
}

// AnnounceCertificate lists a new platform certificate, and returns its serial number. The
// old one signs until RotateCertificate. The errors are PlatformCertificates'.
func (s *Server) AnnounceCertificate(mchID string) (serial string, err error) {
	err = s.withKeys(mchID, func(a *account, p *keyRing) error {
		if p.mode == ByPublicKey {
			return ErrNoCertificate
		}
		k, err := s.newPlatformCertificate(a)
		if err == nil {
			serial = k.id
		}
		return err
	})
	return serial, err
}

// RotateCertificate makes the newest platform certificate sign from now on, a new one if
// none was announced, and returns its serial number. Old ones are listed until
// RetireCertificates. The errors are PlatformCertificates'.
func (s *Server) RotateCertificate(mchID string) (serial string, err error) {
	err = s.withKeys(mchID, func(a *account, p *keyRing) error {
		if p.mode == ByPublicKey {
			return ErrNoCertificate
		}
		newest := p.certs[len(p.certs)-1]
		if newest == p.inUse {
			var err error
			if newest, err = s.newPlatformCertificate(a); err != nil {
				return err
			}
		}
		p.inUse, serial = newest, newest.id
		return nil
	})
	return serial, err
}

// RetireCertificates drops every platform certificate but the one that signs.
// The errors are PlatformCertificates'.
func (s *Server) RetireCertificates(mchID string) error {
	return s.withKeys(mchID, func(_ *account, p *keyRing) error {
		if p.mode == ByPublicKey {
			return ErrNoCertificate
		}
		p.certs = []*wechatKey{p.inUse}
		return nil
	})
}

// Migrate changes the keys that WeChat signs with for a merchant. Share is the share of
// notifications that the public key signs while Migrating, from 0 to 1; WeChat raises it
// over seven days. ByPublicKey revokes the platform certificates. The error wraps
// wepay.ErrNoMerchant, or is a *wepay.FieldError for an invalid share.
func (s *Server) Migrate(mchID string, mode KeyMode, share float64) error {
	if share < 0 || share > 1 {
		return fmt.Errorf("migrating %q: %w", mchID, &wepay.FieldError{Field: "share", Reason: "must be from 0 to 1"})
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	a, found := s.accounts[mchID]
	if !found {
		return fmt.Errorf("migrating %q: %w", mchID, wepay.ErrNoMerchant)
	}
	a.migrate(mode)
	a.keyRing.share, a.keyRing.due = share, 0
	return nil
}

func (a *account) migrate(mode KeyMode) {
	a.keyRing.mode = mode
	if mode == ByPublicKey {
		a.keyRing.certs, a.keyRing.inUse = nil, nil
	}
}

func (s *Server) withKeys(mchID string, do func(*account, *keyRing) error) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	a, found := s.accounts[mchID]
	if !found {
		return fmt.Errorf("WeChat's keys for %q: %w", mchID, wepay.ErrNoMerchant)
	}
	p, err := s.keys(a)
	if err == nil {
		err = do(a, p)
	}
	if err != nil {
		return fmt.Errorf("WeChat's keys for %q: %w", mchID, err)
	}
	return nil
}

// listCertificates is GET /v3/certificates: each certificate encrypted with the merchant's
// APIv3 key.
func (x *v3exchange) listCertificates() (object, *v3refusal) {
	p := &x.account.keyRing
	switch {
	case p.mode == ByPublicKey:
		return nil, absent("RESOURCE_NOT_EXISTS", "无可用的平台证书，请在商户平台-API安全申请使用微信支付公钥")
	case x.account.APIv3Key == "":
		return nil, invalidRequest("商户未设置APIv3密钥")
	case x.query.text("algorithm_type") == "SM2":
		return nil, absent("RESOURCE_NOT_EXISTS", "无可用的平台证书")
	}
	data := []any{}
	for _, k := range p.valid(x.now) {
		encrypted, err := sealed(x.account.APIv3Key, "certificate", certificatePEM(k.cert))
		if err != nil {
			return nil, broken()
		}
		data = append(data, object{
			"serial_no": k.id, "encrypt_certificate": encrypted,
			"effective_time": moment(k.cert.NotBefore), "expire_time": moment(k.cert.NotAfter),
		})
	}
	return object{"data": data}, nil
}

// moment is the form of times in API v3.
func moment(t time.Time) string { return t.In(beijing).Format(time.RFC3339) }
