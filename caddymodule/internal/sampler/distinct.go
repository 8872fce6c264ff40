package sampler

import (
	"sync"
	"time"
)

// Distinct tells what is new from what has happened in the same interval before. Its
// zero value is ready to use, by many goroutines.
type Distinct struct {
	mu    sync.Mutex
	began time.Time
	seen  map[string]bool
}

// New reports whether something is new. No more than most things are in one interval,
// so that it does not matter who chooses them.
func (d *Distinct) New(what string, most int) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.seen == nil || time.Since(d.began) >= Interval {
		d.began, d.seen = time.Now(), make(map[string]bool)
	}
	if d.seen[what] || len(d.seen) >= most {
		return false
	}
	d.seen[what] = true
	return true
}
