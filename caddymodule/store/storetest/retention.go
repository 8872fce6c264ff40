package storetest

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/windsome/caddy-wepay/caddymodule/store"
)

// ended puts events that ended some time ago in every state, and one that waits,
// and returns their IDs, that of the one that waits last.
func (s *stage) ended(o store.Store, ago time.Duration, each int) []string {
	s.Helper()
	var ids []string
	for _, state := range []store.State{store.Delivered, store.Dead, store.Dropped} {
		for i := range each {
			e := payment(payments, fmt.Sprintf("evt_%s_%d", state, i))
			e.Received = e.Received.Add(-ago)
			e.State, e.Due, e.Ended = state, time.Time{}, e.Received
			s.put(o, e)
			ids = append(ids, e.ID)
		}
	}
	waiting := payment(payments, "evt_waiting")
	waiting.Received, waiting.Due = waiting.Received.Add(-ago), waiting.Due.Add(long)
	s.put(o, waiting)
	return append(ids, waiting.ID)
}

// until waits until something holds.
func (s *stage) until(what string, holds func() bool) {
	s.Helper()
	for !holds() {
		select {
		case <-s.ctx.Done():
			s.Fatalf("%s: not within %s", what, patience)
		case <-time.After(short / 10):
		}
	}
}

// The payload of what ended long ago goes, and what it was about stays. Without
// it nothing can be replayed.
func checkPayloadsGo(s *stage) {
	s.options.Keep = 5 * short
	o := s.open()
	ids := s.ended(o, long, 60)
	gone, waiting := ids[:len(ids)-1], ids[len(ids)-1]
	fresh := payment(payments, "evt_fresh")
	fresh.State, fresh.Due, fresh.Ended = store.Dead, time.Time{}, now().Add(long) // so that it stays
	s.put(o, fresh)
	s.until("payloads go", func() bool {
		events, _, err := o.List(s.ctx, store.Filter{}, "", 1000)
		if err != nil || len(events) != len(ids)+1 {
			s.Fatalf("List: %d events (%v), want %d", len(events), err, len(ids)+1)
		}
		return !slices.ContainsFunc(events, func(e *store.Event) bool {
			return len(e.Payload) > 0 && e.ID != waiting && e.ID != fresh.ID
		})
	})
	want := payment(payments, gone[0])
	got := s.get(o, gone[0])
	if got.Payload != nil || got.OutTradeNo != want.OutTradeNo || got.Amount != want.Amount {
		s.Errorf("left: %+v", got)
	}
	for _, id := range []string{gone[0], gone[60], gone[120]} {
		if _, err := o.Replay(s.ctx, id); !errors.Is(err, store.ErrNoPayload) {
			s.Errorf("Replay of %s: %v", id, err)
		}
	}
	for _, id := range []string{waiting, fresh.ID} {
		if len(s.get(o, id).Payload) == 0 {
			s.Errorf("the payload of %s is gone", id)
		}
	}
}

// What ended longer ago still goes altogether.
func checkRowsGo(s *stage) {
	s.options.Keep, s.options.KeepRows = short, 2*short
	o := s.open()
	ids := s.ended(o, long, 60)
	s.until("rows go", func() bool { return len(s.list(o, store.Filter{}, 1000)) == 1 })
	if _, err := o.Get(s.ctx, ids[0]); !errors.Is(err, store.ErrNoEvent) {
		s.Errorf("Get of what is gone: %v", err)
	}
	if e := s.get(o, ids[len(ids)-1]); len(e.Payload) == 0 {
		s.Errorf("the payload of what waits is gone")
	}
	s.counts(o, map[store.State]int{store.Waiting: 1})
}
