package wepay_test

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httptrace"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/windsome/caddy-wepay/wepay"
)

type roundTripper func(*http.Request) (*http.Response, error)

func (f roundTripper) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

// closing is a body that tells when it is closed, and never ends by itself.
type closing struct {
	io.Reader
	closed bool
}

func (c *closing) Close() error {
	c.closed = true
	return nil
}

// What is no final answer is none, and its connection is closed.
func TestRoundTrip(t *testing.T) {
	for status, final := range map[int]bool{101: false, 199: false, 200: true, 302: true, 500: true} {
		body := &closing{Reader: strings.NewReader("{}")}
		resp, err := wepay.RoundTrip(roundTripper(func(*http.Request) (*http.Response, error) {
			return &http.Response{StatusCode: status, Body: body}, nil
		}), new(http.Request))
		if (err == nil) != final || (resp != nil) != final || body.closed == final {
			t.Errorf("%d: %v, closed: %v", status, err, body.closed)
		}
	}
}

// net/http takes 101 for final, and gives its body no end.
func TestRoundTripOfSwitchedProtocols(t *testing.T) {
	l := loginServer(t, func(w http.ResponseWriter, _ *http.Request) {
		conn, _, err := http.NewResponseController(w).Hijack()
		if err != nil {
			t.Error(err)
			return
		}
		defer conn.Close()
		_, _ = io.WriteString(conn, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
		_, _ = conn.Read(make([]byte, 1)) // until it is closed
	})
	_, err := l.OpenID(t.Context(), &wepay.Merchant{Name: "shop", AppID: "wx1", AppSecret: appSecret}, wepay.Fields{{Name: "code", Value: "c1"}})
	if err == nil || !strings.Contains(err.Error(), "HTTP status 101") {
		t.Errorf("got %v", err)
	}
}

// A client's own connections are bounded in what no request's context ends.
func TestNewTransportBounds(t *testing.T) {
	transport := wepay.NewTransport(direct())
	if transport.MaxResponseHeaderBytes != 64<<10 || transport.TLSHandshakeTimeout != 5*time.Second {
		t.Errorf("a header may have %d bytes, a TLS handshake take %v", transport.MaxResponseHeaderBytes, transport.TLSHandshakeTimeout)
	}
	server := httptest.NewServer(http.NotFoundHandler())
	defer server.Close()
	defer transport.CloseIdleConnections()
	trace := &httptrace.ClientTrace{GotConn: func(info httptrace.GotConnInfo) {
		if _, plain := info.Conn.(*net.TCPConn); plain {
			t.Error("a proxy may take for ever")
		}
	}}
	req, err := http.NewRequestWithContext(httptrace.WithClientTrace(t.Context(), trace), http.MethodGet, server.URL, nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := wepay.RoundTrip(transport, req)
	if err != nil {
		t.Fatal(err)
	}
	_ = resp.Body.Close()
}

// pipes returns a transport whose connections are served by a function, through a
// proxy of a scheme or without one.
func pipes(scheme string, serve func(net.Conn)) *http.Transport {
	transport := &http.Transport{TLSHandshakeTimeout: time.Second, DialContext: func(context.Context, string, string) (net.Conn, error) {
		client, server := net.Pipe()
		go serve(server)
		return client, nil
	}}
	if scheme != "" {
		transport.Proxy = http.ProxyURL(&url.URL{Scheme: scheme, Host: "proxy.example"})
	}
	wepay.BoundConnecting(transport)
	return transport
}

// What a proxy does not let through in time is closed, although nobody waits for it
// any more.
func TestConnectingEnds(t *testing.T) {
	for name, test := range map[string]struct{ scheme, says string }{
		"SOCKS":          {"socks5", ""},
		"SOCKS, greets":  {"socks5", "\x05\x00"},
		"CONNECT":        {"http", ""},
		"CONNECT, a bit": {"http", "HTTP/1.1 200 OK\r\nA: "},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				began, ended := time.Now(), make(chan time.Duration, 1)
				transport := pipes(test.scheme, func(conn net.Conn) {
					go func() { _, _ = io.WriteString(conn, test.says) }()
					_, _ = io.Copy(io.Discard, conn)
					_ = conn.Close()
					ended <- time.Since(began)
				})
				ctx, cancel := context.WithTimeout(t.Context(), time.Second)
				defer cancel()
				req, err := http.NewRequestWithContext(ctx, http.MethodGet, "https://wechat.example/", nil)
				if err != nil {
					t.Fatal(err)
				}
				if resp, err := wepay.RoundTrip(transport, req); !errors.Is(err, context.DeadlineExceeded) {
					t.Errorf("got %v, %v", resp, err)
				}
				if took := <-ended; took != 7*time.Second {
					t.Errorf("it is closed after %v", took)
				}
			})
		})
	}
}

// patient answers requests on a connection, each after an hour, through TLS or a
// tunnel to it where it is asked to.
func patient(conn net.Conn, config *tls.Config) {
	for requests := bufio.NewReader(conn); ; {
		req, err := http.ReadRequest(requests)
		switch {
		case err != nil:
			return
		case req.Method == http.MethodConnect:
			_, _ = io.WriteString(conn, "HTTP/1.1 200 OK\r\n\r\n")
			conn = tls.Server(conn, config)
			requests = bufio.NewReader(conn)
		default:
			<-time.After(time.Hour)
			_, _ = io.WriteString(conn, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}")
		}
	}
}

// A connection that was made lasts, whichever way it was, and one that is not for
// RoundTrip is left alone.
func TestConnectionLasts(t *testing.T) {
	server := httptest.NewTLSServer(nil)
	server.Close()
	for name, test := range map[string]struct {
		proxy, scheme string
		roundTrip     func(http.RoundTripper, *http.Request) (*http.Response, error)
	}{
		"plain":             {"", "http", wepay.RoundTrip},
		"TLS":               {"", "https", wepay.RoundTrip},
		"proxy":             {"http", "http", wepay.RoundTrip},
		"proxy and TLS":     {"http", "https", wepay.RoundTrip},
		"without RoundTrip": {"", "http", http.RoundTripper.RoundTrip},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var dialed atomic.Int32
				transport := pipes(test.proxy, func(conn net.Conn) {
					dialed.Add(1)
					if test.proxy == "" && test.scheme == "https" {
						conn = tls.Server(conn, server.TLS)
					}
					patient(conn, server.TLS)
				})
				transport.TLSClientConfig = &tls.Config{InsecureSkipVerify: true}
				defer transport.CloseIdleConnections()
				for range 2 {
					req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, test.scheme+"://wechat.example/", nil)
					if err != nil {
						t.Fatal(err)
					}
					resp, err := test.roundTrip(transport, req)
					if err != nil {
						t.Fatal(err)
					}
					if text, err := io.ReadAll(resp.Body); string(text) != "{}" || err != nil || resp.Body.Close() != nil {
						t.Errorf("got %s (%v)", text, err)
					}
				}
				if n := dialed.Load(); n != 1 {
					t.Errorf("%d connections were made", n)
				}
			})
		})
	}
}
