package caddymodule

import (
	"cmp"
	"crypto/tls"
	"errors"
	"time"

	"github.com/windsome/caddy-wepay/wepay"
)

// readFiles reads a merchant's certificate and keys; at a time they can be used.
func (c *MerchantConfig) readFiles(merchant *wepay.Merchant, at time.Time) (err error) {
	if merchant.Certificate, err = c.certificate(at); err != nil {
		return err
	}
	if merchant.PrivateKey, err = readKey("private_key", c.PrivateKey, wepay.ParsePrivateKey); err != nil {
		return err
	}
	merchant.PublicKey, err = readKey("public_key", c.PublicKeyFile, wepay.ParsePublicKey)
	return err
}

// readKey reads a key's file, or returns nil without one.
func readKey[K any](directive, file string, parse func([]byte) (*K, error)) (*K, error) {
	if file == "" {
		return nil, nil
	}
	text, err := readFile(directive, file)
	if err != nil {
		return nil, err
	}
	key, err := parse(text)
	if err != nil {
		return nil, &wepay.FieldError{Field: directive, Reason: file, Err: err}
	}
	return key, nil
}

// certificate reads the merchant's certificate, or returns nil without one.
func (c *MerchantConfig) certificate(at time.Time) (*tls.Certificate, error) {
	switch {
	case c.PFX != "" && c.Cert != "":
		return nil, &wepay.FieldError{Field: "cert", Reason: "stands beside pfx: only one of them may"}
	case c.PFX != "":
		return usable(at, "pfx", c.PFX, c.readPFX)
	case c.Cert != "":
		return usable(at, "cert", c.Cert, c.readPEM)
	default:
		return nil, nil
	}
}

// usable reads a certificate that can be used at a time; errors name the
// directive and the file.
func usable(at time.Time, directive, file string, read func() (*tls.Certificate, error)) (*tls.Certificate, error) {
	cert, err := read()
	if err == nil {
		err = wepay.CheckValidity(cert.Leaf, at)
	}
	var field *wepay.FieldError
	if err != nil && !errors.As(err, &field) {
		err = &wepay.FieldError{Field: directive, Reason: file, Err: err}
	}
	return cert, err
}

func (c *MerchantConfig) readPFX() (*tls.Certificate, error) {
	data, err := readFile("pfx", c.PFX)
	if err != nil {
		return nil, err
	}
	cert, err := wepay.ParsePKCS12(data, cmp.Or(c.Passphrase, c.MchID))
	if c.Passphrase == "" && errors.Is(err, wepay.ErrPassphrase) {
		if own, ownErr := wepay.ParsePKCS12(data, ""); ownErr == nil {
			return own, nil // it was exported without one
		}
	}
	return cert, err
}

func (c *MerchantConfig) readPEM() (*tls.Certificate, error) {
	cert, err := readFile("cert", c.Cert)
	if err != nil {
		return nil, err
	}
	key, err := readFile("cert", c.CertKey)
	if err != nil {
		return nil, err
	}
	return wepay.ParsePEM(cert, key)
}
