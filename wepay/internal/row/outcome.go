package row

import (
	"cmp"
	"errors"
	"maps"
	"slices"

	"github.com/windsome/caddy-wepay/wepay"
)

// States are WeChat's words for what became of something, and what each comes to.
type States map[string]wepay.OutcomeState

// Of returns what a word comes to. One that is not known decides nothing.
func (s States) Of(word string) wepay.OutcomeState { return cmp.Or(s[word], wepay.Pending) }

// OrderStates are trade_state, of both APIs. PAYERROR is not among them: who failed to
// pay an order may try again, unless it was by code.
// Source: WeChat Pay, 查询订单.
var OrderStates = States{
	"SUCCESS": wepay.Succeeded,
	"REFUND":  wepay.Succeeded, // paid, and then refunded in part or whole
	"CLOSED":  wepay.Closed,
	"REVOKED": wepay.Closed,
	"NOPAY":   wepay.Closed, // too old to be paid
}

// CodeStates are trade_state of a payment by code.
// Source: WeChat Pay, 付款码支付, 查询订单.
var CodeStates = func() States {
	states := maps.Clone(OrderStates)
	states["PAYERROR"] = wepay.Failed
	return states
}()

// RefundStates are refund_status of API v2, and status of API v3.
// Source: WeChat Pay, 查询退款, and 查询单笔退款 (API v3).
var RefundStates = States{
	"SUCCESS":     wepay.Succeeded,
	"REFUNDCLOSE": wepay.Closed,
	"CLOSED":      wepay.Closed,
	"CHANGE":      wepay.Abnormal,
	"ABNORMAL":    wepay.Abnormal,
}

// missing are WeChat's Plain codes for a number that it does not have.
// Source: WeChat Pay, the error codes of each query.
var missing = map[wepay.Operation][]string{
	wepay.QueryOrder:         {"ORDERNOTEXIST"},
	wepay.QueryCombined:      {"ORDERNOTEXIST"},
	wepay.QueryRefund:        {"REFUNDNOTEXIST", "RESOURCENOTEXISTS"},
	wepay.QueryTransfer:      {"NOTFOUND"},
	wepay.QueryTransferBatch: {"NOTFOUND"},
	wepay.QueryBank:          {"NOTFOUND"},
	wepay.QueryRedPacket:     {"NOTFOUND"},
}

// Missing returns the outcome of a query that WeChat refused since it has no such
// number; nil for another error. A refusal that WeChat should have signed, and did
// not, proves nothing.
func Missing(ask wepay.Operation, err error) *wepay.Outcome {
	failed, refused := errors.AsType[*wepay.Error](err)
	if !refused || failed.Unsigned || !slices.Contains(missing[ask], Plain(failed.Code)) {
		return nil
	}
	return &wepay.Outcome{State: wepay.Missing, Word: cmp.Or(failed.V3Code, failed.Code), Text: failed.Message}
}
