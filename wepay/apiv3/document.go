package apiv3

import (
	"encoding/json"
	"errors"
	"iter"
	"strings"

	"github.com/go-json-experiment/json/jsontext"
)

// values are the members of a message, by their paths.
type values interface {
	// text returns a string, or a number as it is written; "" for other values.
	text(path string) string
	// number returns a number as it is written; "" for other values.
	number(path string) string
	// get returns a member, or nil without one.
	get(path string) any
}

// document is the valid text of a JSON object. Reading a notification this way,
// member by member when needed, costs a tenth of decoding it.
type document string

// parse reads a JSON object and nothing behind it. It refuses what two readers
// could take for two things: a member that is there twice, or what is no UTF-8.
func parse(text []byte, options ...jsontext.Options) (document, error) {
	if !jsontext.Value(text).IsValid(options...) {
		return "", errors.New("it is no JSON, or has a member twice")
	}
	d := string(text)
	if d = d[skip(d, 0):]; d[0] != '{' {
		return "", errors.New("it is no JSON object")
	}
	return document(d), nil
}

func (d document) text(path string) string { return textOf(inside(string(d), path)) }

// index is a document whose members are located once, for reading many of them.
type index []entry

type entry struct{ name, value string }

func (d document) index() index {
	all := make(index, 0, 16)
	for name, value := range walk(d) {
		all = append(all, entry{name, value})
	}
	return all
}

func (x index) value(path string) string {
	first, rest, _ := strings.Cut(path, ".")
	for i := range x {
		if x[i].name == first {
			return inside(x[i].value, rest)
		}
	}
	return ""
}

func (x index) text(path string) string { return textOf(x.value(path)) }

func (x index) number(path string) string { return numberOf(x.value(path)) }

func (x index) get(path string) any { return anyOf(x.value(path)) }

// objects returns the elements of an array. One that is no object has no
// members.
func (x index) objects(path string) []document {
	array := x.value(path)
	if len(array) == 0 || array[0] != '[' {
		return nil
	}
	all := make([]document, 0, 4)
	for i := skip(array, 1); array[i] != ']'; {
		behind := end(array, i)
		all = append(all, document(array[i:behind]))
		i = next(array, behind)
	}
	return all
}

// inside returns the text at a path in a value; all of it for "", and "" if there is
// nothing.
func inside(value, path string) string {
	switch {
	case value == "null":
		return ""
	case path == "":
		return value
	}
	first, rest, _ := strings.Cut(path, ".")
	for name, inner := range walk(document(value)) {
		if name == first {
			return inside(inner, rest)
		}
	}
	return ""
}

// walk iterates over the members of an object, and the texts of their values. Other
// values have none.
func walk(d document) iter.Seq2[string, string] {
	object := string(d)
	return func(yield func(name, value string) bool) {
		if len(object) == 0 || object[0] != '{' {
			return
		}
		for i := skip(object, 1); object[i] != '}'; {
			colon := end(object, i)
			name := unquote(object[i:colon])
			i = skip(object, skip(object, colon)+1)
			behind := end(object, i)
			if !yield(name, object[i:behind]) {
				return
			}
			i = next(object, behind)
		}
	}
}

// end returns where the value at i ends. The text is valid JSON, so nothing is
// missing.
func end(text string, i int) int {
	switch text[i] {
	case '"':
		for i++; ; i++ {
			i += strings.IndexByte(text[i:], '"')
			escapes := i
			for text[escapes-1] == '\\' {
				escapes--
			}
			if (i-escapes)%2 == 0 {
				return i + 1
			}
		}
	case '{', '[':
		for depth := 0; ; i++ {
			switch text[i] {
			case '"':
				i = end(text, i) - 1
			case '{', '[':
				depth++
			case '}', ']':
				if depth--; depth == 0 {
					return i + 1
				}
			}
		}
	default:
		for i < len(text) && text[i] > ' ' && text[i] != ',' && text[i] != ']' && text[i] != '}' {
			i++
		}
		return i
	}
}

// next returns where the next member or element starts, or the end of all.
func next(text string, i int) int {
	if i = skip(text, i); text[i] == ',' {
		i = skip(text, i+1)
	}
	return i
}

// skip returns where the white space at i ends.
func skip(text string, i int) int {
	for text[i] == ' ' || text[i] == '\t' || text[i] == '\r' || text[i] == '\n' {
		i++
	}
	return i
}

// unquote returns the value of a string of valid JSON.
func unquote(quoted string) string {
	if strings.IndexByte(quoted, '\\') < 0 {
		return quoted[1 : len(quoted)-1]
	}
	plain, _ := jsontext.AppendUnquote(nil, quoted) // what is valid has no error
	return string(plain)
}

func textOf(value string) string {
	if len(value) > 0 && value[0] == '"' {
		return unquote(value)
	}
	return numberOf(value)
}

func numberOf(value string) string {
	if len(value) == 0 || value[0] != '-' && (value[0] < '0' || value[0] > '9') {
		return ""
	}
	return value
}

func anyOf(value string) any {
	switch {
	case len(value) == 0:
		return nil
	case value[0] == '"':
		return unquote(value)
	case value[0] == '{', value[0] == '[':
		return json.RawMessage(value)
	case value[0] == 't', value[0] == 'f':
		return value[0] == 't'
	default:
		return json.Number(value)
	}
}
