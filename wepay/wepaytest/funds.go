package wepaytest

import (
	"fmt"
	"time"

	"github.com/windsome/caddy-wepay/wepay"
)

// Funds is the money of an account. Fees are not taken off it: the bills show
// them, and a test can tell the balance from the amounts alone.
type Funds struct {
	Available int64 // fen
	Frozen    int64 // fen, of orders to be shared
}

// Funds returns the money of a merchant, and whether there is that merchant. A
// partner's sub-merchants have theirs in the partner's account.
func (s *Server) Funds(mchID string) (Funds, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	a, found := s.accounts[mchID]
	if !found {
		return Funds{}, false
	}
	return Funds{a.real.available, a.real.frozen}, true
}

// Deposit puts money into a merchant's account, as from its bank. The error
// wraps wepay.ErrNoMerchant, or is a *wepay.FieldError for an amount below 1.
func (s *Server) Deposit(mchID string, fee int64) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	a, found := s.accounts[mchID]
	switch {
	case !found:
		return fmt.Errorf("depositing at %q: %w", mchID, wepay.ErrNoMerchant)
	case fee < 1:
		return fmt.Errorf("depositing at %q: %w", mchID, &wepay.FieldError{Field: "fee", Reason: "must be above 0"})
	}
	a.real.move(s, movement{kind: "充值", fee: fee})
	return nil
}

// funds are the money of an account in one world, and how it came about.
type funds struct {
	available, frozen int64
	movements         []movement // of what is available
}

// movement is a line of the account's journal.
type movement struct {
	at       time.Time
	number   string // WeChat's of what was done
	flow     string // WeChat's of the movement itself
	kind     string
	fee      int64 // below 0: paid out
	balance  int64 // afterwards
	merchant string
	voucher  string // the merchant's number of what was done
}

// move changes what is available. Whoever takes money out has seen that it is
// there.
func (b *books) move(s *Server, m movement) {
	if m.fee == 0 {
		return
	}
	b.available += m.fee
	m.at, m.balance = s.clock.Now(), b.available
	m.flow = s.nextNumber("1000", m.at)
	if m.number == "" {
		m.number = m.flow
	}
	b.movements = append(b.movements, m)
}

// freezeLife is for how long at most money is frozen.
const freezeLife = 30 * 24 * time.Hour

// receive books what an order brought: available, or frozen when the order is
// to be shared.
func (s *Server) receive(b *books, o *order) {
	if o.request.Get("profit_sharing") != "Y" {
		b.move(s, movement{number: o.transactionID(), kind: "交易", fee: o.settled(), voucher: o.number()})
		return
	}
	b.freeze(o, o.settled())
	s.tasks.after(s.clock, freezeLife, func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.unfreeze(b, o)
	})
}

func (b *books) freeze(o *order, fee int64) {
	o.frozen += fee
	b.frozen += fee
}

// unfreeze makes available what is left of an order's frozen money, after
// which it cannot be shared any more, and says how much that was.
func (s *Server) unfreeze(b *books, o *order) int64 {
	rest := o.frozen
	b.freeze(o, -rest)
	o.thawed = true
	b.move(s, movement{number: o.transactionID(), kind: "解冻", fee: rest, voucher: o.number()})
	return rest
}

// covers says whether an order's money can be given back: out of what is
// frozen of it, and out of the balance.
func (b *books) covers(o *order, fee int64) bool { return o.frozen+b.available >= fee }

// giveBack takes what a payer gets back out of the account.
func (s *Server) giveBack(b *books, o *order, fee int64, number, voucher string) {
	frozen := min(o.frozen, fee)
	b.freeze(o, -frozen)
	b.move(s, movement{number: number, kind: "退款", fee: frozen - fee, voucher: voucher})
}

func poor() *refusal { return refuse("NOTENOUGH", "基本账户余额不足,请充值后重新发起") }
