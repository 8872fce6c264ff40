package apiv2_test

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/windsome/caddy-wepay/wepay"
)

// counts demands how often each server was asked.
func counts(t *testing.T, when string, first *wechat, n1 int, second *wechat, n2 int) {
	t.Helper()
	if got1, got2 := len(first.asked()), len(second.asked()); got1 != n1 || got2 != n2 {
		t.Errorf("%s: asked %d and %d times, want %d and %d", when, got1, got2, n1, n2)
	}
}

func TestFailover(t *testing.T) {
	for name, bad := range map[string]answer{
		"HTTP 500": status(500, ""), "a page": says("<html></html>"), "nothing": says(""), "reset": reset,
	} {
		for op := range unanswered {
			t.Run(name+" "+string(op), func(t *testing.T) {
				first, second := serve(t, bad), serve(t, does(op))
				m := withCertificate(t, merchant(first.URL, second.URL), "wechat.p12")
				c := client(t, m)
				do(t, c, op)
				counts(t, "after one call", first, 1, second, 1)
				// The number must stay, or it could be paid or refunded twice.
				if string(first.asked()[0].body) != string(second.asked()[0].body) {
					t.Error("the second endpoint got another request")
				}
			})
		}
	}
	t.Run("time-out", func(t *testing.T) {
		second := serve(t, does(wepay.Refund))
		m := withCertificate(t, merchant(serve(t, hang).URL, second.URL), "wechat.p12")
		do(t, client(t, m, wepay.ClientOptions{Timeout: time.Second}), wepay.Refund)
	})
	t.Run("nobody listens", func(t *testing.T) {
		second := serve(t, does(wepay.QueryOrder))
		do(t, client(t, merchant(refusedAddress(t), second.URL)), wepay.QueryOrder)
	})
}

// Nothing was sent to the first, but the second may have taken it.
func TestFailoverThatFails(t *testing.T) {
	second := serve(t, status(500, ""))
	m := withCertificate(t, merchant(refusedAddress(t), second.URL), "wechat.p12")
	_, err := client(t, m).Do(t.Context(), wepay.Refund, aRefund)
	wantError(t, err, wepay.Query)

	m = withCertificate(t, merchant(second.URL, refusedAddress(t)), "wechat.p12")
	_, err = client(t, m).Do(t.Context(), wepay.Refund, aRefund)
	wantError(t, err, wepay.Query)
}

// An attempt before may have succeeded, whatever the second access point
// refuses it for; to ask once more does no harm.
func TestRefusedAfterAnOpenAttempt(t *testing.T) {
	for _, test := range []struct {
		op   wepay.Operation
		code string
		want wepay.Verdict
	}{
		{wepay.Refund, "NOTENOUGH", wepay.Query},
		{wepay.Refund, "PARAM_ERROR", wepay.Query},
		{wepay.PlaceOrder, "ORDERPAID", wepay.Done},
		{wepay.QueryOrder, "PARAM_ERROR", wepay.Fix},
	} {
		t.Run(string(test.op)+" "+test.code, func(t *testing.T) {
			refusal := signed(reply(map[string]string{"result_code": "FAIL", "err_code": test.code}), wepay.MD5, key)
			first, second := serve(t, status(500, "")), serve(t, says(refusal))
			_, err := client(t, withCertificate(t, merchant(first.URL, second.URL), "wechat.p12")).Do(t.Context(), test.op, requests[test.op].in)
			counts(t, "after one call", first, 1, second, 1)
			failed := wantError(t, err, test.want)
			if doubted := strings.Contains(err.Error(), "may have succeeded"); doubted != (test.want == wepay.Query) || failed.Code != test.code {
				t.Errorf("got %v", err)
			}
		})
	}
}

func TestFailingEndpointIsRemembered(t *testing.T) {
	var broken atomic.Bool
	broken.Store(true)
	first := serve(t, func(w http.ResponseWriter, r asked) {
		if broken.Load() {
			w.WriteHeader(http.StatusBadGateway)
			return
		}
		does(wepay.QueryOrder)(w, r)
	})
	second := serve(t, does(wepay.QueryOrder))
	fixed := newClock()
	c := client(t, merchant(first.URL, second.URL), wepay.ClientOptions{Now: fixed.now})

	do(t, c, wepay.QueryOrder)
	counts(t, "when the first fails", first, 1, second, 1)
	do(t, c, wepay.QueryOrder)
	counts(t, "right after", first, 1, second, 2)
	fixed.turn(3*time.Minute - time.Second)
	do(t, c, wepay.QueryOrder)
	counts(t, "just before it is forgotten", first, 1, second, 3)

	broken.Store(false)
	fixed.turn(time.Second)
	do(t, c, wepay.QueryOrder)
	counts(t, "once it is forgotten", first, 2, second, 3)
	do(t, c, wepay.QueryOrder)
	counts(t, "as it works", first, 3, second, 3)
}

// An endpoint that failed is tried still, when the other fails too; its
// success ends the memory of its failure.
func TestFailingEndpointComesLast(t *testing.T) {
	var broken atomic.Bool
	broken.Store(true)
	first := serve(t, status(500, ""))
	second := serve(t, func(w http.ResponseWriter, r asked) {
		if broken.Load() {
			w.WriteHeader(http.StatusBadGateway)
			return
		}
		does(wepay.QueryOrder)(w, r)
	})
	c := client(t, merchant(first.URL, second.URL), wepay.ClientOptions{Now: newClock().now})

	_, err := c.Do(t.Context(), wepay.QueryOrder, aQuery)
	wantError(t, err, wepay.Again)
	counts(t, "when both fail", first, 1, second, 1)
	broken.Store(false)
	do(t, c, wepay.QueryOrder)
	counts(t, "when the second works again", first, 2, second, 2)
	do(t, c, wepay.QueryOrder)
	counts(t, "right after", first, 2, second, 3)
}

// Each client remembers for itself.
func TestFailingEndpointOfAnotherClient(t *testing.T) {
	first, second := serve(t, status(500, "")), serve(t, does(wepay.QueryOrder))
	do(t, client(t, merchant(first.URL, second.URL)), wepay.QueryOrder)
	do(t, client(t, merchant(first.URL, second.URL)), wepay.QueryOrder)
	counts(t, "two clients", first, 2, second, 2)
}

// Who has given up does not wait for another endpoint, and that is no fault of
// the one that was asked: it stays before one that did fail.
func TestNoFailoverWhenTheContextEnded(t *testing.T) {
	arrived := make(chan struct{})
	var hanging atomic.Bool
	first := serve(t, status(500, ""))
	second := serve(t, func(w http.ResponseWriter, r asked) {
		if hanging.Load() {
			close(arrived)
			hang(w, r)
			return
		}
		does(wepay.Refund)(w, r)
	})
	m := withCertificate(t, merchant(first.URL, second.URL), "wechat.p12")
	c := client(t, m, wepay.ClientOptions{Now: newClock().now})
	do(t, c, wepay.Refund)
	counts(t, "when the first fails", first, 1, second, 1)

	hanging.Store(true)
	ctx, cancel := context.WithCancel(t.Context())
	go func() {
		<-arrived
		cancel()
	}()
	_, err := c.Do(ctx, wepay.Refund, aRefund)
	wantError(t, err, wepay.Query)
	if !errors.Is(err, wepay.ErrNoAnswer) || !errors.Is(err, context.Canceled) {
		t.Errorf("got %v, want ErrNoAnswer for a context that was cancelled", err)
	}
	counts(t, "after giving up", first, 1, second, 2)

	hanging.Store(false)
	do(t, c, wepay.Refund)
	counts(t, "the next call", first, 1, second, 3)
}

// A refusal is an answer, and so is a reply that is not accepted: asking
// elsewhere would make neither better.
func TestNoFailoverAfterAnAnswer(t *testing.T) {
	for name, a := range map[string]answer{
		"return_code FAIL": says("<xml><return_code>FAIL</return_code></xml>"),
		"result_code FAIL": says(signed(reply(map[string]string{"result_code": "FAIL", "err_code": "SYSTEMERROR"}), wepay.MD5, key)),
		"unsigned":         says(document(reply(requests[wepay.QueryOrder].reply))),
	} {
		t.Run(name, func(t *testing.T) {
			first, second := serve(t, a), serve(t, does(wepay.QueryOrder))
			if _, err := client(t, merchant(first.URL, second.URL)).Do(t.Context(), wepay.QueryOrder, aQuery); err == nil {
				t.Error("it succeeded")
			}
			counts(t, "after the answer", first, 1, second, 0)
		})
	}
}
