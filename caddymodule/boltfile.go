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
func openBoltFile(path string, readOnly bool, logger *zap.Logger) (*boltStore, error) {
	s := newBoltStore(path, logger)
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

func newBoltStore(path string, logger *zap.Logger) *boltStore {
	return &boltStore{
		path: path, logger: logger, numbers: &boltNumbers{byID: make(map[idHash]uint64)}, leases: newBoltLeases(),
		damage: make(chan struct{}, 1), rebuild: make(chan struct{}, 1), closed: make(chan struct{}),
	}
}

// open opens the file for writing only once it was looked at without, and is
// whole or made anew. The pages that were looked at are out of memory then.
func (s *boltStore) open(readOnly bool) error {
	err := s.look()
	if err != nil || readOnly {
		return err
	}
	if s.untrue != nil {
		if err := errors.Join(s.mend(), s.db.Close()); err != nil {
			return err
		}
		if err := s.look(); err != nil {
			return err
		}
	}
	last, err := s.lastTransaction()
	if err := errors.Join(s.untrue, err, s.db.Close()); err != nil {
		return err
	}
	if err := guard(s.path, func() error { return s.openDB(false) }); err != nil {
		return errors.Join(err, s.leave())
	}
	now, err := s.lastTransaction()
	if err == nil && now != last { // something was written meanwhile
		err = s.readIndexes()
	}
	if err != nil {
		return errors.Join(err, s.db.Close())
	}
	return nil
}

// look opens the file for reading, makes sure that it is an outbox, and finds
// out whether it is whole.
func (s *boltStore) look() error {
	if err := guard(s.path, s.inspect); err != nil {
		return errors.Join(err, s.leave())
	}
	if s.untrue = s.readIndexes(); s.untrue == nil {
		s.untrue = s.read((*boltTx).checkUnlisted)
	}
	return nil
}

// leave gives a file back of which bbolt could not be made.
func (s *boltStore) leave() error {
	if s.file == nil {
		return nil
	}
	if err := s.file.Close(); err != nil && !errors.Is(err, os.ErrClosed) {
		return err
	}
	return nil
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
		s.file, err = os.OpenFile(name, flag&^os.O_CREATE, mode) // what is gone is not made here
		return s.file, err
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

// makeBoltFile makes a file unless there is one.
func makeBoltFile(path string) error {
	if _, err := os.Stat(path); !errors.Is(err, os.ErrNotExist) {
		return err
	}
	aside, err := makeAside(path, func(*boltStore) error { return nil })
	if err != nil {
		return err
	}
	defer os.Remove(aside)                                                       // which is another name by then
	if err := os.Link(aside, path); err != nil && !errors.Is(err, os.ErrExist) { // another process was quicker
		return err
	}
	return syncNames(path)
}

// makeAside makes a file beside another one, and has it filled. It gets that
// one's name only when it is whole, so that one that was half made is never taken
// for one that is damaged.
func makeAside(path string, fill func(*boltStore) error) (aside string, err error) {
	file, err := os.CreateTemp(filepath.Dir(path), filepath.Base(path)+".new-*")
	if err != nil {
		return "", err
	}
	name := file.Name()
	defer func() {
		if err != nil {
			err = errors.Join(err, os.Remove(name))
		}
	}()
	if err := file.Close(); err != nil {
		return "", err
	}
	s := newBoltStore(name, zap.NewNop())
	if s.db, err = bolt.Open(name, 0o600, boltOptions(false)); err != nil {
		return "", err
	}
	err = s.db.Update(func(tx *bolt.Tx) error { return (&boltTx{Tx: tx}).prepare() })
	if err == nil {
		err = fill(s)
	}
	return name, errors.Join(err, s.db.Close())
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
	kept = damagedName(path, info.ModTime())
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
