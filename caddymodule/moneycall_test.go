package caddymodule

import (
	"context"
	"crypto/rand"
	"crypto/rsa"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"

	"github.com/windsome/caddy-wepay/wepay"
	"github.com/windsome/caddy-wepay/wepay/apiv2"
	"github.com/windsome/caddy-wepay/wepay/apiv3"
)

// till is a handler whose calls go to a function instead of to WeChat, and its log.
type till struct {
	*Handler
	logged *observer.ObservedLogs
}

func newTill(t *testing.T, wechat func(*http.Request) (*http.Response, error)) till {
	t.Helper()
	merchant := &wepay.Merchant{
		Name: "shop", Env: wepay.H5, Type: wepay.Direct, AppID: "wx00112233445566aa", MchID: "1900000109", SignType: wepay.MD5,
		PartnerKey: "Kd7q2Vn0sX9tB4mHc6Zr1Lw8Fy3Pj5Ga", Endpoints: []string{"https://wechat.example"}, NotifyURL: "https://m.example.cn/", Passthrough: true, Payouts: true,
	}
	merchants, err := wepay.NewMerchants(merchant)
	if err != nil {
		t.Fatal(err)
	}
	access, err := newAccess(caddy.Context{}, nil, []string{"t"})
	if err != nil {
		t.Fatal(err)
	}
	core, logged := observer.New(zap.DebugLevel)
	client := apiv2.NewClient(merchant, wepay.ClientOptions{Transport: transportFunc(wechat), Timeout: time.Minute})
	app := &App{metrics: newMetrics(), accounts: map[*wepay.Merchant]*account{merchant: {merchant: merchant, v2: client}}}
	return till{&Handler{prefix: "/wepay", app: app, merchants: merchants, access: access, logger: zap.New(core)}, logged}
}

type transportFunc func(*http.Request) (*http.Response, error)

func (f transportFunc) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

// newTillV3 is one whose merchant has API v3 as well.
func newTillV3(t *testing.T, wechat func(*http.Request) (*http.Response, error)) till {
	t.Helper()
	h := newTill(t, wechat)
	merchant := h.merchants.All()[0]
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	merchant.PrivateKey, merchant.MchSerial, merchant.APIv3Key = key, strings.Repeat("A", 40), "v3Key7q2Vn0sX9tB4mHc6Zr1Lw8Fy301"
	options := wepay.ClientOptions{Transport: transportFunc(wechat), Timeout: time.Minute}
	h.app.accounts[merchant].v3 = apiv3.NewClient(merchant, apiv3.NewKeyRing(merchant, nil, options), options)
	return h
}

// asks has somebody ask for an operation, and returns what he is answered.
func (h till) asks(ctx context.Context, route, body string) failure {
	return h.asksBy(ctx, http.MethodPost, route, body)
}

func (h till) asksBy(ctx context.Context, method, route, body string) failure {
	r := httptest.NewRequest(method, "http://m.example.cn/wepay/"+route, strings.NewReader(body))
	r.Header.Set("Authorization", "Bearer t")
	w := httptest.NewRecorder()
	if err := h.ServeHTTP(w, r.WithContext(ctx), caddyhttp.HandlerFunc(nil)); err != nil {
		panic(err)
	}
	var f failure
	if err := json.Unmarshal(w.Body.Bytes(), &f); err != nil {
		panic(err)
	}
	return f
}

const (
	order   = `{"id":"order-1","fee":1200,"body":"b","openid":"o1","ip":"203.0.113.7"}`
	ordered = "get_pay_request_params"
)

// checkOpen demands that the log has, once, that nobody knows what came of the order.
func (h till) checkOpen(t *testing.T, why string) {
	t.Helper()
	h.checkOpenOf(t, ordered, why)
}

func (h till) checkOpenOf(t *testing.T, operation, why string) {
	t.Helper()
	lines := h.logged.FilterMessage("operation failed").FilterLevelExact(zapcore.ErrorLevel).All()
	if len(lines) != 1 {
		t.Fatalf("the log has %d such lines: %v", len(lines), h.logged.All())
	}
	fields := lines[0].ContextMap()
	for name, want := range map[string]any{
		"operation": operation, "verdict": "QUERY", "errcode": int64(40000), "merchant": "shop", "out_trade_no": "order-1", "total_fee": "1200",
	} {
		if fields[name] != want {
			t.Errorf("%s is %v, wants %v, in %v", name, fields[name], want, fields)
		}
	}
	if text := fmt.Sprint(fields["error"]); !strings.Contains(text, why) || !strings.Contains(text, wepay.ErrNoAnswer.Error()) || !strings.Contains(text, wepay.Query.Advice()) {
		t.Errorf("the reason is %s, wants %s", text, why)
	}
	if strings.Contains(fmt.Sprint(fields), "o1") && !strings.Contains(fmt.Sprint(fields), "order-1") {
		t.Errorf("the log tells who pays: %v", fields)
	}
	if running, _ := inFlight.count(); running > 0 {
		t.Errorf("%d calls are still in flight", running)
	}
}

// alone gives a test calls in flight of its own.
func alone(t *testing.T) {
	all := inFlight
	inFlight = newMoneyCalls()
	t.Cleanup(func() { inFlight = all })
}

// A panic on the way to WeChat leaves the outcome open, and both the caller and the
// log are told so.
func TestPanicInTheMiddle(t *testing.T) {
	alone(t)
	h := newTill(t, func(*http.Request) (*http.Response, error) { panic("in the transport") })
	if f := h.asks(t.Context(), ordered, order); f.Errcode != codeWeChat || f.Verdict != wepay.Query || strings.Contains(f.XOrigMsg, "transport") {
		t.Errorf("the caller hears %+v", f)
	}
	h.checkOpen(t, "a panic")
	if lines := h.logged.FilterMessage("panic").All(); len(lines) != 1 || !strings.Contains(fmt.Sprint(lines[0].ContextMap()), "TestPanicInTheMiddle") {
		t.Errorf("the log says of the panic %v", lines)
	}
	// Where no money moves net/http deals with it.
	defer func() {
		if recover() == nil {
			t.Error("a panic is lost")
		}
	}()
	h.asks(t.Context(), "order_query", `{"out_trade_no":"order-1"}`)
}

// So it is with what is passed on over API v3, but for what only asks.
func TestPassedOnInTheMiddle(t *testing.T) {
	alone(t)
	const route, body = "v3/pay/transactions/jsapi", `{"out_trade_no":"order-1","amount":{"total":1200}}`
	h := newTillV3(t, func(*http.Request) (*http.Response, error) { panic("in the transport") })
	if f := h.asks(t.Context(), route, body); f.Verdict != wepay.Query {
		t.Errorf("the caller hears %+v", f)
	}
	h.checkOpenOf(t, "v3", "a panic")

	ctx, hangUp := context.WithCancel(t.Context())
	h = newTillV3(t, func(r *http.Request) (*http.Response, error) {
		hangUp()
		if err := r.Context().Err(); err != nil {
			t.Errorf("the call ends: %v", err)
		}
		return nil, errors.New("connection reset by peer")
	})
	h.asks(ctx, route, body)
	h.checkOpenOf(t, "v3", "connection reset by peer")

	ctx, hangUpAgain := context.WithCancel(t.Context())
	h = newTillV3(t, func(r *http.Request) (*http.Response, error) {
		hangUpAgain()
		if running, _ := inFlight.count(); running > 0 {
			t.Error("a question is in flight as what moves money is")
		}
		return nil, r.Context().Err()
	})
	if f := h.asksBy(ctx, http.MethodGet, route, ""); f.Verdict != wepay.Again {
		t.Errorf("a question that nobody waits for goes on: %+v", f)
	}
}

// The log says that an operation was done whose caller has hung up, where money
// may have moved, and nothing else.
func TestUndelivered(t *testing.T) {
	h := newTill(t, nil)
	gone, hangUp := context.WithCancel(t.Context())
	hangUp()
	money := operation{op: wepay.Refund, merchant: h.merchants.All()[0], call: new(moneyCall)}
	for _, test := range []struct {
		ctx  context.Context
		o    operation
		want int
	}{
		{t.Context(), money, 0},
		{gone, operation{op: wepay.QueryOrder, merchant: money.merchant}, 0},
		{gone, money, 1},
	} {
		h.logUndelivered(httptest.NewRequestWithContext(test.ctx, http.MethodPost, "/", nil), test.o)
		if lines := h.logged.TakeAll(); len(lines) != test.want {
			t.Errorf("%s, %v: the log has %v", test.o.op, test.ctx.Err(), lines)
		}
	}
}

// What a caller calls a number is logged no longer than a number is.
func TestLongNumber(t *testing.T) {
	alone(t)
	h := newTill(t, nil)
	h.asks(t.Context(), "refund", `{"out_refund_no":"`+strings.Repeat("1", 10_000)+`"}`)
	for _, line := range h.logged.All() {
		if number := fmt.Sprint(line.ContextMap()["out_refund_no"]); len(number) != mostOfNumber {
			t.Errorf("the log has %d bytes of a number", len(number))
		}
	}
	if h.logged.Len() != 1 {
		t.Errorf("the log has %v", h.logged.All())
	}
}

// Who hangs up does not end a call that may move money.
func TestCallerHangsUp(t *testing.T) {
	alone(t)
	ctx, hangUp := context.WithCancel(t.Context())
	h := newTill(t, func(r *http.Request) (*http.Response, error) {
		hangUp()
		if err := r.Context().Err(); err != nil {
			t.Errorf("the call ends: %v", err)
		}
		return nil, errors.New("connection reset by peer")
	})
	h.asks(ctx, ordered, order)
	h.checkOpen(t, "connection reset by peer")

	ctx, hangUpAgain := context.WithCancel(t.Context())
	h = newTill(t, func(r *http.Request) (*http.Response, error) {
		hangUpAgain()
		return nil, r.Context().Err()
	})
	if f := h.asks(ctx, "order_query", `{"out_trade_no":"order-1"}`); f.Verdict != wepay.Again {
		t.Errorf("a query that nobody waits for goes on: %+v", f)
	}
}

// What the grace period is too short for is in the log when the server has stopped,
// whether the call can be ended or not, and nothing begins any more.
func TestStopInTheMiddle(t *testing.T) {
	for name, ends := range map[string]bool{"ended": true, "hanging": false} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				alone(t)
				leave := make(chan struct{})
				h := newTill(t, func(r *http.Request) (*http.Response, error) {
					if ends {
						<-r.Context().Done()
						return nil, context.Cause(r.Context())
					}
					<-leave
					return nil, errors.New("connection reset by peer")
				})
				answered := make(chan failure, 1)
				go func() { answered <- h.asks(t.Context(), ordered, order) }()
				synctest.Wait()
				began := time.Now()
				inFlight.stop()
				if took, most := time.Since(began), map[bool]time.Duration{true: 0, false: endTime}[ends]; took != most {
					t.Errorf("it took %v, wants %v", took, most)
				}
				if lines := h.logged.FilterMessage("operation failed").Len(); lines != 1 {
					t.Errorf("the log has %d lines when the server has stopped", lines)
				}
				close(leave)
				if f := <-answered; f.Verdict != wepay.Query {
					t.Errorf("the caller hears %+v", f)
				}
				h.checkOpen(t, errStopping.Error())
				if f := h.asks(t.Context(), ordered, order); f.Verdict != wepay.Again || !strings.Contains(f.XOrigMsg, "nothing was sent") {
					t.Errorf("the next caller hears %+v", f)
				}
			})
		})
	}
}

// A stop waits for all calls together no longer than it may, and each that has
// ended gives back what it held.
func TestStopIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h, calls := newTill(t, nil), newMoneyCalls()
		o := operation{op: wepay.Refund, merchant: h.merchants.All()[0]}
		for _, takes := range []time.Duration{0, endTime / 2, endTime - 1, time.Hour} {
			call, err := calls.begin(t.Context(), o, h.Handler)
			if err != nil {
				t.Fatal(err)
			}
			go func() {
				<-call.ctx.Done()
				<-time.After(takes)
				calls.done(call)
			}()
		}
		finished, err := calls.begin(t.Context(), o, h.Handler)
		if err != nil {
			t.Fatal(err)
		}
		calls.done(finished)
		if finished.ctx.Err() == nil {
			t.Error("a call that is done goes on")
		}
		began := time.Now()
		calls.stop()
		if took := time.Since(began); took != 500*time.Millisecond {
			t.Errorf("it took %v", took)
		}
		if lines := h.logged.Len(); lines != 1 {
			t.Errorf("the log has %v", h.logged.All())
		}
		<-time.After(time.Hour)
		synctest.Wait()
		if running, _ := calls.count(); running > 0 {
			t.Errorf("%d calls are in flight", running)
		}
	})
}

// The numbers of what is passed on over API v3 are told in API v2's words.
func TestPassedNumbers(t *testing.T) {
	for body, want := range map[string]string{
		`{"out_trade_no":"o1","out_refund_no":"r1","amount":{"refund":200,"total":1200,"currency":"CNY"},"payer":{"openid":"o"}}`: `{"out_refund_no":"r1","out_trade_no":"o1","refund_fee":"200","total_fee":"1200"}`,
		`{"out_bill_no":"b1","transfer_amount":100,"openid":"o","amount":5}`:                                                      `{"amount":"5","out_bill_no":"b1","transfer_amount":"100"}`,
		`{"out_trade_no":{"a":1},"amount":[1]}`:                                                                                   `{}`,
		`[]`:                                                                                                                      `{}`,
		`{"out_trade_no":`:                                                                                                        `{}`,
		``:                                                                                                                        `{}`,
	} {
		if got, err := passedNumbers([]byte(body)).MarshalJSON(); err != nil || string(got) != want {
			t.Errorf("%s: got %s, want %s (%v)", body, got, want, err)
		}
	}
}
