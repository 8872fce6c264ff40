package apiv3

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/windsome/caddy-wepay/wepay"
)

// checkMembers checks the members of a body that say who asks, and for whom, and
// finds what is to be encrypted. What names something twice, however deep, is
// refused: which of the two counts is not for us to guess.
func (c *Client) checkMembers(body []byte) (secrets []secret, err error) {
	dec := jsontext.NewDecoder(bytes.NewReader(body))
	if dec.PeekKind() != '{' {
		return nil, malformed(nil)
	}
	brace := int64(0) // where the object begins that was opened last
	for open := true; open; open = dec.StackDepth() > 0 {
		token, err := dec.ReadToken()
		if err != nil {
			return nil, malformed(err)
		}
		if token.Kind() == '{' {
			brace = dec.InputOffset() - 1
		}
		if in, read := dec.StackIndex(dec.StackDepth()); in != '{' || read%2 == 0 {
			continue // it is no name
		}
		switch name := token.String(); {
		case name == toEncrypt:
			found, err := readSecret(dec, brace)
			if err != nil {
				return nil, err
			}
			secrets = append(secrets, found)
		case strings.EqualFold(name, toEncrypt):
			return nil, wrong(dec.StackPointer().Parent(), toEncrypt+" is written in small letters")
		case name == "sub_mchid", dec.StackDepth() == 1 && slices.Contains(whose, name):
			if err := c.checkWhose(dec, name); err != nil {
				return nil, err
			}
		}
	}
	if _, err := dec.ReadToken(); !errors.Is(err, io.EOF) {
		return nil, malformed(nil)
	}
	return secrets, nil
}

// checkWhose checks the value that comes next.
func (c *Client) checkWhose(dec *jsontext.Decoder, name string) error {
	value, err := dec.ReadValue()
	if err != nil {
		return malformed(err)
	}
	text := string(value) // of a number, as it is written
	if value.Kind() == '"' {
		text = unquote(text)
	}
	return c.checkOwn(name, text)
}

// maxPointer bounds what of a caller's names is in an error, in bytes.
const maxPointer = 200

// malformed says which member of a body it is that is wrong, where that is known.
func malformed(err error) error {
	reason := "must be one JSON object in UTF-8 that names nothing twice"
	var at *jsontext.SyntacticError
	if errors.As(err, &at) && at.JSONPointer != "" && len(at.JSONPointer) <= maxPointer {
		reason += ": look at " + string(at.JSONPointer)
	}
	return &wepay.FieldError{Field: "request", Reason: reason}
}

// whose are the names of who asks, and for whom.
var whose = []string{"mchid", "sp_mchid", "combine_mchid", "sub_mchid"}

// checkOwn refuses what names another merchant, or a sub-merchant that the
// merchant may not act for: whoever may ask in one merchant's name asks in no
// other's. WeChat does not let one in any case, since the signature is the
// merchant's own; of a partner's sub-merchants the configuration may allow fewer
// than WeChat does. Within the body another mchid is no one who asks: the orders
// of a combined one are other merchants'. Of an unknown path no part is known to name
// a sub-merchant, so that passthrough does not hold a partner to some of its own
// there.
func (c *Client) checkOwn(name, value string) error {
	switch name {
	case "mchid", "sp_mchid", "combine_mchid":
		if value != c.merchant.MchID {
			return &wepay.FieldError{Field: name, Reason: "is not the merchant's"}
		}
	case "sub_mchid":
		if _, _, err := c.merchant.ActFor(wepay.Fields{{Name: "sub_mch_id", Value: value}}, true); err != nil {
			var field *wepay.FieldError
			if errors.As(err, &field) {
				field.Field = name
			}
			return fmt.Errorf("passing on: %w", err)
		}
	}
	return nil
}
