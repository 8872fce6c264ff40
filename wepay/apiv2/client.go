package apiv2

import (
	"cmp"
	"context"
	"crypto/rsa"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/windsome/caddy-wepay/wepay"
	"github.com/windsome/caddy-wepay/wepay/internal/endpoints"
	"github.com/windsome/caddy-wepay/wepay/internal/flight"
)

// Client is a merchant's client of API v2. It has its own connections, since the
// certificate belongs to the connection. It may be used by many goroutines.
type Client struct {
	merchant  *wepay.Merchant
	options   wepay.ClientOptions
	endpoints *endpoints.Endpoints
	risk      *endpoints.Endpoints
	sandbox   *flight.Flight[string]
	bank      *flight.Flight[*rsa.PublicKey]
	refunds   confirmations
	quoter    *wepay.Quoter
}

// DefaultRiskEndpoint is the server that gives the public key of bank payouts.
const DefaultRiskEndpoint = "https://fraud.mch.weixin.qq.com"

// NewClient returns the client of a merchant that Validate accepts.
func NewClient(merchant *wepay.Merchant, options wepay.ClientOptions) *Client {
	options = options.WithDefaults(merchant)
	if options.Pause == nil {
		options.Pause = pause
	}
	c := &Client{
		merchant: merchant, options: options,
		endpoints: endpoints.New(options.Transport, options.Now, merchant.Endpoints...),
		risk:      endpoints.New(options.Transport, options.Now, cmp.Or(options.RiskEndpoint, DefaultRiskEndpoint)),
		refunds:   confirmations{places: make(chan struct{}, maxConfirmations)},
		quoter:    merchant.Quoter(),
	}
	c.sandbox = flight.New("the sandbox's key", options.Now, c.fetchSandboxKey)
	c.bank = flight.New("the bank's public key", options.Now, c.fetchBankKey)
	return c
}

// pause waits, or returns the context's error if that ends first.
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

// Has reports whether API v2 has an operation.
func Has(op wepay.Operation) bool {
	call, found := calls[op]
	return found && !call.inner
}

// Operations returns those that a client can do.
func Operations() []wepay.Operation {
	return slices.DeleteFunc(slices.Collect(maps.Keys(calls)), func(op wepay.Operation) bool { return calls[op].inner })
}

// Merchant returns the client's merchant.
func (c *Client) Merchant() *wepay.Merchant { return c.merchant }

// Do implements wepay.Gateway.
func (c *Client) Do(ctx context.Context, op wepay.Operation, in wepay.Fields) (wepay.Fields, error) {
	call := calls[op]
	if !Has(op) || call.Bill {
		return nil, fmt.Errorf("%w: %s over API v2", wepay.ErrNoOperation, op)
	}
	if call.flow == nil {
		return c.once(ctx, op, in)
	}
	// A flow may send nothing at all, so its input is checked here.
	_, own, err := call.actFor(c.merchant, in)
	if err != nil {
		return nil, err
	}
	if err := call.CheckInput(own); err != nil {
		return nil, err
	}
	return call.flow(ctx, c, op, in)
}

// once does an operation with one request.
func (c *Client) once(ctx context.Context, op wepay.Operation, in wepay.Fields) (wepay.Fields, error) {
	return c.call(ctx, op, calls[op], in)
}

// call does an operation with one request, as a row says.
func (c *Client) call(ctx context.Context, op wepay.Operation, call call, in wepay.Fields) (wepay.Fields, error) {
	p, err := c.prepare(ctx, op, call, in)
	if err != nil {
		return nil, err
	}
	if err := call.Announce(ctx, c.options.Sending, p.merchant, op, p.announced); err != nil {
		return nil, err
	}
	reply, err := c.ask(ctx, op, call, p)
	if err != nil {
		return nil, err
	}
	if call.result != nil {
		return call.result(c, p.signing, p.request, reply), nil
	}
	return reply, nil
}

// prepared is a request that is ready to be sent.
type prepared struct {
	merchant *wepay.Merchant // as it acts for a sub-merchant
	request  wepay.Fields    // the caller's fields and the merchant's
	signing
	body []byte
}

// announced returns the request with the ids under the names that most calls have
// for them.
func (p *prepared) announced() wepay.Fields {
	request := p.request.Clone()
	for _, field := range commonIdentity.fields(p.merchant) {
		request.Set(field.Name, field.Value)
	}
	return request
}

// prepare checks the caller's fields, adds the merchant's, and signs them.
func (c *Client) prepare(ctx context.Context, op wepay.Operation, call call, in wepay.Fields) (p prepared, err error) {
	if p.merchant, p.request, err = call.actFor(c.merchant, in); err != nil {
		return p, err
	}
	if p.request, err = call.Prepare(p.merchant, p.request); err != nil {
		return p, err
	}
	if err := wepay.CheckExpiry(p.request, c.options.Now()); err != nil {
		return p, err
	}
	if call.certificate && !p.merchant.Sandbox { // which wants none
		if err := p.merchant.RequireCertificate(); err != nil {
			return p, err
		}
	}
	if call.encrypted != nil {
		if err := c.encrypt(ctx, call.encrypted, &p.request); err != nil {
			return p, err
		}
	}
	for _, field := range call.identity.fields(p.merchant) {
		p.request.Set(field.Name, field.Value)
	}
	if p.signing, err = c.signing(ctx, op, call); err != nil {
		return p, err
	}
	p.body, err = call.seal(p.request, p.signing)
	return p, err
}

// actFor is Merchant.ActFor for calls that can name a sub-merchant. Others are the
// merchant's own and keep the caller's fields, and their rules reject sub_mch_id:
// whoever names a sub-merchant must not pay from the partner's own account.
func (c call) actFor(m *wepay.Merchant, in wepay.Fields) (*wepay.Merchant, wepay.Fields, error) {
	if c.identity.subMchID == "" {
		own := *m
		own.SubMchID, own.SubAppID = "", ""
		return &own, in.Clone(), nil
	}
	if _, found := in.Lookup("sub_appid"); found && c.identity.subAppID == "" {
		return nil, nil, &wepay.FieldError{Field: "sub_appid", Reason: "WeChat Pay knows no such field here"}
	}
	needed := c.namesSubMerchant(m)
	if c.Bill && !needed && in.Get("sub_mch_id") == wepay.AnySubMerchant {
		acting, request := m.ActForAll(in)
		return acting, request, nil
	}
	return m.ActFor(in, needed)
}

// namesSubMerchant reports whether a partner's request has to name a sub-merchant.
// Without one, a partner that may act for any gets one bill for all.
func (c call) namesSubMerchant(m *wepay.Merchant) bool {
	return c.identity.subMchID != "" && (!c.Bill || !slices.Contains(m.SubMchIDs, wepay.AnySubMerchant))
}

// Interface guard
var _ wepay.Gateway = (*Client)(nil)
