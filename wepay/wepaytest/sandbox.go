package wepaytest

import (
	"crypto/rand"
	"time"

	"github.com/windsome/caddy-wepay/wepay"
)

// The sandbox has the real merchants and appids, and a key and books of its own.
// Today's serves code payments only; here orders can be placed in it as well,
// so that a client's way through it can be tested.
const (
	sandboxPrefix  = "/xdc/apiv2sandbox"
	sandboxKeyPath = "/xdc/apiv2getsignkey/sign/getsignkey"
)

// sandboxKeyLife is from WeChat's answer quoted in binarywang/WxJava#2505.
const sandboxKeyLife = 3 * 24 * time.Hour

// issueSandboxKey returns the sandbox's key, which is the same until it expires.
func (x *exchange) issueSandboxKey() (wepay.Fields, *refusal) {
	key := x.account.currentSandboxKey(x.now)
	if key == "" {
		key = (rand.Text() + rand.Text())[:32]
		x.account.sandboxKey, x.account.sandboxKeyExpires = key, x.now.Add(sandboxKeyLife)
	}
	return wepay.NewFields(map[string]string{"sandbox_signkey": key}), nil
}

// currentSandboxKey is "" before the first was issued and once it has expired.
func (a *account) currentSandboxKey(now time.Time) string {
	if now.Before(a.sandboxKeyExpires) {
		return a.sandboxKey
	}
	return ""
}
