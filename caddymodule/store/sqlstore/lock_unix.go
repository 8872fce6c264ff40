//go:build unix && !aix && !solaris

package sqlstore

import (
	"errors"
	"os"

	"golang.org/x/sys/unix"
)

var errLocked = error(unix.EWOULDBLOCK)

// lockExclusive locks a file, or returns errLocked.
func lockExclusive(f *os.File) error {
	for {
		err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		if !errors.Is(err, unix.EINTR) {
			return err
		}
	}
}
