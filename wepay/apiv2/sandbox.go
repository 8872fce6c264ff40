package apiv2

import (
	"context"
	"time"

	"github.com/windsome/caddy-wepay/wepay"
)

// WeChat's sandbox of today, which serves code payments only. Its prefix stands before
// the whole path, /secapi included. Without that were the paths of the older one under
// /sandboxnew, which is gone for new keys.
// Source: WeChat Pay, 仿真测试系统; binarywang/WxJava.
const (
	sandboxPrefix  = "/xdc/apiv2sandbox"
	sandboxKeyPath = "/xdc/apiv2getsignkey/sign/getsignkey"
)

// sandboxKeyAge is how long a sandbox key is used. It lives three days, by
// WeChat's answer quoted in binarywang/WxJava#2505.
const sandboxKeyAge = 60 * time.Hour

// askForNotification is the least time between two questions for the key that are
// asked for a notification's sake, which anyone may send.
const askForNotification = 10 * time.Second

// sandboxKey returns the key that the sandbox signs with, unless fetching it failed
// less than a time ago.
func (c *Client) sandboxKey(ctx context.Context, retry time.Duration) (string, error) {
	return c.sandbox.Get(ctx, sandboxKeyAge, retry)
}

func (c *Client) fetchSandboxKey(ctx context.Context) (string, error) {
	reply, err := c.Do(ctx, wepay.SandboxKey, nil)
	return reply.Get("sandbox_signkey"), err
}

// notificationKey returns the key that notifications to the merchant are signed
// with: the merchant's own, or the sandbox's. If WeChat did not return that it is
// not asked again for a while.
func (c *Client) notificationKey(ctx context.Context) (string, error) {
	if c.merchant.Sandbox {
		return c.sandboxKey(ctx, askForNotification)
	}
	return c.merchant.PartnerKey, nil
}
