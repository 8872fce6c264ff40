package caddymodule

import (
	"fmt"
	"net/netip"
	"net/url"
	"slices"
	"strings"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"go.uber.org/zap"

	"github.com/windsome/caddy-wepay/wepay"
)

// doubt warns of what is valid but probably a mistake.
func (a *App) doubt(merchant *wepay.Merchant, reason string) {
	a.logger.Warn("merchant is doubtful", zap.String("merchant", merchant.Name), zap.String("reason", reason))
}

// doubtTransport warns of connections whose other end is not authenticated.
func (a *App) doubtTransport(directive string, t *transport) {
	if t.guest.TLS == nil || !t.guest.TLS.InsecureSkipVerify {
		return
	}
	a.doubtful(directive, "tls_insecure_skip_verify lets anyone on the network pose as the server, read payments and change them: remove it, or name the server's authority in tls_trust_pool")
}

// doubtful warns of a directive of the global option.
func (a *App) doubtful(directive, reason string) {
	err := a.positions.locate(&wepay.FieldError{Field: directive, Reason: reason})
	a.logger.Warn("wepay is doubtful", zap.String("reason", err.Error()))
}

// doubtEndpoints warns of an order service that cannot tell who asks it, at the
// other end of a network that is not the site's own.
func (a *App) doubtEndpoints(account *account) {
	if len(account.endpoint.Secrets) > 0 {
		return
	}
	m := account.merchant
	for _, notified := range []struct{ directive, url string }{
		{"cb_notify_url", m.CbNotifyURL}, {"cb_refund_notify_url", m.CbRefundNotifyURL}, {"cb_event_url", m.CbEventURL},
	} {
		if u, err := wepay.AbsoluteURL(notified.url); err == nil && u.Scheme == "http" && !isOwnNetwork(u.Hostname()) {
			a.doubt(m, notified.directive+" is plain http to another network, and there is no callback_secret: anyone on the network can read and forge payments: use https, or add callback_secret")
		}
	}
}

// doubtRoutes warns of merchants that no site serves, and of a notify_url whose
// notifications no site takes. The sites are known when all is provisioned.
func (a *App) doubtRoutes() {
	for _, m := range a.merchants.All() {
		serves := func(h *Handler) bool { return h.merchants.Named(m.Name) == m }
		if !slices.ContainsFunc(a.handlers, serves) {
			a.doubt(m, "no wepay directive of this server serves it")
			continue
		}
		u, err := url.Parse(m.NotifyURL)
		if err != nil || m.NotifyURL == "" {
			continue
		}
		taking := slices.DeleteFunc(slices.Clone(a.handlers), func(h *Handler) bool { return !serves(h) || !h.takes(u.Path, m.Name) })
		if len(taking) > 0 {
			if blocked(a.servers(), taking, u) {
				a.doubt(m, fmt.Sprintf("notify_url: the site or the matcher that the wepay directive stands in does not let a POST to %s through, unless something before it rewrites that",
					printable(u.Host+u.Path)))
			}
			continue
		}
		reason := fmt.Sprintf("notify_url: no wepay directive of this server takes notifications at the path %s, unless something before it rewrites that", printable(u.Path))
		if slices.ContainsFunc(a.handlers, func(h *Handler) bool { return h.takes(u.Path, "") }) {
			reason = fmt.Sprintf("notify_url: the path %s takes the notifications of another merchant, and not this one's: end it with /%s", printable(u.Path), m.Name)
		}
		a.doubt(m, reason)
	}
}

// servers are those of Caddy's HTTP app; nil where it is not there.
func (a *App) servers() map[string]*caddyhttp.Server {
	app, err := a.ctx.AppIfConfigured("http")
	if err != nil {
		return nil
	}
	return app.(*caddyhttp.App).Servers
}

// takes reports whether notifications of a merchant are taken at a path; without
// a name, of some merchant.
func (h *Handler) takes(path, name string) bool {
	route, found := strings.CutPrefix(path, h.prefix+"/")
	first, named, _ := strings.Cut(strings.Trim(route, "/"), "/")
	if !found || first != payNotify && first != refundNotify {
		return false
	}
	return named == "" || named == name || name == "" && h.merchants.Named(named) != nil
}

// ownNetworks are the domains whose names no public DNS knows.
// Source: RFC 6761, RFC 6762 appendix G, RFC 8375, ICANN's reservation of
// .internal, and the names that Kubernetes gives to services.
var ownNetworks = []string{
	"corp", "home", "home.arpa", "internal", "intranet", "lan", "local", "localdomain", "localhost", "private", "svc", "test",
}

// isOwnNetwork says whether a host of a URL stands in a network that the site
// may call its own.
func isOwnNetwork(host string) bool {
	if address, err := netip.ParseAddr(host); err == nil {
		address = address.Unmap().WithZone("")
		return isOwnRange(netip.PrefixFrom(address, address.BitLen()))
	}
	name := strings.ToLower(strings.TrimSuffix(host, "."))
	return !strings.Contains(name, ".") ||
		slices.ContainsFunc(ownNetworks, func(domain string) bool { return strings.HasSuffix(name, "."+domain) })
}

// ownRanges are those that no stranger has an address of: private, of this
// machine, of the link, and shared within a provider's network.
// Source: RFC 1918, RFC 3927, RFC 4193, RFC 4291, RFC 6598.
var ownRanges = func() (ranges []netip.Prefix) {
	for _, address := range append(caddyhttp.PrivateRangesCIDR(), "100.64.0.0/10", "169.254.0.0/16", "fc00::/7", "fe80::/10") {
		prefix, err := caddyhttp.CIDRExpressionToPrefix(address)
		if err != nil {
			panic(err) // it is one of these constants
		}
		ranges = append(ranges, prefix.Masked())
	}
	return ranges
}()

func isOwnRange(prefix netip.Prefix) bool {
	return slices.ContainsFunc(ownRanges, func(own netip.Prefix) bool {
		return own.Bits() <= prefix.Bits() && own.Contains(prefix.Addr())
	})
}

// The shortest ranges of the internet that one site may have all to itself, in
// bits.
const (
	widestIPv4 = 16
	widestIPv6 = 32
)

// doubtAddresses warns of ranges that strangers have addresses of.
func (a *access) doubtAddresses(ranges []string) {
	for _, text := range ranges {
		address, _, _ := strings.Cut(text, "%") // the zone, as the matcher does
		prefix, err := caddyhttp.CIDRExpressionToPrefix(address)
		if err != nil || isOwnRange(prefix) {
			continue
		}
		widest := widestIPv6
		if prefix.Addr().Is4() {
			widest = widestIPv4
		}
		if prefix.Bits() < widest {
			a.doubts = append(a.doubts, &wepay.FieldError{Field: "allow", Reason: fmt.Sprintf(
				"%s lets strangers in: name the addresses of the site's own services, or ask for a token in place of it", prefix)})
		}
	}
}

// shortestToken is the length in bytes below which a token can be guessed.
const shortestToken = 16

func (a *access) doubtTokens(tokens []string) {
	for i, token := range tokens {
		if len(token) < shortestToken {
			a.doubts = append(a.doubts, &wepay.FieldError{Field: "token", Reason: fmt.Sprintf(
				"number %d has less than %d characters and can be guessed: make one by openssl rand -hex 24", i+1, shortestToken)})
		}
	}
}
