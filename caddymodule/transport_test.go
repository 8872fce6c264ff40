package caddymodule

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/http/httptrace"
	"strings"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

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
		handshake   time.Duration
	}{
		{"without a block", "", 64 << 10, 10 * time.Minute, 5 * time.Second, 5 * time.Second},
		{"with another option", `{"protocol":"http","compression":false}`, 64 << 10, 10 * time.Minute, 5 * time.Second, 5 * time.Second},
		{"with its own", `{"max_response_header_size":1000,"read_timeout":"1m","write_timeout":"2s","tls":{"handshake_timeout":"3s"}}`, 1000, time.Minute, 2 * time.Second, 3 * time.Second},
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
			if got := guest.Transport.TLSHandshakeTimeout; got != test.handshake {
				t.Errorf("a TLS handshake may take %v", got)
			}
			if got := connectionOf(t, transport); got != "*wepay.connecting" {
				t.Errorf("a proxy may take as long as it likes with a %s", got)
			}
		})
	}
}

// WeChat is asked over HTTP/1.1, on connections that are given up before it closes
// them.
func TestMerchantTransport(t *testing.T) {
	ctx, cancel := caddy.NewContext(caddy.Context{Context: context.Background()})
	t.Cleanup(cancel)
	transport, err := loadMerchantTransport(ctx, nil, new(wepay.Merchant))
	if err != nil {
		t.Fatal(err)
	}
	guest := transport.guest
	if len(guest.Versions) != 1 || guest.Versions[0] != "1.1" || guest.Transport.IdleConnTimeout != 50*time.Second {
		t.Errorf("it speaks %v, and keeps idle connections for %v", guest.Versions, guest.Transport.IdleConnTimeout)
	}
}

// Of a proxied request's context the guest sees nothing that is Caddy's.
func TestOwnContext(t *testing.T) {
	type own struct{}
	theirs := context.WithValue(t.Context(), own{}, "ours")
	for _, key := range []caddy.CtxKey{caddyhttp.VarsCtxKey, caddy.ReplacerCtxKey, "reverse_proxy.dial_info"} {
		theirs = context.WithValue(theirs, key, "theirs")
	}
	repl := caddy.NewReplacer()
	ctx := ownContext{theirs, repl}
	caddyhttp.SetVar(ctx, "a", "b") // while another dial looks
	if caddyhttp.GetVar(ctx, "a") != nil || ctx.Value(caddy.ReplacerCtxKey) != repl || ctx.Value(caddy.CtxKey("reverse_proxy.dial_info")) != nil || ctx.Value(own{}) != "ours" {
		t.Errorf("it sees %v", ctx)
	}
}

// saying is a body that ends in an error which holds what its server said.
type saying struct{ io.Reader }

func (s saying) Read(p []byte) (int, error) {
	n, err := s.Reader.Read(p)
	if err != nil {
		err = errors.New("GOAWAY secret=of-the-server")
	}
	return n, err
}

func (saying) Close() error { return nil }

// What an order service says in errors is quoted, and 101 is no answer of it.
func TestOrderTransport(t *testing.T) {
	answer := func(resp *http.Response, err error) (*http.Response, error) {
		transport := orderTransport{transportFunc(func(*http.Request) (*http.Response, error) { return resp, err }), new(wepay.Merchant).Quoter()}
		return transport.RoundTrip(httptest.NewRequest(http.MethodPost, "/", nil))
	}
	if resp, err := answer(nil, errors.New("GOAWAY secret=of-the-server")); err == nil || strings.Contains(err.Error(), "of-the-server") {
		t.Errorf("got %v, %v", resp, err)
	}
	if resp, err := answer(&http.Response{StatusCode: http.StatusSwitchingProtocols, Body: http.NoBody}, nil); err == nil {
		t.Errorf("got %v", resp)
	}
	for _, test := range []struct {
		body io.ReadCloser
		want string
	}{
		{saying{strings.NewReader("{}")}, "GOAWAY secret=***"},
		{io.NopCloser(strings.NewReader("{}")), "<nil>"},
	} {
		resp, err := answer(&http.Response{StatusCode: http.StatusOK, Body: test.body}, nil)
		if err != nil {
			t.Fatal(err)
		}
		if text, err := io.ReadAll(resp.Body); string(text) != "{}" || fmt.Sprint(err) != test.want {
			t.Errorf("got %s, %v", text, err)
		}
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
