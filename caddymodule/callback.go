package caddymodule

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"

	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"

	"github.com/windsome/caddy-wepay/wepay"
)

// callback is a merchant's order service.
type callback struct {
	url       string       // cbNotifyUrl
	refundURL string       // the one for refunds
	kinds     []wepay.Kind // what it can be told of
	secrets   []*standardwebhooks.Webhook
	transport http.RoundTripper
	timeout   time.Duration
}

// Reasons why a notification did not get into an order service's hands.
var (
	errNoCallback = errors.New("没有cbNotifyUrl: the merchant has no cb_notify_url")
	errNotTaken   = errors.New("not taken by the order service")
	errNotStored  = errors.New("not stored in the outbox")
)

// maxCallbackReply bounds what an order service may answer, in bytes.
const maxCallbackReply = 64 << 10

// notTaken says why an event did not get into an order service's hands. It is
// an errNotTaken.
type notTaken struct {
	status     int           // HTTP status; 0 without an answer
	errcode    bool          // the order service answered with an errcode
	retryAfter time.Duration // how long it asks to be left alone; 0: it does not
	err        error
}

func (e *notTaken) Error() string { return errNotTaken.Error() + ": " + e.err.Error() }

func (e *notTaken) Unwrap() []error { return []error{errNotTaken, e.err} }

// refused reports whether the order service is there but does not want the
// event: trying again hardly helps before somebody has looked.
func (e *notTaken) refused() bool {
	switch e.status {
	case http.StatusRequestTimeout, http.StatusTooEarly, http.StatusTooManyRequests:
		return false
	default:
		return e.errcode || e.status >= 400 && e.status < 500
	}
}

// gone reports whether the order service wants no such event any more.
func (e *notTaken) gone() bool { return e.status == http.StatusGone }

// urlOf returns where events of a kind go.
func (c *callback) urlOf(kind wepay.Kind) string {
	if kind == wepay.Refunded {
		return c.refundURL
	}
	return c.url
}

// deliver posts an event to the order service and returns nil when it was
// taken, else errNoCallback or a *notTaken.
func (c *callback) deliver(ctx context.Context, e *Event) error {
	url := c.urlOf(e.Kind)
	if url == "" {
		return errNoCallback
	}
	ctx, cancel := context.WithTimeout(ctx, c.timeout)
	defer cancel()
	req, err := c.request(ctx, url, e)
	if err != nil {
		return &notTaken{err: err}
	}
	resp, err := c.transport.RoundTrip(req)
	if err != nil {
		return &notTaken{err: err}
	}
	defer resp.Body.Close()
	reply, err := io.ReadAll(io.LimitReader(resp.Body, maxCallbackReply+1))
	if err != nil {
		return &notTaken{status: resp.StatusCode, err: fmt.Errorf("reading its reply: %w", err)}
	}
	if err := taken(resp.StatusCode, reply); err != nil {
		err.retryAfter = retryAfter(resp.Header.Get("Retry-After"), time.Now())
		return err
	}
	return nil
}

// retryAfter reads how long a server asks to be left alone, in seconds, however
// many, or as a date; 0 when it does not.
func retryAfter(value string, now time.Time) time.Duration {
	seconds, err := strconv.ParseUint(value, 10, 31)
	if err == nil || errors.Is(err, strconv.ErrRange) { // then it is the greatest that fits
		return time.Duration(seconds) * time.Second
	}
	if at, err := http.ParseTime(value); err == nil {
		return max(at.Sub(now), 0)
	}
	return 0
}

// request makes the request, signed by each secret. The order service knows a
// repeated event by its webhook-id.
// Source: Standard Webhooks, https://www.standardwebhooks.com
func (c *callback) request(ctx context.Context, url string, e *Event) (*http.Request, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, url, bytes.NewReader(e.Payload))
	if err != nil {
		return nil, err
	}
	if user := req.URL.User; user != nil {
		password, _ := user.Password()
		req.SetBasicAuth(user.Username(), password)
	}
	for name, values := range e.Trace {
		req.Header[name] = values
	}
	now := time.Now()
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("User-Agent", "caddy-wepay/"+wepay.Version)
	req.Header.Set(standardwebhooks.HeaderWebhookID, e.ID)
	req.Header.Set(standardwebhooks.HeaderWebhookTimestamp, strconv.FormatInt(now.Unix(), 10))
	// The order service is idempotent by webhook-id, so that net/http may repeat
	// what went out on a connection that was just being closed.
	req.Header["Idempotency-Key"] = []string{}
	var signatures []string
	for _, secret := range c.secrets {
		signature, err := secret.Sign(e.ID, now, e.Payload)
		if err != nil {
			return nil, fmt.Errorf("signing: %w", err)
		}
		signatures = append(signatures, signature)
	}
	if len(signatures) > 0 {
		req.Header.Set(standardwebhooks.HeaderWebhookSignature, strings.Join(signatures, " "))
	}
	return req, nil
}

// taken says why an order service's answer does not mean that it took the
// event: it does with 2xx and nothing, or a JSON object whose errcode is 0,
// null or not there.
func taken(status int, reply []byte) *notTaken {
	not := func(format string, args ...any) *notTaken {
		return &notTaken{status: status, err: fmt.Errorf(format, args...)}
	}
	if status < 200 || status > 299 {
		return not("HTTP status %d", status)
	}
	if len(reply) > maxCallbackReply {
		return not("a reply of more than %d bytes", maxCallbackReply)
	}
	reply = bytes.TrimSpace(reply)
	if len(reply) == 0 {
		return nil
	}
	var answer map[string]json.RawMessage
	if err := json.Unmarshal(reply, &answer); err != nil || answer == nil {
		return not("the reply is no JSON object")
	}
	raw, found := answer["errcode"]
	if !found || string(raw) == "null" {
		return nil
	}
	var errcode json.Number
	if err := json.Unmarshal(raw, &errcode); err != nil || raw[0] == '"' {
		return not("errcode is no number")
	}
	if number, err := errcode.Float64(); err != nil || number != 0 {
		refusal := not("errcode %.20s", errcode)
		refusal.errcode = true
		return refusal
	}
	return nil
}
