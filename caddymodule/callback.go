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
	url       string // cbNotifyUrl
	refundURL string // the one for refunds
	secrets   []*standardwebhooks.Webhook
	transport http.RoundTripper
	timeout   time.Duration
}

// Reasons why a notification did not get into an order service's hands.
var (
	errNoCallback = errors.New("没有cbNotifyUrl: the merchant has no cb_notify_url")
	errNotTaken   = errors.New("not taken by the order service")
)

// maxCallbackReply bounds what an order service may answer, in bytes.
const maxCallbackReply = 64 << 10

// deliver posts a notification to the order service as one flat JSON object of
// text under WeChat's own names, and returns nil when it was taken. Header is
// the notification's own, of which the trace is passed on.
func (c *callback) deliver(ctx context.Context, n *wepay.Notification, header http.Header) error {
	url := c.url
	if n.Kind == wepay.Refunded {
		url = c.refundURL
	}
	if url == "" {
		return errNoCallback
	}
	ctx, cancel := context.WithTimeout(ctx, c.timeout)
	defer cancel()
	req, err := c.request(ctx, url, n)
	if err != nil {
		return fmt.Errorf("%w: %w", errNotTaken, err)
	}
	for _, name := range []string{"Traceparent", "Tracestate"} {
		if values := header[name]; len(values) > 0 {
			req.Header[name] = values
		}
	}
	resp, err := c.transport.RoundTrip(req)
	if err != nil {
		return fmt.Errorf("%w: %w", errNotTaken, err)
	}
	defer resp.Body.Close()
	reply, err := io.ReadAll(io.LimitReader(resp.Body, maxCallbackReply+1))
	if err != nil {
		return fmt.Errorf("%w: reading its reply: %w", errNotTaken, err)
	}
	return taken(resp.StatusCode, reply)
}

// request makes the request, signed by each secret. The order service knows a
// repeated event by its webhook-id.
// Source: Standard Webhooks, https://www.standardwebhooks.com
func (c *callback) request(ctx context.Context, url string, n *wepay.Notification) (*http.Request, error) {
	body, err := n.Fields.MarshalJSON()
	if err != nil {
		return nil, err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, url, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	if user := req.URL.User; user != nil {
		password, _ := user.Password()
		req.SetBasicAuth(user.Username(), password)
	}
	id, now := n.EventID(), time.Now()
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("User-Agent", "caddy-wepay/"+wepay.Version)
	req.Header.Set(standardwebhooks.HeaderWebhookID, id)
	req.Header.Set(standardwebhooks.HeaderWebhookTimestamp, strconv.FormatInt(now.Unix(), 10))
	// The order service is idempotent by webhook-id, so that net/http may repeat
	// what went out on a connection that was just being closed.
	req.Header["Idempotency-Key"] = []string{}
	var signatures []string
	for _, secret := range c.secrets {
		signature, err := secret.Sign(id, now, body)
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
// notification: it does with 2xx and nothing, or a JSON object whose errcode
// is 0, null or not there.
func taken(status int, reply []byte) error {
	if status < 200 || status > 299 {
		return fmt.Errorf("%w: HTTP status %d", errNotTaken, status)
	}
	if len(reply) > maxCallbackReply {
		return fmt.Errorf("%w: a reply of more than %d bytes", errNotTaken, maxCallbackReply)
	}
	reply = bytes.TrimSpace(reply)
	if len(reply) == 0 {
		return nil
	}
	var answer map[string]json.RawMessage
	if err := json.Unmarshal(reply, &answer); err != nil || answer == nil {
		return fmt.Errorf("%w: the reply is no JSON object", errNotTaken)
	}
	raw, found := answer["errcode"]
	if !found || string(raw) == "null" {
		return nil
	}
	var errcode json.Number
	if err := json.Unmarshal(raw, &errcode); err != nil || raw[0] == '"' {
		return fmt.Errorf("%w: errcode is no number", errNotTaken)
	}
	if number, err := errcode.Float64(); err != nil || number != 0 {
		return fmt.Errorf("%w: errcode %s", errNotTaken, errcode)
	}
	return nil
}
