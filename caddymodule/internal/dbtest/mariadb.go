package dbtest

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/go-sql-driver/mysql"
)

// MariaDB is a MariaDB server.
type MariaDB struct {
	*server

	Port int
}

// StartMariaDB starts a MariaDB server with options such as "--sync-binlog=0".
func StartMariaDB(t testing.TB, options ...string) *MariaDB {
	t.Helper()
	bin := find(t, "mariadbd", "mariadb-server", "/usr/sbin", "/usr/local/mysql/bin")
	install := find(t, "mariadb-install-db", "mariadb-server", "/usr/bin", "/usr/local/mysql/scripts")
	m := &MariaDB{server: newServer(t, "mysql"), Port: freePort(t)}
	data := filepath.Join(m.dir, "data")
	m.run(t, install, "--no-defaults", "--datadir="+data, "--auth-root-authentication-method=normal", "--skip-test-db", "--innodb-log-file-size=16M")
	args := append([]string{
		"--no-defaults", "--datadir=" + data, "--socket=" + m.socket(), "--pid-file=" + filepath.Join(m.dir, "pid"),
		"--port=" + strconv.Itoa(m.Port), "--bind-address=127.0.0.1", "--innodb-buffer-pool-size=128M",
	}, options...)
	m.start(t, func(ctx context.Context) error { return m.do(ctx, "SELECT 1") }, bin, args...)
	return m
}

func (m *MariaDB) socket() string { return filepath.Join(m.dir, "sock") }

func (m *MariaDB) dsn(database string) string {
	return fmt.Sprintf("root@unix(%s)/%s", m.socket(), database)
}

func (m *MariaDB) do(ctx context.Context, query string) error {
	config, err := mysql.ParseDSN(m.dsn(""))
	if err != nil {
		return err
	}
	config.Logger = &mysql.NopLogger{} // it may not be there yet
	connector, err := mysql.NewConnector(config)
	if err != nil {
		return err
	}
	db := sql.OpenDB(connector)
	_, err = db.ExecContext(ctx, query)
	return errors.Join(err, db.Close())
}

// NewDSN returns what leads to an empty database, whose defaults are of no use.
func (m *MariaDB) NewDSN(t testing.TB) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	name := newName()
	if err := m.do(ctx, "CREATE DATABASE "+name+" CHARACTER SET latin1"); err != nil {
		t.Fatal(err)
	}
	return m.dsn(name)
}

// NewTCPDSN is as NewDSN, by the network.
func (m *MariaDB) NewTCPDSN(t testing.TB) string {
	t.Helper()
	address := fmt.Sprintf("root@tcp(127.0.0.1:%d)/", m.Port)
	return strings.Replace(m.NewDSN(t), m.dsn(""), address, 1)
}
