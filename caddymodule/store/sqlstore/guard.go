package sqlstore

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"

	"github.com/ncruces/go-sqlite3"
	"go.uber.org/zap"

	"github.com/windsome/caddy-wepay/caddymodule/store"
)

// errFull says that new events would take what those that are there need.
var errFull = errors.New("the disk is full")

// What is kept free on the file's disk, an eighth of it and no more than
// mostReserved bytes: to note what came of an event takes room too.
const (
	reservedPart = 8
	mostReserved = 8 << 20
)

// What a batch takes on its way into the file, at most: pages of the log for each
// event and its indexes, and what all of them share.
const (
	pageSize  = 4096
	perEvent  = 5 * pageSize
	perBatch  = 16 * pageSize
	perByte   = 2
	mostPages = 1000 // SQLite's default
)

// admit refuses new events where they could get lost, or would take the room that
// is kept.
func (f *file) admit(events, bytes int) error {
	if err := f.isDamaged(); err != nil {
		return err
	}
	if err := f.checkPlace(); err != nil {
		return err
	}
	free, reserved, ok := f.room()
	needed := reserved + int64(events)*perEvent + int64(bytes)*perByte + perBatch
	if ok && free < needed && free+f.within() < needed {
		return fmt.Errorf("%w: %s: %w: it has %d bytes free, and %d are kept to hand over the events that are there. Make room",
			store.ErrUnavailable, f.path, errFull, free, reserved)
	}
	return nil
}

// room returns how many bytes the file's disk has free, and how many are kept.
func (f *file) room() (free, reserved int64, ok bool) {
	free, size, ok := diskRoom(filepath.Dir(f.path))
	return free, min(size/reservedPart, mostReserved), ok
}

// isFull reports whether an error says that the disk is full. The driver says only
// that a write failed.
func (f *file) isFull(err error) bool {
	if errors.Is(err, sqlite3.FULL) {
		return true
	}
	free, reserved, ok := f.room()
	return errors.Is(err, sqlite3.IOERR_WRITE) && ok && free < reserved
}

// within returns how many bytes of the file may be written over.
func (f *file) within() (bytes int64) {
	if f.writer.Conn == nil {
		return 0
	}
	_ = f.writer.guarded(func() error { // what is wrong the transaction says
		return f.writer.query("SELECT freelist_count * page_size FROM pragma_freelist_count, pragma_page_size",
			func(scan func(...any) error) error { return scan(&bytes) })
	})
	return bytes
}

// checkpointPages returns how long the log may get before it is written to the
// file: what it has may make the file longer, for which there has to be room.
func (f *file) checkpointPages() int {
	_, reserved, ok := f.room()
	if !ok {
		return mostPages
	}
	return int(max(8, min(reserved/pageSize/2, mostPages)))
}

// checkPlace makes sure that the paths still lead to what is open: what is written
// to a file that was moved or removed is durable, but no later start finds it.
func (f *file) checkPlace() error {
	opened := f.opened.Load()
	for i, path := range f.places() {
		there, err := os.Stat(path)
		switch {
		case err == nil && os.SameFile(opened[i], there):
		case err != nil && !errors.Is(err, fs.ErrNotExist):
			return fmt.Errorf("%w: looking for the store's file: %w", store.ErrUnavailable, err)
		default:
			return fmt.Errorf("%w: %s is not the file that this server has open, which was moved, removed or replaced. New events are refused; "+
				"those that were accepted are handed over. Move that file back here, or restart the server", store.ErrUnavailable, path)
		}
	}
	return nil
}

// tend says at once when the file is no longer where it was, and looks for damage.
func (f *file) tend(d *database) {
	err := f.checkPlace()
	if (err == nil) != (f.astray == nil) {
		if err != nil {
			f.logger.Error("the store's file is not where it was", zap.Error(err))
		} else {
			f.logger.Info("the store's file is where it was", zap.String("file", f.path))
		}
		f.astray = err
	}
	if f.isDamaged() == nil {
		f.checkPortion(d)
	}
	if f.anew.Swap(false) {
		ctx, cancel := d.ending()
		defer cancel()
		if err := d.scheduleWaiting(ctx); err != nil {
			f.anew.Store(true) // the next time
		}
	}
}

// checkedRows is how many rows the slow check looks at each second.
const checkedRows = 200

// checkPortion reads some rows of each table, and makes sure that the indexes lead to
// them: an event that no index has is never found. SQLite itself finds pages that are
// broken.
func (f *file) checkPortion(d *database) {
	ctx, cancel := d.ending()
	defer cancel()
	for i, check := range checks {
		var rows, last, lost int64
		err := d.look(ctx, func(s session) error {
			return s.query(check.query, func(scan func(...any) error) error { return scan(&rows, &last, &lost) }, f.checking[i], int64(checkedRows))
		})
		switch {
		case err != nil:
		case lost > 0:
			_ = f.failed(fmt.Errorf("%w: %d rows of %s after row %d are not in its indexes", sqlite3.CORRUPT_INDEX, lost, check.table, f.checking[i]))
		case rows < checkedRows:
			f.checking[i] = 0
		default:
			f.checking[i] = last
		}
	}
}

// checks count the rows of a table after one, and those that an index does not have
// by which they are to be found. A + keeps SQLite from finding them by seq.
var checks = [...]struct{ table, query string }{
	{"wepay_event", `SELECT COUNT(*), COALESCE(MAX(seq), 0), COALESCE(SUM(
	NOT EXISTS (SELECT 1 FROM wepay_event i WHERE i.id = e.id AND +i.seq = e.seq)
	OR NOT EXISTS (SELECT 1 FROM wepay_event i INDEXED BY wepay_event_queue
		WHERE i.state = e.state AND i.merchant = e.merchant AND i.kind = e.kind AND i.due IS e.due AND i.received = e.received AND i.seq = e.seq)
	OR LENGTH(e.payload) < 0), 0)
FROM (SELECT * FROM wepay_event NOT INDEXED WHERE seq > ? ORDER BY seq LIMIT ?) e`},
	{"wepay_order", `SELECT COUNT(*), COALESCE(MAX(seq), 0), COALESCE(SUM(
	NOT EXISTS (SELECT 1 FROM wepay_order i
		WHERE i.number = o.number AND i.kind = o.kind AND i.mch_id = o.mch_id AND i.sub_mch_id = o.sub_mch_id AND +i.seq = o.seq)
	OR o.due IS NOT NULL AND NOT EXISTS (SELECT 1 FROM wepay_order i INDEXED BY wepay_order_due
		WHERE i.merchant = o.merchant AND i.due = o.due AND i.seq = o.seq)
	OR LENGTH(o.trace) < 0), 0)
FROM (SELECT * FROM wepay_order NOT INDEXED WHERE seq > ? ORDER BY seq LIMIT ?) o`},
}

// realPath returns the one path of a file that may be reached by several.
func realPath(path string) string {
	if dir, err := filepath.EvalSymlinks(filepath.Dir(path)); err == nil {
		path = filepath.Join(dir, filepath.Base(path))
	}
	if real, err := filepath.EvalSymlinks(path); err == nil {
		return real
	}
	return path
}

// syncNames makes the name of a file, and of its directory, durable: else it may
// be gone after the loss of power, however often it was synced itself.
func syncNames(path string) error {
	dir := filepath.Dir(path)
	return errors.Join(syncDirectory(dir), syncDirectory(filepath.Dir(dir)))
}

func syncDirectory(dir string) error {
	if runtime.GOOS == "windows" { // which cannot, and need not
		return nil
	}
	file, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(file.Sync(), file.Close())
}
