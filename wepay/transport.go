package wepay

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptrace"
	"time"
)

// NewTransport returns connections to WeChat Pay for one merchant, with its
// certificate. WeChat closes idle connections after about a minute.
func NewTransport(merchant *Merchant) *http.Transport {
	config := &tls.Config{MinVersion: tls.VersionTLS12}
	merchant.ConfigureTLS(config)
	transport := &http.Transport{
		Proxy:               http.ProxyFromEnvironment,
		DialContext:         (&net.Dialer{Timeout: 3 * time.Second, KeepAlive: 30 * time.Second}).DialContext,
		TLSClientConfig:     config,
		TLSHandshakeTimeout: 5 * time.Second,
		MaxIdleConnsPerHost: 32,
		IdleConnTimeout:     50 * time.Second,

		MaxResponseHeaderBytes: MaxResponseHeader,
	}
	BoundConnecting(transport)
	return transport
}

// MaxResponseHeader bounds the header of an answer, and of all interim ones that
// come before it, in bytes.
const MaxResponseHeader = 64 << 10

// RoundTrip sends a request and returns the final answer to it. 101 Switching
// Protocols is an error, and its connection is closed: the body that net/http
// returns with it is the connection itself, which no context ends.
func RoundTrip(transport http.RoundTripper, req *http.Request) (*http.Response, error) {
	ctx := context.WithValue(req.Context(), bounded{}, true)
	ctx = httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{GotConn: func(info httptrace.GotConnInfo) { connected(info.Conn) }})
	resp, err := transport.RoundTrip(req.WithContext(ctx))
	if err != nil {
		return nil, err
	}
	if resp.StatusCode < 200 {
		err := fmt.Errorf("HTTP status %d, which is no final answer", resp.StatusCode)
		return nil, errors.Join(err, resp.Body.Close())
	}
	return resp, nil
}

// proxyTime is how long a proxy may take to let a connection through, besides TLS
// handshakes.
const proxyTime = 5 * time.Second

// bounded marks the context of a request by RoundTrip.
type bounded struct{}

// connecting is a connection that is closed unless a request gets it in time.
type connecting struct {
	net.Conn
	late *time.Timer
}

// BoundConnecting has a transport's connections closed that are dialed for
// RoundTrip and do not get through a proxy and TLS in time. Net/http goes on with
// them when their request has been given up, and waits for a SOCKS proxy for ever.
func BoundConnecting(transport *http.Transport) {
	dial, limit := transport.DialContext, proxyTime+2*transport.TLSHandshakeTimeout
	transport.DialContext = func(ctx context.Context, network, address string) (net.Conn, error) {
		conn, err := dial(ctx, network, address)
		if err != nil || ctx.Value(bounded{}) == nil {
			return conn, err
		}
		return &connecting{conn, time.AfterFunc(limit, func() { _ = conn.Close() })}, nil
	}
}

// connected lets a connection last that a request has got.
func connected(conn net.Conn) {
	for {
		switch c := conn.(type) {
		case *connecting:
			c.late.Stop()
			return
		case interface{ NetConn() net.Conn }:
			conn = c.NetConn()
		default:
			return
		}
	}
}
