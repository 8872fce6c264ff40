package sqlstore

import (
	"context"
	"errors"
	"math/rand/v2"
	"net/http"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/windsome/caddy-wepay/caddymodule/store"
)

// looked opens a store that has looked for what is due, and returns its file, and what
// leases without a wait.
func looked(t *testing.T) (s *SQLite, f *file, lease func(limit int) []*store.Lease) {
	t.Helper()
	s, _ = openSQLiteAt(t, filepath.Join(t.TempDir(), "store.db"))
	f = s.db.engine.(*file)
	lease = func(limit int) []*store.Lease {
		t.Helper()
		leases, err := s.db.lease(t.Context(), &s.instance, queue, limit, time.Hour)
		if err != nil {
			t.Fatal(err)
		}
		return leases
	}
	lease(1)
	f.queue(queue).looked = time.Now().Add(time.Hour) // however slow this machine is
	return s, f, lease
}

func idsOf(leases []*store.Lease) (ids []string) {
	for _, l := range leases {
		ids = append(ids, l.Event.ID)
	}
	return ids
}

// putAt puts an event that was due a while ago.
func putAt(t *testing.T, s store.Store, id string, ago time.Duration) {
	t.Helper()
	e := event(id)
	e.Due = e.Due.Add(-ago)
	if _, err := s.Put(t.Context(), e); err != nil {
		t.Fatal(err)
	}
}

// An event that was just put is leased without a look, and is as a look finds it.
func TestLeasedAsStored(t *testing.T) {
	shanghai := time.FixedZone("CST", 8*3600)
	for name, change := range map[string]func(e *store.Event){
		"usual":           func(*store.Event) {},
		"an ID of WeChat": func(e *store.Event) { e.ID = "EV-2018022511223320873" },
		"all of it": func(e *store.Event) {
			e.OutRefundNo, e.After, e.Attempts, e.Refused = "refund", "evt_before", 3, true
			e.Reason, e.Answer, e.Ended = "a\x00b\xff\xfec", "\xb3\xc9", time.Now()
			e.Trace = http.Header{"Traceparent": {"00-1"}, "Tracestate": {"a=\xff", "<&>"}, "Empty": {}, "Nil": nil}
			e.Received, e.Due = e.Received.In(shanghai), e.Due.UTC().Add(-time.Second-7)
		},
		"little of it": func(e *store.Event) {
			*e = store.Event{ID: e.ID, Merchant: e.Merchant, Kind: e.Kind, State: e.State, Trace: http.Header{}}
		},
		"an empty payload": func(e *store.Event) { e.Payload = []byte{} },
	} {
		t.Run(name, func(t *testing.T) {
			s, f, lease := looked(t)
			e := event(eventID(1))
			change(e)
			before := f.queue(queue).looked
			if added, err := s.Put(t.Context(), e); err != nil || !added {
				t.Fatalf("Put: %v (%v)", added, err)
			}
			leases := lease(1)
			if len(leases) != 1 || f.queue(queue).looked != before {
				t.Fatalf("%d events are leased; there was a look: %v", len(leases), f.queue(queue).looked != before)
			}
			got := leases[0].Event
			want, err := s.Get(t.Context(), e.ID)
			if err != nil || !reflect.DeepEqual(got, want) {
				t.Errorf("leased is\n%#v\nwant\n%#v (%v)", got, want, err)
			}
			if len(got.Payload) > 0 && &got.Payload[0] == &e.Payload[0] {
				t.Error("the payload is the caller's")
			}
		})
	}
}

// What has changed since an event was put counts, also if nothing is looked for, and
// what is due first comes first.
func TestReady(t *testing.T) {
	settled := func(t *testing.T, s *SQLite, l *store.Lease, due time.Time) {
		t.Helper()
		l.Event.Due = due
		if err := s.Settle(t.Context(), l); err != nil {
			t.Fatal(err)
		}
	}
	for _, test := range []struct {
		name   string
		change func(t *testing.T, s *SQLite, f *file, lease func(int) []*store.Lease)
		want   []string // of "b" and "a", which were put, and due in the order of their names
	}{
		{"nothing", func(*testing.T, *SQLite, *file, func(int) []*store.Lease) {}, []string{"a", "b"}},
		{"one is leased", func(_ *testing.T, _ *SQLite, _ *file, lease func(int) []*store.Lease) { lease(1) }, []string{"b"}},
		{"one is due again at once", func(t *testing.T, s *SQLite, _ *file, lease func(int) []*store.Lease) {
			settled(t, s, lease(1)[0], time.Time{})
		}, []string{"a", "b"}},
		{"one is due again later", func(t *testing.T, s *SQLite, _ *file, lease func(int) []*store.Lease) {
			settled(t, s, lease(1)[0], time.Now().Add(time.Minute))
		}, []string{"b"}},
		{"one is due again too late", func(t *testing.T, s *SQLite, _ *file, lease func(int) []*store.Lease) {
			s.db.setOptions(store.Options{LongestWait: time.Minute})
			settled(t, s, lease(1)[0], time.Now().Add(time.Second))
			putAt(t, s, "far", -time.Hour)
		}, []string{"b", "far"}},
		{"one is dropped", func(t *testing.T, s *SQLite, _ *file, _ func(int) []*store.Lease) {
			if err := s.Drop(t.Context(), "a", "test"); err != nil {
				t.Fatal(err)
			}
		}, []string{"b"}},
		{"one is replayed", func(t *testing.T, s *SQLite, _ *file, lease func(int) []*store.Lease) {
			if err := errors.Join(s.Drop(t.Context(), "a", "test"), errOf(s.Replay(t.Context(), "a"))); err != nil {
				t.Fatal(err)
			}
		}, []string{"b", "a"}},
		{"one that is ready is replayed", func(t *testing.T, s *SQLite, _ *file, _ func(int) []*store.Lease) {
			if _, err := s.Replay(t.Context(), "a"); err != nil {
				t.Fatal(err)
			}
		}, []string{"b", "a"}},
		{"its holder leaves", func(t *testing.T, s *SQLite, f *file, lease func(int) []*store.Lease) {
			lease(1)
			if err := f.release(t.Context(), &s.instance); err != nil {
				t.Fatal(err)
			}
		}, []string{"a", "b"}},
		{"a lease runs out", func(t *testing.T, s *SQLite, f *file, _ func(int) []*store.Lease) {
			if leases, err := s.db.lease(t.Context(), &s.instance, queue, 1, -time.Second); err != nil || len(leases) != 1 {
				t.Fatal(leases, err)
			}
		}, []string{"a", "b"}},
		{"another is not yet due", func(t *testing.T, s *SQLite, _ *file, _ func(int) []*store.Lease) {
			putAt(t, s, "c", -time.Minute)
		}, []string{"a", "b"}},
		{"the last look was long ago", func(t *testing.T, s *SQLite, f *file, _ func(int) []*store.Lease) {
			err := s.db.write(t.Context(), func(tx session) error {
				return errOf(tx.exec("UPDATE wepay_event SET due = 1 WHERE out_trade_no = 'orderb'"))
			})
			if err != nil {
				t.Fatal(err)
			}
			f.queue(queue).looked = time.Now().Add(-2 * lookAgain)
		}, []string{"b", "a"}},
		{"the file is opened again", func(t *testing.T, s *SQLite, f *file, _ func(int) []*store.Lease) {
			err := s.db.write(t.Context(), func(session) error {
				f.broken = true
				return nil
			})
			putAt(t, s, "later", -time.Hour)
			if err != nil || f.broken || len(f.queue(queue).ready) > 0 {
				t.Errorf("broken: %v, ready: %d (%v)", f.broken, len(f.queue(queue).ready), err)
			}
		}, []string{"a", "b"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			s, f, lease := looked(t)
			putAt(t, s, "b", time.Second)
			putAt(t, s, "a", time.Minute)
			test.change(t, s, f, lease)
			var got []string
			for range test.want {
				got = append(got, idsOf(lease(1))...)
			}
			if got = append(got, idsOf(lease(10))...); !slices.Equal(got, test.want) {
				t.Errorf("leased are %q, want %q", got, test.want)
			}
		})
	}
}

func errOf[T any](_ T, err error) error { return err }

// More than is kept ready is leased all the same, once and in its order.
func TestReadyOverflows(t *testing.T) {
	for name, test := range map[string]struct{ events, bytes, limit int }{
		"events":         {mostReady + 10, 10, 7},
		"bytes":          {20, mostReadyBytes / 16, 3},
		"one too large":  {1, mostReadyBytes + 1, 1},
		"a look's bytes": {lookAhead, mostReadyBytes / 4, 2},
	} {
		t.Run(name, func(t *testing.T) {
			s, f, lease := looked(t)
			if name == "a look's bytes" {
				f.changed()
			}
			var got, want []string
			for n := range test.events {
				e := event(eventID(n))
				e.Payload, e.Due = []byte(`"`+strings.Repeat("x", test.bytes)+`"`), e.Due.Add(time.Duration(n)*time.Millisecond-time.Hour)
				if _, err := s.Put(t.Context(), e); err != nil {
					t.Fatal(err)
				}
				want = append(want, e.ID)
			}
			for leases := lease(test.limit); len(leases) > 0; leases = lease(test.limit) {
				if got = append(got, idsOf(leases)...); f.readyEvents > mostReady || f.readyBytes > mostReadyBytes+test.bytes+2 {
					t.Fatalf("%d events of %d bytes are ready", f.readyEvents, f.readyBytes)
				}
			}
			if !slices.Equal(got, want) {
				t.Errorf("%d events are leased, want %d, or in another order", len(got), len(want))
			}
			if f.readyEvents != 0 || f.readyBytes != 0 {
				t.Errorf("%d events of %d bytes are counted as ready when all are leased", f.readyEvents, f.readyBytes)
			}
		})
	}
}

// What is due after others that only the file has comes after them.
func TestOnlyInTheFile(t *testing.T) {
	s, f, lease := looked(t)
	var got, want []string
	putNext := func(ago time.Duration) {
		want = append(want, eventID(len(want)))
		putAt(t, s, want[len(want)-1], ago)
	}
	for n := range lookAhead + 5 {
		putNext(time.Hour - time.Duration(n)*time.Second)
	}
	f.changed()
	got = idsOf(lease(1)) // and then it looked ahead
	putNext(time.Second)
	for leases := lease(7); len(leases) > 0; leases = lease(7) {
		got = append(got, idsOf(leases)...)
	}
	if !slices.Equal(got, want) {
		t.Errorf("leased are %q, want %q", got, want)
	}
}

// A look may find what the committer is about to add: it is leased once.
func TestAddedAfterALook(t *testing.T) {
	for _, limit := range []int{1, 2, 3} {
		s, f, lease := looked(t)
		var batch []*job
		for n := range 2 {
			e := event(eventID(n))
			if _, err := s.Put(t.Context(), e); err != nil {
				t.Fatal(err)
			}
			stored, err := s.db.get(t.Context(), e.ID)
			if err != nil {
				t.Fatal(err)
			}
			args, err := putArgs(e)
			if err != nil {
				t.Fatal(err)
			}
			batch = append(batch, &job{event: e, added: true, seq: stored.seq, written: args})
		}
		f.changed()
		got := idsOf(lease(limit))
		f.added(batch, time.Now())
		got = append(got, idsOf(lease(10))...)
		if got = append(got, idsOf(lease(10))...); !slices.Equal(got, []string{eventID(0), eventID(1)}) {
			t.Errorf("leased %d at first: then it is %q", limit, got)
		}
	}
}

// An event that is leased while it is replayed is left to its holder.
func TestReplayOfWhatIsBeingLeased(t *testing.T) {
	s, f, lease := looked(t)
	putAt(t, s, "evt_1", time.Second)
	f.changed()
	begun, begin := make(chan struct{}), make(chan struct{})
	var all sync.WaitGroup
	all.Go(func() {
		err := s.db.write(t.Context(), func(session) error {
			close(begun)
			<-begin
			return nil
		})
		if err != nil {
			t.Errorf("write: %v", err)
		}
	})
	<-begun
	all.Go(func() {
		if _, err := s.Replay(t.Context(), "evt_1"); err != nil {
			t.Errorf("Replay: %v", err)
		}
	})
	await(t, "the replay is next", func() bool { return len(s.db.commits.jobs) == 1 })
	var first []*store.Lease
	s.db.commits.jobs <- &job{ctx: t.Context(), done: make(chan struct{}), apply: func(session) error {
		first = lease(1) // as it was before
		return nil
	}}
	close(begin)
	all.Wait()
	if again := lease(1); len(first) != 1 || len(again) != 0 {
		t.Errorf("leased are %q and, while that lasts, %q", idsOf(first), idsOf(again))
	}
}

// However puts, leases, settles, drops and replays meet, an event is in one hand at
// a time, and none is forgotten.
func TestEachInOneHand(t *testing.T) {
	s, _ := openSQLiteAt(t, filepath.Join(t.TempDir(), "store.db"))
	const puts, of = 6, 150
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	var mu sync.Mutex
	hands := make(map[string]bool)
	var left, work sync.WaitGroup
	left.Add(puts * of)
	for p := range puts {
		work.Go(func() {
			for n := range of {
				id := eventID(p*of + n)
				if _, err := s.Put(ctx, event(id)); err != nil {
					t.Errorf("Put: %v", err)
				}
				if n%10 == 0 { // of one that waits, is leased or delivered
					_, _ = s.Replay(ctx, eventID(p*of+rand.N(n+1)))
				}
			}
		})
	}
	delivered := make(map[string]bool)
	for range 4 {
		work.Go(func() {
			for {
				leases, err := s.Lease(ctx, queue, 1+rand.N(5), time.Hour)
				if err != nil {
					return
				}
				for _, l := range leases {
					mu.Lock()
					if hands[l.Event.ID] {
						t.Errorf("%s is in two hands", l.Event.ID)
					}
					hands[l.Event.ID] = true
					mu.Unlock()
				}
				for _, l := range leases {
					id := l.Event.ID
					if rand.N(4) == 0 {
						l.Event.Due = time.Now().Add(time.Duration(rand.N(5)) * time.Millisecond)
					} else {
						l.Event.State, l.Event.Ended = store.Delivered, time.Now()
					}
					mu.Lock()
					hands[id] = false
					mu.Unlock()
					if err := s.Settle(ctx, l); err != nil && ctx.Err() == nil {
						t.Errorf("Settle: %v", err)
					}
					mu.Lock()
					if l.Event.State == store.Delivered && !delivered[id] {
						delivered[id] = true
						left.Done()
					}
					mu.Unlock()
				}
			}
		})
	}
	left.Wait()
	cancel()
	work.Wait()
}

// A put that seemed to fail may be in the file when it is opened anew: it is handed
// over without being put again.
func TestStoredAfterAll(t *testing.T) {
	s, _ := openSQLiteAt(t, filepath.Join(t.TempDir(), "store.db"))
	f := s.db.engine.(*file)
	err := s.db.write(t.Context(), func(tx session) error {
		args, err := putArgs(event("a")) // as a put whose sync fails
		if err != nil {
			return err
		}
		f.broken = true
		return errOf(tx.exec("INSERT INTO wepay_event ("+putColumns+") VALUES "+putRow, args...))
	})
	other := event("b")
	other.Merchant = "another"
	if _, failed := s.Put(t.Context(), other); err != nil || failed != nil {
		t.Fatal(err, failed)
	}
	leases, err := s.Lease(t.Context(), queue, 1, time.Hour)
	if err != nil || len(leases) != 1 || leases[0].Event.ID != "a" {
		t.Errorf("leased are %q (%v)", idsOf(leases), err)
	}
}
