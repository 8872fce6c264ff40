package apiv3

import (
	"cmp"

	"github.com/windsome/caddy-wepay/wepay"
)

// numbersMap has what any event may say of whom it is for and by which numbers it is
// found. A complaint is about a merchant that may be a sub-merchant.
var numbersMap = fieldMap{
	{"appid", "combine_appid", text},
	{"appid", "appid", text},
	{"appid", "sp_appid", text},
	{"combine_out_trade_no", "combine_out_trade_no", text},
	{"mch_id", "combine_mchid", text},
	{"mch_id", "mch_id", text},
	{"mch_id", "mchid", text},
	{"mch_id", "sp_mchid", text},
	{"out_batch_no", "out_batch_no", text},
	{"out_bill_no", "out_bill_no", text},
	{"out_order_no", "out_order_no", text},
	{"out_refund_no", "out_refund_no", text},
	{"out_trade_no", "out_trade_no", text},
	{"sub_mch_id", "complainted_mchid", text}, // sic
	{"sub_mch_id", "sub_mchid", text},
	{"transaction_id", "transaction_id", text},
}

// numbersOf returns those of an event, which nothing depends on: what does not look
// like one is left out.
func numbersOf(content index) (numbers wepay.Fields) {
	for _, f := range numbersMap {
		if number := content.text(f.v3); number != "" && checkNumber(number) == nil {
			numbers.Set(f.v2, number)
		}
	}
	return numbers
}

// recipientOfEvent is whom an event is for, of which many say nothing of that: then
// it is for the account whose key opened it.
func (o *Opened) recipientOfEvent() wepay.Recipient {
	r := wepay.Recipient{
		Kind: o.kind, MchID: cmp.Or(o.fields.Get("mch_id"), o.openedBy), AppID: o.fields.Get("appid"),
		SubMchID: o.fields.Get("sub_mch_id"), Account: o.openedBy, APIv3Key: o.key,
	}
	if r.SubMchID == r.MchID { // a complaint about the account itself
		r.SubMchID = ""
	}
	return r
}
