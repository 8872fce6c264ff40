package apiv3_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/windsome/caddy-wepay/wepay"
	"github.com/windsome/caddy-wepay/wepay/apiv3"
	"github.com/windsome/caddy-wepay/wepay/wepaytest"
)

// asks asks what became of a number.
func (s *shop) asks(op wepay.Operation, number, sub string, want wepay.OutcomeState, word string) *wepay.Outcome {
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
func (s *shop) notified(d *wepaytest.Delivery, err error) *wepay.Notification {
	s.t.Helper()
	if err != nil {
		s.t.Fatal(err)
	}
	header, err := d.Header()
	if err != nil {
		s.t.Fatal(err)
	}
	u, err := apiv3.ReadNotification(header, d.Body())
	if err != nil {
		s.t.Fatal(err)
	}
	key, err := s.keyRing.Key(s.t.Context(), u)
	if err != nil {
		s.t.Fatal(err)
	}
	sealed, err := u.Verify(key, s.clock.Now())
	if err != nil {
		s.t.Fatal(err)
	}
	o, err := s.keyRing.Open(sealed)
	if err != nil {
		s.t.Fatal(err)
	}
	merchants, err := wepay.NewMerchants(s.merchant)
	if err != nil {
		s.t.Fatal(err)
	}
	receiver, err := merchants.Receiver("", o.Recipient())
	if err != nil {
		s.t.Fatal(err)
	}
	return o.Notification(receiver, merchants.AppID("", o.Recipient()))
}

// same checks that a notification made of an answer is the one that WeChat sends, with
// either payload.
func same(t *testing.T, got, want *wepay.Notification) {
	t.Helper()
	if got == nil {
		t.Fatal("nothing is notified of")
	}
	if got.Kind != want.Kind || got.EventType != want.EventType || got.Merchant != want.Merchant || got.Omitted != want.Omitted || got.Misfit != "" {
		t.Errorf("got %s %s of %v, omitted %q, want %s %s", got.Kind, got.EventType, got.Merchant, got.Omitted, want.Kind, want.EventType)
	}
	if got.EventID() != want.EventID() || got.PrecedingID() != want.PrecedingID() {
		t.Errorf("the ids are %s after %s, want %s after %s", got.EventID(), got.PrecedingID(), want.EventID(), want.PrecedingID())
	}
	if !slices.Equal(got.Fields, want.Fields) {
		t.Errorf("the fields are\n%v, want\n%v", got.Fields, want.Fields)
	}
	for _, payload := range []wepay.API{wepay.V2, wepay.V3} {
		m := *want.Merchant
		m.Payload = payload
		if mine, theirs := payloadFor(t, got, &m), payloadFor(t, want, &m); !reflect.DeepEqual(mine, theirs) {
			t.Errorf("the payload %s is\n%v, want\n%v", payload, mine, theirs)
		}
	}
}

// payloadFor are the members of a payload.
func payloadFor(t *testing.T, n *wepay.Notification, m *wepay.Merchant) (members map[string]any) {
	t.Helper()
	forIt := *n
	forIt.Merchant = m
	payload, err := forIt.Payload()
	if err := errors.Join(err, json.Unmarshal(payload, &members)); err != nil {
		t.Fatal(err)
	}
	return members
}

var coupons = wepaytest.WithCoupons(
	wepaytest.Coupon{Type: wepaytest.Cash, ID: "10001", Fee: 60}, wepaytest.Coupon{Type: wepaytest.NoCash, ID: "10002", Fee: 40},
)

func TestOutcomeIsWhatIsNotified(t *testing.T) {
	for name, in := range map[string]wepay.Fields{
		"plain": order("ORDER-1", "1200"), "attach": with(order("ORDER-1", "1200"), "attach", `shelf <7> & "8"`, "device_info", "013"),
	} {
		for paid, options := range map[string][]wepaytest.PayOption{"": nil, " with coupons": {coupons}} {
			t.Run(name+paid, func(t *testing.T) {
				everyWay(t, func(t *testing.T, s *shop) {
					s.do(wepay.PlaceOrder, in)
					if out := s.asks(wepay.PlaceOrder, "ORDER-1", s.merchant.SubMchID, wepay.Pending, "NOTPAY"); out.Notification != nil || out.Text == "" {
						t.Errorf("got %+v", out)
					}
					payment := s.notified(s.wechat.Pay(mchID, "ORDER-1", append(options, wepaytest.Held())...))
					out := s.asks(wepay.PlaceOrder, "ORDER-1", s.merchant.SubMchID, wepay.Succeeded, "SUCCESS")
					same(t, out.Notification, payment)
					check(t, out.Fields, "trade_state", "SUCCESS", "out_trade_no", "ORDER-1")
					s.refunds(payment)
				})
			})
		}
	}
}

// refunds refunds an order in parts that come to every end.
func (s *shop) refunds(payment *wepay.Notification) {
	t, sub := s.t.(*testing.T), s.merchant.SubMchID
	t.Helper()
	for status, want := range map[string]struct {
		state wepay.OutcomeState
		word  string
	}{
		wepaytest.RefundSuccess: {wepay.Succeeded, "SUCCESS"}, wepaytest.RefundChanged: {wepay.Abnormal, "ABNORMAL"}, wepaytest.RefundClosed: {wepay.Closed, "CLOSED"},
	} {
		s.do(wepay.Refund, fields("out_trade_no", "ORDER-1", "out_refund_no", "R-"+status, "total_fee", "1200", "refund_fee", "350", "notify_url", s.merchant.NotifyURL))
		if out := s.asks(wepay.Refund, "R-"+status, sub, wepay.Pending, "PROCESSING"); out.Notification != nil {
			t.Errorf("a refund that is under way: %+v", out)
		}
		told := s.notified(s.wechat.FinishRefund(mchID, "R-"+status, status, wepaytest.Held()))
		out := s.asks(wepay.Refund, "R-"+status, sub, want.state, want.word)
		same(t, out.Notification, told)
		check(t, out.Fields, "out_refund_no_0", "R-"+status, "refund_status_0", status)
		// Refunded, the order is still one that was paid.
		same(t, s.asks(wepay.PlaceOrder, "ORDER-1", sub, wepay.Succeeded, "REFUND").Notification, payment)
	}
}

func TestOutcomeOfCombined(t *testing.T) {
	everyWay(t, func(t *testing.T, s *shop) {
		s.do(wepay.CombineOrder, with(combined("COMBINE-1", parts), "device_info", "013"))
		if out := s.asks(wepay.CombineOrder, "COMBINE-1", "", wepay.Pending, "NOTPAY"); out.Notification != nil {
			t.Errorf("got %+v", out)
		}
		paid := s.notified(s.wechat.PayCombined(mchID, "COMBINE-1", wepaytest.Held()))
		same(t, s.asks(wepay.CombineOrder, "COMBINE-1", "", wepay.Succeeded, "SUCCESS").Notification, paid)
		for _, part := range []string{"PART-1", "PART-2"} {
			s.do(wepay.Refund, fields("out_trade_no", part, "out_refund_no", "R-"+part, "refund_fee", "1", "total_fee", map[string]string{"PART-1": "100", "PART-2": "250"}[part]))
			same(t, s.asks(wepay.CombineOrder, "COMBINE-1", "", wepay.Succeeded, "REFUND").Notification, paid)
		}
		s.do(wepay.CombineOrder, combined("COMBINE-2", `[{"out_trade_no":"PART-3","total_fee":1,"body":"袜子","attach":"a"}]`))
		s.do(wepay.CloseCombined, fields("combine_out_trade_no", "COMBINE-2", "sub_orders", `[{"out_trade_no":"PART-3"}]`))
		if out := s.asks(wepay.CombineOrder, "COMBINE-2", "", wepay.Closed, "CLOSED"); out.Notification != nil {
			t.Errorf("got %+v", out)
		}
		s.asks(wepay.CombineOrder, "NOBODYS", "", wepay.Missing, "ORDER_NOT_EXIST")
	})
}

func TestOutcomeOfTransfers(t *testing.T) {
	for _, w := range direct {
		t.Run(w.name, func(t *testing.T) {
			s := rich(t, w)
			url := []string{"notify_url", s.merchant.NotifyURL}
			for number, end := range map[string]struct {
				finish func() (*wepaytest.Delivery, error)
				state  wepay.OutcomeState
				word   string
			}{
				"TR1": {func() (*wepaytest.Delivery, error) { return s.wechat.ConfirmTransfer(mchID, "TR1", wepaytest.Held()) }, wepay.Succeeded, "SUCCESS"},
				"TR2": {func() (*wepaytest.Delivery, error) {
					return s.wechat.RejectTransfer(mchID, "TR2", "ACCOUNT_FROZEN", wepaytest.Held())
				}, wepay.Failed, "FAIL"},
			} {
				s.do(wepay.Transfer, with(transfer(number, "100"), url...))
				if out := s.asks(wepay.Transfer, number, "", wepay.Pending, "WAIT_USER_CONFIRM"); out.Notification != nil {
					t.Errorf("got %+v", out)
				}
				told := s.notified(end.finish())
				same(t, s.asks(wepay.Transfer, number, "", end.state, end.word).Notification, told)
			}
			s.do(wepay.Transfer, transfer("TR3", "100"))
			s.do(wepay.CancelTransfer, fields("partner_trade_no", "TR3"))
			s.clock.Advance(time.Second)
			if out := s.asks(wepay.Transfer, "TR3", "", wepay.Closed, "CANCELLED"); out.Notification == nil || out.Notification.Fields.Get("state") != "CANCELLED" {
				t.Errorf("got %+v", out)
			}
			details := `[{"out_detail_no":"D1","transfer_amount":100,"transfer_remark":"奖金","openid":"` + openID + `"},
				{"out_detail_no":"D2","transfer_amount":100,"transfer_remark":"奖金","openid":"` + openID + `"}]`
			for number, failed := range map[string][]string{"B1": {"D1"}, "B2": {"D1", "D2"}} {
				s.do(wepay.TransferBatch, with(batch("200", "2", details), append(url, "out_batch_no", number)...))
				s.asks(wepay.TransferBatch, number, "", wepay.Pending, "ACCEPTED")
				reasons, want := make(map[string]string), wepay.Succeeded
				for _, detail := range failed {
					reasons[detail] = "ACCOUNT_FROZEN"
				}
				if len(failed) == 2 {
					want = wepay.Failed
				}
				told := s.notified(s.wechat.FinishBatch(mchID, number, reasons, wepaytest.Held()))
				same(t, s.asks(wepay.TransferBatch, number, "", want, "FINISHED").Notification, told)
			}
			for op, code := range map[wepay.Operation]string{
				wepay.Transfer: "NOT_FOUND", wepay.TransferBatch: "NOT_FOUND", wepay.PlaceOrder: "ORDER_NOT_EXIST", wepay.Refund: "RESOURCE_NOT_EXISTS",
			} {
				s.asks(op, "NOBODYS", "", wepay.Missing, code)
			}
		})
	}
}

// A sub-merchant's transfer is asked about as the sub-merchant's.
func TestOutcomeOfSubMerchantsTransfer(t *testing.T) {
	s := rich(t, ways[3])
	s.do(wepay.Transfer, with(transfer("TR1", "100"), "sub_mch_id", subMchID, "notify_url", s.merchant.NotifyURL))
	told := s.notified(s.wechat.ConfirmTransfer(mchID, "TR1", wepaytest.Held()))
	same(t, s.asks(wepay.Transfer, "TR1", subMchID, wepay.Succeeded, "SUCCESS").Notification, told)
}

// Some answers decide nothing, and of others nothing may be made.
func TestOutcomeWords(t *testing.T) {
	paid := map[string]any{
		"appid": appID, "mchid": mchID, "out_trade_no": "ORDER-1", "transaction_id": "42", "trade_type": "JSAPI", "trade_state": "SUCCESS",
		"amount": map[string]any{"total": 1, "payer_total": 1}, "payer": map[string]any{"openid": openID},
	}
	refund := map[string]any{
		"refund_id": "5", "out_refund_no": "ORDER-1", "transaction_id": "42", "out_trade_no": "A1", "status": "SUCCESS",
		"amount": map[string]any{"total": 2, "refund": 1},
	}
	bill := map[string]any{"mch_id": mchID, "out_bill_no": "ORDER1", "transfer_bill_no": "13", "state": "SUCCESS", "transfer_amount": 1}
	joint := func(states ...string) map[string]any {
		var orders []any
		for i, state := range states {
			orders = append(orders, map[string]any{
				"mchid": mchID, "out_trade_no": fmt.Sprint("A", i), "transaction_id": fmt.Sprint(42 + i), "trade_state": state, "amount": map[string]any{"total_amount": 1},
			})
		}
		return map[string]any{"combine_appid": appID, "combine_mchid": mchID, "combine_out_trade_no": "ORDER-1", "sub_orders": orders}
	}
	for _, test := range []struct {
		op      wepay.Operation
		answer  map[string]any
		changes map[string]any // nil takes a member out
		want    wepay.OutcomeState
		told    bool
	}{
		{wepay.PlaceOrder, paid, nil, wepay.Succeeded, true},
		{wepay.PlaceOrder, paid, map[string]any{"trade_state": "REFUND"}, wepay.Succeeded, true},
		{wepay.PlaceOrder, paid, map[string]any{"trade_state": "NOTPAY"}, wepay.Pending, false},
		{wepay.PlaceOrder, paid, map[string]any{"trade_state": "PAYERROR"}, wepay.Pending, false},
		{wepay.PlaceOrder, paid, map[string]any{"trade_state": "success"}, wepay.Pending, false},
		{wepay.PlaceOrder, paid, map[string]any{"trade_state": "PAID_AT_LAST"}, wepay.Pending, false},
		{wepay.PlaceOrder, paid, map[string]any{"trade_state": "CLOSED"}, wepay.Closed, false},
		{wepay.PlaceOrder, paid, map[string]any{"out_trade_no": nil}, "", false},
		{wepay.PlaceOrder, paid, map[string]any{"out_trade_no": "ORDER-2"}, "", false},
		{wepay.PlaceOrder, paid, map[string]any{"out_trade_no": nil, "trade_state": "CLOSED"}, "", false},
		{wepay.PlaceOrder, paid, map[string]any{"out_trade_no": nil, "trade_state": "NOTPAY"}, wepay.Pending, false},
		{wepay.PlaceOrder, paid, map[string]any{"transaction_id": nil}, "", false},
		{wepay.PlaceOrder, paid, map[string]any{"amount": nil}, "", false},
		{wepay.PlaceOrder, paid, map[string]any{"mchid": "1"}, "", false},
		{wepay.PlaceOrder, paid, map[string]any{"trade_state": nil}, "", false},
		{wepay.Refund, refund, nil, wepay.Succeeded, true},
		{wepay.Refund, refund, map[string]any{"status": "ABNORMAL"}, wepay.Abnormal, true},
		{wepay.Refund, refund, map[string]any{"status": "CLOSED"}, wepay.Closed, true},
		{wepay.Refund, refund, map[string]any{"status": "NEVER"}, wepay.Pending, false},
		{wepay.Refund, refund, map[string]any{"out_refund_no": "ORDER-2"}, "", false},
		{wepay.Refund, refund, map[string]any{"transaction_id": nil}, "", false},
		{wepay.Transfer, bill, nil, wepay.Succeeded, true},
		{wepay.Transfer, bill, map[string]any{"state": "CANCELLED"}, wepay.Closed, true},
		{wepay.Transfer, bill, map[string]any{"state": "CANCELING"}, wepay.Pending, false},
		{wepay.Transfer, bill, map[string]any{"state": "TRANSFERING"}, wepay.Pending, false},
		{wepay.Transfer, bill, map[string]any{"state": "NEVER"}, wepay.Pending, false},
		{wepay.Transfer, bill, map[string]any{"out_bill_no": nil}, "", false},
		{wepay.Transfer, bill, map[string]any{"transfer_bill_no": nil}, "", false},
		{wepay.CombineOrder, joint("SUCCESS", "REFUND"), nil, wepay.Succeeded, true},
		{wepay.CombineOrder, joint("REFUND", "SUCCESS"), nil, wepay.Succeeded, true},
		{wepay.CombineOrder, joint("SUCCESS", "NOTPAY"), nil, wepay.Pending, false},
		{wepay.CombineOrder, joint("NOTPAY", "SUCCESS"), nil, wepay.Pending, false},
		{wepay.CombineOrder, joint("CLOSED", "SUCCESS"), nil, wepay.Pending, false},
		{wepay.CombineOrder, joint("CLOSED", "CLOSED"), nil, wepay.Closed, false},
	} {
		changed := maps.Clone(test.answer)
		for name, value := range test.changes {
			changed[name] = value
			if value == nil {
				delete(changed, name)
			}
		}
		t.Run(fmt.Sprint(test.op, test.changes), func(t *testing.T) {
			body, err := json.Marshal(changed)
			if err != nil {
				t.Fatal(err)
			}
			s := newWechat(t, func(http.ResponseWriter, *http.Request) answer { return answer{body: string(body)} })
			m := s.merchant(t)
			m.Payouts = true
			number := "ORDER-1"
			if test.op == wepay.Transfer {
				number = "ORDER1"
			}
			out, err := s.client(t, m).Outcome(t.Context(), test.op, number, "")
			if test.want == "" {
				wantError(t, err, wepay.Again)
				return
			}
			if err != nil || out.State != test.want || (out.Notification != nil) != test.told {
				t.Fatalf("got %+v, %v, want %s", out, err, test.want)
			}
			if n := out.Notification; n != nil && n.Kind != wepay.Refunded && test.changes == nil && !strings.Contains(string(body), "REFUND") && test.op != wepay.Transfer && string(n.Resource) != string(body) {
				t.Errorf("the resource is %s, want %s", n.Resource, body)
			}
		})
	}
}

// Only a refusal that WeChat signed says that there is no such number.
func TestOutcomeMissing(t *testing.T) {
	for name, test := range map[string]struct {
		op      wepay.Operation
		answer  answer
		missing bool
	}{
		"signed":             {wepay.PlaceOrder, answer{status: 404, body: `{"code":"ORDER_NOT_EXIST","message":"x"}`}, true},
		"spelt otherwise":    {wepay.PlaceOrder, answer{status: 404, body: `{"code":"ORDERNOTEXIST","message":"x"}`}, true},
		"a refund":           {wepay.Refund, answer{status: 404, body: `{"code":"RESOURCE_NOT_EXISTS","message":"x"}`}, true},
		"not signed":         {wepay.PlaceOrder, answer{status: 404, body: `{"code":"ORDER_NOT_EXIST","message":"x"}`, bare: true}, false},
		"not signed, 401":    {wepay.PlaceOrder, answer{status: 401, body: `{"code":"ORDER_NOT_EXIST","message":"x"}`, bare: true}, false},
		"not signed, 429":    {wepay.PlaceOrder, answer{status: 429, body: `{"code":"ORDER_NOT_EXIST","message":"x"}`, bare: true}, false},
		"a refund's":         {wepay.PlaceOrder, answer{status: 404, body: `{"code":"RESOURCE_NOT_EXISTS","message":"x"}`}, false},
		"another":            {wepay.PlaceOrder, answer{status: 404, body: `{"code":"PARAM_ERROR","message":"ORDER_NOT_EXIST"}`}, false},
		"none":               {wepay.PlaceOrder, answer{status: 404, body: `not found`}, false},
		"an empty success":   {wepay.PlaceOrder, answer{status: 200, body: `{}`}, false},
		"a forged signature": {wepay.PlaceOrder, answer{status: 404, body: `{"code":"ORDER_NOT_EXIST"}`, header: map[string][]string{"Wechatpay-Signature": {"AAAA"}}}, false},
	} {
		t.Run(name, func(t *testing.T) {
			s := newWechat(t, func(http.ResponseWriter, *http.Request) answer { return test.answer })
			out, err := s.client(t, s.merchant(t)).Outcome(t.Context(), test.op, "ORDER-1", "")
			if test.missing {
				if err != nil || out.State != wepay.Missing || out.Text != "x" {
					t.Errorf("got %+v, %v", out, err)
				}
				return
			}
			if _, failed := errors.AsType[*wepay.Error](err); out != nil || !failed {
				t.Errorf("got %+v, %v", out, err)
			}
		})
	}
}

func TestOutcomeOfNothing(t *testing.T) {
	s := openShop(t, ways[0])
	for _, op := range []wepay.Operation{wepay.CloseOrder, wepay.QueryOrder, wepay.Micropay, wepay.PayBank, wepay.SendRedPacket, wepay.ProfitShare, wepay.CancelTransfer, ""} {
		if out, err := s.client.Outcome(t.Context(), op, "A1", ""); out != nil || !errors.Is(err, wepay.ErrNoOperation) {
			t.Errorf("%s: got %v, %v", op, out, err)
		}
	}
	_, err := s.client.Outcome(t.Context(), wepay.PlaceOrder, "A/1", "")
	wantField(t, err, "out_trade_no")
	_, err = s.client.Outcome(t.Context(), wepay.PlaceOrder, "A1", "2")
	wantField(t, err, "sub_mch_id")
	if n := s.asked(); n > 0 {
		t.Errorf("WeChat was asked %d times", n)
	}
}
