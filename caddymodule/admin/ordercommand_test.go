package admin

import (
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"
	"time"
	"unicode"

	"github.com/windsome/caddy-wepay/caddymodule/recovery"
	"github.com/windsome/caddy-wepay/caddymodule/store"
	"github.com/windsome/caddy-wepay/wepay"
)

// The command tells a whole story, each event on a line, in the order in which they
// happened, by Beijing time.
func TestOrderCommand(t *testing.T) {
	const story = `order order-1: partly_refunded, 1200 fen, of which 200 fen refunded
refund r1: refunded, 200 fen
BEIJING TIME         OF                   WHAT      DETAILS
2026-11-30 12:00:00  order-1              placed    1200 fen by get_pay_request_params over API v2; merchant shop, mch_id 1900000109, appid wx00112233445566aa
2026-11-30 12:00:09  order-1              paid      transaction_id 42order-1, known from query
2026-11-30 12:00:10  order-1              asked     WeChat Pay, once by then
2026-11-30 12:00:10  TRANSACTION.SUCCESS  found     1200 fen, by asking WeChat Pay (source query), event evt_order-1
2026-11-30 12:00:11  TRANSACTION.SUCCESS  delivered  taken by the order service, tried once
2026-11-30 13:00:00  r1                   placed    200 fen by refund over API v2; merchant shop, mch_id 1900000109, appid wx00112233445566aa
2026-11-30 13:00:03  r1                   refunded  refund_id 50r1, known from notify
2026-11-30 13:00:04  REFUND.SUCCESS       notified  200 fen, by WeChat Pay (source notify), out_refund_no r1, event evt_r1
2026-11-30 13:00:10  REFUND.SUCCESS       next      to be handed over again, tried 3 times: the order service refuses it: HTTP status 400, it answered "no such order\n"
`
	const another = `
order order-1: placed, 1200 fen
BEIJING TIME         OF       WHAT     DETAILS
2026-11-30 11:00:00  order-1  placed   1200 fen by get_pay_request_params over API v3; merchant mini, mch_id 1900000110 for sub_mch_id 1900000999, appid wx00112233445566aa
2026-11-30 12:01:00  order-1  next     WeChat Pay is to be asked
2026-11-30 13:00:00  order-1  expires  WeChat Pay takes no payment for it any more
`
	there := serve(t, ordered(t))
	gone := httptest.NewServer(http.NotFoundHandler())
	gone.Close()
	for _, test := range []struct {
		name, args, want, err string
	}{
		{"by transaction_id", "42order-1", story, ""},
		{"by out_refund_no", "r1", story, ""},
		{"of two merchants", "order-1", story + another, ""},
		{"as JSON", "order-1 --json", `"out_refund_no": "r1"`, ""},
		{"unknown", "order-3", "", `order: asking the server at ADDRESS: number "order-3": the store has no order`},
		{"unknown as JSON", "order-3 --json", "", "ask WeChat Pay by the route order_query"},
		{"two numbers", "order-1 order-2", "", "accepts at most 1 arg"},
		{"a number and a state", "order-1 --state paid", "", "leave out --merchant, --kind and --state"},
		{"counts", "", "mini      order   placed           1\n", ""},
		{"list", "--state unknown", "order-2  shop      order  unknown  1200 fen  2026-11-30 12:00:00  -      0      -           SYSTEMERROR: 系统超时\n", ""},
		{"list as JSON", "--merchant mini --json", `"sub_mch_id":"1900000999"`, ""},
		{"list of no state", "--state open", "", "state must be placed"},
		{"list of no kind", "--kind orders", "", "kind must be order"},
		{"two servers", "order-1 --path x", "", "address path"},
	} {
		t.Run(test.name, func(t *testing.T) {
			out, err := runOrder(append(strings.Fields(test.args), "--address", there)...)
			if test.err == "" {
				if err != nil || !strings.Contains(fields(out), fields(test.want)) || strings.Contains(out, "oSECRET") {
					t.Errorf("got %s (%v)", out, err)
				}
			} else if err == nil || !strings.Contains(err.Error(), strings.ReplaceAll(test.err, "ADDRESS", there)) || out != "" {
				t.Errorf("got %v after %q", err, out)
			}
		})
	}
	if _, err := runOrder("order-1", "--address", gone.Listener.Addr().String()); err == nil || !strings.Contains(err.Error(), "is it running?") {
		t.Errorf("no server: %v", err)
	}
}

// fields is a text in which one blank stands for several.
func fields(text string) string {
	var lines []string
	for line := range strings.Lines(text) {
		lines = append(lines, strings.Join(strings.Fields(line), " "))
	}
	return strings.Join(lines, "\n")
}

// What is aligned stays so: all details begin at the same place.
func TestOrderAligned(t *testing.T) {
	out, err := runOrder("r1", "--address", serve(t, ordered(t)))
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(strings.TrimSpace(out), "\n")[2:]
	at := strings.Index(lines[0], "DETAILS")
	for _, line := range lines {
		if line[at-1] != ' ' || line[at] == ' ' {
			t.Errorf("the details begin elsewhere:\n%s\n%s", lines[0], line)
		}
	}
}

// Each way in which an order or an event may stand is told, with what to do.
func TestMoments(t *testing.T) {
	for name, test := range map[string]struct {
		order func(o *store.Order)
		event func(e *store.Event)
		want  string
	}{
		"unknown":           {func(o *store.Order) { o.State, o.Reason = store.OrderUnknown, "no answer" }, nil, "order o: unknown, 1200 fen; WeChat Pay's last word: no answer\n"},
		"two amounts, open": {func(o *store.Order) { o.Also, o.State = 1300, store.OrderUnknown }, nil, "placed 1200 fen, and with 1300 fen as well (WeChat Pay has not said which it takes) by"},
		"two amounts, paid": {func(o *store.Order) { paid(o); o.Also = 1300 }, nil, "placed 1200 fen, and with 1300 fen as well (which WeChat Pay did not take) by"},
		"another currency":  {func(o *store.Order) { o.Currency = "JPY" }, nil, "placed 1200 JPY (in its smallest unit) by"},
		"asked again":       {func(o *store.Order) { o.Asked, o.LastAsked, o.Due = 2, noon.Add(time.Minute), noon.Add(time.Hour) }, nil, "12:01:00 o asked WeChat Pay, 2 times by then\n2026-11-30 13:00:00 o next WeChat Pay is to be asked again"},
		"asked before":      {func(o *store.Order) { o.LastAsked = noon }, nil, "asked WeChat Pay, before the number was placed once more"},
		"closed some time":  {func(o *store.Order) { o.CloseAt = noon.Add(time.Hour) }, nil, "13:00:00 o close_after to be closed at WeChat Pay, unless it is paid"},
		"closed":            {func(o *store.Order) { o.State, o.Ended = store.OrderClosed, noon }, nil, "o closed it was not paid, and cannot be any more"},
		"closed in time":    {func(o *store.Order) { o.State, o.CloseAt, o.Ended = store.OrderClosed, noon, noon }, nil, "o closed it was not paid in time (close_after)"},
		"expired": {func(o *store.Order) {
			o.State, o.Ended, o.Reason = store.OrderClosed, noon, "it was not paid before it expired"
		}, nil, "o closed it was not paid before it expired"},
		"refund closed":      {func(o *store.Order) { o.Kind, o.State, o.Ended = store.Refund, store.OrderClosed, noon }, nil, "o closed the money stays with the merchant"},
		"refund abnormal":    {func(o *store.Order) { o.Kind, o.State, o.Ended = store.Refund, store.OrderAbnormal, noon }, nil, "o abnormal the payer's account takes no refund (退款异常): settle it in the merchant platform"},
		"refund heard of":    {func(o *store.Order) { o.Kind, o.Operation, o.API = store.Refund, "", "" }, nil, "o heard of 1200 fen, not placed here; merchant shop"},
		"transfer cancelled": {func(o *store.Order) { o.Kind, o.State, o.Ended = store.Transfer, store.OrderClosed, noon }, nil, "o closed the payee does not get it"},
		"transfer paid":      {func(o *store.Order) { paid(o); o.Kind = store.Transfer }, nil, "12:00:09 o paid WeChat Pay's number 42o, known from notify"},
		"paid at once":       {func(o *store.Order) { paid(o); o.Placed, o.Paid = noon.Add(500*time.Millisecond), noon }, nil, "12:00:00 o placed 1200 fen by get_pay_request_params over API v2; merchant shop, mch_id 1900000109, appid wx00112233445566aa\n2026-11-30 12:00:00 o paid transaction_id"},
		"failed":             {func(o *store.Order) { o.State, o.Reason, o.Ended = store.OrderFailed, "NOAUTH: 无权限", noon }, nil, "o failed NOAUTH: 无权限"},
		"given up": {func(o *store.Order) {
			o.Kind, o.State, o.Reason, o.Ended = store.Refund, store.OrderRefunding, "not asked any more", noon
		}, nil, "o given up not asked any more"},
		"a day's bill":      {func(o *store.Order) { o.Kind, o.State, o.Ended = store.DailyBill, store.OrderReconciled, noon }, nil, "o planned merchant shop, mch_id 1900000109, appid wx00112233445566aa\n2026-11-30 12:00:00 o reconciled"},
		"found in the bill": {paid, func(e *store.Event) { e.Source = store.SourceBill }, "TRANSACTION.SUCCESS found 1200 fen, in WeChat Pay's bill (source bill), event evt_o"},
		"as before":         {paid, func(e *store.Event) { e.Source = "" }, "TRANSACTION.SUCCESS notified 1200 fen, by WeChat Pay (source notify), event evt_o"},
		"waits": {paid, func(e *store.Event) {
			e.State, e.Attempts, e.Due, e.After = store.Waiting, 0, noon.Add(time.Hour), "evt_a"
		}, "13:00:00 TRANSACTION.SUCCESS next to be handed over, after event evt_a"},
		"dead":    {paid, func(e *store.Event) { e.State, e.Attempts, e.Reason = store.Dead, 40, "HTTP status 410" }, "given up tried 40 times: HTTP status 410; `caddy wepay events replay evt_o` hands it over again"},
		"dropped": {paid, func(e *store.Event) { e.State, e.Reason = store.Dropped, "by hand" }, "dropped by an operator: by hand; `caddy wepay events replay evt_o` hands it over"},
		"quarantined": {func(o *store.Order) {
			o.State, o.Reason, o.Ended = store.OrderQuarantined, "total_fee: WeChat says 1", noon
		}, func(e *store.Event) { e.State, e.Reason = store.Quarantined, "total_fee: WeChat says 1" }, "quarantined total_fee: WeChat says 1; it is not handed over: find out how it came about; `caddy wepay events replay evt_o` hands it over all the same"},
		"an event of no order": {nil, func(*store.Event) {}, "o: no order of it was placed here, or not with this account; what WeChat Pay told:\nBEIJING TIME OF WHAT DETAILS\n2026-11-30 12:00:10 TRANSACTION.SUCCESS notified"},
		"an event of a kind":   {nil, func(e *store.Event) { e.EventType = "" }, "12:00:10 payment notified"},
		"another's quarantined": {paid, func(e *store.Event) {
			e.Merchant, e.ID, e.State, e.Reason = "mini", "evt_x", store.Quarantined, "mch_id: it was paid to 1"
		}, "quarantined mch_id: it was paid to 1; it is not handed over"},
	} {
		t.Run(name, func(t *testing.T) {
			var orders []*store.Order
			var events []*store.Event
			if test.order != nil {
				orders = append(orders, order("o", test.order))
			}
			if test.event != nil {
				events = append(events, event("o", test.event))
			}
			out, err := runOrder("o", "--address", serve(t, shelf(t, orders, events)))
			if err != nil || !strings.Contains(fields(out), test.want) || strings.Contains(out, "oSECRET") {
				t.Errorf("got %s (%v)", out, err)
			}
		})
	}
}

// Nothing that a store or another server says of an order moves a terminal's cursor,
// nor ends the command otherwise than with an error.
func TestOrderAtTerminal(t *testing.T) {
	const hostile = "小店\x1b[2J\u009b31m\u202e"
	address := serve(t, shelf(t, []*store.Order{order("o", func(o *store.Order) {
		o.Merchant, o.AppID, o.Reason, o.TransactionID, o.SubMchID, o.Currency = hostile, hostile, hostile, hostile, hostile, hostile
		o.State, o.Operation = store.OrderUnknown, wepay.Operation(hostile)
	})}, []*store.Event{event("o", func(e *store.Event) {
		e.Merchant, e.EventType, e.Reason, e.Answer, e.OutRefundNo, e.State = hostile, hostile, hostile, hostile, hostile, store.Dead
	})}))
	for _, args := range [][]string{{"o"}, {"o", "--json"}, {"--state", "unknown"}, {"--state", "unknown", "--json"}, nil} {
		out, err := runOrder(append(args, "--address", address)...)
		if err != nil || !strings.Contains(out, "小店") {
			t.Errorf("%s: got %s (%v)", args, out, err)
		}
		if strings.ContainsFunc(out, func(r rune) bool { return r != '\n' && !unicode.IsGraphic(r) }) {
			t.Errorf("%s: got %q", args, out)
		}
	}
	for _, answer := range []string{
		"null", "{}", `{"stories":null}`, `{"stories":[]}`, `{"stories":[null]}`, `{"stories":[{}]}`, `{"stories":[{"events":[]}]}`, `{"orders":null}`, "<html>", `[`,
	} {
		server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte(answer)) }))
		for _, args := range [][]string{{"o"}, {"--state", "paid"}} {
			if out, err := runOrder(append(args, "--address", server.Listener.Addr().String())...); err == nil || out != "" {
				t.Errorf("%s: got %q", answer, out)
			}
		}
		server.Close()
	}
}

// What another server answers may have anything in any text.
func TestOrderOfOddServer(t *testing.T) {
	const odd = "\x1b[2J"
	var answer told
	for _, state := range append(store.OrderStates(), odd) {
		answer.Stories = append(answer.Stories, &recovery.Story{Order: &store.Order{
			Kind: odd, Number: odd, MchID: odd, SubMchID: odd, Merchant: odd, AppID: odd, Operation: odd, API: odd, TransactionID: odd, Also: 1, Currency: odd,
			Refunded: 1, State: state, Source: odd, Placed: noon, Ended: noon, Reason: odd,
		}, Refunds: []*store.Order{nil}, Events: []*store.Event{nil}})
	}
	for _, state := range []store.State{store.Waiting, store.Delivered, store.Dead, store.Dropped, store.Quarantined, odd} {
		for _, after := range []string{"", odd} {
			e := &store.Event{
				ID: odd, EventType: odd, OutRefundNo: odd, Amount: 1, Currency: odd, Source: odd, After: after, Received: noon, State: state, Due: noon, Ended: noon,
				Reason: odd, Answer: odd,
			}
			if after == "" {
				e.EventType, e.Kind, e.Attempts = "", odd, 1
			}
			answer.Stories = append(answer.Stories, &recovery.Story{Events: []*store.Event{e}})
		}
	}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { writeLine(w, answer) }))
	defer server.Close()
	for _, args := range [][]string{{odd}, {"o", "--json"}} {
		out, err := runOrder(append(args, "--address", server.Listener.Addr().String())...)
		if err != nil || out == "" || strings.Contains(out, "\x1b") {
			t.Errorf("got %q (%v)", out, err)
		}
	}
}

// The story of an order is told of a file that no server has open.
func TestOrderOfFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "store.db")
	s := openSQLite(t, path)
	putOrders(t, s, []*store.Order{order("o", paid)}, []*store.Event{event("o", func(*store.Event) {})})
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct{ args, want, err string }{
		{"o", "taken by the order service", ""},
		{"42o", "taken by the order service", ""},
		{"o --json", `"transaction_id": "42o"`, ""},
		{"--state paid", "1200 fen", ""},
		{"none", "", `order: number "none": the store has no order`},
	} {
		out, err := runOrder(append(strings.Fields(test.args), "--path", path)...)
		if test.err == "" && (err != nil || !strings.Contains(out, test.want)) || test.err != "" && (err == nil || !strings.Contains(err.Error(), test.err)) {
			t.Errorf("%s: got %s (%v)", test.args, out, err)
		}
	}
}
