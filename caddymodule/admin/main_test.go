package admin

import (
	"fmt"
	"os"
	"testing"

	"github.com/caddyserver/caddy/v2"
)

// TestMain has Caddy's log, where commands that fail say so too, say nothing.
func TestMain(m *testing.M) {
	const silent = `{"admin":{"disabled":true,"config":{"persist":false}},"logging":{"logs":{"default":{"writer":{"output":"discard"}}}}}`
	dir, err := os.MkdirTemp("", "wepay-admin-")
	if err == nil {
		// Caddy keeps an id of its own among the user's data.
		err = os.Setenv("XDG_DATA_HOME", dir)
	}
	if err == nil {
		err = caddy.Load([]byte(silent), true)
	}
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	code := m.Run()
	_ = os.RemoveAll(dir) // it is temporary
	os.Exit(code)
}
