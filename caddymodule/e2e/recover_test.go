package e2e_test

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/windsome/caddy-wepay/wepay/wepaytest"
)

// A payment whose notification does not come is told all the same: once, in the form
// of a notification and under the webhook-id of the one that comes late, of which
// nobody hears then.
func TestPaymentIsFound(t *testing.T) {
	for kind := range followed {
		t.Run(kind, func(t *testing.T) {
			env, shop := newFollowed(t, kind)
			told := env.orders.listen()
			env.get("get_pay_request_params", shop.order3("order-notified"))
			env.pay(shop, "order-notified")
			await(t, told)
			notified := env.take()
			checkTold(t, notified, shop, "notify")
			if s := env.awaitRest("order-notified"); s.State != "paid" || s.Source != "notify" || s.Asked > 0 {
				t.Errorf("got %+v", s)
			}

			env.get("get_pay_request_params", shop.order3("order-lost"))
			late := env.pay(shop, "order-lost", wepaytest.Held())
			id := await(t, told)
			found := env.take()
			checkTold(t, found, shop, "query")
			checkAlike(t, found.body, notified.body, "out_trade_no", "transaction_id", "time_end", "success_time")
			placed, _ := env.wechat.Order(shop.mchID, "order-lost")
			if id != shop.paidID(placed.TransactionID) {
				t.Errorf("the webhook-id is %s", id)
			}
			s := env.awaitRest("order-lost")
			if s.State != "paid" || s.Source != "query" || s.TransactionID != placed.TransactionID || s.TotalFee != 1200 || s.Paid == "" || len(s.Events) != 1 || s.Events[0].ID != id || s.Events[0].Source != "query" {
				t.Errorf("got %+v", s)
			}
			if err := late.Release(); err != nil || !late.Taken() {
				t.Errorf("the late notification: %v, %+v", err, late.Attempts())
			}
			if s := env.awaitRest("order-lost"); len(s.Events) != 1 || s.Source != "query" {
				t.Errorf("got %+v", s)
			}

			env.get("get_pay_request_params", shop.order3("order-last"))
			env.pay(shop, "order-last")
			if next := await(t, told); next == id || len(env.orders.forget()) != 1 {
				t.Error("the payment is told again")
			}
			if n := env.counted(`caddy_wepay_orders_recovered_total{merchant="shop"}`); n != 1 {
				t.Errorf("%d are counted as recovered", n)
			}
			if n := env.counted(`caddy_wepay_order_questions_total{merchant="shop",result="succeeded"}`); n != 1 {
				t.Errorf("%d questions found a payment", n)
			}
			if n := env.emitted("order_recovered", `"out_trade_no":"order-lost"`, `"amount":1200`, `"event":"`+id+`"`); n != 1 {
				t.Errorf("%d Caddy events", n)
			}
		})
	}
}

// However many notifications are lost, each payment is told once.
func TestLostNotifications(t *testing.T) {
	for kind := range followed {
		for _, share := range []float64{0.1, 1} {
			t.Run(fmt.Sprint(kind, " ", share), func(t *testing.T) {
				env, shop := newFollowed(t, kind)
				env.wechat.LoseNotifications(share, 3)
				const orders = 30
				lost := make(map[string]bool) // by webhook-id
				for n := range orders {
					id := fmt.Sprintf("order-%d", n)
					env.get("get_pay_request_params", shop.order3(id))
					attempts := env.pay(shop, id).Attempts()
					placed, _ := env.wechat.Order(shop.mchID, id)
					lost[shop.paidID(placed.TransactionID)] = errors.Is(attempts[0].Err, wepaytest.ErrLost)
				}
				for n := range orders {
					if s := env.awaitRest(fmt.Sprintf("order-%d", n)); s.State != "paid" || s.TotalFee != 1200 || len(s.Events) != 1 {
						t.Errorf("got %+v", s)
					}
				}
				recovered := 0
				for _, got := range env.orders.forget() {
					id, source := got.header.Get("webhook-id"), got.header.Get("wepay-source")
					if isLost, once := lost[id]; !once || isLost && source != "query" {
						t.Errorf("%s is told by %s, or twice", id, source)
					}
					delete(lost, id)
					if source == "query" {
						recovered++
					}
				}
				if len(lost) > 0 || share == 1 && recovered != orders || recovered == 0 {
					t.Errorf("not told: %v; %d are recovered", lost, recovered)
				}
				if n := env.counted(`caddy_wepay_orders_recovered_total{merchant="shop"}`); n != recovered {
					t.Errorf("%d are counted as recovered, and %d were", n, recovered)
				}
			})
		}
	}
}

// A call that gets no answer is resolved by asking: whether WeChat did it, or not, is
// what order_state says, and of a payment the order service hears.
func TestNoAnswer(t *testing.T) {
	for kind := range followed {
		t.Run(kind, func(t *testing.T) {
			env, shop := newFollowed(t, kind)
			api := map[bool]string{true: "v3", false: "v2"}[shop.v3.api == "v3"]
			path := map[string]string{"v2": "/pay/unifiedorder", "v3": "/v3/pay/transactions/jsapi"}[api]
			refundPath := map[string]string{"v2": "/secapi/pay/refund", "v3": "/v3/refund/domestic/refunds"}[api]
			told := env.orders.listen()
			env.wechat.LoseNotifications(1, 0)

			open := func(route, path, id string, request map[string]any, fault wepaytest.Fault) {
				t.Helper()
				fault.Standing = true // for those who try again
				env.wechat.Misbehave(path, fault)
				env.wechat.Misbehave(strings.Replace(path, "/v3/", "/v3/none/", 1), fault)
				if a := env.try(route, request); a.Errcode != 40000 || a.Verdict != "QUERY" {
					t.Errorf("%s: HTTP %d %s", route, a.status, a.body)
				}
				env.wechat.Behave(path)
			}
			open("get_pay_request_params", path, "order-done", shop.order3("order-done"), wepaytest.Fault{Kind: wepaytest.Reset})
			if s := env.state("order-done"); s.State != "unknown" && s.State != "placed" || s.Asked == 0 && s.State != "unknown" {
				t.Errorf("got %+v", s)
			}
			env.pay(shop, "order-done")
			await(t, told)
			paid := env.take()
			checkTold(t, paid, shop, "query")
			if s := env.awaitRest("order-done"); s.State != "paid" || s.Source != "query" || s.Reason != "" {
				t.Errorf("got %+v", s)
			}

			open("get_pay_request_params", path, "order-spoilt", shop.order3("order-spoilt"), wepaytest.Fault{Kind: wepaytest.TruncatedXML})
			if s := env.awaitState("order-spoilt", "placed"); s.Asked == 0 || s.NextAsked == "" {
				t.Errorf("got %+v", s)
			}

			refund := shop.refund("order-done", "refund-done", 200)
			open("refund", refundPath, "refund-done", refund, wepaytest.Fault{Kind: wepaytest.CutOff})
			s := env.awaitState("order-done", "refunding")
			if len(s.Refunds) != 1 || s.Refunds[0].State != "refunding" || s.Refunds[0].RefundFee != 200 {
				t.Errorf("got %+v", s)
			}
			if _, err := env.wechat.FinishRefund(shop.mchID, "refund-done", wepaytest.RefundSuccess); err != nil {
				t.Fatal(err)
			}
			await(t, told)
			if got := env.take(); got.header.Get("wepay-event") != "REFUND.SUCCESS" || got.header.Get("wepay-source") != "query" {
				t.Errorf("got %v %s", got.header, got.body)
			}
			if s := env.awaitState("order-done", "partly_refunded"); s.RefundFee != 200 || s.Refunds[0].State != "refunded" {
				t.Errorf("got %+v", s)
			}
		})
	}
}

// A payment by code whose caller hears nothing is told to the order service when it is
// found paid; one whose caller hears of it is not.
func TestCodePaymentWithoutAnswer(t *testing.T) {
	for _, kind := range []string{"API v2", "API v3"} { // which goes by API v2 here
		t.Run(kind, func(t *testing.T) {
			env, shop := newFollowed(t, kind)
			told := env.orders.listen()
			env.get("micropay", charge(env, "order-answered"))
			if s := env.state("order-answered"); s.State != "paid" || s.Source != "reply" || s.NextAsked != "" || s.TransactionID == "" {
				t.Errorf("got %+v", s)
			}
			// The answer leaves it open at once, though the code was charged.
			env.wechat.Misbehave("/pay/micropay", wepaytest.Fault{Kind: wepaytest.Refused, Code: "OUT_TRADE_NO_USED"})
			if a := env.try("micropay", charge(env, "order-open")); a.Errcode != 40000 || a.Verdict != "QUERY" {
				t.Errorf("HTTP %d %s", a.status, a.body)
			}
			if s := env.state("order-open"); s.State != "unknown" || s.NextAsked == "" {
				t.Errorf("got %+v", s)
			}
			await(t, told)
			got := env.take()
			checkTold(t, got, shop, "query")
			fields := membersOf(t, got.body)
			if fields["out_trade_no"] != "string order-open" || fields["trade_type"] != "string MICROPAY" || fields["total_fee"] != "string 1200" {
				t.Errorf("the order service got %s", got.body)
			}
			if s := env.awaitRest("order-open"); s.State != "paid" || s.Source != "query" || len(s.Events) != 1 {
				t.Errorf("got %+v", s)
			}
		})
	}
}

// A transfer without an answer is found, over either API. Transfers have no
// order_state: the Caddy event and the order service say it.
func TestTransferWithoutAnswer(t *testing.T) {
	for _, kind := range []string{"API v2", "API v3"} {
		t.Run(kind, func(t *testing.T) {
			env, shop := newFollowed(t, kind, "payouts")
			env.deposit(shop)
			path, request := "/mmpaymkttransfers/promotion/transfers", payout("t1")
			if kind == "API v3" {
				path, request = "/v3/fund-app/mch-transfer/transfer-bills", transferV3()
			}
			told := env.orders.listen()
			env.wechat.Misbehave(path, wepaytest.Fault{Kind: wepaytest.Reset, Standing: true})
			if a := env.try("transfer", request); a.Errcode != 40000 || a.Verdict == "NEVER" {
				t.Errorf("HTTP %d %s", a.status, a.body)
			}
			env.wechat.Behave(path)
			if kind == "API v3" {
				if _, err := env.wechat.ConfirmTransfer(shop.mchID, "t1"); err != nil {
					t.Fatal(err)
				}
				await(t, told)
				if got := env.take(); got.header.Get("wepay-event") != "MCHTRANSFER.BILL.FINISHED" || got.header.Get("wepay-source") != "query" {
					t.Errorf("got %v %s", got.header, got.body)
				}
			}
			env.until("the log says what became of it", func() bool {
				return env.logs("order followed up", `"kind":"transfer"`, `"out_trade_no":"t1"`, `"state":"paid"`) == 1
			})
			if n := env.emitted("order_recovered"); n > 0 {
				t.Errorf("a transfer is counted as a payment that was recovered")
			}
		})
	}
}

// Refunds of which WeChat does not notify are followed to their end, and their order
// with them.
func TestRefundsAreFollowed(t *testing.T) {
	for kind := range followed {
		t.Run(kind, func(t *testing.T) {
			env, shop := newFollowed(t, kind)
			told := env.orders.listen()
			env.get("get_pay_request_params", shop.order3("order-1"))
			env.pay(shop, "order-1")
			await(t, told)
			env.take()
			ids := make(map[string]bool)
			for _, step := range []struct {
				number      string
				fee         int
				status      string
				refund      string // its state
				order       string
				refundedFee int64
			}{
				{"r1", 200, wepaytest.RefundSuccess, "refunded", "partly_refunded", 200},
				{"r2", 300, wepaytest.RefundClosed, "closed", "partly_refunded", 200},
				{"r3", 400, wepaytest.RefundChanged, "abnormal", "partly_refunded", 200},
				{"r4", 600, wepaytest.RefundSuccess, "refunded", "partly_refunded", 800},
			} {
				env.get("refund", shop.refund("order-1", step.number, step.fee))
				if s := env.state("order-1"); s.State != "refunding" || s.RefundFee != step.refundedFee && step.status != wepaytest.RefundSuccess {
					t.Errorf("%s: got %+v", step.number, s)
				}
				if d, err := env.wechat.FinishRefund(shop.mchID, step.number, step.status); err != nil || d != nil {
					t.Fatal(d, err)
				}
				id := await(t, told)
				got := env.take()
				checkWebhook(t, got)
				fields := membersOf(t, got.body)
				status := fields["refund_status"]
				if got.header.Get("wepay-source") != "query" || ids[id] || fields["out_refund_no"] != "string "+step.number || !strings.HasPrefix(got.header.Get("wepay-event"), "REFUND.") || status == "" {
					t.Errorf("%s: got %v %s", step.number, got.header, got.body)
				}
				ids[id] = true
				s := env.awaitState("order-1", step.order)
				i := slices.IndexFunc(s.Refunds, func(r struct {
					OutRefundNo string `json:"out_refund_no"`
					RefundFee   int64  `json:"refund_fee"`
					State       string `json:"state"`
				},
				) bool {
					return r.OutRefundNo == step.number
				})
				if i < 0 || s.Refunds[i].State != step.refund || s.Refunds[i].RefundFee != int64(step.fee) || s.RefundFee != step.refundedFee {
					t.Errorf("%s: got %+v", step.number, s)
				}
			}
			if n := env.emitted("refund_abnormal", `"out_refund_no":"r3"`, `"amount":400`, `"todo":"`); n != 1 {
				t.Errorf("%d Caddy events of the abnormal refund", n)
			}
			if n := env.logs(`"level":"error"`, "refund abnormal", "退款异常", `"out_refund_no":"r3"`); n != 1 {
				t.Errorf("the log has %d lines of the abnormal refund", n)
			}
			// The operator settles it: WeChat says so when somebody asks.
			if _, err := env.wechat.FinishRefund(shop.mchID, "r3", wepaytest.RefundSuccess); err != nil {
				t.Fatal(err)
			}
		})
	}
}

// An order given back whole is refunded.
func TestWholeRefund(t *testing.T) {
	for kind := range followed {
		t.Run(kind, func(t *testing.T) {
			env, shop := newFollowed(t, kind)
			env.wechat.LoseNotifications(1, 0)
			told := env.orders.listen()
			env.get("get_pay_request_params", shop.order3("order-1"))
			env.pay(shop, "order-1")
			env.get("refund", shop.refund("order-1", "r1", 1200))
			if _, err := env.wechat.FinishRefund(shop.mchID, "r1", wepaytest.RefundSuccess); err != nil {
				t.Fatal(err)
			}
			first, second := await(t, told), await(t, told)
			placed, _ := env.wechat.Order(shop.mchID, "order-1")
			paid := shop.paidID(placed.TransactionID) // whichever was asked about first
			if got := env.orders.forget(); len(got) != 2 || (first == paid) == (second == paid) {
				t.Errorf("told %s and then %s", first, second)
			}
			if s := env.awaitState("order-1", "refunded"); s.RefundFee != 1200 {
				t.Errorf("got %+v", s)
			}
			if s := env.awaitRest("order-1"); len(s.Events) != 2 {
				t.Errorf("got %+v", s)
			}
		})
	}
}

// An order that a caller closes is known as closed soon, whenever it is due.
func TestClosingIsFollowed(t *testing.T) {
	for _, kind := range []string{"API v2", "API v3"} {
		t.Run(kind, func(t *testing.T) {
			env, shop := newEnvironment(t), newFollower(kind)
			l := env.followed(stall{shop, nil})
			l.options = strings.Replace(l.options, "schedule 1s 1s 2s", "schedule 1h", 1)
			env.serve(l)
			env.get("get_pay_request_params", shop.order3("order-1"))
			env.done("close_order", map[string]any{"out_trade_no": "order-1"})
			if s := env.awaitState("order-1", "closed"); s.Source != "query" || s.NextAsked != "" || s.Asked != 1 {
				t.Errorf("got %+v", s)
			}
		})
	}
}
