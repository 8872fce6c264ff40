package caddymodule

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/windsome/caddy-wepay/wepay"
)

const (
	// maxBody bounds a request's body, in bytes.
	maxBody = 64 << 10
	// bodyTimeout bounds how long it may take to come, since WeChat has given
	// up by then. What may be larger than WeChat's may take longer, as long as it
	// comes at bodyRate, in bytes a second.
	bodyTimeout = 5 * time.Second
	bodyRate    = 128 << 10
)

// readBody reads a whole body of at most so many bytes, within its time. Errors
// wrap wepay.ErrTooLarge or wepay.ErrMalformed, or are the body's own
// wepay.ErrBusy.
func readBody(w http.ResponseWriter, r *http.Request, limit int64) ([]byte, error) {
	// Where the connection cannot have a deadline (HTTP/3) the server's own
	// time-outs stand.
	controller := http.NewResponseController(w)
	patience := max(bodyTimeout, time.Duration(limit/bodyRate)*time.Second)
	bounded := controller.SetReadDeadline(time.Now().Add(patience)) == nil
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, limit))
	if err == nil && bounded { // else it goes for what net/http reads of the rest
		_ = controller.SetReadDeadline(time.Time{})
	}
	var tooLarge *http.MaxBytesError
	switch {
	case errors.Is(err, wepay.ErrBusy):
		return nil, err
	case errors.As(err, &tooLarge):
		return nil, fmt.Errorf("%w: a body of more than %d bytes", wepay.ErrTooLarge, limit)
	case err != nil:
		return nil, fmt.Errorf("%w: reading the body: %w", wepay.ErrMalformed, err)
	default:
		return body, nil
	}
}

// request is what a caller asks for: of which merchant, and with what.
type request struct {
	selector   wepay.Selector
	values     map[string]string
	structured []string // the names of those that are objects or arrays
}

// jsonFields are the fields of WeChat's that hold JSON. In the place of others an object
// is a mistake of the caller's, of which WeChat would make text.
var jsonFields = []string{
	"detail", "receiver", "receivers", "scene_info", "sub_orders", "transfer_detail_list", "transfer_scene_report_infos",
}

// checkStructured refuses an object or an array in the place of text.
func (req *request) checkStructured() error {
	for _, name := range req.structured {
		if !slices.Contains(jsonFields, name) {
			return &wepay.FieldError{Field: name, Reason: "must be text or a number, and not an object or an array"}
		}
	}
	return nil
}

// readRequest reads a JSON object whose values are text or whole numbers. No
// body is an empty object.
func readRequest(w http.ResponseWriter, r *http.Request) (*request, error) {
	body, err := readAsked(w, r, maxBody)
	if err != nil {
		return nil, err
	}
	if err := checkCharset(r.Header.Get("Content-Type"), body); err != nil {
		return nil, err
	}
	if looksLikeNotification(body) {
		return nil, errMisdirected
	}
	values, structured, err := parseValues(body)
	if err != nil {
		return nil, err
	}
	req := &request{values: values, structured: structured}
	req.selector = wepay.Selector{
		Name: req.take("merchant"), MchID: req.take("mchId"), AppID: req.take("appId"), Env: wepay.Env(req.take("env")),
	}
	return req, nil
}

// selectorNames are what a request says which merchant it means by.
var selectorNames = []string{"merchant", "mchId", "appId", "env"}

// passedNames are WeChat's own, which a call that is passed on may have.
var passedNames = []string{"appid", "mchid"}

// checkSpelling refuses a name that differs from a known one by case or blanks alone:
// it would be left out, and something else asked for than was meant.
func checkSpelling(name string, known ...string) error {
	if slices.Contains(known, name) {
		return nil
	}
	plain := strings.Join(strings.Fields(name), "")
	for _, right := range known {
		if strings.EqualFold(plain, right) {
			return &wepay.FieldError{Field: name, Reason: "is written " + right}
		}
	}
	return nil
}

// readAsked is readBody of a request for an operation.
func readAsked(w http.ResponseWriter, r *http.Request, limit int64) ([]byte, error) {
	body, err := readBody(w, r, limit)
	switch {
	case errors.Is(err, wepay.ErrTooLarge):
		return nil, statusError{http.StatusRequestEntityTooLarge, codeParameter, err}
	case err != nil:
		return nil, statusError{http.StatusOK, codeParameter, err}
	default:
		return body, nil
	}
}

// take returns a value that is not for WeChat, and takes it out.
func (req *request) take(name string) string {
	value := req.values[name]
	delete(req.values, name)
	return value
}

// parseValues reads the object member by member, so that a name that stands
// there twice is seen: which of the two counts is not for us to guess. It also returns
// the names of those that are objects or arrays.
func parseValues(body []byte) (values map[string]string, structured []string, err error) {
	values = make(map[string]string)
	if len(bytes.Trim(body, " \t\r\n")) == 0 {
		return values, nil, nil
	}
	dec := newMemberReader(body)
	if dec.PeekKind() != '{' {
		return nil, nil, errNoObject
	}
	err = eachMember(dec, func(name string, value jsontext.Value) (err error) {
		if _, twice := values[name]; twice {
			return &wepay.FieldError{Field: name, Reason: "stands there twice"}
		}
		if values[name], err = parseValue(name, value); err != nil {
			return &wepay.FieldError{Field: name, Reason: err.Error()}
		}
		if kind := value.Kind(); kind == '{' || kind == '[' {
			structured = append(structured, name)
		}
		return nil
	})
	var field *wepay.FieldError
	switch {
	case errors.As(err, &field):
		return nil, nil, field
	case errors.Is(err, errMemberName):
		return nil, nil, &wepay.FieldError{Field: "request", Reason: err.Error()}
	case err != nil || !isAtEnd(dec):
		return nil, nil, errNoObject
	default:
		return values, structured, nil
	}
}

// errNoObject names no field, as body is one of an order's.
var errNoObject = &wepay.FieldError{Field: "request", Reason: "must be one JSON object"}

// parseValue makes text of a value: numbers as they are written, objects and
// arrays as JSON, for the fields of WeChat's that hold it. Null is not given,
// and true and false are for what is not WeChat's.
func parseValue(name string, value jsontext.Value) (string, error) {
	if err := checkMember(value); err != nil {
		return "", err
	}
	switch value.Kind() {
	case '"':
		text, err := jsontext.AppendUnquote(nil, value)
		return string(text), err
	case '{', '[':
		compact := value.Clone()
		err := compact.Compact()
		return string(compact), err
	case 'n':
		return "", nil
	case 't', 'f':
		if name == "native" || name == "fresh" {
			return string(value), nil
		}
		return "", errors.New("must be text or a number")
	default:
		return string(value), nil
	}
}

// checkCharset refuses a body that its sender calls anything but UTF-8: GBK may
// happen to be valid UTF-8, of other characters. Of ASCII they all make the same.
func checkCharset(contentType string, body []byte) error {
	_, parameters, err := mime.ParseMediaType(contentType)
	charset := strings.ToLower(parameters["charset"])
	if err != nil || slices.Contains([]string{"", "utf-8", "utf8"}, charset) {
		return nil
	}
	if !slices.ContainsFunc(body, func(c byte) bool { return c >= utf8.RuneSelf }) {
		return nil
	}
	return &wepay.FieldError{Field: "Content-Type", Reason: "says that the body is in another charset than UTF-8, which it must be in"}
}
