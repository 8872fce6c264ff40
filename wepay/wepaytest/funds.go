package wepaytest

import (
	"fmt"
	"time"

	"github.com/windsome/caddy-wepay/wepay"
)

// Funds is the balance of an account. Fees are not deducted: bills show them, and tests
// can compute the balance from the amounts.
type Funds struct {
	Available int64 // fen
	Frozen    int64 // fen, of orders to be shared
}

// Funds returns a merchant's balance, and whether there is that merchant. The balances
// of sub-merchants are part of their partner's.
func (s *Server) Funds(mchID string) (Funds, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	a, found := s.accounts[mchID]
	if !found {
		return Funds{}, false
	}
	return Funds{a.real.available, a.real.frozen}, true
}

// Deposit deposits money in a merchant's account, as from its bank. The error wraps
// wepay.ErrNoMerchant, or is a *wepay.FieldError for an amount below 1.
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

// funds are the balance of an account, real or in the sandbox, and its movements.
type funds struct {
	available, frozen int64
	movements         []movement // of the available balance
}

// movement is a line of the account's journal.
type movement struct {
	at       time.Time
	number   string // WeChat's number of the transaction
	flow     string // WeChat's of the movement itself
	kind     string
	fee      int64 // below 0: paid out
	balance  int64 // afterwards
	merchant string
	voucher  string // the merchant's number of the transaction
}

// move changes the available balance. Callers check that it suffices.
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

// freezeLife is how long money is frozen at most.
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

// unfreeze makes the rest of an order's frozen money available, after which it cannot
// be shared any more, and returns the amount.
func (s *Server) unfreeze(b *books, o *order) int64 {
	rest := o.frozen
	b.freeze(o, -rest)
	o.thawed = true
	b.move(s, movement{number: o.transactionID(), kind: "解冻", fee: rest, voucher: o.number()})
	return rest
}

// covers reports whether an order's frozen money and the balance suffice for a
// refund.
func (b *books) covers(o *order, fee int64) bool { return o.frozen+b.available >= fee }

// giveBack takes what a payer gets back out of the account.
func (s *Server) giveBack(b *books, o *order, fee int64, number, voucher string) {
	frozen := min(o.frozen, fee)
	b.freeze(o, -frozen)
	b.move(s, movement{number: number, kind: "退款", fee: frozen - fee, voucher: voucher})
}

func poor() *refusal { return refuse("NOTENOUGH", "基本账户余额不足,请充值后重新发起") }
