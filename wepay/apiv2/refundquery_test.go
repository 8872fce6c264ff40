package apiv2_test

import (
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"testing"

	"github.com/windsome/caddy-wepay/wepay"
)

// refunds is WeChat Pay with an order that was refunded many times, of which it
// tells ten at a time.
type refunds struct {
	there      int  // how many there are
	told       int  // how many WeChat says there are; 0: it does not say
	fromOffset bool // a page is numbered from its offset, not from 0

	// change makes a page another; nil: it is as it is.
	change func(offset int, page map[string]string)
}

func (all refunds) answer(w http.ResponseWriter, r asked) {
	offset, _ := strconv.Atoi(r.fields.Get("offset"))
	count := min(max(all.there-offset, 0), 10)
	page := map[string]string{"transaction_id": transaction, "refund_count": strconv.Itoa(count), "total_fee": "5000"}
	if all.told > 0 {
		page["total_refund_count"] = strconv.Itoa(all.told)
	}
	for i := range count {
		n := i
		if all.fromOffset {
			n += offset
		}
		page[fmt.Sprintf("out_refund_no_%d", n)] = fmt.Sprintf("R%d", offset+i)
		page[fmt.Sprintf("refund_fee_%d", n)] = "100"
		page[fmt.Sprintf("coupon_refund_id_%d_0", n)] = fmt.Sprintf("C%d", offset+i)
		page[fmt.Sprintf("coupon_refund_id_%d_1", n)] = fmt.Sprintf("D%d", offset+i)
	}
	if all.change != nil {
		all.change(offset, page)
	}
	says(signed(reply(page), wepay.MD5, key))(w, r)
}

// What WeChat says of a page's refunds together, it says of that page: of all
// pages the totals are other ones.
func TestQueryRefundsTotals(t *testing.T) {
	totals := func(offset int, page map[string]string) {
		page["refund_fee"], page["coupon_refund_fee"], page["coupon_refund_count"] = "1000", "70", "10"
		for i := range 10 {
			if _, there := page[fmt.Sprintf("refund_fee_%d", i)]; there {
				page[fmt.Sprintf("coupon_refund_fee_%d", i)] = "7"
				page[fmt.Sprintf("coupon_refund_count_%d", i)] = "2"
			}
		}
	}
	with := func(more func(offset int, page map[string]string)) func(int, map[string]string) {
		return func(offset int, page map[string]string) {
			totals(offset, page)
			more(offset, page)
		}
	}
	for name, test := range map[string]struct {
		all       refunds
		offset    string
		fee       string
		couponFee string
	}{
		"one page":       {refunds{there: 10, told: 10, change: totals}, "", "1000", "70"},
		"two pages":      {refunds{there: 13, told: 13, change: totals}, "", "1300", "91"},
		"five pages":     {refunds{there: 50, told: 50, change: totals}, "", "5000", "350"},
		"the caller's":   {refunds{there: 13, told: 13, change: totals}, "10", "1000", "70"}, // as WeChat says it
		"none is told":   {refunds{there: 13, told: 13}, "", "", ""},
		"not all say it": {refunds{there: 13, told: 13, change: with(func(offset int, page map[string]string) { delete(page, "coupon_refund_fee_1") })}, "", "1300", ""},
	} {
		t.Run(name, func(t *testing.T) {
			in := wepay.NewFields(rows[wepay.QueryRefund].in)
			if test.offset != "" {
				in.Set("offset", test.offset)
			}
			got, err := client(t, able(t, serve(t, test.all.answer).URL)).Do(t.Context(), wepay.QueryRefund, in)
			if err != nil {
				t.Fatal(err)
			}
			if got.Get("refund_fee") != test.fee || got.Get("coupon_refund_fee") != test.couponFee || got.Get("total_fee") != "5000" {
				t.Errorf("got %v", got)
			}
		})
	}
	for name, change := range map[string]func(offset int, page map[string]string){
		"1300": func(int, map[string]string) {},
		// of the order, on each page
		"": func(_ int, page map[string]string) { page["refund_fee"], page["cash_refund_fee"] = "1300", "1300" },
	} {
		all := refunds{there: 13, told: 13, change: func(offset int, page map[string]string) {
			page["refund_fee"] = page["refund_count"] + "00"
			page["cash_refund_fee"] = page["refund_fee"]
			change(offset, page)
		}}
		got, err := client(t, able(t, serve(t, all.answer).URL)).Do(t.Context(), wepay.QueryRefund, wepay.NewFields(rows[wepay.QueryRefund].in))
		if err != nil || got.Get("cash_refund_fee") != name || got.Get("refund_fee") != "1300" {
			t.Errorf("what pages alone say: got %v, %v, want %q", got, err, name)
		}
	}
	odd := refunds{there: 13, told: 13, change: with(func(offset int, page map[string]string) { page["refund_fee_1"] = "1.5" })}
	_, err := client(t, able(t, serve(t, odd.answer).URL)).Do(t.Context(), wepay.QueryRefund, wepay.NewFields(rows[wepay.QueryRefund].in))
	if wantError(t, err, wepay.Again); !errors.Is(err, wepay.ErrMalformed) || !errors.Is(err, wepay.ErrNoAnswer) {
		t.Errorf("an odd amount: got %v", err)
	}
}

func TestQueryRefunds(t *testing.T) {
	tests := []struct {
		name    string
		all     refunds
		offset  string
		first   int // the number of the first that comes
		want    int // how many come
		queries int
	}{
		{"none", refunds{there: 0}, "", 0, 0, 1},
		{"one", refunds{there: 1}, "", 0, 1, 1},
		{"one of one", refunds{there: 1, told: 1}, "", 0, 1, 1},
		{"ten of ten", refunds{there: 10, told: 10}, "", 0, 10, 1},
		{"eleven", refunds{there: 11, told: 11}, "", 0, 11, 2},
		{"twenty", refunds{there: 20, told: 20}, "", 0, 20, 2},
		{"fifty", refunds{there: 50, told: 50}, "", 0, 50, 5},
		{"eleven, numbered from the offset", refunds{there: 11, told: 11, fromOffset: true}, "", 0, 11, 2},
		{"fifty, numbered from the offset", refunds{there: 50, told: 50, fromOffset: true}, "", 0, 50, 5},
		{"more than are told of", refunds{there: 10}, "", 0, 10, 1},
		{"fewer than are told of", refunds{there: 13, told: 30}, "", 0, 13, 3},
		{"none of those told of", refunds{there: 0, told: 30}, "", 0, 0, 2},
		{"a page of the caller's", refunds{there: 25, told: 25}, "10", 10, 10, 1},
		{"the first page of the caller's", refunds{there: 25, told: 25}, "0", 0, 10, 1},
		{"a page behind the end", refunds{there: 5, told: 5}, "10", 10, 0, 1},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			server := serve(t, test.all.answer)
			in := wepay.NewFields(rows[wepay.QueryRefund].in)
			if test.offset != "" {
				in.Set("offset", test.offset)
			}
			got, err := client(t, able(t, server.URL)).Do(t.Context(), wepay.QueryRefund, in)
			if err != nil {
				t.Fatal(err)
			}
			if n := len(server.asked()); n != test.queries {
				t.Errorf("asked %d times, want %d", n, test.queries)
			}
			if count := got.Get("refund_count"); count != strconv.Itoa(test.want) || got.Get("total_fee") != "5000" {
				t.Errorf("refund_count is %s, want %d, in %v", count, test.want, got)
			}
			items := got.Numbered()
			if len(items) != test.want {
				t.Fatalf("%d refunds, want %d", len(items), test.want)
			}
			for i, item := range items {
				n := strconv.Itoa(test.first + i)
				want := wepay.NewFields(map[string]string{
					"out_refund_no": "R" + n, "refund_fee": "100", "coupon_refund_id_0": "C" + n, "coupon_refund_id_1": "D" + n,
				})
				if fmt.Sprint(item) != fmt.Sprint(want) {
					t.Errorf("refund %d is %v, want %v", i, item, want)
				}
			}
		})
	}
}

// Half of the refunds are no answer: whoever adds them up would refund again.
func TestQueryRefundsFailsHalfway(t *testing.T) {
	all := refunds{there: 25, told: 25}
	for name, bad := range map[string]answer{
		"no answer":     status(502, ""),
		"unsigned":      says(document(reply(map[string]string{"refund_count": "1"}))),
		"another order": says(signed(reply(map[string]string{"refund_count": "1", "transaction_id": "43"}), wepay.MD5, key)),
	} {
		t.Run(name, func(t *testing.T) {
			server := serve(t, func(w http.ResponseWriter, r asked) {
				if r.fields.Get("offset") == "20" {
					bad(w, r)
					return
				}
				all.answer(w, r)
			})
			got, err := client(t, able(t, server.URL)).Do(t.Context(), wepay.QueryRefund, wepay.NewFields(rows[wepay.QueryRefund].in))
			wantError(t, err, wepay.Again)
			if got != nil || len(server.asked()) != 3 {
				t.Errorf("got %v after %d questions", got, len(server.asked()))
			}
		})
	}
}

// WeChat makes no more than 50 refunds of an order: what it tells beyond that
// is not asked for without end.
func TestQueryRefundsWithoutEnd(t *testing.T) {
	server := serve(t, refunds{there: 1 << 30, told: 1 << 30}.answer)
	if _, err := client(t, able(t, server.URL)).Do(t.Context(), wepay.QueryRefund, wepay.NewFields(rows[wepay.QueryRefund].in)); err == nil {
		t.Error("it ended well")
	}
	if n := len(server.asked()); n > 101 {
		t.Errorf("asked %d times", n)
	}
}
