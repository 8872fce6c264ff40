package apiv3

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"

	"github.com/windsome/caddy-wepay/wepay"
)

// Client is a merchant's client of API v3. It may be used by many goroutines.
type Client struct {
	wire
	keyRing *KeyRing
}

// NewClient returns the client of a merchant that Validate accepts. The key ring is
// that of its account.
func NewClient(merchant *wepay.Merchant, keyRing *KeyRing, options wepay.ClientOptions) *Client {
	return &Client{newWire(merchant, options), keyRing}
}

// Merchant returns the client's merchant.
func (c *Client) Merchant() *wepay.Merchant { return c.merchant }

// Has reports whether API v3 has an operation.
func Has(op wepay.Operation) bool {
	_, found := calls[op]
	return found
}

// Operations returns those that a client can do.
func Operations() []wepay.Operation { return slices.Collect(maps.Keys(calls)) }

// Do implements wepay.Gateway.
func (c *Client) Do(ctx context.Context, op wepay.Operation, in wepay.Fields) (wepay.Fields, error) {
	x, answer, err := c.exchange(ctx, op, in, false)
	if err != nil {
		return nil, err
	}
	return x.translate(answer)
}

// Native is Do with WeChat's own JSON as its result, byte for byte; nil if the reply
// is empty.
func (c *Client) Native(ctx context.Context, op wepay.Operation, in wepay.Fields) (json.RawMessage, error) {
	x, answer, err := c.exchange(ctx, op, in, false)
	if err != nil {
		return nil, err
	}
	// The reply has to pass the same checks as Do's.
	if _, err := x.accept(answer); err != nil || len(answer.body) == 0 {
		return nil, err
	}
	return answer.body, nil
}

// exchange makes a call, for Download or for the others.
func (c *Client) exchange(ctx context.Context, op wepay.Operation, in wepay.Fields, bill bool) (*exchange, *reply, error) {
	x, err := c.prepare(op, in, bill)
	if err != nil {
		return nil, nil, err
	}
	answer, err := x.ask(ctx)
	return x, answer, err
}

// prepare checks the caller's fields and completes them.
func (c *Client) prepare(op wepay.Operation, in wepay.Fields, bill bool) (*exchange, error) {
	call, found := calls[op]
	if !found || call.Bill != bill {
		return nil, fmt.Errorf("%w: %s over API v3", wepay.ErrNoOperation, op)
	}
	if err := c.merchant.RequireV3(); err != nil {
		return nil, err
	}
	merchant, own, err := call.actFor(c.merchant, in)
	if err != nil {
		return nil, err
	}
	if own, err = call.Prepare(merchant, own); err != nil {
		return nil, err
	}
	if err := wepay.CheckExpiry(own, c.options.Now()); err != nil {
		return nil, err
	}
	addIDs(merchant, &own)
	return &exchange{client: c, op: op, call: call, merchant: merchant, in: own}, nil
}

// addIDs adds the ids of the merchant and of its sub-merchant.
func addIDs(m *wepay.Merchant, in *wepay.Fields) {
	for name, id := range map[string]string{"appid": m.AppID, "mch_id": m.MchID, "sub_appid": m.SubAppID, "sub_mch_id": m.SubMchID} {
		if id != "" {
			in.Set(name, id)
		}
	}
}

// Interface guard
var _ wepay.Gateway = (*Client)(nil)
