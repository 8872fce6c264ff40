package sqlstore

import (
	"cmp"
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"slices"
	"strings"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	"github.com/go-sql-driver/mysql"
	"go.uber.org/zap"

	"github.com/windsome/caddy-wepay/caddymodule/store"
)

func init() {
	caddy.RegisterModule(&MySQL{})
}

// MySQL is a store in MySQL 8 or MariaDB 10.6, or later, which several Caddys may
// share.
type MySQL struct {
	// Where the database is, as `user:password@tcp(host:3306)/database?tls=true`. Use
	// a placeholder such as `{file./run/secrets/wepay_dsn}` to keep it out of the
	// config.
	DSN string `json:"dsn"`

	instance

	connector driver.Connector
	logger    *zap.Logger
}

// CaddyModule returns the Caddy module information.
func (*MySQL) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{
		ID:  "wepay.store.mysql",
		New: func() caddy.Module { return new(MySQL) },
	}
}

// Provision sets up the store. The server is not asked yet.
func (m *MySQL) Provision(ctx caddy.Context) error {
	m.logger = ctx.Logger()
	dsn, err := resolveDSN(m.DSN)
	if err != nil {
		return err
	}
	config, err := mysql.ParseDSN(dsn)
	if err != nil || config.DBName == "" {
		// The error may quote the password.
		return errors.New("dsn: cannot be parsed: want user:password@tcp(host:3306)/database?tls=true")
	}
	if m.connector, err = newMySQLConnector(config); err != nil {
		return errors.New("dsn: its options contradict each other") // as above
	}
	return nil
}

// newMySQLConnector sets what connections must have, whatever the DSN and the
// server say.
func newMySQLConnector(config *mysql.Config) (driver.Connector, error) {
	config.Timeout = cmp.Or(config.Timeout, dialTimeout)
	config.ReadTimeout = cmp.Or(config.ReadTimeout, readTimeout)
	config.WriteTimeout = cmp.Or(config.WriteTimeout, readTimeout)
	config.InterpolateParams, config.ClientFoundRows, config.RejectReadOnly = true, false, true
	config.Logger = &mysql.NopLogger{}
	if err := config.Apply(mysql.Charset("utf8mb4", "utf8mb4_bin")); err != nil {
		return nil, err
	}
	connector, err := mysql.NewConnector(config)
	return mysqlConnector{connector}, err
}

// mysqlConnector sets up each connection.
type mysqlConnector struct{ driver.Connector }

var mysqlSettings = []string{
	"SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED",
	"SET SESSION sql_mode = 'STRICT_ALL_TABLES,NO_ENGINE_SUBSTITUTION,ERROR_FOR_DIVISION_BY_ZERO', time_zone = '+00:00', autocommit = 1, innodb_lock_wait_timeout = 3",
}

// Connect makes a connection and sets it up.
func (c mysqlConnector) Connect(ctx context.Context) (driver.Conn, error) {
	conn, err := c.Connector.Connect(ctx)
	if err != nil {
		return nil, err
	}
	for _, setting := range mysqlSettings {
		if _, err := conn.(driver.ExecerContext).ExecContext(ctx, setting, nil); err != nil {
			return nil, errors.Join(err, conn.Close())
		}
	}
	return conn, nil
}

// UnmarshalCaddyfile sets up the store from its directive. Syntax:
//
//	mysql <dsn>
func (m *MySQL) UnmarshalCaddyfile(d *caddyfile.Dispenser) error { return unmarshalDSN(d, &m.DSN) }

// Open connects to the server.
func (m *MySQL) Open(ctx context.Context, options store.Options) error {
	s, err := openServer(ctx, sql.OpenDB(m.connector), mysqlDialect, m.logger)
	if err != nil {
		return err
	}
	return m.joinServer(ctx, s, options)
}

var mysqlDialect = &serverDialect{
	dialect: dialect{
		name:         "mysql",
		rows:         64,
		ignore:       "ON DUPLICATE KEY UPDATE seq = wepay_event.seq",
		ignoreOrder:  "ON DUPLICATE KEY UPDATE seq = wepay_order.seq",
		forUpdate:    " FOR UPDATE",
		skipLocked:   " FOR UPDATE SKIP LOCKED",
		free:         ", lease = NULL, leased_until = NULL",
		payloadEnded: "payload_ended",
		// It jumps from group to group by itself.
		queues:    "SELECT merchant, kind, MIN(due), MAX(due) FROM wepay_event WHERE state = 'waiting' GROUP BY state, merchant, kind",
		merchants: "SELECT merchant, MIN(due), MAX(due) FROM wepay_order GROUP BY merchant HAVING MIN(due) IS NOT NULL",
	},
	clock:   "CAST(UNIX_TIMESTAMP(NOW(3)) * 1000 AS SIGNED)",
	prepare: prepareMySQL,
	refused: func(err error) bool { return hasNumber(err, 1264, 1366, 1406, 3819) },
	discard: func(err error) bool { return hasNumber(err, 1290, 1792, 1836) }, // read only
	retry:   func(err error) bool { return hasNumber(err, 1205, 1213) || errors.Is(err, driver.ErrBadConn) },
}

// hasNumber reports whether an error has one of some numbers.
func hasNumber(err error, numbers ...uint16) bool {
	var e *mysql.MySQLError
	return errors.As(err, &e) && slices.Contains(numbers, e.Number)
}

// prepareMySQL brings the schema up to date under a lock of its connection: DDL ends
// transactions.
func prepareMySQL(ctx context.Context, s *server) (err error) {
	conn, err := s.Conn(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, conn.Close()) }()
	tx := statements{ctx, s, conn}
	ask := func(query string, args ...any) (answer string, err error) {
		err = tx.query(query, func(scan func(...any) error) error { return scan(&answer) }, args...)
		return answer, err
	}
	if locked, err := ask("SELECT COALESCE(GET_LOCK(CONCAT(DATABASE(), '.wepay_schema'), 8), 0)"); err != nil || locked != "1" {
		return errors.Join(err, errors.New("another Caddy is changing the schema, and does not end"))
	}
	defer func() {
		_, unlockErr := ask("SELECT COALESCE(RELEASE_LOCK(CONCAT(DATABASE(), '.wepay_schema')), 0)")
		err = errors.Join(err, unlockErr)
	}()
	// Names that differ in a space at the end are different ones.
	collation, err := ask("SELECT COALESCE(MAX(collation_name), 'utf8mb4_bin') FROM information_schema.collations " +
		"WHERE collation_name IN ('utf8mb4_0900_bin', 'utf8mb4_nopad_bin')")
	if err != nil {
		return err
	}
	flush, err := ask("SELECT @@innodb_flush_log_at_trx_commit")
	if err == nil && flush != "1" {
		s.logger.Warn("the server does not make each commit durable: set innodb_flush_log_at_trx_commit to 1", zap.String("is", flush))
	}
	return errors.Join(err, s.dialect.migrate(tx, strings.NewReplacer("{{collation}}", collation)))
}

// Interface guards
var (
	_ caddy.Provisioner     = (*MySQL)(nil)
	_ caddyfile.Unmarshaler = (*MySQL)(nil)
	_ store.Store           = (*MySQL)(nil)
)
