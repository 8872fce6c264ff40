package wepaytest_test

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/windsome/caddy-wepay/wepay"
	"github.com/windsome/caddy-wepay/wepay/apiv2"
	"github.com/windsome/caddy-wepay/wepay/wepaytest"
)

// verified reads a notification as the merchant does.
func (s *shop) verified(d *wepaytest.Delivery) wepay.Fields {
	s.t.Helper()
	unverified, err := apiv2.ReadNotification(d.Body())
	if err != nil {
		s.t.Fatal(err)
	}
	n, err := s.client.Verify(s.t.Context(), unverified)
	if err != nil {
		s.t.Fatal(err)
	}
	return n.Fields
}

func TestNotification(t *testing.T) {
	for _, signType := range []wepay.SignType{wepay.MD5, wepay.HMACSHA256} {
		s := newShop(t, func(m *wepay.Merchant) { m.SignType = signType })
		d := s.pay("ORDER-0001", 1200)
		got := s.verified(d)
		check(t, got, map[string]string{
			"return_code": "SUCCESS", "result_code": "SUCCESS", "appid": appID, "mch_id": mchID,
			"openid": openID, "is_subscribe": "N", "trade_type": "JSAPI", "bank_type": "CMB_CREDIT",
			"total_fee": "1200", "cash_fee": "1200", "fee_type": "CNY", "out_trade_no": "ORDER-0001",
			"attach": "shelf <7>", "time_end": "20260101200000",
		})
		for _, name := range []string{"sign_type", "coupon_fee", "settlement_total_fee", "sub_mch_id", "trade_state"} {
			if _, found := got.Lookup(name); found {
				t.Errorf("an ordinary notification has %s", name)
			}
		}
		if want := len(apiv2.Sign(nil, signType, key)); len(got.Get("sign")) != want {
			t.Errorf("the notification of an order by %s is signed %s", signType, got.Get("sign"))
		}
		body := string(d.Body())
		for _, want := range []string{"<attach><![CDATA[shelf <7>]]></attach>\n", "<total_fee>1200</total_fee>\n", "<cash_fee><![CDATA[1200]]></cash_fee>\n"} {
			if !strings.Contains(body, want) {
				t.Errorf("no %q in %s", want, body)
			}
		}
		if received := s.notified.received(); len(received) != 1 || string(received[0]) != body {
			t.Errorf("received %q", received)
		}
		for name, want := range map[string]string{
			"Content-Type": "text/xml", "User-Agent": "Mozilla/4.0", "Accept": "*/*", "Pragma": "no-cache", "Accept-Encoding": "",
		} {
			if got := s.notified.header.Get(name); got != want {
				t.Errorf("%s is %q, want %q", name, got, want)
			}
		}
	}
}

func TestPayOptions(t *testing.T) {
	s := newShop(t)
	d := s.pay("ORDER-0001", 1200, wepaytest.WithSignType(), wepaytest.WithField("new_field_of_2031", "x ]]> \r y"))
	check(t, s.verified(d), map[string]string{"sign_type": "MD5", "new_field_of_2031": "x ]]> \r y"})

	d = s.pay("ORDER-0002", 1200, wepaytest.WithWrongSignature())
	unverified, err := apiv2.ReadNotification(d.Body())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.client.Verify(s.t.Context(), unverified); !errors.Is(err, wepay.ErrSignature) {
		t.Errorf("the wrong signature gives %v", err)
	}
}

func TestCoupons(t *testing.T) {
	s := newShop(t)
	d := s.pay("ORDER-0001", 1000, wepaytest.WithCoupons(
		wepaytest.Coupon{Type: wepaytest.Cash, ID: "10001", Fee: 66},
		wepaytest.Coupon{Type: wepaytest.NoCash, ID: "10002", Fee: 34},
	))
	want := map[string]string{
		"total_fee": "1000", "cash_fee": "900", "coupon_fee": "100", "coupon_count": "2", "settlement_total_fee": "966",
		"coupon_type_0": "CASH", "coupon_id_0": "10001", "coupon_fee_0": "66",
		"coupon_type_1": "NO_CASH", "coupon_id_1": "10002", "coupon_fee_1": "34",
	}
	check(t, s.verified(d), want)
	check(t, s.do(wepay.QueryOrder, query("ORDER-0001")), want)

	// Rounding loses nothing: the refunds together give back each part whole.
	check(t, s.do(wepay.Refund, refundOf("ORDER-0001", "R-1", 1000, 333)), map[string]string{
		"cash_refund_fee": "301", "coupon_refund_fee": "32", "coupon_refund_count": "2",
		"coupon_refund_fee_0": "21", "coupon_refund_fee_1": "11", "coupon_refund_id_1": "10002", "settlement_refund_fee": "322",
	})
	check(t, s.do(wepay.Refund, refundOf("ORDER-0001", "R-2", 1000, 667)), map[string]string{
		"cash_refund_fee": "599", "coupon_refund_fee": "68",
		"coupon_refund_fee_0": "45", "coupon_refund_fee_1": "23", "settlement_refund_fee": "644",
	})
}

func TestPayRefuses(t *testing.T) {
	s := newShop(t)
	s.pay("PAID-0001", 100)
	s.do(wepay.PlaceOrder, order("OPEN-0001", 100))
	for _, c := range []struct {
		mchID, number string
		option        wepaytest.PayOption
		want          error
	}{
		{"1", "OPEN-0001", wepaytest.Held(), wepay.ErrNoMerchant},
		{mchID, "NONE-0001", wepaytest.Held(), wepaytest.ErrNoOrder},
		{mchID, "PAID-0001", wepaytest.Held(), wepaytest.ErrNotPayable},
		{mchID, "OPEN-0001", wepaytest.InSandbox(), wepaytest.ErrNoOrder},
		{mchID, "OPEN-0001", wepaytest.WithCoupons(wepaytest.Coupon{Fee: 101}), wepaytest.ErrNotPayable},
	} {
		if _, err := s.wechat.Pay(c.mchID, c.number, c.option); !errors.Is(err, c.want) {
			t.Errorf("paying %s of %s gives %v, want %v", c.number, c.mchID, err, c.want)
		}
	}
	if got, _ := s.wechat.Order(mchID, "OPEN-0001"); got.TradeState != "NOTPAY" {
		t.Errorf("a payment that was refused left %+v", got)
	}
}

// Sixteen sends over 24 hours and 4 minutes, at WeChat's times, then no more.
func TestRetrySchedule(t *testing.T) {
	s := newShop(t)
	s.notified.reply("<xml><return_code>FAIL</return_code></xml>")
	d := s.pay("ORDER-0001", 100)
	if got := len(d.Attempts()); got != 1 {
		t.Fatalf("Pay made %d attempts", got)
	}
	s.clock.Advance(15*time.Second - time.Nanosecond)
	if got := len(d.Attempts()); got != 1 {
		t.Errorf("the second attempt came before 15 s were over")
	}
	s.clock.Advance(7 * 24 * time.Hour)
	var at []time.Duration
	for _, a := range d.Attempts() {
		at = append(at, a.At.Sub(start))
		if a.Taken || a.Status != http.StatusOK || a.Err != nil {
			t.Errorf("attempt %+v", a)
		}
	}
	const s1, m, h = time.Second, time.Minute, time.Hour
	want := []time.Duration{
		0, 15 * s1, 30 * s1, m, 4 * m, 14 * m, 34 * m, 64 * m, 94 * m, 124 * m,
		184 * m, 184*m + 3*h, 184*m + 6*h, 184*m + 9*h, 184*m + 15*h, 184*m + 21*h,
	}
	if !slices.Equal(at, want) {
		t.Errorf("sent at\n%v, want\n%v", at, want)
	}
	if last := at[len(at)-1]; last != 24*h+4*m {
		t.Errorf("the last attempt is at %v", last)
	}
	if d.Taken() || len(s.notified.received()) != 16 {
		t.Errorf("%d were received, taken: %v", len(s.notified.received()), d.Taken())
	}
}

func TestRetriesEndWhenTaken(t *testing.T) {
	s := newShop(t)
	s.notified.reply("")
	d := s.pay("ORDER-0001", 100)
	s.clock.Advance(15 * time.Second)
	s.notified.reply(thanks)
	s.clock.Advance(15 * time.Second)
	if got := d.Attempts(); len(got) != 3 || !got[2].Taken || !d.Taken() {
		t.Fatalf("attempts: %+v", got)
	}
	s.clock.Advance(48 * time.Hour)
	if got := d.Attempts(); len(got) != 3 {
		t.Errorf("taken it was sent again: %+v", got)
	}
	if err := d.Repeat(); err != nil || len(s.notified.received()) != 4 {
		t.Errorf("Repeat gives %v and %d in all", err, len(s.notified.received()))
	}

	s.notified.reply("")
	d = s.pay("ORDER-0002", 100)
	s.notified.reply(thanks)
	if err := d.Repeat(); err != nil {
		t.Fatal(err)
	}
	s.clock.Advance(48 * time.Hour)
	if got := d.Attempts(); len(got) != 2 {
		t.Errorf("taken when repeated it was sent again: %+v", got)
	}
}

func TestWhatCountsAsTaken(t *testing.T) {
	text := func(status int, answer string) func(http.ResponseWriter, *http.Request) {
		return func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(status)
			_, _ = io.WriteString(w, answer)
		}
	}
	for name, c := range map[string]struct {
		answer func(http.ResponseWriter, *http.Request)
		want   bool
	}{
		"WeChat's own text":   {text(200, thanks), true},
		"no return_msg":       {text(200, "<xml><return_code>SUCCESS</return_code></xml>"), true},
		"lines inside":        {text(200, "<xml>\n<return_code>SUCCESS</return_code>\n</xml>"), true},
		"a line end after":    {text(200, thanks+"\n"), false},
		"a byte order mark":   {text(200, "\uFEFF"+thanks), false},
		"something before":    {text(200, "debug"+thanks), false},
		"something after":     {text(200, thanks+"<html></html>"), false},
		"a declaration":       {text(200, `<?xml version="1.0"?>`+thanks), false},
		"another field":       {text(200, strings.Replace(thanks, "</xml>", "<a>b</a></xml>", 1)), false},
		"a long return_msg":   {text(200, strings.Replace(thanks, "OK", strings.Repeat("x", 129), 1)), false},
		"refused":             {text(200, strings.Replace(thanks, "SUCCESS", "FAIL", 1)), false},
		"lower case":          {text(200, strings.Replace(thanks, "SUCCESS", "success", 1)), false},
		"a word":              {text(200, "SUCCESS"), false},
		"nothing":             {text(200, ""), false},
		"very much":           {text(200, thanks+strings.Repeat(" ", 1<<20)), false},
		"HTTP status 201":     {text(201, thanks), false},
		"HTTP status 500":     {text(500, thanks), false},
		"a redirect":          {func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, "/taken", http.StatusFound) }, false},
		"a broken connection": {func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }, false},
	} {
		t.Run(name, func(t *testing.T) {
			s := newShop(t)
			s.notified.answers(c.answer)
			if d := s.pay("ORDER-0001", 100); d.Taken() != c.want {
				t.Errorf("taken: %v; %+v", d.Taken(), d.Attempts())
			}
			if got := len(s.notified.received()); got != 1 {
				t.Errorf("received %d times", got)
			}
		})
	}
}

// A merchant that does not answer in time has not taken it.
func TestNotifyTimeout(t *testing.T) {
	s := newShopAt(t, newServer(t, wepaytest.WithNotifyTimeout(20*time.Millisecond)))
	s.notified.answers(func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() })
	d := s.pay("ORDER-0001", 100)
	if got := d.Attempts(); len(got) != 1 || !errors.Is(got[0].Err, context.DeadlineExceeded) || got[0].Status != 0 || got[0].Taken {
		t.Errorf("attempts: %+v", got)
	}
}

// Close does not wait for a merchant that does not answer.
func TestCloseEndsNotifications(t *testing.T) {
	s := newShopAt(t, newServer(t, wepaytest.WithNotifyTimeout(time.Hour)))
	arrived := make(chan struct{})
	s.notified.answers(func(_ http.ResponseWriter, r *http.Request) {
		close(arrived)
		<-r.Context().Done()
	})
	go func() {
		<-arrived
		s.wechat.Close()
	}()
	d := s.pay("ORDER-0001", 100)
	if got := d.Attempts(); len(got) != 1 || !errors.Is(got[0].Err, context.Canceled) {
		t.Errorf("attempts: %+v", got)
	}
}

// Both copies are in the merchant's hands at once.
func TestDuplicated(t *testing.T) {
	s := newShop(t)
	ctx := soon(t)
	arrived := make(chan struct{}, 2)
	both := make(chan struct{})
	s.notified.answers(func(w http.ResponseWriter, _ *http.Request) {
		arrived <- struct{}{}
		select {
		case <-both:
			_, _ = io.WriteString(w, thanks)
		case <-ctx.Done():
		}
	})
	go func() {
		defer close(both)
		<-arrived
		<-arrived
	}()
	d := s.pay("ORDER-0001", 100, wepaytest.Duplicated())
	got := s.notified.received()
	if len(got) != 2 || string(got[0]) != string(got[1]) || len(d.Attempts()) != 2 || !d.Taken() {
		t.Errorf("attempts: %+v", d.Attempts())
	}
}

func TestHeldAndReleasedOutOfOrder(t *testing.T) {
	s := newShop(t)
	first := s.pay("ORDER-0001", 100, wepaytest.Held())
	second := s.pay("ORDER-0002", 100, wepaytest.Held())
	s.clock.Advance(48 * time.Hour)
	if got := len(s.notified.received()); got != 0 {
		t.Fatalf("%d came while held", got)
	}
	check(t, s.do(wepay.QueryOrder, query("ORDER-0001")), map[string]string{"trade_state": "SUCCESS"})
	for _, d := range []*wepaytest.Delivery{second, first, first} {
		if err := d.Release(); err != nil {
			t.Fatal(err)
		}
	}
	got := s.notified.received()
	if len(got) != 2 || string(got[0]) != string(second.Body()) || string(got[1]) != string(first.Body()) {
		t.Errorf("received %q", got)
	}
}

// A merchant's site may have names and an authority that only tests know.
func TestNotifyTransport(t *testing.T) {
	site := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		_, _ = io.WriteString(w, thanks)
	}))
	t.Cleanup(site.Close)
	s := newShopAt(t, newServer(t, wepaytest.WithNotifyTransport(site.Client().Transport)), func(m *wepay.Merchant) {
		m.NotifyURL = site.URL
	})
	if d := s.pay("ORDER-0001", 100); !d.Taken() {
		t.Errorf("attempts: %+v", d.Attempts())
	}
}
