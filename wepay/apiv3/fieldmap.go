package apiv3

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/windsome/caddy-wepay/wepay"
)

// fieldMap translates between fields of API v2 and members of API v3.
type fieldMap []field

// field is a field of API v2, and the path of the same member in API v3.
type field struct {
	v2, v3 string
	form   form
}

// form is how a value is written in API v3 and in API v2.
type form struct {
	write  func(v2 string) (any, error) // nil: the member is left out
	read   func(in values, path string) (v2 string, err error)
	absent any // the member's value if the caller gives none; nil: it is left out
}

var (
	text   = form{write: writeText, read: readText}
	shown  = form{write: writeShown, read: readText}                                // display text, which may lose characters
	upper  = form{write: writeUpper}                                                // a word in capitals
	number = form{write: writeNumber, read: readNumber}                             // a whole number, digits in API v2
	fee    = form{read: readFee}                                                    // a whole number that may not be anything else
	yes    = form{write: writeYes, read: readYes}                                   // true or false, Y or N in API v2
	value  = form{write: writeValue, read: readValue}                               // JSON, a text of JSON in API v2
	list   = form{write: func(v2 string) (any, error) { return []string{v2}, nil }} // an array of one text, that text in API v2

	description = form{write: writeDescription, read: readText} // display text that is cut as well

	currency = form{write: writeText, read: readText, absent: "CNY"}

	moment = timeForm("20060102150405", time.RFC3339)
	second = timeForm("2006-01-02 15:04:05", time.RFC3339)
	day    = timeForm("20060102", time.DateOnly)
)

// fixed is a constant, whatever the other API has.
func fixed(value any) form {
	return form{absent: value, read: func(values, string) (string, error) { return fmt.Sprint(value), nil }}
}

// words translates API v3's words into API v2's. Any other word becomes other: ""
// leaves it out, unchanged keeps it.
func words(v2 map[string]string, other string) form {
	return form{read: func(in values, path string) (string, error) {
		v3 := in.text(path)
		word, known := v2[v3]
		switch {
		case known || v3 == "":
			return word, nil
		case other == unchanged:
			return v3, nil
		default:
			return other, nil
		}
	}}
}

const unchanged = "*"

// timeForm translates times between two layouts.
func timeForm(v2Layout, v3Layout string) form {
	return form{
		write: func(v2 string) (any, error) {
			at, err := time.ParseInLocation(v2Layout, v2, wepay.Beijing)
			if err != nil {
				return nil, fmt.Errorf("must be a time as %s", v2Layout)
			}
			return at.Format(v3Layout), nil
		},
		read: func(in values, path string) (string, error) {
			v3 := in.text(path)
			if v3 == "" {
				return "", nil
			}
			for _, layout := range []string{v3Layout, "2006-01-02T15:04:05Z0700"} {
				if at, err := time.Parse(layout, v3); err == nil {
					return at.In(wepay.Beijing).Format(v2Layout), nil
				}
			}
			return v3, nil // whatever WeChat says, nothing depends on it
		},
	}
}

// write calls put for each field that is given. Empty fields are not.
func (m fieldMap) write(in wepay.Fields, put func(v3 string, value any)) error {
	for _, f := range m {
		v3, given := f.form.absent, in.Get(f.v2)
		if given != "" {
			var err error
			if v3, err = f.form.write(given); err != nil {
				return &wepay.FieldError{Field: f.v2, Reason: err.Error()}
			}
		}
		if v3 != nil {
			put(f.v3, v3)
		}
	}
	return nil
}

// read adds the members of a reply or a resource to fields, except empty ones.
func (m fieldMap) read(in values, out *wepay.Fields) error {
	for i := range m {
		v2, err := m[i].form.read(in, m[i].v3)
		if err != nil {
			return fmt.Errorf("%w: %s %w", wepay.ErrMalformed, m[i].v3, err)
		}
		if v2 != "" {
			out.Set(m[i].v2, v2)
		}
	}
	return nil
}

func writeText(v2 string) (any, error) {
	if err := threeBytes(v2); err != nil {
		return nil, err
	}
	return v2, nil
}

func readText(in values, path string) (string, error) { return in.text(path), nil }

func writeUpper(v2 string) (any, error) { return strings.ToUpper(v2), nil }

func writeNumber(v2 string) (any, error) { return json.Number(v2), wepay.Digits(v2) }

func readNumber(in values, path string) (string, error) {
	v3 := in.number(path)
	if v3 != "" && wepay.Digits(v3) != nil {
		return "", errors.New("is no whole number")
	}
	return v3, nil
}

// readFee is readNumber of what a receiver acts on: anything but a number is refused,
// and not left out.
func readFee(in values, path string) (string, error) {
	fen, err := readNumber(in, path)
	if fen == "" && err == nil && in.get(path) != nil {
		err = errors.New("is no number")
	}
	return fen, err
}

func writeYes(v2 string) (any, error) { return v2 == "Y", nil }

func readYes(in values, path string) (string, error) {
	switch in.get(path) {
	case true:
		return "Y", nil
	case false:
		return "N", nil
	default:
		return "", nil
	}
}

func writeValue(v2 string) (any, error) {
	var v3 any
	if err := decode([]byte(v2), &v3); err != nil {
		return nil, errors.New("must be a JSON text")
	}
	return v3, checkJSON(v3)
}

func readValue(in values, path string) (string, error) {
	v3 := in.get(path)
	if v3 == nil {
		return "", nil
	}
	text, err := encode(v3)
	return string(text), err
}

// threeBytes rejects characters of four bytes of UTF-8, such as emoji, as API v3
// does.
func threeBytes(value string) error {
	for _, r := range value {
		if r > 0xFFFF {
			return fmt.Errorf("holds the character U+%04X, which WeChat Pay's API v3 refuses, as it does all emoji", r)
		}
	}
	return nil
}

// writeShown leaves out what threeBytes rejects. A caller used to API v2, which
// accepts emoji, loses an emoji and not the sale.
func writeShown(value string) (any, error) {
	refused := threeBytes(value)
	if refused == nil {
		return value, nil
	}
	left := strings.TrimSpace(strings.Map(func(r rune) rune {
		if r > 0xFFFF {
			return -1
		}
		return r
	}, value))
	if left == "" {
		return nil, refused
	}
	return left, nil
}

// writeDescription cuts what writeShown leaves after so many characters as an order's
// description may have.
func writeDescription(value string) (any, error) {
	shown, err := writeShown(value)
	if text, ok := shown.(string); ok {
		if all := []rune(text); len(all) > wepay.MaxBody {
			shown = string(all[:wepay.MaxBody])
		}
	}
	return shown, err
}

// checkJSON rejects what API v3 rejects in JSON: null, and what threeBytes does.
func checkJSON(value any) error {
	switch value := value.(type) {
	case nil:
		return errors.New("holds null, which WeChat Pay's API v3 refuses")
	case string:
		return threeBytes(value)
	case []any:
		for _, one := range value {
			if err := checkJSON(one); err != nil {
				return err
			}
		}
	case map[string]any:
		for _, one := range value {
			if err := checkJSON(one); err != nil {
				return err
			}
		}
	}
	return nil
}
