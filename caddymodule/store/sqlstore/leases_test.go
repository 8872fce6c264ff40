package sqlstore

import (
	"errors"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// The store is looked into again at once only where there may be more to lease: a
// look passes by all that is leased already.
func TestSQLiteLooksAgain(t *testing.T) {
	const term = time.Hour
	for _, test := range []struct {
		name   string
		events int
		limit  int
		later  time.Duration // an event that is due then; 0: none
		next   time.Duration
	}{
		{"more", 4, 3, 0, 0},
		{"there may be more", 1 + lookAhead, 1, 0, 0},
		{"nothing else", 4, 5, 0, term},
		{"another soon", 4, 5, time.Minute, time.Minute},
		{"another when the lease has run out", 4, 5, 2 * term, term},
	} {
		t.Run(test.name, func(t *testing.T) {
			s, _ := openSQLiteAt(t, filepath.Join(t.TempDir(), "store.db"))
			put(t, s, 0, test.events)
			began := time.Now()
			if test.later > 0 {
				e := event(eventID(1000))
				e.Due = began.Add(test.later)
				if _, err := s.Put(t.Context(), e); err != nil {
					t.Fatal(err)
				}
			}
			if leases, err := s.Lease(t.Context(), queue, test.limit, term); err != nil || len(leases) != min(test.events, test.limit) {
				t.Fatalf("Lease: %d events (%v)", len(leases), err)
			}
			_, at, _ := s.db.schedule.take(queue, began, 0)
			if wait := at.Sub(began); wait < test.next-time.Millisecond || wait > test.next+time.Minute/2 {
				t.Errorf("the next look is after %s, want %s", wait, test.next)
			}
		})
	}
}

// planned asks for the plan of each query first.
type planned struct {
	session
	steps []string
}

func (p *planned) query(query string, each func(scan func(dest ...any) error) error, args ...any) error {
	err := p.session.query("EXPLAIN QUERY PLAN "+query, func(scan func(...any) error) error {
		var id, parent, unused int64
		var step string
		err := scan(&id, &parent, &unused, &step)
		p.steps = append(p.steps, step)
		return err
	}, args...)
	return errors.Join(err, p.session.query(query, each, args...))
}

// What is to be leased an index has in its order: sorting would take the longer the
// more there is.
func TestSQLiteSortsNothing(t *testing.T) {
	s, _ := openSQLiteAt(t, filepath.Join(t.TempDir(), "store.db"))
	put(t, s, 0, 4)
	f := s.db.engine.(*file)
	p := &planned{session: f.leaser}
	err := f.leaser.within(t.Context(), func() error {
		leases, _, err := f.take(p, &s.instance, queue, 5, time.Hour)
		if len(leases) != 4 {
			t.Errorf("%d events are leased, want 4", len(leases))
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, step := range p.steps {
		if !strings.HasPrefix(step, "SEARCH ") {
			t.Errorf("there is more to a lease than to find it in an index: %s", step)
		}
	}
}
