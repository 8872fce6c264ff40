package store

import (
	"cmp"
	"net/http"
	"strconv"
	"time"

	"github.com/windsome/caddy-wepay/wepay"
)

// NewEvent returns what the order service is to get of a notification, with the
// trace in a header that it came with.
func NewEvent(n *wepay.Notification, source Source, header http.Header, now time.Time) (*Event, error) {
	payload, err := n.Payload()
	if err != nil {
		return nil, err
	}
	get := n.Fields.Get
	e := &Event{
		ID: n.EventID(), Merchant: n.Merchant.Name, Kind: n.Kind, EventType: n.EventType,
		OutTradeNo:    cmp.Or(get("out_trade_no"), get("combine_out_trade_no"), get("out_bill_no"), get("out_batch_no"), get("out_order_no")),
		TransactionID: cmp.Or(get("transaction_id"), get("transfer_bill_no"), get("batch_id")),
		OutRefundNo:   get("out_refund_no"),
		Amount:        amount(n), Currency: cmp.Or(get("fee_type"), get("fee_type_0"), "CNY"),
		After: n.PrecedingID(), Payload: payload, Source: source, Occurred: occurred(n),
		Received: now, State: Waiting, Due: now, Since: now, Trace: TraceOf(header),
	}
	return e, nil
}

// amounts are the fields that say how much was paid, refunded, shared or
// transferred.
var amounts = map[wepay.Kind][]string{
	wepay.Payment:      {"total_fee"},
	wepay.Refunded:     {"refund_fee"},
	wepay.Transferred:  {"transfer_amount", "total_amount"},
	wepay.ProfitShared: {"receiver_amount"},
}

// amount is how much a notification is about; 0: it does not say. Of a combined
// order it is the sum of its orders.
func amount(n *wepay.Notification) (fen int64) {
	if n.Kind == wepay.CombinedPayment {
		for i := 0; ; i++ {
			text, found := n.Fields.Lookup("total_fee_" + strconv.Itoa(i))
			if !found {
				return fen
			}
			part, _ := wepay.WholeFen(text)
			fen += part
		}
	}
	for _, name := range amounts[n.Kind] {
		if fen, _ = wepay.WholeFen(n.Fields.Get(name)); fen != 0 {
			return fen
		}
	}
	return 0
}

// times are the fields that say when something happened, in the forms that
// timeLayouts has.
var times = []string{"time_end", "time_end_0", "success_time", "update_time"}

// timeLayouts are those of both APIs, in Beijing time where they name no zone.
var timeLayouts = []string{"20060102150405", time.DateTime, time.RFC3339}

// occurred is when a notification says that it happened; zero: it does not say, or
// not in a form that is known.
func occurred(n *wepay.Notification) time.Time {
	for _, name := range times {
		text := n.Fields.Get(name)
		for _, layout := range timeLayouts {
			if at, err := time.ParseInLocation(layout, text, wepay.Beijing); err == nil {
				return at
			}
		}
	}
	return time.Time{}
}
