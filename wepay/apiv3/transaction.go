package apiv3

import (
	"bytes"
	"cmp"
	"encoding/json"
	"slices"
	"strconv"
	"strings"

	"github.com/windsome/caddy-wepay/wepay"
)

// transactionMap has the fields of a transaction, sorted by API v2's names, as Fields
// are.
// Source: WeChat Pay, 查询订单 and 支付成功通知 (API v3), and for abroad 支付通知 (Global),
// where id is the transaction's.
var transactionMap = fieldMap{
	{"appid", "appid", text},
	{"appid", "sp_appid", text},
	{"attach", "attach", text},
	{"bank_type", "bank_type", text},
	{"cash_fee", "amount.payer_total", text},
	{"cash_fee_type", "amount.payer_currency", text},
	{"device_info", "scene_info.device_id", text},
	{"fee_type", "amount.currency", text},
	{"mch_id", "mchid", text},
	{"mch_id", "sp_mchid", text},
	{"openid", "payer.openid", text},
	{"openid", "payer.sp_openid", text},
	{"out_trade_no", "out_trade_no", text},
	{"rate_type", "amount.exchange_rate.type", text},
	{"rate_value", "amount.exchange_rate.rate", text},
	{"sub_appid", "sub_appid", text},
	{"sub_mch_id", "sub_mchid", text},
	{"sub_openid", "payer.sub_openid", text},
	{"time_end", "success_time", moment},
	{"total_fee", "amount.total", number},
	{"trade_type", "trade_type", text},
	{"transaction_id", "id", text},
	{"transaction_id", "transaction_id", text},
}

// couponTypes are API v2's words for what a coupon is paid from.
var couponTypes = map[string]string{"CASH": "CASH", "NOCASH": "NO_CASH"}

// coupon is one that was used.
type coupon struct {
	id, kind string
	fen      int64
}

// addCoupons adds the coupons that were used, as API v2 numbers them, as long
// as they add up: what the payer paid and the coupons are the total. Otherwise
// it says why they are left out.
func addCoupons[promotion interface{ text(path string) string }](of values, promotions []promotion, out *wepay.Fields) (omitted string) {
	total, haveTotal := wepay.WholeFen(out.Get("total_fee"))
	cash, haveCash := wepay.WholeFen(out.Get("cash_fee"))
	abroad := isAbroad(*out)
	switch {
	case len(promotions) > 0:
	case !abroad && !haveCash && isThere(of, "amount.payer_total", "amount.payer_amount", "promotion_detail"):
		out.Delete("cash_fee")
		return "cash_fee, as what the payer paid cannot be read"
	case !abroad && !haveCash && haveTotal && out.Get("transaction_id") != "":
		out.Set("cash_fee", out.Get("total_fee"))
		return ""
	default:
		return ""
	}
	if abroad {
		return "coupon_*, as the total is in " + printable(out.Get("fee_type")) + " and what the payer paid in " + printable(out.Get("cash_fee_type"))
	}
	coupons := make([]coupon, len(promotions))
	var sum, notCash int64
	for i, used := range promotions {
		amount, whole := wepay.WholeFen(used.text("amount"))
		if !whole || amount > total {
			return "coupon_*, as one has no amount, or more than the total"
		}
		coupons[i] = coupon{id: cmp.Or(used.text("coupon_id"), used.text("promotion_id")), kind: used.text("type"), fen: amount}
		sum += amount
		if coupons[i].kind == "NOCASH" {
			notCash += amount
		}
	}
	if !haveTotal || !haveCash || total-sum != cash {
		return "coupon_*, as they and what the payer paid are not the total"
	}
	insert(numberCoupons(coupons, sum), out)
	if notCash > 0 {
		out.Set("settlement_total_fee", strconv.FormatInt(total-notCash, 10))
	}
	return ""
}

// isThere reports whether one of the members is there; null and an array are not, of
// which the elements count.
func isThere(of values, paths ...string) bool {
	return slices.ContainsFunc(paths, func(path string) bool {
		switch member := of.get(path).(type) {
		case nil:
			return false
		case json.Number:
			return member != "null"
		case json.RawMessage:
			return !bytes.HasPrefix(member, []byte("["))
		case []any:
			return len(member) > 0
		default:
			return true
		}
	})
}

// isAbroad reports whether what was paid is in another currency than the total.
func isAbroad(fields wepay.Fields) bool {
	currency, paid := fields.Get("fee_type"), fields.Get("cash_fee_type")
	return currency != "" && paid != "" && currency != paid
}

// numberCoupons returns API v2's fields of coupons. Names are made in sorted order for
// up to ten coupons; more have to be moved.
func numberCoupons(coupons []coupon, sum int64) wepay.Fields {
	fields := make(wepay.Fields, 0, 2+3*len(coupons))
	fields.Set("coupon_count", strconv.Itoa(len(coupons)))
	fields.Set("coupon_fee", strconv.FormatInt(sum, 10))
	for i, c := range coupons {
		fields.Set("coupon_fee_"+strconv.Itoa(i), strconv.FormatInt(c.fen, 10))
	}
	for i, c := range coupons {
		if c.id != "" {
			fields.Set("coupon_id_"+strconv.Itoa(i), c.id)
		}
	}
	for i, c := range coupons {
		if kind := couponTypes[c.kind]; kind != "" {
			fields.Set("coupon_type_"+strconv.Itoa(i), kind)
		}
	}
	return fields
}

// insert inserts adjacent fields at once.
func insert(fields wepay.Fields, out *wepay.Fields) {
	i, _ := slices.BinarySearchFunc(*out, fields[0].Name, func(f wepay.Field, name string) int {
		return strings.Compare(f.Name, name)
	})
	*out = slices.Insert(*out, i, fields...)
}
