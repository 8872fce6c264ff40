package apiv2

import (
	"context"
	"strconv"

	"github.com/windsome/caddy-wepay/wepay"
)

// orderCalls are those of an order's life: placed, asked about, closed, given
// back.
var orderCalls = map[wepay.Operation]call{
	wepay.PlaceOrder: {
		path:  "/pay/unifiedorder",
		rules: wepay.OrderRules,
		check: checkOrderText,
		complete: func(_ context.Context, _ *Client, m *wepay.Merchant, in wepay.Fields) (wepay.Fields, error) {
			return m.CompleteOrder(in)
		},
		answers:    []string{"prepay_id"},
		repeatable: true, unknown: wepay.Query, ask: wepay.QueryOrder,
		verdicts: map[string]wepay.Verdict{
			"ORDERPAID":      wepay.Done,
			"ORDERCLOSED":    wepay.Never,
			"OUTTRADENOUSED": wepay.Fix,
			"NOTENOUGH":      wepay.Never,
			"SYSTEMERROR":    wepay.Again,
		},
		result: clientParameters,
	},
	wepay.QueryOrder: {
		path:       "/pay/orderquery",
		rules:      wepay.OrderQueryRules,
		echoes:     []string{"out_trade_no", "transaction_id"},
		answers:    []string{"trade_state"},
		repeatable: true, unknown: wepay.Again,
		verdicts: map[string]wepay.Verdict{
			"ORDERNOTEXIST": wepay.Again,
			"SYSTEMERROR":   wepay.Again,
		},
	},
	// Source: WeChat Pay, 关闭订单. Not sooner than 5 minutes after the order.
	wepay.CloseOrder: {
		path:       "/pay/closeorder",
		rules:      wepay.Rules{{Name: "out_trade_no", Required: true, Max: 32, Is: wepay.Number}},
		echoes:     []string{"out_trade_no"},
		repeatable: true, unknown: wepay.Again, ask: wepay.QueryOrder,
		verdicts: map[string]wepay.Verdict{
			"ORDERPAID":       wepay.Done, // as a paid order
			"ORDERCLOSED":     wepay.Done,
			"ORDERNOTEXIST":   wepay.Done,
			"TRADESTATEERROR": wepay.Query,
			"SYSTEMERROR":     wepay.Again,
		},
	},
	wepay.Refund: {
		path:        "/secapi/pay/refund",
		certificate: true,
		rules:       wepay.RefundRules,
		check:       wepay.CheckRefund,
		echoes:      []string{"out_refund_no", "out_trade_no", "transaction_id"},
		repeatable:  true, unknown: wepay.Query, ask: wepay.QueryRefund,
		verdicts: map[string]wepay.Verdict{
			"SYSTEMERROR":          wepay.Again,
			"BIZERRNEEDRETRY":      wepay.Again,
			"NOTENOUGH":            wepay.Later,
			"ORDERNOTREADY":        wepay.Later,
			"TRADEOVERDUE":         wepay.Never,
			"USERACCOUNTABNORMAL":  wepay.Never,
			"ERROR":                wepay.Fix,
			"INVALIDTRANSACTIONID": wepay.Fix,
			"ORDERNOTEXIST":        wepay.Fix,
			"REFUNDFEEMISMATCH":    wepay.Fix,
		},
	},
	wepay.QueryRefund: {
		path:       "/pay/refundquery",
		rules:      wepay.RefundQueryRules,
		echoes:     []string{"out_trade_no", "transaction_id"},
		answers:    []string{"refund_count"},
		repeatable: true, unknown: wepay.Again,
		verdicts: map[string]wepay.Verdict{
			"REFUNDNOTEXIST":       wepay.Again, // the refund may be sent again, with the same number
			"SYSTEMERROR":          wepay.Again,
			"INVALIDTRANSACTIONID": wepay.Fix,
		},
		flow: queryRefunds,
	},
}

// queryRefunds asks for all refunds of an order. WeChat gives ten at a time and
// says how many there are; whoever gives an offset wants that page alone.
// Source: WeChat Pay, 查询退款 (/pay/refundquery).
func queryRefunds(ctx context.Context, c *Client, op wepay.Operation, in wepay.Fields) (wepay.Fields, error) {
	all, err := c.once(ctx, op, in)
	if err != nil || in.Get("offset") != "" {
		return all, err
	}
	total, _ := strconv.Atoi(all.Get("total_refund_count")) // not there: these are all
	have, _ := strconv.Atoi(all.Get("refund_count"))
	for have < total {
		next := in.Clone()
		next.Set("offset", strconv.Itoa(have))
		page, err := c.once(ctx, op, next)
		if err != nil {
			return nil, err
		}
		got, err := strconv.Atoi(page.Get("refund_count"))
		if err != nil || got <= 0 {
			break // there were fewer than WeChat said, or it counts otherwise
		}
		addPage(&all, page, have)
		have += got
	}
	all.Set("refund_count", strconv.Itoa(have))
	return all, nil
}

// addPage adds a page's refunds behind those there are. WeChat does not say
// whether a page numbers its refunds from 0 or from its offset; both are read.
func addPage(all *wepay.Fields, page wepay.Fields, offset int) {
	if _, fromZero := page.Lookup("out_refund_no_0"); !fromZero {
		offset = 0
	}
	for _, field := range page.Renumber(offset) {
		all.Set(field.Name, field.Value)
	}
}
