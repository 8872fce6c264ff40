package dbtest

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strconv"
	"syscall"
	"testing"

	"github.com/jackc/pgx/v5"
)

// Postgres is a PostgreSQL server.
type Postgres struct {
	*server

	bin  string
	Port int
}

// StartPostgres starts a PostgreSQL server with settings such as "fsync=off".
func StartPostgres(t testing.TB, settings ...string) *Postgres {
	t.Helper()
	bin := filepath.Dir(find(t, "postgres", "postgresql", "/usr/lib/postgresql/*/bin", "/usr/local/pgsql/bin"))
	p := &Postgres{server: newServer(t, "postgres"), bin: bin}
	p.run(t, p.bin+"/initdb", "-D", p.data(), "-U", "wepay", "-A", "trust", "-E", "UTF8", "--locale", "C", "--no-sync")
	p.launch(t, settings)
	return p
}

func (p *Postgres) data() string { return filepath.Join(p.dir, "data") }

func (p *Postgres) launch(t testing.TB, settings []string) {
	t.Helper()
	if p.Port == 0 {
		p.Port = freePort(t)
	}
	args := []string{"-D", p.data(), "-p", strconv.Itoa(p.Port), "-k", p.dir, "-c", "listen_addresses=127.0.0.1"}
	for _, setting := range settings {
		args = append(args, "-c", setting)
	}
	p.start(t, func(ctx context.Context) error { return p.do(ctx, "SELECT 1") }, p.bin+"/postgres", args...)
}

// Restart stops the server as an operator does, and starts it again at the same
// address once something is done.
func (p *Postgres) Restart(t testing.TB, while func()) {
	t.Helper()
	if err := p.cmd.Process.Signal(syscall.SIGINT); err != nil {
		t.Fatal(err)
	}
	<-p.exited
	while()
	p.launch(t, nil)
}

// do runs a statement.
func (p *Postgres) do(ctx context.Context, query string) error {
	conn, err := pgx.Connect(ctx, p.dsn("postgres"))
	if err != nil {
		return err
	}
	_, err = conn.Exec(ctx, query)
	return errors.Join(err, conn.Close(ctx))
}

// Do runs a statement of an operator.
func (p *Postgres) Do(t testing.TB, query string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if err := p.do(ctx, query); err != nil {
		t.Fatal(err)
	}
}

func (p *Postgres) dsn(database string) string {
	return fmt.Sprintf("postgres://wepay@127.0.0.1:%d/%s?sslmode=disable", p.Port, database)
}

// NewDSN returns what leads to an empty database, on whichever of the servers can
// be written to.
func (p *Postgres) NewDSN(t testing.TB, standbys ...*Postgres) string {
	t.Helper()
	name := newName()
	p.Do(t, "CREATE DATABASE "+name)
	hosts := fmt.Sprintf("127.0.0.1:%d", p.Port)
	for _, standby := range standbys {
		hosts += fmt.Sprintf(",127.0.0.1:%d", standby.Port)
	}
	return fmt.Sprintf("postgres://wepay@%s/%s?sslmode=disable", hosts, name)
}

// StartStandby starts a standby that each commit waits for from then on.
func (p *Postgres) StartStandby(t testing.TB) *Postgres {
	t.Helper()
	standby := &Postgres{server: newServer(t, "postgres"), bin: p.bin}
	standby.run(t, p.bin+"/pg_basebackup", "-D", standby.data(), "-R", "-c", "fast", "--no-sync", "-d", p.dsn("postgres"))
	standby.launch(t, nil)
	p.Do(t, "ALTER SYSTEM SET synchronous_standby_names = '*'")
	p.Do(t, "SELECT pg_reload_conf()")
	p.await(t, "the standby is in step", func(ctx context.Context) error {
		return p.do(ctx, "DO $$ BEGIN ASSERT (SELECT COUNT(*) FROM pg_stat_replication WHERE sync_state = 'sync') = 1; END $$")
	})
	return standby
}

// Promote makes a standby the primary.
func (p *Postgres) Promote(t testing.TB) {
	t.Helper()
	p.Do(t, "DO $$ BEGIN ASSERT pg_promote(true, 60); END $$")
}
