package apiv3_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/windsome/caddy-wepay/wepay"
	"github.com/windsome/caddy-wepay/wepay/apiv3"
	"github.com/windsome/caddy-wepay/wepay/internal/endpoints"
	"github.com/windsome/caddy-wepay/wepay/wepaytest"
)

// announced are the requests that Sending is called before, the number that each has,
// and whether it is of a partner's own account.
var announced = map[wepay.Operation]struct {
	in      wepay.Fields
	number  string
	account bool
}{
	wepay.PlaceOrder:   {with(order("ORDER-0001", "1200"), "time_expire", "20260101130000", "fee_type", "CNY"), "out_trade_no", false},
	wepay.CombineOrder: {combined("COMBINE-1", parts), "combine_out_trade_no", true},
	wepay.Refund:       {fields("out_trade_no", "PAID-1", "out_refund_no", "R-1", "total_fee", "1200", "refund_fee", "1"), "out_refund_no", false},
	wepay.Transfer:     {with(transfer("TR1", "250000"), "re_user_name", "张三"), "partner_trade_no", true},
	wepay.TransferBatch: {
		batch("250000", "1", `[{"out_detail_no":"D1","transfer_amount":250000,"transfer_remark":"奖金","openid":"`+openID+`","user_name":"张三"}]`),
		"out_batch_no", true,
	},
}

// sending is what Sending may be.
type sending func(context.Context, *wepay.Merchant, wepay.Operation, wepay.Fields) error

// newClient is a client that knows no key of WeChat's yet.
func (s *shop) newClient(call sending) *apiv3.Client {
	s.t.Helper()
	transport := wepay.NewTransport(s.merchant)
	transport.TLSClientConfig.RootCAs = s.wechat.RootCAs()
	s.t.Cleanup(transport.CloseIdleConnections)
	options := wepay.ClientOptions{Transport: transport, Now: s.clock.Now, Timeout: time.Minute, Sending: call}
	return apiv3.NewClient(s.merchant, apiv3.NewKeyRing(s.merchant, nil, options), options)
}

// rich is a shop with money and a paid order.
func rich(t *testing.T, w way) *shop {
	t.Helper()
	s := openShop(t, w)
	if err := s.wechat.Deposit(mchID, 1_000_000); err != nil {
		t.Fatal(err)
	}
	s.pay(order("PAID-1", "1200"))
	return s
}

// asked counts what WeChat was asked but for its keys.
func (s *shop) asked() int {
	return len(s.wechat.Requests("")) - len(s.wechat.Requests("/v3/certificates"))
}

func TestSending(t *testing.T) {
	for _, w := range ways {
		for op, test := range announced {
			t.Run(w.name+" "+string(op), func(t *testing.T) {
				s := rich(t, w)
				before, calls := s.asked(), 0
				sub := s.merchant.SubMchID
				if test.account {
					sub = ""
				}
				s.client = s.newClient(func(_ context.Context, m *wepay.Merchant, got wepay.Operation, request wepay.Fields) error {
					calls++
					if seen := s.asked() - before; got != op || seen != 0 || m.SubMchID != sub {
						t.Errorf("called for %s of %q after %d requests", got, m.SubMchID, seen)
					}
					check(t, request, test.number, test.in.Get(test.number), "appid", appID, "mch_id", mchID, "sub_mch_id", sub)
					for _, name := range []string{"total_fee", "fee_type", "time_expire", "sub_orders", "refund_fee", "amount", "total_amount"} {
						check(t, request, name, test.in.Get(name))
					}
					return nil
				})
				if _, err := s.client.Do(t.Context(), op, test.in); err != nil && !(w.partner && test.account) { // whom WeChat refuses here
					t.Error(err)
				}
				if calls != 1 || s.asked() != before+1 {
					t.Errorf("called %d times for %d requests", calls, s.asked()-before)
				}
			})
		}
	}
}

// What begins nothing is not announced.
func TestSendingOfQueries(t *testing.T) {
	s := rich(t, ways[0])
	s.client = s.newClient(func(_ context.Context, _ *wepay.Merchant, op wepay.Operation, _ wepay.Fields) error {
		t.Errorf("called for %s", op)
		return nil
	})
	s.do(wepay.QueryOrder, fields("out_trade_no", "PAID-1"))
	s.refused(wepay.CloseOrder, fields("out_trade_no", "PAID-1"), "ORDERPAID", wepay.Done)
}

func TestSendingFails(t *testing.T) {
	cause := errors.New("the store is away")
	s := rich(t, ways[0])
	for op, test := range announced {
		before, calls := s.asked(), 0
		c := s.newClient(func(context.Context, *wepay.Merchant, wepay.Operation, wepay.Fields) error {
			calls++
			return cause
		})
		_, did := c.Do(t.Context(), op, test.in)
		_, native := c.Native(t.Context(), op, test.in)
		for _, err := range []error{did, native} {
			failed := wantError(t, err, wepay.Again)
			if !errors.Is(err, cause) || !errors.Is(err, endpoints.ErrNotSent) || failed.Operation != op {
				t.Errorf("%s: got %v", op, err)
			}
		}
		if after := s.asked(); after != before || calls != 2 {
			t.Errorf("%s: WeChat was asked %d times, after %d calls", op, after-before, calls)
		}
	}
}

// Nothing is announced that cannot be sent: here there is no key to encrypt with.
func TestSendingOfNothing(t *testing.T) {
	s := rich(t, ways[0])
	s.wechat.Misbehave("/v3/certificates", wepaytest.Fault{Kind: wepaytest.Reset, Standing: true})
	for _, op := range []wepay.Operation{wepay.Transfer, wepay.TransferBatch} {
		c := s.newClient(func(context.Context, *wepay.Merchant, wepay.Operation, wepay.Fields) error {
			t.Errorf("called for %s", op)
			return nil
		})
		_, err := c.Do(t.Context(), op, announced[op].in)
		wantError(t, err, wepay.Again)
	}
}
