package apiv3

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/windsome/caddy-wepay/wepay"
)

// resource is a kind of content that WeChat notifies of.
type resource struct {
	kind      wepay.Kind
	tells     []string // members that no other kind has; one is enough
	events    []string // the event_types that it comes as
	originals []string // the original_types that it comes as; some have none
	read      func(content document, out *wepay.Fields) (omitted string, err error)
}

// resources are told apart by what they have and not by event_type alone: what
// is of profit sharing is known to come as TRANSACTION.SUCCESS. A refund and a
// share have an out_trade_no or a transaction_id as well, so that the payment
// stands last.
var resources = []resource{
	{
		kind:      wepay.CombinedPayment,
		tells:     []string{"combine_out_trade_no"},
		events:    []string{"TRANSACTION.SUCCESS"},
		originals: []string{"transaction"},
		read:      readCombined,
	},
	{
		kind:      wepay.Refunded,
		tells:     []string{"refund_status", "refund_id"},
		events:    []string{"REFUND.SUCCESS", "REFUND.ABNORMAL", "REFUND.CLOSED"},
		originals: []string{"refund"},
		read:      readRefund,
	},
	{
		kind:      wepay.ProfitShared,
		tells:     []string{"receiver"},
		events:    []string{"PROFITSHARING.SUCCESS", "PROFITSHARING.RETURN", "TRANSACTION.SUCCESS"},
		originals: []string{"profitsharing", "transaction"},
		read:      readShare,
	},
	{
		kind:      wepay.Transferred,
		tells:     []string{"transfer_bill_no", "batch_id"},
		events:    []string{"MCHTRANSFER.BILL.FINISHED", "MCHTRANSFER.BATCH.FINISHED", "MCHTRANSFER.BATCH.CLOSED"},
		originals: []string{"mch_payment"},
		read:      readTransfer,
	},
	{
		kind:      wepay.Payment,
		tells:     []string{"trade_state", "out_trade_no"},
		events:    []string{"TRANSACTION.SUCCESS"},
		originals: []string{"transaction"},
		read:      readPayment,
	},
}

// readResource finds out what a notification's content is about, and returns it
// under API v2's names. Omitted says which fields of those are left out since
// what they are made of contradicts itself, and why; mostly it is "". The error
// wraps wepay.ErrUnknownKind, wepay.ErrNotPayment or wepay.ErrMalformed.
func readResource(eventType, originalType string, content document) (kind wepay.Kind, fields wepay.Fields, omitted string, err error) {
	i := slices.IndexFunc(resources, func(r resource) bool {
		return slices.ContainsFunc(r.tells, func(name string) bool { return content.value(name) != "" })
	})
	if i < 0 || !resources[i].comesAs(eventType, originalType) {
		return "", nil, "", fmt.Errorf("%w: event_type %s, original_type %s", wepay.ErrUnknownKind, printable(eventType), printable(originalType))
	}
	for _, twice := range [][2]string{{"mchid", "sp_mchid"}, {"appid", "sp_appid"}} {
		if content.value(twice[0]) != "" && content.value(twice[1]) != "" {
			return "", nil, "", fmt.Errorf("%w: it has both %s and %s", wepay.ErrMalformed, twice[0], twice[1])
		}
	}
	fields = append(make(wepay.Fields, 0, 32), wepay.Field{Name: "return_code", Value: "SUCCESS"})
	if omitted, err = resources[i].read(content, &fields); err != nil {
		return "", nil, "", err
	}
	if resources[i].kind == wepay.ProfitShared {
		fields.Set("event_type", eventType) // that alone tells what was shared from what was given back
	}
	if fields.Get("mch_id") == "" {
		return "", nil, "", fmt.Errorf("%w: it does not say which merchant it is for", wepay.ErrMalformed)
	}
	return resources[i].kind, fields, omitted, nil
}

func (r resource) comesAs(eventType, originalType string) bool {
	return slices.Contains(r.events, eventType) && (originalType == "" || slices.Contains(r.originals, originalType))
}

// printable quotes what may be long, or hold anything, for a log.
func printable(text string) string {
	const most = 64 // bytes; the longest known has 26
	if len(text) > most {
		text = text[:most] + "…"
	}
	return strconv.QuoteToASCII(text)
}

func readPayment(content document, out *wepay.Fields) (string, error) {
	if err := checkPaid(content, "amount.total"); err != nil {
		return "", err
	}
	out.Set("result_code", "SUCCESS")
	if err := read(transactionNames, content, out); err != nil {
		return "", err
	}
	return addCoupons(content.objects("promotion_detail"), out), nil
}

// checkPaid refuses what is no order that was paid.
func checkPaid(order document, total string) error {
	if state := order.text("trade_state"); state != "SUCCESS" {
		return fmt.Errorf("%w: its trade_state is %s, not SUCCESS", wepay.ErrNotPayment, printable(state))
	}
	for _, name := range []string{"out_trade_no", "transaction_id"} {
		if order.text(name) == "" {
			return fmt.Errorf("%w: it has no %s", wepay.ErrNotPayment, name)
		}
	}
	if _, err := wepay.ParseFen(order.text(total)); err != nil {
		return fmt.Errorf("%w: %s: %w", wepay.ErrNotPayment, total, err)
	}
	return nil
}

// combinedNames are the fields of a combined order, and partNames those of each
// of the orders in it.
// Source: WeChat Pay, 合单支付通知 (API v3).
var (
	combinedNames = []name{
		{"appid", "combine_appid", text},
		{"mch_id", "combine_mchid", text},
		{"combine_out_trade_no", "combine_out_trade_no", text},
		{"openid", "combine_payer_info.openid", text},
		{"device_info", "scene_info.device_id", text},
	}
	partNames = []name{
		{"mch_id", "mchid", text},
		{"sub_mch_id", "sub_mchid", text},
		{"sub_appid", "sub_appid", text},
		{"sub_openid", "sub_openid", text},
		{"out_trade_no", "out_trade_no", text},
		{"transaction_id", "transaction_id", text},
		{"trade_type", "trade_type", text},
		{"bank_type", "bank_type", text},
		{"attach", "attach", text},
		{"total_fee", "amount.total_amount", number},
		{"fee_type", "amount.currency", text},
		{"cash_fee", "amount.payer_amount", number},
		{"cash_fee_type", "amount.payer_currency", text},
		{"time_end", "success_time", moment},
	}
)

// readCombined numbers the orders as API v2 numbers things: out_trade_no_0. They
// are paid all at once, or none is.
func readCombined(content document, out *wepay.Fields) (string, error) {
	out.Set("result_code", "SUCCESS")
	if err := read(combinedNames, content, out); err != nil {
		return "", err
	}
	orders := content.objects("sub_orders")
	if len(orders) == 0 {
		return "", fmt.Errorf("%w: a combined order without sub_orders", wepay.ErrNotPayment)
	}
	var omitted []string
	for i, order := range orders {
		if err := checkPaid(order, "amount.total_amount"); err != nil {
			return "", err
		}
		var part wepay.Fields
		if err := read(partNames, order, &part); err != nil {
			return "", err
		}
		if why := addCoupons(order.objects("promotion_detail"), &part); why != "" {
			omitted = append(omitted, why)
		}
		for _, field := range part {
			out.Set(numbered(field.Name, i), field.Value)
		}
	}
	out.Set("sub_order_count", strconv.Itoa(len(orders)))
	return strings.Join(omitted, "; "), nil
}

// numbered is the name of a field of the nth of several things. A field that is
// numbered already keeps its number behind that: coupon_id_0 is coupon_id_n_0.
func numbered(name string, n int) string {
	last := strings.LastIndexByte(name, '_')
	if _, err := strconv.Atoi(name[last+1:]); err == nil {
		return name[:last] + "_" + strconv.Itoa(n) + name[last:]
	}
	return name + "_" + strconv.Itoa(n)
}

// refundNames are the fields of a refund.
// Source: WeChat Pay, 退款结果通知 (API v3).
var refundNames = []name{
	{"mch_id", "mchid", text},
	{"mch_id", "sp_mchid", text},
	{"sub_mch_id", "sub_mchid", text},
	{"out_trade_no", "out_trade_no", text},
	{"transaction_id", "transaction_id", text},
	{"out_refund_no", "out_refund_no", text},
	{"refund_id", "refund_id", text},
	{"success_time", "success_time", second},
	{"refund_recv_accout", "user_received_account", text}, // sic
	{"total_fee", "amount.total", number},
	{"refund_fee", "amount.refund", number},
}

// refundStatuses are API v2's words.
var refundStatuses = map[string]string{"SUCCESS": "SUCCESS", "ABNORMAL": "CHANGE", "CLOSED": "REFUNDCLOSE"}

func readRefund(content document, out *wepay.Fields) (string, error) {
	status, known := refundStatuses[content.text("refund_status")]
	if !known {
		return "", fmt.Errorf("%w: a refund whose refund_status is %s", wepay.ErrMalformed, printable(content.text("refund_status")))
	}
	out.Set("refund_status", status)
	if err := read(refundNames, content, out); err != nil {
		return "", err
	}
	for _, name := range []string{"out_trade_no", "transaction_id", "out_refund_no", "refund_id"} {
		if out.Get(name) == "" {
			return "", fmt.Errorf("%w: a refund without %s", wepay.ErrMalformed, name)
		}
	}
	// With coupons it is another amount, which the refund's query tells.
	total := content.text("amount.total")
	if total != "" && total == content.text("amount.payer_total") && out.Get("refund_fee") != "" {
		out.Set("settlement_refund_fee", out.Get("refund_fee"))
	}
	return "", nil
}

// shareNames are the fields of what a receiver got, or gave back.
// Source: WeChat Pay, 分账动账通知 (API v3).
var shareNames = []name{
	{"mch_id", "mchid", text},
	{"mch_id", "sp_mchid", text},
	{"sub_mch_id", "sub_mchid", text},
	{"transaction_id", "transaction_id", text},
	{"order_id", "order_id", text},
	{"out_order_no", "out_order_no", text},
	{"receiver_type", "receiver.type", text},
	{"receiver_account", "receiver.account", text},
	{"receiver_amount", "receiver.amount", number},
	{"receiver_description", "receiver.description", text},
	{"success_time", "success_time", second},
}

func readShare(content document, out *wepay.Fields) (string, error) {
	if err := read(shareNames, content, out); err != nil {
		return "", err
	}
	for _, name := range []string{"order_id", "receiver_account", "receiver_amount"} {
		if out.Get(name) == "" {
			return "", fmt.Errorf("%w: a profit sharing without %s", wepay.ErrMalformed, name)
		}
	}
	return "", nil
}

// transferNames are the fields of a transfer to a user, and of a batch of them.
// Source: WeChat Pay, 商家转账回调通知 and 商家批次回调通知.
var transferNames = []name{
	{"mch_id", "mch_id", text},
	{"mch_id", "mchid", text},
	{"mch_id", "sp_mchid", text},
	{"sub_mch_id", "sub_mchid", text},
	{"out_bill_no", "out_bill_no", text},
	{"transfer_bill_no", "transfer_bill_no", text},
	{"state", "state", text},
	{"transfer_amount", "transfer_amount", number},
	{"openid", "openid", text},
	{"fail_reason", "fail_reason", text},
	{"create_time", "create_time", second},
	{"update_time", "update_time", second},
	{"out_batch_no", "out_batch_no", text},
	{"batch_id", "batch_id", text},
	{"batch_status", "batch_status", text},
	{"total_num", "total_num", number},
	{"total_amount", "total_amount", number},
	{"success_num", "success_num", number},
	{"success_amount", "success_amount", number},
	{"fail_num", "fail_num", number},
	{"fail_amount", "fail_amount", number},
	{"close_reason", "close_reason", text},
}

func readTransfer(content document, out *wepay.Fields) (string, error) {
	if err := read(transferNames, content, out); err != nil {
		return "", err
	}
	required := []string{"out_bill_no", "transfer_bill_no", "state"}
	if out.Get("batch_id") != "" {
		required = []string{"out_batch_no", "batch_id", "batch_status"}
	}
	for _, name := range required {
		if out.Get(name) == "" {
			return "", fmt.Errorf("%w: a transfer without %s", wepay.ErrMalformed, name)
		}
	}
	return "", nil
}
