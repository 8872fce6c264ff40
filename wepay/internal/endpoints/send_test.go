package endpoints_test

import (
	"context"
	"errors"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/windsome/caddy-wepay/wepay"
	"github.com/windsome/caddy-wepay/wepay/internal/endpoints"
)

// What may have been done is asked of the next access point only where doing it
// again does no harm, and what was not sent is asked there in any case.
func TestFailover(t *testing.T) {
	const both = mainHost + " " + spareHost
	for name, test := range map[string]struct {
		first      func(*http.Request) (*http.Response, error)
		post       string // which were asked
		cause      error  // of the failure, where the second is not asked
		mayBeTaken bool   // by the first
	}{
		"it answers":                      {says("fine"), mainHost, nil, true},
		"there is no connection":          {unreachable, both, nil, false},
		"it breaks off":                   {resets, mainHost, errReset, true},
		"the connections tell nothing":    {tellsNothing, mainHost, errReset, true},
		"an answer that is rejected":      {says("<html>"), mainHost, errRejected, true},
		"it says a part of it":            {cutShort, mainHost, io.ErrUnexpectedEOF, true},
		"it is not there for HTTP at all": {func(*http.Request) (*http.Response, error) { return nil, http.ErrSchemeMismatch }, mainHost, http.ErrSchemeMismatch, true},
	} {
		t.Run(name, func(t *testing.T) {
			a := newAccess()
			a.does[mainHost] = test.first
			err := a.endpoints(mainURL, spareURL).Send(t.Context(), post, accepting)
			check(t, a, test.post, err, test.cause)
			if (err == nil) != (test.cause == nil) || err != nil && (!errors.Is(err, wepay.ErrNoAnswer) || errors.Is(err, endpoints.ErrNotSent)) {
				t.Errorf("once: got %v", err)
			}

			asked := both
			if name == "it answers" {
				asked = mainHost
			}
			check(t, a, asked, a.endpoints(mainURL, spareURL).Send(t.Context(), query, accepting), nil)

			// Alone it says whether it may have been taken.
			err = a.endpoints(mainURL).Send(t.Context(), post, accepting)
			if errors.Is(err, endpoints.ErrNotSent) == test.mayBeTaken {
				t.Errorf("alone: got %v", err)
			}
			a.took()
		})
	}
}

func cutShort(*http.Request) (*http.Response, error) {
	resp := answer("")
	resp.Body = io.NopCloser(io.MultiReader(strings.NewReader("fi"), failing{io.ErrUnexpectedEOF}))
	return resp, nil
}

type failing struct{ error }

func (f failing) Read([]byte) (int, error) { return 0, f.error }

// Where one was reached and the next was not, something may have been sent.
func TestNotSentIsOfAll(t *testing.T) {
	a := newAccess()
	a.does[mainHost], a.does[spareHost], a.does[thirdHost] = unreachable, resets, unreachable
	for name, test := range map[string]struct {
		request endpoints.Request
		urls    []string
		asked   string
		notSent bool
	}{
		"none is reached":      {query, []string{mainURL, thirdURL}, mainHost + " " + thirdHost, true},
		"the second is":        {query, []string{mainURL, spareURL, thirdURL}, mainHost + " " + spareHost + " " + thirdHost, false},
		"the second is, once":  {post, []string{mainURL, spareURL, thirdURL}, mainHost + " " + spareHost, false},
		"none is reached once": {post, []string{mainURL, thirdURL}, mainHost + " " + thirdHost, true},
	} {
		t.Run(name, func(t *testing.T) {
			err := a.endpoints(test.urls...).Send(t.Context(), test.request, accepting)
			check(t, a, test.asked, err, wepay.ErrNoAnswer)
			if errors.Is(err, endpoints.ErrNotSent) != test.notSent {
				t.Errorf("got %v", err)
			}
		})
	}
}

// An error names each access point that failed, and why, and nothing of what was
// asked.
func TestErrorsNameTheEndpoint(t *testing.T) {
	a := newAccess()
	a.does[mainHost], a.does[spareHost] = unreachable, resets
	err := a.endpoints(mainURL, spareURL).Send(t.Context(), query, accepting)
	for _, want := range []string{mainHost + ": dial tcp: connection refused", spareHost + ": read tcp: connection reset by peer"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want %q in it", err, want)
		}
	}
	bad := query
	bad.URI = "/pay\x00?token=secret"
	for name, err := range map[string]error{"an access point": err, "a URL": a.endpoints(mainURL).Send(t.Context(), bad, accepting)} {
		if !errors.Is(err, wepay.ErrNoAnswer) || strings.Contains(err.Error(), "secret") || strings.Contains(err.Error(), "/pay") {
			t.Errorf("%s: got %v", name, err)
		}
	}
}

// Each attempt says what it has to say anew, and nothing is sent, and no access
// point in doubt, where that fails.
func TestHeader(t *testing.T) {
	a := newAccess()
	var got []http.Header
	for _, host := range []string{mainHost, spareHost} {
		a.does[host] = func(r *http.Request) (*http.Response, error) {
			body, _ := io.ReadAll(r.Body)
			if string(body) != string(post.Body) || r.Method != http.MethodPost || r.URL.RequestURI() != post.URI {
				t.Errorf("%s got %s %s %q", host, r.Method, r.URL.RequestURI(), body)
			}
			got = append(got, r.Header)
			return answer(host), nil
		}
	}
	request, times := post, 0
	request.Repeatable = true
	request.Header = func(h http.Header) error {
		times++
		h.Set("Authorization", strings.Repeat("x", times))
		return nil
	}
	e := a.endpoints(mainURL, spareURL)
	check(t, a, mainHost+" "+spareHost, e.Send(t.Context(), request, accepting), errRejected)
	if len(got) != 2 || got[0].Get("Authorization") != "x" || got[1].Get("Authorization") != "xx" {
		t.Errorf("sent %v", got)
	}
	unsigned := errors.New("there is no key")
	request.Header = func(http.Header) error { return unsigned }
	e = a.endpoints(mainURL, spareURL)
	if err := e.Send(t.Context(), request, accepting); !errors.Is(err, unsigned) || !errors.Is(err, endpoints.ErrNotSent) || !errors.Is(err, wepay.ErrNoAnswer) {
		t.Errorf("got %v", err)
	}
	check(t, a, "", nil, nil)
	a.does = nil
	check(t, a, mainHost, e.Send(t.Context(), post, accepting), nil)
}

// The time-out is of each attempt, from the connection to the end of the answer.
func TestTimeout(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := newAccess()
		a.does[mainHost] = hangs
		a.does[spareHost] = func(r *http.Request) (*http.Response, error) {
			resp := answer("")
			resp.Body = endless{r.Context()}
			return resp, nil
		}
		began := time.Now()
		check(t, a, mainHost+" "+spareHost+" "+thirdHost, a.endpoints(mainURL, spareURL, thirdURL).Send(t.Context(), query, accepting), nil)
		if took := time.Since(began); took != 2*query.Timeout {
			t.Errorf("it took %s", took)
		}
		err := a.endpoints(spareURL).Send(t.Context(), query, accepting)
		check(t, a, spareHost, err, context.DeadlineExceeded)
		if err != nil && strings.Count(err.Error(), "deadline exceeded") != 1 {
			t.Errorf("got %v", err)
		}
	})
}

// endless is an answer that never ends, and breaks off when the time is up.
type endless struct{ ctx context.Context }

func (e endless) Read([]byte) (int, error) {
	<-e.ctx.Done()
	return 0, context.Cause(e.ctx)
}

func (endless) Close() error { return nil }

// The time-out ends with the body: it does not end an answer that is read after
// Send, and an answer that has been read is not held up by it.
func TestTimeoutEndsWithTheBody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := newAccess()
		var attempt context.Context
		a.does[mainHost] = func(r *http.Request) (*http.Response, error) {
			attempt = r.Context()
			return answer("a bill"), nil
		}
		var body io.ReadCloser
		keeping := func(resp *http.Response) error { body = resp.Body; return nil }
		if err := a.endpoints(mainURL).Send(t.Context(), query, keeping); err != nil {
			t.Fatal(err)
		}
		time.Sleep(query.Timeout - 1)
		if attempt.Err() != nil {
			t.Errorf("it ended with Send: %v", attempt.Err())
		}
		if text, err := io.ReadAll(body); string(text) != "a bill" || err != nil || body.Close() != nil {
			t.Errorf("read %q, %v", text, err)
		}
		if attempt.Err() == nil {
			t.Error("it did not end with the body")
		}
		if err := a.endpoints(mainURL).Send(t.Context(), query, keeping); err != nil {
			t.Fatal(err)
		}
		time.Sleep(query.Timeout)
		synctest.Wait()
		if !errors.Is(attempt.Err(), context.DeadlineExceeded) {
			t.Errorf("after the time-out: %v", attempt.Err())
		}
	})
}

// Whoever hangs up has nothing asked any more, and hangs up on no access point.
func TestCallerHangsUp(t *testing.T) {
	gone := errors.New("the caller is gone")
	a := newAccess()
	ctx, hangUp := context.WithCancelCause(t.Context())
	a.does[mainHost] = func(r *http.Request) (*http.Response, error) {
		hangUp(gone)
		return hangs(r)
	}
	e := a.endpoints(mainURL, spareURL)
	err := e.Send(ctx, post, accepting)
	check(t, a, mainHost, err, context.Canceled)
	if errors.Is(err, endpoints.ErrNotSent) {
		t.Errorf("it was sent, and got %v", err)
	}
	a.does = nil
	check(t, a, mainHost, e.Send(t.Context(), query, accepting), nil)
	for _, request := range []endpoints.Request{query, post} {
		err := e.Send(ctx, request, accepting)
		check(t, a, "", err, gone)
		if !errors.Is(err, endpoints.ErrNotSent) {
			t.Errorf("before anything is sent: got %v", err)
		}
	}
}

// An answer that came in time and is rejected has that one cause, and not
// that its context ended when it had been read.
func TestNotBelievedInTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := newAccess()
		a.does[mainHost] = says("<html>")
		err := a.endpoints(mainURL).Send(t.Context(), query, accepting)
		if check(t, a, mainHost, err, errRejected); errors.Is(err, context.Canceled) || strings.Contains(err.Error(), "read") {
			t.Errorf("got %v", err)
		}
		// It takes longer than the caller has, and than an attempt may take, to find
		// out.
		for _, patience := range []time.Duration{query.Timeout / 2, 2 * query.Timeout} {
			ctx, cancel := context.WithTimeout(t.Context(), patience)
			defer cancel()
			err := a.endpoints(mainURL).Send(ctx, query, func(resp *http.Response) error {
				err := accepting(resp)
				<-ctx.Done()
				return err
			})
			if check(t, a, mainHost, err, errRejected); errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("late: got %v", err)
			}
		}
	})
}

// closing counts how often a body is closed.
type closing struct {
	io.Reader
	closed int
	err    error
}

func (c *closing) Close() error {
	c.closed++
	return c.err
}

// An answer that is refused is closed whether read did or not.
func TestBodyIsClosed(t *testing.T) {
	a := newAccess()
	stuck := errors.New("it does not close")
	body := &closing{Reader: strings.NewReader("x"), err: stuck}
	a.does[mainHost] = func(*http.Request) (*http.Response, error) {
		resp := answer("")
		resp.Body = body
		return resp, nil
	}
	err := a.endpoints(mainURL).Send(t.Context(), query, func(*http.Response) error { return errRejected })
	if check(t, a, mainHost, err, errRejected); body.closed != 1 || !errors.Is(err, stuck) {
		t.Errorf("it was closed %d times, got %v", body.closed, err)
	}
	body.closed = 0
	check(t, a, mainHost, a.endpoints(mainURL).Send(t.Context(), query, func(*http.Response) error { return nil }), nil)
	if body.closed != 0 {
		t.Error("an answer that is kept was closed")
	}
}

// A redirect is an answer like any other: nothing that is signed goes elsewhere.
func TestRedirect(t *testing.T) {
	elsewhere := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { t.Error("it was followed") }))
	defer elsewhere.Close()
	server := httptest.NewServer(http.RedirectHandler(elsewhere.URL, http.StatusTemporaryRedirect))
	defer server.Close()
	transport := &http.Transport{}
	defer transport.CloseIdleConnections()
	for _, request := range []endpoints.Request{query, post} {
		status := 0
		err := endpoints.New(transport, time.Now, server.URL).Send(t.Context(), request, func(resp *http.Response) error {
			status = resp.StatusCode
			return resp.Body.Close()
		})
		if err != nil || status != http.StatusTemporaryRedirect {
			t.Errorf("got %d, %v", status, err)
		}
	}
}

// Go's own connections tell what was sent: nothing before TLS agrees, something
// once a server has taken the connection.
func TestRealConnections(t *testing.T) {
	slams := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }))
	defer slams.Close()
	strange := httptest.NewUnstartedServer(http.NotFoundHandler())
	strange.Config.ErrorLog = log.New(io.Discard, "", 0)
	strange.StartTLS()
	defer strange.Close()
	gone := httptest.NewServer(http.NotFoundHandler())
	gone.Close()
	transport := &http.Transport{}
	defer transport.CloseIdleConnections()
	for name, test := range map[string]struct {
		url     string
		notSent bool
	}{
		"one that is gone": {gone.URL, true}, "one with a strange certificate": {strange.URL, true}, "one that breaks off": {slams.URL, false},
	} {
		for _, request := range []endpoints.Request{query, post} {
			err := endpoints.New(transport, time.Now, test.url).Send(t.Context(), request, accepting)
			if !errors.Is(err, wepay.ErrNoAnswer) || errors.Is(err, endpoints.ErrNotSent) != test.notSent {
				t.Errorf("%s, %s: got %v", name, request.Method, err)
			}
		}
	}
}
