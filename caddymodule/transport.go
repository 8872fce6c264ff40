package caddymodule

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"slices"
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
	ctx := ownContext{req.Context(), make(map[string]any), t.repl}
	return t.guest.RoundTrip(req.WithContext(ctx))
}

// ownContext hides from the guest what Caddy keeps in a request's context. The
// guest reads there what a reverse proxy left for it, the address to dial above
// all; ours may come from within a proxied request.
type ownContext struct {
	context.Context
	vars map[string]any
	repl *caddy.Replacer
}

// Value knows of Caddy's values only those that are ours.
func (c ownContext) Value(key any) any {
	switch key {
	case caddyhttp.VarsCtxKey:
		return c.vars
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
	if raw == nil {
		raw = json.RawMessage(`{"protocol":"http"}`)
	}
	host := &struct {
		Raw json.RawMessage `caddy:"namespace=http.reverse_proxy.transport inline_key=protocol"`
	}{slices.Clone(raw)}
	loaded, err := ctx.LoadModule(host, "Raw")
	if err != nil {
		return nil, err
	}
	guest, ok := loaded.(*reverseproxy.HTTPTransport)
	if !ok {
		return nil, fmt.Errorf("%T is not the http transport", loaded)
	}
	return &transport{guest, caddy.NewReplacer()}, nil
}

// loadMerchantTransport loads a merchant's own connections to WeChat Pay, which
// present its certificate and are shared with no other merchant.
func loadMerchantTransport(ctx caddy.Context, raw json.RawMessage, merchant *wepay.Merchant) (*transport, error) {
	raw, err := withWeChatDefaults(raw)
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
	if rt.TLSHandshakeTimeout == 0 {
		rt.TLSHandshakeTimeout = 5 * time.Second
	}
	merchant.ConfigureTLS(rt.TLSClientConfig)
	return t, nil
}

// withWeChatDefaults fills in what a transport block leaves open. WeChat's
// documents speak of HTTP/1.1, whose TLS alone knows renegotiation, and WeChat
// closes idle connections after about a minute.
func withWeChatDefaults(raw json.RawMessage) (json.RawMessage, error) {
	fields := map[string]json.RawMessage{
		"protocol":   json.RawMessage(`"http"`),
		"versions":   json.RawMessage(`["1.1"]`),
		"keep_alive": json.RawMessage(`{"idle_timeout":"50s"}`),
	}
	if raw != nil {
		var given map[string]json.RawMessage
		if err := json.Unmarshal(raw, &given); err != nil {
			return nil, err
		}
		maps.Copy(fields, given)
	}
	return json.Marshal(fields)
}
