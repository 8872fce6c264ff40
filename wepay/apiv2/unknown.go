package apiv2

import (
	"fmt"
	"slices"
	"strings"
	"sync"

	"github.com/windsome/caddy-wepay/wepay"
)

// checkUnknown says why fields cannot be a notification of a kind that is not known
// here, such as one that WeChat adds tomorrow. Those that can be are handed over as a
// wepay.OtherEvent, never as a payment or a refund.
//
// A valid signature does not make them a notification: WeChat signs its replies with
// the same key, the merchant its requests, and some of those in links that customers
// see. Whoever has seen one could post it. What rules that out is:
//
//   - A reply has return_code, result_code, nonce_str and return_msg. Of
//     notifications, payments lack the last, contracts the third. So what has all
//     four is a reply, whatever else it says: that of any call, also of the
//     pass-through.
//   - Some replies lack one of them. So nothing that a reply known here says may be
//     there, nor anything of a payment or of another notice but the numbers of the
//     order and event_type: what has that and is none was refused as such.
//   - Nothing that a request, a link or client parameters say may be there. That only
//     WeChat says return_code does not help: the text of a shop's own field, such as
//     product_id, may be read as one.
//   - There is a field that is not known here: what has none is no new kind.
//   - No value reads as a further field, so that none of those is hidden in one.
//
// What is left is the reply without return_msg to a call that no row has, of none but
// unknown fields: it says nothing that a service that knows its events acts on.
func checkUnknown(fields wepay.Fields) error {
	if !slices.ContainsFunc(replyHead, func(name string) bool { return fields.Get(name) == "" }) {
		return fmt.Errorf("%w: it has %s, as a reply has", wepay.ErrNotPayment, strings.Join(replyHead, ", "))
	}
	unknown := false
	for _, field := range fields {
		switch name := field.Name; {
		case slices.Contains(noticeFields, name) || slices.Contains(orderNumbers, name) || name == ownWord:
		case isOfReply(name):
			return fmt.Errorf("%w: it has %s, which is of a reply", wepay.ErrNotPayment, name)
		case isDocumented(name) || slices.ContainsFunc(notices, func(n notice) bool { return n.has(name) }):
			return fmt.Errorf("%w: it has %s, but is no notification that has it", wepay.ErrNotPayment, name)
		case slices.Contains(requestNames(), name):
			return fmt.Errorf("%w: it has %s, which is of a request", wepay.ErrNotPayment, name)
		default:
			unknown = true
		}
	}
	if !unknown {
		return fmt.Errorf("%w: it says nothing that no reply says", wepay.ErrNotPayment)
	}
	return nil
}

// replyHead are the fields that every signed reply begins with.
var replyHead = []string{"nonce_str", "result_code", "return_code", "return_msg"}

// ownWord is what a notice says its kind by; no reply, request or link has it.
const ownWord = "event_type"

// orderNumbers are those that any notification may name an order by.
var orderNumbers = []string{"out_trade_no", "transaction_id"}

// repliesOnly are the fields of replies that no row demands.
// Source: WeChat Pay, the calls of API v2, 海关报关.
var repliesOnly = []string{
	"cash_refund_fee", "cert_check_result", "code_url", "coupon_refund_fee", "detail_id", "hblist", "modify_time", "mweb_url", "openid_list", "receiver",
	"receivers", "refund_fee", "refund_status", "result_msg", "send_listid", "send_time", "settlement_refund_fee", "state", "sub_order_id", "sub_order_no",
	"verify_department", "verify_department_trade_id",
}

// linkNames are the fields of what the merchant signs and its customers see.
// Source: WeChat Pay, 扫码支付模式一, 委托代扣 and 调起支付.
var linkNames = []string{
	"appId", "clientip", "contract_display_account", "deviceid", "nonceStr", "noncestr", "notify_url", "outerid", "package", "partnerid", "prepayid",
	"product_id", "return_app", "return_appid", "return_web", "signType", "timeStamp", "time_stamp", "timestamp",
}

// isOfReply reports whether a reply that is known here says this, numbered or not.
func isOfReply(name string) bool {
	plain := strings.TrimRight(name, "_0123456789")
	return slices.Contains(replyNames(), name) || slices.Contains(replyNames(), plain)
}

// replyNames are all fields that a reply to a row's call is known by.
var replyNames = sync.OnceValue(func() []string {
	names := slices.Concat(replyFields, repliesOnly)
	for _, call := range calls {
		names = slices.Concat(names, call.Answers, call.Echoes)
	}
	return names
})

// requestNames are all fields that a request of a row's, or a link, may have.
var requestNames = sync.OnceValue(func() []string {
	names := slices.Clone(linkNames)
	for _, call := range calls {
		for _, rule := range call.Rules {
			names = append(names, rule.Name)
		}
	}
	return names
})

// unknownNotice is what a merchant is told by fields that checkUnknown accepts and
// whose signature is right.
func unknownNotice(merchant *wepay.Merchant, fields wepay.Fields) (*wepay.Notification, error) {
	if err := checkOneReading(fields, func(string) bool { return false }); err != nil {
		return nil, err
	}
	told := &wepay.Notification{Kind: wepay.OtherEvent, Merchant: merchant, EventType: wepay.UnknownEvent, Fields: fields}
	if own := fields.Get(ownWord); own != "" { // which may be the word for something that is known
		told.EventType = eventType(word(wepay.UnknownEvent+"."+own), fields)
	}
	for _, field := range fields {
		if field.Name != "nonce_str" && field.Name != "sign" { // which may differ when it is sent again
			told.ID += field.Name + "\x00" + field.Value + "\x00"
		}
	}
	return told, nil
}
