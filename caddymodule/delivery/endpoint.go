package delivery

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"

	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"

	"github.com/windsome/caddy-wepay/caddymodule/store"
	"github.com/windsome/caddy-wepay/wepay"
)

// Endpoint is where a merchant's order service takes events.
type Endpoint struct {
	URL       string       // cb_notify_url
	RefundURL string       // the one for refunds
	EventURL  string       // cb_event_url
	Kinds     []wepay.Kind // of the events that it may get
	Secrets   []*standardwebhooks.Webhook
	Quoter    wepay.Quoter // repeats what the order service answers
	Transport http.RoundTripper
	Timeout   time.Duration
}

// Reasons why an event was not handed over.
var (
	// ErrNoURL says that the merchant has no URL for such events.
	ErrNoURL = errors.New("没有cbNotifyUrl: the merchant has no cb_notify_url")

	// ErrNoEventURL says that the merchant has no URL for a wepay.OtherEvent.
	ErrNoEventURL = errors.New("the merchant has no cb_event_url, which gets every event that has no other place")

	// ErrNotTaken says that the order service did not take the event.
	ErrNotTaken = errors.New("not taken by the order service")
)

const (
	// maxReply bounds what an order service may answer, in bytes.
	maxReply = 64 << 10
	// keptAnswer is how much of an answer is stored with the event, in bytes.
	keptAnswer = 200
)

// notTaken says why an order service did not take an event. It is an
// ErrNotTaken.
type notTaken struct {
	status     int           // HTTP status; 0 without an answer
	refusal    bool          // the order service answered that it does not want it
	answer     string        // the first of what it answered
	retryAfter time.Duration // how long it asks to be left alone; 0: it does not
	err        error
}

func (e *notTaken) Error() string { return ErrNotTaken.Error() + ": " + e.err.Error() }

func (e *notTaken) Unwrap() []error { return []error{ErrNotTaken, e.err} }

// refused reports whether the order service is there but does not want the
// event: trying again will not help before an operator has looked.
func (e *notTaken) refused() bool {
	switch e.status {
	case http.StatusRequestTimeout, http.StatusTooEarly, http.StatusTooManyRequests:
		return false
	default:
		return e.refusal || e.status >= 400 && e.status < 500
	}
}

// gone reports whether the order service wants no such event any more.
func (e *notTaken) gone() bool { return e.status == http.StatusGone }

// URLOf returns where events of a kind go; "": nowhere.
func (c *Endpoint) URLOf(kind wepay.Kind) string {
	switch kind {
	case wepay.OtherEvent:
		return c.EventURL
	case wepay.Refunded:
		return c.RefundURL
	default:
		return c.URL
	}
}

// Takes returns ErrNoURL or ErrNoEventURL if there is nowhere for a kind of event
// to go.
func (c *Endpoint) Takes(kind wepay.Kind) error {
	switch {
	case c.URLOf(kind) != "":
		return nil
	case kind == wepay.OtherEvent:
		return ErrNoEventURL
	default:
		return ErrNoURL
	}
}

// Deliver posts an event to the order service. It returns nil when it was taken,
// else the error of Takes or an ErrNotTaken.
func (c *Endpoint) Deliver(ctx context.Context, e *store.Event) error {
	if err := c.Takes(e.Kind); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, c.Timeout)
	defer cancel()
	req, err := c.request(ctx, c.URLOf(e.Kind), e)
	if err != nil {
		return &notTaken{err: err}
	}
	resp, err := c.Transport.RoundTrip(req)
	if err != nil {
		return &notTaken{err: err}
	}
	defer resp.Body.Close()
	reply, err := io.ReadAll(io.LimitReader(resp.Body, maxReply+1))
	if err != nil {
		return &notTaken{status: resp.StatusCode, err: fmt.Errorf("reading its reply: %w", err)}
	}
	if err := taken(resp.StatusCode, reply); err != nil {
		err.retryAfter = retryAfter(resp.Header.Get("Retry-After"), time.Now())
		err.answer = c.quote(reply)
		return err
	}
	return nil
}

// quote repeats the first of an answer, which may say again what it was sent, without
// the merchant's secrets.
func (c *Endpoint) quote(answer []byte) string {
	text := c.Quoter.Quote(string(answer))
	return strings.ToValidUTF8(text[:min(len(text), keptAnswer)], "")
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
func (c *Endpoint) request(ctx context.Context, url string, e *store.Event) (*http.Request, error) {
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
	req.Header.Set("wepay-merchant", headerText(e.Merchant))
	req.Header.Set("wepay-source", string(cmp.Or(e.Source, store.SourceNotify)))
	if e.EventType != "" {
		req.Header.Set("wepay-event", headerText(e.EventType))
	}
	req.Header.Set(standardwebhooks.HeaderWebhookTimestamp, strconv.FormatInt(now.Unix(), 10))
	// The order service is idempotent by webhook-id, so that net/http may repeat
	// what went out on a connection that was just being closed.
	req.Header["Idempotency-Key"] = []string{}
	var signatures []string
	for _, secret := range c.Secrets {
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

// headerText is a text as a header takes it: what is not visible ASCII, and %, is
// percent-encoded.
func headerText(text string) string {
	var b strings.Builder
	for _, c := range []byte(text) {
		if c <= ' ' || c > '~' || c == '%' {
			fmt.Fprintf(&b, "%%%02X", c)
		} else {
			b.WriteByte(c)
		}
	}
	return b.String()
}
