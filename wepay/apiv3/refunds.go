package apiv3

import (
	"net/http"
	"strconv"

	"github.com/windsome/caddy-wepay/wepay"
	"github.com/windsome/caddy-wepay/wepay/internal/row"
)

// refundCalls refund orders placed over either API.
var refundCalls = map[wepay.Operation]call{
	// Source: WeChat Pay, 退款申请 (API v3). API v3 does not have op_user_id.
	wepay.Refund: {
		method: http.MethodPost, path: "/v3/refund/domestic/refunds",
		Row: row.Row{
			Number: "out_refund_no",
			Rules:  wepay.RefundRules, Check: wepay.CheckRefund,
			Echoes:     []string{"out_refund_no", "out_trade_no", "transaction_id", "refund_fee", "total_fee"},
			Answers:    []string{"refund_id"},
			Repeatable: true, Unknown: wepay.Query, Ask: wepay.QueryRefund,
			Verdicts: map[string]wepay.Verdict{
				"SYSTEMERROR":          wepay.Again,
				"NOTENOUGH":            wepay.Later,
				"INVALIDTRANSACTIONID": wepay.Fix,
				"ORDERNOTEXIST":        wepay.Fix,
				"RESOURCENOTEXISTS":    wepay.Fix, // no such order, or it is not paid
			},
		},
		in: fieldMap{
			{"sub_mch_id", "sub_mchid", text},
			{"transaction_id", "transaction_id", text},
			{"out_trade_no", "out_trade_no", text},
			{"out_refund_no", "out_refund_no", text},
			{"refund_desc", "reason", shown},
			{"notify_url", "notify_url", text},
			{"refund_fee", "amount.refund", number},
			{"total_fee", "amount.total", number},
			{"refund_fee_type", "amount.currency", currency},
		},
		body: refundBody,
		out: fieldMap{
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
		},
		result: func(_ *exchange, answer object, out *wepay.Fields) error {
			return addRefundCoupons(answer, out, func(name string) string { return name })
		},
	},
	// Source: WeChat Pay, 查询单笔退款 (API v3). API v2 numbers refunds; this is the
	// only one.
	wepay.QueryRefund: {
		method: http.MethodGet, path: "/v3/refund/domestic/refunds/{out_refund_no}",
		Row: row.Row{
			Rules: wepay.RefundQueryRules, Check: checkRefundQuery,
			Echoes: []string{"out_refund_no", "refund_id"}, Answers: []string{"refund_id_0", "refund_status_0"},
			Repeatable: true, Unknown: wepay.Again,
			Verdicts: map[string]wepay.Verdict{
				"RESOURCENOTEXISTS": wepay.Again, // the refund may be sent again, with the same number
			},
		},
		in: ofSub,
		out: fieldMap{
			{"transaction_id", "transaction_id", text},
			{"out_trade_no", "out_trade_no", text},
			{"total_fee", "amount.total", number},
			{"fee_type", "amount.currency", text},
			{"cash_fee", "amount.payer_total", number},
			{"refund_count", "", fixed("1")},
			{"out_refund_no_0", "out_refund_no", text},
			{"refund_id_0", "refund_id", text},
			{"refund_channel_0", "channel", text},
			{"refund_fee_0", "amount.refund", number},
			{"coupon_refund_fee_0", "amount.discount_refund", number},
			{"refund_recv_accout_0", "user_received_account", text}, // WeChat's spelling
			{"refund_success_time_0", "success_time", second},
			{"refund_account_0", "funds_account", words(fundsAccounts, "")},
			{"refund_status_0", "status", words(refundStatuses, unchanged)},
		},
		result: func(_ *exchange, answer object, out *wepay.Fields) error {
			return addRefundCoupons(answer, out, func(name string) string { return numbered(name, 0) })
		},
	},
}

// fundsAccounts are API v2's words for the source of a refund.
var fundsAccounts = map[string]string{
	"UNSETTLED": "REFUND_SOURCE_UNSETTLED_FUNDS", "AVAILABLE": "REFUND_SOURCE_RECHARGE_FUNDS",
}

// checkRefundQuery requires the number that API v3 identifies refunds by. It has no
// list of an order's refunds.
func checkRefundQuery(in wepay.Fields) error {
	if in.Get("out_refund_no") == "" {
		return &wepay.FieldError{Field: "out_refund_no", Reason: "is required over API v3, which identifies a refund by this number only", Missing: true}
	}
	if offset := in.Get("offset"); offset != "" && offset != "0" {
		return &wepay.FieldError{Field: "offset", Reason: "must be 0 over API v3, which returns one refund at a time"}
	}
	return nil
}

// refundBody adds the source of a refund, unsettled money by default, and the
// goods.
func refundBody(x *exchange, body object) error {
	if x.in.Get("transaction_id") != "" {
		delete(body, "out_trade_no") // WeChat accepts one of the two
	}
	if x.in.Get("refund_account") == fundsAccounts["AVAILABLE"] {
		body["funds_account"] = "AVAILABLE"
	}
	detail, err := goodsDetail(x.in)
	if err == nil && detail != nil && detail["goods_detail"] != nil {
		body["goods_detail"] = detail["goods_detail"]
	}
	return err
}

// hasForeignCoupons reports whether a part of the total was never the merchant's.
func hasForeignCoupons(answer object) bool {
	settled := answer.text("amount.settlement_total")
	return settled != "" && settled != answer.text("amount.total")
}

// refundCouponTypes are API v2's words for what a coupon is paid from.
var refundCouponTypes = map[string]string{"COUPON": "CASH", "DISCOUNT": "NO_CASH"}

// addRefundCoupons adds the coupons of a refund, and the settlement fields that API
// v2 has when coupons were not the merchant's own money. Of returns the name of a
// field of the refund.
func addRefundCoupons(answer object, out *wepay.Fields, of func(name string) string) error {
	if hasForeignCoupons(answer) {
		settlement := fieldMap{
			{"settlement_total_fee", "amount.settlement_total", number},
			{of("settlement_refund_fee"), "amount.settlement_refund", number},
		}
		if err := settlement.read(answer, out); err != nil {
			return err
		}
	}
	promotions := answer.objects("promotion_detail")
	out.Set(of("coupon_refund_count"), strconv.Itoa(len(promotions)))
	for i, promotion := range promotions {
		var coupon wepay.Fields
		if err := refundCouponMap.read(promotion, &coupon); err != nil {
			return err
		}
		for _, field := range coupon {
			out.Set(of(numbered(field.Name, i)), field.Value)
		}
	}
	return nil
}

var refundCouponMap = fieldMap{
	{"coupon_refund_id", "promotion_id", text},
	{"coupon_refund_fee", "refund_amount", number},
	{"coupon_type", "type", words(refundCouponTypes, "")},
}
