package apiv2_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/windsome/caddy-wepay/wepay"
	"github.com/windsome/caddy-wepay/wepay/internal/endpoints"
)

// announced are the operations that Sending is called before, and the number that
// the request has for each.
var announced = map[wepay.Operation]string{
	wepay.PlaceOrder: "out_trade_no", wepay.Micropay: "out_trade_no", wepay.Refund: "out_refund_no",
	wepay.SendRedPacket: "mch_billno", wepay.SendGroupRedPacket: "mch_billno",
	wepay.Transfer: "partner_trade_no", wepay.PayBank: "partner_trade_no",
}

// sending records what Sending is called with, and how much WeChat has seen by then.
type sending struct {
	wechat    *wechat
	err       error
	ops       []wepay.Operation
	merchants []*wepay.Merchant
	requests  []wepay.Fields
	seen      int
}

func (s *sending) call(_ context.Context, m *wepay.Merchant, op wepay.Operation, request wepay.Fields) error {
	s.ops, s.merchants, s.requests = append(s.ops, op), append(s.merchants, m), append(s.requests, request)
	s.seen += s.seenBy()
	return s.err
}

// seenBy counts what WeChat was asked, but for the bank's key.
func (s *sending) seenBy() int { return len(s.wechat.asked()) - len(s.wechat.of(bankKeyPath)) }

// announcing makes the smallest request of an operation.
func announcing(t *testing.T, s *sending, m *wepay.Merchant, op wepay.Operation) error {
	t.Helper()
	stop := func(context.Context, time.Duration) error { return context.Canceled }
	c := client(t, m, wepay.ClientOptions{RiskEndpoint: m.Endpoints[0], Pause: stop, Sending: s.call})
	if isBill(op) {
		bill, err := c.Download(t.Context(), op, wepay.NewFields(rows[op].in))
		if err == nil {
			defer bill.Close()
		}
		return err
	}
	_, err := c.Do(t.Context(), op, wepay.NewFields(rows[op].in))
	return err
}

func TestSending(t *testing.T) {
	for op, row := range rows {
		t.Run(string(op), func(t *testing.T) {
			s := &sending{wechat: serve(t, withBankKey(row.good(op)))}
			m := able(t, s.wechat.URL)
			if err := announcing(t, s, m, op); err != nil {
				t.Fatal(err)
			}
			number, told := announced[op]
			if !told {
				if len(s.ops) > 0 {
					t.Errorf("called for %v", s.ops)
				}
				return
			}
			if len(s.ops) != 1 || s.ops[0] != op || s.seen != 0 {
				t.Fatalf("called for %v, after %d requests", s.ops, s.seen)
			}
			got := s.requests[0]
			for name, want := range map[string]string{number: row.in[number], "appid": m.AppID, "mch_id": m.MchID, "total_fee": row.in["total_fee"]} {
				if got.Get(name) != want {
					t.Errorf("%s is %q, want %q", name, got.Get(name), want)
				}
			}
			if got.Get("sign") != "" || got.Get("bank_no") != "" {
				t.Errorf("the request is %v", got)
			}
		})
	}
}

// A payment by code that WeChat does not know the outcome of is asked about and
// reversed, which is part of the one call.
func TestSendingOnce(t *testing.T) {
	s := &sending{wechat: serve(t, says(signed(reply(map[string]string{"result_code": "FAIL", "err_code": "USERPAYING"}), wepay.MD5, key)))}
	c := client(t, able(t, s.wechat.URL), wepay.ClientOptions{Pause: func(context.Context, time.Duration) error { return nil }, Sending: s.call})
	_, err := c.Do(t.Context(), wepay.Micropay, wepay.NewFields(rows[wepay.Micropay].in))
	wantError(t, err, wepay.Query)
	if len(s.ops) != 1 || s.seenBy() < 3 {
		t.Errorf("called for %v of %d requests", s.ops, s.seenBy())
	}
}

func TestSendingFails(t *testing.T) {
	cause := errors.New("the store is away")
	for op := range announced {
		t.Run(string(op), func(t *testing.T) {
			s := &sending{wechat: serve(t, withBankKey(rows[op].good(op))), err: cause}
			err := announcing(t, s, able(t, s.wechat.URL), op)
			failed := wantError(t, err, wepay.Again)
			if !errors.Is(err, cause) || !errors.Is(err, endpoints.ErrNotSent) || failed.Operation != op {
				t.Errorf("got %v", err)
			}
			if n := s.seenBy(); n != 0 || len(s.ops) != 1 {
				t.Errorf("WeChat was asked %d times, after %d calls", n, len(s.ops))
			}
		})
	}
}

// Nothing is announced that cannot be sent.
func TestSendingOfNothing(t *testing.T) {
	s := &sending{wechat: serve(t, says("")), err: errors.New("not to be called")}
	for _, op := range []wepay.Operation{wepay.Refund, wepay.PayBank, wepay.Transfer, wepay.SendRedPacket} {
		m := able(t, s.wechat.URL)
		m.Certificate = nil
		if err := announcing(t, s, m, op); !errors.Is(err, wepay.ErrNotAble) {
			t.Errorf("%s: got %v", op, err)
		}
	}
	if err := announcing(t, s, able(t, s.wechat.URL), wepay.PayBank); err == nil { // without the bank's key
		t.Error("paid without a key")
	}
	if len(s.ops) > 0 {
		t.Errorf("called for %v", s.ops)
	}
}

// A sub-merchant's order is announced with it, and what leaves the partner's own
// account without.
func TestSendingOfPartner(t *testing.T) {
	for op, sub := range map[wepay.Operation]string{
		wepay.PlaceOrder: "1900000209", wepay.Refund: "1900000209", wepay.SendRedPacket: "1900000209", wepay.Transfer: "", wepay.PayBank: "",
	} {
		s := &sending{wechat: serve(t, withBankKey(says("")))}
		m := able(t, s.wechat.URL)
		m.Type, m.SubMchID = wepay.Partner, "1900000209"
		_ = announcing(t, s, m, op) // which has no answer
		if len(s.ops) != 1 || s.merchants[0].SubMchID != sub || s.requests[0].Get("sub_mch_id") != sub {
			t.Errorf("%s: called with %v of %+v", op, s.requests, s.merchants)
		}
	}
}
