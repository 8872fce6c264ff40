package wepaytest

import (
	"fmt"
	"time"

	"github.com/windsome/caddy-wepay/wepay"
)

// The states of a refund, WeChat's refund_status.
const (
	RefundProcessing = "PROCESSING"  // under way, as every refund begins
	RefundSuccess    = "SUCCESS"     // the payer has the money
	RefundClosed     = "REFUNDCLOSE" // the merchant has the money back
	RefundChanged    = "CHANGE"      // stuck until handled by hand
)

// refund is a refund in WeChat's books.
type refund struct {
	id       string
	number   string // out_refund_no
	of       *order
	request  wepay.Fields
	json     string // the request of API v3; "" for API v2
	fee      int64
	coupons  []int64 // what it gives back of each of the order's coupons
	status   string
	at       time.Time
	finished time.Time // when it succeeded
}

const (
	// maxRefunds is how often an order can be refunded in part.
	maxRefunds = 50
	// refundable is for how long after its payment an order can be refunded.
	refundable = 365 * 24 * time.Hour
)

// refundParams are those of /secapi/pay/refund.
var refundParams = params{
	{name: "transaction_id", max: 32},
	{name: "out_trade_no", max: 32},
	{name: "out_refund_no", required: true, max: 64, is: refundNumber},
	{name: "total_fee", required: true, is: fen},
	{name: "refund_fee", required: true, is: fen},
	{name: "refund_fee_type", max: 8, is: word("CNY")},
	{name: "refund_desc", max: 80},
	{name: "refund_account", max: 30, is: word("REFUND_SOURCE_UNSETTLED_FUNDS", "REFUND_SOURCE_RECHARGE_FUNDS")},
	{name: "notify_url", max: 256, is: notifyURL},
	{name: "detail", max: 6000},
	{name: "op_user_id", max: 32},
}

// refundOrder refunds once for every out_refund_no. The codes and texts of
// what is refused are those that merchants report.
func (x *exchange) refundOrder() (wepay.Fields, *refusal) {
	total, fee := amount(x.in.Get("total_fee")), amount(x.in.Get("refund_fee"))
	if fee > total {
		return nil, fail("invalid refund_fee")
	}
	if id := x.in.Get("transaction_id"); !digits(id) {
		return nil, refuse("INVALID_TRANSACTIONID", "无效transaction_id")
	}
	o, refused := x.find()
	if refused != nil {
		return nil, refused
	}
	if !o.isPaid() {
		return nil, refuse("ORDERNOTEXIST", "订单不存在")
	}
	number := x.in.Get("out_refund_no")
	r, found := x.books.refunds[number]
	switch {
	case found && r.of != o:
		return nil, refuse("INVALID_REQUEST", "商户退款单号重复")
	case total != o.total() || found && fee != r.fee:
		return nil, refuse("REFUND_FEE_MISMATCH", "订单金额或退款金额与之前请求不一致,请核实后再试")
	case found:
		return r.reply(), nil
	}
	if refused := o.admitRefund(fee, x.now); refused != nil {
		return nil, refused
	}
	r = &refund{number: number, of: o, request: content(x.in), json: x.json, fee: fee, status: RefundProcessing, at: x.now}
	r.coupons = o.couponsBack(fee)
	if !x.books.covers(o, r.settled()) {
		return nil, poor()
	}
	r.id = x.server.nextNumber("50000000000", x.now)
	x.books.add(r)
	x.server.giveBack(x.books, o, r.settled(), r.id, number)
	return r.reply(), nil
}

func (b *books) add(r *refund) {
	b.refunds[r.number], b.refundIDs[r.id] = r, r
	b.trades = append(b.trades, trade{at: r.at, order: r.of, refund: r})
	r.of.refunds = append(r.of.refunds, r)
	r.of.state = wasRefunded
}

// admitRefund says why an order gives no further refund.
func (o *order) admitRefund(fee int64, now time.Time) *refusal {
	rest := o.total() - o.refundedFee()
	switch {
	case now.Sub(o.paidAt) > refundable:
		return refuse("TRADE_OVERDUE", "订单已经超过退款期限")
	case rest == 0:
		return refuse("ERROR", "订单已全额退款")
	case fee > rest:
		return refuse("INVALID_REQUEST", "refund_fee大于可退金额")
	case len(o.refunds) >= maxRefunds:
		return refuse("INVALID_REQUEST", "部分退款次数超过限制")
	default:
		return nil
	}
}

func (o *order) refundedFee() int64 {
	var sum int64
	for _, r := range o.refunds {
		if r.status != RefundClosed {
			sum += r.fee
		}
	}
	return sum
}

// couponsBack is how much a refund gives back of each coupon: in proportion to
// what is left, and so that all refunds together give back all of it.
func (o *order) couponsBack(fee int64) []int64 {
	rest := o.total() - o.refundedFee()
	back := make([]int64, len(o.coupons))
	for i, coupon := range o.coupons {
		left := coupon.Fee
		for _, r := range o.refunds {
			if r.status != RefundClosed {
				left -= r.coupons[i]
			}
		}
		back[i] = left * fee / rest
	}
	return back
}

// couponFee is what a refund gives back of all coupons, and what of it the
// merchant had never got.
func (r *refund) couponFee() (all, given int64) {
	for i, coupon := range r.of.coupons {
		all += r.coupons[i]
		if coupon.Type == NoCash {
			given += r.coupons[i]
		}
	}
	return all, given
}

// settled is what a refund takes out of the merchant's account.
func (r *refund) settled() int64 {
	_, given := r.couponFee()
	return r.fee - given
}

// reply is the same for every request of one refund.
func (r *refund) reply() wepay.Fields {
	out := wepay.NewFields(map[string]string{
		"transaction_id": r.of.transactionID(),
		"out_trade_no":   r.of.number(),
		"out_refund_no":  r.number,
		"refund_id":      r.id,
		"refund_fee":     text(r.fee),
		"total_fee":      text(r.of.total()),
		"fee_type":       "CNY",
		"cash_fee":       r.of.outcome.Get("cash_fee"),
	})
	for i, coupon := range r.of.coupons {
		out.Set(fmt.Sprintf("coupon_type_%d", i), coupon.Type)
		out.Set(fmt.Sprintf("coupon_refund_id_%d", i), coupon.ID)
		out.Set(fmt.Sprintf("coupon_refund_fee_%d", i), text(r.coupons[i]))
	}
	back, _ := r.couponFee()
	out.Set("cash_refund_fee", text(r.fee-back))
	out.Set("coupon_refund_fee", text(back))
	out.Set("coupon_refund_count", text(int64(len(r.of.coupons))))
	if settled, found := r.of.outcome.Lookup("settlement_total_fee"); found {
		out.Set("settlement_total_fee", settled)
		out.Set("settlement_refund_fee", text(r.settled()))
	}
	return out
}
