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
	OtherEvent      Kind = "event"            // any other, such as a complaint: EventType says which
)

// Kinds are all of them: those of both APIs, and then those of API v3 alone.
func Kinds() []Kind {
	return []Kind{Payment, Refunded, OtherEvent, CombinedPayment, Transferred, ProfitShared}
}

// Kinds returns the kinds that a merchant can receive.
func (m *Merchant) Kinds() []Kind {
	if m.Uses(V3) {
		return Kinds()
	}
	return Kinds()[:3]
}

// SecurityEchoed is the EventType of WeChat's own test of keys and callback, which is
// about nothing.
const SecurityEchoed = "SECURITY_ECHO.SUCCESS"

// UnknownEvent is the EventType of an OtherEvent that has no word, or none that can be
// passed on.
const UnknownEvent = "UNKNOWN"

// Notification is a verified notification, in one shape for both APIs.
type Notification struct {
	Kind     Kind
	Merchant *Merchant
	// EventType is WeChat's own word for it, such as TRANSACTION.SUCCESS; of API v2,
	// which has none, API v3's word for the same.
	EventType string
	// ID is what makes an OtherEvent unique: WeChat's own id of it, or what is in it.
	ID string
	// Fields are every field that WeChat signed, under API v2's names; of API v3
	// what has a name there, and of an OtherEvent the numbers alone that it can be
	// found by; of a refund of API v2 what WeChat answered about it.
	Fields Fields
	// Omitted says, for the log, which fields of API v2 are left out because WeChat's
	// figures contradict each other; usually "".
	Omitted string
	// Misfit says, for the log, why it is an OtherEvent although its EventType is of
	// another Kind; usually "".
	Misfit string
	// Resource is the content of a notification of API v3, as WeChat wrote it; nil
	// for API v2.
	Resource json.RawMessage
}

// Payload is what the order service gets, one JSON object: the fields, or for an
// OtherEvent, and for a merchant that wants it, WeChat's own resource of API v3. That
// of an OtherEvent may be another JSON value.
func (n *Notification) Payload() ([]byte, error) {
	if n.Resource != nil && (n.Kind == OtherEvent || n.Merchant.Payload == V3) {
		return n.Resource, nil
	}
	return n.Fields.MarshalJSON()
}

// EventID identifies what happened: it is the same however often WeChat sends the
// notification, and another when the outcome is another.
func (n *Notification) EventID() string {
	switch n.Kind {
	case OtherEvent:
		return n.event(n.Kind, n.EventType, n.ID)
	case Refunded:
		return n.event(n.Kind, n.Fields.Get("refund_id"), n.Fields.Get("refund_status"))
	case CombinedPayment:
		return n.event(n.Kind, n.Fields.Get("combine_out_trade_no"), n.Fields.Get("result_code"))
	case Transferred:
		return n.event(n.Kind, n.Fields.Get("transfer_bill_no"), n.Fields.Get("state"), n.Fields.Get("batch_id"), n.Fields.Get("batch_status"))
	case ProfitShared:
		return n.event(n.Kind, n.Fields.Get("order_id"), n.Fields.Get("out_order_no"), n.Fields.Get("event_type"),
			n.Fields.Get("receiver_type"), n.Fields.Get("receiver_account"), n.Fields.Get("receiver_amount"), n.Fields.Get("success_time"),
			n.Fields.Get("receiver_description"), n.Fields.Get("summary"),
			n.Fields.Get("out_return_no"), n.Fields.Get("return_no"), n.Fields.Get("return_id"))
	default:
		number, state := cmp.Or(n.Fields.Get("transaction_id"), n.Fields.Get("out_trade_no")), n.Fields.Get("trade_state")
		if state == "SUCCESS" { // which not every notification says of the same
			state = ""
		}
		return n.event(n.Kind, number, n.Fields.Get("result_code"), state)
	}
}

// PrecedingID returns the EventID of the payment that a refund gives back, which
// the order service has to get first; "" for other kinds.
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
	if kind == Payment || kind == Refunded { // other money of a partner's may be its own
		sub = cmp.Or(sub, n.Merchant.SubMchID)
	}
	for _, part := range append([]string{string(kind), n.Merchant.MchID, sub}, parts...) {
		// Each part ends with a byte that XML cannot carry, so that no two
		// lists of parts give the same text.
		hash.Write([]byte(part + "\x00"))
	}
	return "evt_" + hex.EncodeToString(hash.Sum(nil)[:16])
}
