//go:build linux || darwin || freebsd

package sqlstore

import "golang.org/x/sys/unix"

// diskRoom returns how many bytes of a directory's disk may be written still, and
// how many it has.
func diskRoom(dir string) (free, size int64, ok bool) {
	var disk unix.Statfs_t
	if err := unix.Statfs(dir, &disk); err != nil {
		return 0, 0, false
	}
	block := int64(disk.Bsize)
	return int64(disk.Bavail) * block, int64(disk.Blocks) * block, disk.Blocks > 0
}
