package apiv2

import (
	"context"
	"time"

	"github.com/windsome/caddy-wepay/wepay"
)

// WeChat's sandbox of today, which serves code payments only; the older one
// under /sandboxnew is gone for new keys.
const (
	sandboxPrefix  = "/xdc/apiv2sandbox"
	sandboxKeyPath = "/xdc/apiv2getsignkey/sign/getsignkey"
)

// sandboxKeyAge is how long a sandbox key is used. It lives three days, by
// WeChat's answer quoted in binarywang/WxJava#2505.
const sandboxKeyAge = 60 * time.Hour

// sandboxKey returns the key that the sandbox signs with.
func (c *Client) sandboxKey(ctx context.Context) (string, error) {
	return c.sandbox.Get(ctx, sandboxKeyAge, 0)
}

func (c *Client) fetchSandboxKey(ctx context.Context) (string, error) {
	reply, err := c.Do(ctx, wepay.SandboxKey, nil)
	return reply.Get("sandbox_signkey"), err
}

// notificationKey returns the key that notifications to the merchant are signed
// with: the merchant's own, or the sandbox's.
func (c *Client) notificationKey(ctx context.Context) (string, error) {
	if c.merchant.Sandbox {
		return c.sandboxKey(ctx)
	}
	return c.merchant.PartnerKey, nil
}
