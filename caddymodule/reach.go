package caddymodule

import (
	"context"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp/rewrite"
)

// search looks for what a POST to a URL gets to among a server's routes, without
// running any of them.
type search struct {
	wanted  []*Handler
	request *http.Request

	found   bool // one of those wanted is there
	reached bool // and gets the request, for all that is known
}

// blocked reports whether all of some handlers stand where the host, path and method
// matchers around them keep a POST to a URL out. Whatever else may keep it out, or
// change its path on the way, is given the benefit of the doubt.
func blocked(servers map[string]*caddyhttp.Server, handlers []*Handler, to *url.URL) bool {
	ctx := context.WithValue(context.Background(), caddy.ReplacerCtxKey, caddy.NewReplacer())
	s := search{wanted: handlers, request: (&http.Request{Method: http.MethodPost, URL: to, Host: to.Host}).WithContext(ctx)}
	for _, server := range servers {
		s.walk(server.Routes, true)
	}
	return s.found && !s.reached
}

func (s *search) walk(routes caddyhttp.RouteList, through bool) {
	for _, route := range routes {
		through := through && s.mayMatch(route.MatcherSets)
		for _, handler := range route.Handlers {
			switch handler := handler.(type) {
			case *Handler:
				if slices.Contains(s.wanted, handler) {
					s.found, s.reached = true, s.reached || through
				}
			case *caddyhttp.Subroute:
				s.walk(handler.Routes, through)
			case *rewrite.Rewrite: // so that the path is another behind it
				s.reached = true
			}
		}
	}
}

// mayMatch reports whether one of some matcher sets matches, as far as is known.
func (s *search) mayMatch(sets caddyhttp.MatcherSets) bool {
	return len(sets) == 0 || slices.ContainsFunc(sets, func(set caddyhttp.MatcherSet) bool {
		return !slices.ContainsFunc(set, s.keepsOut)
	})
}

// keepsOut reports whether a matcher certainly does not match.
func (s *search) keepsOut(matcher any) bool {
	switch matcher := matcher.(type) {
	case *caddyhttp.MatchHost:
		matches, err := matcher.MatchWithError(s.request)
		return !matches && err == nil && !hasPlaceholder(*matcher)
	case *caddyhttp.MatchPath:
		matches, err := matcher.MatchWithError(s.request)
		return !matches && err == nil && !hasPlaceholder(*matcher)
	case *caddyhttp.MatchMethod:
		matches, err := matcher.MatchWithError(s.request)
		return !matches && err == nil
	default:
		return false
	}
}

func hasPlaceholder(patterns []string) bool {
	return slices.ContainsFunc(patterns, func(pattern string) bool { return strings.Contains(pattern, "{") })
}
