package endpoints

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptrace"
	"regexp"
	"strings"
	"sync/atomic"
	"time"

	"github.com/windsome/caddy-wepay/wepay"
)

// ErrNotSent marks a failure before a byte of the request left this machine.
var ErrNotSent = errors.New("nothing was sent")

// Request is what is sent to an endpoint.
type Request struct {
	Method string
	URI    string // path and query under the endpoint, exactly as they are sent
	Body   []byte // nil: none
	// Repeatable: the same request does no more than the first, so that it may go
	// to the next endpoint when the first gave no believable answer.
	Repeatable bool
	Timeout    time.Duration // of one attempt
	// Header puts in what an attempt has to say besides, such as when it was
	// signed.
	Header func(http.Header) error
}

// Send sends a request to the endpoints, one after the other, until one gives
// an answer that can be read. What has been sent and may not be repeated stays
// with the endpoint that may have taken it. Read gets the answer to close. The
// error wraps wepay.ErrNoAnswer, and ErrNotSent where nothing was.
func (e *Endpoints) Send(ctx context.Context, r Request, read func(*http.Response) error) error {
	var failures []error
	sent := false
	for _, endpoint := range e.inOrder() {
		attemptSent, err := e.attempt(ctx, r, endpoint, read)
		if err == nil {
			e.works(endpoint)
			return nil
		}
		sent = sent || attemptSent
		failures = append(failures, err)
		if ctx.Err() != nil {
			break
		}
		e.fails(endpoint)
		if attemptSent && !r.Repeatable {
			break
		}
	}
	err := fmt.Errorf("%w: %w", wepay.ErrNoAnswer, errors.Join(failures...))
	if !sent {
		err = fmt.Errorf("%w: %w", err, ErrNotSent)
	}
	return err
}

// attempt sends a request to one endpoint and says whether any of it was sent.
func (e *Endpoints) attempt(ctx context.Context, r Request, endpoint string, read func(*http.Response) error) (sent bool, err error) {
	caller := ctx
	ctx, cancel := context.WithTimeout(caller, r.Timeout)
	var wrote atomic.Bool
	ctx = httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{WroteHeaders: func() { wrote.Store(true) }})

	req, err := http.NewRequestWithContext(ctx, r.Method, strings.TrimRight(endpoint, "/")+r.URI, bytes.NewReader(r.Body))
	if err == nil {
		err = r.Header(req.Header)
	}
	if err != nil {
		cancel()
		return false, err
	}
	if r.Repeatable {
		// Without a value the header is not sent; it lets net/http repeat the
		// request when WeChat closed the idle connection it went out on.
		req.Header["Idempotency-Key"] = []string{}
	}
	resp, err := e.transport.RoundTrip(req)
	if err != nil {
		cancel()
		return wrote.Load(), fmt.Errorf("%s: %w", req.URL.Host, err)
	}
	// A bill is read after this returns, so that its end ends the time-out.
	resp.Body = &endingBody{resp.Body, cancel}
	if err := read(resp); err != nil {
		// What came when the time was up says less than that it was up. That read
		// closed the body says nothing.
		up := context.Cause(ctx)
		if caller.Err() == nil && !errors.Is(up, context.DeadlineExceeded) {
			up = nil
		}
		return true, fmt.Errorf("%s: %w", req.URL.Host, errors.Join(up, err, resp.Body.Close()))
	}
	return true, nil
}

// endingBody ends the request's context when it is closed.
type endingBody struct {
	io.ReadCloser
	cancel context.CancelFunc
}

func (b *endingBody) Close() error {
	defer b.cancel()
	return b.ReadCloser.Close()
}

var title = regexp.MustCompile(`(?is)<title>\s*(.{1,200}?)\s*</title>`)

// PageTitle quotes the title of an HTML page, which says more than that it is
// no answer: "400 No required SSL certificate was sent". It is "" for other
// text.
func PageTitle(text []byte) string {
	match := title.FindSubmatch(text)
	if match == nil {
		return ""
	}
	return fmt.Sprintf(" (a page with the title %q)", match[1])
}
