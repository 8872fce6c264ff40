package wepaytest

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"sync"
	"time"

	"software.sslmate.com/src/go-pkcs12"

	"github.com/windsome/caddy-wepay/wepay"
)

// certificateLife is how long a merchant's certificate is valid, as WeChat's.
const certificateLife = 5 * 365 * 24 * time.Hour

// Credential is a merchant's API certificate with its key, in every form in
// which merchants have it.
type Credential struct {
	Certificate tls.Certificate // with Leaf
	Serial      string          // 40 hex digits, as the merchant platform shows it

	CertPEM []byte // apiclient_cert.pem
	KeyPEM  []byte // apiclient_key.pem: PKCS #8, not encrypted

	// The passphrase of each is the mch_id.
	P12       []byte // apiclient_cert.p12 as WeChat issues it: RC2 and 3DES
	P12Chain  []byte // the same with the issuer's certificate, as old ones were
	P12Modern []byte // the same as OpenSSL 3 writes it: AES-256 and SHA-256
}

// Issue gives a registered merchant a certificate that is valid for five years
// from the server's time, each time another one. Those issued before stay
// valid, as in the merchant platform. All have one RSA key, because making one
// takes long.
func (s *Server) Issue(mchID string) (Credential, error) {
	s.mu.Lock()
	_, found := s.accounts[mchID]
	s.mu.Unlock()
	if !found {
		return Credential{}, fmt.Errorf("issuing a certificate to %q: %w", mchID, wepay.ErrNoMerchant)
	}
	key, err := merchantKey()
	if err != nil {
		return Credential{}, err
	}
	now := s.clock.Now()
	leaf, err := s.authority.sign(&x509.Certificate{
		Subject: pkix.Name{
			CommonName: mchID, OrganizationalUnit: []string{"测试商户"}, Organization: []string{"微信商户系统"},
			Locality: []string{"Shenzhen"}, Country: []string{"CN"},
		},
		NotBefore:   now.Add(-time.Minute),
		NotAfter:    now.Add(certificateLife),
		KeyUsage:    x509.KeyUsageDigitalSignature | x509.KeyUsageKeyEncipherment,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	}, key.Public())
	if err != nil {
		return Credential{}, err
	}
	if err := s.AddCertificate(mchID, leaf); err != nil {
		return Credential{}, err
	}
	return newCredential(key, leaf, s.authority.cert, mchID)
}

// merchantKey is the RSA key of every merchant's certificate in this process.
var merchantKey = sync.OnceValues(func() (*rsa.PrivateKey, error) {
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		return nil, fmt.Errorf("making a merchant's key: %w", err)
	}
	return key, nil
})

func newCredential(key *rsa.PrivateKey, leaf, issuer *x509.Certificate, passphrase string) (Credential, error) {
	c := Credential{
		Certificate: tls.Certificate{Certificate: [][]byte{leaf.Raw}, PrivateKey: key, Leaf: leaf},
		Serial:      wepay.CertificateSerial(leaf),
		CertPEM:     certificatePEM(leaf),
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return Credential{}, fmt.Errorf("writing a merchant's key: %w", err)
	}
	c.KeyPEM = pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})
	for _, form := range []struct {
		to      *[]byte
		encoder *pkcs12.Encoder
		chain   []*x509.Certificate
	}{
		{&c.P12, pkcs12.LegacyRC2, nil},
		{&c.P12Chain, pkcs12.LegacyRC2, []*x509.Certificate{issuer}},
		{&c.P12Modern, pkcs12.Modern2023, nil},
	} {
		if *form.to, err = form.encoder.Encode(key, leaf, form.chain, passphrase); err != nil {
			return Credential{}, fmt.Errorf("writing PKCS #12: %w", err)
		}
	}
	return c, nil
}

func certificatePEM(cert *x509.Certificate) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert.Raw})
}

// authority signs the certificates of one server and its merchants. Its key
// lives as long as the server.
type authority struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

// always is the validity of the server's own certificates: they must hold by
// the client's clock as well as by the server's, which tests may turn.
var always = [2]time.Time{
	time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC),
	time.Date(2100, 1, 1, 0, 0, 0, 0, time.UTC),
}

func newAuthority() (*authority, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("making the authority's key: %w", err)
	}
	a := &authority{key: key, cert: &x509.Certificate{
		Subject:               pkix.Name{CommonName: "wepaytest Root CA", Organization: []string{"wepaytest"}},
		NotBefore:             always[0],
		NotAfter:              always[1],
		IsCA:                  true,
		BasicConstraintsValid: true,
		KeyUsage:              x509.KeyUsageCertSign,
	}}
	a.cert, err = a.sign(a.cert, key.Public())
	return a, err
}

// sign issues a certificate with a serial number of 20 bytes, as WeChat's.
func (a *authority) sign(template *x509.Certificate, public crypto.PublicKey) (*x509.Certificate, error) {
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 159))
	if err != nil {
		return nil, fmt.Errorf("making a serial number: %w", err)
	}
	template.SerialNumber = serial
	der, err := x509.CreateCertificate(rand.Reader, template, a.cert, public, a.key)
	if err != nil {
		return nil, fmt.Errorf("signing a certificate: %w", err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, fmt.Errorf("reading a certificate just signed: %w", err)
	}
	return cert, nil
}

// serverCertificate is for the address that the server listens on and for
// WeChat's own names, so that a test may dial here under those.
func (a *authority) serverCertificate(listen net.IP) (tls.Certificate, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return tls.Certificate{}, fmt.Errorf("making the server's key: %w", err)
	}
	cert, err := a.sign(&x509.Certificate{
		Subject:     pkix.Name{CommonName: "api.mch.weixin.qq.com"},
		NotBefore:   always[0],
		NotAfter:    always[1],
		KeyUsage:    x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		DNSNames: []string{
			"localhost", "api.mch.weixin.qq.com", "api2.mch.weixin.qq.com",
			"fraud.mch.weixin.qq.com", "api.weixin.qq.com", "api2.weixin.qq.com",
		},
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1), net.IPv6loopback, listen},
	}, key.Public())
	if err != nil {
		return tls.Certificate{}, err
	}
	return tls.Certificate{Certificate: [][]byte{cert.Raw}, PrivateKey: key, Leaf: cert}, nil
}

func (a *authority) pool() *x509.CertPool {
	pool := x509.NewCertPool()
	pool.AddCert(a.cert)
	return pool
}

// check says in WeChat's words what is wrong with a client's certificate.
// WeChat answers HTTP 200 with return_code FAIL and such a text when the
// certificate is foreign, expired or another merchant's, and nginx's page only
// when there is none (protocol of /secapi, as merchants report it).
func (a *authority) check(cert *x509.Certificate, mchID string, now time.Time) *refusal {
	if now.After(cert.NotAfter) {
		return failAs("CA_ERROR", "证书已过期")
	}
	_, err := cert.Verify(x509.VerifyOptions{
		Roots: a.pool(), CurrentTime: now, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	})
	if err != nil || cert.Subject.CommonName != mchID {
		return failAs("CA_ERROR", "证书错误,请检查证书")
	}
	return nil
}
