package reconcile

import (
	"bytes"
	"crypto/sha256"
	"slices"
)

// number is a number of WeChat's or the merchant's, as short as memory wants it.
type number [16]byte

// The kinds of numbers.
const (
	paymentNumber = "payment" // a transaction_id
	refundNumber  = "refund"  // an out_refund_no
)

func numberOf(kind, text string) number {
	sum := sha256.Sum256([]byte(kind + "\x00" + text))
	return number(sum[:16])
}

// members are the numbers that a bill has.
type members []number

func (m *members) add(kind, text string) { *m = append(*m, numberOf(kind, text)) }

// sort makes has work.
func (m members) sort() { slices.SortFunc(m, compareNumbers) }

func (m members) has(kind, text string) bool {
	_, found := slices.BinarySearchFunc(m, numberOf(kind, text), compareNumbers)
	return found
}

func compareNumbers(a, b number) int { return bytes.Compare(a[:], b[:]) }
