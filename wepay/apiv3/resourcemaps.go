package apiv3

import (
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/windsome/caddy-wepay/wepay"
)

// combinedMap has the fields of a combined order, and partMap those of each
// of the orders in it.
// Source: WeChat Pay, 合单支付通知 (API v3).
var (
	combinedMap = fieldMap{
		{"appid", "combine_appid", text},
		{"mch_id", "combine_mchid", text},
		{"combine_out_trade_no", "combine_out_trade_no", text},
		{"openid", "combine_payer_info.openid", text},
		{"device_info", "scene_info.device_id", text},
	}
	partMap = fieldMap{
		{"attach", "attach", text},
		{"bank_type", "bank_type", text},
		{"cash_fee", "amount.payer_amount", text},
		{"cash_fee_type", "amount.payer_currency", text},
		{"fee_type", "amount.currency", text},
		{"mch_id", "mchid", text},
		{"out_trade_no", "out_trade_no", text},
		{"settlement_rate", "amount.settlement_rate", text},
		{"sub_appid", "sub_appid", text},
		{"sub_mch_id", "sub_mchid", text},
		{"sub_openid", "sub_openid", text},
		{"time_end", "success_time", moment},
		{"total_fee", "amount.total_amount", number},
		{"trade_type", "trade_type", text},
		{"transaction_id", "transaction_id", text},
	}
)

// addParts numbers the orders as API v2 numbers things: out_trade_no_0. They are
// paid all at once, or none is.
func addParts(_ envelope, content index, out *wepay.Fields) (string, error) {
	parts := content.objects("sub_orders")
	if len(parts) == 0 {
		return "", errors.New("it has no sub_orders")
	}
	var omitted []string
	for i, part := range parts {
		fields, why, err := readPart(part.index())
		if err != nil {
			return "", fmt.Errorf("sub_orders[%d]: %w", i, err)
		}
		if why != "" {
			omitted = append(omitted, fmt.Sprintf("of sub_orders[%d] %s", i, why))
		}
		for _, field := range fields {
			out.Set(numbered(field.Name, i), field.Value)
		}
	}
	out.Set("result_code", "SUCCESS")
	out.Set("sub_order_count", strconv.Itoa(len(parts)))
	return strings.Join(omitted, "; "), nil
}

// readPart reads one of the orders of a combined one.
func readPart(part index) (fields wepay.Fields, omitted string, err error) {
	if err := partMap.read(part, &fields); err != nil {
		return nil, "", err
	}
	if err := require([]string{"mch_id", "out_trade_no", "transaction_id"}, fields); err != nil {
		return nil, "", err
	}
	if err := checkPaid(part.text("trade_state"), fields.Get("total_fee")); err != nil {
		return nil, "", err
	}
	omitted = addCoupons(part, part.objects("promotion_detail"), &fields)
	return fields, omitted, nil
}

// numbered returns the name of a field of the nth item. A field that is numbered
// already keeps its number after that: coupon_id_0 becomes coupon_id_n_0.
func numbered(name string, n int) string {
	last := strings.LastIndexByte(name, '_')
	if _, err := strconv.Atoi(name[last+1:]); err == nil {
		return name[:last] + "_" + strconv.Itoa(n) + name[last:]
	}
	return name + "_" + strconv.Itoa(n)
}

// refundMap has the fields of a refund.
// Source: WeChat Pay, 退款结果通知 (API v3), and for abroad 退款通知 (Global), where id is
// the refund's.
var refundMap = fieldMap{
	{"mch_id", "mchid", text},
	{"mch_id", "sp_mchid", text},
	{"sub_mch_id", "sub_mchid", text},
	{"out_trade_no", "out_trade_no", text},
	{"transaction_id", "transaction_id", text},
	{"out_refund_no", "out_refund_no", text},
	{"refund_id", "id", text},
	{"refund_id", "refund_id", text},
	{"success_time", "success_time", second},
	{"refund_recv_accout", "recv_account", text}, // sic; abroad
	{"refund_recv_accout", "user_received_account", text},
	{"total_fee", "amount.total", fee},
	{"refund_fee", "amount.refund", fee},
	{"fee_type", "amount.currency", text},
	{"refund_fee_type", "amount.currency", text},
	{"cash_fee_type", "amount.payer_currency", text},
	{"settlement_refund_fee", "amount.settlement_refund", text},
	{"settlement_refund_fee_type", "amount.settlement_currency", text},
	{"rate_type", "amount.exchange_rate.type", text},
	{"rate_value", "amount.exchange_rate.rate", text},
}

// refundStatuses are API v2's words.
var refundStatuses = map[string]string{"SUCCESS": "SUCCESS", "ABNORMAL": "CHANGE", "CLOSED": "REFUNDCLOSE"}

func addRefund(e envelope, content index, out *wepay.Fields) (string, error) {
	told := content.text("refund_status")
	status := refundStatuses[told]
	if status == "" || e.event != "REFUND."+told {
		return "", fmt.Errorf("its refund_status is %s", printable(told))
	}
	out.Set("refund_status", status)
	if isAbroad(*out) {
		if given := content.text("amount.payer_refund"); given != "" { // in the payer's currency
			out.Set("cash_refund_fee", given)
		}
		return "", nil
	}
	// With coupons it is another amount, which only the refund's query has.
	total := out.Get("total_fee")
	if out.Get("settlement_refund_fee") == "" && total != "" && total == content.text("amount.payer_total") && out.Get("refund_fee") != "" {
		out.Set("settlement_refund_fee", out.Get("refund_fee"))
	}
	return "", nil
}

// shareMap has the fields of a share that a receiver got, or returned.
// Source: WeChat Pay, 分账动账通知 (API v3).
var shareMap = fieldMap{
	{"mch_id", "mchid", text},
	{"mch_id", "sp_mchid", text},
	{"sub_mch_id", "sub_mchid", text},
	{"transaction_id", "transaction_id", text},
	{"order_id", "order_id", text},
	{"out_order_no", "out_order_no", text},
	{"out_return_no", "out_return_no", text},
	{"return_no", "return_no", text},
	{"return_id", "return_id", text},
	{"receiver_type", "receiver.type", text},
	{"receiver_account", "receiver.account", text},
	{"receiver_amount", "receiver.amount", fee},
	{"receiver_description", "receiver.description", text},
	{"success_time", "success_time", second},
}

// billMap has the fields of a transfer to a user, and endedBatchMap those of a
// batch of transfers.
// Source: WeChat Pay, 商家转账回调通知 and 商家批次回调通知.
var (
	billMap = fieldMap{
		{"create_time", "create_time", second},
		{"fail_reason", "fail_reason", text},
		{"mch_id", "mchid", text},
		{"mch_id", "mch_id", text},
		{"mch_id", "sp_mchid", text},
		{"openid", "openid", text},
		{"out_bill_no", "out_bill_no", text},
		{"state", "state", text},
		{"sub_mch_id", "sub_mchid", text},
		{"transfer_amount", "transfer_amount", fee},
		{"transfer_bill_no", "transfer_bill_no", text},
		{"update_time", "update_time", second},
	}
	endedBatchMap = fieldMap{
		{"batch_id", "batch_id", text},
		{"batch_status", "batch_status", text},
		{"close_reason", "close_reason", text},
		{"fail_amount", "fail_amount", fee},
		{"fail_num", "fail_num", text},
		{"mch_id", "mchid", text},
		{"mch_id", "mch_id", text},
		{"mch_id", "sp_mchid", text},
		{"out_batch_no", "out_batch_no", text},
		{"sub_mch_id", "sub_mchid", text},
		{"success_amount", "success_amount", fee},
		{"success_num", "success_num", text},
		{"total_amount", "total_amount", fee},
		{"total_num", "total_num", text},
		{"update_time", "update_time", second},
	}
)
