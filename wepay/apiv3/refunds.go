package apiv3

import (
	"cmp"
	"net/http"
	"strconv"

	"github.com/windsome/caddy-wepay/wepay"
)

// refundCalls give back what was paid, of orders placed by either API.
var refundCalls = map[wepay.Operation]call{
	// Source: WeChat Pay, 退款申请 (API v3).
	wepay.Refund: {
		method: http.MethodPost, path: "/v3/refund/domestic/refunds",
		rules:      wepay.RefundRules,
		check:      wepay.CheckRefund,
		body:       refundBody,
		echoes:     []string{"out_refund_no", "out_trade_no", "transaction_id", "refund_fee", "total_fee"},
		answers:    []string{"refund_id"},
		result:     refundMade,
		repeatable: true, unknown: wepay.Query, ask: wepay.QueryRefund,
		verdicts: map[string]wepay.Verdict{
			"SYSTEMERROR":          wepay.Again,
			"NOTENOUGH":            wepay.Later,
			"INVALIDTRANSACTIONID": wepay.Fix,
			"ORDERNOTEXIST":        wepay.Fix,
			"RESOURCENOTEXISTS":    wepay.Fix, // no such order, or it is not paid
		},
	},
	// Source: WeChat Pay, 查询单笔退款 (API v3).
	wepay.QueryRefund: {
		method: http.MethodGet, path: "/v3/refund/domestic/refunds/{out_refund_no}",
		rules:      wepay.RefundQueryRules,
		check:      checkRefundQuery,
		query:      func(x *exchange) (members, error) { return x.subQuery(), nil },
		echoes:     []string{"out_refund_no", "refund_id"},
		answers:    []string{"refund_id_0", "refund_status_0"},
		result:     refundState,
		repeatable: true, unknown: wepay.Again,
		verdicts: map[string]wepay.Verdict{
			"RESOURCENOTEXISTS": wepay.Again, // the refund may be sent again, with the same number
		},
	},
}

// checkRefundQuery wants the one number that API v3 knows refunds by. It has no
// list of an order's refunds.
func checkRefundQuery(in wepay.Fields) error {
	if in.Get("out_refund_no") == "" {
		return &wepay.FieldError{Field: "out_refund_no", Reason: "is required over API v3, which finds a refund by this number alone", Missing: true}
	}
	if offset := in.Get("offset"); offset != "" && offset != "0" {
		return &wepay.FieldError{Field: "offset", Reason: "must be 0 over API v3, which tells one refund at a time"}
	}
	return nil
}

// subQuery names the sub-merchant in a query whose caller the signature tells.
func (x *exchange) subQuery() members { return members{{"sub_mchid", x.merchant.SubMchID}} }

// subBody does so in a body.
func (x *exchange) subBody() object {
	if x.merchant.SubMchID == "" {
		return object{}
	}
	return object{"sub_mchid": x.merchant.SubMchID}
}

// refundRequestNames are the fields of a refund that stay what they are.
var refundRequestNames = []name{
	{"out_refund_no", "out_refund_no", text},
	{"refund_desc", "reason", shown},
	{"notify_url", "notify_url", text},
	{"refund_fee", "amount.refund", number},
	{"total_fee", "amount.total", number},
	{"refund_fee_type", "amount.currency", text},
}

// refundBody makes a refund. API v3 has no place for op_user_id, and takes
// unsettled money unless it is told otherwise.
func refundBody(x *exchange) (object, error) {
	body := x.subBody()
	if err := write(refundRequestNames, x.in, body); err != nil {
		return nil, err
	}
	number := "out_trade_no"
	if x.in.Get("transaction_id") != "" {
		number = "transaction_id"
	}
	body[number] = x.in.Get(number)
	if body.get("amount.currency") == nil {
		body.put("amount.currency", "CNY")
	}
	if x.in.Get("refund_account") == "REFUND_SOURCE_RECHARGE_FUNDS" {
		body["funds_account"] = "AVAILABLE"
	}
	detail, err := goodsDetail(x.in.Get("detail"))
	if err == nil && detail != nil && detail["goods_detail"] != nil {
		body["goods_detail"] = detail["goods_detail"]
	}
	return body, err
}

// refundMadeNames are the fields of a refund as the reply to it tells them.
var refundMadeNames = []name{
	{"transaction_id", "transaction_id", text},
	{"out_trade_no", "out_trade_no", text},
	{"out_refund_no", "out_refund_no", text},
	{"refund_id", "refund_id", text},
	{"refund_fee", "amount.refund", number},
	{"total_fee", "amount.total", number},
	{"fee_type", "amount.currency", text},
	{"cash_fee", "amount.payer_total", number},
	{"cash_refund_fee", "amount.payer_refund", number},
	{"coupon_refund_fee", "amount.discount_refund", number},
}

// settlementNames are the fields that API v2 has where coupons were not the
// merchant's own money.
var settlementNames = []name{
	{"settlement_total_fee", "amount.settlement_total", number},
	{"settlement_refund_fee", "amount.settlement_refund", number},
}

func refundMade(x *exchange, answer object) (wepay.Fields, error) {
	fields := x.done()
	if err := read(refundMadeNames, answer, &fields); err != nil {
		return nil, err
	}
	if hasForeignCoupons(answer) {
		if err := read(settlementNames, answer, &fields); err != nil {
			return nil, err
		}
	}
	coupons, err := refundedCoupons(answer)
	for _, field := range coupons {
		fields.Set(field.Name, field.Value)
	}
	return fields, err
}

// hasForeignCoupons says whether a part of the total was never the merchant's.
func hasForeignCoupons(answer object) bool {
	settled := answer.text("amount.settlement_total")
	return settled != "" && settled != answer.text("amount.total")
}

// refundCouponTypes are API v2's words for what a coupon is paid from.
var refundCouponTypes = map[string]string{"COUPON": "CASH", "DISCOUNT": "NO_CASH"}

// refundedCoupons are the coupons that a refund gives back, numbered.
func refundedCoupons(answer object) (wepay.Fields, error) {
	promotions := answer.objects("promotion_detail")
	coupons := wepay.Fields{{Name: "coupon_refund_count", Value: strconv.Itoa(len(promotions))}}
	for i, promotion := range promotions {
		coupon := wepay.Fields{}
		err := read([]name{{"coupon_refund_id", "promotion_id", text}, {"coupon_refund_fee", "refund_amount", number}}, promotion, &coupon)
		if err != nil {
			return nil, err
		}
		if kind := refundCouponTypes[promotion.text("type")]; kind != "" {
			coupon.Set("coupon_type", kind)
		}
		for _, field := range coupon {
			coupons.Set(numbered(field.Name, i), field.Value)
		}
	}
	return coupons, nil
}

// refundOrderNames are the fields of the order in a refund's query, and
// refundStateNames those of the one refund, which API v2 numbers.
var (
	refundOrderNames = []name{
		{"transaction_id", "transaction_id", text},
		{"out_trade_no", "out_trade_no", text},
		{"total_fee", "amount.total", number},
		{"fee_type", "amount.currency", text},
		{"cash_fee", "amount.payer_total", number},
	}
	refundStateNames = []name{
		{"out_refund_no", "out_refund_no", text},
		{"refund_id", "refund_id", text},
		{"refund_channel", "channel", text},
		{"refund_fee", "amount.refund", number},
		{"coupon_refund_fee", "amount.discount_refund", number},
		{"refund_recv_accout", "user_received_account", text}, // WeChat's spelling
		{"refund_success_time", "success_time", second},
	}
)

// fundsAccounts are API v2's words for what a refund was taken from.
var fundsAccounts = map[string]string{
	"UNSETTLED": "REFUND_SOURCE_UNSETTLED_FUNDS", "AVAILABLE": "REFUND_SOURCE_RECHARGE_FUNDS",
}

func refundState(x *exchange, answer object) (wepay.Fields, error) {
	fields := x.done()
	if err := read(refundOrderNames, answer, &fields); err != nil {
		return nil, err
	}
	refund, err := refundedCoupons(answer)
	if err != nil {
		return nil, err
	}
	names := refundStateNames
	if hasForeignCoupons(answer) {
		if err := read(settlementNames[:1], answer, &fields); err != nil {
			return nil, err
		}
		names = append(names[:len(names):len(names)], settlementNames[1])
	}
	if err := read(names, answer, &refund); err != nil {
		return nil, err
	}
	if account := fundsAccounts[answer.text("funds_account")]; account != "" {
		refund.Set("refund_account", account)
	}
	status := answer.text("status")
	refund.Set("refund_status", cmp.Or(refundStatuses[status], status))
	fields.Set("refund_count", "1")
	for _, field := range refund {
		fields.Set(numbered(field.Name, 0), field.Value)
	}
	return fields, nil
}
