package endpoints

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptrace"
	"net/url"
	"regexp"
	"strings"
	"sync/atomic"
	"time"

	"github.com/windsome/caddy-wepay/wepay"
)

// ErrNotSent marks a failure before there was a connection to send anything on.
var ErrNotSent = errors.New("nothing was sent")

// Request is what is sent to an endpoint.
type Request struct {
	Method string
	URI    string // path and query under the endpoint, exactly as they are sent
	Body   []byte // nil: none
	// Repeatable: sent twice, the request does no more than sent once. It may go to
	// the next endpoint when the first gave no valid answer.
	Repeatable bool
	Timeout    time.Duration // of one attempt, to the end of its answer
	// Header sets the headers of an attempt, such as a signature with its time. If
	// it fails nothing is sent.
	Header func(http.Header) error
	// Open is called with the error of an attempt that WeChat may have processed all
	// the same, before the next is made; nil: it is dropped.
	Open func(error)
}

// Send sends a request to one endpoint after the other until read accepts an
// answer. A request that may have been sent and is not repeatable goes to no
// further endpoint. Read closes the answer. The error wraps wepay.ErrNoAnswer, and
// ErrNotSent if nothing was sent.
func (e *Endpoints) Send(ctx context.Context, r Request, read func(*http.Response) error) error {
	var failures []error
	sent := false
	for _, endpoint := range e.inOrder() {
		req, err := r.to(endpoint)
		if err != nil {
			failures = append(failures, err)
			break // the next would fail as well
		}
		attemptSent, err := e.attempt(ctx, req, r.Timeout, read)
		if err == nil {
			e.works(endpoint)
			return nil
		}
		sent = sent || attemptSent
		failure := fmt.Errorf("%s: %w", req.URL.Host, err)
		failures = append(failures, failure)
		if ctx.Err() != nil {
			break
		}
		e.fails(endpoint)
		if attemptSent && !r.Repeatable {
			break
		}
		if attemptSent && r.Open != nil {
			r.Open(failure)
		}
	}
	err := fmt.Errorf("%w: %w", wepay.ErrNoAnswer, errors.Join(failures...))
	if !sent {
		err = fmt.Errorf("%w: %w", err, ErrNotSent)
	}
	return err
}

// Doubt weakens the verdict of a refusal after attempts whose outcome is open: one
// of them may have succeeded, and be the reason of the refusal. Unknown is the
// call's verdict for an unknown outcome.
func Doubt(refused *wepay.Error, unknown wepay.Verdict, open []error) {
	if len(open) == 0 || unknown != wepay.Query || refused.Verdict == wepay.Done {
		return
	}
	refused.Verdict = unknown
	refused.Err = errors.Join(refused.Err, fmt.Errorf("an attempt before may have succeeded: %w", errors.Join(open...)))
}

// to makes what is sent to an endpoint.
func (r Request) to(endpoint string) (*http.Request, error) {
	req, err := http.NewRequest(r.Method, strings.TrimRight(endpoint, "/")+r.URI, bytes.NewReader(r.Body))
	if invalid, isURL := errors.AsType[*url.Error](err); isURL {
		err = invalid.Err // the URL may hold what a log is not to know
	}
	if err != nil {
		return nil, fmt.Errorf("making a request: %w", err)
	}
	if err := r.Header(req.Header); err != nil {
		return nil, err
	}
	if r.Repeatable {
		// Without a value the header is not sent; it lets net/http repeat the
		// request when WeChat closed the idle connection it went out on.
		req.Header["Idempotency-Key"] = []string{}
	}
	return req, nil
}

// errRead ends the context of an attempt whose answer is closed.
var errRead = errors.New("the answer has been read")

// attempt sends a request once and says whether any of it may have been sent.
func (e *Endpoints) attempt(ctx context.Context, req *http.Request, timeout time.Duration, read func(*http.Response) error) (sent bool, err error) {
	if err := context.Cause(ctx); err != nil {
		return false, err
	}
	ctx, end := context.WithCancelCause(ctx)
	ctx, stop := context.WithTimeout(ctx, timeout)
	cancel := func() { end(errRead); stop() }
	var dials, connected atomic.Bool
	ctx = httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{
		GetConn: func(string) { dials.Store(true) },
		GotConn: func(httptrace.GotConnInfo) { connected.Store(true) },
	})
	resp, err := wepay.RoundTrip(e.transport, req.WithContext(ctx))
	if err != nil {
		cancel()
		// A transport that does not report looking for a connection does not report
		// having one either.
		return connected.Load() || !dials.Load(), err
	}
	// A bill is read after this returns, so that its end ends the time-out.
	resp.Body = &endingBody{resp.Body, cancel}
	if err := read(resp); err != nil {
		// That the time was up says more than the error it caused. That the answer was
		// read, and then rejected, says nothing.
		up := context.Cause(ctx)
		if errors.Is(up, errRead) || errors.Is(err, up) {
			up = nil
		}
		return true, errors.Join(up, err, resp.Body.Close())
	}
	return true, nil
}

// endingBody ends the request's context when it is closed.
type endingBody struct {
	io.ReadCloser
	cancel func()
}

func (b *endingBody) Close() error {
	defer b.cancel()
	return b.ReadCloser.Close()
}

var title = regexp.MustCompile(`(?is)<title>\s*(.{1,200}?)\s*</title>`)

// PageTitle quotes the title of an HTML page that came instead of an answer, such
// as "400 No required SSL certificate was sent"; "" for other text.
func PageTitle(text []byte) string {
	match := title.FindSubmatch(text)
	if match == nil {
		return ""
	}
	return fmt.Sprintf(" (a page with the title %q)", match[1])
}
