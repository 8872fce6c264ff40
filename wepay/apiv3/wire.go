package apiv3

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"time"

	"github.com/windsome/caddy-wepay/wepay"
	"github.com/windsome/caddy-wepay/wepay/internal/endpoints"
)

// DefaultTimeout bounds one attempt to get an answer from one endpoint.
const DefaultTimeout = 8 * time.Second

// maxReply bounds a reply of WeChat's, in bytes. Most are of a few hundred; a
// page of a batch's transfers has some ten thousand.
const maxReply = 1 << 20

// wire signs one merchant's requests and carries them to WeChat Pay. It
// believes nothing.
type wire struct {
	merchant  *wepay.Merchant
	transport http.RoundTripper
	timeout   time.Duration
	now       func() time.Time
	endpoints *endpoints.Endpoints
	omission  func(Omission)               // nil: nobody wants to know
	unusable  func(*wepay.Merchant, error) // nil: the same
	quoter    *wepay.Quoter
}

// Option changes how a client or a platform works.
type Option func(*wire)

// WithTransport has requests sent over these connections, instead of
// wepay.NewTransport's.
func WithTransport(transport http.RoundTripper) Option {
	return func(w *wire) { w.transport = transport }
}

// WithTimeout bounds one attempt to get an answer from one endpoint.
func WithTimeout(timeout time.Duration) Option {
	return func(w *wire) { w.timeout = timeout }
}

// WithClock gives the time, which tests may turn.
func WithClock(now func() time.Time) Option {
	return func(w *wire) { w.now = now }
}

// Omission is what a caller does not get of a reply, since what WeChat tells of it
// contradicts itself. The reply is to be believed otherwise.
type Omission struct {
	Merchant  *wepay.Merchant
	Operation wepay.Operation
	Number    string // the merchant's own, of the order or transfer
	Omitted   string // which fields of API v2, and why, for the log
}

// WithOmissions has each omission reported, by the goroutine that asked.
func WithOmissions(report func(Omission)) Option {
	return func(w *wire) { w.omission = report }
}

// WithUnusable has each certificate reported that WeChat lists and that cannot be
// used, with a merchant of the account, by the goroutine that fetches or loads
// them. The others are taken.
func WithUnusable(report func(merchant *wepay.Merchant, err error)) Option {
	return func(w *wire) { w.unusable = report }
}

func newWire(merchant *wepay.Merchant, options []Option) wire {
	w := wire{merchant: merchant, timeout: DefaultTimeout, now: time.Now, quoter: merchant.Quoter()}
	for _, option := range options {
		option(&w)
	}
	if w.transport == nil {
		w.transport = wepay.NewTransport(merchant)
	}
	w.endpoints = endpoints.New(w.transport, w.now, merchant.Endpoints...)
	return w
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
	open        func(error)   // told of attempts before that may have been taken; nil: nobody is
}

// send signs and sends a request, anew for each endpoint. Read gets the answer
// to close. Errors are those of endpoints.Send.
func (w *wire) send(ctx context.Context, r request, read func(*http.Response) error) error {
	timeout := r.timeout
	if timeout == 0 {
		timeout = w.timeout
	}
	err := w.endpoints.Send(ctx, endpoints.Request{
		Method: r.method, URI: r.uri, Body: r.body, Repeatable: r.repeatable, Timeout: timeout,
		Header: func(h http.Header) error { return w.header(r, h) }, Open: r.open,
	}, read)
	return w.quoter.QuoteError(err)
}

// header puts in what every request has to say.
// Source: WeChat Pay, 接口规则 (API v3).
func (w *wire) header(r request, h http.Header) error {
	signed := r.body
	if r.signed != nil {
		signed = r.signed
	}
	authorization, err := authorization(w.merchant, r.method, r.uri, string(signed), w.now())
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

// reply is what WeChat answered, whether it is to be believed or not.
type reply struct {
	status   int
	header   http.Header
	body     []byte
	unsigned bool // nothing vouches for it, which only a refusal may lack
}

// readReply takes any whole answer for a reply that succeeded or tells why not.
// What is neither comes from something between, and another endpoint may do
// better.
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

// ask sends a request and returns the reply, which nothing vouches for yet.
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

// succeeded says whether WeChat did what was asked, or has begun to.
func (r *reply) succeeded() bool { return r.status >= 200 && r.status < 300 }

// isBusy says whether another endpoint may do better at once.
func (r *reply) isBusy() bool {
	return r.status == http.StatusBadGateway || r.status == http.StatusServiceUnavailable
}

// refusal is why WeChat did not do what was asked.
type refusal struct {
	Code    string `json:"code"`
	Message string `json:"message"`
	Detail  struct {
		Field string `json:"field"`
		Issue string `json:"issue"`
	} `json:"detail"`
}

// refusal reads the reply as one that tells why not.
func (r *reply) refusal() (refusal, bool) {
	var told refusal
	if r.succeeded() || decode(r.body, &told) != nil || told.Code == "" {
		return told, false
	}
	return told, true
}
