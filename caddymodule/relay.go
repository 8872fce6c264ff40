package caddymodule

import (
	"errors"
	"fmt"
	"maps"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strings"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
)

// Reasons for not knowing the client's address.
var (
	errRelayed = errors.New("the request was relayed by a proxy that is not among trusted_proxies, or that does not say for whom in the header of client_ip_headers, so that the client's address is not known: name the proxy there, or ask for a token in place of allow")
	errSeveral = errors.New("the request names several client addresses, the first of which its sender may have made up: turn on trusted_proxies_strict, and name one header in client_ip_headers")
)

// checkRelay says why the client's address as Caddy has it may be another's. A
// relay that Caddy does not know, or that does not say for whom it asks, lends
// the sender its own address, often this machine's. A relay that leaves no trace
// cannot be seen.
func checkRelay(r *http.Request) error {
	headers, strict := []string{"X-Forwarded-For"}, false
	if server, ok := r.Context().Value(caddyhttp.ServerCtxKey).(*caddyhttp.Server); ok && server != nil {
		strict = server.TrustedProxiesStrict > 0
		if len(server.ClientIPHeaders) > 0 {
			headers = server.ClientIPHeaders
		}
	}
	taken, _ := caddyhttp.GetVar(r.Context(), caddyhttp.ClientIPVarKey).(string)
	client, _ := netip.ParseAddr(taken)
	peer, _ := netip.ParseAddrPort(r.RemoteAddr)
	ofPeer := client == peer.Addr().WithZone("")
	trusted, _ := caddyhttp.GetVar(r.Context(), caddyhttp.TrustedProxyVarKey).(bool)
	switch {
	case trusted && hasHeader(r, headers...):
		return checkClient(r, headers, client, ofPeer, strict)
	case !ofPeer:
		return errRelayed // the header is gone that Caddy took it from
	}
	for _, name := range slices.Sorted(maps.Keys(r.Header)) {
		if saysRelayed(name) || slices.ContainsFunc(headers, func(header string) bool { return strings.EqualFold(name, header) }) {
			return fmt.Errorf("%w; it has the header %.40s", errRelayed, name)
		}
	}
	return nil
}

// checkClient says why the address that Caddy took out of a trusted proxy's
// headers may be the sender's invention. Caddy passes over what is no address;
// without strict it takes the first one, which a proxy that appends leaves to
// the sender, and with it the last one that is no trusted proxy's, even where
// that one says it relays for another. Where all are trusted proxies' it takes
// the peer's.
func checkClient(r *http.Request, headers []string, client netip.Addr, ofPeer, strict bool) error {
	var named []netip.Addr
	for _, name := range headers {
		if !hasHeader(r, name) {
			continue
		}
		entries := strings.Split(strings.Join(r.Header.Values(name), ","), ",")
		if len(entries) > 1 && !strict {
			return errSeveral
		}
		for i, entry := range entries {
			address, err := forwardedAddress(entry)
			if err != nil || i == 0 && address != client && !(ofPeer && strict) {
				return fmt.Errorf("%w; the header %.40s names another", errRelayed, name)
			}
			named = append(named, address)
		}
	}
	return checkRealIP(r, named)
}

// checkRealIP refuses what a proxy that sets X-Real-IP says came from none of the
// addresses that the headers name: nginx passes an X-Forwarded-For on that its sender
// made up unless it is told to set that, too.
func checkRealIP(r *http.Request, named []netip.Addr) error {
	for _, value := range r.Header.Values("X-Real-Ip") {
		if address, err := forwardedAddress(value); err != nil || !slices.Contains(named, address) {
			return fmt.Errorf("%w; the header X-Real-Ip names another", errRelayed)
		}
	}
	return nil
}

// forwardedAddress reads one address of a header as Caddy does.
func forwardedAddress(entry string) (netip.Addr, error) {
	host, _, err := net.SplitHostPort(entry)
	if err != nil {
		host = entry // it has no port
	}
	host, _, _ = strings.Cut(strings.TrimSpace(host), "%")
	return netip.ParseAddr(host)
}

// What the names of headers look like that proxies, load balancers and CDNs add.
var (
	relayNames    = []string{"cdn-loop", "via"}
	relayPrefixes = []string{"cf-", "cloudfront-", "proxy-", "x-amz-cf-", "x-arr-", "x-envoy-", "x-forward", "x-nginx-", "x-original-", "x-proxy", "x-varnish"}
	relaySuffixes = []string{"-addr", "-ip", "-ipv6", "clientip", "realip", "remoteip", "socketip"}
)

// saysRelayed says whether a header is one that a relay adds: X-Forwarded-*,
// Forwarded, Via, and any that names an address, such as X-Real-IP,
// True-Client-IP or CF-Connecting-IP.
func saysRelayed(header string) bool {
	name := strings.ToLower(header)
	return strings.Contains(name, "forwarded") || slices.Contains(relayNames, name) ||
		slices.ContainsFunc(relayPrefixes, func(prefix string) bool { return strings.HasPrefix(name, prefix) }) ||
		slices.ContainsFunc(relaySuffixes, func(suffix string) bool { return strings.HasSuffix(name, suffix) })
}

func hasHeader(r *http.Request, names ...string) bool {
	return slices.ContainsFunc(names, func(name string) bool { return len(r.Header.Values(name)) > 0 })
}
