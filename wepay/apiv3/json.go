package apiv3

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	strictjson "github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"github.com/windsome/caddy-wepay/wepay"
)

// object is a JSON object. A path names a member, and a member of a member:
// amount.total. [] stands for each object of an array: receivers[].name.
type object map[string]any

// decode reads one JSON value and nothing behind it. As parse, it refuses what
// two readers could take for two things; members of another case are others.
func decode(text []byte, into any, options ...strictjson.Options) error {
	return strictjson.Unmarshal(text, into, append(options, asWritten)...)
}

// asWritten keeps numbers as they are written: amounts never become floats.
var asWritten = strictjson.WithUnmarshalers(strictjson.UnmarshalFromFunc(func(dec *jsontext.Decoder, into *any) error {
	if dec.PeekKind() != '0' {
		return errors.ErrUnsupported // then the package reads it
	}
	number, err := dec.ReadValue()
	*into = json.Number(number)
	return err
}))

// encode writes JSON as WeChat does: & < > stay what they are, since nothing
// here goes into a page.
func encode(value any) ([]byte, error) {
	var text bytes.Buffer
	enc := json.NewEncoder(&text)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(value); err != nil {
		return nil, fmt.Errorf("writing JSON: %w", err)
	}
	return bytes.TrimSuffix(text.Bytes(), []byte("\n")), nil
}

// put sets a member, and creates the objects around it.
func (o object) put(path string, value any) {
	for {
		first, rest, nested := strings.Cut(path, ".")
		if !nested {
			o[path] = value
			return
		}
		inner, ok := o[first].(object)
		if !ok {
			inner = object{}
			o[first] = inner
		}
		o, path = inner, rest
	}
}

// get returns a member, or nil.
func (o object) get(path string) any {
	for {
		first, rest, nested := strings.Cut(path, ".")
		if !nested {
			return o[path]
		}
		inner, ok := o.object(first)
		if !ok {
			return nil
		}
		o, path = inner, rest
	}
}

func (o object) object(name string) (object, bool) {
	switch inner := o[name].(type) {
	case object:
		return inner, true
	case map[string]any:
		return inner, true
	default:
		return nil, false
	}
}

// objects returns the objects of an array, skipping other elements.
func (o object) objects(name string) []object {
	switch all := o[name].(type) {
	case []object:
		return all
	case []any:
		var objects []object
		for _, one := range all {
			if inner, ok := one.(map[string]any); ok {
				objects = append(objects, inner)
			}
		}
		return objects
	default:
		return nil
	}
}

// text returns a string, or a number as it is written; "" for other values.
func (o object) text(path string) string {
	switch value := o.get(path).(type) {
	case string:
		return value
	case json.Number:
		return value.String()
	default:
		return ""
	}
}

// number returns a number as it is written; "" for other values.
func (o object) number(path string) string {
	number, _ := o.get(path).(json.Number)
	return number.String()
}

// has reports whether any of the paths leads to text.
func (o object) has(paths []string) bool {
	found := false
	for _, path := range paths {
		_ = o.replace(path, func(text string) (string, error) { // which fails only where this does
			found = true
			return text, nil
		})
	}
	return found
}

// replace replaces the text at a path, if there is one.
func (o object) replace(path string, with func(string) (string, error)) error {
	array, rest, many := strings.Cut(path, "[].")
	if many {
		for _, one := range o.objects(array) {
			if err := one.replace(rest, with); err != nil {
				return err
			}
		}
		return nil
	}
	text := o.text(path)
	if text == "" {
		return nil
	}
	text, err := with(text)
	if err == nil {
		o.put(path, text)
	}
	return err
}

// jsonField decodes a field that holds a JSON object.
func jsonField(in wepay.Fields, name string) (object, error) {
	given := object{}
	err := decode([]byte(in.Get(name)), &given)
	if err == nil {
		err = checkJSON(map[string]any(given))
	}
	if err != nil {
		return nil, &wepay.FieldError{Field: name, Reason: "must be a JSON object without null and emoji", Err: err}
	}
	return given, nil
}
