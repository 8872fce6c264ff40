package caddymodule

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/caddyserver/caddy/v2"

	"github.com/windsome/caddy-wepay/caddymodule/delivery"
	"github.com/windsome/caddy-wepay/caddymodule/store/storetest"
	"github.com/windsome/caddy-wepay/wepay"
	"github.com/windsome/caddy-wepay/wepay/apiv2"
)

// holdLargeNotifications takes the room of all large notifications.
func holdLargeNotifications(t *testing.T) (release func()) {
	t.Helper()
	if !largeNotifications.TryAcquire(roomForLarge) {
		t.Fatal("somebody holds some of the room")
	}
	return func() { largeNotifications.Release(roomForLarge) }
}

// A small body needs no room; a larger one takes what there is, once, and gives it
// back.
func TestIntake(t *testing.T) {
	read := func(size int) (*intake, error) {
		in := &intake{ReadCloser: io.NopCloser(strings.NewReader(strings.Repeat(" ", size)))}
		text, err := io.ReadAll(in)
		if err == nil && len(text) != size {
			t.Errorf("of %d bytes %d are read", size, len(text))
		}
		return in, err
	}
	release := holdLargeNotifications(t)
	if _, err := read(smallNotification - 1); err != nil {
		t.Error(err)
	}
	if _, err := read(smallNotification + 1); !errors.Is(err, wepay.ErrBusy) {
		t.Errorf("got %v", err)
	}
	release()
	var held []*intake
	for range roomForLarge / maxBody {
		in, err := read(maxBody)
		if err != nil {
			t.Fatal(err)
		}
		held = append(held, in)
	}
	if _, err := read(maxBody); !errors.Is(err, wepay.ErrBusy) {
		t.Errorf("got %v", err)
	}
	for _, in := range held {
		in.release()
		in.release()
	}
	holdLargeNotifications(t)()
}

// Whoever is refused for want of room hears of it after a while, on a connection
// that is closed then, and waits no longer than the notification may take.
func TestHoldOff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for range 20 {
			began, w := time.Now(), httptest.NewRecorder()
			holdOff(t.Context(), w)
			if took := time.Since(began); took < busyPause || took > 2*busyPause || w.Header().Get("Connection") != "close" {
				t.Errorf("it took %v, with %v", took, w.Header())
			}
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		began := time.Now()
		holdOff(ctx, httptest.NewRecorder())
		if took := time.Since(began); took != time.Second {
			t.Errorf("it took %v", took)
		}
	})
}

// WeChat is answered in time although a store does not take what it says.
func TestStoreThatHangs(t *testing.T) {
	h := newTill(t, nil)
	synctest.Test(t, func(t *testing.T) {
		merchant := h.merchants.All()[0]
		h.app.logger, h.app.store, h.app.opened = h.logger, storetest.NewMemory(), make(chan struct{}) // which is never closed
		h.app.CallbackTimeout = caddy.Duration(defaultDeliveryTimeout)
		h.app.accounts[merchant].endpoint = &delivery.Endpoint{URL: "http://orders/"}
		fields := wepay.NewFields(map[string]string{
			"appid": merchant.AppID, "mch_id": merchant.MchID, "return_code": "SUCCESS", "result_code": "SUCCESS", "nonce_str": "1",
			"openid": "o1", "out_trade_no": "order-1", "transaction_id": "4200000001", "trade_type": "JSAPI", "bank_type": "CMC",
			"total_fee": "1200", "cash_fee": "1200", "time_end": "20260101120000", "is_subscribe": "N",
		})
		fields.Set("sign", apiv2.Sign(fields, wepay.MD5, merchant.PartnerKey))
		body, err := apiv2.Encode("xml", fields)
		if err != nil {
			t.Fatal(err)
		}
		began, w := time.Now(), httptest.NewRecorder()
		r := httptest.NewRequest(http.MethodPost, "http://m.example.cn/wepay/pay_notify", strings.NewReader(string(body)))
		if err := h.ServeHTTP(w, r, nil); err != nil {
			t.Fatal(err)
		}
		if took := time.Since(began); took != maxNotificationTime || !strings.Contains(w.Body.String(), "not_stored") {
			t.Errorf("WeChat hears %s after %v", w.Body, took)
		}
	})
}

// Large notifications have a room of their own, which is bounded, and those of
// WeChat's come in beside it.
func TestRoomForLargeNotifications(t *testing.T) {
	withServer(t, accessFile(""), func(server http.Handler) {
		synctest.Test(t, func(t *testing.T) { // whoever is refused for want of room waits
			send := func(body string, header http.Header) *httptest.ResponseRecorder {
				began, w := time.Now(), httptest.NewRecorder()
				r := httptest.NewRequest(http.MethodPost, "/apis/v1/wepay/pay_notify", strings.NewReader(body))
				r.Header = header
				server.ServeHTTP(w, r)
				if busy := strings.Contains(w.Body.String(), "busy"); busy != (time.Since(began) >= busyPause) {
					t.Errorf("%s took %v", w.Body, time.Since(began))
				}
				return w
			}
			signed := http.Header{"Wechatpay-Serial": {"1"}}
			const size = smallNotification + 1
			release := holdLargeNotifications(t)
			for _, test := range []struct {
				body   string
				header http.Header
				status int
				reason string
			}{
				{"<xml>" + strings.Repeat(" ", size), http.Header{}, http.StatusServiceUnavailable, "busy"},
				{"{" + strings.Repeat(" ", size), signed, http.StatusServiceUnavailable, "busy"},
				{"<xml>", http.Header{}, http.StatusOK, "malformed"},
				{"{", signed, http.StatusUnauthorized, "unsigned"},
			} {
				if w := send(test.body, test.header); w.Code != test.status || !strings.Contains(w.Body.String(), test.reason) {
					t.Errorf("HTTP %d %s, want %d and %s", w.Code, w.Body, test.status, test.reason)
				}
			}
			release()
			for range 2 * roomForLarge / maxBody { // each gives its room back
				if w := send("<xml>"+strings.Repeat(" ", size), http.Header{}); !strings.Contains(w.Body.String(), "malformed") {
					t.Fatalf("WeChat hears %s", w.Body)
				}
			}
		})
	})
}
