package apiv2

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/windsome/caddy-wepay/wepay"
)

// Decode reads one flat XML document: a root element whose children hold text
// only, each name once. It accepts nothing that WeChat never sends: no document
// type, no entity but the five predefined and character references, no
// attribute, comment, processing instruction or nesting, nothing but white
// space around the root. Values are exact: nothing is trimmed, white space
// included, and only XML's own line end rule applies (CR LF and CR become LF).
//
// Errors wrap wepay.ErrMalformed and never repeat what they refuse.
func Decode(root string, document []byte) (wepay.Fields, error) {
	if !utf8.Valid(document) {
		return nil, fmt.Errorf("%w: not UTF-8", wepay.ErrMalformed)
	}
	d := decoder{rest: string(document), size: len(document)}
	fields, err := d.document(root)
	if err != nil {
		return nil, fmt.Errorf("%w: %s at byte %d", wepay.ErrMalformed, err, d.size-len(d.rest))
	}
	return inOrder(fields)
}

// inOrder makes Fields of what stands there in any order, once each.
func inOrder(fields []wepay.Field) (wepay.Fields, error) {
	slices.SortStableFunc(fields, func(a, b wepay.Field) int { return strings.Compare(a.Name, b.Name) })
	for i := 1; i < len(fields); i++ {
		if fields[i].Name == fields[i-1].Name {
			return nil, fmt.Errorf("%w: an element stands there twice", wepay.ErrMalformed)
		}
	}
	return fields, nil
}

// syntaxError is a constant reason, so that no input reaches a log through it.
type syntaxError string

func (e syntaxError) Error() string { return string(e) }

// decoder reads a document from front to back; rest is what is left of it.
// Values without escapes are parts of the document's own string, so that
// reading one costs no memory.
type decoder struct {
	rest string
	size int
}

func (d *decoder) document(root string) (wepay.Fields, error) {
	if err := d.declaration(); err != nil {
		return nil, err
	}
	d.space()
	name, empty, err := d.startTag()
	if err != nil {
		return nil, err
	}
	if name != root {
		return nil, syntaxError("another root element")
	}
	fields := make(wepay.Fields, 0, 32)
	for !empty {
		d.space()
		if strings.HasPrefix(d.rest, "</") {
			if err := d.endTag(root); err != nil {
				return nil, err
			}
			break
		}
		field, err := d.field()
		if err != nil {
			return nil, err
		}
		fields = append(fields, field)
	}
	d.space()
	if d.rest != "" {
		return nil, syntaxError("something after the root element")
	}
	return fields, nil
}

// declaration skips an XML declaration, which is allowed at the very beginning.
func (d *decoder) declaration() error {
	if !strings.HasPrefix(d.rest, "<?xml") {
		return nil
	}
	text, rest, found := strings.Cut(d.rest, "?>")
	if !found {
		return syntaxError("an open XML declaration")
	}
	text = text[len("<?xml"):]
	for i, pseudo := range []struct{ name, value string }{{"version", "1.0"}, {"encoding", "UTF-8"}, {"standalone", ""}} {
		value, after, err := pseudoAttribute(text, pseudo.name)
		if err != nil {
			return err
		}
		if after == text && i == 0 || after != text && pseudo.value != "" && !strings.EqualFold(value, pseudo.value) {
			return syntaxError("an XML declaration of another version or encoding")
		}
		text = after
	}
	if strings.TrimLeft(text, whiteSpace) != "" {
		return syntaxError("a malformed XML declaration")
	}
	d.rest = rest
	return nil
}

// pseudoAttribute reads ` name="value"` off an XML declaration. If there is another
// name it returns the whole text.
func pseudoAttribute(text, name string) (value, rest string, err error) {
	trimmed := strings.TrimLeft(text, whiteSpace)
	after, found := strings.CutPrefix(trimmed, name)
	if !found || trimmed == text {
		return "", text, nil
	}
	after, found = strings.CutPrefix(strings.TrimLeft(after, whiteSpace), "=")
	after = strings.TrimLeft(after, whiteSpace)
	if !found || after == "" || after[0] != '"' && after[0] != '\'' {
		return "", "", syntaxError("a malformed XML declaration")
	}
	value, rest, found = strings.Cut(after[1:], after[:1])
	if !found {
		return "", "", syntaxError("a malformed XML declaration")
	}
	return value, rest, nil
}

const whiteSpace = " \t\r\n"

func (d *decoder) space() { d.rest = strings.TrimLeft(d.rest, whiteSpace) }

func (d *decoder) field() (wepay.Field, error) {
	name, empty, err := d.startTag()
	if err != nil || empty {
		return wepay.Field{Name: name}, err
	}
	value, err := d.text()
	if err != nil {
		return wepay.Field{}, err
	}
	return wepay.Field{Name: name, Value: value}, d.endTag(name)
}

// startTag reads <name> or <name/>.
func (d *decoder) startTag() (name string, empty bool, err error) {
	if d.rest == "" || d.rest[0] != '<' {
		return "", false, syntaxError("text where an element belongs")
	}
	d.rest = d.rest[1:]
	if name, err = d.name(); err != nil {
		return "", false, err
	}
	if rest, found := strings.CutPrefix(d.rest, "/>"); found {
		d.rest = rest
		return name, true, nil
	}
	return name, false, d.closeTag()
}

func (d *decoder) endTag(name string) error {
	rest, found := strings.CutPrefix(d.rest, "</"+name)
	if !found {
		return syntaxError("an element that is not closed, or holds another")
	}
	d.rest = rest
	d.space()
	return d.closeTag()
}

func (d *decoder) closeTag() error {
	if d.rest == "" || d.rest[0] != '>' {
		return syntaxError("a malformed tag")
	}
	d.rest = d.rest[1:]
	return nil
}

// name reads an element's name and the white space behind it. WeChat's names
// are ASCII without prefixes.
func (d *decoder) name() (string, error) {
	n := nameLength(d.rest)
	if n == 0 {
		return "", syntaxError("no element's name where one belongs")
	}
	name := d.rest[:n]
	d.rest = d.rest[n:]
	d.space()
	return name, nil
}

// nameLength is how many bytes of a text's beginning are an element's name.
func nameLength(s string) int {
	n := 0
	for n < len(s) && isNameByte(s[n], n == 0) {
		n++
	}
	return n
}

func isNameByte(c byte, first bool) bool {
	return 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || c == '_' || !first && ('0' <= c && c <= '9' || c == '-' || c == '.')
}

// text reads an element's value: text and CDATA sections, joined.
func (d *decoder) text() (string, error) {
	var joined pieces
	for {
		end := strings.IndexByte(d.rest, '<')
		if end < 0 {
			return "", syntaxError("an open element")
		}
		if end > 0 {
			piece, err := unescape(d.rest[:end])
			if err != nil {
				return "", err
			}
			joined.add(piece)
			d.rest = d.rest[end:]
		}
		section, found := strings.CutPrefix(d.rest, "<![CDATA[")
		if !found {
			return joined.text(), nil
		}
		piece, rest, found := strings.Cut(section, "]]>")
		if !found {
			return "", syntaxError("an open CDATA section")
		}
		if err := checkCharacters(piece); err != nil {
			return "", err
		}
		joined.add(lineEnds(piece))
		d.rest = rest
	}
}

// pieces are joined to a text. The usual one, which alone is all of it, is not
// copied.
type pieces struct {
	only string
	all  strings.Builder // of more than one
}

func (p *pieces) add(piece string) {
	switch {
	case p.only == "" && p.all.Len() == 0:
		p.only = piece
	case p.all.Len() == 0:
		p.all.WriteString(p.only)
		fallthrough
	default:
		p.all.WriteString(piece)
	}
}

func (p *pieces) text() string {
	if p.all.Len() > 0 {
		return p.all.String()
	}
	return p.only
}

// unescape gives character data its meaning: references resolved, line ends
// made one.
func unescape(raw string) (string, error) {
	if strings.Contains(raw, "]]>") {
		return "", syntaxError("]]> outside a CDATA section")
	}
	if err := checkCharacters(raw); err != nil {
		return "", err
	}
	if strings.IndexByte(raw, '&') < 0 {
		return lineEnds(raw), nil
	}
	var b strings.Builder
	b.Grow(len(raw))
	for {
		before, after, found := strings.Cut(raw, "&")
		b.WriteString(lineEnds(before))
		if !found {
			return b.String(), nil
		}
		reference, rest, found := strings.Cut(after, ";")
		if !found {
			return "", syntaxError("an open reference")
		}
		r, err := resolve(reference)
		if err != nil {
			return "", err
		}
		b.WriteRune(r)
		raw = rest
	}
}

// resolve knows the five predefined entities and references to characters.
func resolve(reference string) (rune, error) {
	switch reference {
	case "lt":
		return '<', nil
	case "gt":
		return '>', nil
	case "amp":
		return '&', nil
	case "apos":
		return '\'', nil
	case "quot":
		return '"', nil
	}
	digits, base := strings.CutPrefix(reference, "#")
	if !base {
		return 0, syntaxError("an entity")
	}
	radix := 10
	if hex, found := strings.CutPrefix(digits, "x"); found {
		digits, radix = hex, 16
	}
	// ParseUint would take a sign or an underscore in none of these bases, and
	// 32 bits hold every character.
	code, err := strconv.ParseUint(digits, radix, 32)
	if err != nil || code > utf8.MaxRune || !isCharacter(rune(code)) {
		return 0, syntaxError("a reference to no character")
	}
	return rune(code), nil
}

func checkCharacters(s string) error {
	for i := 0; i < len(s); i++ {
		if c := s[i]; c < ' ' && c != '\t' && c != '\n' && c != '\r' {
			return syntaxError("a control character")
		} else if c == 0xEF && (strings.HasPrefix(s[i:], "\uFFFE") || strings.HasPrefix(s[i:], "\uFFFF")) {
			return syntaxError("a character that XML forbids")
		}
	}
	return nil
}

// isCharacter says whether XML 1.0 can carry a character at all.
func isCharacter(r rune) bool {
	return r == '\t' || r == '\n' || r == '\r' || r >= ' ' && r <= 0xD7FF || r >= 0xE000 && r <= 0xFFFD || r >= 0x10000
}

var lineEnd = strings.NewReplacer("\r\n", "\n", "\r", "\n")

func lineEnds(s string) string {
	if strings.IndexByte(s, '\r') < 0 {
		return s
	}
	return lineEnd.Replace(s)
}
