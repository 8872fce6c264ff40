package admin

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"strings"

	"github.com/windsome/caddy-wepay/caddymodule/recovery"
	"github.com/windsome/caddy-wepay/caddymodule/store"
)

func serveOrderCounts(s store.Store, w http.ResponseWriter, r *http.Request) error {
	var counts []store.OrderCount
	err := look(r.Context(), func(ctx context.Context) (err error) {
		counts, err = s.CountOrders(ctx)
		return err
	})
	if err != nil {
		return err
	}
	return answer(w, orderCounts{append([]store.OrderCount{}, counts...)})
}

type orderCounts struct {
	Counts []store.OrderCount `json:"counts"`
}

// orderPage is a page of orders.
type orderPage struct {
	Orders []*store.Order `json:"orders"`
	Next   string         `json:"next,omitempty"`
}

// serveOrders lists orders, or tells all that is known of a number.
func serveOrders(s store.Store, w http.ResponseWriter, r *http.Request) error {
	if r.URL.Query().Has("number") {
		return serveStories(s, w, r)
	}
	filter, err := orderFilterOf(r)
	if err != nil {
		return err
	}
	limit, err := limitOf(r)
	if err != nil {
		return err
	}
	var page orderPage
	err = look(r.Context(), func(ctx context.Context) (err error) {
		page.Orders, page.Next, err = s.ListOrders(ctx, filter, r.FormValue("after"), limit)
		return err
	})
	if err != nil {
		return err
	}
	page.Orders = append([]*store.Order{}, page.Orders...)
	return answer(w, page)
}

func orderFilterOf(r *http.Request) (store.OrderFilter, error) {
	if err := checkParameters(r, "merchant", "kind", "state", "limit", "after"); err != nil {
		return store.OrderFilter{}, err
	}
	filter := store.OrderFilter{Merchant: r.FormValue("merchant"), Kind: store.OrderKind(r.FormValue("kind")), State: store.OrderState(r.FormValue("state"))}
	if filter.Kind != "" && !slices.Contains(store.OrderKinds(), filter.Kind) {
		return filter, badRequest("kind must be " + oneOf(store.OrderKinds()))
	}
	if filter.State != "" && !slices.Contains(store.OrderStates(), filter.State) {
		return filter, badRequest("state must be " + oneOf(store.OrderStates()))
	}
	return filter, nil
}

// oneOf names words to choose from.
func oneOf[T ~string](words []T) string {
	var b strings.Builder
	for i, word := range words {
		switch {
		case i > 0 && i == len(words)-1:
			b.WriteString(" or ")
		case i > 0:
			b.WriteString(", ")
		}
		b.WriteString(string(word))
	}
	return b.String()
}

// told is all that is known of a number.
type told struct {
	Stories []*recovery.Story `json:"stories"`
}

// serveStories tells all that is known of a number, whosever it is.
func serveStories(s store.Store, w http.ResponseWriter, r *http.Request) error {
	if err := checkParameters(r, "number"); err != nil {
		return err
	}
	number := r.FormValue("number")
	if number == "" {
		return badRequest("number must not be empty")
	}
	var stories []*recovery.Story
	err := look(r.Context(), func(ctx context.Context) (err error) {
		stories, err = recovery.Stories(ctx, s, number)
		return err
	})
	if err == nil && len(stories) == 0 {
		err = fmt.Errorf("number %.64q: %w", number, errNoNumber)
	}
	if err != nil {
		return err
	}
	return answer(w, told{stories})
}
