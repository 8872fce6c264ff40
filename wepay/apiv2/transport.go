package apiv2

import (
	"bytes"
	"cmp"
	"context"
	"fmt"
	"io"
	"net/http"

	"github.com/windsome/caddy-wepay/wepay"
	"github.com/windsome/caddy-wepay/wepay/internal/endpoints"
)

// maxReply bounds a reply, in bytes. Replies have a few hundred, and some ten
// thousand with many refunds.
const maxReply = 1 << 20

// send posts a request to the endpoints of its call. Read closes the answer; open is
// called with the error of each attempt that may have been processed.
func (c *Client) send(ctx context.Context, call call, body []byte, open func(error), read func(*http.Response) error) error {
	access := c.endpoints
	if call.risk {
		access = c.risk
	}
	err := access.Send(ctx, endpoints.Request{
		Method: http.MethodPost, URI: c.path(call), Body: body,
		Repeatable: call.Repeatable, Timeout: cmp.Or(call.timeout, c.options.Timeout),
		Header: func(h http.Header) error {
			h.Set("Content-Type", "text/xml; charset=utf-8")
			h.Set("User-Agent", wepay.UserAgent(c.merchant))
			return nil
		},
		Open: open,
	}, read)
	return c.quoteError(err)
}

// quote repeats what WeChat, or whoever answers in its place, says.
func (c *Client) quote(text string) string {
	key, _ := c.sandbox.Peek(sandboxKeyAge)
	return c.quoter.Quote(text, key)
}

func (c *Client) quoteError(err error) error {
	key, _ := c.sandbox.Peek(sandboxKeyAge)
	return c.quoter.QuoteError(err, key)
}

// readReply accepts an HTTP answer only if it is 200 and XML, as WeChat's errors
// are, too. Other answers come from something in between.
func (c call) readReply(status int, body io.Reader) (wepay.Fields, error) {
	text, err := io.ReadAll(io.LimitReader(body, maxReply+1))
	switch {
	case err != nil:
		return nil, fmt.Errorf("reading the reply: %w", err)
	case status != http.StatusOK:
		return nil, fmt.Errorf("HTTP status %d%s", status, endpoints.PageTitle(text))
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

// path is where a call goes.
func (c *Client) path(call call) string {
	if c.merchant.Sandbox && call.path != sandboxKeyPath {
		return sandboxPrefix + call.path
	}
	return call.path
}
