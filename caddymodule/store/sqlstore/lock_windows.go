package sqlstore

import (
	"os"

	"golang.org/x/sys/windows"
)

var errLocked = error(windows.ERROR_LOCK_VIOLATION)

// lockExclusive locks a file, or returns errLocked. The byte that is locked is far
// behind what the file says, so that others may read that.
func lockExclusive(f *os.File) error {
	at := &windows.Overlapped{OffsetHigh: 1}
	return windows.LockFileEx(windows.Handle(f.Fd()), windows.LOCKFILE_EXCLUSIVE_LOCK|windows.LOCKFILE_FAIL_IMMEDIATELY, 0, 1, 0, at)
}
