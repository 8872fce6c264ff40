package wepaytest

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"log"
	"math/rand/v2"
	"net"
	"net/http"
	"sync"
	"time"
)

// Server is a WeChat Pay of its own. It may be used by many goroutines.
type Server struct {
	// URL is where the server is reached, for use as an endpoint:
	// https://127.0.0.1:port.
	URL string

	address       string
	clock         Clock
	notifier      http.RoundTripper
	notifyTimeout time.Duration

	losesEarlyCloses bool
	marksBills       bool
	widensBills      bool

	authority *authority
	http      *http.Server
	ctx       context.Context // ends with the server
	cancel    context.CancelFunc
	serving   sync.WaitGroup // the accept loop and what it accepted
	tasks     tasks

	mu        sync.Mutex // guards everything below, accounts' insides included
	accounts  map[string]*account
	codes     map[string]*payerCode // by auth_code
	apps      map[string]string     // secrets by appid
	logins    map[string]*login     // by code
	names     map[string]string     // of payees, by openid
	barred    map[string]bool       // accounts of receivers
	bankKey   int                   // how often it was rotated
	downloads map[string]download   // by token
	faults    []fault
	received  []Request
	lostShare float64    // of notifications
	luck      *rand.Rand // nil until notifications are lost
	sequence  uint64     // makes the numbers that WeChat gives
}

// Option changes how a server works.
type Option func(*Server)

// WithAddress makes the server listen on a TCP address instead of a free port
// of 127.0.0.1.
func WithAddress(address string) Option {
	return func(s *Server) { s.address = address }
}

// WithClock gives the server a time that tests may turn, instead of the
// machine's.
func WithClock(clock Clock) Option {
	return func(s *Server) { s.clock = clock }
}

// WithNotifyTransport has notifications sent over a transport, which may know
// names and authorities that this machine does not.
func WithNotifyTransport(transport http.RoundTripper) Option {
	return func(s *Server) { s.notifier = transport }
}

// WithNotifyTimeout changes how long, in real time, a merchant may take to
// answer a notification. WeChat's is 5 s.
func WithNotifyTimeout(timeout time.Duration) Option {
	return func(s *Server) { s.notifyTimeout = timeout }
}

// WithEarlyClosesLost has a closeorder sooner than 5 minutes after its order
// answered as a success though the order stays open, which WeChat's documents
// warn of. Without it orders close at any time.
func WithEarlyClosesLost() Option {
	return func(s *Server) { s.losesEarlyCloses = true }
}

// WithBillMark has bills begin with a byte order mark, as some do.
func WithBillMark() Option {
	return func(s *Server) { s.marksBills = true }
}

// WithWideBills has bills written as they also are: with full-width brackets in
// their titles, and counts such as 3.0.
func WithWideBills() Option {
	return func(s *Server) { s.widensBills = true }
}

// NewServer starts a server on a free port of 127.0.0.1, over TLS with an
// authority of its own. The caller has to Close it.
func NewServer(options ...Option) (*Server, error) {
	s := &Server{
		address:       "127.0.0.1:0",
		clock:         realClock{},
		notifyTimeout: 5 * time.Second,
		accounts:      make(map[string]*account),
		codes:         make(map[string]*payerCode),
		apps:          make(map[string]string),
		logins:        make(map[string]*login),
		names:         make(map[string]string),
		barred:        make(map[string]bool),
		downloads:     make(map[string]download),
		// Numbers of two servers differ, for tests that start one after another.
		sequence: rand.Uint64N(9_000_000_000),
	}
	for _, option := range options {
		option(s)
	}
	if s.notifier == nil {
		// Connections are not kept, so that none breaks before the next notification
		// and none outlives the server.
		s.notifier = &http.Transport{DisableKeepAlives: true, DisableCompression: true}
	}
	var err error
	if s.authority, err = newAuthority(); err != nil {
		return nil, err
	}
	if err := s.start(); err != nil {
		return nil, fmt.Errorf("starting a WeChat Pay: %w", err)
	}
	return s, nil
}

func (s *Server) start() error {
	listener, err := net.Listen("tcp", s.address)
	if err != nil {
		return err
	}
	address := listener.Addr().(*net.TCPAddr)
	certificate, err := s.authority.serverCertificate(address.IP)
	if err != nil {
		return errors.Join(err, listener.Close())
	}
	s.URL = "https://" + reachable(address)
	s.ctx, s.cancel = context.WithCancel(context.Background())
	s.http = &http.Server{
		Handler:           http.HandlerFunc(s.handle),
		ReadHeaderTimeout: 10 * time.Second,
		ReadTimeout:       30 * time.Second,
		IdleTimeout:       time.Minute,
		BaseContext:       func(net.Listener) context.Context { return s.ctx },
		ConnState:         s.countConnection,
		ErrorLog:          log.New(io.Discard, "", 0), // clients that hang up are what tests are about
	}
	// Any certificate passes the handshake, as with WeChat: which one is needed
	// depends on the path and the mch_id, and the answer reports it.
	secure := tls.NewListener(listener, &tls.Config{
		MinVersion:   tls.VersionTLS12,
		Certificates: []tls.Certificate{certificate},
		ClientAuth:   tls.RequestClientCert,
	})
	s.serving.Go(func() {
		_ = s.http.Serve(secure) // it ends with ErrServerClosed, by Close
	})
	return nil
}

// reachable names a listener on all addresses by the loopback one.
func reachable(address *net.TCPAddr) string {
	if address.IP.IsUnspecified() {
		return fmt.Sprintf("127.0.0.1:%d", address.Port)
	}
	return address.String()
}

// countConnection lets Close wait for the connections' goroutines. New ones
// are counted by the accept loop, which is counted itself.
func (s *Server) countConnection(_ net.Conn, state http.ConnState) {
	switch state {
	case http.StateNew:
		s.serving.Add(1)
	case http.StateClosed, http.StateHijacked:
		s.serving.Done()
	}
}

// Close ends the server: every connection, notification and timer of it. It
// returns when nothing of it runs any more. Closing twice does no harm.
func (s *Server) Close() {
	s.cancel()
	_ = s.http.Close() // only the listener's own closing can fail, and it is gone anyway
	s.tasks.end()
	s.serving.Wait()
}

// CACertPEM returns the certificate of the server's authority, for clients to trust.
func (s *Server) CACertPEM() []byte { return certificatePEM(s.authority.cert) }

// RootCAs returns a new pool that trusts the server's authority alone.
func (s *Server) RootCAs() *x509.CertPool { return s.authority.pool() }

// tasks are a server's notifications, at once or later. The zero value is ready to use.
type tasks struct {
	mu      sync.Mutex
	ended   bool
	running sync.WaitGroup // with those that wait for their time
	waiting map[*func() bool]struct{}
}

// run does f now, unless the tasks have ended, and says whether it did.
func (t *tasks) run(f func()) bool {
	t.mu.Lock()
	if t.ended {
		t.mu.Unlock()
		return false
	}
	t.running.Add(1)
	t.mu.Unlock()
	defer t.running.Done()
	f()
	return true
}

// after does f in d by a clock, unless the tasks end before.
func (t *tasks) after(clock Clock, d time.Duration, f func()) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.ended {
		return
	}
	if t.waiting == nil {
		t.waiting = make(map[*func() bool]struct{})
	}
	t.running.Add(1)
	stop := new(func() bool)
	*stop = clock.AfterFunc(d, func() {
		defer t.running.Done()
		t.mu.Lock()
		delete(t.waiting, stop)
		t.mu.Unlock()
		f()
	})
	t.waiting[stop] = struct{}{}
}

// end calls off what waits and returns when nothing runs.
func (t *tasks) end() {
	t.mu.Lock()
	t.ended = true
	for stop := range t.waiting {
		if (*stop)() {
			t.running.Done()
		}
	}
	clear(t.waiting)
	t.mu.Unlock()
	t.running.Wait()
}
