package apiv3

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/windsome/caddy-wepay/wepay"
)

// name is a field under the names of both APIs: v2's, and the path of v3's
// member.
type name struct {
	v2, v3 string
	form   form
}

// form is how a value is written in API v3.
type form int

const (
	text   form = iota
	shown       // text that people see, and that comes back to nobody
	number      // a whole number, digits in API v2
	yes         // true or false, Y or N in API v2
	moment      // RFC 3339, yyyyMMddHHmmss in API v2
	second      // RFC 3339, yyyy-MM-dd HH:mm:ss in API v2
	value       // JSON, a text of JSON in API v2
	list        // an array of one text, that text in API v2
)

// beijing is the zone of all times in API v2.
var beijing = time.FixedZone("", 8*60*60)

// layouts are API v2's of the times.
var layouts = map[form]string{moment: "20060102150405", second: "2006-01-02 15:04:05"}

// write puts what a caller gave into a request. What is empty counts as not
// given.
func write(names []name, in wepay.Fields, out object) error {
	for _, n := range names {
		given := in.Get(n.v2)
		if given == "" {
			continue
		}
		v3, err := n.form.write(given)
		if err != nil {
			return &wepay.FieldError{Field: n.v2, Reason: err.Error()}
		}
		out.put(n.v3, v3)
	}
	return nil
}

func (f form) write(v2 string) (any, error) {
	switch f {
	case shown:
		return threeByteText(v2)
	case number:
		return json.Number(v2), wepay.Digits(v2)
	case yes:
		return v2 == "Y", nil
	case moment, second:
		at, err := time.ParseInLocation(layouts[f], v2, beijing)
		if err != nil {
			return nil, fmt.Errorf("must be a time as %s", layouts[f])
		}
		return at.Format(time.RFC3339), nil
	case value:
		var v3 any
		if err := decode([]byte(v2), &v3); err != nil {
			return nil, fmt.Errorf("must be a JSON text")
		}
		return v3, checkJSON(v3)
	case list:
		return []string{v2}, nil
	default:
		if err := threeBytes(v2); err != nil {
			return nil, err
		}
		return v2, nil
	}
}

// threeBytes refuses what API v3 refuses: characters of four bytes of UTF-8,
// such as emoji.
func threeBytes(value string) error {
	for _, r := range value {
		if r > 0xFFFF {
			return fmt.Errorf("holds the character U+%04X, which WeChat Pay's API v3 refuses, as it does all emoji", r)
		}
	}
	return nil
}

// threeByteText leaves out what threeBytes refuses. A caller who was used to
// API v2, which takes emoji, loses a picture and not the sale.
func threeByteText(value string) (string, error) {
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
		return "", refused
	}
	return left, nil
}

// checkJSON refuses what API v3 refuses in JSON: null, and what threeBytes does.
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

// read puts what a reply or a resource has into fields. What is not there, or
// is empty, is left out.
func read(names []name, in values, out *wepay.Fields) error {
	for _, n := range names {
		v2, err := n.form.read(in, n.v3)
		if err != nil {
			return fmt.Errorf("%w: %s %w", wepay.ErrMalformed, n.v3, err)
		}
		if v2 != "" {
			out.Set(n.v2, v2)
		}
	}
	return nil
}

func (f form) read(in values, path string) (string, error) {
	switch f {
	case number:
		v3 := in.number(path)
		if v3 != "" && wepay.Digits(v3) != nil {
			return "", fmt.Errorf("is no whole number")
		}
		return v3, nil
	case yes:
		switch in.get(path) {
		case true:
			return "Y", nil
		case false:
			return "N", nil
		default:
			return "", nil
		}
	case moment, second:
		v3 := in.text(path)
		if v3 == "" {
			return "", nil
		}
		at, err := time.Parse(time.RFC3339, v3)
		if err != nil {
			return "", fmt.Errorf("is no time as RFC 3339 has them")
		}
		return at.In(beijing).Format(layouts[f]), nil
	case value:
		v3 := in.get(path)
		if v3 == nil {
			return "", nil
		}
		text, err := encode(v3)
		return string(text), err
	default:
		return in.text(path), nil
	}
}
