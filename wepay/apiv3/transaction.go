package apiv3

import (
	"strconv"

	"github.com/windsome/caddy-wepay/wepay"
)

// transactionNames are the fields of a transaction that stay what they are.
// Source: WeChat Pay, 查询订单 and 支付成功通知 (API v3).
var transactionNames = []name{
	{"appid", "appid", text},
	{"appid", "sp_appid", text},
	{"mch_id", "mchid", text},
	{"mch_id", "sp_mchid", text},
	{"sub_appid", "sub_appid", text},
	{"sub_mch_id", "sub_mchid", text},
	{"openid", "payer.openid", text},
	{"openid", "payer.sp_openid", text},
	{"sub_openid", "payer.sub_openid", text},
	{"out_trade_no", "out_trade_no", text},
	{"transaction_id", "transaction_id", text},
	{"trade_type", "trade_type", text},
	{"bank_type", "bank_type", text},
	{"attach", "attach", text},
	{"device_info", "scene_info.device_id", text},
	{"total_fee", "amount.total", number},
	{"fee_type", "amount.currency", text},
	{"cash_fee", "amount.payer_total", number},
	{"cash_fee_type", "amount.payer_currency", text},
	{"time_end", "success_time", moment},
}

// readTransaction adds the state of an order, as an order's query in API v2
// tells it.
func readTransaction(in object, out *wepay.Fields) error {
	if err := read(transactionNames, in, out); err != nil {
		return err
	}
	if err := read([]name{{"trade_state", "trade_state", text}, {"trade_state_desc", "trade_state_desc", text}}, in, out); err != nil {
		return err
	}
	_ = addCoupons(in.objects("promotion_detail"), out) // WeChat's query is the last word: there is nobody to report it to
	return nil
}

// couponTypes are API v2's words for what a coupon is paid from.
var couponTypes = map[string]string{"CASH": "CASH", "NOCASH": "NO_CASH"}

// addCoupons adds the coupons that were used, as API v2 numbers them, as long
// as they add up: what the payer paid and the coupons are the total. Otherwise
// it says why they are left out.
func addCoupons[promotion values](promotions []promotion, out *wepay.Fields) (omitted string) {
	total, haveTotal := fen(out.Get("total_fee"))
	cash, haveCash := fen(out.Get("cash_fee"))
	if len(promotions) == 0 {
		if haveTotal && !haveCash && out.Get("transaction_id") != "" {
			out.Set("cash_fee", out.Get("total_fee"))
		}
		return ""
	}
	var coupons wepay.Fields
	var sum, notCash int64
	for i, used := range promotions {
		value, whole := fen(used.text("amount"))
		if !whole || value > total {
			return "coupon_*, as one has no amount, or more than the total"
		}
		sum += value
		n := "_" + strconv.Itoa(i)
		coupons.Set("coupon_id"+n, used.text("coupon_id"))
		coupons.Set("coupon_fee"+n, used.text("amount"))
		if kind := couponTypes[used.text("type")]; kind != "" {
			coupons.Set("coupon_type"+n, kind)
		}
		if used.text("type") == "NOCASH" {
			notCash += value
		}
	}
	if !haveTotal || !haveCash || total-sum != cash {
		return "coupon_*, as they and what the payer paid are not the total"
	}
	for _, coupon := range coupons {
		if coupon.Value != "" {
			out.Set(coupon.Name, coupon.Value)
		}
	}
	out.Set("coupon_fee", strconv.FormatInt(sum, 10))
	out.Set("coupon_count", strconv.Itoa(len(promotions)))
	if notCash > 0 {
		out.Set("settlement_total_fee", strconv.FormatInt(total-notCash, 10))
	}
	return ""
}

// fen reads an amount of whole fen, which may be none.
func fen(value string) (int64, bool) {
	amount, err := strconv.ParseInt(value, 10, 64)
	return amount, err == nil && amount >= 0
}
