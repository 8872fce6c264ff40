package sqlstore

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/ncruces/go-sqlite3"
	"github.com/ncruces/go-sqlite3/vfs"

	"github.com/windsome/caddy-wepay/caddymodule/store"
)

// disk mounts a disk of its own, of some size, until the test's end.
func disk(t *testing.T, size string) string {
	t.Helper()
	dir := t.TempDir()
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, "size="+size); err != nil {
		t.Skipf("only root may mount a disk: %v", err)
	}
	t.Cleanup(func() {
		if err := syscall.Unmount(dir, syscall.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	return dir
}

// On a disk that new events have filled there is room for what becomes of those
// that are there: each is handed over, and goes, and others come.
func TestSQLiteFullDisk(t *testing.T) {
	for _, size := range []string{"2m", "12m"} {
		t.Run(size, func(t *testing.T) {
			path := filepath.Join(disk(t, size), "store.db")
			s, _ := openSQLiteAt(t, path)
			stored, err := fillDisk(t, s)
			if !errors.Is(err, store.ErrUnavailable) || !errors.Is(err, errFull) || !strings.Contains(err.Error(), path) || stored < 200 {
				t.Fatalf("%d events fit (%v)", stored, err)
			}
			if got := drain(t, s); len(got) != stored {
				t.Errorf("%d events are handed over, of %d", len(got), stored)
			}
			if err := s.Close(); err != nil {
				t.Error(err)
			}
			s = provisioned(t, &SQLite{Path: path})
			open(t, s, store.Options{Keep: time.Millisecond, KeepRows: time.Millisecond})
			await(t, "all is gone", func() bool {
				counts, err := s.Count(t.Context())
				return err == nil && len(counts) == 0
			})
			if _, err := s.Put(t.Context(), event("evt_again")); err != nil {
				t.Errorf("Put when there is room again: %v", err)
			}
		})
	}
}

// fillDisk puts events until one is refused, and returns how many were not.
func fillDisk(t *testing.T, s store.Store) (stored int, refused error) {
	t.Helper()
	var next, added atomic.Int64
	var first atomic.Pointer[error]
	var puts sync.WaitGroup
	for range 32 {
		puts.Go(func() {
			for first.Load() == nil {
				_, err := s.Put(t.Context(), event(eventID(int(next.Add(1)))))
				if err != nil {
					first.CompareAndSwap(nil, &err)
					return
				}
				added.Add(1)
			}
		})
	}
	puts.Wait()
	return int(added.Load()), *first.Load()
}

// A file that something else fills the disk beside, to the last byte, is handed
// over all the same once there is room, and nothing is half written.
func TestSQLiteDiskFilledByOthers(t *testing.T) {
	dir := disk(t, "8m")
	path := filepath.Join(dir, "store.db")
	s, _ := openSQLiteAt(t, path)
	put(t, s, 0, 100)
	other, err := os.Create(filepath.Join(dir, "other"))
	if err != nil {
		t.Fatal(err)
	}
	for err == nil {
		_, err = other.Write(make([]byte, 1000))
	}
	if err := other.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Put(t.Context(), event("evt_1")); !errors.Is(err, store.ErrUnavailable) {
		t.Errorf("Put: %v", err)
	}
	leases, err := s.Lease(t.Context(), queue, 100, time.Minute)
	if err != nil {
		t.Fatal(err)
	}
	settled := 0
	for _, lease := range leases {
		lease.Event.State = store.Delivered
		err := s.Settle(t.Context(), lease)
		if err == nil {
			settled++
		} else if !errors.Is(err, store.ErrUnavailable) {
			t.Fatalf("Settle: %v", err)
		}
	}
	if err := os.Remove(other.Name()); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
	s, _ = openSQLiteAt(t, path)
	if got := drain(t, s); len(got) != 100-settled {
		t.Errorf("%d events are left, want %d", len(got), 100-settled)
	}
}

// A file that cannot be written, or made, refuses the start by its name.
func TestSQLiteReadOnlyDisk(t *testing.T) {
	dir := disk(t, "8m")
	path := filepath.Join(dir, "store.db")
	fill(t, path, 10)
	if err := syscall.Mount("tmpfs", dir, "tmpfs", syscall.MS_REMOUNT|syscall.MS_RDONLY, ""); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"store.db", "another.db"} {
		err := provisioned(t, &SQLite{Path: filepath.Join(dir, name)}).Open(t.Context(), store.Options{})
		if err == nil || !strings.Contains(err.Error(), filepath.Join(dir, name)) || !errors.Is(err, syscall.EROFS) {
			t.Errorf("Open of %s: %v", name, err)
		}
	}
}

// failingDisk is a disk on which a sync can fail.
type failingDisk struct {
	vfs.VFSFilename
	fails atomic.Bool
	syncs atomic.Int32 // that failed
}

func (d *failingDisk) OpenFilename(name *vfs.Filename, flags vfs.OpenFlag) (vfs.File, vfs.OpenFlag, error) {
	file, flags, err := d.VFSFilename.OpenFilename(name, flags)
	if shared, ok := file.(vfs.FileSharedMemory); ok && err == nil {
		file = &failingFile{shared, d}
	}
	return file, flags, err
}

type failingFile struct {
	vfs.FileSharedMemory
	disk *failingDisk
}

func (f *failingFile) Sync(flags vfs.SyncFlag) error {
	if f.disk.fails.Load() {
		f.disk.syncs.Add(1)
		return &fs.PathError{Op: "sync", Path: "store.db-wal", Err: syscall.EIO}
	}
	return f.FileSharedMemory.Sync(flags)
}

// After a sync that failed nothing is acknowledged until the file was opened anew
// and checked; what was acknowledged before is there.
func TestSQLiteFailedSync(t *testing.T) {
	d := &failingDisk{VFSFilename: vfs.Find("").(vfs.VFSFilename)}
	vfs.Register("failing", d)
	openSQLite = func(path string, flags sqlite3.OpenFlag) (*sqlite3.Conn, error) {
		return sqlite3.OpenFlags("file:"+path+"?vfs=failing", flags|sqlite3.OPEN_URI)
	}
	// It stays registered: a Close that takes long goes on.
	t.Cleanup(func() { openSQLite = sqlite3.OpenFlags })

	s, logs := openSQLiteAt(t, filepath.Join(t.TempDir(), "store.db"))
	put(t, s, 0, 20)
	d.fails.Store(true)
	if _, err := s.Put(t.Context(), event("evt_1")); !errors.Is(err, store.ErrUnavailable) || d.syncs.Load() == 0 {
		t.Fatalf("Put: %v", err)
	}
	d.fails.Store(false)
	if _, err := s.Put(t.Context(), event("evt_2")); err != nil {
		t.Errorf("Put when the disk works again: %v", err)
	}
	if logs.FilterMessage("the store's file is open again, and whole").Len() != 1 {
		t.Errorf("logged: %v", logs.All())
	}
	got := drain(t, s)
	if delete(got, "evt_1"); len(got) != 21 { // evt_1 was not acknowledged, and may be there
		t.Errorf("%d events are handed over, want 21", len(got))
	}
}

// The file and its log are for their owner alone, and for whom the operator lets
// read the file.
func TestSQLiteOwnersAlone(t *testing.T) {
	for name, want := range map[string]fs.FileMode{"new": 0o600, "there": 0o640} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "store.db")
			if name == "there" {
				if err := os.WriteFile(path, nil, want); err != nil {
					t.Fatal(err)
				}
			}
			s := provisioned(t, &SQLite{Path: path})
			open(t, s, store.Options{})
			if _, err := s.Put(t.Context(), event(eventID(1))); err != nil {
				t.Fatal(err)
			}
			for _, suffix := range []string{"", "-wal", "-shm", ".lock"} {
				info, err := os.Stat(path + suffix)
				if err != nil {
					t.Fatal(err)
				}
				wanted := want
				if suffix == ".lock" {
					wanted = 0o600
				}
				if info.Mode().Perm() != wanted {
					t.Errorf("%s is %s, want %s", filepath.Base(path)+suffix, info.Mode(), wanted)
				}
			}
		})
	}
}
