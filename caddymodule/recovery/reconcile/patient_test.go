package reconcile_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/windsome/caddy-wepay/caddymodule/store"
)

// faltering is a store that is unavailable so many times.
type faltering struct {
	store.Store
	times int
}

func (f *faltering) Match(ctx context.Context, kind store.OrderKind, numbers []string) ([]*store.Order, []*store.Event, error) {
	if f.times--; f.times >= 0 {
		return nil, nil, fmt.Errorf("%w: it did not answer", store.ErrUnavailable)
	}
	return f.Store.Match(ctx, kind, numbers)
}

// A bill goes on after a store that is unavailable for a moment, and ends with one that
// stays so.
func TestPatient(t *testing.T) {
	bill := billOf(row{transactionID: "T1", number: "A1", total: 100})
	for times, fails := range map[int]bool{3: false, 5: false, 100: true} {
		synctest.Test(t, func(t *testing.T) {
			w := newWorld(t)
			w.put(event("A1", "T1", 100))
			w.store = &faltering{w.store, times}
			w.restart(direct("shop"))
			r, err := w.Compare(t.Context(), "shop", date, strings.NewReader(bill))
			if errors.Is(err, store.ErrUnavailable) != fails || err == nil && r.Matched != 1 {
				t.Errorf("%d times: got %+v, %v", times, r, err)
			}
		})
	}
}
