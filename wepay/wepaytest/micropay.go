package wepaytest

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"time"

	"github.com/windsome/caddy-wepay/wepay"
)

// ErrNotCode says that an order is no code payment.
var ErrNotCode = errors.New("no code payment")

// codeLife is how long a payer's code can be scanned.
const codeLife = time.Minute

// payerCode is what a payer shows to be scanned.
type payerCode struct {
	openid  string
	coupons []Coupon
	until   time.Time // of use; zero: as long as it likes
	used    bool
	account *account // the only one that can use it since its openid was requested

	asks    bool          // for the password
	after   time.Duration // until the payer decides; 0: by EnterPassword or CancelPassword
	pays    bool
	refusal string // the err_code that the payment gives
}

// CodeOption changes what becomes of a payment by a payer's code.
type CodeOption func(*payerCode)

// CodeCoupons pays a part with coupons. If they are worth more than the order,
// the payment fails.
func CodeCoupons(coupons ...Coupon) CodeOption {
	return func(c *payerCode) { c.coupons = slices.Clone(coupons) }
}

// AsksPassword has the payment wait, as USERPAYING, for EnterPassword or
// CancelPassword.
func AsksPassword() CodeOption {
	return func(c *payerCode) { c.asks = true }
}

// PaysAfter has the payment wait as AsksPassword does, and the payer enter the
// password when the server's clock has advanced by d, which is above 0.
func PaysAfter(d time.Duration) CodeOption {
	return func(c *payerCode) { c.asks, c.after, c.pays = true, d, true }
}

// FailsAfter has the payment wait as AsksPassword does, and fail when the
// server's clock has advanced by d, which is above 0.
func FailsAfter(d time.Duration) CodeOption {
	return func(c *payerCode) { c.asks, c.after, c.pays = true, d, false }
}

// CodeRefused has the payment refused with an err_code for the payer's sake:
// NOTENOUGH, NOTSUPORTCARD and the like.
func CodeRefused(code string) CodeOption {
	return func(c *payerCode) { c.refusal = code }
}

// ShowCode makes a payer show a code, which can be used once and for a minute. A
// well-formed code that was never shown works as well: the same payer always pays with
// it at once.
func (s *Server) ShowCode(openid string, options ...CodeOption) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	c := &payerCode{openid: openid, until: s.clock.Now().Add(codeLife)}
	for _, option := range options {
		option(c)
	}
	for {
		code := fmt.Sprintf("1%d%016d", rand.IntN(6), rand.Int64N(1e16))
		if _, taken := s.codes[code]; !taken {
			s.codes[code] = c
			return code
		}
	}
}

// EnterPassword makes the payer of a code payment enter the password. Code payments
// have no notification. The error wraps
// wepay.ErrNoMerchant, ErrNoOrder, ErrNotCode or ErrNotPayable.
func (s *Server) EnterPassword(mchID, outTradeNo string) error {
	return s.decide(mchID, outTradeNo, true)
}

// CancelPassword has the payer of a code payment give up, which makes it
// PAYERROR. Its errors are EnterPassword's.
func (s *Server) CancelPassword(mchID, outTradeNo string) error {
	return s.decide(mchID, outTradeNo, false)
}

func (s *Server) decide(mchID, number string, pays bool) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	b, o, err := s.codePayment(mchID, number)
	if err == nil && o.state != paying {
		err = fmt.Errorf("%w: its trade_state is %s", ErrNotPayable, o.state)
	}
	if err != nil {
		return fmt.Errorf("the password for %q of %q: %w", number, mchID, err)
	}
	s.decided(b, o, pays)
	return nil
}

// codePayment finds one that is not the sandbox's.
func (s *Server) codePayment(mchID, number string) (*books, *order, error) {
	a, found := s.accounts[mchID]
	if !found {
		return nil, nil, wepay.ErrNoMerchant
	}
	o, found := a.real.orders[number]
	switch {
	case !found:
		return nil, nil, ErrNoOrder
	case o.code == nil:
		return nil, nil, ErrNotCode
	default:
		return &a.real, o, nil
	}
}

// decided ends the wait for the password. What was reversed in the meantime
// stays so.
func (s *Server) decided(b *books, o *order, pays bool) {
	switch {
	case o.state != paying:
	case pays:
		s.settle(b, o, o.code.coupons, s.clock.Now())
	default:
		o.state = unpaid
	}
}

var micropayParams = slices.Concat(paymentParams, params{{name: "auth_code", required: true, max: 128}})

// chargeCode charges a code, once. A number that was used is answered with what
// became of it and never charged again, whatever code comes with it.
func (x *exchange) chargeCode() (wepay.Fields, *refusal) {
	number, request := x.in.Get("out_trade_no"), content(x.in)
	if o, found := x.books.orders[number]; found {
		return nil, x.charged(o, request)
	}
	if refused := checkExpiry(request, x.now); refused != nil {
		return nil, refused
	}
	code, refused := x.scan()
	if refused != nil {
		return nil, refused
	}
	code.used = true
	o := &order{request: request, json: x.json, state: paying, placedAt: x.now, signType: x.signType, code: code}
	x.books.orders[number] = o
	switch {
	case code.refusal != "":
		o.state = unpaid
		return nil, refuse(code.refusal, "支付失败")
	case worth(code.coupons) > o.total():
		o.state = unpaid
		return nil, refuse("TRADE_ERROR", "支付失败")
	case code.asks:
		x.server.awaitPayer(x.books, o)
		return nil, needsPassword()
	}
	x.server.settle(x.books, o, code.coupons, x.now)
	return o.outcome, nil
}

func needsPassword() *refusal { return refuse("USERPAYING", "需要用户输入支付密码") }

// awaitPayer has the payer decide when it is time, if that is by the clock.
func (s *Server) awaitPayer(b *books, o *order) {
	if o.code.after <= 0 {
		return
	}
	s.tasks.after(s.clock, o.code.after, func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.decided(b, o, o.code.pays)
	})
}

// charged says what became of a number that comes again.
func (x *exchange) charged(o *order, request wepay.Fields) *refusal {
	if !x.repeats(o, request) {
		return refuse("OUT_TRADE_NO_USED", "商户订单号重复")
	}
	switch o.at(x.now) {
	case paid, wasRefunded:
		return refuse("ORDERPAID", "该订单已支付")
	case paying:
		return needsPassword()
	case revoked:
		return refuse("ORDERREVERSED", "该订单已撤销")
	default:
		return refuse("OUT_TRADE_NO_USED", "商户订单号重复")
	}
}

// scan finds the code of a request. The documents do not distinguish WeChat's three
// errors for an unusable code: here a malformed code, or one bound to another merchant,
// is AUTH_CODE_INVALID, and one that was used or is too old AUTHCODEEXPIRE.
func (x *exchange) scan() (*payerCode, *refusal) {
	text := x.in.Get("auth_code")
	if len(text) != 18 || !digits(text) || text[0] != '1' || !strings.ContainsRune("012345", rune(text[1])) {
		return nil, refuse("AUTH_CODE_INVALID", "请扫描微信支付付款码")
	}
	c, found := x.server.codes[text]
	if !found {
		c = &payerCode{openid: payer}
		x.server.codes[text] = c
	}
	switch {
	case c.used || !c.until.IsZero() && x.now.After(c.until):
		return nil, refuse("AUTHCODEEXPIRE", "二维码已过期,请刷新再试")
	case c.account != nil && c.account != x.account:
		return nil, refuse("AUTH_CODE_INVALID", "请扫描微信支付付款码")
	default:
		return c, nil
	}
}
