package reconcile_test

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/windsome/caddy-wepay/caddymodule/store"
	"github.com/windsome/caddy-wepay/wepay"
)

// Each kind of difference, and what is none.
func TestFindings(t *testing.T) {
	in := func(state store.State) func(*store.Event) { return func(e *store.Event) { e.State = state } }
	as := func(state store.OrderState) func(*store.Order) { return func(o *store.Order) { o.State = state } }
	of := func(merchant string) func(*store.Order) { return func(o *store.Order) { o.Merchant = merchant } }
	pays := func(number, transactionID string, fen int64) func(*weChat) {
		return func(w *weChat) { w.pays(number, transactionID, fen) }
	}
	paid := row{transactionID: "T1", number: "A1", total: 100}
	returned := row{state: "REFUND", transactionID: "T1", number: "A1", refundID: "5", refund: "R1", status: "SUCCESS", refunded: 40}
	with := func(r row, change func(*row)) row {
		change(&r)
		return r
	}
	yesterday := func(o *store.Order) { o.Placed = noon.AddDate(0, 0, -1) }
	all := func(all ...any) []any { return all }
	for name, test := range map[string]struct {
		bill   []row
		stored []any
		weChat func(*weChat)
		want   []string
		asked  int
	}{
		"told and in the bill": {bill: []row{paid}, stored: all(order("A1", 100), event("A1", "T1", 100))},
		"told, not placed here": {
			bill: []row{paid}, stored: all(event("A1", "T1", 100)),
		},
		"of others": {bill: []row{paid, returned}},
		"of another sub-merchant, with the same number": {
			bill: []row{with(paid, func(r *row) { r.sub = subMchID })}, stored: all(order("A1", 100, as(store.OrderPlaced))),
		},
		"of a merchant that is not reconciled": {
			bill: []row{paid}, stored: all(order("A1", 100, as(store.OrderPlaced), of("till"))),
		},
		"paid, never told": {
			bill: []row{paid}, stored: all(order("A1", 100, as(store.OrderClosed))), weChat: pays("A1", "T1", 100),
			want: []string{"paid_not_handed_over A1 100/100/100 paid waiting handed_over"}, asked: 1,
		},
		"paid, never told, by a merchant that is gone": {
			bill: []row{paid}, stored: all(order("A1", 100, as(store.OrderClosed), of("gone"))), weChat: pays("A1", "T1", 100),
			want: []string{"paid_not_handed_over A1 100/100/0 closed  no_answer"},
		},
		"paid, told by the answer": {
			bill: []row{paid}, stored: all(order("A1", 100, func(o *store.Order) { o.Operation = wepay.Micropay })),
		},
		"paid by code, outcome unknown": {
			bill: []row{paid}, stored: all(order("A1", 100, as(store.OrderUnknown), func(o *store.Order) { o.Operation = wepay.Micropay })), weChat: pays("A1", "T1", 100),
			want: []string{"paid_not_handed_over A1 100/100/0 paid  recorded"}, asked: 1,
		},
		"paid, recorded, and nobody is told": {bill: []row{paid}, stored: all(order("A1", 100, of("mute")))},
		"paid, WeChat does not say so": {
			bill: []row{paid}, stored: all(order("A1", 100, as(store.OrderFailed), func(o *store.Order) { o.Asked = 2 })),
			want: []string{"paid_not_handed_over A1 100/100/0 failed  unconfirmed"}, asked: 1,
		},
		"paid, WeChat away": {
			bill: []row{paid}, stored: all(order("A1", 100, as(store.OrderClosed))), weChat: func(w *weChat) { w.away = true },
			want: []string{"paid_not_handed_over A1 100/100/0 closed  no_answer"}, asked: 1,
		},
		"paid another amount, never told": {
			bill: []row{with(paid, func(r *row) { r.total = 1 })}, stored: all(order("A1", 100, as(store.OrderClosed))), weChat: pays("A1", "T1", 1),
			want: []string{"paid_not_handed_over A1 1/100/1 quarantined quarantined quarantined", "amount_differs A1 1/100/1 quarantined quarantined quarantined"}, asked: 1,
		},
		"waiting":     {bill: []row{paid}, stored: all(order("A1", 100), event("A1", "T1", 100, in(store.Waiting))), want: []string{"paid_not_handed_over A1 100/100/100 paid waiting "}},
		"dead":        {bill: []row{paid}, stored: all(order("A1", 100), event("A1", "T1", 100, in(store.Dead))), want: []string{"paid_not_handed_over A1 100/100/100 paid dead "}},
		"dropped":     {bill: []row{paid}, stored: all(order("A1", 100), event("A1", "T1", 100, in(store.Dropped))), want: []string{"paid_not_handed_over A1 100/100/100 paid dropped "}},
		"quarantined": {bill: []row{paid}, stored: all(order("A1", 100), event("A1", "T1", 100, in(store.Quarantined))), want: []string{"paid_not_handed_over A1 100/100/100 paid quarantined "}},
		"quarantined, then delivered": {
			bill: []row{paid}, stored: all(order("A1", 100), event("A1", "T1", 100, in(store.Quarantined)), event("A1", "T1", 100, func(e *store.Event) { e.ID = "evt_2" })),
		},
		"only a failure was told": {
			bill: []row{paid}, stored: all(order("A1", 100, as(store.OrderClosed)), event("A1", "T1", 100, func(e *store.Event) { e.EventType = "TRANSACTION.FAIL" })), weChat: pays("A1", "T1", 100),
			want: []string{"paid_not_handed_over A1 100/100/100 paid waiting handed_over"}, asked: 1,
		},
		"the order's amount":       {bill: []row{paid}, stored: all(order("A1", 99), event("A1", "T1", 100)), want: []string{"amount_differs A1 100/99/100 paid delivered "}},
		"the event's amount":       {bill: []row{paid}, stored: all(order("A1", 100), event("A1", "T1", 101)), want: []string{"amount_differs A1 100/100/101 paid delivered "}},
		"an amount with coupons":   {bill: []row{with(paid, func(r *row) { r.coupons = 30 })}, stored: all(order("A1", 100), event("A1", "T1", 100))},
		"another currency's":       {bill: []row{paid}, stored: all(order("A1", 88, func(o *store.Order) { o.Currency = "HKD" }), event("A1", "T1", 88, func(e *store.Event) { e.Currency = "HKD" }))},
		"one of two amounts":       {bill: []row{paid}, stored: all(order("A1", 99, as(store.OrderUnknown), func(o *store.Order) { o.Also = 100 }), event("A1", "T1", 100))},
		"told, not in the bill":    {bill: []row{paid}, stored: all(event("A1", "T1", 100), event("A2", "T2", 50)), want: []string{"handed_over_not_in_bill A2 0/0/50  delivered "}},
		"told, another order's":    {bill: []row{paid}, stored: all(order("A1", 100), event("A1", "T1", 100), event("A1", "T2", 100)), want: []string{"handed_over_not_in_bill A1 0/0/100  delivered "}},
		"told on another day":      {bill: []row{paid}, stored: all(event("A1", "T1", 100), event("A2", "T2", 50, func(e *store.Event) { e.Occurred = noon.AddDate(0, 0, 1) }))},
		"told, to mini":            {bill: []row{paid}, stored: all(event("A2", "T2", 50, func(e *store.Event) { e.Merchant = "mini" })), want: []string{"handed_over_not_in_bill A2 0/0/50  delivered "}},
		"told, to till":            {bill: []row{paid}, stored: all(event("A2", "T2", 50, func(e *store.Event) { e.Merchant = "till" }))},
		"quarantined, not in it":   {bill: []row{paid}, stored: all(event("A2", "T2", 50, in(store.Quarantined)), event("A3", "T3", 50, in(store.Dropped)))},
		"reversed, and told":       {bill: []row{{state: "REVOKED", transactionID: "T1", number: "A1", refunded: 100}}, stored: all(event("A1", "T1", 100))},
		"refunded and told":        {bill: []row{returned}, stored: all(refund("R1", "A1", 40), refundEvent("R1", "A1", "T1", 40))},
		"a refund under way":       {bill: []row{with(returned, func(r *row) { r.status = "PROCESSING" })}, stored: all(refund("R1", "A1", 40, as(store.OrderRefunding)))},
		"the refund's amount":      {bill: []row{returned}, stored: all(refund("R1", "A1", 40), refundEvent("R1", "A1", "T1", 41)), want: []string{"refund_amount_differs R1 40/40/41 refunded delivered "}},
		"the refund order's":       {bill: []row{with(returned, func(r *row) { r.status = "PROCESSING" })}, stored: all(refund("R1", "A1", 50, as(store.OrderRefunding))), want: []string{"refund_amount_differs R1 40/50/0 refunding  "}},
		"refunded, a dead event":   {bill: []row{returned}, stored: all(refund("R1", "A1", 40), refundEvent("R1", "A1", "T1", 40, in(store.Dead))), want: []string{"refund_not_handed_over R1 40/40/40 refunded dead "}},
		"refund told, not in it":   {bill: []row{paid}, stored: all(order("A1", 100), event("A1", "T1", 100), refund("R2", "A1", 10), refundEvent("R2", "A1", "T1", 10)), want: []string{"refund_not_in_bill R2 0/10/10 refunded delivered "}},
		"refund of the day before": {bill: []row{paid}, stored: all(order("A1", 100), event("A1", "T1", 100), refund("R2", "A1", 10, yesterday), refundEvent("R2", "A1", "T1", 10))},
		"refund not placed here":   {bill: []row{paid}, stored: all(order("A1", 100), event("A1", "T1", 100), refundEvent("R2", "A1", "T1", 10))},
		"refund heard of, and when it was applied for nobody says": {
			bill: []row{paid}, stored: all(order("A1", 100), event("A1", "T1", 100), refund("R2", "A1", 10, func(o *store.Order) { o.Operation = "" }), refundEvent("R2", "A1", "T1", 10)),
		},
		"refunded, never told": {
			bill: []row{returned}, stored: all(refund("R1", "A1", 40, as(store.OrderRefunding))),
			weChat: func(w *weChat) { w.refunds("R1", "5", "A1", "T1", 40) },
			want:   []string{"refund_not_handed_over R1 40/40/40 refunded waiting handed_over"}, asked: 1,
		},
		"refunded in the merchant platform, never told": {
			bill: []row{paid, returned}, stored: all(order("A1", 100), event("A1", "T1", 100)),
			weChat: func(w *weChat) { w.refunds("R1", "5", "A1", "T1", 40) },
			want:   []string{"refund_not_handed_over R1 40/40/40 refunded waiting handed_over"}, asked: 1,
		},
		"refunded in the merchant platform, of a payment that was told": {
			bill: []row{paid, returned}, stored: all(event("A1", "T1", 100)),
			weChat: func(w *weChat) { w.refunds("R1", "5", "A1", "T1", 40) },
			want:   []string{"refund_not_handed_over R1 40/40/40 refunded waiting handed_over"}, asked: 1,
		},
	} {
		t.Run(name, func(t *testing.T) {
			for kind, write := range map[string]func(...row) string{"new": billOf, "old": oldBillOf} {
				w := newWorld(t)
				w.restart(direct("shop"), direct("mini"), direct("mute"))
				w.weChat.bills["/20261129"] = write(test.bill...)
				w.put(test.stored...)
				if test.weChat != nil {
					test.weChat(w.weChat)
				}
				w.check(w.reconcile(), test.want...)
				if len(w.weChat.asked) != test.asked {
					t.Errorf("%s: WeChat was asked %q", kind, w.weChat.asked)
				}
				if !w.weChat.away && !t.Failed() { // what was found stays found
					w.check(w.reconcile(), test.want...)
				}
			}
		})
	}
}

// What is handed over is as if WeChat had notified, but known from the bill.
func TestHandsOver(t *testing.T) {
	w := newWorld(t)
	w.weChat.bills["/20261129"] = billOf(row{transactionID: "T1", number: "A1", total: 100})
	w.put(order("A1", 100, func(o *store.Order) { o.State = store.OrderPlaced }))
	w.weChat.pays("A1", "T1", 100)
	w.reconcile()
	if got := w.events()["T1"]; got != "waiting bill" {
		t.Errorf("the event is %q", got)
	}
	orders, _, err := w.store.Match(t.Context(), store.Ordered, []string{"A1"})
	if err != nil || len(orders) != 1 || orders[0].State != store.OrderPaid || orders[0].Source != store.SourceBill || orders[0].TransactionID != "T1" {
		t.Errorf("the order is %+v (%v)", orders[0], err)
	}
	if len(w.made) != 1 || w.made[0].Counts["paid_not_handed_over"] != 1 {
		t.Errorf("%d reports were told of", len(w.made))
	}
}

// The sums are those of the bill, whoever's the trades are.
func TestSums(t *testing.T) {
	w := newWorld(t)
	w.weChat.bills["/20261129"] = billOf(
		row{transactionID: "T1", number: "A1", total: 1000, coupons: 300}, row{transactionID: "T2", number: "B2", total: 25},
		row{state: "REFUND", transactionID: "T1", number: "A1", refundID: "5", refund: "R1", status: "SUCCESS", refunded: 40},
		row{state: "REVOKED", transactionID: "T3", number: "A3", refunded: 7}, row{state: "NEW", transactionID: "T4", number: "A4", total: 3},
	)
	w.put(order("A1", 1000), event("A1", "T1", 1000))
	r := w.reconcile()
	if r.Paid.Count != 2 || r.Paid.Fen != 1025 || r.PaidSettled != 725 || r.Refunded.Count != 1 || r.Refunded.Fen != 40 || r.RefundedSettled != 40 ||
		r.Revoked.Count != 1 || r.Revoked.Fen != 7 || r.Unknown != 1 || r.Fees != 5*600 || r.Others.Count != 1 || r.Others.Fen != 25 || r.OthersRefunded.Count != 0 || r.Matched != 2 {
		t.Errorf("got %+v", r)
	}
}

// A bill that does not add up, or is not the one that was asked for, leads to nothing.
func TestUnusableBill(t *testing.T) {
	good := billOf(row{transactionID: "T1", number: "A1", total: 100})
	for name, test := range map[string]struct {
		bill string
		form bool // it will never be better
	}{
		"a wrong sum":     {strings.Replace(good, "`1,`1.00", "`1,`1.01", 1), true},
		"a row twice":     {strings.Replace(good, "\r\n总交易单数", "\r\n"+strings.Split(good, "\r\n")[1]+"\r\n总交易单数", 1), true},
		"cut off":         {good[:strings.Index(good, "总交易单数")], false},
		"GBK":             {strings.Replace(good, "袜子", "\xcd\xe0", 1), true},
		"another day":     {strings.Replace(good, "2026-11-29", "2026-11-28", 1), true},
		"another account": {strings.Replace(good, mchID, "1900000999", 1), true},
		"payments alone":  {strings.NewReplacer("微信退款单号,商户退款单号,退款金额,充值券退款金额,退款类型,退款状态,", "", ",申请退款金额", "", "`0,`0,`0.00,`0.00,`,`,", "", "`1.00,`0.00,`\r", "`1.00,`\r").Replace(good), true},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			w.weChat.bills["/20261129"] = test.bill
			w.put(order("A1", 100, func(o *store.Order) { o.State = store.OrderPlaced }))
			w.weChat.pays("A1", "T1", 100)
			_, err := w.ByHand(t.Context(), "shop", date)
			if !errors.Is(err, wepay.ErrMalformed) || errors.Is(err, wepay.ErrBillForm) != test.form {
				t.Errorf("got %v", err)
			}
			if len(w.weChat.asked) != 0 || len(w.storage.all) != 0 || len(w.made) != 0 || len(w.events()) != 0 {
				t.Errorf("WeChat was asked %q, and %d reports were made", w.weChat.asked, len(w.made))
			}
		})
	}
}

// A partner's bill is one of all sub-merchants, or one for each that it may act for.
func TestPartner(t *testing.T) {
	for name, test := range map[string]struct {
		change func(*wepay.Merchant)
		want   []string
	}{
		"one":                 {func(m *wepay.Merchant) { m.SubMchID = subMchID }, []string{subMchID + "/20261129"}},
		"several":             {func(m *wepay.Merchant) { m.SubMchID, m.SubMchIDs = subMchID, []string{"1900000111"} }, []string{subMchID + "/20261129", "1900000111/20261129"}},
		"any":                 {func(m *wepay.Merchant) { m.SubMchIDs = []string{"*"} }, []string{"*/20261129"}},
		"any, and a standard": {func(m *wepay.Merchant) { m.SubMchID, m.SubMchIDs = subMchID, []string{"*"} }, []string{"*/20261129"}},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			m := direct("shop")
			m.Type = wepay.Partner
			test.change(m)
			w.restart(m)
			for i, key := range test.want {
				sub := []string{subMchID, "1900000111"}[i]
				w.weChat.bills[key] = billOf(row{sub: sub, transactionID: "T" + sub, number: "A1", total: 100})
			}
			w.put(
				order("A1", 100, func(o *store.Order) { o.SubMchID = subMchID }), event("A1", "T"+subMchID, 100),
				order("A2", 100, func(o *store.Order) { o.SubMchID = subMchID }), event("A2", "T2", 100),
			)
			r := w.reconcile()
			w.check(r, "handed_over_not_in_bill A2 0/0/100  delivered ")
			if !slices.Equal(w.weChat.fetched, test.want) || r.Paid.Count != len(test.want) || r.Others.Count != len(test.want)-1 {
				t.Errorf("downloaded %q, paid %d, of others %d", w.weChat.fetched, r.Paid.Count, r.Others.Count)
			}
		})
	}
}

// The bill has each order of a combined payment.
func TestCombined(t *testing.T) {
	v2 := `{"combine_out_trade_no":"C1","mch_id_0":"1900000109","out_trade_no_0":"P0","transaction_id_0":"T0","total_fee_0":"60",
		"mch_id_1":"1900000109","out_trade_no_1":"P1","transaction_id_1":"T1","total_fee_1":"40","mch_id_2":"1900000777","out_trade_no_2":"P2","transaction_id_2":"T2","total_fee_2":"9"}`
	v3 := `{"combine_out_trade_no":"C1","sub_orders":[{"mchid":"1900000109","out_trade_no":"P0","transaction_id":"T0","amount":{"total_amount":60}},
		{"mchid":"1900000109","out_trade_no":"P1","transaction_id":"T1","amount":{"total_amount":40}},{"mchid":"1900000777","out_trade_no":"P2","transaction_id":"T2","amount":{"total_amount":9}}]}`
	combined := func(payload string, state store.State) *store.Event {
		return event("C1", "", 109, func(e *store.Event) {
			e.ID, e.Kind, e.State, e.Payload = "evt_C1", wepay.CombinedPayment, state, []byte(payload)
			if payload == "" {
				e.Payload = nil
			}
		})
	}
	first, second := row{transactionID: "T0", number: "P0", total: 60}, row{transactionID: "T1", number: "P1", total: 40}
	less := second
	less.total = 39
	for name, test := range map[string]struct {
		payload   string
		state     store.State
		bill      []row
		unchecked int
		want      []string
	}{
		"both, v2":     {v2, store.Delivered, []row{first, second}, 0, nil},
		"both, v3":     {v3, store.Delivered, []row{first, second}, 0, nil},
		"one missing":  {v2, store.Delivered, []row{first}, 0, []string{"handed_over_not_in_bill P1 0/0/40  delivered "}},
		"missing, v3":  {v3, store.Delivered, []row{first}, 0, []string{"handed_over_not_in_bill P1 0/0/40  delivered "}},
		"another sum":  {v2, store.Delivered, []row{first, less}, 0, []string{"amount_differs P1 39/0/40  delivered "}},
		"dead":         {v3, store.Dead, []row{first, second}, 0, []string{"paid_not_handed_over P0 60/0/60  dead ", "paid_not_handed_over P1 40/0/40  dead "}},
		"payload gone": {"", store.Delivered, []row{first, second}, 1, nil},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			w.weChat.bills["/20261129"] = billOf(test.bill...)
			w.put(combined(test.payload, test.state))
			r := w.reconcile()
			w.check(r, test.want...)
			if r.Unchecked != test.unchecked || test.unchecked == 0 && r.Others.Count != 0 {
				t.Errorf("unchecked %d, of others %d", r.Unchecked, r.Others.Count)
			}
		})
	}
}

// More trades than one question to the store may be about are matched in portions.
func TestPortions(t *testing.T) {
	w := newWorld(t)
	var rows []row
	for i := range 2*store.MostNumbers + 7 {
		number := time.Duration(i).String()
		rows = append(rows, row{transactionID: "T" + number, number: "A" + number, total: 5},
			row{state: "REFUND", transactionID: "T" + number, number: "A" + number, refundID: "5" + number, refund: "R" + number, status: "SUCCESS", refunded: 5})
		if i != 3 {
			w.put(event("A"+number, "T"+number, 5), refundEvent("R"+number, "A"+number, "T"+number, 5))
		}
	}
	w.weChat.bills["/20261129"] = billOf(rows...)
	r := w.reconcile()
	w.check(r)
	if r.Matched != len(rows)-2 || r.Others.Count != 1 || r.OthersRefunded.Count != 1 {
		t.Errorf("%d matched, %d of others", r.Matched, r.Others.Count)
	}
}
