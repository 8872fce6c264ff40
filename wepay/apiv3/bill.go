package apiv3

import (
	"context"

	"github.com/windsome/caddy-wepay/wepay"
)

// Download asks WeChat Pay for a bill; see wepay.Gateway.
func (c *Client) Download(ctx context.Context, op wepay.Operation, in wepay.Fields) (*wepay.Bill, error) {
	panic("to be written")
}
