package caddymodule

import (
	"io"
	"net/http"

	"github.com/windsome/caddy-wepay/wepay"
)

// orderTransport is the way to a merchant's order service. It returns final
// answers only, and errors that hold none of the merchant's secrets.
type orderTransport struct {
	http.RoundTripper
	quoter *wepay.Quoter
}

// RoundTrip sends a request.
func (t orderTransport) RoundTrip(req *http.Request) (*http.Response, error) {
	resp, err := wepay.RoundTrip(t.RoundTripper, req)
	if err != nil {
		return nil, t.quoter.QuoteError(err)
	}
	resp.Body = quotedBody{resp.Body, t.quoter}
	return resp, nil
}

// quotedBody is a body whose errors may hold what its server said.
type quotedBody struct {
	io.ReadCloser
	quoter *wepay.Quoter
}

func (b quotedBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	if err != nil && err != io.EOF {
		err = b.quoter.QuoteError(err)
	}
	return n, err
}
