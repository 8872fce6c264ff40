package caddymodule

import (
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"net/url"
	"strings"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
)

// Reasons for refusing a caller from whom no token is asked.
var (
	errBrowser = errors.New("the request was made by a browser, whose pages may come from anywhere: call from the site's own services, or configure a token")
	errHost    = errors.New("the request's Host is neither an address, nor localhost, nor a name of this site's, so that it may be a stranger's which DNS rebinding points here: put the name before the site's block, as in http://caddy:8081 { … } (where :8081 stands beside it no name counts), or ask for a token")
)

// checkCaller says why a request may be a stranger's although it comes from one
// of the site's own machines: a page can have its own name point to the site,
// and make the browsers of its visitors ask there.
func checkCaller(r *http.Request) error {
	switch host, ok := hostname(r.Host); {
	case byBrowser(r):
		return errBrowser
	case !ok || !isAddress(host) && !isLocalhost(host) && !servesHost(r, host):
		return fmt.Errorf("%w; it is %.80q", errHost, r.Host)
	default:
		return nil
	}
}

// byBrowser says whether a browser made a request. A page can neither set nor
// take away Sec-Fetch-Site and Origin. Browsers send the one to https and
// localhost only, and the other with whatever is no GET; the User-Agent of a GET
// that crosses sites is theirs to choose, too. Sec-Fetch-Mode says nothing, since
// Node's fetch sends it, and neither does the User-Agent of a POST, since HTTP
// clients of Java's claim to be browsers.
func byBrowser(r *http.Request) bool {
	return hasHeader(r, "Sec-Fetch-Site", "Origin") ||
		r.Method == http.MethodGet && strings.HasPrefix(r.UserAgent(), "Mozilla/")
}

// hostname takes the port, the brackets and the final dot off a request's Host.
func hostname(host string) (string, bool) {
	u, err := url.Parse("http://" + host)
	if err != nil || u.Host != host {
		return "", false // it has more than a host and a port
	}
	name := strings.ToLower(strings.TrimSuffix(u.Hostname(), "."))
	return name, name != ""
}

func isAddress(host string) bool {
	_, err := netip.ParseAddr(host)
	return err == nil
}

func isLocalhost(host string) bool {
	return host == "localhost" || strings.HasSuffix(host, ".localhost")
}

// servesHost says whether the configuration of the request's server names a host.
func servesHost(r *http.Request, host string) bool {
	server, ok := r.Context().Value(caddyhttp.ServerCtxKey).(*caddyhttp.Server)
	return ok && server != nil && routesName(server.Routes, host)
}

// routesName says whether a host matcher of these routes, or of routes within
// them, names a host.
func routesName(routes caddyhttp.RouteList, host string) bool {
	for _, route := range routes {
		for _, matchers := range route.MatcherSets {
			for _, matcher := range matchers {
				if hosts, ok := matcher.(*caddyhttp.MatchHost); ok && matcherNames(*hosts, host) {
					return true
				}
			}
		}
		for _, handler := range route.Handlers {
			if within, ok := handler.(*caddyhttp.Subroute); ok && routesName(within.Routes, host) {
				return true
			}
		}
	}
	return false
}

// matcherNames says whether a host matcher names a host. A wildcard stands for
// one label before a domain of two and more; what matches any host, such as *,
// *.* or *.com, names none.
func matcherNames(patterns caddyhttp.MatchHost, host string) bool {
	_, domain, _ := strings.Cut(host, ".")
	for _, pattern := range patterns {
		if strings.Contains(pattern, "{") {
			pattern = caddy.NewReplacer().ReplaceAll(pattern, "") // not of what the request says
		}
		if parent, wild := strings.CutPrefix(pattern, "*."); wild {
			if strings.Contains(parent, ".") && strings.EqualFold(parent, domain) {
				return true
			}
		} else if strings.EqualFold(pattern, host) {
			return true
		}
	}
	return false
}
