package caddymodule

import (
	"cmp"
	"crypto/tls"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"time"

	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"

	"github.com/windsome/caddy-wepay/caddymodule/internal/parse"
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
		err = fmt.Errorf("%w: as none is given, the mch_id was tried", err)
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
	if _, err := wepay.ParsePrivateKey(key); err != nil {
		return nil, &wepay.FieldError{Field: "cert", Reason: c.CertKey, Err: err}
	}
	return wepay.ParsePEM(cert, key)
}

// readFile reads the file of a directive. Errors name the file only where its
// path cannot be a secret that was put in its place.
func readFile(directive, path string) ([]byte, error) {
	if isContents(path) {
		return nil, contentsError(directive)
	}
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, unreadableError(directive, path, err)
	}
	return data, nil
}

func contentsError(directive string) error {
	return &wepay.FieldError{Field: directive, Reason: "is what belongs in a file: it must be the path of that file"}
}

func unreadableError(directive, path string, err error) error {
	if isPath(path) {
		return &wepay.FieldError{Field: directive, Reason: path, Err: err}
	}
	var reason *fs.PathError
	if errors.As(err, &reason) {
		err = reason.Err // without the path
	}
	return &wepay.FieldError{Field: directive, Reason: "must be the path of a file (not shown here, as it does not look like one)", Err: err}
}

// filePath returns the path of a credential's file whose name stands in a Caddyfile.
// What looks like no name and names no file stays as it is: it may be a secret, which
// no error repeats as long as it looks like none.
func filePath(d *caddyfile.Dispenser, name string) string {
	path := parse.Path(d, name)
	if isContents(name) {
		return name
	}
	if _, err := os.Stat(path); err != nil && !isPath(name) {
		return name
	}
	return path
}

// isContents says whether a text is a key or a certificate rather than where one
// is: PEM, or the base64 that DER and .p12 files begin with, which says SEQUENCE.
func isContents(text string) bool {
	return strings.Contains(text, "-----") || strings.ContainsAny(text, "\r\n") ||
		len(text) > 255 || len(text) > 64 && strings.HasPrefix(text, "MI")
}

// fileName ends as the names of the files end that belong here.
var fileName = regexp.MustCompile(`(?i)\.(p12|pfx|pem|key|crt|cer|der|json|txt)$`)

// isPath says whether a text looks like a path, and not like a key or a
// passphrase.
func isPath(text string) bool {
	rooted := strings.HasPrefix(text, "./") || strings.HasPrefix(text, "../") || filepath.IsAbs(text)
	return rooted || fileName.MatchString(text)
}
