package apiv2_test

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/windsome/caddy-wepay/wepay"
	"github.com/windsome/caddy-wepay/wepay/apiv2"
)

// accepted are documents and what they hold, names and values in turn.
var accepted = []struct {
	name, document string
	want           []string
}{
	{"nothing", `<xml></xml>`, nil},
	{"nothing, self-closing", `<xml/>`, nil},
	{"nothing, self-closing with a blank", `<xml />`, nil},
	{"one", `<xml><a>1</a></xml>`, []string{"a", "1"}},
	{"sorted", `<xml><b>2</b><a>1</a><B>3</B><a_1>5</a_1><a1>4</a1></xml>`, []string{"B", "3", "a", "1", "a1", "4", "a_1", "5", "b", "2"}},
	{"empty", `<xml><a></a></xml>`, []string{"a", ""}},
	{"empty, self-closing", `<xml><a/><b /></xml>`, []string{"a", "", "b", ""}},
	{"empty CDATA", `<xml><a><![CDATA[]]></a></xml>`, []string{"a", ""}},
	{"white space kept", "<xml><a>  x y\t</a></xml>", []string{"a", "  x y\t"}},
	{"white space only", "<xml><a> \n </a></xml>", []string{"a", " \n "}},
	{"white space in CDATA kept", "<xml><a><![CDATA[ x\n]]></a></xml>", []string{"a", " x\n"}},
	{"white space around CDATA kept", "<xml><a> <![CDATA[x]]>\n</a></xml>", []string{"a", " x\n"}},
	{"white space among elements", "\t<xml>\r\n <a>1</a>\n\t<b>2</b> </xml>\n", []string{"a", "1", "b", "2"}},
	{"white space in tags", "<xml\n><a >1</a\t></xml >", []string{"a", "1"}},
	{"CR LF", "<xml><a>1\r\n2\r3\n\r4</a></xml>", []string{"a", "1\n2\n3\n\n4"}},
	{"CR LF in CDATA", "<xml><a><![CDATA[1\r\n2\r3]]></a></xml>", []string{"a", "1\n2\n3"}},
	{"CR and LF in two pieces", "<xml><a>1\r<![CDATA[\n2]]></a></xml>", []string{"a", "1\n\n2"}},
	{"CR as a reference", "<xml><a>1&#13;\n2&#xd;</a></xml>", []string{"a", "1\r\n2\r"}},
	{"the five entities", `<xml><a>&lt;&gt;&amp;&apos;&quot;</a></xml>`, []string{"a", `<>&'"`}},
	{"references are resolved once", `<xml><a>&amp;lt;&#38;lt;</a></xml>`, []string{"a", "&lt;&lt;"}},
	{"decimal and hexadecimal", `<xml><a>&#65;&#x41;&#x6A;&#x6a;&#0065;</a></xml>`, []string{"a", "AAjjA"}},
	{"beyond the BMP", `<xml><a>&#129510;&#x1F9E6;🧦&#x10FFFF;</a></xml>`, []string{"a", "🧦🧦🧦\U0010FFFF"}},
	{"the edges of what XML carries", "<xml><a>&#9;&#10;&#32;&#xD7FF;&#xE000;&#xFFFD;\u007f</a></xml>", []string{"a", "\t\n \uD7FF\uE000\uFFFD\u007f"}},
	{"CDATA keeps markup", `<xml><a><![CDATA[<b>&amp;</b>]]></a></xml>`, []string{"a", "<b>&amp;</b>"}},
	{"CDATA joined", `<xml><a>1<![CDATA[2]]>3<![CDATA[4]]><![CDATA[5]]></a></xml>`, []string{"a", "12345"}},
	{"CDATA end split", `<xml><a><![CDATA[]]]]><![CDATA[>]]></a></xml>`, []string{"a", "]]>"}},
	{"CDATA start in CDATA", `<xml><a><![CDATA[<![CDATA[]]></a></xml>`, []string{"a", "<![CDATA["}},
	{"brackets in text", `<xml><a>]] > ]]&gt;</a></xml>`, []string{"a", "]] > ]]>"}},
	{"greater-than in text", `<xml><a>1>0</a></xml>`, []string{"a", "1>0"}},
	{"names", `<xml><_a-b.c9>1</_a-b.c9></xml>`, []string{"_a-b.c9", "1"}},
	{"the root's name within", `<xml><xml>1</xml></xml>`, []string{"xml", "1"}},
	{"declared", `<?xml version="1.0"?><xml><a>1</a></xml>`, []string{"a", "1"}},
	{"declared in full", "<?xml version='1.0' encoding='UTF-8' standalone='yes'?>\n<xml><a>1</a></xml>", []string{"a", "1"}},
	{"declared in small letters", `<?xml version="1.0" encoding="utf-8" ?><xml><a>1</a></xml>`, []string{"a", "1"}},
	{"declared with blanks", `<?xml version = "1.0" ?><xml><a>1</a></xml>`, []string{"a", "1"}},
	{"declared without encoding", `<?xml version="1.0" standalone="no"?><xml><a>1</a></xml>`, []string{"a", "1"}},
}

func TestDecode(t *testing.T) {
	for _, test := range accepted {
		t.Run(test.name, func(t *testing.T) {
			fields, err := apiv2.Decode("xml", []byte(test.document))
			if err != nil {
				t.Fatal(err)
			}
			var got []string
			for _, f := range fields {
				got = append(got, f.Name, f.Value)
			}
			if !slices.Equal(got, test.want) {
				t.Errorf("got %q, want %q", got, test.want)
			}
		})
	}
}

// refused are documents that no part of WeChat's sends; notify_test.go has
// those that a forger would send.
var refused = []struct{ name, document string }{
	{"blank", " \n"},
	{"text", "SUCCESS"},
	{"an open root", "<xml>"},
	{"an open tag", "<xml"},
	{"a lone end", "</xml>"},
	{"an open element", "<xml><a>1</xml>"},
	{"an element that ends in the root's end", "<xml><a>1"},
	{"an element's end that begins alike", "<xml><a>1</ab></xml>"},
	{"an end tag with more in it", `<xml><a>1</a b></xml>`},
	{"an end tag with a blank in front", `<xml><a>1</ a></xml>`},
	{"a tag with a blank in front", `<xml>< a>1</a></xml>`},
	{"a slash with a blank behind", `<xml><a/ ></xml>`},
	{"a name that begins with a digit", "<xml><1>1</1></xml>"},
	{"a name that begins with a dash", "<xml><-a>1</-a></xml>"},
	{"a Chinese name", "<xml><金额>1</金额></xml>"},
	{"no name", "<xml><>1</></xml>"},
	{"names in two cases", "<xml><a>1</A></xml>"},
	{"an ampersand alone", "<xml><a>1 & 2</a></xml>"},
	{"an open reference", "<xml><a>&amp</a></xml>"},
	{"a reference into the next element", "<xml><a>&am</a><b>p;</b></xml>"},
	{"an empty reference", "<xml><a>&;</a></xml>"},
	{"an empty character reference", "<xml><a>&#;</a></xml>"},
	{"an empty hexadecimal reference", "<xml><a>&#x;</a></xml>"},
	{"a hexadecimal reference in capitals", "<xml><a>&#X41;</a></xml>"},
	{"a signed reference", "<xml><a>&#+65;</a></xml>"},
	{"a reference with underscores", "<xml><a>&#6_5;</a></xml>"},
	{"a reference with a blank", "<xml><a>&# 65;</a></xml>"},
	{"an entity in capitals", "<xml><a>&AMP;</a></xml>"},
	{"NUL as a reference", "<xml><a>&#0;</a></xml>"},
	{"a control character as a reference", "<xml><a>&#8;</a></xml>"},
	{"half a pair as a reference", "<xml><a>&#xD800;</a></xml>"},
	{"the other half", "<xml><a>&#xDFFF;</a></xml>"},
	{"U+FFFE as a reference", "<xml><a>&#xFFFE;</a></xml>"},
	{"a reference beyond Unicode", "<xml><a>&#x110000;</a></xml>"},
	{"a reference beyond 32 bits", "<xml><a>&#4294967361;</a></xml>"},
	{"a control character", "<xml><a>\x01</a></xml>"},
	{"a control character in CDATA", "<xml><a><![CDATA[\x1f]]></a></xml>"},
	{"U+FFFF", "<xml><a>\uFFFF</a></xml>"},
	{"U+FFFE in CDATA", "<xml><a><![CDATA[\uFFFE]]></a></xml>"},
	{"half a pair in UTF-8", "<xml><a>\xed\xa0\x80</a></xml>"},
	{"an overlong slash", "<xml><a>\xc0\xaf</a></xml>"},
	{"no-break space among elements", "<xml>\u00a0<a>1</a></xml>"},
	{"form feed among elements", "<xml>\f<a>1</a></xml>"},
	{"a reference among elements", "<xml>&#32;<a>1</a></xml>"},
	{"declared twice", `<?xml version="1.0"?><?xml version="1.0"?><xml/>`},
	{"declared after a blank", ` <?xml version="1.0"?><xml/>`},
	{"declared without version", `<?xml encoding="UTF-8"?><xml/>`},
	{"declared as 1.1", `<?xml version="1.1"?><xml/>`},
	{"declared as GBK", `<?xml version="1.0" encoding="GBK"?><xml/>`},
	{"declared as nothing", `<?xml version="1.0" encoding=""?><xml/>`},
	{"declared in another order", `<?xml encoding="UTF-8" version="1.0"?><xml/>`},
	{"declared without blanks", `<?xml version="1.0"encoding="UTF-8"?><xml/>`},
	{"declared without quotes", `<?xml version=1.0?><xml/>`},
	{"declared without =", `<?xml version "1.0"?><xml/>`},
	{"declared with open quotes", `<?xml version="1.0?><xml/>`},
	{"declared with more", `<?xml version="1.0" a="b"?><xml/>`},
	{"declared in capitals", `<?XML version="1.0"?><xml/>`},
	{"declared for ever", `<?xml version="1.0"`},
	{"declared alone", `<?xml version="1.0"?>`},
}

func TestDecodeRefuses(t *testing.T) {
	for _, test := range refused {
		t.Run(test.name, func(t *testing.T) {
			fields, err := apiv2.Decode("xml", []byte(test.document))
			if !errors.Is(err, wepay.ErrMalformed) || fields != nil {
				t.Errorf("got %v, %v, want ErrMalformed", fields, err)
			}
		})
	}
}

func TestDecodeOtherRoot(t *testing.T) {
	fields, err := apiv2.Decode("root", []byte("<root><a>1</a></root>"))
	if err != nil || fields.Get("a") != "1" {
		t.Errorf("got %v, %v", fields, err)
	}
}

// Errors go to logs; what is refused may be a key.
func TestDecodeKeepsInputOut(t *testing.T) {
	for _, document := range []string{
		"<xml><a>hunter2<b/></a></xml>", "<hunter2></hunter2>", "<xml><hunter2>1</hunter2><hunter2/></xml>",
		"<xml><a>&hunter2;</a></xml>", `<?xml version="hunter2"?><xml/>`, "<xml/>hunter2",
	} {
		if _, err := apiv2.Decode("xml", []byte(document)); err == nil || strings.Contains(err.Error(), "hunter2") {
			t.Errorf("got %v, want an error without the input", err)
		}
	}
}

func TestEncode(t *testing.T) {
	for _, test := range []struct{ name, value, want string }{
		{"plain", "袜子🧦", "袜子🧦"},
		{"empty", "", ""},
		{"blanks", " a\n", " a\n"},
		{"quotes", `"'`, `"'`},
		{"markup", "a&b<c>", "<![CDATA[a&b<c>]]>"},
		{"CDATA end", "]]>", "<![CDATA[]]]]><![CDATA[>]]>"},
		{"carriage return", "a\rb", "<![CDATA[a]]>&#13;<![CDATA[b]]>"},
	} {
		t.Run(test.name, func(t *testing.T) {
			got, err := apiv2.Encode("xml", wepay.Fields{{Name: "a", Value: test.value}})
			if want := "<xml><a>" + test.want + "</a></xml>"; err != nil || string(got) != want {
				t.Errorf("got %s, %v, want %s", got, err, want)
			}
		})
	}
}

func TestEncodeRefuses(t *testing.T) {
	for _, field := range []wepay.Field{
		{Name: ""},
		{Name: "a b"},
		{Name: "a>"},
		{Name: "1a"},
		{Name: "a:b"},
		{Name: "金额"},
		{Name: "a", Value: "\x00"},
		{Name: "a", Value: "\x1b"},
		{Name: "a", Value: "\uFFFF"},
		{Name: "a", Value: "\uFFFE"},
		{Name: "a", Value: "\xff"},
		{Name: "a", Value: "\xed\xa0\x80"},
	} {
		t.Run(field.Name+" "+field.Value, func(t *testing.T) {
			if got, err := apiv2.Encode("xml", wepay.Fields{field}); !errors.Is(err, wepay.ErrMalformed) {
				t.Errorf("got %s, %v, want ErrMalformed", got, err)
			}
		})
	}
}
