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

// written is how much a byte of events takes on its way into the file, at most: in
// the log and in the file, with its indexes. perBatch comes on top.
const (
	written  = 4
	perBatch = 64 << 10
)

// admit refuses new events where they could get lost, or would take the room that
// is kept.
func (f *file) admit(bytes int) error {
	if err := f.isDamaged(); err != nil {
		return err
	}
	if err := f.checkPlace(); err != nil {
		return err
	}
	free, size, ok := diskRoom(filepath.Dir(f.path))
	reserved := min(size/reservedPart, mostReserved)
	needed := reserved + min(reserved, int64(bytes)*written+perBatch)
	if ok && free < needed && free+f.within() < needed {
		return fmt.Errorf("%w: %s: %w: it has %d bytes free, and %d are kept to hand over the events that are there. Make room",
			store.ErrUnavailable, f.path, errFull, free, reserved)
	}
	return nil
}

// within returns how many bytes of the file may be written over.
func (f *file) within() (bytes int64) {
	if f.writer.Conn == nil {
		return 0
	}
	_ = guarded(func() error { // what is wrong the transaction says
		return f.writer.query("SELECT freelist_count * page_size FROM pragma_freelist_count, pragma_page_size",
			func(scan func(...any) error) error { return scan(&bytes) })
	})
	return bytes
}

// checkpointPages returns how long the log may get before it is written to the
// file: what it has may make the file longer, for which there has to be room.
func (f *file) checkpointPages() int {
	const page, most, least = 4096, 1000, 8
	_, size, ok := diskRoom(filepath.Dir(f.path))
	if !ok {
		return most
	}
	return int(max(least, min(size/reservedPart/page/2, most)))
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
}

// checkedRows is how many rows the slow check looks at each second.
const checkedRows = 200

// checkPortion reads some rows, and makes sure that the indexes lead to them: an
// event that no index has is found by nobody. SQLite itself finds pages that are
// broken.
func (f *file) checkPortion(d *database) {
	ctx, cancel := d.ending()
	defer cancel()
	var rows, last, lost int64
	err := d.look(ctx, func(s session) error {
		return s.query(checkRows, func(scan func(...any) error) error { return scan(&rows, &last, &lost) }, f.checking, int64(checkedRows))
	})
	switch {
	case err != nil:
	case lost > 0:
		_ = f.failed(fmt.Errorf("%w: %d events after row %d are not in its indexes", sqlite3.CORRUPT_INDEX, lost, f.checking))
	case rows < checkedRows:
		f.checking = 0
	default:
		f.checking = last
	}
}

// checkRows counts the rows after one, and those that the indexes do not have.
const checkRows = `SELECT COUNT(*), COALESCE(MAX(seq), 0), COALESCE(SUM(
	NOT EXISTS (SELECT 1 FROM wepay_event i WHERE i.id = e.id AND i.seq = e.seq)
	OR NOT EXISTS (SELECT 1 FROM wepay_event i INDEXED BY wepay_event_queue
		WHERE i.state = e.state AND i.merchant = e.merchant AND i.kind = e.kind AND i.due IS e.due AND i.received = e.received AND i.seq = e.seq)
	OR LENGTH(e.payload) < 0), 0)
FROM (SELECT * FROM wepay_event NOT INDEXED WHERE seq > ? ORDER BY seq LIMIT ?) e`

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
