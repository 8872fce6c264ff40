package apiv2

import (
	"sync"
	"time"
)

// failingFor is how long an endpoint comes last after it failed, the time after
// which WeChat's own SDK tries the main one again.
const failingFor = 3 * time.Minute

// endpoints are access points that serve the same, and which of them do not
// answer.
type endpoints struct {
	urls []string

	mu      sync.Mutex
	failing map[string]time.Time // until when to try the others first
}

func newEndpoints(urls ...string) *endpoints {
	return &endpoints{urls: urls, failing: make(map[string]time.Time)}
}

// inOrder returns the endpoints as configured, those that failed lately last.
func (e *endpoints) inOrder(now time.Time) []string {
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

func (e *endpoints) works(url string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	delete(e.failing, url)
}

func (e *endpoints) fails(url string, now time.Time) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.failing[url] = now.Add(failingFor)
}
