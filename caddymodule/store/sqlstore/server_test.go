package sqlstore

import (
	"testing"

	"github.com/windsome/caddy-wepay/caddymodule/internal/dbtest"
	"github.com/windsome/caddy-wepay/caddymodule/store"
	"github.com/windsome/caddy-wepay/caddymodule/store/storetest"
)

func TestPostgresContract(t *testing.T) {
	server := dbtest.StartPostgres(t, "fsync=off")
	storetest.Run(t, func(t testing.TB) func() store.Store {
		dsn := server.NewDSN(t)
		return func() store.Store { return provisioned(t, &Postgres{DSN: dsn}) }
	})
}

func TestMySQLContract(t *testing.T) {
	server := dbtest.StartMariaDB(t)
	storetest.Run(t, func(t testing.TB) func() store.Store {
		dsn := server.NewDSN(t)
		return func() store.Store { return provisioned(t, &MySQL{DSN: dsn}) }
	})
}
