package wepaytest

import (
	"fmt"
	"time"

	"github.com/windsome/caddy-wepay/wepay"
)

// reversible is for how long a code payment can be reversed.
const reversible = 7 * 24 * time.Hour

// Recall has the next reversals of a code payment do nothing but ask to be
// called again, as often as times says. Its errors are EnterPassword's, without
// ErrNotPayable.
func (s *Server) Recall(mchID, outTradeNo string, times int) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	_, o, err := s.codePayment(mchID, outTradeNo)
	if err != nil {
		return fmt.Errorf("recalling %q of %q: %w", outTradeNo, mchID, err)
	}
	o.recall = times
	return nil
}

// reverseOrder reverses a code payment: one that is paid is refunded in full, any other
// can no longer be paid, and a reversed one stays reversed. One that was refunded or
// shared in part cannot be refunded in full; the documents have no code for it but
// TRADE_ERROR. They demand that a reversal comes no sooner than 15 s after the payment,
// but not how WeChat answers one that does.
func (x *exchange) reverseOrder() (wepay.Fields, *refusal) {
	if !digits(x.in.Get("transaction_id")) {
		return nil, refuse("INVALID_TRANSACTIONID", "无效transaction_id")
	}
	o, refused := x.find()
	switch {
	case refused != nil:
		return nil, refused
	case o.code == nil:
		return nil, refuse("INVALID_REQUEST", "非付款码支付订单,不支持撤销")
	case x.now.Sub(o.placedAt) > reversible:
		return nil, refuse("REVERSE_EXPIRE", "订单无法撤销,超过可撤销期限")
	case o.recall > 0:
		o.recall--
		return recall("Y"), nil
	}
	switch o.state {
	case wasRefunded:
		return nil, refuse("TRADE_ERROR", "订单发生过退款,不支持撤销")
	case paid:
		if o.shared > 0 {
			return nil, refuse("TRADE_ERROR", "订单已分账,不支持撤销")
		}
		if !x.books.covers(o, o.settled()) {
			return nil, poor()
		}
		x.server.giveBack(x.books, o, o.settled(), o.transactionID(), o.number())
		x.books.trades = append(x.books.trades, trade{at: x.now, order: o, reversed: true})
	}
	o.state = revoked
	return recall("N"), nil
}

func recall(value string) wepay.Fields { return wepay.Fields{{Name: "recall", Value: value}} }
