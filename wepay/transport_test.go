package wepay_test

import (
	"io"
	"net/http"
	"strings"
	"testing"

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
