package wepaytest

import (
	"fmt"
	"strconv"

	"github.com/windsome/caddy-wepay/wepay"
)

// refundPage is how many refunds one reply has.
const refundPage = 10

var refundQueryParams = params{
	{name: "refund_id", max: 32},
	{name: "out_refund_no", max: 64},
	{name: "transaction_id", max: 32},
	{name: "out_trade_no", max: 32},
	{name: "offset", max: 10, is: digits},
}

// queryRefunds returns one refund, or a page of an order's, which is empty for an offset
// after the last.
func (x *exchange) queryRefunds() (wepay.Fields, *refusal) {
	o, refunds, refused := x.findRefunds()
	if refused != nil {
		return nil, refused
	}
	total := len(refunds)
	offset, err := strconv.Atoi(x.in.Get("offset"))
	if err != nil && x.in.Get("offset") != "" || offset > total {
		offset = total
	}
	refunds = refunds[offset:]
	if len(refunds) == 0 {
		return nil, noRefund()
	}
	refunds = refunds[:min(len(refunds), refundPage)]
	out := wepay.NewFields(map[string]string{
		"transaction_id": o.transactionID(),
		"out_trade_no":   o.number(),
		"total_fee":      text(o.total()),
		"fee_type":       "CNY",
		"cash_fee":       o.outcome.Get("cash_fee"),
		"refund_count":   text(int64(len(refunds))),
	})
	if settled, found := o.outcome.Lookup("settlement_total_fee"); found {
		out.Set("settlement_total_fee", settled)
	}
	if total > refundPage || x.in.Get("offset") != "" {
		out.Set("total_refund_count", text(int64(total)))
	}
	var fee int64 // of this page: nobody says of what else it could be
	for n, r := range refunds {
		r.describe(&out, n)
		fee += r.fee
	}
	out.Set("refund_fee", text(fee))
	return out, nil
}

func noRefund() *refusal { return refuse("REFUNDNOTEXIST", "退款不存在") }

// findRefunds finds by the first of the four numbers that is given, and ignores the
// others. It does not find other sub-merchants' refunds.
func (x *exchange) findRefunds() (*order, []*refund, *refusal) {
	var r *refund
	var o *order
	id, number := x.in.Get("refund_id"), x.in.Get("out_refund_no")
	transactionID, trade := x.in.Get("transaction_id"), x.in.Get("out_trade_no")
	switch {
	case id != "":
		r = x.books.refundIDs[id]
	case number != "":
		r = x.books.refunds[number]
	case transactionID != "":
		if !digits(transactionID) {
			return nil, nil, refuse("INVALID_TRANSACTIONID", "无效transaction_id")
		}
		o = x.books.transactions[transactionID]
	case trade != "":
		o = x.books.orders[trade]
	default:
		return nil, nil, lacks("out_refund_no")
	}
	var refunds []*refund
	if r != nil {
		o, refunds = r.of, []*refund{r}
	} else if o != nil {
		refunds = o.refunds
	}
	if o == nil || o.request.Get("sub_mch_id") != x.in.Get("sub_mch_id") {
		return nil, nil, noRefund()
	}
	return o, refunds, nil
}

// describe adds a refund as the n-th of a reply.
func (r *refund) describe(out *wepay.Fields, n int) {
	set := func(name, value string) { out.Set(fmt.Sprintf("%s_%d", name, n), value) }
	back, _ := r.couponFee()
	set("out_refund_no", r.number)
	set("refund_id", r.id)
	set("refund_channel", "ORIGINAL")
	set("refund_fee", text(r.fee))
	set("coupon_refund_fee", text(back))
	set("coupon_refund_count", text(int64(len(r.coupons))))
	set("refund_status", r.status)
	set("refund_account", r.account())
	set("refund_recv_accout", refundReceiver) // WeChat's spelling
	if _, found := r.of.outcome.Lookup("settlement_total_fee"); found {
		set("settlement_refund_fee", text(r.settled()))
	}
	if r.status == RefundSuccess {
		set("refund_success_time", r.finished.In(beijing).Format(dateTimeFormat))
	}
	for i, coupon := range r.of.coupons {
		out.Set(fmt.Sprintf("coupon_type_%d_%d", n, i), coupon.Type)
		out.Set(fmt.Sprintf("coupon_refund_id_%d_%d", n, i), coupon.ID)
		out.Set(fmt.Sprintf("coupon_refund_fee_%d_%d", n, i), text(r.coupons[i]))
	}
}

// refundReceiver is where refunds go: to the card of the bank_type that every
// order is paid with.
const refundReceiver = "招商银行信用卡0403"

// account is what a refund was taken from.
func (r *refund) account() string {
	if account := r.request.Get("refund_account"); account != "" {
		return account
	}
	return "REFUND_SOURCE_UNSETTLED_FUNDS"
}
