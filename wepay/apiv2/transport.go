package apiv2

import (
	"bytes"
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptrace"
	"regexp"
	"strings"
	"sync/atomic"
	"time"

	"github.com/windsome/caddy-wepay/wepay"
)

// maxReply bounds a reply of WeChat's. They are of a few hundred bytes, and of
// some ten thousand with many refunds in them.
const maxReply = 1 << 20

// errNotSent marks a failure before a byte of the request left this machine.
var errNotSent = errors.New("nothing was sent")

// NewTransport returns connections to WeChat Pay for one merchant, with its
// certificate. WeChat closes idle connections after about a minute.
func NewTransport(merchant *wepay.Merchant) *http.Transport {
	config := &tls.Config{MinVersion: tls.VersionTLS12}
	merchant.ConfigureTLS(config)
	return &http.Transport{
		Proxy:               http.ProxyFromEnvironment,
		DialContext:         (&net.Dialer{Timeout: 3 * time.Second, KeepAlive: 30 * time.Second}).DialContext,
		TLSClientConfig:     config,
		TLSHandshakeTimeout: 5 * time.Second,
		MaxIdleConnsPerHost: 32,
		IdleConnTimeout:     50 * time.Second,
	}
}

// send posts a request to the endpoints, one after the other, until one gives
// an answer that can be read. What has been sent and may not be repeated stays
// with the endpoint that may have taken it. Read gets the answer to close.
func (c *Client) send(ctx context.Context, call call, body []byte, read func(*http.Response) error) error {
	access := c.endpoints
	if call.risk {
		access = c.risk
	}
	var failures []error
	sent := false
	for _, endpoint := range access.inOrder(c.now()) {
		attemptSent, err := c.attempt(ctx, call, endpoint, body, read)
		if err == nil {
			access.works(endpoint)
			return nil
		}
		sent = sent || attemptSent
		failures = append(failures, err)
		if ctx.Err() != nil {
			break
		}
		access.fails(endpoint, c.now())
		if attemptSent && !call.repeatable {
			break
		}
	}
	err := fmt.Errorf("%w: %w", wepay.ErrNoAnswer, errors.Join(failures...))
	if !sent {
		err = fmt.Errorf("%w: %w", err, errNotSent)
	}
	return err
}

// attempt posts a request to one endpoint and says whether any of it was sent.
func (c *Client) attempt(ctx context.Context, call call, endpoint string, body []byte, read func(*http.Response) error) (sent bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, cmp.Or(call.timeout, c.timeout))
	var wrote atomic.Bool
	ctx = httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{WroteHeaders: func() { wrote.Store(true) }})

	req, err := http.NewRequestWithContext(ctx, http.MethodPost, strings.TrimRight(endpoint, "/")+c.path(call), bytes.NewReader(body))
	if err != nil {
		cancel()
		return false, err
	}
	req.Header.Set("Content-Type", "text/xml; charset=utf-8")
	req.Header.Set("User-Agent", c.userAgent)
	if call.repeatable {
		// Without a value the header is not sent; it lets net/http repeat the
		// request when WeChat closed the idle connection it went out on.
		req.Header["Idempotency-Key"] = []string{}
	}
	resp, err := c.transport.RoundTrip(req)
	if err != nil {
		cancel()
		return wrote.Load(), fmt.Errorf("%s: %w", req.URL.Host, err)
	}
	// A bill is read after this returns, so that its end ends the time-out.
	resp.Body = &endingBody{resp.Body, cancel}
	if err := read(resp); err != nil {
		// What came when the time was up says less than that it was up.
		return true, fmt.Errorf("%s: %w", req.URL.Host, errors.Join(context.Cause(ctx), err, resp.Body.Close()))
	}
	return true, nil
}

// endingBody ends the request's context when it is closed.
type endingBody struct {
	io.ReadCloser
	cancel context.CancelFunc
}

func (b *endingBody) Close() error {
	defer b.cancel()
	return b.ReadCloser.Close()
}

// readReply takes an HTTP answer for a reply of WeChat's only when it is 200
// and XML. WeChat's own errors are; what is not comes from something between.
func (c call) readReply(resp *http.Response) (wepay.Fields, error) {
	text, err := io.ReadAll(io.LimitReader(resp.Body, maxReply+1))
	switch {
	case err != nil:
		return nil, fmt.Errorf("reading the reply: %w", err)
	case resp.StatusCode != http.StatusOK:
		return nil, fmt.Errorf("HTTP status %d%s", resp.StatusCode, pageTitle(text))
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
		return nil, fmt.Errorf("reading the reply: %w%s", err, pageTitle(text))
	}
	return reply, nil
}

var title = regexp.MustCompile(`(?is)<title>\s*(.{1,200}?)\s*</title>`)

// pageTitle quotes the title of an HTML page, which says more than that it is
// no XML: "400 No required SSL certificate was sent".
func pageTitle(text []byte) string {
	match := title.FindSubmatch(text)
	if match == nil {
		return ""
	}
	return fmt.Sprintf(" (a page with the title %q)", match[1])
}

// path is where a call goes. The sandbox has a prefix and no secapi.
func (c *Client) path(call call) string {
	if c.merchant.Sandbox && call.path != sandboxKeyPath {
		return sandboxPrefix + strings.TrimPrefix(call.path, "/secapi")
	}
	return call.path
}
