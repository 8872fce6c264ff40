package wepaytest

import (
	"github.com/windsome/caddy-wepay/wepay"
)

// abroad is how a merchant abroad is paid.
type abroad struct {
	currency string
	rate     int64
}

// rateUnit is what WeChat multiplies rates by.
const rateUnit = 100_000_000

// Abroad has an order be in another currency than CNY, in which the payer pays, and be
// told of as WeChat does to merchants abroad: with a rate, CNY for one of the currency
// multiplied by 10^8, and over API v3 with id for transaction_id.
func Abroad(currency string, rate int64) PayOption {
	return func(p *payment) { p.abroad = &abroad{currency, rate} }
}

// paid is what the payer pays of a total.
func (a *abroad) paid(total int64) int64 { return total * a.rate / rateUnit }

// v2 changes a notification of API v2.
func (a *abroad) v2(total int64, fields *wepay.Fields) {
	fields.Set("fee_type", a.currency)
	fields.Set("cash_fee", text(a.paid(total)))
	fields.Set("cash_fee_type", "CNY")
	fields.Set("rate_value", text(a.rate))
}

// v3 changes the resource of a notification of API v3.
func (a *abroad) v3(o object) object {
	total, _ := o.at("amount.total").(int64) // as the books have it
	o["id"] = o["transaction_id"]
	delete(o, "transaction_id")
	o["amount"] = object{
		"total": total, "currency": a.currency, "payer_total": a.paid(total), "payer_currency": "CNY",
		"exchange_rate": object{"type": "SETTLEMENT_RATE", "rate": a.rate},
	}
	return o
}
