package sqlstore

import (
	"context"
	"path/filepath"
	"testing"
	"time"

	"github.com/windsome/caddy-wepay/caddymodule/store"
)

// A queue is looked at when something in it is due, or further ahead than anything
// may be.
func TestScheduleFarAhead(t *testing.T) {
	now := time.Now()
	for _, test := range []struct {
		ahead, longest time.Duration
		ready          bool
	}{
		{-time.Second, time.Hour, true},
		{time.Hour, time.Hour, false},
		{time.Hour + 1, time.Hour, true},
		{48 * time.Hour, 0, false},
	} {
		s := newSchedule()
		s.add(queue, now.Add(test.ahead))
		if ready, _, _ := s.take(queue, now, test.longest); ready != test.ready {
			t.Errorf("%s ahead, of %s at most: ready: %t", test.ahead, test.longest, ready)
		}
	}
}

// An event that is due too far ahead is leased when the store opens, whatever else
// waits in its queue.
func TestFarAheadAtTheStart(t *testing.T) {
	path := filepath.Join(t.TempDir(), "store.db")
	s, _ := openSQLiteAt(t, path)
	near, far := event("evt_near"), event("evt_far")
	near.Due, far.Due = near.Due.Add(30*time.Minute), far.Due.Add(48*time.Hour)
	for _, e := range []*store.Event{near, far} {
		if _, err := s.Put(t.Context(), e); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	again := provisioned(t, &SQLite{Path: path})
	open(t, again, store.Options{LongestWait: time.Hour})
	ctx, cancel := context.WithTimeout(t.Context(), longestTurn/2)
	defer cancel()
	leases, err := again.Lease(ctx, queue, 10, time.Minute)
	if err != nil || len(leases) != 1 || leases[0].Event.ID != "evt_far" {
		t.Errorf("leased %v (%v)", leases, err)
	}
}
