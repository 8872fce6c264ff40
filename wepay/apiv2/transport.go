package apiv2

import (
	"bytes"
	"cmp"
	"context"
	"fmt"
	"io"
	"net/http"
	"strings"

	"github.com/windsome/caddy-wepay/wepay"
	"github.com/windsome/caddy-wepay/wepay/internal/endpoints"
)

// maxReply bounds a reply of WeChat's. They are of a few hundred bytes, and of
// some ten thousand with many refunds in them.
const maxReply = 1 << 20

// send posts a request to the access points of its call. Read gets the answer
// to close; open is told of attempts before that may have been taken.
func (c *Client) send(ctx context.Context, call call, body []byte, open func(error), read func(*http.Response) error) error {
	access := c.endpoints
	if call.risk {
		access = c.risk
	}
	err := access.Send(ctx, endpoints.Request{
		Method: http.MethodPost, URI: c.path(call), Body: body,
		Repeatable: call.repeatable, Timeout: cmp.Or(call.timeout, c.timeout),
		Header: func(h http.Header) error {
			h.Set("Content-Type", "text/xml; charset=utf-8")
			h.Set("User-Agent", c.userAgent)
			return nil
		},
		Open: open,
	}, read)
	return c.quoteError(err)
}

// quote repeats what WeChat, or whoever answers in its place, says.
func (c *Client) quote(text string) string {
	key, _ := c.sandbox.cached(c.now())
	return c.quoter.Quote(text, key)
}

func (c *Client) quoteError(err error) error {
	key, _ := c.sandbox.cached(c.now())
	return c.quoter.QuoteError(err, key)
}

// readReply takes an HTTP answer for a reply of WeChat's only when it is 200
// and XML. WeChat's own errors are; what is not comes from something between.
func (c call) readReply(resp *http.Response) (wepay.Fields, error) {
	text, err := io.ReadAll(io.LimitReader(resp.Body, maxReply+1))
	switch {
	case err != nil:
		return nil, fmt.Errorf("reading the reply: %w", err)
	case resp.StatusCode != http.StatusOK:
		return nil, fmt.Errorf("HTTP status %d%s", resp.StatusCode, endpoints.PageTitle(text))
	case len(text) > maxReply:
		return nil, fmt.Errorf("%w: a reply of more than %d bytes", wepay.ErrTooLarge, maxReply)
	case len(bytes.TrimSpace(text)) == 0:
		return nil, fmt.Errorf("%w: an empty reply", wepay.ErrMalformed)
	}
	decode := Decode
	if c.nested {
		decode = decodeNested
	}
	reply, err := decode("xml", text)
	if err != nil {
		return nil, fmt.Errorf("reading the reply: %w%s", err, endpoints.PageTitle(text))
	}
	return reply, nil
}

// path is where a call goes. The sandbox has a prefix and no secapi.
func (c *Client) path(call call) string {
	if c.merchant.Sandbox && call.path != sandboxKeyPath {
		return sandboxPrefix + strings.TrimPrefix(call.path, "/secapi")
	}
	return call.path
}
