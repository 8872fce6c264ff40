package wepay

import (
	"crypto"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"slices"
	"time"

	"golang.org/x/crypto/pkcs12"
	gopkcs12 "software.sslmate.com/src/go-pkcs12"
)

// ParsePKCS12 reads a merchant's certificate and key from a .p12 file: as
// WeChat issues it (RC2 and 3DES, with or without the chain) or as OpenSSL 3
// writes it (AES). WeChat's passphrase is the mch_id. The error wraps
// ErrPassphrase when the passphrase does not open the file.
func ParsePKCS12(data []byte, passphrase string) (*tls.Certificate, error) {
	if err := notPKCS12(data); err != nil {
		return nil, fmt.Errorf("reading PKCS #12: the file %w", err)
	}
	key, chain, err := decodePKCS12(data, passphrase)
	if err != nil {
		return nil, err
	}
	// A file with a chain need not begin with the merchant's own certificate.
	own := slices.IndexFunc(chain, func(c *x509.Certificate) bool { return belongs(key, c) })
	if own < 0 {
		return nil, errors.New("reading PKCS #12: no certificate in the file belongs to its key")
	}
	chain[0], chain[own] = chain[own], chain[0]
	cert := &tls.Certificate{PrivateKey: key, Leaf: chain[0]}
	for _, c := range chain {
		cert.Certificate = append(cert.Certificate, c.Raw)
	}
	return cert, nil
}

// decodePKCS12 reads what WeChat issues with golang.org/x/crypto/pkcs12. That
// package is frozen: what it cannot read, such as PBES2 and a SHA-256 MAC, its
// maintained successor can.
func decodePKCS12(data []byte, passphrase string) (key any, chain []*x509.Certificate, err error) {
	blocks, err := pkcs12.ToPEM(data, passphrase)
	switch {
	case err == nil:
		return readBlocks(blocks)
	case errors.Is(err, pkcs12.ErrIncorrectPassword), errors.Is(err, pkcs12.ErrDecryption):
		return nil, nil, ErrPassphrase
	}
	key, first, others, err := gopkcs12.DecodeChain(data, passphrase)
	switch {
	case err == nil:
		return key, append([]*x509.Certificate{first}, others...), nil
	case errors.Is(err, gopkcs12.ErrIncorrectPassword), errors.Is(err, gopkcs12.ErrDecryption):
		return nil, nil, ErrPassphrase
	default: // a parser's words would not help
		return nil, nil, errors.New("reading PKCS #12: the file is no .p12 file, or is damaged, or protected in a way that is not known here: download it again, or write it anew (openssl pkcs12 -export …)")
	}
}

// readBlocks reads the key and the certificates of pkcs12.ToPEM, whose keys are
// PKCS #1 or SEC 1 whatever their type says.
func readBlocks(blocks []*pem.Block) (key any, chain []*x509.Certificate, err error) {
	for _, block := range blocks {
		if block.Type == "CERTIFICATE" {
			cert, err := x509.ParseCertificate(block.Bytes)
			if err != nil {
				return nil, nil, fmt.Errorf("reading PKCS #12: reading a certificate: %w", err)
			}
			chain = append(chain, cert)
			continue
		}
		if key != nil {
			return nil, nil, errors.New("reading PKCS #12: there are two keys in the file")
		}
		if key, err = x509.ParsePKCS1PrivateKey(block.Bytes); err != nil {
			key, err = x509.ParseECPrivateKey(block.Bytes)
		}
		if err != nil {
			return nil, nil, fmt.Errorf("reading PKCS #12: reading the key: %w", err)
		}
	}
	if key == nil || chain == nil {
		return nil, nil, errors.New("reading PKCS #12: the file must hold a certificate and its key")
	}
	return key, chain, nil
}

// ParsePEM reads a merchant's certificate, with or without its chain, and its
// unencrypted key from PEM.
func ParsePEM(certificate, key []byte) (*tls.Certificate, error) {
	certificate, err := readPEM(certificate)
	if err != nil {
		return nil, fmt.Errorf("reading a certificate: the file %w", err)
	}
	if _, key, err = keyBlock(key); err != nil {
		return nil, err
	}
	cert, err := tls.X509KeyPair(certificate, key)
	if err != nil {
		return nil, fmt.Errorf("reading PEM pair: %w", err)
	}
	return &cert, nil
}

// ParsePrivateKey reads a merchant's RSA key from PEM, unencrypted: PKCS #8 as
// WeChat's tool writes it, or PKCS #1.
func ParsePrivateKey(text []byte) (*rsa.PrivateKey, error) {
	block, _, err := keyBlock(text)
	if err != nil {
		return nil, err
	}
	var key any
	switch block.Type {
	case "PRIVATE KEY":
		key, err = x509.ParsePKCS8PrivateKey(block.Bytes)
	case "RSA PRIVATE KEY":
		key, err = x509.ParsePKCS1PrivateKey(block.Bytes)
	default:
		return nil, fmt.Errorf("reading a private key: the file holds a %s: it must be apiclient_key.pem", block.Type)
	}
	if err != nil {
		return nil, fmt.Errorf("reading a private key: %w", err)
	}
	private, ok := key.(*rsa.PrivateKey)
	if !ok {
		return nil, errors.New("reading a private key: it is not RSA")
	}
	return private, nil
}

// ParsePublicKey reads WeChat Pay's public key (pub_key.pem) from PEM.
func ParsePublicKey(text []byte) (*rsa.PublicKey, error) {
	text, err := readPEM(text)
	if err != nil {
		return nil, fmt.Errorf("reading a public key: the file %w", err)
	}
	block, _ := pem.Decode(text)
	if block.Type != "PUBLIC KEY" {
		return nil, fmt.Errorf("reading a public key: the file holds a %s: it must be WeChat Pay's pub_key.pem, which the merchant platform offers", block.Type)
	}
	key, err := x509.ParsePKIXPublicKey(block.Bytes)
	if err != nil {
		return nil, fmt.Errorf("reading a public key: %w", err)
	}
	public, ok := key.(*rsa.PublicKey)
	if !ok {
		return nil, errors.New("reading a public key: it is not RSA")
	}
	return public, nil
}

// CertificateSerial returns a certificate's serial number as WeChat writes it:
// upper-case hex of its 20 bytes.
func CertificateSerial(cert *x509.Certificate) string {
	return fmt.Sprintf("%040X", cert.SerialNumber)
}

// belongs says whether a certificate is of a key.
func belongs(key any, cert *x509.Certificate) bool {
	private, ok := key.(interface{ Public() crypto.PublicKey })
	if !ok {
		return false
	}
	public, ok := private.Public().(interface{ Equal(crypto.PublicKey) bool })
	return ok && public.Equal(cert.PublicKey)
}

// CheckValidity says why a certificate cannot be used at a time.
func CheckValidity(cert *x509.Certificate, at time.Time) error {
	switch {
	case at.After(cert.NotAfter):
		return fmt.Errorf("the certificate expired on %s", cert.NotAfter.Format(time.DateOnly))
	case at.Before(cert.NotBefore):
		return fmt.Errorf("the certificate is not valid before %s (is this machine's clock right?)", cert.NotBefore.Format(time.DateOnly))
	default:
		return nil
	}
}
