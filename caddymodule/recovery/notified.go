package recovery

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/windsome/caddy-wepay/caddymodule/store"
	"github.com/windsome/caddy-wepay/wepay"
)

// Taken is what came of something that WeChat said.
type Taken struct {
	Event *store.Event // as it is stored; nil: there is nothing to hand over
	Added bool         // the store did not have it yet
	Order *store.Order // as it is now; nil: it was not placed here
	// Changed: the order has come to this state by what WeChat said.
	Changed bool
}

// Notified stores the event of a notification, together with what it makes of its
// order. What contradicts the order is quarantined.
func (l *Ledger) Notified(ctx context.Context, n *wepay.Notification, e *store.Event) (Taken, error) {
	var taken Taken
	err := l.Store.Transact(ctx, func(tx store.Tx) (err error) {
		taken, err = l.take(tx, n, e)
		return err
	})
	return taken, err
}

// take stores the event of a notification, or of an answer that says the same.
func (l *Ledger) take(tx store.Tx, n *wepay.Notification, e *store.Event) (Taken, error) {
	own := *e
	taken := Taken{Event: &own}
	o, err := l.orderOf(tx, n, &own)
	if err != nil {
		return taken, err
	}
	if o != nil && own.State != store.Quarantined {
		if reason := contradiction(o, n, &own); reason != "" {
			l.quarantine(&own, n, reason)
		}
	}
	if taken.Added, err = tx.Put(&own); err != nil || o == nil {
		return taken, err
	}
	taken.Order, taken.Changed = o, l.learn(o, n, &own)
	if taken.Changed {
		err = set(tx, o, l.Now())
	}
	return taken, err
}

// kinds are what the kinds of notifications are about, and which of API v2's names
// have the order's number.
var kinds = map[wepay.Kind]struct {
	kind    store.OrderKind
	numbers []string
}{
	wepay.Payment:         {store.Ordered, []string{"out_trade_no"}},
	wepay.CombinedPayment: {store.Combined, []string{"combine_out_trade_no"}},
	wepay.Refunded:        {store.Refund, []string{"out_refund_no"}},
	wepay.Transferred:     {store.Transfer, []string{"out_bill_no", "out_batch_no"}},
}

// orderOf returns the order that a notification is about; nil: it was not placed
// here. A refund that was not is recorded now, so that its order says it. An order of
// another account that has the same number and goes to the same order service, which
// cannot tell the two, quarantines the event.
func (l *Ledger) orderOf(tx store.Tx, n *wepay.Notification, e *store.Event) (*store.Order, error) {
	about, found := kinds[n.Kind]
	if !found {
		return nil, nil
	}
	number := ""
	for _, name := range about.numbers {
		number = cmp.Or(number, n.Fields.Get(name))
	}
	if err := lock(tx, about.kind, n.Fields.Get("out_trade_no")); err != nil {
		return nil, err
	}
	all, err := tx.Orders(about.kind, number)
	if err != nil {
		return nil, err
	}
	m := n.Merchant
	subMchID := cmp.Or(n.Fields.Get("sub_mch_id"), m.SubMchID)
	own := store.OrderKey{Kind: about.kind, Number: number, MchID: m.MchID, SubMchID: subMchID}
	if i := slices.IndexFunc(all, func(o *store.Order) bool { return o.Key() == own }); i >= 0 {
		return all[i], nil
	}
	switch {
	case n.Kind == wepay.Refunded:
		return &store.Order{
			Kind: store.Refund, Number: number, MchID: m.MchID, SubMchID: subMchID, Merchant: m.Name, AppID: m.AppID,
			OutTradeNo: n.Fields.Get("out_trade_no"), Amount: e.Amount, Currency: e.Currency, State: store.OrderRefunding, Placed: e.Received,
		}, nil
	case n.Kind == wepay.Payment && len(all) > 0:
		for _, o := range all {
			if url := l.CallbackURL(o.Merchant, n.Kind); url != "" && url == m.CallbackURL(n.Kind) {
				l.quarantine(e, n, fmt.Sprintf("mch_id: it was paid to %s, and the order of this number was placed with %s", account(m.MchID, subMchID), account(o.MchID, o.SubMchID)))
				return nil, nil
			}
		}
	}
	return nil, nil
}

func account(mchID, subMchID string) string {
	if subMchID == "" {
		return mchID
	}
	return mchID + " for " + subMchID
}

// contradiction says in what a notification differs from its order; "": in nothing.
func contradiction(o *store.Order, n *wepay.Notification, e *store.Event) string {
	var differ []string
	differs := func(name, theirs, ours string) {
		if theirs != "" && ours != "" && theirs != ours {
			differ = append(differ, fmt.Sprintf("%s: WeChat says %s, and the order %s", name, theirs, ours))
		}
	}
	differsFen := func(name string) {
		if e.Amount != o.Amount && !(e.Amount == o.Also && hasEitherAmount(o)) {
			differ = append(differ, fmt.Sprintf("%s: WeChat says %d, and the order %d", name, e.Amount, o.Amount))
		}
	}
	switch n.Kind {
	case wepay.Payment:
		if n.Fields.Get("result_code") != "SUCCESS" {
			return "" // nothing was paid
		}
		differsFen("total_fee")
		differs("fee_type", e.Currency, o.Currency)
		differs("appid", n.Fields.Get("appid"), o.AppID)
	case wepay.CombinedPayment:
		differsFen("total_fee")
	case wepay.Refunded:
		if o.Operation != "" {
			differsFen("refund_fee")
		}
	}
	return strings.Join(differ, "; ")
}

// hasEitherAmount reports whether WeChat may have an order with the other amount that
// it was placed with. What a refund says of the order does not tell.
func hasEitherAmount(o *store.Order) bool {
	return o.State != store.OrderPlaced && o.State != store.OrderQuarantined && o.EventID == ""
}

// quarantine has an event kept and not handed over. It gets a webhook-id of its own,
// so that one which agrees with the order is no repeat of it.
func (l *Ledger) quarantine(e *store.Event, n *wepay.Notification, reason string) {
	sum := sha256.Sum256([]byte("quarantined\x00" + e.ID + "\x00" + reason))
	e.ID = "evt_" + hex.EncodeToString(sum[:16])
	e.State, e.Due, e.Ended, e.Reason = store.Quarantined, time.Time{}, l.Now(), reason
}

// learn has an order say what a notification does, and reports whether that is
// something new.
func (l *Ledger) learn(o *store.Order, n *wepay.Notification, e *store.Event) bool {
	before := *o
	switch {
	case e.State == store.Quarantined:
		if paid(o) {
			return false
		}
		l.end(o, store.OrderQuarantined, e.Source)
		o.Reason = e.Reason
	case n.Kind == wepay.Refunded && n.Fields.Get("refund_status") == "CHANGE" && (o.State == store.OrderRefunded || o.State == store.OrderClosed):
		return false // what came later is known already
	case n.Kind == wepay.Refunded:
		l.end(o, refundStates[n.Fields.Get("refund_status")], e.Source)
		o.TransactionID = cmp.Or(n.Fields.Get("refund_id"), o.TransactionID)
		o.OutTradeNo = cmp.Or(n.Fields.Get("out_trade_no"), o.OutTradeNo)
	case n.Kind == wepay.Transferred:
		l.end(o, transferStates[cmp.Or(n.Fields.Get("state"), n.Fields.Get("batch_status"))], e.Source)
		o.TransactionID = cmp.Or(n.Fields.Get("transfer_bill_no"), n.Fields.Get("batch_id"))
	case n.Kind == wepay.Payment && n.Fields.Get("result_code") != "SUCCESS", paid(o) && o.EventID != "":
		return false
	default:
		state := o.State
		l.end(o, store.OrderPaid, e.Source)
		if paid(&before) { // as its refund says, or the answer to a payment by code
			o.State = state
		}
		o.TransactionID = n.Fields.Get("transaction_id")
		if n.Kind == wepay.Payment && e.Amount == o.Also {
			o.Also, o.Amount = o.Amount, e.Amount
		}
	}
	if o.State == "" { // a word that is not known
		*o = before
		return false
	}
	if o.State == before.State && o.TransactionID == before.TransactionID && before.EventID != "" {
		return false
	}
	o.EventID = e.ID
	if o.Paid = e.Occurred; o.Paid.IsZero() && o.State != store.OrderQuarantined {
		o.Paid = e.Received
	}
	return true
}

// The states that WeChat's words come to; both APIs' are API v2's here, except a
// transfer's, which API v2 does not notify of.
var (
	refundStates = map[string]store.OrderState{
		"SUCCESS": store.OrderRefunded, "CHANGE": store.OrderAbnormal, "REFUNDCLOSE": store.OrderClosed,
	}
	transferStates = map[string]store.OrderState{
		"SUCCESS": store.OrderPaid, "FINISHED": store.OrderPaid, "FAIL": store.OrderFailed, "CANCELLED": store.OrderClosed, "CLOSED": store.OrderClosed,
	}
)
