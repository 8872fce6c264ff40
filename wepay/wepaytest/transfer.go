package wepaytest

import (
	"time"

	"github.com/windsome/caddy-wepay/wepay"
)

// minTransfer is the least that is transferred.
const minTransfer = 30

var transferParams = params{
	{name: "device_info", max: 32},
	{name: "partner_trade_no", required: true, max: 32, is: nonce},
	{name: "openid", required: true, max: 64},
	{name: "check_name", required: true, is: word("NO_CHECK", "FORCE_CHECK")},
	{name: "re_user_name", max: 64},
	{name: "amount", required: true, is: fen},
	{name: "desc", required: true, max: 100},
	{name: "spbill_create_ip", max: 32, is: ipAddress},
}

// transferOut pays into a payee's wallet. While it is under way WeChat only answers that
// the outcome is unknown.
func (x *exchange) transferOut() (wepay.Fields, *refusal) {
	if refused := x.checkName(); refused != nil {
		return nil, refused
	}
	fee := amount(x.in.Get("amount"))
	if fee < minTransfer {
		return nil, refuse("AMOUNT_LIMIT", "付款金额低于最小限额")
	}
	p, refused := x.payOut(&payout{
		payoutKey: payoutKey{transfer, x.in.Get("partner_trade_no")},
		request:   content(x.in), fee: fee, status: PayoutProcessing,
	})
	if refused != nil {
		return nil, refused
	}
	if p.waits() && !x.account.payoutsWait {
		x.server.endPayout(x.books, p, PayoutSuccess, "")
	}
	if p.waits() {
		return nil, refuse("SYSTEMERROR", "系统繁忙,请稍后再试.")
	}
	return wepay.NewFields(map[string]string{
		"partner_trade_no": p.number,
		"payment_no":       p.id,
		"payment_time":     clockText(p.finished),
	}), nil
}

func (x *exchange) checkName() *refusal {
	if x.in.Get("check_name") != "FORCE_CHECK" {
		return nil
	}
	name := x.in.Get("re_user_name")
	if name == "" {
		return lacks("re_user_name")
	}
	if right, known := x.server.names[x.in.Get("openid")]; known && right != name {
		return refuse("NAME_MISMATCH", "真实姓名不一致")
	}
	return nil
}

func (x *exchange) queryTransfer() (wepay.Fields, *refusal) {
	p, refused := x.findPayout(transfer, "partner_trade_no")
	if refused != nil {
		return nil, refused
	}
	out := wepay.NewFields(map[string]string{
		"partner_trade_no": p.number,
		"detail_id":        p.id,
		"status":           p.status,
		"openid":           p.request.Get("openid"),
		"payment_amount":   text(p.fee),
		"transfer_time":    clockText(p.at),
		"desc":             p.request.Get("desc"),
	})
	if name := p.request.Get("re_user_name"); name != "" {
		out.Set("transfer_name", name)
	}
	switch p.status {
	case PayoutSuccess:
		out.Set("payment_time", clockText(p.finished))
	case PayoutFailed:
		out.Set("reason", p.reason)
	}
	return out, nil
}

// clockText is the form of times in replies about payouts.
func clockText(t time.Time) string { return t.In(beijing).Format(dateTimeFormat) }
