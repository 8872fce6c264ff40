// Package e2e_test runs Caddy with the module, WeChat Pay by wepaytest and an
// order service, and has them talk over the network.
package e2e_test

import (
	"os"
	"testing"

	caddycmd "github.com/caddyserver/caddy/v2/cmd"
	_ "github.com/caddyserver/caddy/v2/modules/standard"
	"go.uber.org/goleak"

	_ "github.com/windsome/caddy-wepay/caddymodule"
	_ "github.com/windsome/caddy-wepay/caddymodule/demo"
)

// asCaddy, set in the environment, makes of the tests' binary a Caddy with the
// module, which a test may kill.
const asCaddy = "WEPAY_TEST_AS_CADDY"

func TestMain(m *testing.M) {
	if os.Getenv(asCaddy) != "" {
		caddycmd.Main()
		return
	}
	goleak.VerifyTestMain(
		m,
		// Caddy cleans its storage under a lock when it starts. What keeps the
		// lock's file fresh looks every 5 s whether that is gone.
		goleak.IgnoreAnyFunction("github.com/caddyserver/certmagic.keepLockfileFresh"),
	)
}
