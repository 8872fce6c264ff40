package wepay

import (
	"crypto/tls"
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
	}
}
