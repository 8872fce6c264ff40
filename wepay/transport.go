package wepay

import (
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"time"
)

// NewTransport returns connections to WeChat Pay for one merchant, with its
// certificate. WeChat closes idle connections after about a minute.
func NewTransport(merchant *Merchant) *http.Transport {
	config := &tls.Config{MinVersion: tls.VersionTLS12}
	merchant.ConfigureTLS(config)
	return &http.Transport{
		Proxy:               http.ProxyFromEnvironment,
		DialContext:         (&net.Dialer{Timeout: 3 * time.Second, KeepAlive: 30 * time.Second}).DialContext,
		TLSClientConfig:     config,
		TLSHandshakeTimeout: 5 * time.Second,
		MaxIdleConnsPerHost: 32,
		IdleConnTimeout:     50 * time.Second,

		MaxResponseHeaderBytes: MaxResponseHeader,
	}
}

// MaxResponseHeader bounds the header of an answer, and of all interim ones that
// come before it, in bytes.
const MaxResponseHeader = 64 << 10

// RoundTrip sends a request and returns the final answer to it. 101 Switching
// Protocols is an error, and its connection is closed: the body that net/http
// returns with it is the connection itself, which no context ends.
func RoundTrip(transport http.RoundTripper, req *http.Request) (*http.Response, error) {
	resp, err := transport.RoundTrip(req)
	if err != nil {
		return nil, err
	}
	if resp.StatusCode < 200 {
		err := fmt.Errorf("HTTP status %d, which is no final answer", resp.StatusCode)
		return nil, errors.Join(err, resp.Body.Close())
	}
	return resp, nil
}
