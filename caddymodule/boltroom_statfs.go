//go:build linux || darwin || freebsd

package caddymodule

import (
	"os"
	"syscall"
)

// diskRoom returns how many bytes of a file's disk may be written still, and how
// many it has.
func diskRoom(file *os.File) (free, size int64, ok bool) {
	var disk syscall.Statfs_t
	if err := syscall.Fstatfs(int(file.Fd()), &disk); err != nil {
		return 0, 0, false
	}
	block := int64(disk.Bsize)
	return int64(disk.Bavail) * block, int64(disk.Blocks) * block, disk.Blocks > 0
}
