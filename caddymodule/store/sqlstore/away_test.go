package sqlstore

import (
	"context"
	"errors"
	"net"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/windsome/caddy-wepay/caddymodule/internal/dbtest"
	"github.com/windsome/caddy-wepay/caddymodule/store"
)

// line is a network between stores and a server, which can fall silent.
type line struct {
	listener net.Listener
	mu       sync.RWMutex // locked: nothing goes through
}

func newLine(t testing.TB, port int) *line {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l := &line{listener: listener}
	t.Cleanup(func() { _ = listener.Close() }) // which ends accept
	go func() {
		for {
			near, err := listener.Accept()
			if err != nil {
				return
			}
			far, err := net.Dial("tcp", "127.0.0.1:"+strconv.Itoa(port))
			if err != nil {
				_ = near.Close() // as a server that is gone does
				continue
			}
			go l.carry(near, far)
			go l.carry(far, near)
		}
	}()
	return l
}

func (l *line) carry(from, to net.Conn) {
	defer from.Close()
	defer to.Close()
	buffer := make([]byte, 32<<10)
	for {
		n, err := from.Read(buffer)
		l.mu.RLock() // waits while the line is silent
		_, writeErr := to.Write(buffer[:n])
		l.mu.RUnlock()
		if err != nil || writeErr != nil {
			return
		}
	}
}

func (l *line) port() int { return l.listener.Addr().(*net.TCPAddr).Port }

// A server that falls silent holds nothing up for longer than it may, and all goes
// on once it answers.
func TestServerSilent(t *testing.T) {
	for engine, start := range map[string]func(t *testing.T) (dsn string, port int){
		"postgres": func(t *testing.T) (string, int) {
			server := dbtest.StartPostgres(t, "fsync=off")
			return server.NewDSN(t), server.Port
		},
		"mysql": func(t *testing.T) (string, int) {
			server := dbtest.StartMariaDB(t)
			return server.NewTCPDSN(t), server.Port
		},
	} {
		t.Run(engine, func(t *testing.T) {
			dsn, port := start(t)
			l := newLine(t, port)
			dsn = strings.Replace(dsn, ":"+strconv.Itoa(port), ":"+strconv.Itoa(l.port()), 1)
			s, closing := provisioned(t, storeOf(engine, dsn)), provisioned(t, storeOf(engine, dsn))
			open(t, s, store.Options{})
			open(t, closing, store.Options{})
			put(t, s, 0, 20)
			if _, err := closing.Lease(t.Context(), queue, 5, time.Minute); err != nil {
				t.Fatal(err)
			}
			l.mu.Lock()
			within := func(what string, limit time.Duration, call func() error) {
				t.Helper()
				began := time.Now()
				err := call()
				if took := time.Since(began); took > limit || !errors.Is(err, store.ErrUnavailable) {
					t.Errorf("%s takes %s: %v", what, took, err)
				}
			}
			slack := time.Second // for a machine that is busy
			within("Count", viewTimeout+slack, func() error { _, err := s.Count(t.Context()); return err })
			within("Get", viewTimeout+slack, func() error { _, err := s.Get(t.Context(), eventID(1)); return err })
			within("Put", commitTimeout+slack, func() error { _, err := s.Put(t.Context(), event("evt_1")); return err })
			began := time.Now()
			ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
			if _, err := s.Get(ctx, eventID(1)); !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("Get with a context that ends: %v", err)
			}
			cancel()
			if took := time.Since(began); took > slack {
				t.Errorf("Get with a context that ends takes %s", took)
			}
			began = time.Now()
			if err := closing.Close(); err != nil {
				t.Errorf("Close: %v", err)
			}
			if took := time.Since(began); took > 600*time.Millisecond {
				t.Errorf("Close takes %s", took)
			}
			l.mu.Unlock()
			await(t, "it answers again", func() bool {
				_, err := s.Put(t.Context(), event("evt_2"))
				return err == nil
			})
			if got := drain(t, s); len(got) < 16 {
				t.Errorf("%d events are handed over", len(got))
			}
		})
	}
}
