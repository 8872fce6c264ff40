package sqlstore

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strconv"
	"strings"
	"time"
)

// lockFile keeps other Caddys away from a file, while sqlite3 may read it. The lock
// ends with the process. What it says, while it is locked, is the process's number;
// then how the file was when it was closed.
type lockFile struct {
	path string
	file *os.File
	last string // what it said before it was locked
}

// lockTimeout is how long a process that ends may keep its lock.
const (
	lockTimeout = 3 * time.Second
	lockPause   = 50 * time.Millisecond
)

// acquireLock locks the file beside another one, or says who has it locked.
func acquireLock(path string) (*lockFile, error) {
	l := &lockFile{path: path + ".lock"}
	var err error
	if l.file, err = os.OpenFile(l.path, os.O_RDWR|os.O_CREATE, 0o600); err != nil {
		return nil, fmt.Errorf("locking the store's file: %w", err)
	}
	err = lockExclusive(l.file)
	for deadline := time.Now().Add(lockTimeout); errors.Is(err, errLocked) && time.Now().Before(deadline); {
		time.Sleep(lockPause)
		err = lockExclusive(l.file)
	}
	said, readErr := l.read()
	switch {
	case errors.Is(err, errLocked):
		err = fmt.Errorf("%s is open in another process%s: each Caddy needs a file of its own; several share `store postgres` or `store mysql`",
			path, processOf(said))
	case err != nil:
		err = fmt.Errorf("locking %s: %w", l.path, err)
	case readErr != nil:
		err = fmt.Errorf("reading %s: %w", l.path, readErr)
	default:
		l.last = said
		return l, nil
	}
	return nil, errors.Join(err, l.file.Close())
}

func (l *lockFile) read() (string, error) {
	text, err := io.ReadAll(io.NewSectionReader(l.file, 0, 256))
	return strings.TrimSpace(string(text)), err
}

// processOf returns the process that a lock says it is of.
func processOf(said string) string {
	if _, err := strconv.Atoi(said); err != nil {
		return ""
	}
	return " (" + said + ")"
}

// wasOpen reports whether the file was not closed since it was last open.
func (l *lockFile) wasOpen() bool { return processOf(l.last) != "" }

// mark writes down that the file is open, and markClosed how it was closed.
func (l *lockFile) mark() error { return l.write(strconv.Itoa(os.Getpid())) }

func (l *lockFile) markClosed(path string) error {
	info, err := os.Stat(path)
	if errors.Is(err, fs.ErrNotExist) { // it was removed
		return nil
	}
	if err != nil {
		return err
	}
	return l.write(closedAs(info))
}

func closedAs(info fs.FileInfo) string {
	return fmt.Sprintf("closed, %d bytes, %s", info.Size(), info.ModTime().UTC().Format(time.RFC3339Nano))
}

func (l *lockFile) write(text string) error {
	if err := l.file.Truncate(0); err != nil {
		return err
	}
	if _, err := l.file.WriteAt([]byte(text+"\n"), 0); err != nil {
		return err
	}
	return l.file.Sync()
}

func (l *lockFile) release() error { return l.file.Close() }
