package recovery

import (
	"cmp"
	"encoding/json"
	"time"

	"github.com/windsome/caddy-wepay/caddymodule/store"
	"github.com/windsome/caddy-wepay/wepay"
)

// recorded is how an operation is recorded: its kind, and under which of API v2's
// names its number and its amount stand.
var recorded = map[wepay.Operation]struct {
	kind           store.OrderKind
	number, amount string
}{
	wepay.PlaceOrder:         {store.Ordered, "out_trade_no", "total_fee"},
	wepay.Micropay:           {store.Ordered, "out_trade_no", "total_fee"},
	wepay.CombineOrder:       {store.Combined, "combine_out_trade_no", ""}, // the sum of its orders
	wepay.Refund:             {store.Refund, "out_refund_no", "refund_fee"},
	wepay.Transfer:           {store.Transfer, "partner_trade_no", "amount"},
	wepay.TransferBatch:      {store.Transfer, "out_batch_no", "total_amount"},
	wepay.PayBank:            {store.Transfer, "partner_trade_no", "amount"},
	wepay.SendRedPacket:      {store.Transfer, "mch_billno", "total_amount"},
	wepay.SendGroupRedPacket: {store.Transfer, "mch_billno", "total_amount"},
}

// How long an order that names no time_expire can be paid.
// Source: WeChat Pay, 统一下单 (a prepay_id lives for two hours, and placing the order
// again renews it), JSAPI下单 (API v3, time_expire: seven days).
const (
	lifeV2 = 2 * time.Hour
	lifeV3 = 7 * 24 * time.Hour
)

// newOrder returns an order as it is placed; nil: the operation is not recorded.
func (l *Ledger) newOrder(m *wepay.Merchant, op wepay.Operation, api wepay.API, request wepay.Fields) *store.Order {
	row, found := recorded[op]
	if !found {
		return nil
	}
	now := l.Now()
	amount, _ := wepay.WholeFen(request.Get(row.amount))
	o := &store.Order{
		Kind: row.kind, Number: request.Get(row.number), MchID: m.MchID, SubMchID: cmp.Or(request.Get("sub_mch_id"), m.SubMchID),
		Merchant: m.Name, AppID: m.AppID, Operation: op, API: api, State: store.OrderPlaced, Placed: now,
		Amount: amount, Currency: cmp.Or(request.Get("fee_type"), request.Get("refund_fee_type"), "CNY"),
	}
	switch row.kind {
	case store.Refund:
		o.OutTradeNo = request.Get("out_trade_no")
	case store.Combined:
		sum, currency := sumOf(request.Get("sub_orders"))
		o.Amount, o.Currency = sum, cmp.Or(currency, "CNY")
	}
	if op == wepay.PlaceOrder || op == wepay.CombineOrder {
		o.Expires = expiry(request.Get("time_expire"), api, now)
		if after := l.CloseAfter[m.Name]; after > 0 && op == wepay.PlaceOrder {
			o.CloseAt = now.Add(after)
		}
	}
	l.Schedule.postpone(o, now)
	return o
}

// expiry is when an order can no longer be paid.
func expiry(timeExpire string, api wepay.API, now time.Time) time.Time {
	if at, err := wepay.ParseTime(timeExpire); err == nil {
		return at
	}
	if api == wepay.V3 {
		return now.Add(lifeV3)
	}
	return now.Add(lifeV2)
}

// sumOf is what the orders of a combined one come to, and in which currency.
func sumOf(subOrders string) (fen int64, currency string) {
	var orders []struct {
		TotalFee json.Number `json:"total_fee"` // which takes a number in quotes as well
		FeeType  string      `json:"fee_type"`
	}
	if json.Unmarshal([]byte(subOrders), &orders) != nil {
		return 0, ""
	}
	for _, order := range orders {
		part, _ := wepay.WholeFen(order.TotalFee.String())
		fen, currency = fen+part, order.FeeType
	}
	return fen, currency
}
