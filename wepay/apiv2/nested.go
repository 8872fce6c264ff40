package apiv2

import (
	"bytes"
	"encoding/json"
	"encoding/xml"
	"fmt"
	"strings"

	"github.com/windsome/caddy-wepay/wepay"
)

// decodeNested reads the only kind of reply that is not flat: a red packet's, whose
// hblist holds one hbinfo for each receiver. The list becomes a JSON array in the
// field's text. Such replies are never signed, so they do not need Decode's
// strictness; encoding/xml expands no custom entities.
func decodeNested(root string, document []byte) (wepay.Fields, error) {
	d := xml.NewDecoder(bytes.NewReader(document))
	start, err := firstElement(d)
	if err != nil || start.Name.Local != root {
		return nil, fmt.Errorf("%w: another root element", wepay.ErrMalformed)
	}
	fields := []wepay.Field{}
	err = children(d, func(name string) error {
		text, items, err := element(d)
		if err != nil {
			return err
		}
		if name == "hblist" && items == nil {
			if strings.TrimSpace(text) != "" {
				return syntaxError("the list holds text")
			}
			items = []wepay.Fields{} // none was opened
		}
		if items != nil {
			text, err = marshalItems(items)
		}
		fields = append(fields, wepay.Field{Name: name, Value: text})
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("%w: %w", wepay.ErrMalformed, err)
	}
	return inOrder(fields)
}

func firstElement(d *xml.Decoder) (xml.StartElement, error) {
	for {
		token, err := d.Token()
		if err != nil {
			return xml.StartElement{}, err
		}
		if start, ok := token.(xml.StartElement); ok {
			return start, nil
		}
	}
}

// children calls read at the start of each child of the open element, until that
// ends. Read has to consume the child's end.
func children(d *xml.Decoder, read func(name string) error) error {
	for {
		token, err := d.Token()
		if err != nil {
			return err
		}
		switch token := token.(type) {
		case xml.StartElement:
			if err := read(token.Name.Local); err != nil {
				return err
			}
		case xml.EndElement:
			return nil
		}
	}
}

// element reads the element that is open: its text, or its children, each of
// which is one item of flat fields.
func element(d *xml.Decoder) (text string, items []wepay.Fields, err error) {
	var b strings.Builder
	for {
		token, err := d.Token()
		if err != nil {
			return "", nil, err
		}
		switch token := token.(type) {
		case xml.CharData:
			b.Write(token)
		case xml.StartElement:
			item := []wepay.Field{}
			err := children(d, func(name string) error {
				var value string
				err := d.DecodeElement(&value, &xml.StartElement{Name: xml.Name{Local: name}})
				item = append(item, wepay.Field{Name: name, Value: value})
				return err
			})
			if err != nil {
				return "", nil, err
			}
			sorted, err := inOrder(item)
			if err != nil {
				return "", nil, err
			}
			items = append(items, sorted)
		case xml.EndElement:
			return b.String(), items, nil
		}
	}
}

func marshalItems(items []wepay.Fields) (string, error) {
	var b strings.Builder
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	err := enc.Encode(items)
	return strings.TrimSpace(b.String()), err
}
