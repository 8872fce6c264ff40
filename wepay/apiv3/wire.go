package apiv3

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"net/http"
	"time"

	"github.com/windsome/caddy-wepay/wepay"
	"github.com/windsome/caddy-wepay/wepay/internal/endpoints"
)

// maxReply bounds a reply, in bytes. Most have a few hundred; a page of a batch's
// transfers has some ten thousand.
const maxReply = 1 << 20

// wire signs a merchant's requests and sends them to WeChat Pay. It does not verify
// replies.
type wire struct {
	merchant  *wepay.Merchant
	options   wepay.ClientOptions
	endpoints *endpoints.Endpoints
	quoter    *wepay.Quoter
}

func newWire(merchant *wepay.Merchant, options wepay.ClientOptions) wire {
	options = options.WithDefaults(merchant)
	return wire{merchant, options, endpoints.New(options.Transport, options.Now, merchant.Endpoints...), merchant.Quoter()}
}

// request is one request before it is signed.
type request struct {
	method string
	uri    string // path and query, as they are sent and signed
	body   []byte // JSON; nil: none
	signed []byte // what the signature is over; nil: the body
	serial string // of the key of WeChat's that the merchant has; "": none yet

	contentType string        // of the body; "": JSON
	repeatable  bool          // the same request does no more than the first
	timeout     time.Duration // of one attempt; 0: the wire's
	open        func(error)   // called for attempts that may have been processed; or nil
}

// send signs and sends a request, again for each endpoint. Read closes the answer.
// Errors are those of endpoints.Send.
func (w *wire) send(ctx context.Context, r request, read func(*http.Response) error) error {
	err := w.endpoints.Send(ctx, endpoints.Request{
		Method: r.method, URI: r.uri, Body: r.body, Repeatable: r.repeatable, Timeout: cmp.Or(r.timeout, w.options.Timeout),
		Header: func(h http.Header) error { return w.header(r, h) }, Open: r.open,
	}, read)
	return w.quoter.QuoteError(err)
}

// header sets the headers of every request.
// Source: WeChat Pay, 接口规则 (API v3).
func (w *wire) header(r request, h http.Header) error {
	signed := r.body
	if r.signed != nil {
		signed = r.signed
	}
	authorization, err := authorization(w.merchant, r.method, r.uri, string(signed), w.options.Now())
	if err != nil {
		return err
	}
	h.Set("Authorization", authorization)
	h.Set("Accept", "application/json")
	h.Set("User-Agent", wepay.UserAgent(w.merchant))
	if r.body != nil {
		h.Set("Content-Type", "application/json")
		if r.contentType != "" {
			h.Set("Content-Type", r.contentType)
		}
	}
	if r.serial != "" {
		h.Set(headerSerial, r.serial)
	}
	return nil
}

// reply is an answer of WeChat's, verified or not.
type reply struct {
	status   int
	header   http.Header
	body     []byte
	unsigned bool // it is an unsigned refusal
}

// readReply accepts a complete answer that reports success or the reason of a
// refusal. Others come from something in between, and another endpoint may work.
func readReply(resp *http.Response) (*reply, error) {
	r, err := readWhole(resp)
	if err != nil {
		return nil, err
	}
	if _, known := r.refusal(); !known && !r.succeeded() {
		return nil, r.unreadable()
	}
	return r, nil
}

// readWhole reads an answer whatever it says.
func readWhole(resp *http.Response) (*reply, error) {
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxReply+1))
	switch {
	case err != nil:
		return nil, fmt.Errorf("reading the reply: %w", err)
	case len(body) > maxReply:
		return nil, fmt.Errorf("%w: a reply of more than %d bytes", wepay.ErrTooLarge, maxReply)
	default:
		return &reply{status: resp.StatusCode, header: resp.Header, body: body}, nil
	}
}

func (r *reply) unreadable() error {
	return fmt.Errorf("HTTP status %d%s", r.status, endpoints.PageTitle(r.body))
}

// ask sends a request and returns the unverified reply.
func (w *wire) ask(ctx context.Context, r request) (answer *reply, err error) {
	err = w.send(ctx, r, func(resp *http.Response) error {
		answer, err = readReply(resp)
		return err
	})
	if err != nil {
		return nil, err
	}
	return answer, nil
}

// succeeded reports whether WeChat processed the request, or has begun to.
func (r *reply) succeeded() bool { return r.status >= 200 && r.status < 300 }

// isBusy reports whether another endpoint may work at once.
func (r *reply) isBusy() bool {
	return r.status == http.StatusBadGateway || r.status == http.StatusServiceUnavailable
}
