package apiv3

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/windsome/caddy-wepay/wepay"
	"github.com/windsome/caddy-wepay/wepay/internal/row"
)

// Outcome implements wepay.Asker, for what was begun over API v3: that WeChat tells of
// an order over the API that did not place it, in the form of that one, is not relied
// on. A notification's Resource is the answer itself, as WeChat wrote it, for orders;
// for others it has the members of the answer that a notification has.
//
// The fields of a refund's notification have the appid of this merchant, which WeChat
// does not tell.
func (c *Client) Outcome(ctx context.Context, op wepay.Operation, number, subMchID string) (*wepay.Outcome, error) {
	begun := calls[op]
	read, found := outcomes[begun.Ask]
	if begun.Number == "" || !found {
		return nil, fmt.Errorf("%w: nothing is asked about %s over API v3", wepay.ErrNoOperation, op)
	}
	in := wepay.Fields{{Name: begun.Number, Value: number}}
	if subMchID != "" && calls[begun.Ask].as != forAccount {
		in.Set("sub_mch_id", subMchID)
	}
	if begun.Ask == wepay.QueryTransferBatch {
		in.Set("need_query_detail", "false")
	}
	x, answer, err := c.exchange(ctx, begun.Ask, in, false)
	if missing := row.Missing(begun.Ask, err); missing != nil {
		return missing, nil
	}
	if err != nil {
		return nil, err
	}
	out := new(wepay.Outcome)
	if out.Fields, err = x.accept(answer); err != nil {
		return nil, err
	}
	if err := x.outcome(read, begun.Number, answer.body, out); err != nil {
		return nil, x.call.Unanswered(x.failure(), fmt.Errorf("%w: %w", wepay.ErrNoAnswer, err))
	}
	out.Word, out.Text = c.quoter.Quote(out.Word), c.quoter.Quote(out.Text)
	return out, nil
}

// outcomes read the answers to queries: the state, and what WeChat notifies of it; nil
// for nothing.
var outcomes = map[wepay.Operation]func(x *exchange, content object, out *wepay.Outcome) *event{
	wepay.QueryOrder:         orderOutcome,
	wepay.QueryCombined:      combinedOutcome,
	wepay.QueryRefund:        refundOutcome,
	wepay.QueryTransfer:      transferOutcome,
	wepay.QueryTransferBatch: batchOutcome,
}

// event is what WeChat notifies of; without a resource that is the answer itself.
type event struct {
	name, original string
	resource       object
}

// outcome reads a verified answer.
func (x *exchange) outcome(read func(*exchange, object, *wepay.Outcome) *event, number string, body []byte, out *wepay.Outcome) error {
	content := object{}
	if err := decode(body, &content); err != nil {
		return err
	}
	told := read(x, content, out)
	if out.State != wepay.Pending && !slices.ContainsFunc([]string{number, number + "_0"}, func(name string) bool {
		return out.Fields.Get(name) == x.in.Get(number)
	}) {
		return fmt.Errorf("the reply lacks %s", number)
	}
	if told == nil {
		return nil
	}
	if told.resource != nil {
		var err error
		if body, err = encode(told.resource); err != nil {
			return err
		}
	}
	var err error
	out.Notification, err = x.notification(envelope{event: told.name, original: told.original}, body)
	return err
}

// notification makes what WeChat notifies of, as if the resource had been in an
// envelope.
func (x *exchange) notification(e envelope, resource []byte) (*wepay.Notification, error) {
	content, err := parse(resource)
	if err != nil {
		return nil, err
	}
	o := &Opened{reading: readResource(e, content.index()), envelope: e, resource: resource}
	if o.kind == wepay.OtherEvent {
		return nil, errors.New("as a notification " + o.misfit)
	}
	n := o.Notification(x.client.merchant, x.merchant.AppID)
	n.ID = "" // which only an OtherEvent needs
	return n, nil
}

// orderOutcome reads a transaction, which is what its notification has.
func orderOutcome(_ *exchange, content object, out *wepay.Outcome) *event {
	out.Word, out.Text = content.text("trade_state"), content.text("trade_state_desc")
	if out.State = row.OrderStates.Of(out.Word); out.State != wepay.Succeeded {
		return nil
	}
	paid := &event{name: "TRANSACTION.SUCCESS", original: "transaction"}
	if asPaid(content) {
		paid.resource = content
	}
	return paid
}

// asPaid has an order that was refunded since be as its notification had it, and
// reports whether it was.
func asPaid(order object) bool {
	if order.text("trade_state") != "REFUND" {
		return false
	}
	order["trade_state"] = "SUCCESS"
	if order.text("trade_state_desc") != "" {
		order["trade_state_desc"] = "支付成功"
	}
	return true
}

// combinedOutcome reads orders that are paid together or not at all. As long as they
// differ nothing is decided.
func combinedOutcome(_ *exchange, content object, out *wepay.Outcome) *event {
	orders := content.objects(subOrders)
	for i, order := range orders {
		word := order.text("trade_state")
		state := row.OrderStates.Of(word)
		switch {
		case i == 0:
			out.State, out.Word = state, word
		case state != out.State && out.State != wepay.Pending:
			out.State, out.Word = wepay.Pending, word
		}
	}
	if out.State != wepay.Succeeded {
		return nil
	}
	paid := &event{name: "TRANSACTION.SUCCESS", original: "transaction"}
	for _, order := range orders {
		if asPaid(order) {
			paid.resource = content
		}
	}
	return paid
}

// copied returns the members of an answer at some paths.
func copied(from object, paths ...string) object {
	o := object{}
	for _, path := range paths {
		if value := from.get(path); value != nil {
			o.put(path, value)
		}
	}
	return o
}

// refundOutcome reads a refund. Its notification names the merchant, and has another
// name for the status.
// Source: WeChat Pay, 查询单笔退款 and 退款结果通知 (API v3).
func refundOutcome(x *exchange, content object, out *wepay.Outcome) *event {
	out.Word = content.text("status")
	if out.State = row.RefundStates.Of(out.Word); out.State == wepay.Pending {
		return nil
	}
	resource := copied(content, "out_trade_no", "transaction_id", "out_refund_no", "refund_id", "user_received_account",
		"amount.total", "amount.refund", "amount.payer_total", "amount.payer_refund")
	resource["refund_status"] = out.Word
	if at := content.text("success_time"); at != "" && out.State == wepay.Succeeded {
		resource["success_time"] = at
	}
	if x.merchant.SubMchID == "" {
		resource["mchid"] = x.merchant.MchID
	} else {
		resource["sp_mchid"], resource["sub_mchid"] = x.merchant.MchID, x.merchant.SubMchID
	}
	return &event{"REFUND." + out.Word, "refund", resource}
}

// transferStates are states of a transfer; what the payee has not confirmed in a day
// fails.
// Source: WeChat Pay, 商户单号查询转账单 (API v3).
var transferStates = row.States{"SUCCESS": wepay.Succeeded, "FAIL": wepay.Failed, "CANCELLED": wepay.Closed}

// transferOutcome reads a transfer.
// Source: WeChat Pay, 商家转账回调通知 (API v3).
func transferOutcome(_ *exchange, content object, out *wepay.Outcome) *event {
	out.Word, out.Text = content.text("state"), content.text("fail_reason")
	if out.State = transferStates.Of(out.Word); out.State == wepay.Pending {
		return nil
	}
	return &event{"MCHTRANSFER.BILL.FINISHED", "mch_payment", copied(content, "mch_id", "mchid", "sub_mchid", "out_bill_no", "transfer_bill_no",
		"state", "transfer_amount", "openid", "fail_reason", "create_time", "update_time")}
}

// batchStates are batch_status.
// Source: WeChat Pay, 商家批次单号查询批次单 (API v3).
var batchStates = row.States{"FINISHED": wepay.Succeeded, "CLOSED": wepay.Closed}

// batchOutcome reads a batch of transfers. It has failed if all of them have.
// Source: WeChat Pay, 商家批次回调通知 (API v3).
func batchOutcome(_ *exchange, content object, out *wepay.Outcome) *event {
	batch, _ := content.object("transfer_batch") // which accept has found
	out.Word, out.Text = batch.text("batch_status"), batch.text("close_reason")
	if out.State = batchStates.Of(out.Word); out.State == wepay.Pending {
		return nil
	}
	if out.State == wepay.Succeeded && batch.text("success_num") == "0" {
		out.State = wepay.Failed
	}
	return &event{"MCHTRANSFER.BATCH." + out.Word, "mch_payment", copied(batch, "mchid", "out_batch_no", "batch_id", "batch_status",
		"total_num", "total_amount", "success_amount", "success_num", "fail_amount", "fail_num", "update_time", "close_reason")}
}

// Interface guard
var _ wepay.Asker = (*Client)(nil)
