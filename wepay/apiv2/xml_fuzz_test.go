package apiv2_test

import (
	"bytes"
	"encoding/xml"
	"errors"
	"io"
	"slices"
	"strings"
	"testing"

	"github.com/windsome/caddy-wepay/wepay"
	"github.com/windsome/caddy-wepay/wepay/apiv2"
)

// Run them for longer with
//
//	go test ./wepay/apiv2 -run '^$' -fuzz '^FuzzDecode$' -fuzztime 2m
//	go test ./wepay/apiv2 -run '^$' -fuzz '^FuzzEncode$' -fuzztime 2m

// reference reads the elements of a root with encoding/xml.
func reference(document []byte) (map[string]string, error) {
	d := xml.NewDecoder(bytes.NewReader(document))
	values := make(map[string]string)
	depth := 0
	name, text := "", ""
	for {
		token, err := d.Token()
		if errors.Is(err, io.EOF) {
			return values, nil
		}
		if err != nil {
			return nil, err
		}
		switch token := token.(type) {
		case xml.StartElement:
			depth++
			name, text = token.Name.Local, ""
		case xml.CharData:
			text += string(token)
		case xml.EndElement:
			if depth == 2 {
				values[name] = text
			}
			depth--
		}
	}
}

// Whatever Decode accepts another reader must read alike: a document of which
// two readers think differently is how signatures are got round.
func FuzzDecode(f *testing.F) {
	for _, file := range []string{"v20.xml", "v21.xml", "v22.xml"} {
		f.Add(testdata(f, file))
	}
	for _, test := range accepted {
		f.Add([]byte(test.document))
	}
	for _, test := range refused {
		f.Add([]byte(test.document))
	}
	f.Fuzz(func(t *testing.T, document []byte) {
		fields, err := apiv2.Decode("xml", document)
		if err != nil {
			if !errors.Is(err, wepay.ErrMalformed) || fields != nil {
				t.Fatalf("got %v, %v", fields, err)
			}
			return
		}
		if !slices.IsSortedFunc(fields, func(a, b wepay.Field) int { return strings.Compare(a.Name, b.Name) }) {
			t.Fatalf("%q is not sorted", fields)
		}
		want, err := reference(document)
		if err != nil {
			t.Fatalf("encoding/xml refuses %q: %v", document, err)
		}
		if len(want) != len(fields) {
			t.Fatalf("got %q, encoding/xml reads %q", fields, want)
		}
		for _, field := range fields {
			if value, found := want[field.Name]; !found || value != field.Value {
				t.Fatalf("%s is %q, encoding/xml reads %q", field.Name, field.Value, value)
			}
		}
		roundTrip(t, fields)
	})
}

// roundTrip demands that fields survive being written and read.
func roundTrip(t *testing.T, fields wepay.Fields) {
	t.Helper()
	document, err := apiv2.Encode("xml", fields)
	if err != nil {
		t.Fatalf("%q cannot be written: %v", fields, err)
	}
	again, err := apiv2.Decode("xml", document)
	if err != nil || !slices.Equal(again, fields) {
		t.Fatalf("%q was written as %q and read as %q, %v", fields, document, again, err)
	}
}

func FuzzEncode(f *testing.F) {
	for _, value := range []string{
		"", "1", "袜子 & 🧦", "]]>", "]]", "]", ">", "]]\r>", "\r]]>", "\r\n", "\r\r", "]\r]>", "<![CDATA[", "&#13;", "&amp;",
		"]]]]>>", " \t\n", "\x00", "\uFFFE", "\xff", "\u0085\u2028",
	} {
		f.Add("a", value, "b", value)
	}
	f.Add("sign", "x", "Sign", "y")
	f.Add("a", "1", "a", "2")
	f.Fuzz(func(t *testing.T, name1, value1, name2, value2 string) {
		fields := wepay.NewFields(map[string]string{name1: value1, name2: value2})
		document, err := apiv2.Encode("xml", fields)
		if err != nil {
			if !errors.Is(err, wepay.ErrMalformed) {
				t.Fatal(err)
			}
			return
		}
		if _, err := reference(document); err != nil {
			t.Fatalf("encoding/xml refuses %q: %v", document, err)
		}
		roundTrip(t, fields)
	})
}
