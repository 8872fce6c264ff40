package wepay

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
)

// Kind is what a notification is about.
type Kind string

// The kinds.
const (
	Payment  Kind = "payment"
	Refunded Kind = "refund"
)

// Kinds are all the kinds there are.
var Kinds = []Kind{Payment, Refunded}

// Notification is what WeChat told a merchant, verified, in one shape for
// every version of the API.
type Notification struct {
	Kind     Kind
	Merchant *Merchant
	Fields   Fields // every field, as WeChat named and wrote it
}

// EventID names what happened: it is the same for one event however often
// WeChat tells of it, and another when the outcome is another.
func (n *Notification) EventID() string {
	switch n.Kind {
	case Refunded:
		return n.event(n.Kind, n.Fields.Get("refund_id"), n.Fields.Get("refund_status"))
	default:
		number := cmp.Or(n.Fields.Get("transaction_id"), n.Fields.Get("out_trade_no"))
		return n.event(n.Kind, number, n.Fields.Get("result_code"), n.Fields.Get("trade_state"))
	}
}

// PrecedingID is the EventID of what the order service is to hear of before
// this: of the payment that a refund gives back. It is "" for others.
func (n *Notification) PrecedingID() string {
	if n.Kind != Refunded {
		return ""
	}
	return n.event(Payment, n.Fields.Get("transaction_id"), "SUCCESS", "")
}

// event names one of the merchant's events.
func (n *Notification) event(kind Kind, parts ...string) string {
	hash := sha256.New()
	for _, part := range append([]string{string(kind), n.Merchant.MchID, cmp.Or(n.Fields.Get("sub_mch_id"), n.Merchant.SubMchID)}, parts...) {
		// Each part ends with a byte that XML cannot carry, so that no two
		// lists of parts give the same text.
		hash.Write([]byte(part + "\x00"))
	}
	return "evt_" + hex.EncodeToString(hash.Sum(nil)[:16])
}
