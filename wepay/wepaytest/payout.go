package wepaytest

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/windsome/caddy-wepay/wepay"
)

// ErrNoPayout says that there is no payout of a number.
var ErrNoPayout = errors.New("no such payout")

// The states of a payout. Red packets have further ones.
const (
	PayoutProcessing = "PROCESSING"
	PayoutSuccess    = "SUCCESS"
	PayoutFailed     = "FAILED"    // the merchant has the money back
	PayoutReturned   = "BANK_FAIL" // returned by the bank, maybe after it succeeded
)

// payoutKind is one of the three kinds of payouts: a number is unique within one.
type payoutKind string

const (
	redPacket    payoutKind = "现金红包"
	transfer     payoutKind = "企业付款到零钱"
	bankTransfer payoutKind = "企业付款到银行卡"
)

type payoutKey struct {
	kind   payoutKind
	number string
}

// payout is a payout from an account.
type payout struct {
	payoutKey
	id       string // WeChat's number
	request  wepay.Fields
	fee      int64 // what the payee gets
	charge   int64 // what WeChat takes
	status   string
	reason   string
	at       time.Time
	finished time.Time

	packet *packet // of red packets alone
	payee  payee   // of bank transfers alone
}

// payoutAge is how long a payout can be queried.
const payoutAge = 30 * 24 * time.Hour

// PayoutsWait has a merchant's red packets and transfers stay under way, where
// they otherwise arrive at once, until FinishRedPacket and FinishTransfer say
// what becomes of them. Transfers to a bank always wait.
func (s *Server) PayoutsWait(mchID string, wait bool) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	a, found := s.accounts[mchID]
	if !found {
		return fmt.Errorf("the payouts of %q: %w", mchID, wepay.ErrNoMerchant)
	}
	a.payoutsWait = wait
	return nil
}

// FinishTransfer ends a transfer to a wallet that waits, as PayoutSuccess or
// PayoutFailed. The error wraps wepay.ErrNoMerchant, ErrNoPayout, ErrStatus or
// ErrFinished.
func (s *Server) FinishTransfer(mchID, partnerTradeNo, status, reason string) error {
	return s.finishPayout(mchID, payoutKey{transfer, partnerTradeNo}, status, reason)
}

// finishPayout ends a payout, and returns the money of one that failed.
func (s *Server) finishPayout(mchID string, key payoutKey, status, reason string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	a, found := s.accounts[mchID]
	if !found {
		return fmt.Errorf("ending payout %q of %q: %w", key.number, mchID, wepay.ErrNoMerchant)
	}
	p, found := a.real.payouts[key]
	var err error
	switch {
	case !found:
		err = ErrNoPayout
	case !slices.Contains(ends[key.kind], status):
		err = fmt.Errorf("%w: %q", ErrStatus, status)
	case p.waits() || p.status == PayoutSuccess && status == PayoutReturned:
		s.endPayout(&a.real, p, status, reason)
	default:
		err = fmt.Errorf("%w: its status is %s", ErrFinished, p.status)
	}
	if err != nil {
		return fmt.Errorf("ending payout %q of %q: %w", key.number, mchID, err)
	}
	return nil
}

// ends are the final states of payouts.
var ends = map[payoutKind][]string{
	redPacket:    {packetSent, PayoutFailed},
	transfer:     {PayoutSuccess, PayoutFailed},
	bankTransfer: {PayoutSuccess, PayoutFailed, PayoutReturned},
}

func (p *payout) waits() bool { return p.status == PayoutProcessing || p.status == packetSending }

func (s *Server) endPayout(b *books, p *payout, status, reason string) {
	p.status, p.reason, p.finished = status, reason, s.clock.Now()
	switch status {
	case PayoutFailed, PayoutReturned:
		b.move(s, movement{number: p.id, kind: string(p.kind) + "退回", fee: p.fee + p.charge, voucher: p.number})
	case packetSent:
		s.expirePacket(b, p)
	}
}

// payOut pays out once for every number, and finds what a number is that comes
// again. What was refused leaves no trace, so that the number can be sent
// again.
func (x *exchange) payOut(p *payout) (*payout, *refusal) {
	if known, found := x.books.payouts[p.payoutKey]; found {
		switch {
		case !slices.Equal(known.request, p.request) || known.payee != p.payee:
			return nil, refuse("FATAL_ERROR", "此单号已有请求,参数与之前不一致")
		case known.status == PayoutFailed || known.status == PayoutReturned:
			return nil, refuse("SEND_FAILED", "付款失败,请换单号重试")
		}
		return known, nil
	}
	if x.books.available < p.fee+p.charge {
		return nil, poor()
	}
	p.id = x.server.nextNumber("1000000000", x.now)
	p.at = x.now
	x.books.payouts[p.payoutKey] = p
	x.books.move(x.server, movement{number: p.id, kind: string(p.kind), fee: -p.fee - p.charge, voucher: p.number})
	return p, nil
}

// findPayout finds a payout that is not too old to be queried.
func (x *exchange) findPayout(kind payoutKind, name string) (*payout, *refusal) {
	p, found := x.books.payouts[payoutKey{kind, x.in.Get(name)}]
	if !found || x.now.Sub(p.at) > payoutAge {
		return nil, refuse("NOT_FOUND", "指定单号数据不存在")
	}
	return p, nil
}

// NamePayee sets the real name of a user, which a transfer with FORCE_CHECK is compared
// with, and an order that one person alone may pay. Without one any name matches.
func (s *Server) NamePayee(openid, name string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.names[openid] = name
}
