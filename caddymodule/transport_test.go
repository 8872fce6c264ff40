package caddymodule

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/http/httptrace"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"

	"github.com/windsome/caddy-wepay/wepay"
)

// Connections are bounded in what no request's context ends, unless the
// configuration says otherwise.
func TestTransportBounds(t *testing.T) {
	ctx, cancel := caddy.NewContext(caddy.Context{Context: context.Background()})
	t.Cleanup(cancel)
	for _, test := range []struct {
		name, block string
		header      int64
		read, write time.Duration
	}{
		{"without a block", "", wepay.MaxResponseHeader, 10 * time.Minute, 5 * time.Second},
		{"with another option", `{"protocol":"http","compression":false}`, wepay.MaxResponseHeader, 10 * time.Minute, 5 * time.Second},
		{"with its own", `{"max_response_header_size":1000,"read_timeout":"1m","write_timeout":"2s"}`, 1000, time.Minute, 2 * time.Second},
	} {
		t.Run(test.name, func(t *testing.T) {
			var raw json.RawMessage
			if test.block != "" {
				raw = json.RawMessage(test.block)
			}
			transport, err := loadTransport(ctx, raw)
			if err != nil {
				t.Fatal(err)
			}
			guest := transport.guest
			if guest.MaxResponseHeaderSize != test.header || time.Duration(guest.ReadTimeout) != test.read || time.Duration(guest.WriteTimeout) != test.write {
				t.Errorf("the header may have %d bytes, a read may take %v and a write %v", guest.MaxResponseHeaderSize, guest.ReadTimeout, guest.WriteTimeout)
			}
			if got := guest.Transport.TLSHandshakeTimeout; got != 5*time.Second {
				t.Errorf("a TLS handshake may take %v", got)
			}
			if got := connectionOf(t, transport); got != "*wepay.connecting" {
				t.Errorf("a proxy may take as long as it likes with a %s", got)
			}
		})
	}
}

// connectionOf returns the type of a transport's connections.
func connectionOf(t *testing.T, transport http.RoundTripper) (name string) {
	t.Helper()
	server := httptest.NewServer(http.NotFoundHandler())
	defer server.Close()
	trace := &httptrace.ClientTrace{GotConn: func(info httptrace.GotConnInfo) { name = fmt.Sprintf("%T", info.Conn) }}
	req, err := http.NewRequestWithContext(httptrace.WithClientTrace(t.Context(), trace), http.MethodGet, server.URL, nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := wepay.RoundTrip(transport, req)
	if err != nil {
		t.Fatal(err)
	}
	_ = resp.Body.Close()
	return name
}
