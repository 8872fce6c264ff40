// Package endpoints sends requests to WeChat Pay's access points, which are
// interchangeable. Those that failed recently are tried last. A request that one
// may have processed goes to another only if it is repeatable.
package endpoints

import (
	"net/http"
	"sync"
	"time"
)

// failingFor is how long an endpoint is tried last after a failure. WeChat's own
// SDK returns to the main one after the same time.
const failingFor = 3 * time.Minute

// Endpoints are interchangeable access points, with the recent failures of each.
// They may be used by many goroutines.
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
