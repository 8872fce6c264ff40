package reconcile

import (
	"time"

	"github.com/windsome/caddy-wepay/caddymodule/store"
)

// Report is what came of reconciling one account's bill of one day. Nothing in it is
// personal. Amounts are fen, except fees.
type Report struct {
	MchID     string    `json:"mch_id"`
	Merchants []string  `json:"merchants"` // their names in the config
	Date      string    `json:"date"`      // such as 2026-11-29, in Beijing
	Made      time.Time `json:"made"`

	// NoBill says that WeChat has no bill of the day: nothing was traded. Offline says
	// that the bill came from a file, and that nothing was asked or handed over.
	NoBill  bool `json:"no_bill,omitempty"`
	Offline bool `json:"offline,omitempty"`

	// What the bill adds up to, orders of others on the account included. Settled is
	// what remains of an amount without the coupons that the merchant does not get the
	// money of. Fees are in 1/100000 yuan.
	Paid            Sum   `json:"paid"`
	PaidSettled     int64 `json:"paid_settled"`
	Refunded        Sum   `json:"refunded"`
	RefundedSettled int64 `json:"refunded_settled"`
	Revoked         Sum   `json:"revoked"` // payments by code that were taken back
	Fees            int64 `json:"fees"`

	// Of the payments and refunds in the bill: those that are known here, and those of
	// others on the same account. Unknown are trades in a state that WeChat does not
	// document.
	Matched        int `json:"matched"`
	Others         Sum `json:"others"`
	OthersRefunded Sum `json:"others_refunded"`
	Unknown        int `json:"unknown,omitempty"`

	// Unchecked are events of the day that this bill need not have, such as a refund
	// that was applied for on another day.
	Unchecked int `json:"unchecked,omitempty"`

	// Counts has how many findings there are of each kind, and Findings lists them, up
	// to MostFindings.
	Counts   map[FindingKind]int `json:"counts"`
	Findings []Finding           `json:"findings"`
}

// MostFindings is how many findings a report lists.
const MostFindings = 10_000

// Sum is how many there are and what they come to, in fen.
type Sum struct {
	Count int   `json:"count"`
	Fen   int64 `json:"fen"`
}

func (s *Sum) add(fen int64) {
	s.Count++
	s.Fen += fen
}

// Finding is a difference between the bill and what is known here.
type Finding struct {
	Kind     FindingKind `json:"finding"`
	Merchant string      `json:"merchant"`
	SubMchID string      `json:"sub_mch_id,omitempty"`
	Time     time.Time   `json:"time"` // of the trade, or as the event says it

	OutTradeNo    string `json:"out_trade_no,omitempty"`
	TransactionID string `json:"transaction_id,omitempty"`
	OutRefundNo   string `json:"out_refund_no,omitempty"`
	RefundID      string `json:"refund_id,omitempty"`

	// What each says; 0: it does not have it, or does not say.
	BillFen  int64 `json:"bill_fen,omitempty"`
	OrderFen int64 `json:"order_fen,omitempty"`
	EventFen int64 `json:"event_fen,omitempty"`

	OrderState store.OrderState `json:"order_state,omitempty"`
	EventID    string           `json:"event_id,omitempty"`
	EventState store.State      `json:"event_state,omitempty"`

	// Outcome is what came of handing it over; "": nothing was done.
	Outcome Outcome `json:"outcome,omitempty"`
}

// FindingKind is what differs.
type FindingKind string

// The kinds.
const (
	PaidNotHandedOver   FindingKind = "paid_not_handed_over"
	HandedOverNotInBill FindingKind = "handed_over_not_in_bill"
	AmountDiffers       FindingKind = "amount_differs"
	RefundNotHandedOver FindingKind = "refund_not_handed_over"
	RefundNotInBill     FindingKind = "refund_not_in_bill"
	RefundAmountDiffers FindingKind = "refund_amount_differs"
)

// FindingKinds are all of them, in the order of a report.
func FindingKinds() []FindingKind {
	return []FindingKind{PaidNotHandedOver, HandedOverNotInBill, AmountDiffers, RefundNotHandedOver, RefundNotInBill, RefundAmountDiffers}
}

// Outcome is what came of handing over what the bill has and the order service had not.
type Outcome string

// The outcomes.
const (
	HandedOver  Outcome = "handed_over" // its event is stored, and goes to the order service
	Recorded    Outcome = "recorded"    // its record says so now; no order service is told of such a thing
	Quarantined Outcome = "quarantined" // it contradicts its order
	Unconfirmed Outcome = "unconfirmed" // WeChat, when asked, does not say so
	NoAnswer    Outcome = "no_answer"   // WeChat gave no answer, and is asked again
	NotAsked    Outcome = "not_asked"   // offline
)

// find counts a finding, and lists it if there is room.
func (r *Report) find(f Finding) {
	r.Counts[f.Kind]++
	if len(r.Findings) < MostFindings {
		r.Findings = append(r.Findings, f)
	}
}

// All is how many findings there are.
func (r *Report) All() (findings int) {
	for _, count := range r.Counts {
		findings += count
	}
	return findings
}
