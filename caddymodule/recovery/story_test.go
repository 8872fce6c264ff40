package recovery_test

import (
	"testing"
	"time"

	"github.com/windsome/caddy-wepay/caddymodule/recovery"
	"github.com/windsome/caddy-wepay/wepay"
)

// told is what stories of a number there are: the orders, each with how many refunds
// and events.
func (b *books) told(number string) (all []string) {
	b.Helper()
	stories, err := recovery.Stories(b.Context(), b.Memory, number)
	if err != nil {
		b.Fatal(err)
	}
	for _, story := range stories {
		text := "-"
		if story.Order != nil {
			text = story.Order.Merchant + "/" + story.Order.Number
		}
		for _, refund := range story.Refunds {
			text += " " + refund.Number
		}
		for _, e := range story.Events {
			text += " " + string(e.State)
			if e.Payload != nil {
				b.Errorf("%s has its payload", e.ID)
			}
		}
		all = append(all, text)
	}
	return all
}

// A story is found by each number that is of it or of its events, once, and leaves no
// event of the number out.
func TestStories(t *testing.T) {
	b := newBooks(t)
	b.place(shop, wepay.PlaceOrder, order("paid", "100"), order("paid", "100"), nil)
	b.notify(payment("paid", "100"))
	b.now = b.now.Add(time.Minute)
	refund := func(number string) {
		request := wepay.NewFields(map[string]string{"out_trade_no": "paid", "out_refund_no": number, "refund_fee": "10", "total_fee": "100"})
		reply := wepay.NewFields(map[string]string{"refund_id": "50" + number})
		b.place(shop, wepay.Refund, request, reply, nil)
		b.now = b.now.Add(time.Minute)
	}
	refund("r1")
	refund("paid") // the order's own number
	b.place(far, wepay.PlaceOrder, order("paid", "100"), order("paid", "100"), nil)
	b.place(shop, wepay.PlaceOrder, order("wrong", "100"), order("wrong", "100"), nil)
	b.notify(payment("wrong", "1"))
	b.notify(payment("elsewhere", "5"))
	b.place(mini, wepay.PlaceOrder, order("other", "100"), order("other", "100"), nil)
	b.notify(payment("other", "100")) // at shop

	const paid, wrong = "shop/paid r1 paid waiting", "shop/wrong quarantined"
	for number, want := range map[string][]string{
		"paid":        {"far/paid", paid},
		"42paid":      {paid},
		"r1":          {paid},
		"50r1":        {paid},
		"wrong":       {wrong},
		"42wrong":     {wrong},
		"elsewhere":   {"- waiting"},
		"42elsewhere": {"- waiting"},
		"other":       {"mini/other", "- quarantined"},
		"42other":     {"- quarantined"},
		"none":        nil,
		"":            nil,
	} {
		if got := b.told(number); len(got) != len(want) || !same(got, want) {
			t.Errorf("%q: got %q, want %q", number, got, want)
		}
	}
}

// same reports whether two lists have the same texts, in any order.
func same(a, b []string) bool {
	count := make(map[string]int)
	for i := range a {
		count[a[i]]++
		count[b[i]]--
	}
	for _, n := range count {
		if n != 0 {
			return false
		}
	}
	return true
}
