package caddymodule

import (
	"crypto/sha256"
	"crypto/subtle"
	"errors"
	"net/http"
	"slices"
	"strings"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/windsome/caddy-wepay/wepay"
)

// access says who may ask for operations.
type access struct {
	allow  *caddyhttp.MatchClientIP // nil: no addresses are named
	tokens [][sha256.Size]byte
	origin *http.CrossOriginProtection
}

// privateRanges among addresses stands for all private ones, as elsewhere in
// Caddy.
const privateRanges = "private_ranges"

// Reasons for refusing access.
var (
	errShut      = errors.New("this route moves money or shows keys, and is shut until the wepay directive says who may ask: add allow <addresses> or token <token>")
	errAddress   = errors.New("the client's address is not among those of allow")
	errRelayed   = errors.New("the request was relayed by a proxy that is not among trusted_proxies, or that does not send the header of client_ip_headers, so that the client's address is not known")
	errBadToken  = errors.New("the request needs the header Authorization: Bearer <token> with one of the tokens of token")
	errOtherSite = errors.New("the request was made by a page of another site")
)

func newAccess(ctx caddy.Context, allow, tokens []string) (*access, error) {
	a := &access{origin: http.NewCrossOriginProtection()}
	repl := caddy.NewReplacer()
	ranges, err := replaceAll(repl, "allow", allow)
	if err != nil {
		return nil, err
	}
	if len(ranges) > 0 {
		a.allow = new(caddyhttp.MatchClientIP)
		for _, address := range ranges {
			if address == privateRanges {
				a.allow.Ranges = append(a.allow.Ranges, caddyhttp.PrivateRangesCIDR()...)
				continue
			}
			a.allow.Ranges = append(a.allow.Ranges, address)
		}
		if err := a.allow.Provision(ctx); err != nil {
			return nil, &wepay.FieldError{Field: "allow", Reason: "reading addresses", Err: err}
		}
	}
	resolved, err := replaceAll(repl, "token", tokens)
	if err != nil {
		return nil, err
	}
	for _, token := range resolved {
		if token == "" || strings.ContainsAny(token, " \t\r\n") {
			return nil, &wepay.FieldError{Field: "token", Reason: "must be one word"}
		}
		a.tokens = append(a.tokens, sha256.Sum256([]byte(token)))
	}
	return a, nil
}

// shut says whether nobody may ask.
func (a *access) shut() bool { return a.allow == nil && len(a.tokens) == 0 }

// check says why a request may not ask for operations. A browser is sent away
// wherever it comes from another site: the addresses that allow names are those
// of the site's own machines, and a page anywhere can make a browser on one of
// them send what it likes.
func (a *access) check(r *http.Request) error {
	switch {
	case a.shut():
		return errShut
	case a.fromOtherSite(r):
		return errOtherSite
	}
	if a.allow != nil {
		if relayedByStranger(r) {
			return errRelayed
		}
		if matches, err := a.allow.MatchWithError(r); err != nil || !matches {
			return errAddress
		}
	}
	if len(a.tokens) > 0 && !a.hasToken(r) {
		return errBadToken
	}
	return nil
}

// fromOtherSite says whether a page of another site sends a request. What is safe
// to get elsewhere is not so here, where it is signed and asked of WeChat.
func (a *access) fromOtherSite(r *http.Request) bool {
	asked := *r
	asked.Method = http.MethodPost
	return a.origin.Check(&asked) != nil
}

// relayedByStranger says whether a request came through something that Caddy
// does not know, or that does not say for whom. Its address is then that of the
// relay, often this machine's own, while the sender may be anybody.
func relayedByStranger(r *http.Request) bool {
	if !hasHeader(r, "X-Forwarded-For", "Forwarded", "X-Real-Ip") {
		return false
	}
	trusted, _ := caddyhttp.GetVar(r.Context(), caddyhttp.TrustedProxyVarKey).(bool)
	told := []string{"X-Forwarded-For"}
	if server, ok := r.Context().Value(caddyhttp.ServerCtxKey).(*caddyhttp.Server); ok && server != nil && len(server.ClientIPHeaders) > 0 {
		told = server.ClientIPHeaders
	}
	return !trusted || !hasHeader(r, told...)
}

func hasHeader(r *http.Request, names ...string) bool {
	return slices.ContainsFunc(names, func(name string) bool { return len(r.Header.Values(name)) > 0 })
}

// hasToken compares with every token, and digests instead of tokens, so that
// the time taken tells neither which was nearly right nor how long one is.
func (a *access) hasToken(r *http.Request) bool {
	scheme, token, _ := strings.Cut(r.Header.Get("Authorization"), " ")
	if !strings.EqualFold(scheme, "Bearer") {
		return false
	}
	given := sha256.Sum256([]byte(strings.TrimSpace(token)))
	found := 0
	for _, known := range a.tokens {
		found |= subtle.ConstantTimeCompare(given[:], known[:])
	}
	return found == 1
}
