package apiv3

import (
	"fmt"
	"slices"
	"strconv"

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
	// more adds what names alone do not say, and says what it omitted; nil:
	// nothing.
	more func(e envelope, content index, out *wepay.Fields) (omitted string, err error)
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
		more:      addParts,
	},
	{
		kind:      wepay.Refunded,
		tells:     []string{"refund_status", "refund_id"},
		events:    []string{"REFUND.SUCCESS", "REFUND.ABNORMAL", "REFUND.CLOSED"},
		originals: []string{"refund"},
		fields:    refundMap,
		required:  []string{"mch_id", "out_trade_no", "transaction_id", "out_refund_no", "refund_id"},
		more:      addRefund,
	},
	{
		kind:  wepay.ProfitShared,
		tells: []string{"receiver"},
		// WeChat documents the first two, and tells a share and its return both as the
		// third; 收付通 has the last two.
		events:    []string{"PROFITSHARING.SUCCESS", "PROFITSHARING.RETURN", "TRANSACTION.SUCCESS", "PROFITSHARING", "PROFITSHARING_RETURN"},
		originals: []string{"profitsharing", "transaction"},
		fields:    shareMap,
		required:  []string{"mch_id", "order_id", "receiver_type", "receiver_account", "receiver_amount"},
		more: func(e envelope, _ index, out *wepay.Fields) (string, error) {
			out.Set("event_type", e.event) // only these two distinguish a share from its return
			if e.summary != "" {
				out.Set("summary", e.summary)
			}
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
	},
	{
		kind:      wepay.Transferred,
		tells:     []string{"batch_id"},
		events:    []string{"MCHTRANSFER.BATCH.FINISHED", "MCHTRANSFER.BATCH.CLOSED"},
		originals: []string{"mch_payment"},
		fields:    endedBatchMap,
		required:  []string{"mch_id", "out_batch_no", "batch_id", "batch_status"},
	},
	{
		kind:      wepay.Payment,
		tells:     []string{"trade_state", "out_trade_no"},
		events:    []string{"TRANSACTION.SUCCESS"},
		originals: []string{"transaction"},
		fields:    transactionMap,
		required:  []string{"mch_id", "out_trade_no", "transaction_id"},
		more:      addPayment,
	},
}

// reading is what a notification's content is about.
type reading struct {
	kind   wepay.Kind
	fields wepay.Fields // under API v2's names
	// omitted says which fields of those are left out since what they are made of
	// contradicts itself, and why; mostly it is "".
	omitted string
	// misfit says why it is an OtherEvent although its event_type is of another kind.
	misfit string
}

// readResource finds out what a notification's content is about. What does not fit
// one of the resources is an OtherEvent, whatever its event_type: WeChat has signed
// it, so that it is handed over, but as what it is and never as a payment.
func readResource(e envelope, content index) reading {
	r := resourceOf(content)
	var err error
	if r != nil && r.comesAs(e) {
		var fit reading
		if fit, err = r.read(e, content); err == nil {
			return fit
		}
	}
	other := reading{kind: wepay.OtherEvent, fields: numbersOf(content)}
	switch {
	case e.odd != "":
		other.misfit = e.odd
	case err != nil:
		other.misfit = err.Error()
	case slices.ContainsFunc(resources, func(r resource) bool { return slices.Contains(r.events, e.event) }):
		other.misfit = "its members, or its original_type " + printable(e.original) + ", are of another"
	}
	return other
}

// read returns a resource under API v2's names, or why it is none.
func (r *resource) read(e envelope, content index) (reading, error) {
	for _, twice := range [][2]string{{"mchid", "sp_mchid"}, {"appid", "sp_appid"}} {
		if content.value(twice[0]) != "" && content.value(twice[1]) != "" {
			return reading{}, fmt.Errorf("it has both %s and %s", twice[0], twice[1])
		}
	}
	fields := make(wepay.Fields, 0, 28)
	if err := r.fields.read(content, &fields); err != nil {
		return reading{}, err
	}
	if err := require(r.required, fields); err != nil {
		return reading{}, err
	}
	omitted := ""
	if r.more != nil {
		var err error
		if omitted, err = r.more(e, content, &fields); err != nil {
			return reading{}, err
		}
	}
	fields.Set("return_code", "SUCCESS")
	return reading{kind: r.kind, fields: fields, omitted: omitted}, nil
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

func (r *resource) comesAs(e envelope) bool {
	return e.odd == "" && slices.Contains(r.events, e.event) && (e.original == "" || slices.Contains(r.originals, e.original))
}

// require refuses what lacks one of the names, or has something there that WeChat's
// numbers and words never hold.
func require(names []string, fields wepay.Fields) error {
	for _, name := range names {
		value := fields.Get(name)
		if value == "" {
			return fmt.Errorf("it has no %s", name)
		}
		if err := checkNumber(value); err != nil {
			return fmt.Errorf("its %s %w", name, err)
		}
	}
	return nil
}

func checkNumber(value string) error {
	const most = 128 // bytes; an openid may have that
	if len(value) > most {
		return fmt.Errorf("is longer than %d bytes", most)
	}
	return wepay.Number(value)
}

// printable quotes what may be long, or hold anything, for a log.
func printable(text string) string {
	const most = 64 // bytes; the longest known has 26
	if len(text) > most {
		text = text[:most] + "…"
	}
	return strconv.QuoteToASCII(text)
}

func addPayment(_ envelope, content index, out *wepay.Fields) (string, error) {
	if err := checkPaid(content.text("trade_state"), out.Get("total_fee")); err != nil {
		return "", err
	}
	out.Set("result_code", "SUCCESS")
	return addCoupons(content, content.objects("promotion_detail"), out), nil
}

// checkPaid refuses what is no order that was paid.
func checkPaid(state, total string) error {
	if state != "SUCCESS" {
		return fmt.Errorf("its trade_state is %s, not SUCCESS", printable(state))
	}
	if _, err := wepay.ParseFen(total); err != nil {
		return fmt.Errorf("its total %w", err)
	}
	return nil
}
