// Package sqlstore keeps events in an SQL database: in a file by SQLite, which is
// built in, or in PostgreSQL or MySQL, which several servers may share.
//
// Its table wepay_event has plain columns, for an operator's own queries.
package sqlstore

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	"go.uber.org/zap"

	"github.com/windsome/caddy-wepay/caddymodule/internal/parse"
	"github.com/windsome/caddy-wepay/caddymodule/store"
)

func init() {
	caddy.RegisterModule(&SQLite{})
}

// SQLite is a store in a file on this machine, for one Caddy. What is in it
// survives kill -9 and the loss of power. `sqlite3` may read it meanwhile.
type SQLite struct {
	// The file. Default: `wepay/store.db` in Caddy's data directory.
	Path string `json:"path,omitempty"`

	instance

	path   string
	logger *zap.Logger
}

// CaddyModule returns the Caddy module information.
func (*SQLite) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{
		ID:  "wepay.store.sqlite",
		New: func() caddy.Module { return new(SQLite) },
	}
}

// Provision sets up the store. The file is not touched: another config, or
// another process, may have it open.
func (s *SQLite) Provision(ctx caddy.Context) error {
	s.logger = ctx.Logger()
	path, err := caddy.NewReplacer().ReplaceOrErr(s.Path, true, true)
	if err != nil {
		return fmt.Errorf("path: resolving a placeholder: %w", err)
	}
	if path == "" {
		path = filepath.Join(caddy.AppDataDir(), "wepay", "store.db")
	}
	if s.path, err = filepath.Abs(path); err != nil {
		return fmt.Errorf("path: %w", err)
	}
	return nil
}

// UnmarshalCaddyfile sets up the store from its directive. Syntax:
//
//	sqlite [<file>]
func (s *SQLite) UnmarshalCaddyfile(d *caddyfile.Dispenser) error {
	d.Next() // consume the store's name
	if d.NextArg() {
		s.Path = parse.Path(d, d.Val())
	}
	return endOf(d)
}

// endOf refuses what follows the arguments of a store.
func endOf(d *caddyfile.Dispenser) error {
	if d.NextArg() {
		return parse.ArgErr(d, "store")
	}
	if d.NextBlock(d.Nesting()) {
		return d.Errf("unrecognized store option %s", parse.Word(d.Val()))
	}
	return nil
}

// files are the files that this process has open, by their paths: the configs of a
// reload share them.
var files = caddy.NewUsagePool()

// openDatabase is a database in a pool.
type openDatabase struct{ *database }

// Destruct closes the database.
func (o openDatabase) Destruct() error { return o.stop() }

// Open opens the file, or joins those of this process that have it open.
func (s *SQLite) Open(ctx context.Context, options store.Options) error {
	if err := os.MkdirAll(filepath.Dir(s.path), 0o700); err != nil {
		return fmt.Errorf("making the directory of the store's file: %w", err)
	}
	key := realPath(s.path)
	value, joined, err := files.LoadOrNew(key, func() (caddy.Destructor, error) {
		f, err := openFile(key, s.logger)
		if err != nil {
			return nil, err
		}
		db, err := newDatabase(ctx, f, sqliteDialect, options, s.logger)
		return openDatabase{db}, err
	})
	if err != nil {
		return err
	}
	leave := func() error {
		_, err := files.Delete(key)
		return err
	}
	db := value.(openDatabase).database
	if joined {
		if err := db.engine.(*file).checkPlace(); err != nil {
			return errors.Join(err, leave())
		}
		db.setOptions(options)
	}
	s.join(db, leave)
	return nil
}

// newDatabase begins to use what an engine has open.
func newDatabase(ctx context.Context, e engine, d *dialect, options store.Options, logger *zap.Logger) (*database, error) {
	db := &database{engine: e, dialect: d, logger: logger}
	db.setOptions(options)
	db.start()
	ctx, cancel := context.WithTimeout(ctx, openTimeout)
	defer cancel()
	if err := db.scheduleWaiting(ctx); err != nil {
		return nil, errors.Join(err, db.stop())
	}
	return db, nil
}

// openTimeout bounds how long a database takes to say what waits in it.
const openTimeout = 10 * time.Second

func (d *database) setOptions(options store.Options) {
	if options.Now == nil {
		options.Now = time.Now
	}
	d.options.Store(&options)
}

// Interface guards
var (
	_ caddy.Provisioner     = (*SQLite)(nil)
	_ caddyfile.Unmarshaler = (*SQLite)(nil)
	_ store.Store           = (*SQLite)(nil)
)
