package caddymodule

import (
	"testing"

	_ "github.com/caddyserver/caddy/v2/modules/standard"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(
		m,
		// Caddy cleans its storage under a lock when it starts. What keeps the
		// lock's file fresh looks every 5 s whether that is gone.
		goleak.IgnoreAnyFunction("github.com/caddyserver/certmagic.keepLockfileFresh"),
	)
}
