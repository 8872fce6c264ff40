package caddymodule

import (
	"cmp"
	"fmt"
	"net/http"
	"strings"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	strictjson "github.com/go-json-experiment/json"
	"go.uber.org/zap"

	"github.com/windsome/caddy-wepay/wepay"
	"github.com/windsome/caddy-wepay/wepay/apiv3"
)

func init() {
	caddy.RegisterModule(&Handler{})
}

// Handler offers the operations of WeChat Pay's merchants to the site's own
// services as a JSON API, and takes WeChat's notifications. Requests for other
// paths pass to the next handler.
//
// Every operation is refused until `allow` or `token` opens it; notifications
// are open to all, their signature is the check.
type Handler struct {
	// The path under which the routes are. Default: `/apis/v1/wepay`.
	PathPrefix string `json:"path_prefix,omitempty"`

	// The names of the merchants that this site serves. Default: all.
	Merchants oneOrMore `json:"merchants,omitempty"`

	// The addresses and CIDR ranges that operations may be asked for from;
	// `private_ranges` stands for all private ones. The address is the client's
	// as Caddy knows it: `trusted_proxies` and `trusted_proxies_strict` decide
	// about X-Forwarded-For. Where no token is asked for, the request must name
	// this site, localhost or an address as its Host, and come from no browser.
	Allow oneOrMore `json:"allow,omitempty"`

	// The bearer tokens that operations may be asked for with; several while one
	// is being replaced. Where `allow` is given as well, both must hold.
	Token oneOrMore `json:"token,omitempty"`

	positions positions
	prefix    string
	app       *App
	merchants *wepay.Merchants
	access    *access
	logger    *zap.Logger
}

// UnmarshalJSON reads the directive as MerchantConfig.UnmarshalJSON does a merchant.
func (h *Handler) UnmarshalJSON(text []byte) error {
	type plain Handler
	return strictjson.Unmarshal(text, (*plain)(h), strictConfig)
}

const defaultPathPrefix = "/apis/v1/wepay"

// CaddyModule returns the Caddy module information.
func (*Handler) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{
		ID:  "http.handlers.wepay",
		New: func() caddy.Module { return new(Handler) },
	}
}

// Provision sets up the handler.
func (h *Handler) Provision(ctx caddy.Context) error {
	h.logger = ctx.Logger()
	inFlight.stopWith(ctx)
	h.positions = positionsOf(h)
	repl := caddy.NewReplacer()
	prefix, err := replace(repl, "path_prefix", cmp.Or(h.PathPrefix, defaultPathPrefix))
	if err != nil {
		return h.positions.locate(err)
	}
	if !strings.HasPrefix(prefix, "/") {
		return h.positions.locate(&wepay.FieldError{Field: "path_prefix", Reason: "must begin with /"})
	}
	h.prefix = strings.TrimRight(prefix, "/")
	names, err := replaceAll(repl, "merchants", h.Merchants)
	if err != nil {
		return h.positions.locate(err)
	}
	app, err := ctx.App("wepay")
	if err != nil {
		return fmt.Errorf("getting the wepay app: %w", err)
	}
	h.app = app.(*App)
	if h.merchants, err = h.app.site(names); err != nil {
		return h.positions.locate(err)
	}
	if h.access, err = newAccess(ctx, h.Allow, h.Token); err != nil {
		return h.positions.locate(err)
	}
	h.app.handlers = append(h.app.handlers, h)
	for _, doubt := range h.access.doubts {
		h.logger.Warn("wepay directive is doubtful", zap.String("path_prefix", h.prefix), zap.String("reason", h.positions.locate(doubt).Error()))
	}
	return nil
}

// ServeHTTP answers the requests under the path prefix.
func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request, next caddyhttp.Handler) error {
	route, ours := strings.CutPrefix(r.URL.Path, h.prefix)
	if !ours || route != "" && route[0] != '/' {
		return next.ServeHTTP(w, r)
	}
	route = strings.Trim(route, "/")
	first, rest, _ := strings.Cut(route, "/")
	switch {
	case first == payNotify || first == refundNotify:
		return h.serveNotification(w, r, rest)
	case first == string(apiv3.Pass) && rest != "":
		return h.servePass(w, r)
	default:
		return h.serveOperation(w, r, wepay.Operation(first), rest)
	}
}

// Interface guards
var (
	_ caddy.Provisioner           = (*Handler)(nil)
	_ caddyhttp.MiddlewareHandler = (*Handler)(nil)
)
