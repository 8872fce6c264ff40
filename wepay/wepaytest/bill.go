package wepaytest

import (
	"cmp"
	"fmt"
	"iter"
	"strings"
	"time"

	"github.com/windsome/caddy-wepay/wepay"
)

// trade is what a bill has a line of: an order that was paid, a refund, or a
// code payment that was reversed.
type trade struct {
	at       time.Time
	order    *order
	refund   *refund
	reversed bool
}

const (
	// billReady is when, after midnight, the bill of the day before is there.
	billReady = 9 * time.Hour
	// billMonths is how many months bills are available.
	billMonths = 3
)

// DelayBills has a merchant's bills be in the making, for which WeChat answers
// Bill Creating. The error wraps wepay.ErrNoMerchant.
func (s *Server) DelayBills(mchID string, delayed bool) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	a, found := s.accounts[mchID]
	if !found {
		return fmt.Errorf("the bills of %q: %w", mchID, wepay.ErrNoMerchant)
	}
	a.billsDelayed = delayed
	return nil
}

// FillBill puts as many lines of trades that never were into a merchant's bill
// of a day, behind those that were. They are made while they are sent, so that
// a bill can be longer than memory. The error wraps wepay.ErrNoMerchant, or is
// a *wepay.FieldError for a day that is not written as bill_date is.
func (s *Server) FillBill(mchID, billDate string, lines int) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	a, found := s.accounts[mchID]
	if !found {
		return fmt.Errorf("the bills of %q: %w", mchID, wepay.ErrNoMerchant)
	}
	if !dayText(billDate) {
		return fmt.Errorf("the bills of %q: %w", mchID, &wepay.FieldError{Field: "bill_date", Reason: "must be a day such as 20060102"})
	}
	a.filled[billDate] = lines
	return nil
}

func dayText(value string) bool {
	_, err := time.Parse(dayFormat, value)
	return err == nil && len(value) == len(dayFormat)
}

var (
	billParams = params{
		{name: "bill_date", required: true, is: dayText},
		{name: "bill_type", is: word("ALL", "SUCCESS", "REFUND", "RECHARGE_REFUND")},
		{name: "tar_type", is: word("GZIP")},
		{name: "device_info", max: 32},
	}
	flowParams = params{
		{name: "bill_date", required: true, is: dayText},
		{name: "account_type", required: true, is: word("Basic", "Operation", "Fees")},
		{name: "tar_type", is: word("GZIP")},
	}
)

// Codes of the refusals of bills, which each call for a bill reports in its own way.
const (
	noBill       = "NO_BILL_EXIST"
	billCreating = "BILL_CREATING"
)

// billDay is the day of an available bill. There is none for a day that is not over,
// or whose bill is not ready or no longer available: the documents distinguish these
// from a day without trades only by the clock.
func (x *exchange) billDay() (begin, end time.Time, refused *refusal) {
	if x.account.billsDelayed {
		return begin, end, refuse(billCreating, "Bill Creating")
	}
	begin, _ = time.ParseInLocation(dayFormat, x.in.Get("bill_date"), beijing) // dayText has seen to it
	end = begin.AddDate(0, 0, 1)
	if x.now.Before(end.Add(billReady)) || x.now.After(end.AddDate(0, billMonths, 0)) {
		return begin, end, refuse(noBill, "No Bill Exist")
	}
	return begin, end, nil
}

// downloadBill is the bill of the trades of a day.
func (x *exchange) downloadBill() (wepay.Fields, *refusal) {
	begin, end, refused := x.billDay()
	if refused != nil {
		return nil, refused
	}
	kind := cmp.Or(x.in.Get("bill_type"), "ALL")
	var lines []line
	for _, t := range x.books.trades {
		if t.at.Before(begin) || !t.at.Before(end) || !x.wants(t, kind) {
			continue
		}
		if l, there := t.line().changed(x.account.billChange); there {
			lines = append(lines, l)
		}
	}
	filled := 0
	if kind == "ALL" || kind == "SUCCESS" {
		filled = x.account.filled[x.in.Get("bill_date")]
	}
	if len(lines)+filled == 0 {
		return nil, refuse(noBill, "No Bill Exist")
	}
	made := line{appID: x.in.Get("appid"), mchID: x.account.MchID}
	x.bill = &bill{
		gzip: x.in.Get("tar_type") == "GZIP", mark: x.server.marksBills,
		text: tradeText(billColumns(kind), func(yield func(line) bool) {
			for _, l := range lines {
				if !yield(l) {
					return
				}
			}
			fill(made, begin, filled)(yield)
		}, x.server.widensBills),
	}
	return nil, nil
}

// wants says whether a bill of a kind has a line of a trade.
func (x *exchange) wants(t trade, kind string) bool {
	for _, name := range []string{"sub_mch_id", "device_info"} {
		if value := x.in.Get(name); value != "" && value != t.order.request.Get(name) {
			return false
		}
	}
	switch kind {
	case "ALL":
		return true
	case "SUCCESS":
		return t.refund == nil && !t.reversed
	case "REFUND":
		return t.refund != nil
	default: // deposits are never paid back here
		return false
	}
}

// line is a trade in a bill, written while the books may change.
type line struct {
	at                      time.Time
	appID, mchID, subMchID  string
	device                  string
	transactionID, number   string
	openid, kind, state     string
	settled, coupons        int64
	refundID, refundNumber  string
	refunded, couponsBack   int64
	refundKind, refundState string
	refundedAt              time.Time // when it succeeded
	body, attach            string
	fee                     int64 // in hundred thousandths of a yuan
	total, applied          int64
}

// feeRate is WeChat's fee of a trade: 0.60 %, in hundred thousandths of a yuan for
// each fen.
const (
	feeRate = "0.60%"
	feeOf   = 6
)

// line is a refund in the order's line, without the order's amounts.
func (t trade) line() line {
	o := t.order
	l := line{
		at: t.at, appID: o.request.Get("appid"), mchID: o.request.Get("mch_id"), subMchID: o.request.Get("sub_mch_id"),
		device: o.request.Get("device_info"), transactionID: o.transactionID(), number: o.number(),
		openid: o.outcome.Get("openid"), kind: o.tradeType(), state: paid,
		body: o.request.Get("body"), attach: o.request.Get("attach"),
	}
	switch {
	case t.refund != nil:
		all, _ := t.refund.couponFee()
		l.state, l.refundKind, l.refundState = wasRefunded, "ORIGINAL", t.refund.status
		l.refundID, l.refundNumber, l.refundedAt = t.refund.id, t.refund.number, t.refund.finished
		l.refunded, l.couponsBack, l.applied = t.refund.settled(), all, t.refund.fee
		l.fee = -feeOf * l.refunded
	case t.reversed:
		l.state = revoked
		l.refunded, l.applied = o.settled(), o.total()
		l.fee = -feeOf * l.refunded
	default:
		l.settled, l.total = o.settled(), o.total()
		l.fee = feeOf * l.settled
		l.coupons = worth(o.coupons)
	}
	return l
}

// fill makes lines of trades that never were, each time the same.
func fill(like line, day time.Time, n int) iter.Seq[line] {
	return func(yield func(line) bool) {
		for i := range n {
			l := like
			l.at = day.Add(time.Duration(int64(i) % 86400 * int64(time.Second)))
			l.transactionID = fmt.Sprintf("4200000001%s%010d", day.Format(dayFormat), i)
			l.number = fmt.Sprintf("FILL-%010d", i)
			l.openid, l.kind, l.state = payer, "JSAPI", paid
			l.total = int64(i)%10_000 + 1
			l.settled, l.fee = l.total, feeOf*l.total
			l.body = "袜子, 一双"
			if !yield(l) {
				return
			}
		}
	}
}

// merchants keeps a value of the merchant's from ending its line, and writes its
// commas as WeChat does. Nothing else is escaped in bills.
var merchants = strings.NewReplacer("\r", " ", "\n", " ", ",", `\ `)
