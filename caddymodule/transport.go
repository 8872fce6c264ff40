package caddymodule

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp/reverseproxy"

	"github.com/windsome/caddy-wepay/wepay"
)

// transport is Caddy's own transport of the reverse proxy, used outside of it.
type transport struct {
	guest *reverseproxy.HTTPTransport
	repl  *caddy.Replacer
}

// RoundTrip sends a request.
func (t *transport) RoundTrip(req *http.Request) (*http.Response, error) {
	ctx := ownContext{req.Context(), t.repl}
	return t.guest.RoundTrip(req.WithContext(ctx))
}

// ownContext hides from the guest what Caddy keeps in a request's context. The
// guest reads there what a reverse proxy left for it, the address to dial above
// all; ours may come from within a proxied request.
type ownContext struct {
	context.Context
	repl *caddy.Replacer
}

// Value knows of Caddy's values only those that are ours. Variables are another map
// for each who asks: a dial goes on while its request is tried again.
func (c ownContext) Value(key any) any {
	switch key {
	case caddyhttp.VarsCtxKey:
		return make(map[string]any)
	case caddy.ReplacerCtxKey:
		return c.repl
	}
	if _, isCaddys := key.(caddy.CtxKey); isCaddys {
		return nil
	}
	return c.Context.Value(key)
}

// loadTransport loads a guest of its own from a transport block, or the default
// one without a block. It ends with the config's context.
func loadTransport(ctx caddy.Context, raw json.RawMessage) (*transport, error) {
	raw, err := withDefaults(raw, bounds)
	if err != nil {
		return nil, err
	}
	host := &struct {
		Raw json.RawMessage `caddy:"namespace=http.reverse_proxy.transport inline_key=protocol"`
	}{raw}
	loaded, err := ctx.LoadModule(host, "Raw")
	if err != nil {
		return nil, err
	}
	guest, ok := loaded.(*reverseproxy.HTTPTransport)
	if !ok {
		return nil, fmt.Errorf("%T is not the http transport", loaded)
	}
	// A connection goes on being made when its request is given up.
	if guest.Transport.TLSHandshakeTimeout == 0 {
		guest.Transport.TLSHandshakeTimeout = 5 * time.Second
	}
	wepay.BoundConnecting(guest.Transport)
	return &transport{guest, caddy.NewReplacer()}, nil
}

// loadMerchantTransport loads a merchant's own connections to WeChat Pay, which
// present its certificate and are shared with no other merchant.
func loadMerchantTransport(ctx caddy.Context, raw json.RawMessage, merchant *wepay.Merchant) (*transport, error) {
	raw, err := withDefaults(raw, weChatDefaults)
	if err != nil {
		return nil, err
	}
	t, err := loadTransport(ctx, raw)
	if err != nil {
		return nil, err
	}
	if slices.Contains(t.guest.Versions, "3") {
		return nil, errors.New("versions: WeChat Pay is not asked over HTTP/3, which has no client certificates here")
	}
	rt := t.guest.Transport
	if rt.TLSClientConfig == nil {
		rt.TLSClientConfig = &tls.Config{MinVersion: tls.VersionTLS12}
	}
	merchant.ConfigureTLS(rt.TLSClientConfig)
	return t, nil
}

// bounds hold for every server. Those of time are for what no request's context
// ends: how long a server may take to speak, and to read. (TLS 1.3
// lets a server demand writes, and crypto/tls closes no connection before the
// write to it has ended.)
var bounds = map[string]json.RawMessage{
	"protocol":                 json.RawMessage(`"http"`),
	"max_response_header_size": json.RawMessage(strconv.Itoa(wepay.MaxResponseHeader)),
	"read_timeout":             json.RawMessage(`"10m"`),
	"write_timeout":            json.RawMessage(`"5s"`),
}

// weChatDefaults: WeChat's documents speak of HTTP/1.1, whose TLS alone knows
// renegotiation, and WeChat closes idle connections after about a minute.
var weChatDefaults = map[string]json.RawMessage{
	"versions":   json.RawMessage(`["1.1"]`),
	"keep_alive": json.RawMessage(`{"idle_timeout":"50s"}`),
}

// withDefaults fills in what a transport block leaves open.
func withDefaults(raw json.RawMessage, defaults map[string]json.RawMessage) (json.RawMessage, error) {
	fields := maps.Clone(defaults)
	if raw != nil {
		var given map[string]json.RawMessage
		if err := json.Unmarshal(raw, &given); err != nil {
			return nil, err
		}
		maps.Copy(fields, given)
	}
	return json.Marshal(fields)
}

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
