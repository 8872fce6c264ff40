package endpoints_test

import (
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptrace"
	"strings"
	"testing"
	"time"

	"github.com/windsome/caddy-wepay/wepay/internal/endpoints"
)

// Three access points, and how they are named in errors.
const (
	mainURL, mainHost   = "https://main.example", "main.example"
	spareURL, spareHost = "https://spare.example", "spare.example"
	thirdURL, thirdHost = "https://third.example/", "third.example"
)

// access is what the access points do, by their hosts, and what was asked of
// them.
type access struct {
	does  map[string]func(*http.Request) (*http.Response, error)
	asked []string
	now   time.Time
}

func newAccess() *access {
	return &access{does: make(map[string]func(*http.Request) (*http.Response, error)), now: time.Unix(1700000000, 0)}
}

func (a *access) RoundTrip(r *http.Request) (*http.Response, error) {
	a.asked = append(a.asked, r.URL.Host)
	if does := a.does[r.URL.Host]; does != nil {
		return does(r)
	}
	return answer("fine"), nil
}

func (a *access) endpoints(urls ...string) *endpoints.Endpoints {
	return endpoints.New(a, func() time.Time { return a.now }, urls...)
}

// took returns what was asked since it was called last.
func (a *access) took() string {
	asked := strings.Join(a.asked, " ")
	a.asked = nil
	return asked
}

func answer(text string) *http.Response {
	return &http.Response{StatusCode: http.StatusOK, Header: http.Header{}, Body: io.NopCloser(strings.NewReader(text))}
}

// What can go wrong, in the order in which it can.
var (
	errRefused = &net.OpError{Op: "dial", Net: "tcp", Err: errors.New("connection refused")}
	errReset   = &net.OpError{Op: "read", Net: "tcp", Err: errors.New("connection reset by peer")}
)

// unreachable is an access point that there is no connection to.
func unreachable(r *http.Request) (*http.Response, error) {
	httptrace.ContextClientTrace(r.Context()).GetConn(r.URL.Host)
	return nil, errRefused
}

// resets is one that is reached, and breaks off.
func resets(r *http.Request) (*http.Response, error) {
	trace := httptrace.ContextClientTrace(r.Context())
	trace.GetConn(r.URL.Host)
	trace.GotConn(httptrace.GotConnInfo{})
	return nil, errReset
}

// tellsNothing is one over connections that do not say what they do.
func tellsNothing(*http.Request) (*http.Response, error) { return nil, errReset }

// hangs is one that is reached, and says nothing until the time is up.
func hangs(r *http.Request) (*http.Response, error) {
	trace := httptrace.ContextClientTrace(r.Context())
	trace.GetConn(r.URL.Host)
	trace.GotConn(httptrace.GotConnInfo{})
	<-r.Context().Done()
	return nil, r.Context().Err()
}

// says is one that answers.
func says(text string) func(*http.Request) (*http.Response, error) {
	return func(*http.Request) (*http.Response, error) { return answer(text), nil }
}

// post is a request that WeChat may do once only, and query one that it may be
// asked again.
var (
	post  = endpoints.Request{Method: http.MethodPost, URI: "/pay?token=secret", Body: []byte("a body"), Timeout: time.Minute, Header: noHeader}
	query = endpoints.Request{Method: http.MethodGet, URI: "/pay?token=secret", Timeout: time.Minute, Repeatable: true, Header: noHeader}
)

func noHeader(http.Header) error { return nil }

var errRejected = errors.New("it is not signed")

// accepting reads an answer, and accepts "fine".
func accepting(resp *http.Response) error {
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err == nil && string(text) != "fine" {
		err = errRejected
	}
	return err
}

// check compares what was asked, and of errors what they wrap.
func check(t *testing.T, a *access, asked string, got, want error) {
	t.Helper()
	if took := a.took(); took != asked {
		t.Errorf("asked %q, want %q", took, asked)
	}
	if !errors.Is(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}
