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

	"github.com/windsome/caddy-wepay/wepay"
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
				{"<xml>" + strings.Repeat(" ", size), http.Header{}, http.StatusOK, "busy"},
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
