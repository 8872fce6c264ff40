package sqlstore

import (
	"context"
	"path/filepath"
	"testing"

	"github.com/caddyserver/caddy/v2"
	"go.uber.org/zap"

	"github.com/windsome/caddy-wepay/caddymodule/store"
	"github.com/windsome/caddy-wepay/caddymodule/store/storetest"
)

// provisioned returns a store as Caddy provisions it, but for a log that is quiet.
func provisioned[S caddy.Provisioner](t testing.TB, s S) S {
	t.Helper()
	ctx, cancel := caddy.NewContext(caddy.Context{Context: context.Background()})
	t.Cleanup(cancel)
	if err := s.Provision(ctx); err != nil {
		t.Fatal(err)
	}
	switch s := any(s).(type) {
	case *SQLite:
		s.logger = zap.NewNop()
	case *Postgres:
		s.logger = zap.NewNop()
	case *MySQL:
		s.logger = zap.NewNop()
	}
	return s
}

func TestSQLiteContract(t *testing.T) {
	storetest.Run(t, func(t testing.TB) func() store.Store {
		path := filepath.Join(t.TempDir(), "store.db")
		return func() store.Store { return provisioned(t, &SQLite{Path: path}) }
	})
}
