package wepaytest

import (
	"slices"
	"time"

	"github.com/windsome/caddy-wepay/wepay"
)

// returnable is for how long a share can be returned.
const returnable = 180 * 24 * time.Hour

// shareReturn is a part of a share on its way back to the merchant.
type shareReturn struct {
	id      string
	number  string // out_return_no
	of      *share
	request wepay.Fields
	fee     int64
	reason  string // why it failed; "": it did not
	at      time.Time
}

var (
	returnParams = params{
		{name: "order_id", max: 64},
		{name: "out_order_no", max: 64, is: refundNumber},
		{name: "out_return_no", required: true, max: 64, is: refundNumber},
		{name: "return_account_type", required: true, is: word("MERCHANT_ID")},
		{name: "return_account", required: true, max: 64},
		{name: "return_amount", required: true, is: fen},
		{name: "description", required: true, max: 80},
	}
	returnQueryParams = params{
		{name: "order_id", max: 64},
		{name: "out_order_no", max: 64, is: refundNumber},
		{name: "out_return_no", required: true, max: 64, is: refundNumber},
	}
)

// returnShare returns a part from a merchant that received it, once for each number. It
// fails finally if the receiver no longer has the money.
func (x *exchange) returnShare() (wepay.Fields, *refusal) {
	sh, refused := x.findShare()
	if refused != nil {
		return nil, refused
	}
	number, request := x.in.Get("out_return_no"), content(x.in)
	if known, found := x.books.returns[number]; found {
		if !slices.Equal(known.request, request) {
			return nil, refuse("INVALID_REQUEST", "商户回退单号重复,请求参数与之前不一致")
		}
		return known.reply(), nil
	}
	fee, account := amount(x.in.Get("return_amount")), x.in.Get("return_account")
	i := slices.IndexFunc(sh.parts, func(p *part) bool {
		return p.Type == "MERCHANT_ID" && p.Account == account && p.result == "SUCCESS"
	})
	switch {
	case i < 0:
		return nil, refuse("RECEIVER_INVALID", "回退方未参与分账")
	case x.now.Sub(sh.at) > returnable:
		return nil, refuse("INVALID_REQUEST", "超过可回退期限")
	case fee > sh.parts[i].Amount-sh.parts[i].returned:
		return nil, refuse("AMOUNT_OVERDUE", "回退金额超限")
	}
	r := &shareReturn{number: number, of: sh, request: request, fee: fee, at: x.now}
	r.id = x.server.nextNumber("3008400000", x.now)
	x.books.returns[number] = r
	x.takeBack(r, sh.parts[i])
	return r.reply(), nil
}

func (x *exchange) takeBack(r *shareReturn, p *part) {
	if a, found := x.server.accounts[p.Account]; found {
		from := x.booksOf(a)
		if from.available < r.fee {
			r.reason = "PAYER_ACCOUNT_ABNORMAL"
			return
		}
		from.move(x.server, movement{number: r.id, kind: "分账回退支出", fee: -r.fee, voucher: r.number})
	}
	p.returned += r.fee
	x.books.move(x.server, movement{number: r.id, kind: "分账回退", fee: r.fee, voucher: r.number})
}

// findShare finds a share by WeChat's number or else the merchant's.
func (x *exchange) findShare() (*share, *refusal) {
	id, number := x.in.Get("order_id"), x.in.Get("out_order_no")
	if id == "" && number == "" {
		return nil, lacks("out_order_no")
	}
	sh := x.books.shares[number]
	if id != "" {
		sh = x.books.shareIDs[id]
	}
	if sh == nil || sh.of.request.Get("sub_mch_id") != x.in.Get("sub_mch_id") {
		return nil, refuse("RESOURCE_NOT_EXISTS", "分账单不存在")
	}
	return sh, nil
}

func (x *exchange) queryShareReturn() (wepay.Fields, *refusal) {
	sh, refused := x.findShare()
	if refused != nil {
		return nil, refused
	}
	r, found := x.books.returns[x.in.Get("out_return_no")]
	if !found || r.of != sh {
		return nil, refuse("RESOURCE_NOT_EXISTS", "回退单不存在")
	}
	return r.reply(), nil
}

func (r *shareReturn) reply() wepay.Fields {
	out := wepay.NewFields(map[string]string{
		"order_id":            r.of.id,
		"out_order_no":        r.of.number,
		"out_return_no":       r.number,
		"return_no":           r.id,
		"return_account_type": "MERCHANT_ID",
		"return_account":      r.request.Get("return_account"),
		"return_amount":       text(r.fee),
		"description":         r.request.Get("description"),
		"result":              "SUCCESS",
		"finish_time":         r.at.In(beijing).Format(timeFormat),
	})
	if r.reason != "" {
		out.Set("result", "FAILED")
		out.Set("fail_reason", r.reason)
	}
	return out
}
