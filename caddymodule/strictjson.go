package caddymodule

import (
	"bytes"
	"errors"
	"io"
	"unicode/utf8"

	"github.com/caddyserver/caddy/v2"
	strictjson "github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
)

// strictConfig refuses members that are not documented, and times that are none without
// a part of what stands there, which may be a secret.
var strictConfig = strictjson.JoinOptions(
	strictjson.RejectUnknownMembers(true),
	strictjson.WithUnmarshalers(strictjson.UnmarshalFunc(func(text []byte, into *caddy.Duration) error {
		if into.UnmarshalJSON(text) != nil {
			return errors.New("must be a time such as 5m (not shown here, as it does not look like one)")
		}
		return nil
	})),
)

// newMemberReader reads JSON for eachMember, which sees itself to what the
// decoder is told to let pass: it knows the name of the member that is wrong.
func newMemberReader(text []byte) *jsontext.Decoder {
	return jsontext.NewDecoder(bytes.NewReader(text), jsontext.AllowInvalidUTF8(true), jsontext.AllowDuplicateNames(true))
}

// errMemberName is of a member whose name is not text.
var errMemberName = errors.New("has a name that is not valid UTF-8")

// eachMember reads the JSON object that comes next, member by member. A value is
// as it stands there until checkMember has seen it: encoding/json would put
// U+FFFD in the place of what is not UTF-8, and no check behind it could tell.
// Do may not keep the value. Errors are the decoder's, do's, or errMemberName.
func eachMember(dec *jsontext.Decoder, do func(name string, value jsontext.Value) error) error {
	if _, err := dec.ReadToken(); err != nil {
		return err
	}
	for dec.PeekKind() != '}' {
		quoted, err := dec.ReadValue()
		if err != nil {
			return err
		}
		name, err := jsontext.AppendUnquote(nil, quoted)
		if err != nil {
			return errMemberName
		}
		value, err := dec.ReadValue()
		if err != nil {
			return err
		}
		if err := do(string(name), value); err != nil {
			return err
		}
	}
	_, err := dec.ReadToken()
	return err
}

// isAtEnd says whether nothing is left to read.
func isAtEnd(dec *jsontext.Decoder) bool {
	_, err := dec.ReadToken()
	return err == io.EOF
}

// checkMember refuses a value that two readers could take for two things.
func checkMember(value jsontext.Value) error {
	switch {
	case value.IsValid():
		return nil
	case !utf8.Valid(value):
		return errors.New("is not valid UTF-8 (is it GBK?)")
	case value.IsValid(jsontext.AllowDuplicateNames(true)):
		return errors.New("names something in it twice")
	default:
		return errors.New(`holds half a character: one \uD800 to \uDFFF without its other half`)
	}
}
