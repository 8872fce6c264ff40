package sqlstore

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"sync/atomic"
	"time"

	"github.com/ncruces/go-sqlite3"
	"go.uber.org/zap"

	"github.com/windsome/caddy-wepay/caddymodule/store"
)

// file is an SQLite file that this process has open, alone.
type file struct {
	*leases

	path   string
	logger *zap.Logger
	lock   *lockFile

	// The connections: one that writes, one that looks for what is due, and one for
	// those who look in.
	writer, leaser, viewer *conn

	opened  atomic.Pointer[[2]fs.FileInfo] // the file and its log, as they were opened
	damaged atomic.Pointer[error]          // what is wrong with it, for good

	// Of the committer alone: a write or a sync failed, so that it is to be opened
	// anew, and when that was last tried.
	broken bool
	tried  time.Time

	// It was opened anew, so that it may have events whose writing seemed to fail.
	anew atomic.Bool

	// Of tend alone: that the file is not where it was, as it was last logged, and the
	// row after which the slow check goes on.
	astray   error
	checking [len(checks)]int64
}

// openFile opens a file, or makes one, checks it where it may have come to harm,
// and brings its schema up to date.
func openFile(path string, logger *zap.Logger) (f *file, err error) {
	lock, err := acquireLock(path)
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, lock.release())
		}
	}()
	f = &file{
		leases: newLeases(), path: path, logger: logger, lock: lock,
		writer: newConn(), leaser: newConn(), viewer: newConn(),
	}
	suspect, err := f.inspect()
	if err != nil {
		return nil, err
	}
	if err := guarded(func() error { return f.connect(suspect) }); err != nil {
		return nil, f.explain(err)
	}
	return f, nil
}

// inspect looks at the files without opening them, and reports whether they may
// have come to harm since they were last closed.
func (f *file) inspect() (suspect bool, err error) {
	info, err := os.Stat(f.path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return false, nil
	case err != nil:
		return false, fmt.Errorf("looking at the store's file: %w", err)
	case info.IsDir():
		return false, fmt.Errorf("%s is a directory", f.path)
	}
	last := f.lock.last
	if last != "" && info.Size() == 0 {
		return false, fmt.Errorf("%s is empty, and was not when it was last open: put a backup in its place, or remove it to begin with an empty store", f.path)
	}
	if f.lock.wasOpen() {
		// The log is there from the first write on until the file is closed.
		if _, err := os.Stat(f.path + "-wal"); errors.Is(err, fs.ErrNotExist) {
			return false, fmt.Errorf("%[1]s was not closed, and %[1]s-wal, which has its latest events, is missing: put that beside it, "+
				"or remove %[2]s to go on without them", f.path, f.lock.path)
		}
	}
	return last != closedAs(info), nil
}

// create makes the file if it is missing: it has customers' data, and is for its
// owner alone. SQLite would let others read it.
func (f *file) create() error {
	made, err := os.OpenFile(f.path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if errors.Is(err, fs.ErrExist) {
		return nil
	}
	if err != nil {
		return err
	}
	f.logger.Info("made a new store", zap.String("file", f.path))
	return made.Close()
}

// closeToOthers lets those read the file's log who may read the file.
func (f *file) closeToOthers() error {
	info, err := os.Stat(f.path)
	for _, suffix := range []string{"-wal", "-shm"} {
		if err == nil {
			err = os.Chmod(f.path+suffix, info.Mode().Perm())
		}
	}
	return err
}

// connect opens the connections, and makes sure of what they lead to. The caller
// has their turns.
func (f *file) connect(suspect bool) (err error) {
	defer func() {
		if err != nil {
			err = errors.Join(err, f.disconnect())
		}
	}()
	if err = f.create(); err != nil {
		return err
	}
	if err = f.writer.open(f.path, sqlite3.OPEN_READWRITE|sqlite3.OPEN_CREATE); err != nil {
		return err
	}
	if suspect {
		if err := f.writer.quickCheck(); err != nil {
			return err
		}
	}
	if err := f.writer.transaction(func(s session) error { return sqliteDialect.migrate(s, noReplacements) }); err != nil {
		return err
	}
	// Whatever a sync that failed has left in the log is in the file after this.
	if err := f.writer.checkpoint(); err != nil && (f.broken || !errors.Is(err, sqlite3.BUSY)) {
		return err
	}
	if err := f.writer.WALAutoCheckpoint(f.checkpointPages()); err != nil {
		return err
	}
	for _, c := range []*conn{f.leaser, f.viewer} {
		if err := c.open(f.path, sqlite3.OPEN_READWRITE); err != nil {
			return err
		}
	}
	if err := f.closeToOthers(); err != nil {
		return err
	}
	var opened [2]fs.FileInfo
	for i, path := range f.places() {
		if opened[i], err = os.Stat(path); err != nil {
			return err
		}
	}
	f.opened.Store(&opened)
	return errors.Join(syncNames(f.path), f.lock.mark())
}

// places are the files that the database consists of.
func (f *file) places() []string { return []string{f.path, f.path + "-wal"} }

// disconnect closes the connections, of which the caller has the turns.
func (f *file) disconnect() error {
	return errors.Join(f.viewer.close(), f.leaser.close(), f.writer.close())
}

// explain says of an error what it means for the file, and what to do.
func (f *file) explain(err error) error {
	switch {
	case err == nil || harmless(err):
		return err
	case errors.Is(err, sqlite3.CORRUPT) || errors.Is(err, sqlite3.NOTADB) || errors.Is(err, errFault):
		return fmt.Errorf("%w: %s is damaged: %w. Nothing is written to it any more. Stop the server, recover what can be read with "+
			"`sqlite3 %[2]s .recover | sqlite3 recovered.db`, and put that, or a backup, in its place", store.ErrUnavailable, f.path, err)
	case f.isFull(err):
		return fmt.Errorf("%w: %s: %w: %w. Make room", store.ErrUnavailable, f.path, errFull, err)
	case errors.Is(err, sqlite3.INTERRUPT):
		return fmt.Errorf("%w: %s: %w", store.ErrUnavailable, f.path, context.DeadlineExceeded)
	default:
		var code sqlite3.ExtendedErrorCode
		if errors.As(err, &code) {
			err = fmt.Errorf("%w (code %d)", err, code)
		}
		return fmt.Errorf("%w: %s: %w", store.ErrUnavailable, f.path, err)
	}
}

// failed remembers what an error says of the file, and explains it.
func (f *file) failed(err error) error {
	explained := f.explain(err)
	switch {
	case err == nil || harmless(err):
	case errors.Is(err, sqlite3.CORRUPT) || errors.Is(err, sqlite3.NOTADB) || errors.Is(err, errFault):
		if f.damaged.CompareAndSwap(nil, &explained) {
			f.logger.Error("the store's file is damaged", zap.Error(explained))
		}
	}
	return explained
}

// isDamaged returns what is wrong with the file for good.
func (f *file) isDamaged() error {
	if err := f.damaged.Load(); err != nil {
		return *err
	}
	return nil
}

// update runs a transaction. The committer alone calls it.
func (f *file) update(_ context.Context, run func(session) error) error {
	if err := f.isDamaged(); err != nil {
		return err
	}
	if err := f.reopen(); err != nil {
		return err
	}
	err := f.writer.guarded(func() error { return f.writer.transaction(run) })
	switch {
	case f.isFull(err):
		// What the log has takes no more room in the file, and leaves some.
		err = errors.Join(err, f.writer.guarded(f.writer.checkpoint))
	case errors.Is(err, sqlite3.IOERR):
		f.broken = true
	}
	return f.failed(err)
}

// reopenPause is how long a file that a write failed on is left alone.
const reopenPause = time.Second

// reopen opens a file anew on which a write or a sync failed, and checks it: until
// then it is unknown what of it is on disk.
func (f *file) reopen() error {
	if !f.broken {
		return nil
	}
	if time.Since(f.tried) < reopenPause {
		return fmt.Errorf("%w: %s: writing to it failed a moment ago", store.ErrUnavailable, f.path)
	}
	f.tried = time.Now()
	if err := f.checkPlace(); err != nil {
		return err // what is there is not what was open
	}
	for _, c := range []*conn{f.leaser, f.viewer} {
		<-c.turn
		defer c.give()
	}
	if err := errors.Join(f.lock.write("closing"), f.disconnect()); err != nil {
		f.logger.Warn("closing the store's file after a write failed", zap.Error(err))
	}
	if err := guarded(func() error { return f.connect(true) }); err != nil {
		return f.failed(err)
	}
	f.broken = false
	f.changed()
	f.anew.Store(true)
	f.logger.Info("the store's file is open again, and whole", zap.String("file", f.path))
	return nil
}

// view looks in.
func (f *file) view(ctx context.Context, run func(session) error) error {
	return f.failed(f.viewer.within(ctx, func() error { return run(f.viewer) }))
}

// close closes the file, and says that it was.
func (f *file) close() error {
	for _, c := range []*conn{f.leaser, f.viewer} {
		<-c.turn // each has its time limit
	}
	whole := f.isDamaged() == nil && !f.broken
	if whole {
		if err := f.lock.write("closing"); err != nil {
			f.logger.Warn("writing the lock of the store's file", zap.Error(err)) // the next start checks it
		}
	}
	err := f.disconnect()
	if err == nil && whole {
		err = f.lock.markClosed(f.path)
	}
	return errors.Join(err, f.lock.release())
}
