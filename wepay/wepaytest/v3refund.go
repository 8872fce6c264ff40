package wepaytest

import (
	"net/http"
)

// refundStatuses are the states of a refund in API v3's words.
var refundStatuses = map[string]string{
	RefundProcessing: "PROCESSING",
	RefundSuccess:    "SUCCESS",
	RefundClosed:     "CLOSED",
	RefundChanged:    "ABNORMAL",
}

const refundsPath = "/v3/refund/domestic/refunds"

var v3RefundCalls = []v3call{
	{method: http.MethodPost, path: refundsPath, body: v3RefundMembers, do: (*v3exchange).refundV3},
	{
		method: http.MethodGet, path: refundsPath + "/{out_refund_no}",
		query: members{subMember}, do: (*v3exchange).queryRefundV3,
	},
	{
		method: http.MethodPost, path: refundsPath + "/{refund_id}/apply-abnormal-refund",
		body: members{
			subMember,
			{name: "out_refund_no", required: true, max: 64, is: refundNumber},
			{name: "type", required: true, is: word("USER_BANK_CARD", "MERCHANT_BANK_CARD")},
			{name: "bank_type", max: 16},
			{name: "bank_account", max: 1024},
			{name: "real_name", max: 1024},
		},
		do: (*v3exchange).refundAbnormal,
	},
}

// subMember is the sub-merchant in a call that partners and direct merchants share.
var subMember = member{name: "sub_mchid", as: "sub_mch_id", max: 32}

var v3RefundMembers = members{
	subMember,
	{name: "transaction_id", as: "transaction_id", max: 32},
	{name: "out_trade_no", as: "out_trade_no", max: 32},
	{name: "out_refund_no", as: "out_refund_no", required: true, max: 64, is: refundNumber},
	{name: "reason", as: "refund_desc", max: 80},
	{name: "notify_url", as: "notify_url", max: 256, is: notifyURL},
	{name: "funds_account", is: word("AVAILABLE")},
	{name: "amount", required: true, kind: nested, of: members{
		{name: "refund", as: "refund_fee", required: true, kind: wholes, is: fen},
		{name: "total", as: "total_fee", required: true, kind: wholes, is: fen},
		{name: "currency", required: true, max: 16, is: word("CNY")},
		{name: "from", kind: lists, of: members{
			{name: "account", required: true, is: word("AVAILABLE", "UNAVAILABLE")},
			{name: "amount", required: true, kind: wholes, is: fen},
		}},
	}},
	{name: "goods_detail", kind: lists, of: members{
		{name: "merchant_goods_id", required: true, max: 32},
		{name: "wechatpay_goods_id", max: 32},
		{name: "goods_name", max: 256},
		{name: "unit_price", required: true, kind: wholes},
		{name: "refund_amount", required: true, kind: wholes},
		{name: "refund_quantity", required: true, kind: wholes, is: fen},
	}},
}

// refundV3 refunds once for each out_refund_no, whichever API placed the order. An order
// that does not exist or is not paid has the code of other missing resources.
func (x *v3exchange) refundV3() (object, *v3refusal) {
	if x.in.Get("transaction_id") == "" && x.in.Get("out_trade_no") == "" {
		return nil, wrong("body", "/out_trade_no", nil, "transaction_id和out_trade_no必须传其一")
	}
	_, refused := x.refundOrder()
	switch {
	case refused != nil && refused.code == "ORDERNOTEXIST":
		return nil, absent("RESOURCE_NOT_EXISTS", "订单不存在")
	case refused != nil:
		return nil, inV3(refused)
	}
	return x.books.refunds[x.in.Get("out_refund_no")].resource(), nil
}

func (x *v3exchange) queryRefundV3() (object, *v3refusal) {
	_, refunds, refused := x.findRefunds()
	if refused != nil {
		return nil, inV3(refused)
	}
	return refunds[0].resource(), nil
}

// refundAbnormal has a refund that is stuck go to another card, and so begin
// anew.
func (x *v3exchange) refundAbnormal() (object, *v3refusal) {
	_, refunds, refused := x.findRefunds()
	if refused != nil {
		return nil, inV3(refused)
	}
	r := refunds[0]
	switch {
	case r.number != x.body.text("out_refund_no"):
		return nil, invalid("out_refund_no与退款单不一致")
	case r.status != RefundChanged:
		return nil, invalidRequest("退款单状态非ABNORMAL，不支持异常退款")
	}
	if x.body.text("type") == "USER_BANK_CARD" {
		for _, name := range []string{"bank_type", "bank_account", "real_name"} {
			if x.body.text(name) == "" {
				return nil, wrong("body", "/"+name, nil, "缺少参数")
			}
		}
	}
	for _, name := range []string{"bank_account", "real_name"} {
		if sealed := x.body.text(name); sealed != "" {
			if _, refused := x.decryptV3(sealed); refused != nil {
				return nil, refused
			}
		}
	}
	r.status = RefundProcessing
	return r.resource(), nil
}

// resource is a refund in replies.
func (r *refund) resource() object {
	all, given := r.couponFee()
	out := object{
		"refund_id": r.id, "out_refund_no": r.number,
		"transaction_id": r.of.transactionID(), "out_trade_no": r.of.number(),
		"channel": "ORIGINAL", "user_received_account": refundReceiver,
		"create_time": moment(r.at), "status": refundStatuses[r.status], "funds_account": "UNSETTLED",
		"amount": object{
			"total": r.of.total(), "refund": r.fee, "currency": "CNY",
			"payer_total": r.of.total() - worth(r.of.coupons), "payer_refund": r.fee - all,
			"settlement_total": r.of.settled(), "settlement_refund": r.fee - given, "discount_refund": all,
		},
	}
	if r.account() == "REFUND_SOURCE_RECHARGE_FUNDS" {
		out["funds_account"] = "AVAILABLE"
	}
	if r.status == RefundSuccess {
		out["success_time"] = moment(r.finished)
	}
	promotions := []any{}
	for i, coupon := range r.of.coupons {
		kind := "COUPON"
		if coupon.Type == NoCash {
			kind = "DISCOUNT"
		}
		promotions = append(promotions, object{
			"promotion_id": coupon.ID, "scope": "GLOBAL", "type": kind, "amount": coupon.Fee, "refund_amount": r.coupons[i],
		})
	}
	if len(promotions) > 0 {
		out["promotion_detail"] = promotions
	}
	return out
}

// event is the event of a refund's end.
func (r *refund) event(to string) Event {
	status := refundStatuses[r.status]
	resource := r.of.names()
	delete(resource, "appid")
	delete(resource, "sp_appid")
	delete(resource, "sub_appid")
	all, _ := r.couponFee()
	for name, value := range (object{
		"out_trade_no": r.of.number(), "transaction_id": r.of.transactionID(),
		"out_refund_no": r.number, "refund_id": r.id, "refund_status": status,
		"user_received_account": refundReceiver,
		"amount": object{
			"total": r.of.total(), "refund": r.fee,
			"payer_total": r.of.total() - worth(r.of.coupons), "payer_refund": r.fee - all,
		},
	}) {
		resource[name] = value
	}
	if r.status == RefundSuccess {
		resource["success_time"] = moment(r.finished)
	}
	summary := map[string]string{"SUCCESS": "退款成功", "CLOSED": "退款关闭", "ABNORMAL": "退款异常"}[status]
	return Event{URL: to, Type: "REFUND." + status, OriginalType: "refund", Summary: summary, Resource: resource}
}
