package natsoutbox

import (
	"io"
	"net"
	"sync"
	"sync/atomic"
	"testing"
)

// proxy is a network that can be cut, or lose what the target answers.
type proxy struct {
	listener net.Listener
	target   string

	deaf atomic.Bool // whoever connects hears nothing of the target

	mu    sync.Mutex
	cut   bool
	conns map[net.Conn]bool
}

// startProxy leads to a target until the test ends.
func startProxy(t testing.TB, target string) *proxy {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatalf("listening: %v", err)
	}
	p := &proxy{listener: l, target: target, conns: make(map[net.Conn]bool)}
	var serving sync.WaitGroup
	serving.Go(func() {
		for {
			in, err := l.Accept()
			if err != nil {
				return
			}
			serving.Go(func() { p.serve(in) })
		}
	})
	t.Cleanup(func() {
		l.Close()
		p.setCut(true)
		serving.Wait()
	})
	return p
}

func (p *proxy) address() string { return p.listener.Addr().String() }

func (p *proxy) serve(in net.Conn) {
	defer in.Close()
	out, err := net.Dial("tcp", p.target)
	if err != nil {
		return
	}
	defer out.Close()
	if !p.note(in) || !p.note(out) {
		return
	}
	var copying sync.WaitGroup
	for _, way := range []struct {
		to   io.Writer
		from net.Conn
	}{{answers{in, p}, out}, {out, in}} {
		copying.Go(func() {
			_, _ = io.Copy(way.to, way.from)
			in.Close()
			out.Close()
		})
	}
	copying.Wait()
}

// answers are what the target says.
type answers struct {
	net.Conn
	proxy *proxy
}

func (a answers) Write(data []byte) (int, error) {
	if a.proxy.deaf.Load() {
		return len(data), nil
	}
	return a.Conn.Write(data)
}

// setDeaf has what the target says lost from now on, or ends that, when no
// connection goes on that has missed something.
func (p *proxy) setDeaf(deaf bool) {
	p.deaf.Store(deaf)
	if !deaf {
		p.setCut(true)
		p.setCut(false)
	}
}

func (p *proxy) note(c net.Conn) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.conns[c] = true
	return !p.cut
}

// setCut ends all connections, and lets no other begin; or lets them again.
func (p *proxy) setCut(cut bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.cut = cut
	for c := range p.conns {
		c.Close()
		delete(p.conns, c)
	}
}
