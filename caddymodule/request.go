package caddymodule

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"

	"github.com/windsome/caddy-wepay/wepay"
)

const (
	// maxBody bounds what anybody sends us, in bytes.
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
	selector wepay.Selector
	values   map[string]string
}

// readRequest reads a JSON object whose values are text or whole numbers. No
// body is an empty object.
func readRequest(w http.ResponseWriter, r *http.Request) (*request, error) {
	body, err := readAsked(w, r, maxBody)
	if err != nil {
		return nil, err
	}
	values, err := parseValues(body)
	if err != nil {
		return nil, err
	}
	req := &request{values: values}
	req.selector = wepay.Selector{
		Name: req.take("merchant"), MchID: req.take("mchId"), AppID: req.take("appId"), Env: wepay.Env(req.take("env")),
	}
	return req, nil
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
// there twice is seen: which of the two counts is not for us to guess.
func parseValues(body []byte) (map[string]string, error) {
	values := make(map[string]string)
	if len(bytes.TrimSpace(body)) == 0 {
		return values, nil
	}
	malformed := &wepay.FieldError{Field: "body", Reason: "must be one JSON object"}
	dec := json.NewDecoder(bytes.NewReader(body))
	if token, err := dec.Token(); err != nil || token != json.Delim('{') {
		return nil, malformed
	}
	for dec.More() {
		var raw json.RawMessage
		token, err := dec.Token()
		name, ok := token.(string)
		if err != nil || !ok || dec.Decode(&raw) != nil {
			return nil, malformed
		}
		if _, twice := values[name]; twice {
			return nil, &wepay.FieldError{Field: name, Reason: "stands there twice"}
		}
		if values[name], err = parseValue(name, raw); err != nil {
			return nil, &wepay.FieldError{Field: name, Reason: err.Error()}
		}
	}
	if _, err := dec.Token(); err != nil {
		return nil, malformed
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return nil, malformed
	}
	return values, nil
}

// parseValue makes text of a value: numbers as they are written, objects and
// arrays as JSON, for the fields of WeChat's that hold it. Null is not given,
// and true and false are for what is not WeChat's.
func parseValue(name string, raw json.RawMessage) (string, error) {
	switch raw[0] {
	case '"':
		var text string
		err := json.Unmarshal(raw, &text)
		return text, err
	case '{', '[':
		var compact bytes.Buffer
		err := json.Compact(&compact, raw)
		return compact.String(), err
	case 'n':
		return "", nil
	case 't', 'f':
		if name == "native" {
			return string(raw), nil
		}
		return "", errors.New("must be text or a number")
	default:
		return string(raw), nil
	}
}
