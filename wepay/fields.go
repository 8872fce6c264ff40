package wepay

import (
	"bytes"
	"encoding/json"
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// Field is one parameter of a call, a reply or a notification, under WeChat's
// own name and with its text exactly as on the wire, before escaping.
type Field struct {
	Name, Value string
}

// Fields are all parameters of one message: sorted by name in byte order, each
// name once. That is the order in which WeChat's signatures are taken.
// The zero value is ready to use.
type Fields []Field

// NewFields returns the fields of a map.
func NewFields(values map[string]string) Fields {
	f := make(Fields, 0, len(values))
	for _, name := range slices.Sorted(maps.Keys(values)) {
		f = append(f, Field{name, values[name]})
	}
	return f
}

// Lookup returns the value of the named field and whether it is there at all.
func (f Fields) Lookup(name string) (string, bool) {
	i, found := f.find(name)
	if !found {
		return "", false
	}
	return f[i].Value, true
}

// Get returns the value of the named field, or "" without one.
func (f Fields) Get(name string) string {
	value, _ := f.Lookup(name)
	return value
}

// Set gives the named field a value, adding the field if it is not there.
func (f *Fields) Set(name, value string) {
	if last := len(*f) - 1; last < 0 || (*f)[last].Name < name {
		*f = append(*f, Field{name, value}) // the usual case: names are set in order
		return
	}
	i, found := f.find(name)
	if found {
		(*f)[i].Value = value
		return
	}
	*f = slices.Insert(*f, i, Field{name, value})
}

// Delete takes the named field out, if it is there.
func (f *Fields) Delete(name string) {
	if i, found := f.find(name); found {
		*f = slices.Delete(*f, i, i+1)
	}
}

// numbered is a field of one of several items: the field's name, the item's
// number, and the number of a part of the item.
var numbered = regexp.MustCompile(`^([a-z_]+?)_(\d{1,4})((?:_\d{1,4})?)$`)

// Numbered returns fields such as refund_id_0 and refund_id_1 as one set for
// each number, in their order, without it.
func (f Fields) Numbered() []Fields {
	var numbers []int
	byNumber := make(map[int]Fields)
	for _, field := range f {
		parts := numbered.FindStringSubmatch(field.Name)
		if parts == nil {
			continue
		}
		n, _ := strconv.Atoi(parts[2]) // four digits always are a number
		item, seen := byNumber[n]
		if !seen {
			numbers = append(numbers, n)
		}
		item.Set(parts[1]+parts[3], field.Value)
		byNumber[n] = item
	}
	slices.Sort(numbers)
	items := make([]Fields, 0, len(numbers))
	for _, n := range numbers {
		items = append(items, byNumber[n])
	}
	return items
}

// Renumber returns the numbered fields with another number: shift is added.
func (f Fields) Renumber(shift int) Fields {
	var shifted Fields
	for _, field := range f {
		if parts := numbered.FindStringSubmatch(field.Name); parts != nil {
			n, _ := strconv.Atoi(parts[2])
			shifted.Set(parts[1]+"_"+strconv.Itoa(n+shift)+parts[3], field.Value)
		}
	}
	return shifted
}

// Clone returns a copy that shares nothing with f that can be changed.
func (f Fields) Clone() Fields { return slices.Clone(f) }

// MarshalJSON writes one flat object of strings, in the order of the names.
func (f Fields) MarshalJSON() ([]byte, error) {
	size := len("{}")
	for _, field := range f {
		size += len(field.Name) + len(field.Value) + len(`"":"",`)
	}
	object := append(make([]byte, 0, size), '{')
	for i, field := range f {
		if i > 0 {
			object = append(object, ',')
		}
		object = appendJSON(object, field.Name)
		object = append(object, ':')
		object = appendJSON(object, field.Value)
	}
	return append(object, '}'), nil
}

// appendJSON appends text as JSON. Most fields are plain, and need no more than
// their quotes.
func appendJSON(b []byte, text string) []byte {
	for i := range len(text) {
		if c := text[i]; c < ' ' || c > '~' || c == '"' || c == '\\' {
			return appendEscaped(b, text)
		}
	}
	b = append(b, '"')
	b = append(b, text...)
	return append(b, '"')
}

// appendEscaped leaves & < > as they are: nothing here goes into a page.
func appendEscaped(b []byte, text string) []byte {
	buf := bytes.NewBuffer(b)
	enc := json.NewEncoder(buf)
	enc.SetEscapeHTML(false)
	_ = enc.Encode(text) // text always has a form, and a buffer takes it
	return bytes.TrimSuffix(buf.Bytes(), []byte("\n"))
}

func (f Fields) find(name string) (int, bool) {
	return slices.BinarySearchFunc(f, name, func(field Field, name string) int {
		return strings.Compare(field.Name, name)
	})
}
