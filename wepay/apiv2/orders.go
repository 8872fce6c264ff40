package apiv2

import (
	"context"
	"fmt"
	"strconv"

	"github.com/windsome/caddy-wepay/wepay"
	"github.com/windsome/caddy-wepay/wepay/internal/row"
)

// orderCalls place, query, close and refund orders.
var orderCalls = map[wepay.Operation]call{
	wepay.PlaceOrder: {
		path: "/pay/unifiedorder",
		Row: row.Row{
			Number:     "out_trade_no",
			Rules:      wepay.OrderRules,
			Check:      checkOrderText,
			Complete:   completeOrder,
			Answers:    []string{"prepay_id"},
			Repeatable: true, Unknown: wepay.Query, Ask: wepay.QueryOrder,
			Verdicts: map[string]wepay.Verdict{
				"ORDERPAID":      wepay.Done,
				"ORDERCLOSED":    wepay.Never,
				"OUTTRADENOUSED": wepay.Query, // with other parameters, or it is paid
				"NOTENOUGH":      wepay.Never,
				"SYSTEMERROR":    wepay.Again,
			},
		},
		result: clientParameters,
	},
	wepay.QueryOrder: {
		path: "/pay/orderquery",
		Row: row.Row{
			Rules:  wepay.OrderQueryRules,
			Echoes: []string{"out_trade_no", "transaction_id"}, Answers: []string{"trade_state"},
			Repeatable: true, Unknown: wepay.Again,
			Verdicts: map[string]wepay.Verdict{"ORDERNOTEXIST": wepay.Again},
		},
	},
	// Source: WeChat Pay, 关闭订单. Not sooner than 5 minutes after the order.
	wepay.CloseOrder: {
		path: "/pay/closeorder",
		Row: row.Row{
			Rules:      wepay.Rules{{Name: "out_trade_no", Required: true, Max: 32, Is: wepay.Number}},
			Echoes:     []string{"out_trade_no"},
			Repeatable: true, Unknown: wepay.Again, Ask: wepay.QueryOrder,
			Verdicts: map[string]wepay.Verdict{
				"ORDERPAID":       wepay.Done, // as a paid order
				"ORDERCLOSED":     wepay.Done,
				"ORDERNOTEXIST":   wepay.Done,
				"TRADESTATEERROR": wepay.Query,
			},
		},
	},
	wepay.Refund: {
		path: "/secapi/pay/refund", certificate: true,
		Row: row.Row{
			Number:     "out_refund_no",
			Rules:      wepay.RefundRules,
			Check:      wepay.CheckRefund,
			Echoes:     []string{"out_refund_no", "out_trade_no", "transaction_id"},
			Repeatable: true, Unknown: wepay.Query, Ask: wepay.QueryRefund,
			Verdicts: map[string]wepay.Verdict{
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
	},
	wepay.QueryRefund: {
		path: "/pay/refundquery",
		Row: row.Row{
			Rules:  wepay.RefundQueryRules,
			Echoes: []string{"out_trade_no", "transaction_id"}, Answers: []string{"refund_count"},
			Repeatable: true, Unknown: wepay.Again,
			Verdicts: map[string]wepay.Verdict{
				"REFUNDNOTEXIST":       wepay.Again, // the refund may be sent again, with the same number
				"INVALIDTRANSACTIONID": wepay.Fix,
			},
		},
		flow: queryRefunds,
	},
}

// completeOrder cuts the description to API v2's length.
func completeOrder(m *wepay.Merchant, in wepay.Fields) (wepay.Fields, error) {
	order, err := m.CompleteOrder(in)
	if err == nil {
		order.Set("body", wepay.CutBody(in.Get("body")))
	}
	return order, err
}

// queryRefunds queries all refunds of an order. WeChat returns ten at a time, and
// their total; a caller that gives an offset wants that page only.
// Source: WeChat Pay, 查询退款 (/pay/refundquery).
func queryRefunds(ctx context.Context, c *Client, op wepay.Operation, in wepay.Fields) (wepay.Fields, error) {
	all, err := c.once(ctx, op, in)
	if err != nil || in.Get("offset") != "" {
		return all, err
	}
	total, _ := strconv.Atoi(all.Get("total_refund_count")) // absent: these are all
	have, _ := strconv.Atoi(all.Get("refund_count"))
	pages := []wepay.Fields{all.Clone()}
	for have < total {
		next := in.Clone()
		next.Set("offset", strconv.Itoa(have))
		page, err := c.once(ctx, op, next)
		if err != nil {
			return nil, err
		}
		got, err := strconv.Atoi(page.Get("refund_count"))
		if err != nil || got <= 0 {
			break // there are fewer than WeChat said
		}
		addPage(&all, page, have)
		pages = append(pages, page)
		have += got
		if err := totalRefunds(&all, pages); err != nil {
			call := calls[op]
			return nil, call.Unanswered(call.Failure(c.merchant, op), fmt.Errorf("%w: %w", wepay.ErrNoAnswer, err))
		}
	}
	all.Set("refund_count", strconv.Itoa(have))
	return all, nil
}

// addPage appends a page's refunds. WeChat does not document whether a page numbers
// its refunds from 0 or from its offset; both are read.
func addPage(all *wepay.Fields, page wepay.Fields, offset int) {
	if _, fromZero := page.Lookup("out_refund_no_0"); !fromZero {
		offset = 0
	}
	for _, field := range page.Renumber(offset) {
		all.Set(field.Name, field.Value)
	}
}
