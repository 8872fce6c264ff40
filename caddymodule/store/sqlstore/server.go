package sqlstore

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"math/rand/v2"
	"strconv"
	"strings"
	"sync"
	"time"

	"go.uber.org/zap"

	"github.com/windsome/caddy-wepay/caddymodule/store"
)

// server is a database elsewhere, which several Caddys may share.
type server struct {
	*sql.DB

	dialect *serverDialect
	logger  *zap.Logger
	texts   sync.Map // statements as the server wants them, by themselves

	mu   sync.Mutex
	held map[int64]int64 // the numbers of this process's leases, by row

	pollAt time.Time
	away   bool // as it was last logged
}

// serverDialect is what differs between servers.
type serverDialect struct {
	dialect

	// clock is the server's time in milliseconds; numbered parameters are $1, $2 ….
	clock    string
	numbered bool

	// prepare brings the schema up to date, while no other Caddy does, and says what
	// is wrong with the server's settings.
	prepare func(ctx context.Context, s *server) error

	// refused reports whether a server refuses what is to be stored, discard whether
	// a connection is of no use any more, and retry whether a transaction may succeed
	// if it is run again.
	refused, discard, retry func(error) bool
}

// The connections to a server, at most; those that are idle are kept for a while.
const (
	mostConnections     = 20
	mostIdleConnections = 10
	idleConnection      = 5 * time.Minute
)

// How long a server may take to accept a connection, and to answer on one where its
// driver knows no contexts.
const (
	dialTimeout = 3 * time.Second
	readTimeout = 10 * time.Second
)

// openServer makes sure that a server answers, and brings its schema up to date.
func openServer(ctx context.Context, db *sql.DB, d *serverDialect, logger *zap.Logger) (*server, error) {
	db.SetMaxOpenConns(mostConnections)
	db.SetMaxIdleConns(mostIdleConnections)
	db.SetConnMaxIdleTime(idleConnection)
	s := &server{DB: db, dialect: d, logger: logger, held: make(map[int64]int64)}
	ctx, cancel := context.WithTimeout(ctx, openTimeout)
	defer cancel()
	if err := d.prepare(ctx, s); err != nil {
		return nil, errors.Join(fmt.Errorf("opening the store in %s: %w", d.name, err), db.Close())
	}
	return s, nil
}

// statements runs statements by database/sql.
type statements struct {
	ctx    context.Context
	server *server
	on     interface {
		ExecContext(ctx context.Context, query string, args ...any) (sql.Result, error)
		QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error)
	}
}

func (s statements) exec(query string, args ...any) (affected int64, err error) {
	result, err := s.on.ExecContext(s.ctx, s.text(query), args...)
	if err != nil {
		return 0, err
	}
	return result.RowsAffected()
}

func (s statements) query(query string, each func(scan func(dest ...any) error) error, args ...any) (err error) {
	rows, err := s.on.QueryContext(s.ctx, s.text(query), args...)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, rows.Close()) }()
	for rows.Next() {
		if err := each(rows.Scan); err != nil {
			return err
		}
	}
	return rows.Err()
}

// text returns a statement with its parameters as the server wants them.
func (s statements) text(query string) string {
	if !s.server.dialect.numbered {
		return query
	}
	if text, ok := s.server.texts.Load(query); ok {
		return text.(string)
	}
	var text []byte
	for i, part := range strings.Split(query, "?") {
		if i > 0 {
			text = strconv.AppendInt(append(text, '$'), int64(i), 10)
		}
		text = append(text, part...)
	}
	s.server.texts.Store(query, string(text))
	return string(text)
}

// mostTries is how often a transaction is run that another one got in the way of.
const mostTries = 4

// update runs a transaction.
func (s *server) update(ctx context.Context, run func(session) error) error {
	var err error
	for range mostTries {
		if err = s.try(ctx, run); err == nil || ctx.Err() != nil || !errors.Is(err, errRace) && !s.dialect.retry(err) {
			break
		}
	}
	return s.explain(err)
}

func (s *server) try(ctx context.Context, run func(session) error) error {
	conn, err := s.Conn(ctx)
	if err != nil {
		return err
	}
	err = s.transaction(ctx, conn, run)
	if err != nil && s.dialect.discard(err) {
		err = errors.Join(err, unless(driver.ErrBadConn, conn.Raw(func(any) error { return driver.ErrBadConn })))
	}
	return errors.Join(err, unless(sql.ErrConnDone, conn.Close()))
}

// transaction runs something in a transaction on a connection.
func (s *server) transaction(ctx context.Context, conn *sql.Conn, run func(session) error) error {
	tx, err := conn.BeginTx(ctx, &sql.TxOptions{Isolation: sql.LevelReadCommitted})
	if err != nil {
		return err
	}
	if err := run(statements{ctx, s, tx}); err != nil {
		return errors.Join(err, unless(sql.ErrTxDone, tx.Rollback()))
	}
	return tx.Commit()
}

// view looks in.
func (s *server) view(ctx context.Context, run func(session) error) error {
	return s.explain(run(statements{ctx, s, s.DB}))
}

// explain says that the database is not available, if that is what an error means.
func (s *server) explain(err error) error {
	if err == nil || harmless(err) || s.dialect.refused(err) {
		return err
	}
	return fmt.Errorf("%w: %s: %w", store.ErrUnavailable, s.dialect.name, err)
}

// admit refuses nothing: what there is no room for the server refuses itself.
func (s *server) admit(int, int) error { return nil }

// unless returns an error unless it is another one.
func unless(expected, err error) error {
	if errors.Is(err, expected) {
		return nil
	}
	return err
}

// added and changed say nothing new: what there is the database says.
func (s *server) added([]*job, time.Time) {}
func (s *server) changed()                {}

// lease leases what is due. When something else will be the next poll says.
func (s *server) lease(ctx context.Context, to *instance, queue store.Queue, limit int, term time.Duration) (leased []*store.Lease, next time.Time, err error) {
	options := to.db.options.Load()
	now := options.Now()
	number := rand.Int64()
	err = s.update(ctx, func(tx session) error {
		leased = nil
		var rows []any
		take := func(condition string, due time.Time) error {
			query := selectEvent + "wepay_event WHERE state = 'waiting' AND merchant = ? AND kind = ? AND " + condition +
				" AND (leased_until IS NULL OR leased_until <= " + s.dialect.clock + ") ORDER BY due, seq LIMIT ? FOR UPDATE SKIP LOCKED"
			return tx.query(query, func(scan func(...any) error) error {
				e, err := scanEvent(scan)
				if err == nil {
					leased = append(leased, &store.Lease{Event: e.Event, Token: &token{holder: to, seq: e.seq, number: number, queue: queue}})
					rows = append(rows, e.seq)
				}
				return err
			}, queue.Merchant, string(queue.Kind), millis(due), int64(limit))
		}
		err := take("due <= ?", now)
		if err == nil && len(leased) == 0 && options.LongestWait > 0 {
			err = take("due > ?", now.Add(options.LongestWait))
		}
		if err != nil || len(rows) == 0 {
			return err
		}
		_, err = tx.exec("UPDATE wepay_event SET lease = ?, leased_until = "+s.dialect.clock+" + ? WHERE seq IN "+marks(len(rows)),
			append([]any{number, term.Milliseconds()}, rows...)...)
		return err
	})
	if err != nil {
		return nil, time.Time{}, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, lease := range leased {
		s.held[lease.Token.(*token).seq] = number
	}
	if len(leased) > 0 {
		next = now // there may be more
	}
	return leased, next, nil
}

// leased reports whether an event is held.
func (s *server) leased(tx session, seq int64) (held bool, err error) {
	var n int64
	err = tx.query("SELECT COUNT(*) FROM wepay_event WHERE seq = ? AND leased_until > "+s.dialect.clock,
		func(scan func(...any) error) error { return scan(&n) }, seq)
	return n > 0, err
}

// guard makes a statement change an event of one lease alone.
func (s *server) guard(t *token) (string, []any, error) {
	return " AND lease = ?", []any{t.number}, nil
}

// freed forgets the lease of an event.
func (s *server) freed(seq int64, of *token, _ time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if of == nil || s.held[seq] == of.number {
		delete(s.held, seq)
	}
}

// release ends the leases of this process, so that others take their events at once.
func (s *server) release(ctx context.Context, _ *instance) error {
	s.mu.Lock()
	var rows, numbers []any
	for seq, number := range s.held {
		rows, numbers = append(rows, seq), append(numbers, number)
	}
	s.mu.Unlock()
	if len(rows) == 0 {
		return nil
	}
	return s.update(ctx, func(tx session) error {
		_, err := tx.exec("UPDATE wepay_event SET leased_until = NULL WHERE seq IN "+marks(len(rows))+" AND lease IN "+marks(len(rows)),
			append(rows, numbers...)...)
		return err
	})
}

// pollShare is the part of the time that polls take at most: what takes long is
// done less often.
const pollShare = 10

// tend notices what other servers put, and leases that have run out.
func (s *server) tend(d *database) {
	if time.Now().Before(s.pollAt) {
		return
	}
	ctx, cancel := d.ending()
	defer cancel()
	began := time.Now()
	err := d.scheduleWaiting(ctx)
	s.pollAt = time.Now().Add((pollShare - 1) * time.Since(began))
	if away := err != nil && ctx.Err() == nil; away != s.away {
		s.away = away
		if away {
			s.logger.Error("the store's database does not answer", zap.Error(err))
		} else {
			s.logger.Info("the store's database answers again")
		}
	}
}

func (s *server) close() error { return s.Close() }
