package apiv3

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/windsome/caddy-wepay/wepay"
)

// resource is a kind of content of notifications.
type resource struct {
	kind      wepay.Kind
	tells     []string // members of this kind alone; one is enough
	events    []string // the event_types that it comes as
	originals []string // the original_types that it comes as; it may have none
	fields    fieldMap
	required  []string // of API v2's names, those without which it is none
	lacking   error    // the error if one is missing
	// more adds what names alone do not say, and says what it omitted; nil:
	// nothing.
	more func(event string, content index, out *wepay.Fields) (omitted string, err error)
}

// resources are recognised by their members and not by event_type alone: profit
// sharing also comes as TRANSACTION.SUCCESS. A refund has an out_trade_no as well, so
// the payment is last.
var resources = []resource{
	{
		kind:      wepay.CombinedPayment,
		tells:     []string{"combine_out_trade_no"},
		events:    []string{"TRANSACTION.SUCCESS"},
		originals: []string{"transaction"},
		fields:    combinedMap,
		required:  []string{"mch_id", "combine_out_trade_no"},
		lacking:   wepay.ErrNotPayment,
		more:      addParts,
	},
	{
		kind:      wepay.Refunded,
		tells:     []string{"refund_status", "refund_id"},
		events:    []string{"REFUND.SUCCESS", "REFUND.ABNORMAL", "REFUND.CLOSED"},
		originals: []string{"refund"},
		fields:    refundMap,
		required:  []string{"mch_id", "out_trade_no", "transaction_id", "out_refund_no", "refund_id"},
		lacking:   wepay.ErrMalformed,
		more:      addRefund,
	},
	{
		kind:      wepay.ProfitShared,
		tells:     []string{"receiver"},
		events:    []string{"PROFITSHARING.SUCCESS", "PROFITSHARING.RETURN", "TRANSACTION.SUCCESS"},
		originals: []string{"profitsharing", "transaction"},
		fields:    shareMap,
		required:  []string{"mch_id", "order_id", "receiver_type", "receiver_account", "receiver_amount"},
		lacking:   wepay.ErrMalformed,
		more: func(event string, _ index, out *wepay.Fields) (string, error) {
			out.Set("event_type", event) // only that distinguishes a share from its return
			return "", nil
		},
	},
	{
		kind:      wepay.Transferred,
		tells:     []string{"transfer_bill_no"},
		events:    []string{"MCHTRANSFER.BILL.FINISHED"},
		originals: []string{"mch_payment"},
		fields:    billMap,
		required:  []string{"mch_id", "out_bill_no", "transfer_bill_no", "state"},
		lacking:   wepay.ErrMalformed,
	},
	{
		kind:      wepay.Transferred,
		tells:     []string{"batch_id"},
		events:    []string{"MCHTRANSFER.BATCH.FINISHED", "MCHTRANSFER.BATCH.CLOSED"},
		originals: []string{"mch_payment"},
		fields:    endedBatchMap,
		required:  []string{"mch_id", "out_batch_no", "batch_id", "batch_status"},
		lacking:   wepay.ErrMalformed,
	},
	{
		kind:      wepay.Payment,
		tells:     []string{"trade_state", "out_trade_no"},
		events:    []string{"TRANSACTION.SUCCESS"},
		originals: []string{"transaction"},
		fields:    transactionMap,
		required:  []string{"mch_id", "out_trade_no", "transaction_id"},
		lacking:   wepay.ErrNotPayment,
		more:      addPayment,
	},
}

// readResource finds out what a notification's content is about, and returns it
// under API v2's names. Omitted says which fields of those are left out since
// what they are made of contradicts itself, and why; mostly it is "". The error
// wraps wepay.ErrUnknownKind, wepay.ErrNotPayment or wepay.ErrMalformed.
func readResource(event, original string, content index) (kind wepay.Kind, fields wepay.Fields, omitted string, err error) {
	r := resourceOf(content)
	if r == nil || !r.comesAs(event, original) {
		return "", nil, "", fmt.Errorf("%w: event_type %s, original_type %s", wepay.ErrUnknownKind, printable(event), printable(original))
	}
	for _, twice := range [][2]string{{"mchid", "sp_mchid"}, {"appid", "sp_appid"}} {
		if content.value(twice[0]) != "" && content.value(twice[1]) != "" {
			return "", nil, "", fmt.Errorf("%w: it has both %s and %s", wepay.ErrMalformed, twice[0], twice[1])
		}
	}
	fields = make(wepay.Fields, 0, 28)
	if err := r.fields.read(content, &fields); err != nil {
		return "", nil, "", err
	}
	if err := require(r.required, fields, r.lacking); err != nil {
		return "", nil, "", err
	}
	if r.more != nil {
		if omitted, err = r.more(event, content, &fields); err != nil {
			return "", nil, "", err
		}
	}
	fields.Set("return_code", "SUCCESS")
	return r.kind, fields, omitted, nil
}

func resourceOf(content index) *resource {
	for i := range resources {
		for _, name := range resources[i].tells {
			if content.value(name) != "" {
				return &resources[i]
			}
		}
	}
	return nil
}

func (r *resource) comesAs(event, original string) bool {
	return slices.Contains(r.events, event) && (original == "" || slices.Contains(r.originals, original))
}

// require refuses for a reason what lacks one of the names, or has something
// there that WeChat's numbers and words never hold.
func require(names []string, fields wepay.Fields, reason error) error {
	const most = 128 // bytes; an openid may have that
	for _, name := range names {
		switch value := fields.Get(name); {
		case value == "":
			return fmt.Errorf("%w: it has no %s", reason, name)
		case len(value) > most:
			return fmt.Errorf("%w: its %s is longer than %d bytes", reason, name, most)
		default:
			if err := wepay.Number(value); err != nil {
				return fmt.Errorf("%w: its %s %w", reason, name, err)
			}
		}
	}
	return nil
}

// printable quotes what may be long, or hold anything, for a log.
func printable(text string) string {
	const most = 64 // bytes; the longest known has 26
	if len(text) > most {
		text = text[:most] + "…"
	}
	return strconv.QuoteToASCII(text)
}

func addPayment(_ string, content index, out *wepay.Fields) (string, error) {
	if err := checkPaid(content.text("trade_state"), out.Get("total_fee")); err != nil {
		return "", err
	}
	out.Set("result_code", "SUCCESS")
	return addCoupons(content.objects("promotion_detail"), out), nil
}

// checkPaid refuses what is no order that was paid.
func checkPaid(state, total string) error {
	if state != "SUCCESS" {
		return fmt.Errorf("%w: its trade_state is %s, not SUCCESS", wepay.ErrNotPayment, printable(state))
	}
	if _, err := wepay.ParseFen(total); err != nil {
		return fmt.Errorf("%w: its total %w", wepay.ErrNotPayment, err)
	}
	return nil
}

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
		{"cash_fee", "amount.payer_amount", number},
		{"cash_fee_type", "amount.payer_currency", text},
		{"fee_type", "amount.currency", text},
		{"mch_id", "mchid", text},
		{"out_trade_no", "out_trade_no", text},
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
func addParts(_ string, content index, out *wepay.Fields) (string, error) {
	parts := content.objects("sub_orders")
	if len(parts) == 0 {
		return "", fmt.Errorf("%w: it has no sub_orders", wepay.ErrNotPayment)
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
	if err := require([]string{"mch_id", "out_trade_no", "transaction_id"}, fields, wepay.ErrNotPayment); err != nil {
		return nil, "", err
	}
	if err := checkPaid(part.text("trade_state"), fields.Get("total_fee")); err != nil {
		return nil, "", err
	}
	omitted = addCoupons(part.objects("promotion_detail"), &fields)
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
// Source: WeChat Pay, 退款结果通知 (API v3).
var refundMap = fieldMap{
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

func addRefund(event string, content index, out *wepay.Fields) (string, error) {
	told := content.text("refund_status")
	status := refundStatuses[told]
	if status == "" || event != "REFUND."+told {
		return "", fmt.Errorf("%w: its refund_status is %s, as event_type %s", wepay.ErrMalformed, printable(told), event)
	}
	out.Set("refund_status", status)
	// With coupons it is another amount, which only the refund's query has.
	total := out.Get("total_fee")
	if total != "" && total == content.text("amount.payer_total") && out.Get("refund_fee") != "" {
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
	{"receiver_type", "receiver.type", text},
	{"receiver_account", "receiver.account", text},
	{"receiver_amount", "receiver.amount", number},
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
		{"transfer_amount", "transfer_amount", number},
		{"transfer_bill_no", "transfer_bill_no", text},
		{"update_time", "update_time", second},
	}
	endedBatchMap = fieldMap{
		{"batch_id", "batch_id", text},
		{"batch_status", "batch_status", text},
		{"close_reason", "close_reason", text},
		{"fail_amount", "fail_amount", number},
		{"fail_num", "fail_num", number},
		{"mch_id", "mchid", text},
		{"mch_id", "mch_id", text},
		{"mch_id", "sp_mchid", text},
		{"out_batch_no", "out_batch_no", text},
		{"sub_mch_id", "sub_mchid", text},
		{"success_amount", "success_amount", number},
		{"success_num", "success_num", number},
		{"total_amount", "total_amount", number},
		{"total_num", "total_num", number},
		{"update_time", "update_time", second},
	}
)
