package apiv2_test

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/windsome/caddy-wepay/wepay"
)

const maxReply = 1 << 20

// padded returns a good reply to a query that is exactly so many bytes long.
func padded(size int) string {
	with := func(n int) string {
		return signed(reply(map[string]string{"trade_state": "NOTPAY", "attach": strings.Repeat("a", n)}), wepay.MD5, key)
	}
	return with(size - len(with(0)))
}

// hijack takes the connection of a request away from net/http.
func hijack(w http.ResponseWriter) net.Conn {
	conn, _, err := http.NewResponseController(w).Hijack()
	if err != nil {
		panic(err)
	}
	return conn
}

func reset(w http.ResponseWriter, _ asked) {
	conn := hijack(w)
	// Without lingering, closing resets the connection.
	_ = conn.(*net.TCPConn).SetLinger(0)
	_ = conn.Close()
}

func TestNoAnswer(t *testing.T) {
	const page = "<html><head><title>400 No required SSL certificate was sent</title></head><body></body></html>"
	tests := []struct {
		name string
		a    answer
		says string // a part of the error
	}{
		{"HTTP 500", status(500, ""), "HTTP status 500"},
		{"HTTP 502 with a page", status(502, "<html><title>502 Bad Gateway</title></html>"), "502 Bad Gateway"},
		{"HTTP 400 with a page", status(400, page), "No required SSL certificate"},
		{"HTTP 404", status(404, ""), "HTTP status 404"},
		{"HTTP 204", status(204, ""), "HTTP status 204"},
		// Good XML under another status comes from something in between.
		{"HTTP 500 with a good reply", status(500, signed(reply(requests[wepay.QueryOrder].reply), wepay.MD5, key)), "HTTP status 500"},
		{"a redirect", func(w http.ResponseWriter, r asked) {
			http.Redirect(w, r.Request, "/elsewhere", http.StatusTemporaryRedirect)
		}, "HTTP status 307"},
		{"a page", says(page), "No required SSL certificate"},
		{"JSON", says(`{"return_code":"SUCCESS"}`), "malformed"},
		{"nothing", says(""), "empty"},
		{"blanks", says(" \r\n"), "empty"},
		{"XML cut short", says("<xml><return_code>SUCCESS</return_code>"), "malformed"},
		{"the length is wrong", func(w http.ResponseWriter, _ asked) {
			w.Header().Set("Content-Length", "1000")
			_, _ = io.WriteString(w, "<xml>")
		}, "reading the reply"},
		{"too large", says(padded(maxReply + 1)), "too large"},
		{"reset", reset, "reset"},
		{"closed", func(w http.ResponseWriter, _ asked) { _ = hijack(w).Close() }, "EOF"},
		{"no HTTP", func(w http.ResponseWriter, _ asked) {
			conn := hijack(w)
			_, _ = io.WriteString(conn, "SUCCESS")
			_ = conn.Close()
		}, "malformed HTTP"},
	}
	for _, test := range tests {
		for op, verdict := range unanswered {
			t.Run(test.name+" "+string(op), func(t *testing.T) {
				server := serve(t, test.a)
				m := withCertificate(t, merchant(server.URL), "wechat.p12")
				got, err := client(t, m).Do(t.Context(), op, requests[op].in)
				wantError(t, err, verdict)
				if !errors.Is(err, wepay.ErrNoAnswer) || got != nil || !strings.Contains(err.Error(), test.says) {
					t.Errorf("got %v, %v, want ErrNoAnswer that says %q", got, err, test.says)
				}
				// Neither followed elsewhere nor asked again.
				if n := len(server.asked()); n != 1 {
					t.Errorf("%d requests", n)
				}
			})
		}
	}
}

func TestReplyAtTheLimit(t *testing.T) {
	for size, ok := range map[int]bool{maxReply - 1: true, maxReply: true, maxReply + 1: false} {
		server := serve(t, says(padded(size)))
		_, err := client(t, merchant(server.URL)).Do(t.Context(), wepay.QueryOrder, aQuery)
		if ok != (err == nil) || !ok && !errors.Is(err, wepay.ErrTooLarge) {
			t.Errorf("%d bytes: got %v", size, err)
		}
	}
}

// hang keeps a request until whoever sent it goes away.
func hang(_ http.ResponseWriter, r asked) { <-r.Context().Done() }

func TestTimeout(t *testing.T) {
	for op, verdict := range unanswered {
		t.Run(string(op), func(t *testing.T) {
			t.Parallel()
			server := serve(t, hang)
			m := withCertificate(t, merchant(server.URL), "wechat.p12")
			_, err := client(t, m, wepay.ClientOptions{Timeout: 500 * time.Millisecond}).Do(t.Context(), op, requests[op].in)
			wantError(t, err, verdict)
			if !errors.Is(err, wepay.ErrNoAnswer) || !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("got %v, want ErrNoAnswer for a deadline", err)
			}
		})
	}
}

// refusedAddress is where nobody listens.
func refusedAddress(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return "http://" + l.Addr().String()
}

// What was never sent cannot have happened, be it an order or a refund.
func TestNothingLeft(t *testing.T) {
	untrusted := start(hang, startTLS)
	t.Cleanup(untrusted.Close)
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	tests := []struct {
		name      string
		ctx       context.Context
		endpoints []string
		is        error
	}{
		{"nobody listens", t.Context(), []string{refusedAddress(t)}, nil},
		{"nobody listens at either", t.Context(), []string{refusedAddress(t), refusedAddress(t)}, nil},
		{"a server with another's certificate", t.Context(), []string{untrusted.URL}, nil},
		{"the context ended before", ended, []string{refusedAddress(t)}, context.Canceled},
	}
	for _, test := range tests {
		for op := range unanswered {
			t.Run(test.name+" "+string(op), func(t *testing.T) {
				m := withCertificate(t, merchant(test.endpoints...), "wechat.p12")
				_, err := client(t, m).Do(test.ctx, op, requests[op].in)
				wantError(t, err, wepay.Again)
				if !errors.Is(err, wepay.ErrNoAnswer) || test.is != nil && !errors.Is(err, test.is) {
					t.Errorf("got %v, want ErrNoAnswer", err)
				}
			})
		}
	}
	if n := len(untrusted.asked()); n != 0 {
		t.Errorf("%d requests went to a server that cannot be trusted", n)
	}
}

// WeChat closes idle connections; a request that goes out on one is repeated
// by net/http without the caller noticing.
func TestDeadIdleConnection(t *testing.T) {
	calls := 0
	server := serve(t, func(w http.ResponseWriter, r asked) {
		calls++
		if calls == 2 {
			reset(w, r)
			return
		}
		does(wepay.Refund)(w, r)
	})
	m := withCertificate(t, merchant(server.URL), "wechat.p12")
	c := client(t, m)
	do(t, c, wepay.Refund)
	do(t, c, wepay.Refund)
	all := server.asked()
	if len(all) != 3 {
		t.Fatalf("%d requests, want 3", len(all))
	}
	if string(all[1].body) != string(all[2].body) {
		t.Error("the repetition is another request")
	}
}
