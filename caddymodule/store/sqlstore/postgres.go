package sqlstore

import (
	"context"
	"database/sql/driver"
	"errors"
	"fmt"
	"strings"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/stdlib"
	"go.uber.org/zap"

	"github.com/windsome/caddy-wepay/caddymodule/store"
)

func init() {
	caddy.RegisterModule(&Postgres{})
}

// Postgres is a store in PostgreSQL 13 or later, which several Caddys may share.
type Postgres struct {
	// Where the database is: a URL as `postgres://user:password@host/database`, or
	// `key=value` pairs. It may name several hosts, of which the one that can be
	// written to is used, and say how TLS is done (`sslmode`, `sslrootcert` …). Use
	// a placeholder such as `{file./run/secrets/wepay_dsn}` to keep it out of the
	// config.
	DSN string `json:"dsn"`

	instance

	config *pgx.ConnConfig
	logger *zap.Logger
}

// CaddyModule returns the Caddy module information.
func (*Postgres) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{
		ID:  "wepay.store.postgres",
		New: func() caddy.Module { return new(Postgres) },
	}
}

// Provision sets up the store. The server is not asked yet.
func (p *Postgres) Provision(ctx caddy.Context) error {
	p.logger = ctx.Logger()
	dsn, err := resolveDSN(p.DSN)
	if err != nil {
		return err
	}
	if p.config, err = pgx.ParseConfig(dsn); err != nil {
		// The error may quote the password.
		return errors.New("dsn: cannot be parsed: want postgres://user:password@host/database?sslmode=verify-full, " +
			"or host=… user=… password=… dbname=…; files that it names must be there")
	}
	setUpPostgres(p.config)
	return nil
}

// resolveDSN returns what a dsn's placeholders say.
func resolveDSN(dsn string) (string, error) {
	resolved, err := caddy.NewReplacer().ReplaceOrErr(dsn, true, true)
	if err != nil {
		return "", fmt.Errorf("dsn: resolving a placeholder: %w", err)
	}
	if resolved == "" {
		return "", errors.New("dsn: is required")
	}
	return resolved, nil
}

// setUpPostgres sets what connections must have, whatever the DSN, the role or the
// database say.
func setUpPostgres(config *pgx.ConnConfig) {
	config.RuntimeParams["client_encoding"] = "UTF8"
	config.ConnectTimeout = min(config.ConnectTimeout, dialTimeout)
	if config.ConnectTimeout <= 0 {
		config.ConnectTimeout = dialTimeout
	}
	if config.ValidateConnect == nil {
		config.ValidateConnect = pgconn.ValidateConnectTargetSessionAttrsReadWrite
	}
	// A commit that no longer waits for its standby is reported as a success.
	config.OnNotice = func(c *pgconn.PgConn, notice *pgconn.Notice) {
		if notice.Routine == "SyncRepWaitForLSN" {
			_ = c.Conn().Close() // whoever waits for the commit gets the error
		}
	}
}

// onConnect makes commits durable where the role or the database say otherwise.
func onConnect(ctx context.Context, c *pgx.Conn) error {
	_, err := c.Exec(ctx, "SELECT set_config('synchronous_commit', 'on', false) WHERE current_setting('synchronous_commit') = 'off'")
	if err != nil {
		return errors.Join(err, c.Close(ctx))
	}
	return nil
}

// UnmarshalCaddyfile sets up the store from its directive. Syntax:
//
//	postgres <dsn>
func (p *Postgres) UnmarshalCaddyfile(d *caddyfile.Dispenser) error { return unmarshalDSN(d, &p.DSN) }

func unmarshalDSN(d *caddyfile.Dispenser, dsn *string) error {
	d.Next() // consume the store's name
	if !d.NextArg() {
		return d.ArgErr()
	}
	*dsn = d.Val()
	return endOf(d)
}

// Open connects to the server.
func (p *Postgres) Open(ctx context.Context, options store.Options) error {
	db := stdlib.OpenDB(*p.config, stdlib.OptionAfterConnect(onConnect))
	s, err := openServer(ctx, db, postgresDialect, p.logger)
	if err != nil {
		return err
	}
	return p.joinServer(ctx, s, options)
}

var postgresDialect = &serverDialect{
	dialect: dialect{
		name:         "postgres",
		rows:         64,
		ignore:       "ON CONFLICT (id) DO NOTHING",
		ignoreOrder:  "ON CONFLICT (number, kind, mch_id, sub_mch_id) DO NOTHING",
		forUpdate:    " FOR UPDATE",
		skipLocked:   " FOR UPDATE SKIP LOCKED",
		free:         ", lease = NULL, leased_until = NULL",
		payloadEnded: "ended IS NOT NULL AND payload IS NOT NULL AND ended",
		queues:       skipScan,
		merchants:    skipScanOrders,
	},
	clock:    "CAST(EXTRACT(EPOCH FROM clock_timestamp()) * 1000 AS BIGINT)",
	numbered: true,
	prepare:  preparePostgres,
	refused:  func(err error) bool { return hasClass(err, "22", "23") },
	discard:  func(err error) bool { return hasClass(err, "25006", "57P") }, // read only, shutting down
	retry: func(err error) bool {
		return hasClass(err, "40001", "40P01") || pgconn.SafeToRetry(err) || errors.Is(err, driver.ErrBadConn)
	},
}

// hasClass reports whether the code of an error begins with one of some.
func hasClass(err error, classes ...string) bool {
	var e *pgconn.PgError
	if !errors.As(err, &e) {
		return false
	}
	for _, class := range classes {
		if strings.HasPrefix(e.Code, class) {
			return true
		}
	}
	return false
}

// schemaLock is a number that nothing else is likely to lock.
const schemaLock = 0x7765706179

func preparePostgres(ctx context.Context, s *server) error {
	return s.update(ctx, func(tx session) error {
		var encoding string
		if err := tx.query("SHOW server_encoding", func(scan func(...any) error) error { return scan(&encoding) }); err != nil {
			return err
		}
		if encoding != "UTF8" {
			return fmt.Errorf("the database's encoding is %s, which cannot store every text: make one with ENCODING 'UTF8'", encoding)
		}
		if _, err := tx.exec("SELECT pg_advisory_xact_lock(?)", int64(schemaLock)); err != nil {
			return err
		}
		return s.dialect.migrate(tx, noReplacements)
	})
}

// Interface guards
var (
	_ caddy.Provisioner     = (*Postgres)(nil)
	_ caddyfile.Unmarshaler = (*Postgres)(nil)
	_ store.Store           = (*Postgres)(nil)
)
