package caddymodule

import (
	"crypto/sha256"
	"crypto/subtle"
	"errors"
	"net/http"
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
	doubts []*wepay.FieldError // what is valid but probably a mistake
}

// privateRanges among addresses stands for all private ones, as elsewhere in
// Caddy.
const privateRanges = "private_ranges"

// Reasons for refusing access.
var (
	errShut      = errors.New("this route moves money or shows keys, and is shut until the wepay directive says who may ask: add allow <addresses> or token <token>")
	errEarly     = errors.New("the request came before the TLS handshake was complete, where it can be replayed: send it again")
	errAddress   = errors.New("the client's address is not among those of allow")
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
		a.doubtAddresses(a.allow.Ranges)
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
	a.doubtTokens(resolved)
	return a, nil
}

// shut reports whether no one may ask.
func (a *access) shut() bool { return a.allow == nil && len(a.tokens) == 0 }

// check says why a request may not ask for operations. A browser is sent away
// wherever it comes from another site: the addresses that allow names are those
// of the site's own machines, and a page anywhere can make a browser on one of
// them send what it likes.
func (a *access) check(r *http.Request) error {
	switch {
	case a.shut():
		return errShut
	case r.TLS != nil && !r.TLS.HandshakeComplete:
		return errEarly
	case a.fromOtherSite(r):
		return errOtherSite
	}
	if a.allow != nil {
		if err := checkRelay(r); err != nil {
			return err
		}
		if matches, err := a.allow.MatchWithError(r); err != nil || !matches {
			return errAddress
		}
	}
	switch {
	case len(a.tokens) == 0:
		return checkCaller(r)
	case !a.hasToken(r):
		return errBadToken
	default:
		return nil
	}
}

// fromOtherSite says whether a page of another site sends a request. What is safe
// to get elsewhere is not so here, where it is signed and asked of WeChat.
func (a *access) fromOtherSite(r *http.Request) bool {
	asked := *r
	asked.Method = http.MethodPost
	return a.origin.Check(&asked) != nil
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
