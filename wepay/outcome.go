package wepay

import "context"

// Asker asks what became of a call that had a number of the merchant's. The clients
// of both APIs do.
type Asker interface {
	// Outcome asks about what an operation began under a number: an out_trade_no, an
	// out_refund_no, a partner_trade_no … SubMchID is of the sub-merchant that it was
	// for; "": none. The operation is PlaceOrder, Micropay, CombineOrder, Refund,
	// Transfer, TransferBatch, PayBank, SendRedPacket or SendGroupRedPacket.
	//
	// Only what WeChat signed is an outcome, except where it never signs. The error
	// is as Gateway's.
	Outcome(ctx context.Context, op Operation, number, subMchID string) (*Outcome, error)
}

// Outcome is what WeChat says became of a call.
type Outcome struct {
	State OutcomeState
	// Word is WeChat's own word for the state, such as NOTPAY, and Text what it says
	// more; "": nothing.
	Word, Text string
	// Fields are WeChat's answer under API v2's names, as Gateway.Do returns it; nil
	// where the number is Missing. Of a refund they are that refund's alone.
	Fields Fields
	// Notification is what WeChat notifies of it, made of the answer: its EventID and
	// its Payload's shape are the same. A payment by code has one, too. Nil where
	// nothing has happened that WeChat would notify of, and of other calls that it
	// notifies of nothing.
	Notification *Notification
}

// OutcomeState is what an Outcome comes to.
type OutcomeState string

// The states of an outcome.
const (
	Pending   OutcomeState = "pending"   // neither done nor given up yet
	Succeeded OutcomeState = "succeeded" // paid, refunded, transferred; an order stays it when it is refunded
	Closed    OutcomeState = "closed"    // it will not succeed any more: closed, reversed, expired, sent back
	Failed    OutcomeState = "failed"    // it did not succeed
	Abnormal  OutcomeState = "abnormal"  // a refund that needs a person (退款异常)
	Missing   OutcomeState = "missing"   // WeChat has no such number
)
