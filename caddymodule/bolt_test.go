package caddymodule_test

import (
	"context"
	"path/filepath"
	"testing"

	"github.com/caddyserver/caddy/v2"

	"github.com/windsome/caddy-wepay/caddymodule"
	"github.com/windsome/caddy-wepay/caddymodule/outboxtest"
)

// newBolt returns an outbox in a file, not open yet.
func newBolt(t testing.TB, path string) *caddymodule.Bolt {
	t.Helper()
	ctx, cancel := caddy.NewContext(caddy.Context{Context: context.Background()})
	t.Cleanup(cancel)
	b := &caddymodule.Bolt{Path: path}
	if err := b.Provision(ctx); err != nil {
		t.Fatal(err)
	}
	return b
}

func TestBoltContract(t *testing.T) {
	outboxtest.Run(t, func(t testing.TB) func() caddymodule.Outbox {
		path := filepath.Join(t.TempDir(), "outbox.db")
		return func() caddymodule.Outbox { return newBolt(t, path) }
	})
}
