package admin

import (
	"context"
	"encoding/json"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/windsome/caddy-wepay/caddymodule/store"
	"github.com/windsome/caddy-wepay/caddymodule/store/storetest"
	"github.com/windsome/caddy-wepay/wepay"
)

// noon is when the orders of these tests were placed.
var noon = time.Date(2026, 11, 30, 12, 0, 0, 0, wepay.Beijing)

// order is an order of shop as it is when it was placed.
func order(number string, change func(o *store.Order)) *store.Order {
	o := &store.Order{
		Kind: store.Ordered, Number: number, MchID: "1900000109", Merchant: "shop", AppID: "wx00112233445566aa", Operation: wepay.PlaceOrder, API: wepay.V2,
		Amount: 1200, Currency: "CNY", State: store.OrderPlaced, Placed: noon,
	}
	change(o)
	return o
}

// event is one of a payment to shop, which was delivered.
func event(number string, change func(e *store.Event)) *store.Event {
	e := &store.Event{
		ID: "evt_" + number, Merchant: "shop", Kind: wepay.Payment, EventType: "TRANSACTION.SUCCESS", OutTradeNo: number, TransactionID: "42" + number, Amount: 1200,
		Currency: "CNY", Source: store.SourceNotify, Received: noon.Add(10 * time.Second), Since: noon, State: store.Delivered, Attempts: 1, Ended: noon.Add(11 * time.Second),
		Payload: []byte(`{"openid":"oSECRET"}`),
	}
	change(e)
	return e
}

func paid(o *store.Order) {
	o.State, o.Source, o.TransactionID = store.OrderPaid, store.SourceNotify, "42"+o.Number
	o.Paid, o.Ended, o.EventID = noon.Add(9*time.Second), noon.Add(10*time.Second), "evt_"+o.Number
}

// shelf is a store with orders and events.
func shelf(t testing.TB, orders []*store.Order, events []*store.Event) *storetest.Memory {
	t.Helper()
	s := storetest.NewMemory()
	if err := s.Open(t.Context(), store.Options{}); err != nil {
		t.Fatal(err)
	}
	putOrders(t, s, orders, events)
	return s
}

func putOrders(t testing.TB, s store.Store, orders []*store.Order, events []*store.Event) {
	t.Helper()
	err := s.Transact(t.Context(), func(tx store.Tx) error {
		for _, o := range orders {
			if err := tx.SetOrder(o); err != nil {
				return err
			}
		}
		for _, e := range events {
			if _, err := tx.Put(e); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

// ordered is a store with an order that was found paid by asking, and partly refunded,
// and with another's order of the same number.
func ordered(t testing.TB) *storetest.Memory {
	t.Helper()
	refund := order("r1", func(o *store.Order) {
		o.Kind, o.Operation, o.OutTradeNo, o.Amount, o.State, o.Source = store.Refund, wepay.Refund, "order-1", 200, store.OrderRefunded, store.SourceNotify
		o.TransactionID, o.Placed, o.Paid, o.Ended, o.EventID = "50r1", noon.Add(time.Hour), noon.Add(time.Hour+3*time.Second), noon.Add(time.Hour+4*time.Second), "evt_r1"
	})
	return shelf(t, []*store.Order{
		order("order-1", func(o *store.Order) {
			paid(o)
			o.State, o.Refunded, o.Source, o.Asked, o.LastAsked = store.OrderPartlyRefunded, 200, store.SourceQuery, 1, noon.Add(10*time.Second)
		}),
		refund,
		order("order-1", func(o *store.Order) {
			o.Merchant, o.MchID, o.SubMchID, o.API, o.Placed = "mini", "1900000110", "1900000999", wepay.V3, noon.Add(-time.Hour)
			o.Expires, o.Due = noon.Add(time.Hour), noon.Add(time.Minute)
		}),
		order("order-2", func(o *store.Order) {
			o.State, o.Reason, o.Also = store.OrderUnknown, "SYSTEMERROR: 系统超时", 1300
		}),
	}, []*store.Event{
		event("order-1", func(e *store.Event) { e.Source = store.SourceQuery }),
		event("r1", func(e *store.Event) {
			e.Kind, e.EventType, e.OutTradeNo, e.OutRefundNo, e.Amount, e.After = wepay.Refunded, "REFUND.SUCCESS", "order-1", "r1", 200, "evt_order-1"
			e.Received, e.State, e.Ended, e.Due = noon.Add(time.Hour+4*time.Second), store.Waiting, time.Time{}, noon.Add(time.Hour+10*time.Second)
			e.Attempts, e.Reason, e.Answer, e.Refused = 3, "HTTP status 400", "no such order\n", true
		}),
	})
}

func TestOrderRoutes(t *testing.T) {
	for _, test := range []struct {
		name, uri string
		status    int
		want, not string
	}{
		{"all", "", 200, `"number":"order-2"`, `"next"`},
		{"none", "?merchant=nosuch", 200, `{"orders":[]}`, ""},
		{"of a merchant", "?merchant=mini", 200, `"sub_mch_id":"1900000999"`, `"merchant":"shop"`},
		{"of a kind", "?kind=refund", 200, `"number":"r1"`, `"number":"order-1"`},
		{"in a state", "?state=unknown", 200, `"also":1300`, `"number":"order-1"`},
		{"page", "?limit=1&kind=order", 200, `"next":"`, `"number":"order-2"`},
		{"no kind", "?kind=orders", 400, "kind must be order, combined_order, refund, transfer or daily_bill", ""},
		{"no state", "?state=open", 400, "state must be placed, unknown, paid", ""},
		{"no limit", "?limit=1001", 400, "limit must be 1 to 1000", ""},
		{"after no page", "?after=no+page", 400, "no page that ends there", ""},
		{"unknown parameter", "?event=x", 400, "there is no parameter", ""},
		{"counts", "/counts", 200, `{"merchant":"shop","kind":"refund","state":"refunded","orders":1}`, ""},
		{"of a number", "?number=order-1", 200, `"refunds":[{"kind":"refund"`, "oSECRET"},
		{"of a number of two", "?number=order-1", 200, `"merchant":"mini"`, "payload"},
		{"of a transaction_id", "?number=42order-1", 200, `"number":"order-1"`, `"merchant":"mini"`},
		{"of an out_refund_no", "?number=r1", 200, `{"stories":[{"order":{"kind":"order","number":"order-1"`, ""},
		{"of an unknown number", "?number=order-3", 404, `number \"order-3\": the store has no order, refund or event of this number`, ""},
		{"of no number", "?number=", 400, "number must not be empty", ""},
		{"of a number and more", "?number=order-1&merchant=shop", 400, "there is no parameter", ""},
		{"of no text", "?number=%00%ff", 404, "this number", ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			status, body := ask(ordered(t), nil, "GET", "/wepay/orders"+test.uri, "")
			if status != test.status || !strings.Contains(body, test.want) || test.not != "" && strings.Contains(body, test.not) {
				t.Errorf("HTTP %d %s", status, body)
			}
		})
	}
}

// A page leads to the next one, until all orders were listed once.
func TestOrderPages(t *testing.T) {
	address := serve(t, ordered(t))
	out, err := runOrder("--json", "--address", address)
	if err != nil || strings.Count(out, "\n") != 4 {
		t.Errorf("%s (%v)", out, err)
	}
	s := ordered(t)
	seen := make(map[string]bool)
	var page orderPage
	for range 5 {
		after := page.Next
		page = orderPage{}
		_, body := ask(s, nil, "GET", "/wepay/orders?"+url.Values{"limit": {"1"}, "after": {after}}.Encode(), "")
		if err := json.Unmarshal([]byte(body), &page); err != nil || len(page.Orders) != 1 {
			t.Fatalf("%s (%v)", body, err)
		}
		seen[page.Orders[0].Merchant+page.Orders[0].Number] = true
		if page.Next == "" {
			break
		}
	}
	if len(seen) != 4 || page.Next != "" {
		t.Errorf("%v are listed, and then %q", seen, page.Next)
	}
}

func (hanging) ListOrders(ctx context.Context, _ store.OrderFilter, _ string, _ int) ([]*store.Order, string, error) {
	<-ctx.Done()
	return nil, "", ctx.Err()
}

func (hanging) CountOrders(ctx context.Context) ([]store.OrderCount, error) {
	<-ctx.Done()
	return nil, ctx.Err()
}

// Looking at orders ends within three seconds, also where the store does not answer.
func TestOrdersOfHangingStore(t *testing.T) {
	for _, uri := range []string{"", "?number=order-1", "/counts"} {
		t.Run(uri, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				began := time.Now()
				status, body := ask(hanging{stocked(t)}, nil, "GET", "/wepay/orders"+uri, "")
				if status != http.StatusServiceUnavailable || !strings.Contains(body, "did not answer within 3s") || time.Since(began) != lookTime {
					t.Errorf("HTTP %d %s after %s", status, body, time.Since(began))
				}
			})
		})
	}
}
