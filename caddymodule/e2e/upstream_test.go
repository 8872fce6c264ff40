package e2e_test

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/windsome/caddy-wepay/wepay/wepaytest"
)

// The sentences that tell a caller what to do.
const (
	mayHaveHappened = "it may have happened: query it before anything else"
	nothingWasSent  = "nothing was sent"
)

// Whatever spoils WeChat's answer, the caller hears that the outcome is open;
// and the call, which was done, is the same when it is repeated.
func TestNoBelievableAnswer(t *testing.T) {
	env, shop := newShop(t, "")
	for _, test := range []struct {
		name  string
		fault wepaytest.Fault
		says  string
	}{
		{"reset", wepaytest.Fault{Kind: wepaytest.Reset}, ""},
		{"cut off", wepaytest.Fault{Kind: wepaytest.CutOff}, "reading the reply"},
		{"a page", wepaytest.Fault{Kind: wepaytest.HTML}, `a page with the title "200 OK"`},
		{"HTTP 500", wepaytest.Fault{Kind: wepaytest.HTML, Status: 500}, "HTTP status 500"},
		{"HTTP 302", wepaytest.Fault{Kind: wepaytest.HTML, Status: 302}, "HTTP status 302"},
		{"empty", wepaytest.Fault{Kind: wepaytest.EmptyBody}, "empty reply"},
		{"truncated", wepaytest.Fault{Kind: wepaytest.TruncatedXML}, "malformed message"},
		{"wrong signature", wepaytest.Fault{Kind: wepaytest.WrongSignature}, "wrong signature"},
		{"no signature", wepaytest.Fault{Kind: wepaytest.NoSignature}, "no signature"},
		{"about another merchant", wepaytest.Fault{Kind: wepaytest.Foreign}, "another mch_id"},
	} {
		t.Run(test.name, func(t *testing.T) {
			checkOpenOutcome(env.in(t), shop, "order-"+strings.ReplaceAll(test.name, " ", "-"), test.fault, test.says)
		})
	}
}

// checkOpenOutcome spoils WeChat's answer to an order and to its refund.
func checkOpenOutcome(env *environment, shop *merchant, id string, fault wepaytest.Fault, says string) {
	env.t.Helper()
	// Standing, since net/http repeats what a dying connection took.
	fault.Standing = true
	order, refund := shop.order(id), shop.refund(id, "refund-"+id, 200)

	env.wechat.Misbehave("/pay/unifiedorder", fault)
	checkNoAnswer(env.t, env.ask("get_pay_request_params", order), "QUERY", mayHaveHappened, says)
	env.wechat.Behave("/pay/unifiedorder")
	env.get("get_pay_request_params", order)
	checkTaken(env.t, env.pay(shop, id))

	env.wechat.Misbehave("/secapi/pay/refund", fault)
	checkNoAnswer(env.t, env.ask("refund", refund), "QUERY", mayHaveHappened, says)
	env.wechat.Behave("/secapi/pay/refund")
	if order, _ := env.wechat.Order(shop.mchID, id); order.Refunds != 1 {
		env.t.Fatalf("the refund did not happen behind the lost answer: %+v", order)
	}
	env.get("refund", refund)
	if order, _ := env.wechat.Order(shop.mchID, id); order.Refunds != 1 || order.Refunded != 200 {
		env.t.Errorf("the same refund again: WeChat has %+v", order)
	}
}

// Neither WeChat nor an order service is waited for longer than the config
// says, which is much less here than without it.
func TestTimeLimits(t *testing.T) {
	env, shop := newShop(t, "call_timeout 2s\ncallback_timeout 1s")
	t.Run("call_timeout", func(t *testing.T) {
		began := time.Now()
		checkOpenOutcome(env.in(t), shop, "order-1", wepaytest.Fault{Kind: wepaytest.Slow}, "deadline exceeded")
		if took := time.Since(began); took > 12*time.Second {
			t.Errorf("two calls took %v", took)
		}
	})
	t.Run("callback_timeout", func(t *testing.T) {
		env, began := env.in(t), time.Now()
		env.get("get_pay_request_params", shop.order("order-2"))
		env.orders.answers(func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() })
		delivery := env.pay(shop, "order-2")
		if attempt := delivery.Attempts()[0]; string(attempt.Answer) != refused("not_taken") {
			t.Errorf("WeChat got %s (%v)", attempt.Answer, attempt.Err)
		}
		if took := time.Since(began); took > 3500*time.Millisecond {
			t.Errorf("the hand-over took %v", took)
		}
		env.orders.answers(nil)
		env.clock.Advance(15 * time.Second)
		checkTaken(t, delivery)
	})
}

// checkNoAnswer demands the failure of what WeChat gave no believable answer
// to.
func checkNoAnswer(t *testing.T, a answer, verdict string, says ...string) {
	t.Helper()
	if a.status != http.StatusBadGateway || a.Errcode != 40000 || a.Message != "第三方API调用失败" || a.Verdict != verdict || a.ErrCode != "" {
		t.Errorf("HTTP %d %s", a.status, a.body)
	}
	for _, sentence := range says {
		if !strings.Contains(a.XOrigMsg, sentence) {
			t.Errorf("%q does not say %q", a.XOrigMsg, sentence)
		}
	}
}

// What WeChat says by itself is an answer.
func TestWeChatRefuses(t *testing.T) {
	env, shop := newShop(t, "")
	for _, test := range []struct {
		name          string
		path          string
		fault         wepaytest.Fault
		code, message string
		verdict       string
	}{
		{"order paid", "/pay/unifiedorder", wepaytest.Fault{Kind: wepaytest.Refused, Code: "ORDERPAID", Message: "该订单已支付"}, "ORDERPAID", "该订单已支付", "DONE"},
		{"order closed", "/pay/unifiedorder", wepaytest.Fault{Kind: wepaytest.Refused, Code: "ORDERCLOSED", Message: "该订单已关闭"}, "ORDERCLOSED", "该订单已关闭", "NEVER"},
		{"order, no permission", "/pay/unifiedorder", wepaytest.Fault{Kind: wepaytest.Refused, Code: "NOAUTH", Message: "商户无此接口权限"}, "NOAUTH", "商户无此接口权限", "FIX"},
		{"refund, no money", "/secapi/pay/refund", wepaytest.Fault{Kind: wepaytest.Refused, Code: "NOTENOUGH", Message: "基本账户余额不足"}, "NOTENOUGH", "基本账户余额不足", "LATER"},
		{"refund, trouble at WeChat", "/secapi/pay/refund", wepaytest.Fault{Kind: wepaytest.Refused}, "SYSTEMERROR", "系统繁忙,请稍后再试.", "AGAIN"},
		{"refund, a code of tomorrow", "/secapi/pay/refund", wepaytest.Fault{Kind: wepaytest.Refused, Code: "NEWS", Message: "新"}, "NEWS", "新", "QUERY"},
		{"refund, no code", "/secapi/pay/refund", wepaytest.Fault{Kind: wepaytest.Failed, Message: "签名错误"}, "", "签名错误", "FIX"},
		{"refund, no code, trouble at WeChat", "/secapi/pay/refund", wepaytest.Fault{Kind: wepaytest.Failed}, "", "系统繁忙,请稍后再试.", "AGAIN"},
	} {
		t.Run(test.name, func(t *testing.T) {
			env := env.in(t)
			env.wechat.Misbehave(test.path, test.fault)
			route, request := "get_pay_request_params", shop.order("order-1")
			if test.path != "/pay/unifiedorder" {
				route, request = "refund", shop.refund("order-1", "refund-1", 1)
			}
			a := env.ask(route, request)
			if a.status != http.StatusOK || a.Errcode != 40000 || a.ErrCode != test.code || a.ErrCodeDes != test.message || a.Verdict != test.verdict {
				t.Errorf("HTTP %d %s", a.status, a.body)
			}
		})
	}
}

func TestWeChatCannotBeReached(t *testing.T) {
	env, shop := newEnvironment(t), newMerchant("shop", 1)
	shop.endpoint = "https://" + freeAddress(t)
	env.serve(layout{merchants: []*merchant{shop}})
	for _, test := range []struct {
		route   string
		request map[string]any
	}{
		{"get_pay_request_params", shop.order("order-1")},
		{"order_query", map[string]any{"out_trade_no": "order-1"}},
		{"refund", shop.refund("order-1", "refund-1", 1)},
		{"get_sign_key", map[string]any{}},
	} {
		t.Run(test.route, func(t *testing.T) {
			a := env.in(t).ask(test.route, test.request)
			checkNoAnswer(t, a, "AGAIN", nothingWasSent, "connection refused")
			if strings.Contains(a.XOrigMsg, mayHaveHappened) {
				t.Errorf("%q", a.XOrigMsg)
			}
		})
	}
}

// An endpoint that nobody vouches for gets nothing.
func TestStrangerAtWeChatsAddress(t *testing.T) {
	stranger := httptest.NewTLSServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {
		t.Error("the stranger was told")
	}))
	stranger.Config.ErrorLog = quiet
	t.Cleanup(stranger.Close)
	env, shop := newEnvironment(t), newMerchant("shop", 1)
	shop.endpoint = stranger.URL
	env.serve(layout{merchants: []*merchant{shop}})
	checkNoAnswer(t, env.ask("refund", shop.refund("order-1", "refund-1", 1)), "AGAIN", nothingWasSent, "certificate")
}

// The second access point gets the very same call when the first gives no
// answer, and comes first for a while.
func TestSecondAccessPoint(t *testing.T) {
	for _, test := range []struct {
		name  string
		first func(t *testing.T, asked *int) string // its address
		asked int
	}{
		{"the first is down", func(t *testing.T, _ *int) string { return "https://" + freeAddress(t) }, 0},
		{"the first gives no answer", func(t *testing.T, asked *int) string {
			first := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				*asked++
				_, _ = io.Copy(io.Discard, r.Body)
				w.WriteHeader(http.StatusBadGateway)
			}))
			t.Cleanup(first.Close)
			return first.URL
		}, 1},
	} {
		t.Run(test.name, func(t *testing.T) {
			env, shop := newEnvironment(t), newMerchant("shop", 1)
			asked := 0
			shop.endpoint = test.first(t, &asked) + " " + env.wechat.URL
			env.serve(layout{merchants: []*merchant{shop}})
			env.get("get_pay_request_params", shop.order("order-1"))
			checkTaken(t, env.pay(shop, "order-1"))
			env.get("refund", shop.refund("order-1", "refund-1", 200))
			if asked != test.asked {
				t.Errorf("the first was asked %d times, wants %d", asked, test.asked)
			}
			if order, _ := env.wechat.Order(shop.mchID, "order-1"); order.Refunded != 200 {
				t.Errorf("WeChat has %+v", order)
			}
		})
	}
}

// The sandbox has a key of its own, which its notifications are signed with; it
// is fetched once.
func TestSandbox(t *testing.T) {
	env, shop := newEnvironment(t), newMerchant("shop", 1)
	shop.sandbox = true
	env.serve(layout{merchants: []*merchant{shop}})
	for _, id := range []string{"order-1", "order-2"} {
		env.get("get_pay_request_params", shop.order(id))
		checkTaken(t, env.pay(shop, id, wepaytest.InSandbox()))
		checkSameEvent(t, env.orders.forget())
	}
	var paths []string
	for _, request := range env.received() {
		paths = append(paths, request.Path)
	}
	const key, order = "/xdc/apiv2getsignkey/sign/getsignkey", "/xdc/apiv2sandbox/pay/unifiedorder"
	if !slices.Equal(paths, []string{key, order, order}) {
		t.Errorf("WeChat was asked for %v", paths)
	}
}

// What the order service answers decides what WeChat hears, and so whether
// WeChat sends again: 15 s later, with the same webhook-id, until it is taken.
func TestOrderServiceAnswers(t *testing.T) {
	env, shop := newShop(t, "")
	for i, test := range []struct {
		name   string
		answer http.HandlerFunc
		taken  bool
	}{
		{"errcode 0", replying(200, `{"errcode":0}`), true},
		{"errcode 0 and more", replying(200, ` {"errcode":0,"result":{"errcode":1}} `), true},
		{"a code of success", replying(200, `{"code":"SUCCESS","message":"成功"}`), true},
		{"code 200", replying(200, `{"code":200,"data":null}`), true},
		{"no errcode", replying(200, `{}`), true},
		{"nothing", replying(200, ""), true},
		{"a line end", replying(200, "\n"), true},
		{"201", replying(201, ""), true},
		{"204", replying(204, ""), true},
		{"errcode 1", replying(200, `{"errcode":1}`), false},
		{"errcode -1", replying(200, `{"errcode":-1,"message":"未知错误"}`), false},
		{"errcode null", replying(200, `{"errcode":null}`), false},
		{"errcode twice", replying(200, `{"errcode":0,"errcode":1}`), false},
		{"a code of failure", replying(200, `{"code":"FAIL"}`), false},
		{"code 500", replying(200, `{"code":500}`), false},
		{"errcode in quotes", replying(200, `{"errcode":"0"}`), false},
		{"errcode false", replying(200, `{"errcode":false}`), false},
		{"no JSON", replying(200, "success"), false},
		{"a page", replying(200, "<html>"), false},
		{"an array", replying(200, "[]"), false},
		{"null", replying(200, "null"), false},
		{"0", replying(200, "0"), false},
		{"half an object", replying(200, `{"errcode":0`), false},
		{"two objects", replying(200, `{"errcode":0}{"errcode":0}`), false},
		{"more than 64 KiB", replying(200, padded(`{"errcode":0}`, maxBody+1)), false},
		{"redirect", func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, "/taken", http.StatusFound) }, false},
		{"redirect that keeps the method", func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, "/taken", http.StatusTemporaryRedirect)
		}, false},
		{"304", replying(304, ""), false},
		{"400", replying(400, ""), false},
		{"404 with errcode 0", replying(404, `{"errcode":0}`), false},
		{"500", replying(500, ""), false},
		{"503", replying(503, `{"errcode":0}`), false},
		{"hanging up", func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }, false},
		{"hanging up in the middle", func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Length", "100")
			_, _ = io.WriteString(w, `{"errcode":0}`)
		}, false},
	} {
		t.Run(test.name, func(t *testing.T) {
			env := env.in(t)
			env.orders.answers(test.answer)
			id := fmt.Sprintf("order-%d", i)
			env.get("get_pay_request_params", shop.order(id))
			delivery := env.pay(shop, id)
			attempts := delivery.Attempts()
			if test.taken {
				checkTaken(t, delivery)
			} else if len(attempts) != 1 || string(attempts[0].Answer) != refused("not_taken") || attempts[0].Status != http.StatusOK {
				t.Fatalf("WeChat got %d %q", attempts[0].Status, attempts[0].Answer)
			}
			env.orders.answers(nil)
			env.clock.Advance(15 * time.Second)
			checkTaken(t, delivery)
			env.clock.Advance(48 * time.Hour)
			if got, want := len(delivery.Attempts()), map[bool]int{true: 1, false: 2}[test.taken]; got != want {
				t.Errorf("WeChat sent %d times, wants %d", got, want)
			}
			checkSameEvent(t, env.orders.forget())
		})
	}
}

// checkSameEvent demands that callbacks are of one event, at the address that
// was configured.
func checkSameEvent(t *testing.T, delivered []callback) {
	t.Helper()
	if len(delivered) == 0 {
		t.Error("the order service got nothing")
	}
	for _, c := range delivered {
		if id := c.header.Get("webhook-id"); id == "" || id != delivered[0].header.Get("webhook-id") ||
			!bytes.Equal(c.body, delivered[0].body) || c.path != "/paid/shop" {
			t.Errorf("the order service got %s %s at %s, after %s", id, c.body, c.path, delivered[0].header.Get("webhook-id"))
		}
	}
}

// An order service that is never there hears of a payment 16 times, and an
// event of another order is another.
func TestNeverTaken(t *testing.T) {
	env, shop := newShop(t, "")
	env.orders.answers(replying(http.StatusServiceUnavailable, ""))
	env.get("get_pay_request_params", shop.order("order-1"))
	delivery := env.pay(shop, "order-1")
	const s, m, h = time.Second, time.Minute, time.Hour
	for i, wait := range []time.Duration{15 * s, 15 * s, 30 * s, 3 * m, 10 * m, 20 * m, 30 * m, 30 * m, 30 * m, h, 3 * h, 3 * h, 3 * h, 6 * h, 6 * h} {
		env.clock.Advance(wait - s)
		before := len(delivery.Attempts())
		env.clock.Advance(s)
		if after := len(delivery.Attempts()); before != i+1 || after != i+2 {
			t.Fatalf("WeChat sent %d times before %v have passed and %d times after", before, wait, after)
		}
	}
	env.clock.Advance(48 * h)
	delivered := env.orders.forget()
	if len(delivered) != 16 || delivery.Taken() {
		t.Errorf("the order service got %d times", len(delivered))
	}
	checkSameEvent(t, delivered)

	env.orders.answers(nil)
	env.get("get_pay_request_params", shop.order("order-2"))
	checkTaken(t, env.pay(shop, "order-2"))
	if other := env.orders.forget()[0].header.Get("webhook-id"); other == delivered[0].header.Get("webhook-id") {
		t.Errorf("two payments are one event %s", other)
	}
}

func TestOrderServiceComesBack(t *testing.T) {
	env, shop := newEnvironment(t), newMerchant("shop", 1)
	address := freeAddress(t)
	shop.orders = "http://" + address + "/paid/shop"
	env.serve(layout{merchants: []*merchant{shop}})
	env.get("get_pay_request_params", shop.order("order-1"))
	delivery := env.pay(shop, "order-1")
	if got := string(delivery.Attempts()[0].Answer); got != refused("not_taken") {
		t.Errorf("with nobody there WeChat got %s", got)
	}
	back := newOrderServiceAt(t, address)
	env.clock.Advance(15 * time.Second)
	checkTaken(t, delivery)
	checkSameEvent(t, back.forget())
}
