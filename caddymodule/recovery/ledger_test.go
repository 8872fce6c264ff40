package recovery_test

import (
	"context"
	"errors"
	"net/http"
	"testing"
	"time"

	"github.com/windsome/caddy-wepay/caddymodule/recovery"
	"github.com/windsome/caddy-wepay/caddymodule/store"
	"github.com/windsome/caddy-wepay/caddymodule/store/storetest"
	"github.com/windsome/caddy-wepay/wepay"
)

// The merchants of the tests: shop and mini share an order service, and far has one
// of its own.
var (
	shop = &wepay.Merchant{Name: "shop", AppID: "wx00112233445566aa", MchID: "1900000109", CbNotifyURL: "http://orders/taken", CbEventURL: "http://orders/event"}
	mini = &wepay.Merchant{Name: "mini", AppID: "wx00112233445566bb", MchID: "1900000110", CbNotifyURL: "http://orders/taken"}
	far  = &wepay.Merchant{Name: "far", AppID: "wx00112233445566cc", MchID: "1900000111", CbNotifyURL: "http://far/taken"}
)

func merchantNamed(name string) *wepay.Merchant {
	return map[string]*wepay.Merchant{"shop": shop, "mini": mini, "far": far}[name]
}

// books is a ledger in a store, by a clock that the test sets.
type books struct {
	testing.TB
	*recovery.Ledger
	*storetest.Memory
	now time.Time
}

func newBooks(t testing.TB) *books {
	b := &books{TB: t, Memory: storetest.NewMemory(), now: time.Date(2026, 11, 30, 12, 0, 0, 0, wepay.Beijing)}
	clock := func() time.Time { return b.now }
	if err := b.Open(t.Context(), store.Options{Now: clock}); err != nil {
		t.Fatal(err)
	}
	b.Ledger = &recovery.Ledger{
		Store: b.Memory, Now: clock, Schedule: recovery.DefaultSchedule, CloseAfter: map[string]time.Duration{},
		CallbackURL: func(merchant string, kind wepay.Kind) string { return merchantNamed(merchant).CallbackURL(kind) },
	}
	return b
}

// order is what is sent to WeChat for an order of shop.
func order(number, fen string) wepay.Fields {
	return wepay.NewFields(map[string]string{"out_trade_no": number, "total_fee": fen, "appid": shop.AppID, "mch_id": shop.MchID})
}

// place records a call, and what WeChat answered.
func (b *books) place(m *wepay.Merchant, op wepay.Operation, request, reply wepay.Fields, failed error) {
	b.Helper()
	r, err := b.Record(b.Context(), m, op, wepay.V2, request, http.Header{})
	if err != nil || r == nil {
		b.Fatal(r, err)
	}
	if err := b.Answer(b.Context(), r, reply, failed); err != nil {
		b.Fatal(err)
	}
}

// get returns the one order of a kind and number.
func (b *books) get(kind store.OrderKind, number string) (found *store.Order) {
	b.Helper()
	err := b.Memory.Transact(context.Background(), func(tx store.Tx) error {
		orders, err := tx.Orders(kind, number)
		if len(orders) == 1 {
			found = orders[0]
		}
		return err
	})
	if err != nil || found == nil {
		b.Fatalf("%s %s: %v, %v", kind, number, found, err)
	}
	return found
}

// payment is a notification of a payment to shop, with some fields of its own.
func payment(number, fen string, own ...string) *wepay.Notification {
	n := &wepay.Notification{Kind: wepay.Payment, Merchant: shop, EventType: "TRANSACTION.SUCCESS", Fields: wepay.NewFields(map[string]string{
		"out_trade_no": number, "total_fee": fen, "appid": shop.AppID, "mch_id": shop.MchID, "transaction_id": "42" + number,
		"result_code": "SUCCESS", "return_code": "SUCCESS", "time_end": "20261130120100",
	})}
	for i := 0; i < len(own); i += 2 {
		n.Fields.Set(own[i], own[i+1])
	}
	return n
}

func (b *books) notify(n *wepay.Notification) recovery.Taken {
	b.Helper()
	e, err := store.NewEvent(n, store.SourceNotify, nil, b.Now())
	if err != nil {
		b.Fatal(err)
	}
	taken, err := b.Notified(b.Context(), n, e)
	if err != nil {
		b.Fatal(err)
	}
	return taken
}

var noAnswer = &wepay.Error{Verdict: wepay.Query, Err: wepay.ErrNoAnswer}

// What WeChat answers to a call, or does not, is what its record says; whoever died
// between the two has it asked about.
func TestAnswers(t *testing.T) {
	refuse := func(code string, verdict wepay.Verdict) error {
		return &wepay.Error{Code: code, Message: "text", Verdict: verdict}
	}
	for name, test := range map[string]struct {
		op     wepay.Operation
		reply  wepay.Fields
		failed error
		want   store.OrderState
		asked  bool // WeChat is asked about it
	}{
		"placed":                {wepay.PlaceOrder, order("a", "1"), nil, store.OrderPlaced, true},
		"no answer":             {wepay.PlaceOrder, nil, noAnswer, store.OrderUnknown, true},
		"not sent":              {wepay.PlaceOrder, nil, &wepay.Error{Verdict: wepay.Again, Err: errors.New("refused")}, store.OrderFailed, false},
		"WeChat's own trouble":  {wepay.PlaceOrder, nil, refuse("SYSTEMERROR", wepay.Again), store.OrderUnknown, true},
		"refused":               {wepay.PlaceOrder, nil, refuse("APPID_MCHID_NOT_MATCH", wepay.Fix), store.OrderFailed, false},
		"paid already":          {wepay.PlaceOrder, nil, refuse("ORDERPAID", wepay.Done), store.OrderUnknown, true},
		"code paid":             {wepay.Micropay, order("a", "1"), nil, store.OrderPaid, false},
		"code refused":          {wepay.Micropay, nil, refuse("AUTHCODEEXPIRE", wepay.Never), store.OrderFailed, false},
		"code open":             {wepay.Micropay, nil, noAnswer, store.OrderUnknown, true},
		"refund accepted":       {wepay.Refund, wepay.Fields{{Name: "refund_id", Value: "50"}}, nil, store.OrderRefunding, true},
		"refund open":           {wepay.Refund, nil, noAnswer, store.OrderUnknown, true},
		"refund refused":        {wepay.Refund, nil, refuse("NOTENOUGH", wepay.Later), store.OrderFailed, true},
		"refund not sent":       {wepay.Refund, nil, &wepay.Error{Verdict: wepay.Again, Err: errors.New("refused")}, store.OrderFailed, false},
		"transfer accepted":     {wepay.Transfer, nil, nil, store.OrderPlaced, true},
		"transfer refused":      {wepay.Transfer, nil, refuse("NOTENOUGH", wepay.Later), store.OrderFailed, true},
		"panic":                 {wepay.PlaceOrder, nil, errors.New("panic"), store.OrderUnknown, true},
		"red packet, no answer": {wepay.SendRedPacket, nil, noAnswer, store.OrderUnknown, true},
	} {
		t.Run(name, func(t *testing.T) {
			b := newBooks(t)
			request := order("a", "1")
			kind := store.Ordered
			switch test.op {
			case wepay.Refund:
				kind = store.Refund
				request = wepay.NewFields(map[string]string{"out_refund_no": "a", "refund_fee": "1", "total_fee": "1", "out_trade_no": "o"})
			case wepay.Transfer:
				kind = store.Transfer
				request = wepay.NewFields(map[string]string{"partner_trade_no": "a", "amount": "1"})
			case wepay.SendRedPacket:
				kind = store.Transfer
				request = wepay.NewFields(map[string]string{"mch_billno": "a", "total_amount": "1"})
			}
			b.place(shop, test.op, request, test.reply, test.failed)
			o := b.get(kind, "a")
			if o.State != test.want || o.Due.IsZero() == test.asked || o.Amount != 1 || o.Currency != "CNY" {
				t.Errorf("got %+v", o)
			}
		})
	}
}

// The same number placed again with another amount: WeChat decides, and the record
// has both.
func TestOtherAmount(t *testing.T) {
	refused := &wepay.Error{Code: "OUT_TRADE_NO_USED", Verdict: wepay.Query}
	final := &wepay.Error{Code: "INVALID_REQUEST", Verdict: wepay.Fix}
	for name, test := range map[string]struct {
		first, second error
		amount, also  int64
		state         store.OrderState
		accepts       []string // which amounts a notification may have
		quarantines   []string
	}{
		"the second is refused":        {nil, final, 100, 200, store.OrderPlaced, []string{"100"}, []string{"200"}},
		"of the second nothing's said": {nil, refused, 100, 200, store.OrderUnknown, []string{"100"}, []string{"300"}},
		"or it is the second":          {nil, refused, 100, 200, store.OrderUnknown, []string{"200"}, nil},
		"the first was refused":        {final, nil, 200, 100, store.OrderPlaced, []string{"200"}, []string{"100"}},
		"both are accepted":            {nil, nil, 200, 100, store.OrderPlaced, []string{"200"}, []string{"100"}},
	} {
		t.Run(name, func(t *testing.T) {
			b := newBooks(t)
			b.place(shop, wepay.PlaceOrder, order("a", "100"), nil, test.first)
			b.place(shop, wepay.PlaceOrder, order("a", "200"), nil, test.second)
			o := b.get(store.Ordered, "a")
			if o.Amount != test.amount || o.Also != test.also || o.State != test.state {
				t.Errorf("got %+v", o)
			}
			for _, fen := range test.quarantines {
				if taken := b.notify(payment("a", fen, "transaction_id", "q"+fen)); taken.Event.State != store.Quarantined || !taken.Added {
					t.Errorf("%s: got %+v", fen, taken.Event)
				}
			}
			for _, fen := range test.accepts {
				if taken := b.notify(payment("a", fen)); taken.Event.State != store.Waiting || taken.Order.State != store.OrderPaid {
					t.Errorf("%s: got %+v, %+v", fen, taken.Event, taken.Order)
				}
			}
		})
	}
}

// What contradicts its order is kept and not handed over; what was not placed here
// passes.
func TestQuarantine(t *testing.T) {
	for name, test := range map[string]struct {
		n    *wepay.Notification
		want store.State
	}{
		"as placed":               {payment("a", "100"), store.Waiting},
		"another amount":          {payment("a", "1"), store.Quarantined},
		"another currency":        {payment("a", "100", "fee_type", "HKD"), store.Quarantined},
		"another appid":           {payment("a", "100", "appid", mini.AppID), store.Quarantined},
		"not placed here":         {payment("b", "1"), store.Waiting},
		"a debit that failed":     {payment("a", "1", "result_code", "FAIL"), store.Waiting},
		"another account's":       {to(mini, payment("a", "100", "appid", mini.AppID, "mch_id", mini.MchID)), store.Quarantined},
		"another order service's": {to(far, payment("a", "1", "appid", far.AppID, "mch_id", far.MchID)), store.Waiting},
	} {
		t.Run(name, func(t *testing.T) {
			b := newBooks(t)
			b.place(shop, wepay.PlaceOrder, order("a", "100"), nil, nil)
			taken := b.notify(test.n)
			e, err := b.Get(t.Context(), taken.Event.ID)
			if err != nil || e.State != test.want || !taken.Added {
				t.Fatalf("got %+v, %v", e, err)
			}
			if test.want == store.Quarantined && (e.Reason == "" || e.ID == test.n.EventID() || e.Ended.IsZero()) {
				t.Errorf("got %+v", e)
			}
			if again := b.notify(test.n); again.Added {
				t.Error("a repeat is stored again")
			}
			// What agrees is no repeat of it.
			good := b.notify(payment("a", "100"))
			if good.Event.State != store.Waiting || b.get(store.Ordered, "a").State != store.OrderPaid {
				t.Errorf("got %+v", good.Event)
			}
		})
	}
}

func to(m *wepay.Merchant, n *wepay.Notification) *wepay.Notification {
	n.Merchant = m
	return n
}

// An order and its refunds say the same, whichever is heard of first.
func TestRefunds(t *testing.T) {
	refund := func(number, fen, status string) *wepay.Notification {
		return &wepay.Notification{Kind: wepay.Refunded, Merchant: shop, EventType: "REFUND", Fields: wepay.NewFields(map[string]string{
			"out_refund_no": number, "refund_id": "50" + number, "out_trade_no": "a", "transaction_id": "42a", "total_fee": "100", "refund_fee": fen,
			"refund_status": status, "success_time": "2026-11-30 12:30:00",
		})}
	}
	request := func(number, fen string) wepay.Fields {
		return wepay.NewFields(map[string]string{"out_refund_no": number, "refund_fee": fen, "total_fee": "100", "out_trade_no": "a"})
	}
	b := newBooks(t)
	b.place(shop, wepay.PlaceOrder, order("a", "100"), nil, nil)
	b.notify(payment("a", "100"))
	want := func(state store.OrderState, refunded int64) {
		t.Helper()
		if o := b.get(store.Ordered, "a"); o.State != state || o.Refunded != refunded || !o.Due.IsZero() {
			t.Errorf("got %+v", o)
		}
	}
	want(store.OrderPaid, 0)
	b.place(shop, wepay.Refund, request("r1", "30"), wepay.Fields{{Name: "refund_id", Value: "50r1"}}, nil)
	want(store.OrderRefunding, 0)
	b.notify(refund("r1", "30", "SUCCESS"))
	want(store.OrderPartlyRefunded, 30)
	b.notify(refund("r1", "30", "SUCCESS")) // a repeat
	want(store.OrderPartlyRefunded, 30)
	b.place(shop, wepay.Refund, request("r2", "70"), nil, nil)
	want(store.OrderRefunding, 30)
	b.notify(refund("r2", "70", "CHANGE"))
	want(store.OrderPartlyRefunded, 30)
	if o := b.get(store.Refund, "r2"); o.State != store.OrderAbnormal {
		t.Errorf("got %+v", o)
	}
	b.notify(refund("r2", "70", "SUCCESS")) // once the operator has settled it
	want(store.OrderRefunded, 100)
	b.notify(refund("r3", "1", "SUCCESS")) // made elsewhere
	want(store.OrderRefunded, 101)
	if taken := b.notify(refund("r4", "1", "REFUNDCLOSE")); taken.Order.State != store.OrderClosed {
		t.Errorf("got %+v", taken.Order)
	}
	want(store.OrderRefunded, 101)
	b.place(shop, wepay.Refund, request("r5", "5"), nil, nil)
	if taken := b.notify(refund("r5", "50", "SUCCESS")); taken.Event.State != store.Quarantined {
		t.Errorf("another amount: got %+v", taken.Event)
	}
}

// An order that was placed with two amounts is paid with either, whatever else was
// heard of it before, and once it is paid with that one alone.
func TestEitherAmount(t *testing.T) {
	for name, before := range map[string]func(*books){
		"nothing": func(*books) {},
		"a refund is accepted": func(b *books) {
			b.place(shop, wepay.Refund, wepay.NewFields(map[string]string{"out_refund_no": "r", "out_trade_no": "a", "refund_fee": "1", "total_fee": "200"}), nil, nil)
		},
		"it has expired": func(b *books) {
			b.now = b.now.Add(3 * time.Hour)
			if _, err := b.Learn(b.Context(), shop, b.get(store.Ordered, "a"), &wepay.Outcome{State: wepay.Pending}, store.SourceQuery); err != nil {
				b.Fatal(err)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			b := newBooks(t)
			b.place(shop, wepay.PlaceOrder, order("a", "100"), nil, noAnswer)
			b.place(shop, wepay.PlaceOrder, order("a", "200"), nil, noAnswer)
			before(b)
			if taken := b.notify(payment("a", "200")); taken.Event.State != store.Waiting || taken.Order.Amount != 200 || taken.Order.Also != 100 {
				t.Errorf("got %+v, %+v", taken.Event, taken.Order)
			}
			if taken := b.notify(payment("a", "100")); taken.Event.State != store.Quarantined {
				t.Errorf("got %+v, %+v", taken.Event, taken.Order)
			}
		})
	}
}

// What WeChat has told of an order an answer that comes later does not take back.
func TestAnswerAfterNotification(t *testing.T) {
	for name, failed := range map[string]error{
		"done": nil, "no answer": noAnswer, "refused": &wepay.Error{Code: "INVALID_REQUEST", Verdict: wepay.Fix},
	} {
		t.Run(name, func(t *testing.T) {
			b := newBooks(t)
			r, err := b.Record(t.Context(), shop, wepay.PlaceOrder, wepay.V2, order("a", "100"), nil)
			if err != nil {
				t.Fatal(err)
			}
			b.notify(payment("a", "100"))
			if err := b.Answer(t.Context(), r, nil, failed); err != nil {
				t.Fatal(err)
			}
			if o := b.get(store.Ordered, "a"); o.State != store.OrderPaid || o.Source != store.SourceNotify || !o.Due.IsZero() || o.Reason != "" {
				t.Errorf("got %+v", o)
			}
		})
	}
}

// An answer that WeChat notifies nobody of, such as to a question about a transfer of
// API v2, is what the record says, and nobody is told.
func TestOutcomeWithoutNotification(t *testing.T) {
	for outcome, want := range map[wepay.OutcomeState]store.OrderState{
		wepay.Succeeded: store.OrderPaid, wepay.Failed: store.OrderFailed, wepay.Closed: store.OrderClosed, wepay.Pending: store.OrderPlaced,
	} {
		b := newBooks(t)
		b.place(shop, wepay.Transfer, wepay.NewFields(map[string]string{"partner_trade_no": "a", "amount": "1"}), nil, noAnswer)
		taken, err := b.Learn(t.Context(), shop, b.get(store.Transfer, "a"), &wepay.Outcome{State: outcome, Word: "WORD", Text: "text"}, store.SourceQuery)
		if err != nil || taken.Event != nil || !taken.Changed {
			t.Errorf("%s: got %+v, %v", outcome, taken, err)
		}
		o := b.get(store.Transfer, "a")
		if o.State != want || o.Due.IsZero() != (outcome != wepay.Pending) || o.Paid.IsZero() != (outcome != wepay.Succeeded) || outcome == wepay.Failed && o.Reason != "WORD: text" {
			t.Errorf("%s: got %+v", outcome, o)
		}
	}
}
