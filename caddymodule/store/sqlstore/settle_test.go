package sqlstore

import (
	"errors"
	"reflect"
	"testing"
	"time"

	"github.com/windsome/caddy-wepay/caddymodule/internal/dbtest"
	"github.com/windsome/caddy-wepay/caddymodule/store"
)

// Events that are settled together are stored each as its holder leaves it, but those
// whose lease is lost.
func TestSettledTogether(t *testing.T) {
	for engine, dsn := range map[string]func(t *testing.T) string{
		"mysql":    func(t *testing.T) string { return dbtest.StartMariaDB(t).NewDSN(t) },
		"postgres": func(t *testing.T) string { return dbtest.StartPostgres(t).NewDSN(t) },
	} {
		t.Run(engine, func(t *testing.T) {
			place := dsn(t)
			s := provisioned(t, storeOf(engine, place))
			open(t, s, store.Options{})
			testSettledTogether(t, s, databaseOf(s))
		})
	}
}

func databaseOf(s anyStore) *database {
	switch s := s.(type) {
	case *Postgres:
		return s.db
	case *MySQL:
		return s.db
	default:
		return s.(*SQLite).db
	}
}

func testSettledTogether(t *testing.T, s store.Store, db *database) {
	now := time.UnixMilli(time.Now().UnixMilli())
	many := db.dialect.rows + 3 // and so more than one statement
	put(t, s, 0, many)
	leases := make(map[string]*store.Lease)
	for len(leases) < many {
		leased, err := s.Lease(t.Context(), queue, many, time.Hour)
		if err != nil {
			t.Fatal(err)
		}
		for _, l := range leased {
			leases[l.Event.ID] = l
		}
	}
	ends := []func(e *store.Event){
		func(e *store.Event) { e.State, e.Due, e.Ended = store.Delivered, time.Time{}, now },
		func(e *store.Event) {
			e.Due, e.Attempts, e.Reason, e.Refused, e.Answer = now, 3, "? :a $1 '", true, "答"
		},
		func(e *store.Event) {
			e.State, e.Due, e.Ended, e.Reason = store.Dead, time.Time{}, now.Add(time.Second), "gone"
		},
		func(e *store.Event) { e.Since, e.Attempts = now, 1 },
	}
	var batch []*job
	lost := make(map[*job]bool)
	add := func(l *store.Lease, held *token) *job {
		j := &job{ctx: t.Context(), settles: &settlement{held, *l.Event}}
		batch = append(batch, j)
		return j
	}
	want := make(map[string]*store.Event)
	for n := many - 1; n >= 0; n-- {
		l := leases[eventID(n)]
		held := *l.Token.(*token)
		switch before := *l.Event; n {
		case 2: // leased by another by now
			want[before.ID] = &before
			held.number++
			l.Event.State = store.Delivered
			lost[add(l, &held)] = true
		case 3: // dropped
			if err := s.Drop(t.Context(), before.ID, "test"); err != nil {
				t.Fatal(err)
			}
			dropped, err := s.Get(t.Context(), before.ID)
			if err != nil {
				t.Fatal(err)
			}
			want[before.ID] = dropped
			l.Event.State = store.Delivered
			lost[add(l, &held)] = true
		default:
			ends[n%len(ends)](l.Event)
			want[before.ID] = l.Event
			add(l, &held)
		}
	}
	if err := db.writeSettles(t.Context(), batch); err != nil {
		t.Fatal(err)
	}
	for _, j := range batch {
		id := j.settles.event.ID
		if errors.Is(j.err, store.ErrLeaseLost) != lost[j] || !lost[j] && j.err != nil {
			t.Errorf("Settle of %s: %v", id, j.err)
		}
		if got, err := s.Get(t.Context(), id); err != nil || !reflect.DeepEqual(got, want[id]) {
			t.Errorf("%s is\n%#v\nwant\n%#v (%v)", id, got, want[id], err)
		}
	}
	// A lease is settled once, also if it is twice in a batch.
	put(t, s, many, many+1)
	leased, err := s.Lease(t.Context(), queue, many, time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	for _, l := range leased {
		if l.Event.ID != eventID(many) {
			continue // it was due again
		}
		l.Event.State, l.Event.Due = store.Delivered, time.Time{}
		first, again := add(l, l.Token.(*token)), add(l, l.Token.(*token))
		if err := db.writeSettles(t.Context(), []*job{first, again}); err != nil || first.err != nil || !errors.Is(again.err, store.ErrLeaseLost) {
			t.Errorf("Settle, and again: %v, %v (%v)", first.err, again.err, err)
		}
		return
	}
	t.Error("the last event is not leased")
}
