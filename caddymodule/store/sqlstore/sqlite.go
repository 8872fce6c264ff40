package sqlstore

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"

	"github.com/ncruces/go-sqlite3"
)

var sqliteDialect = &dialect{
	name:         "sqlite",
	oneWriter:    true,
	rows:         1,
	ignore:       "ON CONFLICT (id) DO NOTHING",
	ignoreOrder:  "ON CONFLICT (number, kind, mch_id, sub_mch_id) DO NOTHING",
	payloadEnded: "ended IS NOT NULL AND payload IS NOT NULL AND ended",
	queues:       skipScan,
	merchants:    skipScanOrders,
}

// conn is a connection to a file, with its statements prepared. It is used by one
// goroutine at a time, which holds its turn.
type conn struct {
	*sqlite3.Conn
	statements map[string]*sqlite3.Stmt
	turn       chan struct{} // has one element while the connection is idle
	cut        bool          // a fault left what it did half done: it is of no use any more
}

// What a connection is set up with. FULL: a commit is on disk. The cache is in KiB.
const pragmas = `
PRAGMA busy_timeout = 2000;
PRAGMA journal_mode = WAL;
PRAGMA synchronous = FULL;
PRAGMA fullfsync = ON;
PRAGMA checkpoint_fullfsync = ON;
PRAGMA journal_size_limit = 67108864;
PRAGMA cache_size = -16384;
PRAGMA temp_store = MEMORY;
PRAGMA trusted_schema = OFF;
`

func newConn() *conn {
	c := &conn{turn: make(chan struct{}, 1)}
	c.turn <- struct{}{}
	return c
}

// openSQLite opens a file; a test has its disk fail.
var openSQLite = sqlite3.OpenFlags

// open opens a file that is there, or with OPEN_CREATE makes one. The caller has
// the connection's turn.
func (c *conn) open(path string, flags sqlite3.OpenFlag) (err error) {
	if c.Conn, err = openSQLite(path, flags); err != nil {
		c.Conn = nil
		return err
	}
	c.statements, c.cut = make(map[string]*sqlite3.Stmt), false
	// Plans do not depend on arguments, else each new one has a statement prepared
	// again.
	_, err = c.Config(sqlite3.DBCONFIG_ENABLE_QPSG, true)
	return errors.Join(err, c.Exec(pragmas))
}

// close closes the file, if it is open. The caller has the connection's turn. Where a
// fault cut off what it did, the memory that it works on is in disorder: nothing of it
// is touched again, and its files are closed when it is collected as garbage.
func (c *conn) close() error {
	db := c.Conn
	c.Conn = nil
	if db == nil || c.cut {
		return nil
	}
	return guarded(func() (err error) {
		for _, stmt := range c.statements {
			err = errors.Join(err, stmt.Close())
		}
		return errors.Join(err, db.Close())
	})
}

// take waits for the connection's turn, and give ends it.
func (c *conn) take(ctx context.Context) error {
	select {
	case <-c.turn:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (c *conn) give() { c.turn <- struct{}{} }

// mostStatements bounds the statements that are prepared: those with lists of any
// length are many.
const mostStatements = 64

// prepare returns a statement with its arguments bound.
func (c *conn) prepare(query string, args []any) (stmt *sqlite3.Stmt, err error) {
	stmt = c.statements[query]
	if stmt == nil {
		if len(c.statements) >= mostStatements {
			for _, old := range c.statements {
				err = errors.Join(err, old.Close())
			}
			clear(c.statements)
		}
		if stmt, _, err = c.PrepareFlags(query, sqlite3.PREPARE_PERSISTENT); err != nil {
			return nil, err
		}
		c.statements[query] = stmt
	}
	for i, arg := range args {
		switch arg := arg.(type) {
		case nil:
			err = stmt.BindNull(i + 1)
		case int64:
			err = stmt.BindInt64(i+1, arg)
		case string:
			err = stmt.BindText(i+1, arg)
		case []byte:
			err = stmt.BindBlob(i+1, arg)
		default:
			err = fmt.Errorf("a %T cannot be stored", arg)
		}
		if err != nil {
			return nil, err
		}
	}
	return stmt, nil
}

func (c *conn) exec(query string, args ...any) (affected int64, err error) {
	stmt, err := c.prepare(query, args)
	if err != nil {
		return 0, err
	}
	if err := stmt.Exec(); err != nil {
		return 0, err
	}
	return c.Changes(), nil
}

func (c *conn) query(query string, each func(scan func(dest ...any) error) error, args ...any) error {
	stmt, err := c.prepare(query, args)
	if err != nil {
		return err
	}
	scan := func(dest ...any) error {
		for i, d := range dest {
			switch d := d.(type) {
			case *int64:
				*d = stmt.ColumnInt64(i)
			case *string:
				*d = stmt.ColumnText(i)
			case *[]byte:
				*d = stmt.ColumnBlob(i, nil)
			}
		}
		return nil
	}
	for err == nil && stmt.Step() {
		err = each(scan)
	}
	if err == nil {
		err = stmt.Err() // an interrupt, of which Reset may know nothing
	}
	if reset := stmt.Reset(); err == nil {
		err = reset
	}
	return err
}

// transaction runs something in a transaction that writes.
func (c *conn) transaction(run func(session) error) error {
	if _, err := c.exec("BEGIN IMMEDIATE"); err != nil {
		return err
	}
	err := run(c)
	if err == nil {
		_, err = c.exec("COMMIT")
	}
	if err != nil && !c.GetAutocommit() {
		if _, rollback := c.exec("ROLLBACK"); rollback != nil {
			err = errors.Join(err, rollback)
		}
	}
	return err
}

// errNotOpen says that the file could not be opened anew.
var errNotOpen = errors.New("the file is not open")

// errFault says that a file that is mapped into memory was cut off.
var errFault = errors.New("a file of the database was cut off while it was open")

// guarded runs something that works on a file, so that one which is truncated
// meanwhile does not end the process.
func guarded(run func() error) (err error) {
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer func() {
		switch p := recover().(type) {
		case nil:
		case interface{ Addr() uintptr }:
			err = errFault
		default:
			panic(p)
		}
	}()
	return run()
}

// guarded runs something on the connection, unless a fault cut off what was before.
func (c *conn) guarded(run func() error) error {
	if c.cut {
		return errFault
	}
	err := guarded(run)
	c.cut = errors.Is(err, errFault)
	return err
}

// within runs something on the connection until the context ends.
func (c *conn) within(ctx context.Context, run func() error) error {
	if err := c.take(ctx); err != nil {
		return err
	}
	defer c.give()
	if c.Conn == nil {
		return errNotOpen
	}
	return c.guarded(func() error {
		defer c.SetInterrupt(c.SetInterrupt(ctx))
		return run()
	})
}

// checkpoint writes the log's content to the file itself, and empties it.
func (c *conn) checkpoint() error {
	_, _, err := c.WALCheckpoint("main", sqlite3.CHECKPOINT_TRUNCATE)
	return err
}

// quickCheck returns what SQLite finds wrong with the file.
func (c *conn) quickCheck() error {
	var found string
	err := c.query("PRAGMA quick_check(1)", func(scan func(...any) error) error { return scan(&found) })
	if err == nil && found != "ok" {
		err = fmt.Errorf("%w: %s", sqlite3.CORRUPT, found)
	}
	return err
}
