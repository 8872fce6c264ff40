package apiv3

import (
	"context"
	"crypto/rsa"
	"time"

	"github.com/windsome/caddy-wepay/wepay"
)

// Authorization is the header that signs a request.
func Authorization(m *wepay.Merchant, method, uri, body string, now time.Time) (string, error) {
	return authorization(m, method, uri, body, now)
}

// Encrypt and Decrypt are what sensitive fields go through.
func Encrypt(key *rsa.PublicKey, value string) (string, error) { return encrypt(key, value) }

func Decrypt(key *rsa.PrivateKey, value string) (string, error) { return decrypt(key, value) }

// CheckPath is what Client.Pass takes for a path.
func CheckPath(path string) error { return checkPath(path) }

// Search has somebody try the keys of all accounts, until it is ended.
func Search(ctx context.Context) (end func(), err error) { return search(ctx) }

// Waiting is how many wait for that, and Room how many may.
func Waiting() int { return len(waiting) }

func Room() int { return cap(waiting) }

// Untold makes a key ring not report that its certificates were replaced, as between
// the two.
func Untold(p *KeyRing) { p.changed = nil }
