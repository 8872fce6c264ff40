package apiv2

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"sync"
	"time"

	"golang.org/x/sync/singleflight"

	"github.com/windsome/caddy-wepay/wepay"
)

// confirmTime is how long WeChat may take to confirm a refund: of the 5 seconds
// that it waits for an answer some are left to hand the event over.
const confirmTime = 3 * time.Second

// maxConfirmations bounds how many refunds of a merchant are asked about at
// once, whoever repeats its notifications.
const maxConfirmations = 16

// WeChat repeats a notification that was not taken, and anybody may. What it has
// confirmed is not asked about again for so long, and of so many refunds of a merchant.
const (
	confirmedTime = time.Hour
	maxConfirmed  = 1000
)

// confirmations are the questions about refunds that are under way: one for each
// refund, for all who wait for it.
type confirmations struct {
	flight singleflight.Group
	places chan struct{} // as many as there may be

	mu    sync.Mutex
	known map[string]confirmation // of refunds that will not change any more
}

type confirmation struct {
	refund wepay.Fields
	at     time.Time
}

// get returns what WeChat has confirmed of a refund; nil: nothing yet, or too long ago.
func (c *confirmations) get(key string, now time.Time) wepay.Fields {
	c.mu.Lock()
	defer c.mu.Unlock()
	if known := c.known[key]; now.Sub(known.at).Abs() < confirmedTime {
		return known.refund
	}
	return nil
}

// put keeps what WeChat has confirmed, unless it may change, in the place of what is
// old or of any other.
func (c *confirmations) put(key string, refund wepay.Fields, now time.Time) {
	if refund.Get("refund_status") == "CHANGE" {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.known) >= maxConfirmed {
		maps.DeleteFunc(c.known, func(_ string, known confirmation) bool { return now.Sub(known.at).Abs() >= confirmedTime })
	}
	for other := range c.known {
		if len(c.known) < maxConfirmed {
			break
		}
		delete(c.known, other)
	}
	if c.known == nil {
		c.known = make(map[string]confirmation)
	}
	c.known[key] = confirmation{refund, now}
}

// confirmRefund asks WeChat about a refund and returns what it says under the
// names of the notification. The question outlives a caller who gives up, for
// the others who wait; its own time ends it.
func (c *Client) confirmRefund(ctx context.Context, claimed claim, subMchID string) (wepay.Fields, error) {
	key := claimed.refundID + " " + subMchID
	if refund := c.refunds.get(key, c.options.Now()); refund != nil {
		return refund.Clone(), nil
	}
	confirmed := c.refunds.flight.DoChan(key, func() (any, error) {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), confirmTime)
		defer cancel()
		select {
		case c.refunds.places <- struct{}{}:
			defer func() { <-c.refunds.places }()
		case <-ctx.Done():
			return nil, errors.New("too many refunds are being asked about")
		}
		refund, err := c.queryRefund(ctx, claimed.refundID, subMchID)
		if err == nil {
			c.refunds.put(key, refund, c.options.Now())
		}
		return refund, err
	})
	select {
	case <-ctx.Done():
		return nil, fmt.Errorf("asking about a refund: %w", context.Cause(ctx))
	case result := <-confirmed:
		if result.Err != nil {
			return nil, result.Err
		}
		refund := result.Val.(wepay.Fields).Clone()
		// Only CHANGE is followed by another outcome. Where that is claimed and not
		// known yet, the notification has to come again.
		if refund.Get("refund_status") == "CHANGE" && claimed.status != "CHANGE" {
			return nil, errors.New("the refund has not ended as the notification says")
		}
		return refund, nil
	}
}

// queryRefund asks about one refund. A sub-merchant that it is of has to be in
// the answer.
func (c *Client) queryRefund(ctx context.Context, id, subMchID string) (wepay.Fields, error) {
	in := wepay.Fields{{Name: "refund_id", Value: id}}
	if subMchID != "" {
		in.Set("sub_mch_id", subMchID)
	}
	call := calls[wepay.QueryRefund]
	call.timeout = min(c.options.Timeout, confirmTime/2) // so that there is time for the next endpoint
	reply, err := c.call(ctx, wepay.QueryRefund, call, in)
	if err != nil {
		return nil, err
	}
	if reply.Get("sub_mch_id") != subMchID {
		return nil, fmt.Errorf("%w: the refund is of another sub_mch_id", wepay.ErrForeign)
	}
	for _, item := range reply.Numbered() {
		if item.Get("refund_id") == id {
			return refundOf(reply, item)
		}
	}
	return nil, errors.New("WeChat Pay's answer does not name the refund")
}

// The names under which a notification has what the answer to a query says of
// the order, and of the refund itself. Of refund_request_source it says nothing.
// Source: WeChat Pay, 查询退款 and 退款结果通知.
var (
	orderNames = []string{
		"appid", "mch_id", "out_trade_no", "return_code", "settlement_total_fee", "sub_appid", "sub_mch_id", "total_fee", "transaction_id",
	}
	refundNames = []string{
		"out_refund_no", "refund_account", "refund_fee", "refund_id", "refund_recv_accout", "refund_status", "settlement_refund_fee",
	}
)

// refundOf makes the content of a notification of what a query's answer says of
// an order and of one of its refunds.
func refundOf(order, item wepay.Fields) (wepay.Fields, error) {
	refund := make(wepay.Fields, 0, len(orderNames)+len(refundNames)+1)
	set := func(name, value string) {
		if value != "" {
			refund.Set(name, value)
		}
	}
	for _, name := range orderNames {
		set(name, order.Get(name))
	}
	for _, name := range refundNames {
		set(name, item.Get(name))
	}
	set("success_time", item.Get("refund_success_time"))
	// An answer has the two only where coupons were used that are not settled.
	set("settlement_total_fee", cmp.Or(order.Get("settlement_total_fee"), order.Get("total_fee")))
	set("settlement_refund_fee", cmp.Or(item.Get("settlement_refund_fee"), item.Get("refund_fee")))
	switch refund.Get("refund_status") {
	case "SUCCESS", "CHANGE", "REFUNDCLOSE":
	default:
		return nil, errors.New("the refund has not ended")
	}
	for _, name := range []string{"out_refund_no", "out_trade_no", "transaction_id"} {
		if refund.Get(name) == "" {
			return nil, fmt.Errorf("WeChat Pay's answer has no %s", name)
		}
	}
	if err := wepay.CheckRefund(refund); err != nil {
		return nil, fmt.Errorf("WeChat Pay's answer: %w", err)
	}
	return refund, nil
}
