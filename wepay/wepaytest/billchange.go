package wepaytest

import (
	"fmt"

	"github.com/windsome/caddy-wepay/wepay"
)

// BillLine is a line of a bill of trades, as far as a test may change it.
type BillLine struct {
	TransactionID, OutTradeNo string
	RefundID, OutRefundNo     string // of a refund; "" of others

	Total    int64  // fen, of an order; 0 of a refund
	Refunded int64  // fen, of a refund or a reversal; 0 of others
	Fee      int64  // WeChat's, in hundred thousandths of a yuan; below 0 where it is returned
	Status   string // of a refund its refund_status, of others their trade_state
}

// ChangeBill has a merchant's bills of trades, over either API, tell something else than
// what happened: each line goes through change, which may change it, and leaves it out by
// returning false. The summary is that of the changed lines. Nil: bills are right. The
// function is called with the server locked, and must not call it. The error wraps
// wepay.ErrNoMerchant.
func (s *Server) ChangeBill(mchID string, change func(*BillLine) bool) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	a, found := s.accounts[mchID]
	if !found {
		return fmt.Errorf("the bills of %q: %w", mchID, wepay.ErrNoMerchant)
	}
	a.billChange = change
	return nil
}

// changed is a line as a test wants it, and whether there is one.
func (l line) changed(change func(*BillLine) bool) (line, bool) {
	if change == nil {
		return l, true
	}
	status := &l.state
	if l.refundID != "" {
		status = &l.refundState
	}
	b := BillLine{l.transactionID, l.number, l.refundID, l.refundNumber, l.total, l.applied, l.fee, *status}
	if !change(&b) {
		return l, false
	}
	l.settled += b.Total - l.total
	l.refunded += b.Refunded - l.applied
	l.transactionID, l.number, l.refundID, l.refundNumber = b.TransactionID, b.OutTradeNo, b.RefundID, b.OutRefundNo
	l.total, l.applied, l.fee, *status = b.Total, b.Refunded, b.Fee, b.Status
	return l, true
}
