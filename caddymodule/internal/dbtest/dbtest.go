// Package dbtest starts real database servers for tests, each in a directory of its
// own, and stops them when the test ends. A test is skipped where a server is not
// installed, but never in CI.
package dbtest

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

// patience is how long a server may take to start, to stop, or to do as it is told.
const patience = time.Minute

// find returns the path of a server's command, newest first where there are
// several.
func find(t testing.TB, command, pkg string, places ...string) string {
	t.Helper()
	if path, err := exec.LookPath(command); err == nil {
		if path, err = filepath.EvalSymlinks(path); err == nil {
			return path
		}
	}
	var found []string
	for _, place := range places {
		matches, err := filepath.Glob(filepath.Join(place, command))
		if err != nil {
			t.Fatal(err)
		}
		found = append(found, matches...)
	}
	if len(found) > 0 {
		return slices.Max(found)
	}
	if os.Getenv("CI") != "" {
		t.Fatalf("%s is not installed: CI needs it (on Debian: apt-get install %s)", command, pkg)
	}
	t.Skipf("%s is not installed: this test needs it (on Debian: apt-get install %s)", command, pkg)
	return ""
}

// server is a server's process.
type server struct {
	dir    string // its own, where it may write
	runAs  *syscall.Credential
	cmd    *exec.Cmd
	exited chan struct{}
}

// newServer makes a server's directory. Database servers refuse to run as root, so
// that a test of root runs them as another user.
func newServer(t testing.TB, accounts ...string) *server {
	t.Helper()
	dir, err := os.MkdirTemp("", "wepay-db-")
	if err != nil {
		t.Fatal(err)
	}
	s := &server{dir: dir}
	t.Cleanup(func() {
		s.Kill()
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	if os.Getuid() != 0 {
		return s
	}
	for _, name := range append(accounts, "nobody") {
		account, err := user.Lookup(name)
		if err != nil {
			continue
		}
		uid, uidErr := strconv.ParseUint(account.Uid, 10, 32)
		gid, gidErr := strconv.ParseUint(account.Gid, 10, 32)
		if uidErr != nil || gidErr != nil {
			continue
		}
		if err := os.Chown(dir, int(uid), int(gid)); err != nil {
			t.Fatal(err)
		}
		s.runAs = &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}
		return s
	}
	t.Fatalf("there is no account to run a server as: %q", accounts)
	return nil
}

func (s *server) command(ctx context.Context, name string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Dir = s.dir
	cmd.Env = append(os.Environ(), "HOME="+s.dir, "LC_ALL=C.UTF-8")
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: s.runAs}
	return cmd
}

// run runs a command to its end.
func (s *server) run(t testing.TB, name string, args ...string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if out, err := s.command(ctx, name, args...).CombinedOutput(); err != nil {
		t.Fatalf("%s: %v\n%s", filepath.Base(name), err, out)
	}
}

// start starts the server, and waits until it answers.
func (s *server) start(t testing.TB, answers func(ctx context.Context) error, name string, args ...string) {
	t.Helper()
	log, err := os.OpenFile(filepath.Join(s.dir, "log"), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	s.cmd = s.command(context.Background(), name, args...)
	s.cmd.Stdout, s.cmd.Stderr = log, log
	if err := s.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	s.exited = make(chan struct{})
	go func(cmd *exec.Cmd, exited chan struct{}) {
		_ = cmd.Wait() // it is killed
		close(exited)
	}(s.cmd, s.exited)
	s.await(t, filepath.Base(name)+" answers", answers)
}

// await waits until something holds.
func (s *server) await(t testing.TB, what string, holds func(ctx context.Context) error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	for {
		err := holds(ctx)
		if err == nil {
			return
		}
		select {
		case <-ctx.Done():
		case <-s.exited:
		case <-time.After(50 * time.Millisecond):
			continue
		}
		log, _ := os.ReadFile(filepath.Join(s.dir, "log")) // for the message alone
		t.Fatalf("waiting until %s: %v\n%s", what, err, log)
	}
}

// Kill ends the server at once, as kill -9 does, and waits until it is gone. It does
// nothing to one that does not run.
func (s *server) Kill() {
	if s.cmd == nil {
		return
	}
	_ = s.cmd.Process.Kill() // it may be gone
	<-s.exited
	s.cmd = nil
}

// freePort returns a free port, of those that no connection is given as its own.
func freePort(t testing.TB) int {
	t.Helper()
	for range 100 {
		port := 10000 + rand.IntN(10000)
		if listener, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", port)); err == nil {
			_ = listener.Close() // it is for the server
			return port
		}
	}
	t.Fatal("no free port")
	return 0
}

// made is how many databases were made, for their names.
var made atomic.Int32

func newName() string { return fmt.Sprintf("wepay_%d", made.Add(1)) }
