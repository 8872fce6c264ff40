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
// text.
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
	var answer struct {
		Errcode jsontext.Value `json:"errcode"`
		Code    jsontext.Value `json:"code"`
	}
	// In which encoding its other texts are does not matter.
	err := strictjson.Unmarshal(reply, &answer, jsontext.AllowInvalidUTF8(true))
	switch {
	case errors.Is(err, jsontext.ErrDuplicateName):
		return refusal("the reply names something twice")
	case err != nil || reply[0] != '{':
		return refusal("the reply is neither empty nor a JSON object")
	case answer.Errcode != nil && answer.Errcode.Kind() != '0':
		return refusal("errcode is no number")
	case answer.Errcode != nil && !isZero(answer.Errcode):
		return refusal("errcode %.20s", answer.Errcode)
	case answer.Code != nil && !isZero(answer.Code) && !slices.Contains(successCodes, codeOf(answer.Code)):
		return refusal("its code is not %s", strings.Join(successCodes, ", "))
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
