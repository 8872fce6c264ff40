package caddymodule

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"

	bolt "go.etcd.io/bbolt"
	bolterrors "go.etcd.io/bbolt/errors"
	"go.uber.org/zap"
)

// openBoltFile opens a file that is an outbox, or makes one. A damaged one
// is copied aside and refused: to begin with an empty one in its place would
// lose what was acknowledged.
func openBoltFile(path string, readOnly bool) (*boltStore, error) {
	s := &boltStore{path: path, logger: zap.NewNop(), numbers: new(boltNumbers), leases: newBoltLeases(), rebuild: make(chan struct{}, 1), closed: make(chan struct{})}
	if !readOnly {
		if err := makeBoltFile(path); err != nil {
			return nil, fmt.Errorf("making %s: %w", path, err)
		}
	}
	err := s.open(readOnly)
	switch {
	case err == nil:
		return s, nil
	case errors.Is(err, bolterrors.ErrTimeout):
		return nil, fmt.Errorf("%s is locked, another process has it open: %w", path, err)
	case isDamage(err) && !readOnly:
		kept, copyErr := keepAside(path)
		if copyErr != nil {
			return nil, fmt.Errorf("%s is damaged, and copying it aside failed: %w", path, errors.Join(err, copyErr))
		}
		return nil, fmt.Errorf("%s is damaged; a copy is at %s. Put a backup in its place, or move it away to begin with an empty one: %w", path, kept, err)
	default:
		return nil, fmt.Errorf("%s: %w", path, err)
	}
}

// open opens the file for writing only once it was looked at without. The pages
// that were looked at are out of memory then.
func (s *boltStore) open(readOnly bool) error {
	return guard(s.path, func() error {
		if err := s.inspect(); err != nil {
			return err
		}
		s.untrue = s.readIndexes()
		if readOnly {
			return nil
		}
		last, err := s.lastTransaction()
		if err := errors.Join(err, s.db.Close()); err != nil {
			return err
		}
		if err := s.openDB(false); err != nil {
			return err
		}
		if now, err := s.lastTransaction(); err != nil || now == last {
			return err
		}
		s.untrue = s.readIndexes() // something was written meanwhile
		return nil
	})
}

func (s *boltStore) lastTransaction() (id int, err error) {
	err = s.db.View(func(tx *bolt.Tx) error {
		id = tx.ID()
		return nil
	})
	return id, err
}

func (s *boltStore) openDB(readOnly bool) (err error) {
	options := boltOptions(readOnly)
	options.OpenFile = func(name string, flag int, mode os.FileMode) (*os.File, error) {
		return os.OpenFile(name, flag&^os.O_CREATE, mode) // what is gone is not made here
	}
	s.db, err = bolt.Open(s.path, 0o600, options)
	return err
}

func boltOptions(readOnly bool) *bolt.Options {
	return &bolt.Options{Timeout: lockTimeout, FreelistType: bolt.FreelistMapType, ReadOnly: readOnly}
}

// inspect opens the file for reading and makes sure that it is an outbox. That
// its end is missing must be known before anything is looked for there.
func (s *boltStore) inspect() error {
	info, err := os.Stat(s.path)
	switch {
	case err != nil:
		return err
	case info.IsDir():
		return errors.New("it is a directory")
	case info.Size() == 0:
		return fmt.Errorf("%w: it is empty", errDamaged)
	}
	if err := s.openDB(true); err != nil {
		return err
	}
	err = s.db.View(func(tx *bolt.Tx) error {
		if info.Size() < tx.Size() {
			return fmt.Errorf("%w: it has %d bytes of %d", errDamaged, info.Size(), tx.Size())
		}
		if err := checkPages(tx); err != nil {
			return err
		}
		return (&boltTx{Tx: tx}).checkVersion()
	})
	if err != nil {
		return errors.Join(err, s.db.Close())
	}
	return nil
}

// makeBoltFile makes a file unless there is one. It is made aside and then gets
// its name, so that one that was half made is never taken for one that is
// damaged.
func makeBoltFile(path string) error {
	if _, err := os.Stat(path); !errors.Is(err, os.ErrNotExist) {
		return err
	}
	dir := filepath.Dir(path)
	file, err := os.CreateTemp(dir, filepath.Base(path)+".new-*")
	if err != nil {
		return err
	}
	aside := file.Name()
	defer os.Remove(aside) // which is another name by then, or was of no use
	if err := file.Close(); err != nil {
		return err
	}
	db, err := bolt.Open(aside, 0o600, boltOptions(false))
	if err != nil {
		return err
	}
	err = db.Update(func(tx *bolt.Tx) error { return (&boltTx{Tx: tx}).prepare() })
	if err := errors.Join(err, db.Close()); err != nil {
		return err
	}
	if err := os.Link(aside, path); err != nil && !errors.Is(err, os.ErrExist) { // another process was quicker
		return err
	}
	return errors.Join(syncDirectory(dir), syncDirectory(filepath.Dir(dir)))
}

// syncDirectory makes the names in a directory durable: else a file may be gone
// after the loss of power, however often it was synced itself.
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

// isDamage tells a file that is broken, or never was an outbox, from one that
// cannot be opened for another reason.
func isDamage(err error) bool {
	return errors.Is(err, errDamaged) || errors.Is(err, bolterrors.ErrInvalid) || errors.Is(err, bolterrors.ErrChecksum)
}

// keepAside copies a file beside itself. A copy that is there already, of a
// start before, is of the same file and stays.
func keepAside(path string) (kept string, err error) {
	from, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer from.Close()
	info, err := from.Stat()
	if err != nil {
		return "", err
	}
	kept = path + ".damaged-" + info.ModTime().UTC().Format("20060102T150405.000000000Z")
	to, err := os.OpenFile(kept, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if errors.Is(err, os.ErrExist) {
		return kept, nil
	}
	if err != nil {
		return "", err
	}
	_, err = io.Copy(to, from)
	return kept, errors.Join(err, to.Sync(), to.Close())
}
