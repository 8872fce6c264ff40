package apiv3

import (
	"bytes"
	"context"
	"crypto/rsa"
	"errors"
	"fmt"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/windsome/caddy-wepay/wepay"
)

// toEncrypt is the one member of an object that stands for its own text, encrypted.
const toEncrypt = "$encrypt"

const notAlone = "must have no other member beside " + toEncrypt

// maxSecrets bounds those of a body. The most that WeChat takes are of a batch: a
// name and an id number of each of 1000 payees.
const maxSecrets = 2000

// secret is an object {"$encrypt":"text"} of a body, and where it stands there.
type secret struct {
	begin, end int64
	text       string
}

// readSecret reads the rest of an object whose member toEncrypt was read, and that
// begins at brace unless another member stands before.
func readSecret(dec *jsontext.Decoder, brace int64) (secret, error) {
	_, read := dec.StackIndex(dec.StackDepth())
	switch kind := dec.PeekKind(); {
	case dec.StackDepth() == 1:
		return secret{}, wrong("", toEncrypt+" stands for a member's value, and not for all of the body")
	case read != 1:
		return secret{}, wrong(dec.StackPointer().Parent(), notAlone)
	case kind != '"' && kind != jsontext.KindInvalid:
		return secret{}, wrong(dec.StackPointer().Parent(), toEncrypt+" must be text")
	}
	value, err := dec.ReadValue()
	if err != nil {
		return secret{}, malformed(err)
	}
	text := unquote(string(value))
	switch next := dec.PeekKind(); {
	case text == "":
		return secret{}, wrong(dec.StackPointer().Parent(), toEncrypt+" is empty: leave the member out")
	case next != '}' && next != jsontext.KindInvalid:
		return secret{}, wrong(dec.StackPointer().Parent(), notAlone)
	}
	if _, err := dec.ReadToken(); err != nil {
		return secret{}, malformed(err)
	}
	return secret{brace, dec.InputOffset(), text}, nil
}

// wrong is the error about a member of a body. No value of it is in there.
func wrong(at jsontext.Pointer, reason string) error {
	if at == "" || len(at) > maxPointer {
		at = "request"
	}
	return &wepay.FieldError{Field: string(at), Reason: reason}
}

// wrongAt is wrong about what begins somewhere in a body. Pointers are made for
// errors alone: many of them could take more room than the body.
func wrongAt(body []byte, begin int64, reason string) error {
	dec := jsontext.NewDecoder(bytes.NewReader(body))
	for dec.InputOffset() <= begin {
		if _, err := dec.ReadToken(); err != nil {
			return malformed(err)
		}
	}
	return wrong(dec.StackPointer(), reason)
}

// encryptSecrets puts ciphertext in the place of a request's secrets, with the key
// that the request names: the caller's where it encrypted others itself, else the
// one in force. Every attempt sends the same ciphertext, under that name.
func (x *exchange) encryptSecrets(ctx context.Context, r *passing, named bool) error {
	switch {
	case len(r.secrets) == 0:
		return nil
	case len(r.secrets) > maxSecrets:
		return &wepay.FieldError{Field: "request", Reason: fmt.Sprintf("has more than %d values with %s", maxSecrets, toEncrypt)}
	}
	var key *rsa.PublicKey
	var err error
	if named {
		key, err = x.client.keyRing.key(ctx, r.serial, askForReply)
	} else {
		r.serial, key, err = x.client.keyRing.encryption(ctx)
	}
	switch {
	case named && errors.Is(err, wepay.ErrUnknownKey):
		return &wepay.FieldError{Field: headerSerial, Reason: "names no key that values with " + toEncrypt + " can be encrypted with; without it they are encrypted with the one in force", Err: err}
	case err != nil:
		return x.noKey(err)
	}
	parts := make([]part, len(r.secrets))
	for i, s := range r.secrets {
		text, err := encrypt(key, s.text)
		if err != nil {
			return wrongAt(r.body, s.begin, err.Error())
		}
		parts[i] = part{s.begin, s.end, []byte(`"` + text + `"`)}
	}
	r.body = splice(r.body, parts)
	return nil
}

// part is a part of a text, and what takes its place.
type part struct {
	begin, end int64
	text       []byte
}

// splice replaces parts of a text, in their order, and leaves all else as it is.
func splice(text []byte, parts []part) []byte {
	size := len(text)
	for _, p := range parts {
		size += len(p.text) - int(p.end-p.begin)
	}
	out, done := make([]byte, 0, size), int64(0)
	for _, p := range parts {
		out = append(append(out, text[done:p.begin]...), p.text...)
		done = p.end
	}
	return append(out, text[done:]...)
}
