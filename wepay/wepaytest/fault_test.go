package wepaytest_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/windsome/caddy-wepay/wepay"
	"github.com/windsome/caddy-wepay/wepay/apiv2"
	"github.com/windsome/caddy-wepay/wepay/wepaytest"
)

// Of each fault: what the client makes of it, and that the refund happened all
// the same, once, though it is asked for again.
func TestFaults(t *testing.T) {
	for name, c := range map[string]struct {
		fault   wepaytest.Fault
		err     error  // what the client's error wraps, nil for a refusal of WeChat's
		text    string // what it says
		verdict wepay.Verdict
	}{
		"cut off":         {wepaytest.Fault{Kind: wepaytest.CutOff}, wepay.ErrNoAnswer, "unexpected EOF", wepay.Query},
		"reset":           {wepaytest.Fault{Kind: wepaytest.Reset}, wepay.ErrNoAnswer, "reset", wepay.Query},
		"wrong signature": {wepaytest.Fault{Kind: wepaytest.WrongSignature}, wepay.ErrSignature, "", wepay.Query},
		"no signature":    {wepaytest.Fault{Kind: wepaytest.NoSignature}, wepay.ErrUnsigned, "", wepay.Query},
		"HTML":            {wepaytest.Fault{Kind: wepaytest.HTML}, wepay.ErrMalformed, `"200 OK"`, wepay.Query},
		"HTML of 502":     {wepaytest.Fault{Kind: wepaytest.HTML, Status: 502}, wepay.ErrNoAnswer, `502 (a page with the title "502 Bad Gateway")`, wepay.Query},
		"empty":           {wepaytest.Fault{Kind: wepaytest.EmptyBody}, wepay.ErrMalformed, "empty", wepay.Query},
		"truncated":       {wepaytest.Fault{Kind: wepaytest.TruncatedXML}, wepay.ErrMalformed, "", wepay.Query},
		"foreign":         {wepaytest.Fault{Kind: wepaytest.Foreign}, wepay.ErrForeign, "another mch_id", wepay.Query},
		"system error":    {wepaytest.Fault{Kind: wepaytest.Refused}, nil, "SYSTEMERROR 系统繁忙", wepay.Again},
		"any code":        {wepaytest.Fault{Kind: wepaytest.Refused, Code: "NOTENOUGH", Message: "余额不足"}, nil, "NOTENOUGH 余额不足", wepay.Later},
		"failed":          {wepaytest.Fault{Kind: wepaytest.Failed, Message: "签名错误"}, nil, "签名错误", wepay.Fix},
		"busy":            {wepaytest.Fault{Kind: wepaytest.Failed}, nil, "系统繁忙", wepay.Again},
	} {
		t.Run(name, func(t *testing.T) {
			s := newShop(t)
			s.pay("ORDER-0001", 100)
			in := refundOf("ORDER-0001", "R-1", 100, 30)
			// A connection of its own: on one used before, net/http itself
			// would ask again after a reset, and get the reply.
			s.client = newClient(t, s.wechat, s.merchant)
			s.wechat.Misbehave(refundPath, c.fault)
			got := s.refused(wepay.Refund, in)
			if c.err != nil && !errors.Is(got, c.err) || c.err == nil && got.Err != nil || !strings.Contains(got.Error(), c.text) || got.Verdict != c.verdict {
				t.Errorf("the client says %s: %v", got.Verdict, got)
			}
			want := wepaytest.Order{TradeState: "REFUND", Total: 100, Refunded: 30, Refunds: 1}
			for range 2 {
				state, _ := s.wechat.Order(mchID, "ORDER-0001")
				if state.TransactionID = ""; state != want {
					t.Errorf("the books have %+v, want %+v", state, want)
				}
				s.do(wepay.Refund, in) // the fault was for one reply
			}
		})
	}
}

func TestFaultWithoutEffect(t *testing.T) {
	s := newShop(t)
	s.pay("ORDER-0001", 100)
	s.wechat.Misbehave(refundPath, wepaytest.Fault{Kind: wepaytest.Refused, Code: "NOTENOUGH", NoEffect: true})
	if got := s.refused(wepay.Refund, refundOf("ORDER-0001", "R-1", 100, 30)); got.Code != "NOTENOUGH" {
		t.Errorf("got %v", got)
	}
	if state, _ := s.wechat.Order(mchID, "ORDER-0001"); state.Refunds != 0 {
		t.Errorf("the books have %+v", state)
	}
}

// The client gives up; the refund has happened.
func TestSlowForEver(t *testing.T) {
	s := newShop(t)
	s.pay("ORDER-0001", 100)
	s.wechat.Misbehave(refundPath, wepaytest.Fault{Kind: wepaytest.Slow})
	transport := wepay.NewTransport(s.merchant)
	transport.TLSClientConfig.RootCAs = s.wechat.RootCAs()
	defer transport.CloseIdleConnections()
	client := apiv2.NewClient(s.merchant, wepay.ClientOptions{Transport: transport, Timeout: 100 * time.Millisecond})
	_, err := client.Do(soon(t), wepay.Refund, refundOf("ORDER-0001", "R-1", 100, 30))
	if !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("the client says %v", err)
	}
	if state, _ := s.wechat.Order(mchID, "ORDER-0001"); state.Refunds != 1 {
		t.Errorf("the books have %+v", state)
	}
}

// refundsSlowly makes a refund that WeChat takes and answers a minute later.
func (s *shop) refundsSlowly() (ctx context.Context, done chan error) {
	s.pay("ORDER-0001", 100)
	s.wechat.Misbehave(refundPath, wepaytest.Fault{Kind: wepaytest.Slow, Delay: time.Minute})
	done = make(chan error, 1)
	go func() {
		_, err := s.client.Do(s.t.Context(), wepay.Refund, refundOf("ORDER-0001", "R-1", 100, 30))
		done <- err
	}()
	ctx = soon(s.t)
	for len(s.wechat.Requests(refundPath)) == 0 && ctx.Err() == nil {
		s.do(wepay.QueryOrder, query("ORDER-0001"))
	}
	return ctx, done
}

// A slow reply comes when the clock says so, and keeps no other waiting.
func TestSlowForAWhile(t *testing.T) {
	s := newShop(t)
	ctx, done := s.refundsSlowly()
	select {
	case err := <-done:
		t.Fatalf("the reply came before its time: %v", err)
	default:
	}
	for {
		s.clock.Advance(time.Minute) // again, should the reply not have begun to wait
		select {
		case err := <-done:
			if err != nil {
				t.Error(err)
			}
			return
		case <-ctx.Done():
			t.Fatal("the reply never came")
		default:
		}
	}
}

func TestSlowEndsWithTheServer(t *testing.T) {
	s := newShop(t)
	_, done := s.refundsSlowly()
	s.wechat.Close()
	if err := <-done; !errors.Is(err, wepay.ErrNoAnswer) {
		t.Errorf("the client says %v", err)
	}
}

func TestFaultsOfAPath(t *testing.T) {
	s := newShop(t)
	s.pay("ORDER-0001", 100)
	ask := func() string {
		_, err := s.client.Do(t.Context(), wepay.QueryOrder, query("ORDER-0001"))
		var refused *wepay.Error
		if errors.As(err, &refused) {
			return refused.Code
		}
		return ""
	}
	refused := func(code string, standing bool) wepaytest.Fault {
		return wepaytest.Fault{Kind: wepaytest.Refused, Code: code, Standing: standing}
	}
	s.wechat.Misbehave(orderPath, refused("OTHER", true))
	s.wechat.Misbehave(queryPath, refused("ONE", false))
	s.wechat.Misbehave("", refused("TWO", false))
	s.wechat.Misbehave(queryPath, refused("STANDING", true))
	for _, want := range []string{"ONE", "TWO", "STANDING", "STANDING"} {
		if got := ask(); got != want {
			t.Errorf("the query gives %q, want %q", got, want)
		}
	}
	s.wechat.Behave(queryPath)
	if got := ask(); got != "" {
		t.Errorf("after Behave the query gives %q", got)
	}
	if got := s.refused(wepay.PlaceOrder, order("ORDER-0002", 100)).Code; got != "OTHER" {
		t.Errorf("Behave of another path: the order gives %q", got)
	}
}
