package delivery

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"strings"

	strictjson "github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
)

// successCodes are what an answer's code may be: those of most frameworks, and
// WeChat's own.
var successCodes = []string{"0", "200", "SUCCESS"}

// taken says why an order service's answer does not mean that it took the event. It
// does with 2xx and nothing, or a JSON object whose errcode, if it has one, is the
// number 0, and whose code, if it has one, is among successCodes, as a number or as
// text. Both may be written with capitals.
func taken(status int, reply []byte) *notTaken {
	not := func(format string, args ...any) *notTaken {
		return &notTaken{status: status, err: fmt.Errorf(format, args...)}
	}
	if status < 200 || status > 299 {
		return not("HTTP status %d", status)
	}
	// An answer of another form says as little the next time.
	refusal := func(format string, args ...any) *notTaken {
		err := not(format, args...)
		err.refusal = true
		return err
	}
	if len(reply) > maxReply {
		return refusal("a reply of more than %d bytes", maxReply)
	}
	reply = bytes.TrimSpace(reply)
	if len(reply) == 0 {
		return nil
	}
	var answer map[string]jsontext.Value
	// In which encoding its other texts are does not matter.
	err := strictjson.Unmarshal(reply, &answer, jsontext.AllowInvalidUTF8(true))
	switch {
	case errors.Is(err, jsontext.ErrDuplicateName):
		return refusal("the reply names something twice")
	case err != nil || reply[0] != '{':
		return refusal("the reply is neither empty nor a JSON object")
	}
	for name, value := range answer {
		// Some frameworks write names with capitals.
		if why := refuses(strings.ToLower(name), value); why != nil {
			return refusal("%w", why)
		}
	}
	return nil
}

// refuses says why a member of an answer means that the event was not taken; nil: it
// does not.
func refuses(name string, value jsontext.Value) error {
	switch {
	case name == "errcode" && value.Kind() != '0':
		return errors.New("errcode is no number")
	case name == "errcode" && !isZero(value):
		return fmt.Errorf("errcode %.20s", value)
	case name == "code" && !isZero(value) && !slices.Contains(successCodes, codeOf(value)):
		return fmt.Errorf("its code is not %s", strings.Join(successCodes, ", "))
	default:
		return nil
	}
}

// isZero reports whether a value is the number 0, however it is written.
func isZero(value jsontext.Value) bool {
	digits, _, _ := strings.Cut(strings.ToLower(string(value)), "e")
	return value.Kind() == '0' && !strings.ContainsAny(digits, "123456789")
}

// codeOf returns a text, or a number as it is written; "" for other values.
func codeOf(value jsontext.Value) string {
	switch value.Kind() {
	case '"':
		text, _ := jsontext.AppendUnquote(nil, value) // half a character is none of the codes
		return string(text)
	case '0':
		return string(value)
	default:
		return ""
	}
}
