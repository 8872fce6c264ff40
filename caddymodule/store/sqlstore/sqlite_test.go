package sqlstore

import (
	"context"
	"path/filepath"
	"testing"

	"github.com/caddyserver/caddy/v2"

	"github.com/windsome/caddy-wepay/caddymodule/store"
	"github.com/windsome/caddy-wepay/caddymodule/store/storetest"
)

// provisioned returns a store as Caddy provisions it.
func provisioned[S caddy.Provisioner](t testing.TB, s S) S {
	t.Helper()
	ctx, cancel := caddy.NewContext(caddy.Context{Context: context.Background()})
	t.Cleanup(cancel)
	if err := s.Provision(ctx); err != nil {
		t.Fatal(err)
	}
	return s
}

func TestSQLiteContract(t *testing.T) {
	storetest.Run(t, func(t testing.TB) func() store.Store {
		path := filepath.Join(t.TempDir(), "store.db")
		return func() store.Store { return provisioned(t, &SQLite{Path: path}) }
	})
}
