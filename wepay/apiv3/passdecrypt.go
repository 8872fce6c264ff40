package apiv3

import (
	"bytes"
	"crypto/rsa"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/windsome/caddy-wepay/wepay"
)

// maxDecrypt bounds how many members of a reply a caller may name, and how deep.
const (
	maxDecrypt = 64
	maxDepth   = 16
)

// maxDecrypted bounds how many values of a reply are decrypted, each of which takes a
// core a millisecond. The longest pages have 100 entries.
const maxDecrypted = 500

// member is one that is to be decrypted, or that has such members.
type member struct {
	path  string // as the caller wrote it; "": it only has members
	inner map[string]*member
}

// membersToDecrypt reads the paths of a request; nil for none.
func membersToDecrypt(in PassRequest) (*member, error) {
	switch {
	case len(in.Decrypt) == 0:
		return nil, nil
	case len(in.Decrypt) > maxDecrypt:
		return nil, &wepay.FieldError{Field: "decrypt", Reason: fmt.Sprintf("may name %d members at most", maxDecrypt)}
	case in.Method == http.MethodGet && isFile(in.Path):
		return nil, &wepay.FieldError{Field: "decrypt", Reason: "does not go with files"}
	}
	var root member
	for _, path := range in.Decrypt {
		if err := root.add(path); err != nil {
			return nil, &wepay.FieldError{Field: "decrypt", Reason: err.Error()}
		}
	}
	return &root, nil
}

func (m *member) add(path string) error {
	names := strings.Split(path, ".")
	for _, name := range names {
		if name == "" || wepay.Alphanumeric(strings.ReplaceAll(name, "_", "")) != nil {
			return errors.New("must be paths of members such as data.payer_phone, joined by commas; arrays need no mark")
		}
		if m.inner[name] == nil {
			if m.inner == nil {
				m.inner = make(map[string]*member)
			}
			m.inner[name] = new(member)
		}
		m = m.inner[name]
	}
	switch {
	case len(names) > maxDepth:
		return fmt.Errorf("may go %d members deep at most", maxDepth)
	case m.path != "":
		return errors.New("names a member twice")
	}
	m.path = path
	return nil
}

// decryptMembers puts text in the place of what WeChat encrypted for the merchant
// in a reply, and returns the paths that have other values. The reply may be the
// only word of money that moved: what does not decrypt stays as it is.
func (c *Client) decryptMembers(reply []byte, wanted *member, paths []string) (open []byte, not []string) {
	if wanted == nil || len(reply) == 0 {
		return reply, nil
	}
	_, key := c.merchant.SigningKey()
	d := decryption{key: key, failed: make(map[string]bool)}
	// What is wrong elsewhere in the text is no reason to keep it closed.
	d.dec = jsontext.NewDecoder(bytes.NewReader(reply), jsontext.AllowInvalidUTF8(true), jsontext.AllowDuplicateNames(true))
	err := d.value(wanted)
	if _, end := d.dec.ReadToken(); err != nil || !errors.Is(end, io.EOF) {
		return reply, paths
	}
	for _, path := range paths {
		if d.failed[path] {
			not = append(not, path)
		}
	}
	return splice(reply, d.parts), not
}

// decryption is a reply on its way to be decrypted.
type decryption struct {
	key    *rsa.PrivateKey
	dec    *jsontext.Decoder
	parts  []part
	tried  int
	failed map[string]bool // by path
}

// value reads a member's value, or an element of it.
func (d *decryption) value(m *member) error {
	switch d.dec.PeekKind() {
	case '{':
		d.fail(m)
		return d.each('}', func() error {
			name, err := d.dec.ReadToken()
			if err != nil {
				return err
			}
			if inner := m.inner[name.String()]; inner != nil {
				return d.value(inner)
			}
			return d.dec.SkipValue()
		})
	case '[':
		return d.each(']', func() error { return d.value(m) })
	case '"':
		return d.text(m)
	case 'n':
	default:
		d.fail(m)
	}
	return d.dec.SkipValue()
}

// each reads the members of an object, or the elements of an array.
func (d *decryption) each(end jsontext.Kind, read func() error) error {
	if _, err := d.dec.ReadToken(); err != nil {
		return err
	}
	for d.dec.PeekKind() != end {
		if err := read(); err != nil {
			return err
		}
	}
	_, err := d.dec.ReadToken()
	return err
}

// text decrypts a text. WeChat writes an empty one where it has nothing.
func (d *decryption) text(m *member) error {
	value, err := d.dec.ReadValue()
	if err != nil || m.path == "" || len(value) == len(`""`) {
		return err
	}
	if d.tried++; d.tried > maxDecrypted {
		d.fail(m)
		return nil
	}
	plain, err := decrypt(d.key, unquote(string(value)))
	if err != nil {
		d.fail(m)
		return nil
	}
	quoted, err := jsontext.AppendQuote(nil, plain)
	if err != nil { // it is no text, and would be spoilt
		d.fail(m)
		return nil
	}
	end := d.dec.InputOffset()
	d.parts = append(d.parts, part{end - int64(len(value)), end, quoted})
	return nil
}

func (d *decryption) fail(m *member) {
	if m.path != "" {
		d.failed[m.path] = true
	}
}
