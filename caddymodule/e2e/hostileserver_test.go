package e2e_test

import (
	"bufio"
	"compress/gzip"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// A hostile server answers as no HTTP server should. It learns what to do from the
// request, and remembers which connections are still open.
type hostileServer struct {
	URL  string
	does func(*http.Request) (name string)

	mu    sync.Mutex
	conns map[net.Conn]string // open ones, and what is done on them
	all   sync.WaitGroup
}

// A misbehaviour answers a request on a connection that it may keep for as long as
// the client does. Errors are the client's going away.
type misbehaviour func(conn net.Conn, head string)

// newHostileServer starts one that does what the request says.
func newHostileServer(t *testing.T, does func(*http.Request) (name string)) *hostileServer {
	t.Helper()
	s := &hostileServer{does: does, conns: make(map[net.Conn]string)}
	s.listen(t, s.serve)
	return s
}

// listen serves connections until the end of the test.
func (s *hostileServer) listen(t *testing.T, serve func(net.Conn)) {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s.URL = "http://" + listener.Addr().String()
	s.all.Go(func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			s.note(conn, "connected")
			s.all.Go(func() {
				defer s.forget(conn)
				serve(conn)
			})
		}
	})
	t.Cleanup(func() {
		_ = listener.Close()
		for conn := range s.open() {
			_ = conn.Close()
		}
		s.all.Wait()
	})
}

func (s *hostileServer) serve(conn net.Conn) {
	var head strings.Builder
	reader := bufio.NewReader(io.TeeReader(conn, &head))
	req, err := http.ReadRequest(reader)
	if err != nil {
		return
	}
	// A client that is answered before it has sent all of it may take that ill.
	if body, err := io.ReadAll(req.Body); err == nil {
		req.Body = io.NopCloser(strings.NewReader(string(body)))
	}
	name := s.does(req)
	s.note(conn, name+" at "+req.URL.Path)
	misbehaviours[name](conn, head.String())
	_, _ = io.Copy(io.Discard, reader) // until the client closes it
}

func (s *hostileServer) note(conn net.Conn, what string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.conns[conn] = what
}

func (s *hostileServer) forget(conn net.Conn) {
	_ = conn.Close()
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.conns, conn)
}

func (s *hostileServer) open() map[net.Conn]string {
	s.mu.Lock()
	defer s.mu.Unlock()
	open := make(map[net.Conn]string, len(s.conns))
	for conn, what := range s.conns {
		open[conn] = what
	}
	return open
}

// The parts that answers are made of.
func say(text string) misbehaviour {
	return func(conn net.Conn, _ string) { _, _ = io.WriteString(conn, text) }
}

// flood says something again and again, as fast as it goes.
func flood(first, again string) misbehaviour {
	return func(conn net.Conn, _ string) {
		_, err := io.WriteString(conn, first)
		for err == nil {
			_, err = io.WriteString(conn, again)
		}
	}
}

// dribble says something again and again, slowly.
func dribble(first, again string) misbehaviour {
	return func(conn net.Conn, _ string) {
		_, err := io.WriteString(conn, first)
		for err == nil {
			<-time.After(20 * time.Millisecond)
			_, err = io.WriteString(conn, again)
		}
	}
}

// echo says back what it was sent, behind some text.
func echo(first string) misbehaviour {
	return func(conn net.Conn, head string) { _, _ = io.WriteString(conn, first+head) }
}

const ok = "HTTP/1.1 200 OK\r\n"

// misbehaviours are all of them, by names that can stand in a path.
var misbehaviours = map[string]misbehaviour{
	"switching":          say("HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"),
	"switching-bare":     say("HTTP/1.1 101 Switching Protocols\r\n\r\n"),
	"switching-talks":    dribble("HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n", "x"),
	"switching-floods":   flood("HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n", "{}"),
	"silence":            say(""),
	"half-a-status":      say("HTTP/1.1 2"),
	"half-a-head":        say(ok + "Content-Type: te"),
	"dribbled-head":      dribble(ok, "X-A: b\r\n"),
	"endless-head":       flood(ok, "X-A: "+strings.Repeat("b", 1000)+"\r\n"),
	"endless-line":       flood(ok+"X-A: ", strings.Repeat("b", 1000)),
	"hints":              flood("", "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n"),
	"dribbled-hints":     dribble("", "HTTP/1.1 103 Early Hints\r\n\r\n"),
	"continues":          flood("", "HTTP/1.1 100 Continue\r\n\r\n"),
	"processing":         dribble("", "HTTP/1.1 102 Processing\r\n\r\n"),
	"dribbled-body":      dribble(ok+"Content-Length: 100000\r\n\r\n{", " "),
	"dribbled-chunks":    dribble(ok+"Transfer-Encoding: chunked\r\n\r\n1\r\n{\r\n", "1\r\n \r\n"),
	"dribbled-extension": dribble(ok+"Transfer-Encoding: chunked\r\n\r\n1;a", "a"),
	"endless-body":       flood(ok+"Transfer-Encoding: chunked\r\n\r\n", "3e8\r\n"+strings.Repeat(" ", 1000)+"\r\n"),
	"endless-extension":  flood(ok+"Transfer-Encoding: chunked\r\n\r\n1;", strings.Repeat("a", 1000)),
	"chunk-extensions":   flood(ok+"Transfer-Encoding: chunked\r\n\r\n", "1;"+strings.Repeat("a", 1000)+"\r\n \r\n"),
	"no-trailer":         say(ok + "Transfer-Encoding: chunked\r\nTrailer: X-A\r\n\r\n2\r\n{}\r\n0\r\n"),
	"dribbled-trailer":   dribble(ok+"Transfer-Encoding: chunked\r\nTrailer: X-A\r\n\r\n2\r\n{}\r\n0\r\n", "X-A: b\r\n"),
	"endless-trailer":    flood(ok+"Transfer-Encoding: chunked\r\nTrailer: X-A\r\n\r\n2\r\n{}\r\n0\r\n", "X-A: b\r\n"),
	"no-end":             say(ok + "Connection: close\r\n\r\n{}"),
	"short":              say(ok + "Content-Length: 10\r\n\r\n{}"),
	"more-than-said":     echo(ok + "Content-Length: 2\r\n\r\n{}"),
	"unasked":            dribble(ok+"Content-Length: 2\r\n\r\n{}", ok+"Content-Length: 2\r\n\r\n{}"),
	"redirect":           say("HTTP/1.1 307 Temporary Redirect\r\nLocation: /redirected\r\nContent-Length: 0\r\n\r\n"),
	"proxied":            say("HTTP/1.1 200 Connection established\r\n\r\n"),
	"http2":              flood("", "\x00\x00\x00\x04\x00\x00\x00\x00\x00"),
	"bomb":               bomb,
	"no-reset":           say("HTTP/1.1 205 Reset Content\r\nContent-Length: 5\r\n\r\n"),
	"no-content":         say("HTTP/1.1 204 No Content\r\nContent-Length: 5\r\n\r\n"),
	"unmodified":         say("HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\n"),
	"length-twice":       say(ok + "Content-Length: 2\r\nContent-Length: 3\r\n\r\n{}"),
}

// bomb is packed text that is a thousand times as long.
func bomb(conn net.Conn, _ string) {
	_, err := io.WriteString(conn, ok+"Content-Encoding: gzip\r\nConnection: close\r\n\r\n")
	packed := gzip.NewWriter(conn)
	spaces := make([]byte, 1<<20)
	for i := range spaces {
		spaces[i] = ' '
	}
	for err == nil {
		_, err = packed.Write(spaces)
	}
}

// names are those of all misbehaviours.
func names() []string {
	var all []string
	for name := range misbehaviours {
		all = append(all, name)
	}
	slices.Sort(all)
	return all
}

// untilClosed waits until clients have closed what is not theirs to keep: all
// connections but those that may be used again, by the misbehaviours' names.
func (s *hostileServer) untilClosed(t *testing.T, kept ...string) {
	t.Helper()
	for began := time.Now(); ; <-time.After(10 * time.Millisecond) {
		var left []string
		for _, what := range s.open() {
			if !slices.ContainsFunc(kept, func(name string) bool { return strings.Contains(what, name) }) {
				left = append(left, what)
			}
		}
		if len(left) == 0 {
			return
		}
		if time.Since(began) > soon/4 {
			slices.Sort(left)
			t.Fatalf("%d connections stay open: %s", len(left), strings.Join(left, "\n"))
		}
	}
}
