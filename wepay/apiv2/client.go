package apiv2

import (
	"context"
	"crypto/rsa"
	"fmt"
	"net/http"
	"slices"
	"time"

	"github.com/windsome/caddy-wepay/wepay"
	"github.com/windsome/caddy-wepay/wepay/internal/endpoints"
)

// DefaultTimeout bounds one attempt to get an answer from one endpoint. It is
// the read time-out of WeChat's own SDK; answers usually take 30 to 300 ms.
const DefaultTimeout = 8 * time.Second

// Client is one merchant's way to WeChat Pay over API v2. It keeps connections
// of its own alive, since the certificate belongs to the connection. It may be
// used by many goroutines.
type Client struct {
	merchant  *wepay.Merchant
	transport http.RoundTripper
	timeout   time.Duration
	now       func() time.Time
	pause     func(context.Context, time.Duration) error
	userAgent string
	riskURL   string
	endpoints *endpoints.Endpoints
	risk      *endpoints.Endpoints
	sandbox   kept[string]
	bank      kept[*rsa.PublicKey]
	quoter    *wepay.Quoter
}

// Option changes how a client works.
type Option func(*Client)

// WithTransport gives the client its connections, instead of wepay.NewTransport's. It
// must be for this merchant alone and present its certificate.
func WithTransport(transport http.RoundTripper) Option {
	return func(c *Client) { c.transport = transport }
}

// WithTimeout bounds one attempt to get an answer from one endpoint.
func WithTimeout(timeout time.Duration) Option {
	return func(c *Client) { c.timeout = timeout }
}

// WithClock gives the client the time, which tests may turn.
func WithClock(now func() time.Time) Option {
	return func(c *Client) { c.now = now }
}

// WithPause gives the client another way to wait between two calls, which tests
// may shorten. It returns the context's error when that ends first.
func WithPause(pause func(context.Context, time.Duration) error) Option {
	return func(c *Client) { c.pause = pause }
}

// DefaultRiskEndpoint is the server that gives the public key of bank payouts.
const DefaultRiskEndpoint = "https://fraud.mch.weixin.qq.com"

// WithRiskEndpoint has the public key of bank payouts fetched from elsewhere
// than DefaultRiskEndpoint.
func WithRiskEndpoint(url string) Option {
	return func(c *Client) { c.riskURL = url }
}

// NewClient returns the client of a merchant that Validate accepts.
func NewClient(merchant *wepay.Merchant, options ...Option) *Client {
	c := &Client{
		merchant:  merchant,
		timeout:   DefaultTimeout,
		now:       time.Now,
		pause:     pause,
		userAgent: wepay.UserAgent(merchant),
		riskURL:   DefaultRiskEndpoint,
		sandbox:   kept[string]{lives: sandboxKeyAge},
		bank:      kept[*rsa.PublicKey]{lives: bankKeyAge},
		quoter:    merchant.Quoter(),
	}
	for _, option := range options {
		option(c)
	}
	if c.transport == nil {
		c.transport = wepay.NewTransport(merchant)
	}
	c.endpoints = endpoints.New(c.transport, c.now, merchant.Endpoints...)
	c.risk = endpoints.New(c.transport, c.now, c.riskURL)
	return c
}

// pause waits, unless the context ends first.
func pause(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Has says whether there is an operation over API v2.
func Has(op wepay.Operation) bool {
	_, found := calls[op]
	return found
}

// Merchant returns whose client this is.
func (c *Client) Merchant() *wepay.Merchant { return c.merchant }

// Do asks WeChat Pay for one operation; see wepay.Gateway.
func (c *Client) Do(ctx context.Context, op wepay.Operation, in wepay.Fields) (wepay.Fields, error) {
	call, found := calls[op]
	if !found || call.bill {
		return nil, fmt.Errorf("%w: %s over API v2", wepay.ErrNoOperation, op)
	}
	if call.flow == nil {
		return c.once(ctx, op, in)
	}
	// A flow may send nothing at all, so that its input is checked here.
	_, own, err := call.actFor(c.merchant, in)
	if err != nil {
		return nil, err
	}
	if err := call.checkInput(own); err != nil {
		return nil, err
	}
	return call.flow(ctx, c, op, in)
}

// once does an operation with one request.
func (c *Client) once(ctx context.Context, op wepay.Operation, in wepay.Fields) (wepay.Fields, error) {
	call := calls[op]
	request, s, err := c.prepare(ctx, op, call, in)
	if err != nil {
		return nil, err
	}
	reply, err := c.ask(ctx, op, call, s, request)
	if err != nil {
		return nil, err
	}
	if call.result != nil {
		return call.result(c, s, request, reply), nil
	}
	return reply, nil
}

// prepare checks what a caller gives, adds what the merchant knows, and says
// how the request is signed.
func (c *Client) prepare(ctx context.Context, op wepay.Operation, call call, in wepay.Fields) (wepay.Fields, signing, error) {
	merchant, request, err := call.actFor(c.merchant, in)
	if err != nil {
		return nil, signing{}, err
	}
	if err := call.checkInput(request); err != nil {
		return nil, signing{}, err
	}
	if err := call.checkMerchant(merchant); err != nil {
		return nil, signing{}, err
	}
	if call.complete != nil {
		if request, err = call.complete(ctx, c, merchant, request); err != nil {
			return nil, signing{}, err
		}
	}
	for _, field := range call.identity.fields(merchant) {
		request.Set(field.Name, field.Value)
	}
	s, err := c.signing(ctx, op, call)
	return request, s, err
}

// actFor is Merchant.ActFor for calls that can say whom they are for. Others
// keep what the caller gives, and their rules refuse it: who names a
// sub-merchant is not to pay from the partner's own account.
func (c call) actFor(m *wepay.Merchant, in wepay.Fields) (*wepay.Merchant, wepay.Fields, error) {
	if c.identity.subMchID == "" {
		return m, in.Clone(), nil
	}
	if _, found := in.Lookup("sub_appid"); found && c.identity.subAppID == "" {
		return nil, nil, &wepay.FieldError{Field: "sub_appid", Reason: "WeChat Pay knows no such field here"}
	}
	return m.ActFor(in, c.namesSubMerchant(m))
}

// namesSubMerchant says whether a partner's request has to say whom it is for.
// The bill of a partner that may act for anybody is of all together without.
func (c call) namesSubMerchant(m *wepay.Merchant) bool {
	return c.identity.subMchID != "" && (!c.bill || !slices.Contains(m.SubMchIDs, wepay.AnySubMerchant))
}

// checkInput says what is wrong with the fields that a caller gives.
func (c call) checkInput(in wepay.Fields) error {
	if err := c.rules.Check(in); err != nil {
		return err
	}
	if c.check != nil {
		return c.check(in)
	}
	return nil
}

// checkMerchant says what a merchant lacks for a call. The sandbox wants no
// certificate.
func (c call) checkMerchant(m *wepay.Merchant) error {
	if c.payout && !m.Payouts {
		return m.NotAble("payouts")
	}
	if c.certificate && !m.Sandbox {
		return m.RequireCertificate()
	}
	return nil
}

// Interface guard
var _ wepay.Gateway = (*Client)(nil)
