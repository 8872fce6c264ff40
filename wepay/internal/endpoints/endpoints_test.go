package endpoints_test

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/windsome/caddy-wepay/wepay/internal/endpoints"
)

// An access point that failed comes last for three minutes, and then first
// again; one that answers is no longer in doubt.
func TestFailingComesLast(t *testing.T) {
	a := newAccess()
	e := a.endpoints(mainURL, spareURL, thirdURL)
	a.does[mainHost] = unreachable
	for _, step := range []struct {
		name    string
		change  func()
		request endpoints.Request
		asked   string
	}{
		{"the main one is away", func() {}, post, mainHost + " " + spareHost},
		{"it comes last", func() {}, post, spareHost},
		{"for three minutes", func() { a.now = a.now.Add(3*time.Minute - 1) }, post, spareHost},
		{"then it is tried", func() { a.now = a.now.Add(1) }, post, mainHost + " " + spareHost},
		{"and is in doubt anew", func() { a.now = a.now.Add(2 * time.Minute) }, post, spareHost},
		{"the second goes, too", func() { a.does[spareHost] = resets }, query, spareHost + " " + thirdHost},
		{"of those that failed the first comes first", func() { a.does[thirdHost] = resets }, query, thirdHost + " " + mainHost + " " + spareHost},
		{"all failed, which is the order as it was; the second is back", func() { a.does[mainHost], a.does[spareHost] = resets, nil }, query, mainHost + " " + spareHost},
		{"that comes first", func() {}, post, spareHost},
	} {
		step.change()
		_ = e.Send(t.Context(), step.request, accepting) // what comes of it is others' to test
		if asked := a.took(); asked != step.asked {
			t.Errorf("%s: asked %q, want %q", step.name, asked, step.asked)
		}
	}
}

// An attempt that failed leaves no context behind, whose time-out goes on.
func TestFailedAttemptEnds(t *testing.T) {
	var asked context.Context
	e := endpoints.New(roundTripper(func(r *http.Request) (*http.Response, error) {
		asked = r.Context()
		return nil, errReset
	}), time.Now, mainURL)
	if err := e.Send(t.Context(), post, accepting); !errors.Is(err, errReset) {
		t.Errorf("got %v", err)
	}
	if asked.Err() == nil {
		t.Error("it goes on")
	}
}

// What one request finds out serves those that are sent at the same time.
func TestManyAtOnce(t *testing.T) {
	e := endpoints.New(roundTripper(func(r *http.Request) (*http.Response, error) {
		if r.URL.Host == mainHost {
			return unreachable(r)
		}
		return answer("fine"), nil
	}), time.Now, mainURL, spareURL)
	var all sync.WaitGroup
	for range 20 {
		all.Go(func() {
			if err := e.Send(t.Context(), post, accepting); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
}

type roundTripper func(*http.Request) (*http.Response, error)

func (f roundTripper) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

func TestPageTitle(t *testing.T) {
	for page, want := range map[string]string{
		"<html><head><title>\n 400 No required SSL certificate was sent </title></head>": ` (a page with the title "400 No required SSL certificate was sent")`,
		"<TITLE>502</TITLE>":     ` (a page with the title "502")`,
		"<title></title>":        "",
		"502 Bad Gateway":        "",
		"":                       "",
		"<title>a\"\x00</title>": ` (a page with the title "a\"\x00")`,
		"<title>" + strings.Repeat("x", 201) + "</title>": "",
	} {
		if got := endpoints.PageTitle([]byte(page)); got != want {
			t.Errorf("%q: got %q, want %q", page, got, want)
		}
	}
}
