// Package endpoints reaches WeChat Pay's access points, which all serve the
// same: those that did not answer lately are asked last, and what may have been
// taken by one is not sent to another unless that does no harm.
package endpoints

import (
	"net/http"
	"sync"
	"time"
)

// failingFor is how long an endpoint comes last after it failed, the time after
// which WeChat's own SDK tries the main one again.
const failingFor = 3 * time.Minute

// Endpoints are access points that serve the same, and which of them do not
// answer. They may be used by many goroutines.
type Endpoints struct {
	transport http.RoundTripper
	now       func() time.Time
	urls      []string

	mu      sync.Mutex
	failing map[string]time.Time // until when to try the others first
}

// New returns the access points at some URLs.
func New(transport http.RoundTripper, now func() time.Time, urls ...string) *Endpoints {
	return &Endpoints{transport: transport, now: now, urls: urls, failing: make(map[string]time.Time)}
}

// inOrder returns the endpoints as configured, those that failed lately last.
func (e *Endpoints) inOrder() []string {
	now := e.now()
	e.mu.Lock()
	defer e.mu.Unlock()
	var first, last []string
	for _, url := range e.urls {
		if now.Before(e.failing[url]) {
			last = append(last, url)
		} else {
			first = append(first, url)
		}
	}
	return append(first, last...)
}

func (e *Endpoints) works(url string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	delete(e.failing, url)
}

func (e *Endpoints) fails(url string) {
	until := e.now().Add(failingFor)
	e.mu.Lock()
	defer e.mu.Unlock()
	e.failing[url] = until
}
