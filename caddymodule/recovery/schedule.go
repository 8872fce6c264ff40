package recovery

import (
	"math/rand/v2"
	"time"

	"github.com/windsome/caddy-wepay/caddymodule/store"
	"github.com/windsome/caddy-wepay/wepay"
)

// Schedule is the waits before WeChat is asked about an order: the first begins when
// it is placed, and the last repeats until the order has ended.
type Schedule []time.Duration

// DefaultSchedule follows WeChat's advice, with a first wait in which most payments
// are notified.
// Source: WeChat Pay, 支付回调和查单实现指引.
var DefaultSchedule = Schedule{
	15 * time.Second, 30 * time.Second, time.Minute, 3 * time.Minute, 5 * time.Minute, 10 * time.Minute, 30 * time.Minute,
}

// What moves money and has no expiry is asked about for as long as WeChat answers,
// with waits that go on to double.
// Source: WeChat Pay, 查询付款 and 商家转账 (30 days).
const (
	longestWait = 6 * time.Hour
	longestLife = 30 * 24 * time.Hour
)

// codeTime is how long a payment by code may take to be answered, while the payer
// enters the password: whoever is answered then has no need of an event.
const codeTime = 2 * time.Minute

// expiryGrace is how long after its expiry an order is asked about for the last time.
const expiryGrace = time.Minute

// LongestWait is how far ahead an order may be due, at most.
func (s Schedule) LongestWait() time.Duration {
	longest := longestWait
	for _, wait := range s {
		longest = max(longest, wait)
	}
	return longest + longest/5
}

// postpone sets when an order is due next. Without a schedule nothing more is
// expected of it than what WeChat notifies of.
func (s Schedule) postpone(o *store.Order, now time.Time) {
	if len(s) == 0 {
		o.Due, o.Ended = time.Time{}, now
		return
	}
	wait := s[min(o.Asked, len(s)-1)]
	if o.Kind != store.Ordered && o.Kind != store.Combined {
		for range min(o.Asked-len(s)+1, 16) {
			wait = min(2*wait, max(longestWait, wait))
		}
	}
	switch {
	case o.Operation != wepay.Micropay:
	case o.State == store.OrderPlaced && o.Asked == 0:
		wait = max(wait, codeTime)
	case o.State == store.OrderUnknown && o.Asked < 9:
		wait = askSoon // a code that was not charged within 45 s is reversed
	}
	// More by up to a fifth, so that what was placed together is not asked about
	// together.
	o.Due = now.Add(wait + rand.N(wait/5+1))
	for _, at := range []time.Time{o.CloseAt, o.Expires} {
		if at.IsZero() {
			continue
		}
		if at.Equal(o.Expires) {
			at = at.Add(expiryGrace)
		}
		if at.After(now) && at.Before(o.Due) {
			o.Due = at
		}
	}
}

// over reports whether an order that has not been paid cannot be paid any more, or
// is older than WeChat answers questions about.
func over(o *store.Order, now time.Time) bool {
	if !o.Expires.IsZero() {
		return !now.Before(o.Expires.Add(expiryGrace))
	}
	return now.Sub(o.Placed) > longestLife
}
