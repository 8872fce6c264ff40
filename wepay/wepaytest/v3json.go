package wepaytest

import (
	"bytes"
	"encoding/json"
	"io"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/windsome/caddy-wepay/wepay"
)

// object is a JSON object of API v3: its values are strings, json.Numbers,
// bools, objects and lists of these.
type object map[string]any

// at returns the value at a path such as amount.total, or nil.
func (o object) at(path string) any {
	name, rest, nested := strings.Cut(path, ".")
	if !nested {
		return o[name]
	}
	inner, _ := o[name].(object)
	return inner.at(rest)
}

func (o object) text(path string) string {
	value, _ := o.at(path).(string)
	return value
}

func (o object) whole(path string) int64 {
	value, _ := o.at(path).(json.Number)
	return amount(string(value))
}

func (o object) truth(path string) bool {
	value, _ := o.at(path).(bool)
	return value
}

// objects returns the objects of a list.
func (o object) objects(path string) []object {
	list, _ := o.at(path).([]any)
	objects := make([]object, 0, len(list))
	for _, value := range list {
		if inner, ok := value.(object); ok {
			objects = append(objects, inner)
		}
	}
	return objects
}

// put sets the value at a path; nil removes it.
func (o object) put(path string, value any) {
	name, rest, nested := strings.Cut(path, ".")
	switch {
	case nested:
		inner, found := o[name].(object)
		if !found {
			inner = object{}
			o[name] = inner
		}
		inner.put(rest, value)
	case value == nil:
		delete(o, name)
	default:
		o[name] = value
	}
}

// without leaves out the members that have no value, as WeChat does.
func (o object) without(names ...string) object {
	for _, name := range names {
		if o[name] == "" {
			delete(o, name)
		}
	}
	return o
}

// maxDepth is deeper than any request of API v3.
const maxDepth = 8

// parse reads a body strictly, and says what is wrong with it otherwise: WeChat
// takes no null and no character of more than three bytes of UTF-8.
func parse(body []byte) (object, string) {
	if !utf8.Valid(body) {
		return nil, "请求体不是UTF-8编码"
	}
	d := json.NewDecoder(bytes.NewReader(body))
	d.UseNumber()
	value, issue := parseValue(d, maxDepth)
	if issue != "" {
		return nil, issue
	}
	if _, err := d.Token(); err != io.EOF {
		return nil, "请求体不是合法的JSON"
	}
	o, ok := value.(object)
	if !ok {
		return nil, "请求体不是JSON对象"
	}
	return o, ""
}

func parseValue(d *json.Decoder, depth int) (any, string) {
	token, err := d.Token()
	if err != nil || depth == 0 {
		return nil, "请求体不是合法的JSON"
	}
	switch value := token.(type) {
	case nil:
		return nil, "参数值不能为null"
	case string:
		return value, checkText(value)
	case json.Delim:
		if value == '{' {
			return parseObject(d, depth)
		}
		return parseList(d, depth)
	default:
		return value, ""
	}
}

func checkText(value string) string {
	for _, r := range value {
		if r > 0xFFFF || r == utf8.RuneError {
			return "仅支持UTF-8的3字节以内字符"
		}
	}
	return ""
}

func parseObject(d *json.Decoder, depth int) (any, string) {
	o := object{}
	for d.More() {
		token, err := d.Token()
		if err != nil {
			return nil, "请求体不是合法的JSON"
		}
		name, _ := token.(string) // a name is a string, or Token fails
		if _, twice := o[name]; twice {
			return nil, "参数" + name + "重复"
		}
		value, issue := parseValue(d, depth-1)
		if issue != "" {
			return nil, issue
		}
		o[name] = value
	}
	if _, err := d.Token(); err != nil {
		return nil, "请求体不是合法的JSON"
	}
	return o, ""
}

func parseList(d *json.Decoder, depth int) (any, string) {
	list := []any{}
	for d.More() {
		value, issue := parseValue(d, depth-1)
		if issue != "" {
			return nil, issue
		}
		list = append(list, value)
	}
	if _, err := d.Token(); err != nil {
		return nil, "请求体不是合法的JSON"
	}
	return list, ""
}

// kind is what a member of an object is.
type kind int

const (
	texts   kind = iota
	wholes       // an integer
	truths       // true or false
	nested       // an object
	lists        // a list of objects
	choices      // a list of strings
	free         // an object of any form
)

// member says what one member of a request may hold.
type member struct {
	name     string
	as       string // the parameter of API v2 that says the same; "": none does
	required bool
	kind     kind
	max      int // characters of a text, elements of a list; 0: no limit of its own
	is       func(string) bool
	of       members // of an object, and of each object in a list
}

type members []member

// check refuses members that are unknown, missing, of another type, too long or
// malformed. Location and at say where the object is.
func (ms members) check(in object, location, at string) *v3refusal {
	for name := range in {
		known := false
		for _, m := range ms {
			known = known || m.name == name
		}
		if !known {
			return wrong(location, at+"/"+name, in[name], "不识别的参数")
		}
	}
	for _, m := range ms {
		value, found := in[m.name]
		if !found || value == "" {
			if m.required {
				return wrong(location, at+"/"+m.name, value, "缺少参数")
			}
			continue
		}
		if issue := m.issue(value); issue != "" {
			return wrong(location, at+"/"+m.name, value, issue)
		}
		if refused := m.descend(value, location, at+"/"+m.name); refused != nil {
			return refused
		}
	}
	return nil
}

// descend checks what is inside an object or a list.
func (m member) descend(value any, location, at string) *v3refusal {
	switch value := value.(type) {
	case object:
		if m.kind == free {
			return nil
		}
		return m.of.check(value, location, at)
	case []any:
		if m.kind == choices {
			return nil
		}
		for i, element := range value {
			if refused := m.of.check(element.(object), location, at+"/"+strconv.Itoa(i)); refused != nil {
				return refused
			}
		}
	}
	return nil
}

// issue says what is wrong with a value itself.
func (m member) issue(value any) string {
	const ofType, ofLength, ofForm = "参数类型错误", "参数长度有误", "参数格式错误"
	switch value := value.(type) {
	case string:
		switch {
		case m.kind != texts:
			return ofType
		case m.max > 0 && utf8.RuneCountInString(value) > m.max:
			return ofLength
		case m.is != nil && !m.is(value):
			return ofForm
		}
	case json.Number:
		if _, err := strconv.ParseInt(string(value), 10, 64); m.kind != wholes || err != nil {
			return ofType
		}
		if m.is != nil && !m.is(string(value)) {
			return ofForm
		}
	case bool:
		if m.kind != truths {
			return ofType
		}
	case object:
		if m.kind != nested && m.kind != free {
			return ofType
		}
	case []any:
		return m.listIssue(value)
	}
	return ""
}

func (m member) listIssue(list []any) string {
	if m.kind != lists && m.kind != choices {
		return "参数类型错误"
	}
	if len(list) == 0 || m.max > 0 && len(list) > m.max {
		return "参数长度有误"
	}
	for _, element := range list {
		word, isText := element.(string)
		_, isObject := element.(object)
		if m.kind == lists && !isObject || m.kind == choices && (!isText || m.is != nil && !m.is(word)) {
			return "参数类型错误"
		}
	}
	return ""
}

// translate sets the fields that API v2 has, too, under its names, so that the same rules
// apply to both.
func (ms members) translate(in object, out *wepay.Fields) {
	for _, m := range ms {
		switch value := in[m.name].(type) {
		case string:
			m.set(out, value)
		case json.Number:
			m.set(out, string(value))
		case bool:
			m.set(out, map[bool]string{true: "Y", false: "N"}[value])
		case object:
			m.of.translate(value, out)
		}
	}
}

func (m member) set(out *wepay.Fields, value string) {
	if m.as != "" && value != "" {
		out.Set(m.as, value)
	}
}
