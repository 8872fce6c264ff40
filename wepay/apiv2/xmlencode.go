package apiv2

import (
	"bytes"
	"fmt"
	"strings"
	"unicode/utf8"

	"github.com/windsome/caddy-wepay/wepay"
)

// Encode writes fields as one flat XML document that Decode reads back to the
// same fields. Plain values are text, others CDATA. Errors wrap
// wepay.ErrMalformed: an invalid name, a value that XML cannot carry.
func Encode(root string, fields wepay.Fields) ([]byte, error) {
	var b bytes.Buffer
	b.Grow(64 * (len(fields) + 1))
	b.WriteString("<" + root + ">")
	for _, field := range fields {
		if !isName(field.Name) {
			return nil, fmt.Errorf("%w: a field's name is no element's name", wepay.ErrMalformed)
		}
		b.WriteString("<" + field.Name + ">")
		if err := writeText(&b, field.Value); err != nil {
			return nil, fmt.Errorf("%s: %w", field.Name, err)
		}
		b.WriteString("</" + field.Name + ">")
	}
	b.WriteString("</" + root + ">")
	return b.Bytes(), nil
}

func isName(s string) bool { return s != "" && nameLength(s) == len(s) }

func writeText(b *bytes.Buffer, value string) error {
	if !utf8.ValidString(value) {
		return fmt.Errorf("%w: not UTF-8", wepay.ErrMalformed)
	}
	if err := checkCharacters(value); err != nil {
		return fmt.Errorf("%w: %s", wepay.ErrMalformed, err)
	}
	if !strings.ContainsAny(value, "&<>\r") {
		b.WriteString(value)
		return nil
	}
	// A section cannot contain its own end, nor a carriage return, which a reader
	// would normalise: both go between two sections.
	b.WriteString("<![CDATA[")
	b.WriteString(sectionEscapes.Replace(value))
	b.WriteString("]]>")
	return nil
}

var sectionEscapes = strings.NewReplacer("]]>", "]]]]><![CDATA[>", "\r", "]]>&#13;<![CDATA[")
