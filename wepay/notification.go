package wepay

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
)

// Kind is what a notification is about.
type Kind string

// The kinds.
const (
	Payment         Kind = "payment"
	Refunded        Kind = "refund"
	CombinedPayment Kind = "combined_payment" // of several orders at once
	Transferred     Kind = "transfer"         // a transfer to a user, or a batch of them, has ended
	ProfitShared    Kind = "profit_sharing"   // a receiver got his share, or gave it back
)

// Kinds are all of them: the two of API v2, and then those of API v3 alone.
func Kinds() []Kind { return []Kind{Payment, Refunded, CombinedPayment, Transferred, ProfitShared} }

// Kinds are what a merchant can be told of.
func (m *Merchant) Kinds() []Kind {
	if m.Uses(V3) {
		return Kinds()
	}
	return Kinds()[:2]
}

// Notification is what WeChat told a merchant, verified, in one shape for
// every version of the API.
type Notification struct {
	Kind     Kind
	Merchant *Merchant
	// EventType is WeChat's own word for it, such as TRANSACTION.SUCCESS; "" in one
	// of API v2, which has none.
	EventType string
	// Fields are every field under API v2's names, as WeChat wrote it; of API v3
	// what has a name there.
	Fields Fields
	// Omitted says which fields of API v2 are left out, and why, where what WeChat
	// tells of them contradicts itself; mostly it is "". It is for the log.
	Omitted string
	// Resource is what a notification of API v3 tells, as WeChat wrote it; nil in
	// one of API v2.
	Resource json.RawMessage
}

// Payload is what the order service gets, one JSON object: the fields, or for a
// merchant that wants it WeChat's own resource of API v3.
func (n *Notification) Payload() ([]byte, error) {
	if n.Merchant.Payload == V3 && n.Resource != nil {
		return n.Resource, nil
	}
	return n.Fields.MarshalJSON()
}

// EventID names what happened: it is the same for one event however often
// WeChat tells of it, and another when the outcome is another.
func (n *Notification) EventID() string {
	switch n.Kind {
	case Refunded:
		return n.event(n.Kind, n.Fields.Get("refund_id"), n.Fields.Get("refund_status"))
	case CombinedPayment:
		return n.event(n.Kind, n.Fields.Get("combine_out_trade_no"), n.Fields.Get("result_code"))
	case Transferred:
		return n.event(n.Kind, n.Fields.Get("transfer_bill_no"), n.Fields.Get("state"), n.Fields.Get("batch_id"), n.Fields.Get("batch_status"))
	case ProfitShared:
		return n.event(n.Kind, n.Fields.Get("order_id"), n.Fields.Get("out_order_no"), n.Fields.Get("event_type"),
			n.Fields.Get("receiver_type"), n.Fields.Get("receiver_account"), n.Fields.Get("receiver_amount"), n.Fields.Get("success_time"))
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
	sub := n.Fields.Get("sub_mch_id")
	if kind == Payment || kind == Refunded { // a partner's other money may be its own
		sub = cmp.Or(sub, n.Merchant.SubMchID)
	}
	for _, part := range append([]string{string(kind), n.Merchant.MchID, sub}, parts...) {
		// Each part ends with a byte that XML cannot carry, so that no two
		// lists of parts give the same text.
		hash.Write([]byte(part + "\x00"))
	}
	return "evt_" + hex.EncodeToString(hash.Sum(nil)[:16])
}
