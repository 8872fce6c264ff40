//go:build !linux && !darwin && !freebsd

package sqlstore

// diskRoom does not know.
func diskRoom(string) (free, size int64, ok bool) { return 0, 0, false }
