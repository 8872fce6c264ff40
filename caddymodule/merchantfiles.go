package caddymodule

import (
	"cmp"
	"crypto/tls"
	"os"
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
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, &wepay.FieldError{Field: directive, Reason: file, Err: err}
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
	if err != nil {
		return nil, &wepay.FieldError{Field: directive, Reason: file, Err: err}
	}
	return cert, nil
}

func (c *MerchantConfig) readPFX() (*tls.Certificate, error) {
	data, err := os.ReadFile(c.PFX)
	if err != nil {
		return nil, err
	}
	return wepay.ParsePKCS12(data, cmp.Or(c.Passphrase, c.MchID))
}

func (c *MerchantConfig) readPEM() (*tls.Certificate, error) {
	cert, err := os.ReadFile(c.Cert)
	if err != nil {
		return nil, err
	}
	key, err := os.ReadFile(c.CertKey)
	if err != nil {
		return nil, err
	}
	return wepay.ParsePEM(cert, key)
}
