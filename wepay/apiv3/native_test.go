package apiv3_test

import (
	"errors"
	"net/http"
	"testing"

	"github.com/windsome/caddy-wepay/wepay"
)

// A signed reply of 202 is one that has begun: what has a number of WeChat's can be
// asked for, and what has none is not done.
func TestAccepted(t *testing.T) {
	w := newWechat(t, func(http.ResponseWriter, *http.Request) answer {
		return answer{status: 202, body: `{"refund_id":"1","out_refund_no":"R1","status":"PROCESSING"}`}
	})
	got, err := w.client(t, w.merchant(t)).Do(t.Context(), wepay.Refund, refund("R1", "ORDER-0001", "2", "1"))
	if err != nil || got.Get("refund_id") != "1" {
		t.Errorf("got %v, %v", got, err)
	}
	for _, body := range []string{"", `{}`, `{"code":"USERPAYING"}`} {
		w := newWechat(t, func(http.ResponseWriter, *http.Request) answer { return answer{status: 202, body: body} })
		c := w.client(t, w.merchant(t))
		for op, in := range map[wepay.Operation]wepay.Fields{
			wepay.CloseOrder: aQuery, wepay.PlaceOrder: order("ORDER-0001", "1200"), wepay.Refund: refund("R1", "ORDER-0001", "2", "1"),
		} {
			got, err := c.Do(t.Context(), op, in)
			native, nativeErr := c.Native(t.Context(), op, in)
			if got != nil || native != nil || !errors.Is(err, wepay.ErrNoAnswer) || !errors.Is(nativeErr, wepay.ErrNoAnswer) {
				t.Errorf("%s, 202 %s: got %v, %v; native %s, %v", op, body, got, err, native, nativeErr)
			}
		}
	}
}

// A native reply has to pass the same checks.
func TestNativeIsBelieved(t *testing.T) {
	for _, body := range []string{state("1900000999", "ORDER-0001"), state(mchID, "ORDER-0002"), "", "{}", "hello", "null", state(mchID, "ORDER-0001") + "junk"} {
		w := newWechat(t, func(http.ResponseWriter, *http.Request) answer { return answer{body: body} })
		got, err := w.client(t, w.merchant(t)).Native(t.Context(), wepay.QueryOrder, aQuery)
		if wantError(t, err, wepay.Again); got != nil || !errors.Is(err, wepay.ErrNoAnswer) {
			t.Errorf("%s: got %s, %v", body, got, err)
		}
	}
}

// Native is WeChat's own JSON.
func TestNative(t *testing.T) {
	body := state(mchID, "ORDER-0001")
	w := newWechat(t, func(_ http.ResponseWriter, r *http.Request) answer {
		if r.Method == http.MethodPost {
			return answer{status: 204}
		}
		return answer{body: body}
	})
	c := w.client(t, w.merchant(t))
	if got, err := c.Native(t.Context(), wepay.QueryOrder, aQuery); err != nil || string(got) != body {
		t.Errorf("got %s, %v", got, err)
	}
	if got, err := c.Native(t.Context(), wepay.CloseOrder, aQuery); err != nil || got != nil {
		t.Errorf("got %s, %v", got, err)
	}
	if _, err := c.Native(t.Context(), wepay.Micropay, nil); !errors.Is(err, wepay.ErrNoOperation) {
		t.Errorf("got %v", err)
	}
}
