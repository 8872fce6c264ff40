package apiv3

import (
	"encoding/json"
	"errors"
	"strings"

	"github.com/go-json-experiment/json/jsontext"
)

// values is what a message of WeChat's has, by the paths of its members.
type values interface {
	// text returns a member as API v2 has it: text as it is, a number as it is
	// written; "" for what is neither.
	text(path string) string
	// get returns a member, or nil without one.
	get(path string) any
}

// document is a JSON object as it came. A notification is read this way, which
// costs a tenth of what an object does: its members are found once, and what
// they are is found out when they are asked for.
type document []entry

type entry struct {
	name  string
	value string   // as it is written
	inner document // once it was asked for
}

// parse reads a JSON object and nothing behind it. It refuses what two readers
// could take for two things: a member that is there twice, or what is no UTF-8.
func parse(text []byte) (document, error) {
	if !jsontext.Value(text).IsValid() {
		return nil, errors.New("it is no JSON, or has a member twice")
	}
	object := string(text)
	if object = object[skip(object, 0):]; object[0] != '{' {
		return nil, errors.New("it is no JSON object")
	}
	return split(object), nil
}

// split finds the members of an object, which is valid. What is no object has
// none.
func split(object string) document {
	if object == "" || object[0] != '{' {
		return nil
	}
	d := make(document, 0, 16)
	for i := skip(object, 1); object[i] != '}'; {
		colon := end(object, i)
		name := unquote(object[i:colon])
		i = skip(object, skip(object, colon)+1)
		behind := end(object, i)
		d = append(d, entry{name: name, value: object[i:behind]})
		i = next(object, behind)
	}
	return d
}

// objects returns the elements of an array; one that is no object has no
// members.
func (d document) objects(path string) []document {
	array := d.value(path)
	if array == "" || array[0] != '[' {
		return nil
	}
	var all []document
	for i := skip(array, 1); array[i] != ']'; {
		behind := end(array, i)
		all = append(all, split(array[i:behind]))
		i = next(array, behind)
	}
	return all
}

// end is where the value that begins at i ends. The text is valid JSON, so that
// nothing is missing.
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
		for i < len(text) && !strings.ContainsRune(",]} \t\r\n", rune(text[i])) {
			i++
		}
		return i
	}
}

// next is where the next member or element begins behind one, or the end of all.
func next(text string, i int) int {
	if i = skip(text, i); text[i] == ',' {
		i = skip(text, i+1)
	}
	return i
}

// skip is where the white space at i ends.
func skip(text string, i int) int {
	for text[i] == ' ' || text[i] == '\t' || text[i] == '\r' || text[i] == '\n' {
		i++
	}
	return i
}

// unquote returns what a string of valid JSON stands for.
func unquote(quoted string) string {
	if strings.IndexByte(quoted, '\\') < 0 {
		return quoted[1 : len(quoted)-1]
	}
	plain, _ := jsontext.AppendUnquote(nil, quoted) // what is valid has no error
	return string(plain)
}

// value returns a member as it is written, or "" without one.
func (d document) value(path string) string {
	first, rest, nested := strings.Cut(path, ".")
	for i := range d {
		m := &d[i]
		switch {
		case m.name != first:
		case m.value == "null":
			return ""
		case !nested:
			return m.value
		default:
			if m.inner == nil {
				m.inner = split(m.value)
			}
			return m.inner.value(rest)
		}
	}
	return ""
}

func (d document) text(path string) string {
	switch value := d.value(path); {
	case value == "":
		return ""
	case value[0] == '"':
		return unquote(value)
	case strings.IndexByte("{[tf", value[0]) < 0:
		return value
	default:
		return ""
	}
}

func (d document) get(path string) any {
	value := d.value(path)
	if value == "" {
		return nil
	}
	switch value[0] {
	case '"':
		return unquote(value)
	case '{', '[':
		return json.RawMessage(value)
	case 't', 'f':
		return value == "true"
	default:
		return json.Number(value)
	}
}
