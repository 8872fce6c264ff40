package wepaytest

import (
	"cmp"
	"crypto/rand"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/windsome/caddy-wepay/wepay"
	"github.com/windsome/caddy-wepay/wepay/apiv2"
)

// Reasons that an order cannot be paid; find them with errors.Is.
var (
	ErrNoOrder    = errors.New("no such order")
	ErrNotPayable = errors.New("order not payable")
	ErrClosed     = errors.New("the server is closed")
)

// Types of coupons.
const (
	Cash   = "CASH"    // bought by the payer: the merchant settles it
	NoCash = "NO_CASH" // given away: the merchant does not get it
)

// Coupon is a coupon that pays a part of an order.
type Coupon struct {
	Type string // Cash or NoCash
	ID   string
	Fee  int64 // fen
}

// payment is how an order is paid and the merchant notified.
type payment struct {
	coupons   []Coupon
	extra     wepay.Fields
	inSandbox bool
	signType  bool

	members  []change
	envelope []change // to what the resource stands in
	abroad   *abroad
	fault    Fault

	wrongSignature, twice, held bool

	delay time.Duration
}

// PayOption changes how an order is paid, or what becomes of its notification.
type PayOption func(*payment)

// WithCoupons pays a part with coupons.
func WithCoupons(coupons ...Coupon) PayOption {
	return func(p *payment) { p.coupons = append(p.coupons, coupons...) }
}

// WithField adds a field to the notification, or replaces one, before it is signed: for
// fields that WeChat may add one day, or wrong values. In API v3 it is a member of the
// encrypted content.
func WithField(name, value string) PayOption {
	return func(p *payment) { p.extra.Set(name, value) }
}

// WithSignType names the algorithm in the notification, as WeChat does for
// some merchants. It is the order's in any case.
func WithSignType() PayOption {
	return func(p *payment) { p.signType = true }
}

// WithWrongSignature has the notification signed with a key that is not the
// merchant's.
func WithWrongSignature() PayOption {
	return func(p *payment) { p.wrongSignature = true }
}

// Duplicated has the notification sent twice at the same time, each time that
// it is sent, as WeChat does over two routes when the first looks lost.
func Duplicated() PayOption {
	return func(p *payment) { p.twice = true }
}

// Held has the notification wait for Delivery.Release. Releasing several in
// another order than they were paid in makes them come out of order.
func Held() PayOption {
	return func(p *payment) { p.held = true }
}

// Delayed has the notification be sent for the first time after a while, by the server's
// clock, unless it is held.
func Delayed(d time.Duration) PayOption {
	return func(p *payment) { p.delay = d }
}

// InSandbox pays an order of the sandbox.
func InSandbox() PayOption {
	return func(p *payment) { p.inSandbox = true }
}

// Pay pays an order, and notifies the merchant at the order's notify_url over the API
// that placed it. It returns when the first attempt has ended, whether the merchant
// accepted it or not; further ones follow by the server's clock. The error wraps
// wepay.ErrNoMerchant, ErrNoOrder, ErrNotPayable, ErrCombined, ErrNoAPIv3Key or
// ErrClosed.
func (s *Server) Pay(mchID, outTradeNo string, options ...PayOption) (*Delivery, error) {
	return notifying(options, fmt.Sprintf("paying %q of %q", outTradeNo, mchID), func(p payment) (*Delivery, error) {
		return s.pay(mchID, outTradeNo, p)
	})
}

// notifying does what has a notification, and sends that unless it is held. An error
// says what failed.
func notifying(options []PayOption, what string, do func(payment) (*Delivery, error)) (*Delivery, error) {
	var p payment
	for _, option := range options {
		option(&p)
	}
	d, err := do(p)
	switch {
	case err != nil:
		return nil, fmt.Errorf("%s: %w", what, err)
	case d == nil || p.held:
		return d, nil
	case p.delay > 0:
		d.releaseAfter(p.delay)
		return d, nil
	default:
		return d, d.Release()
	}
}

// pay changes the books and writes the notification.
func (s *Server) pay(mchID, outTradeNo string, p payment) (*Delivery, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := s.clock.Now()
	a, found := s.accounts[mchID]
	if !found {
		return nil, wepay.ErrNoMerchant
	}
	books, key := a.side(p.inSandbox, now)
	o, found := books.orders[outTradeNo]
	if !found {
		return nil, ErrNoOrder
	}
	if state := o.at(now); state != notPaid {
		return nil, fmt.Errorf("%w: its trade_state is %s", ErrNotPayable, state)
	}
	if err := s.mayPay(o); err != nil {
		return nil, err
	}
	if worth(p.coupons) > o.total() {
		return nil, fmt.Errorf("%w: the coupons are worth more", ErrNotPayable)
	}
	if o.json != "" && a.APIv3Key == "" {
		return nil, ErrNoAPIv3Key
	}
	if o.combined {
		return nil, ErrCombined
	}
	s.settle(books, o, p.coupons, now)
	if o.json != "" {
		return s.deliveryV3(a, o.payEvent(), p)
	}
	return s.delivery(o.request.Get("notify_url"), o.notification(p, key), p), nil
}

// mayPay says whether an order's payer is the one person who may pay it, if there is
// one.
func (s *Server) mayPay(o *order) error {
	name := o.request.Get("user_truename")
	if known, named := s.names[cmp.Or(o.request.Get("openid"), payer)]; name != "" && named && known != name {
		return fmt.Errorf("%w: another person alone may pay it", ErrNotPayable)
	}
	return nil
}

func worth(coupons []Coupon) int64 {
	var sum int64
	for _, coupon := range coupons {
		sum += coupon.Fee
	}
	return sum
}

// delivery is a notification that was not sent yet.
func (s *Server) delivery(to string, body []byte, p payment) *Delivery {
	copies := 1
	if p.twice {
		copies = 2
	}
	return &Delivery{server: s, url: to, body: body, copies: copies, retries: retries, lost: s.loses()}
}

// settle books the payment of an order that is not paid.
func (s *Server) settle(b *books, o *order, coupons []Coupon, now time.Time) {
	transactionID := s.nextNumber("4200000000", now)
	o.pay(transactionID, coupons, now)
	b.transactions[transactionID] = o
	b.trades = append(b.trades, trade{at: now, order: o})
	s.receive(b, o)
}

// pay records a payment for notification and query.
func (o *order) pay(transactionID string, coupons []Coupon, now time.Time) {
	o.state, o.paidAt, o.coupons = paid, now, slices.Clone(coupons)
	out := wepay.NewFields(map[string]string{
		"openid":         o.request.Get("openid"),
		"is_subscribe":   "N",
		"trade_type":     o.tradeType(),
		"bank_type":      "CMB_CREDIT",
		"total_fee":      o.request.Get("total_fee"),
		"fee_type":       "CNY",
		"transaction_id": transactionID,
		"out_trade_no":   o.number(),
		"time_end":       now.In(beijing).Format(timeFormat),
	})
	switch {
	case o.code != nil:
		out.Set("openid", o.code.openid)
	case out.Get("openid") == "":
		out.Set("openid", payer)
	}
	if o.request.Get("sub_appid") != "" {
		out.Set("sub_openid", o.request.Get("sub_openid"))
		out.Set("sub_is_subscribe", "N")
		if out.Get("sub_openid") == "" {
			out.Set("sub_openid", subPayer)
		}
	}
	for _, name := range []string{"attach", "device_info"} {
		if value, found := o.request.Lookup(name); found {
			out.Set(name, value)
		}
	}
	var all, given int64
	for i, coupon := range coupons {
		out.Set(fmt.Sprintf("coupon_type_%d", i), coupon.Type)
		out.Set(fmt.Sprintf("coupon_id_%d", i), coupon.ID)
		out.Set(fmt.Sprintf("coupon_fee_%d", i), text(coupon.Fee))
		all += coupon.Fee
		if coupon.Type == NoCash {
			given += coupon.Fee
		}
	}
	out.Set("cash_fee", text(o.total()-all))
	if len(coupons) > 0 {
		out.Set("coupon_fee", text(all))
		out.Set("coupon_count", text(int64(len(coupons))))
		out.Set("settlement_total_fee", text(o.total()-given))
	}
	o.outcome = out
}

// The openids of the payer of an order that names none.
const (
	payer    = "oUpF8uMuAJO_M2pxb1Q9zNjWeS6o"
	subPayer = "orM1B5QURRH3PAqNItiFpY-HAAAA"
)

// notification returns the notification, signed like the order.
func (o *order) notification(p payment, key string) []byte {
	fields := o.outcome.Clone()
	for _, name := range common.names() {
		if value := o.request.Get(name); value != "" {
			fields.Set(name, value)
		}
	}
	fields.Set("return_code", "SUCCESS")
	fields.Set("result_code", "SUCCESS")
	fields.Set("nonce_str", rand.Text())
	if p.signType {
		fields.Set("sign_type", string(o.signType))
	}
	if p.abroad != nil {
		p.abroad.v2(o.total(), &fields)
	}
	for _, field := range p.extra {
		fields.Set(field.Name, field.Value)
	}
	if p.wrongSignature {
		key = wrongKey
	}
	fields.Set("sign", apiv2.Sign(fields, o.signType, key))
	return encode("xml", fields, "")
}
