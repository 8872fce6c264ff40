package apiv2_test

import (
	"context"
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/windsome/caddy-wepay/wepay"
	"github.com/windsome/caddy-wepay/wepay/apiv2"
	"github.com/windsome/caddy-wepay/wepay/wepaytest"
)

// till is a merchant of wepaytest's WeChat, with money on the account.
type till struct {
	t      *testing.T
	wechat *wepaytest.Server
	clock  *wepaytest.FakeClock
	client *apiv2.Client
}

func openTill(t *testing.T, changes ...func(*wepay.Merchant)) *till {
	t.Helper()
	clock := wepaytest.NewFakeClock(time.Date(2026, 1, 1, 4, 0, 0, 0, time.UTC))
	wechat, err := wepaytest.NewServer(wepaytest.WithClock(clock))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(wechat.Close)
	m := merchant(wechat.URL)
	m.Payouts = true
	for _, change := range changes {
		change(m)
	}
	account := wepaytest.Merchant{MchID: m.MchID, AppIDs: []string{m.AppID}, Key: key, RefundNotifyURL: m.NotifyURL}
	if m.Type == wepay.Partner {
		account.SubMerchants = []wepaytest.SubMerchant{{MchID: "1900000209", AppIDs: []string{m.SubAppID}}, {MchID: "1900000210"}}
	}
	if err := errors.Join(wechat.AddMerchant(account), wechat.Deposit(m.MchID, 1_000_000)); err != nil {
		t.Fatal(err)
	}
	credential, err := wechat.Issue(m.MchID)
	if err != nil {
		t.Fatal(err)
	}
	m.Certificate = &credential.Certificate
	transport := wepay.NewTransport(m)
	transport.TLSClientConfig.RootCAs = wechat.RootCAs()
	t.Cleanup(transport.CloseIdleConnections)
	stop := func(context.Context, time.Duration) error { return context.Canceled }
	options := wepay.ClientOptions{Transport: transport, Now: clock.Now, Timeout: time.Minute, Pause: stop, RiskEndpoint: wechat.URL}
	return &till{t, wechat, clock, apiv2.NewClient(m, options)}
}

func ofPartner(m *wepay.Merchant) {
	m.Type, m.SubMchID, m.SubMchIDs, m.SubAppID = wepay.Partner, "1900000209", []string{"1900000210"}, "wx00112233445566bb"
}

// call makes a call.
func (s *till) call(op wepay.Operation, pairs ...string) error {
	var in wepay.Fields
	for i := 0; i < len(pairs); i += 2 {
		in.Set(pairs[i], pairs[i+1])
	}
	_, err := s.client.Do(s.t.Context(), op, in)
	return err
}

// do makes a call that WeChat grants.
func (s *till) do(op wepay.Operation, pairs ...string) {
	s.t.Helper()
	if err := s.call(op, pairs...); err != nil {
		s.t.Fatalf("%s: %v", op, err)
	}
}

// asks asks what became of a number.
func (s *till) asks(op wepay.Operation, number, sub string, want wepay.OutcomeState, word string) *wepay.Outcome {
	s.t.Helper()
	out, err := s.client.Outcome(s.t.Context(), op, number, sub)
	if err != nil {
		s.t.Fatalf("%s %s: %v", op, number, err)
	}
	if out.State != want || out.Word != word {
		s.t.Errorf("%s %s is %s (%s), want %s (%s)", op, number, out.State, out.Word, want, word)
	}
	if (out.Fields == nil) != (want == wepay.Missing) {
		s.t.Errorf("%s %s has the fields %v", op, number, out.Fields)
	}
	return out
}

// notified is what WeChat's own notification says.
func (s *till) notified(d *wepaytest.Delivery, err error) *wepay.Notification {
	s.t.Helper()
	if err != nil {
		s.t.Fatal(err)
	}
	u, err := apiv2.ReadNotification(d.Body())
	if err != nil {
		s.t.Fatal(err)
	}
	n, err := s.client.Verify(s.t.Context(), u)
	if err != nil {
		s.t.Fatal(err)
	}
	return n
}

// same checks that a notification made of an answer is the one that WeChat sends, but
// for what only that has.
func same(t *testing.T, got, want *wepay.Notification, but ...string) {
	t.Helper()
	if got == nil {
		t.Fatal("nothing is notified of")
	}
	if got.Kind != want.Kind || got.EventType != want.EventType || got.Merchant != want.Merchant || got.Resource != nil {
		t.Errorf("got %s %s of %v, want %s %s", got.Kind, got.EventType, got.Merchant, want.Kind, want.EventType)
	}
	if got.EventID() != want.EventID() || got.PrecedingID() != want.PrecedingID() {
		t.Errorf("the ids are %s after %s, want %s after %s", got.EventID(), got.PrecedingID(), want.EventID(), want.PrecedingID())
	}
	fields := slices.DeleteFunc(want.Fields.Clone(), func(f wepay.Field) bool { return slices.Contains(but, f.Name) })
	if !slices.Equal(got.Fields, fields) {
		t.Errorf("the fields are\n%v, want\n%v", got.Fields, fields)
	}
	mine, err := got.Payload()
	theirs, err2 := fields.MarshalJSON()
	if err := errors.Join(err, err2); err != nil || string(mine) != string(theirs) {
		t.Errorf("the payload is %s, want %s, %v", mine, theirs, err)
	}
}

// signing are the fields of a notification that a query's outcome has not.
var signing = []string{"nonce_str", "sign", "sign_type"}

var coupons = wepaytest.WithCoupons(
	wepaytest.Coupon{Type: wepaytest.Cash, ID: "10001", Fee: 60}, wepaytest.Coupon{Type: wepaytest.NoCash, ID: "10002", Fee: 40},
)

func TestOutcomeIsWhatIsNotified(t *testing.T) {
	nothing := func(*wepay.Merchant) {}
	for kind, of := range map[string]struct {
		change func(*wepay.Merchant)
		sub    string
		more   []string
	}{
		"direct":        {nothing, "", nil},
		"HMAC-SHA256":   {func(m *wepay.Merchant) { m.SignType = wepay.HMACSHA256 }, "", nil},
		"payload v3":    {func(m *wepay.Merchant) { m.Payload = wepay.V3 }, "", nil},
		"attach":        {nothing, "", []string{"attach", `shelf <7> & "8"`, "device_info", "013"}},
		"partner":       {ofPartner, "1900000209", nil},
		"partner's own": {ofPartner, "", nil}, // the configured one
		"partner's other": {
			func(m *wepay.Merchant) { ofPartner(m); m.SubAppID = "wx00112233445566bb" }, "1900000210",
			[]string{"sub_mch_id", "1900000210"},
		},
	} {
		for paid, options := range map[string][]wepaytest.PayOption{"": nil, " with coupons": {coupons}, " with sign_type": {wepaytest.WithSignType()}} {
			t.Run(kind+paid, func(t *testing.T) {
				s := openTill(t, of.change)
				order := append([]string{"out_trade_no", "ORDER-1", "total_fee", "1200", "body", "x", "spbill_create_ip", "203.0.113.7", "openid", "oUpF8uMuAJO_M2pxb1Q9zNjWeS6o"}, of.more...)
				s.do(wepay.PlaceOrder, order...)
				if out := s.asks(wepay.PlaceOrder, "ORDER-1", of.sub, wepay.Pending, "NOTPAY"); out.Notification != nil || out.Text != "订单未支付" {
					t.Errorf("got %+v", out)
				}
				payment := s.notified(s.wechat.Pay("1900000109", "ORDER-1", append(options, wepaytest.Held())...))
				same(t, s.asks(wepay.PlaceOrder, "ORDER-1", of.sub, wepay.Succeeded, "SUCCESS").Notification, payment, signing...)
				s.refunds(of.sub, payment)
			})
		}
	}
}

// refunds refunds an order in parts that come to every end.
func (s *till) refunds(sub string, payment *wepay.Notification) {
	s.t.Helper()
	for status, state := range map[string]wepay.OutcomeState{
		wepaytest.RefundSuccess: wepay.Succeeded, wepaytest.RefundChanged: wepay.Abnormal, wepaytest.RefundClosed: wepay.Closed,
	} {
		refund := []string{"out_trade_no", "ORDER-1", "out_refund_no", "R-" + status, "total_fee", "1200", "refund_fee", "350"}
		if sub != "" {
			refund = append(refund, "sub_mch_id", sub)
		}
		s.do(wepay.Refund, refund...)
		if out := s.asks(wepay.Refund, "R-"+status, sub, wepay.Pending, "PROCESSING"); out.Notification != nil {
			s.t.Errorf("a refund that is under way: %+v", out)
		}
		told := s.notified(s.wechat.FinishRefund("1900000109", "R-"+status, status, wepaytest.Held()))
		out := s.asks(wepay.Refund, "R-"+status, sub, state, status)
		same(s.t, out.Notification, told)
		if out.Fields.Get("refund_count") != "1" || out.Fields.Get("out_refund_no_0") != "R-"+status {
			s.t.Errorf("got %v", out.Fields)
		}
		// Refunded, the order is still one that was paid.
		same(s.t, s.asks(wepay.PlaceOrder, "ORDER-1", sub, wepay.Succeeded, "REFUND").Notification, payment, signing...)
	}
}

// An order that nobody paid is not told of, however it ended.
func TestOutcomeOfUnpaid(t *testing.T) {
	s := openTill(t)
	for _, number := range []string{"CLOSED-1", "EXPIRED-1"} {
		s.do(wepay.PlaceOrder, "out_trade_no", number, "total_fee", "1", "body", "x", "spbill_create_ip", "203.0.113.7", "time_expire", "20260101121000", "openid", "o")
	}
	s.do(wepay.CloseOrder, "out_trade_no", "CLOSED-1")
	s.clock.Advance(time.Hour)
	for _, number := range []string{"CLOSED-1", "EXPIRED-1"} {
		if out := s.asks(wepay.PlaceOrder, number, "", wepay.Closed, "CLOSED"); out.Notification != nil {
			t.Errorf("%s: got %+v", number, out.Notification)
		}
	}
	for op, code := range map[wepay.Operation]string{
		wepay.PlaceOrder: "ORDERNOTEXIST", wepay.Micropay: "ORDERNOTEXIST", wepay.Refund: "REFUNDNOTEXIST", wepay.Transfer: "NOT_FOUND",
		wepay.PayBank: "NOT_FOUND", wepay.SendRedPacket: "NOT_FOUND", wepay.SendGroupRedPacket: "NOT_FOUND",
	} {
		if out := s.asks(op, "NOBODYS1", "", wepay.Missing, code); out.Notification != nil {
			t.Errorf("%s: got %+v", op, out.Notification)
		}
	}
}

// WeChat does not notify of payments by code.
func TestOutcomeOfCodes(t *testing.T) {
	s := openTill(t)
	for number, c := range map[string]struct {
		decide func(mchID, number string) error
		state  wepay.OutcomeState
		word   string
	}{
		"PAID-1":    {s.wechat.EnterPassword, wepay.Succeeded, "SUCCESS"},
		"REFUSED-1": {s.wechat.CancelPassword, wepay.Failed, "PAYERROR"},
		"REVERSED-1": {func(_, number string) error {
			s.do(wepay.Reverse, "out_trade_no", number)
			return nil
		}, wepay.Closed, "REVOKED"},
	} {
		err := s.call(wepay.Micropay, "out_trade_no", number, "total_fee", "100", "body", "x", "spbill_create_ip", "203.0.113.7",
			"auth_code", s.wechat.ShowCode("o1", wepaytest.AsksPassword()))
		wantError(t, err, wepay.Query)
		s.asks(wepay.Micropay, number, "", wepay.Pending, "USERPAYING")
		s.clock.Advance(time.Minute)
		if err := c.decide("1900000109", number); err != nil {
			t.Fatal(err)
		}
		n := s.asks(wepay.Micropay, number, "", c.state, c.word).Notification
		if c.state != wepay.Succeeded {
			if n != nil {
				t.Errorf("%s: got %+v", number, n)
			}
			continue
		}
		if n == nil || n.Kind != wepay.Payment || n.EventType != "TRANSACTION.SUCCESS" || n.Fields.Get("trade_state") != "" ||
			n.Fields.Get("out_trade_no") != number || n.Fields.Get("trade_type") != "MICROPAY" || n.Fields.Get("total_fee") != "100" {
			t.Errorf("%s: got %+v", number, n)
		}
	}
}

func TestOutcomeOfPayouts(t *testing.T) {
	const packet = "190000010920260101000000000" // as WeChat wants them numbered
	s := openTill(t)
	if err := s.wechat.PayoutsWait("1900000109", true); err != nil {
		t.Fatal(err)
	}
	for _, number := range []string{"T1", "T2"} {
		_ = s.call(wepay.Transfer, "partner_trade_no", number, "openid", "o1", "check_name", "NO_CHECK", "amount", "100", "desc", "x") // some of these leave the outcome open
		s.asks(wepay.Transfer, number, "", wepay.Pending, "PROCESSING")
	}
	for _, number := range []string{"BANK0001", "BANK0002", "BANK0003"} {
		_ = s.call(wepay.PayBank, "partner_trade_no", number, "bank_no", "6225881234567890", "true_name", "x", "bank_code", "1001", "amount", "100") // some of these leave the outcome open
		s.asks(wepay.PayBank, number, "", wepay.Pending, "PROCESSING")
	}
	for _, number := range []string{packet + "1", packet + "2", packet + "3"} {
		_ = s.call(wepay.SendRedPacket, "mch_billno", number, "send_name", "x", "re_openid", "o1", "total_amount", "100", "wishing", "x", "act_name", "x", "remark", "x") // some of these leave the outcome open
		s.asks(wepay.SendRedPacket, number, "", wepay.Pending, "SENDING")
	}
	err := errors.Join(
		s.wechat.FinishTransfer("1900000109", "T1", "SUCCESS", ""),
		s.wechat.FinishTransfer("1900000109", "T2", "FAILED", "ACCOUNT_FROZEN"),
		s.wechat.FinishBankTransfer("1900000109", "BANK0001", "SUCCESS", ""),
		s.wechat.FinishBankTransfer("1900000109", "BANK0002", "FAILED", "x"),
		s.wechat.FinishBankTransfer("1900000109", "BANK0003", "BANK_FAIL", "x"),
		s.wechat.FinishRedPacket("1900000109", packet+"1", "SENT", ""),
		s.wechat.FinishRedPacket("1900000109", packet+"2", "FAILED", "x"),
		s.wechat.FinishRedPacket("1900000109", packet+"3", "SENT", ""),
	)
	if err != nil {
		t.Fatal(err)
	}
	s.asks(wepay.SendRedPacket, packet+"3", "", wepay.Pending, "SENT")
	if _, err := s.wechat.OpenRedPacket("1900000109", packet+"1", "o1"); err != nil {
		t.Fatal(err)
	}
	s.clock.Advance(25 * time.Hour)
	for number, want := range map[string]struct {
		op    wepay.Operation
		state wepay.OutcomeState
		word  string
	}{
		"T1": {wepay.Transfer, wepay.Succeeded, "SUCCESS"}, "T2": {wepay.Transfer, wepay.Failed, "FAILED"},
		"BANK0001": {wepay.PayBank, wepay.Succeeded, "SUCCESS"}, "BANK0002": {wepay.PayBank, wepay.Failed, "FAILED"},
		"BANK0003":   {wepay.PayBank, wepay.Failed, "BANK_FAIL"},
		packet + "1": {wepay.SendRedPacket, wepay.Succeeded, "RECEIVED"}, packet + "2": {wepay.SendGroupRedPacket, wepay.Failed, "FAILED"},
		packet + "3": {wepay.SendRedPacket, wepay.Closed, "REFUND"},
	} {
		if out := s.asks(want.op, number, "", want.state, want.word); out.Notification != nil {
			t.Errorf("%s: got %+v", number, out.Notification)
		}
	}
	if out := s.asks(wepay.Transfer, "T2", "", wepay.Failed, "FAILED"); out.Text != "ACCOUNT_FROZEN" {
		t.Errorf("got %q", out.Text)
	}
}
