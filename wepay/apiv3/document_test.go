package apiv3

import (
	"encoding/json"
	"maps"
	"reflect"
	"slices"
	"strings"
	"testing"
)

func TestDocument(t *testing.T) {
	const written = " \t\r\n{ \"a\" : \"x\\\\\" , \"b\":{\"c\":[ 1 , {\"d\":\"}]\\\"\"},[],\"y\" ] ,\"n\":null, \"\":7},\"t\":true,\"f\":false,\"e\\u0066\":-1.5e3,\"o\":{},\"l\":[]} \n"
	d, err := parse([]byte(written))
	if err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]string{
		"a": `x\`, "b": "", "b.c": "", "b.n": "", "t": "", "f": "", "ef": "-1.5e3", "o": "", "o.x": "", "a.x": "", "missing": "", "b.missing.more": "",
	} {
		if got := d.text(path); got != want {
			t.Errorf("%s of the document is %q, want %q", path, got, want)
		}
		if got := d.index().text(path); got != want {
			t.Errorf("%s of the index is %q, want %q", path, got, want)
		}
	}
	for path, want := range map[string]any{
		"a": `x\`, "t": true, "f": false, "ef": json.Number("-1.5e3"), "b.n": nil, "missing": nil, "o": json.RawMessage("{}"), "l": json.RawMessage("[]"),
	} {
		if got := d.index().get(path); !reflect.DeepEqual(got, want) {
			t.Errorf("%s is %#v, want %#v", path, got, want)
		}
	}
	inner, err := parse([]byte(d.index().value("b")))
	if err != nil {
		t.Fatal(err)
	}
	all := inner.index().objects("c")
	if len(all) != 4 || all[0].text("d") != "" || all[1].text("d") != `}]"` || all[3].text("d") != "" {
		t.Errorf("the elements are %q", all)
	}
	if got := inner.index().objects("n"); got != nil {
		t.Errorf("null has elements %q", got)
	}
}

func TestNoDocument(t *testing.T) {
	for name, text := range map[string]string{
		"empty": "", "white": "  ", "null": "null", "a number": "1", "an array": "[{}]", "cut": `{"a":1`, "two": "{}{}", "twice": `{"a":1,"a":1}`,
		"twice within": `{"a":{"b":1,"b":2}}`, "twice in an array": `{"a":[{"b":1,"b":2}]}`, "twice, escaped": `{"a":1,"\u0061":2}`,
		"half a surrogate": `{"a":"\ud83d"}`, "no UTF-8": "{\"a\":\"\xff\"}", "a line feed": "{\"a\":\"\n\"}", "a comment": "{/**/}", "a comma": `{"a":1,}`,
		"NaN": `{"a":NaN}`, "a leading zero": `{"a":01}`, "a mark": "\ufeff{}", "deep": `{"a":` + strings.Repeat("[", 20000) + strings.Repeat("]", 20000) + "}",
	} {
		if d, err := parse([]byte(text)); err == nil {
			t.Errorf("%s: read as %q", name, d)
		}
	}
}

// What is read is what encoding/json reads, and what that refuses is refused.
func FuzzDocument(f *testing.F) {
	for _, name := range []string{"N1", "N2", "N3"} {
		v := vectorInto[notificationVector](f, name)
		f.Add([]byte(v.Body))
		f.Add([]byte(v.Plaintext))
	}
	f.Add([]byte(` { "a" : [ 1, {"b":"\\\""}, [] ], "c":{"d":null,"e":-0.1E+2}} `))
	f.Fuzz(func(t *testing.T, text []byte) {
		d, err := parse(text)
		if err != nil {
			return
		}
		want := object{}
		if err := decode(text, &want); err != nil {
			t.Fatalf("encoding/json refuses what is accepted: %v", err)
		}
		index := d.index()
		if len(index) != len(want) {
			t.Fatalf("%d members, want %d", len(index), len(want))
		}
		for _, e := range index {
			var value any
			if err := decode([]byte(e.value), &value); err != nil || !reflect.DeepEqual(value, want[e.name]) {
				t.Fatalf("%q is %s, %v", e.name, e.value, err)
			}
			if e.name == "" || strings.Contains(e.name, ".") {
				continue // no path leads there
			}
			if got := index.text(e.name); got != want.text(e.name) || d.text(e.name) != got {
				t.Fatalf("%q is %q, want %q", e.name, got, want.text(e.name))
			}
			if all, isArray := value.([]any); isArray && len(all) != len(index.objects(e.name)) {
				t.Fatalf("%q has %d elements", e.name, len(index.objects(e.name)))
			}
			if inner, isObject := want.object(e.name); isObject {
				for _, name := range slices.Sorted(maps.Keys(inner)) {
					if name != "" && !strings.Contains(name, ".") && index.text(e.name+"."+name) != inner.text(name) {
						t.Fatalf("%q in %q is another", name, e.name)
					}
				}
			}
		}
	})
}
