package apiv2_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/windsome/caddy-wepay/wepay"
	"github.com/windsome/caddy-wepay/wepay/apiv2"
)

// However many notifications of a refund come at once, WeChat is asked once.
func TestRefundIsAskedAboutOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		wechat, gate := newBooks(booked(nil)), make(chan struct{})
		wechat.does = func(*http.Request) error { <-gate; return nil }
		shop := wechat.client(asking())
		var all sync.WaitGroup
		for range 100 {
			all.Go(func() {
				if n, err := shop.Verify(t.Context(), unverifiedRefund(t, "50000000000202001010000000001")); err != nil || n.Fields.Get("refund_fee") != "1100" {
					t.Errorf("got %v, %v", n, err)
				}
			})
		}
		synctest.Wait()
		close(gate)
		all.Wait()
		if n := len(wechat.questions()); n != 1 {
			t.Errorf("WeChat was asked %d times", n)
		}
	})
}

// Of many refunds some are asked about at a time, and none is waited for longer
// than WeChat waits for an answer.
func TestRefundsAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		wechat := newBooks()
		wechat.does = func(r *http.Request) error { <-r.Context().Done(); return r.Context().Err() }
		shop, began := wechat.client(asking()), time.Now()
		var all sync.WaitGroup
		for i := range 100 {
			all.Go(func() {
				n, err := shop.Verify(t.Context(), unverifiedRefund(t, "5000000000020200101000000000"+string(rune('0'+i%10))+string(rune('0'+i/10))))
				if !errors.Is(err, wepay.ErrUnconfirmed) || n != nil {
					t.Errorf("got %v, %v, want ErrUnconfirmed", n, err)
				}
			})
		}
		synctest.Wait()
		if n := len(wechat.questions()); n != 16 {
			t.Errorf("WeChat was asked about %d refunds at once", n)
		}
		all.Wait()
		if took := time.Since(began); took != 3*time.Second {
			t.Errorf("it took %s", took)
		}
	})
}

// unverifiedRefund is a notification of a refund that succeeded.
func unverifiedRefund(t *testing.T, id string) *apiv2.Unverified {
	t.Helper()
	return apiv2.NewUnverified(wepay.NewFields(map[string]string{
		"return_code": "SUCCESS", "appid": "wx00112233445566aa", "mch_id": "1900000109",
		"req_info": seal("<root><refund_id>"+id+"</refund_id><refund_status>SUCCESS</refund_status></root>", key),
	}))
}

// An access point that hangs leaves time to ask the next.
func TestRefundIsAskedAboutElsewhere(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		wechat := newBooks(booked(nil))
		wechat.does = func(r *http.Request) error {
			if r.URL.Host == "hangs.invalid" {
				<-r.Context().Done()
				return r.Context().Err()
			}
			return nil
		}
		began := time.Now()
		n, err := wechat.told(t, merchant("https://hangs.invalid", "https://wechat.invalid"), saying(t))
		if took := time.Since(began); err != nil || n == nil || took != 1500*time.Millisecond {
			t.Errorf("got %v, %v after %s", n, err, took)
		}
	})
}

// Who gives up does not take the answer from the others who wait for it.
func TestRefundOutlivesTheFirstCaller(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		wechat, gate := newBooks(booked(nil)), make(chan struct{})
		wechat.does = func(*http.Request) error { <-gate; return nil }
		shop := wechat.client(asking())
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if n, err := shop.Verify(ctx, unverifiedRefund(t, "50000000000202001010000000001")); !errors.Is(err, wepay.ErrUnconfirmed) || n != nil {
			t.Errorf("got %v, %v, want ErrUnconfirmed", n, err)
		}
		close(gate)
		if n, err := shop.Verify(t.Context(), unverifiedRefund(t, "50000000000202001010000000001")); err != nil || n == nil {
			t.Errorf("got %v, %v", n, err)
		}
	})
}

// What WeChat has confirmed is not asked about for each repeat of its notification,
// but after an hour it is, and what may still change always is.
func TestRefundIsRemembered(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		wechat := newBooks(booked(nil))
		shop := wechat.client(asking())
		asks := func(want int) {
			t.Helper()
			n, err := shop.Verify(t.Context(), unverifiedRefund(t, "50000000000202001010000000001"))
			if err != nil || n.Fields.Get("refund_fee") != "1100" || n.EventType == "" {
				t.Fatalf("got %v, %v", n, err)
			}
			n.Fields.Set("refund_fee", "1") // which is the caller's own
			if n := len(wechat.questions()); n != want {
				t.Errorf("WeChat was asked %d times, want %d", n, want)
			}
		}
		asks(1)
		asks(1)
		time.Sleep(time.Hour - 1)
		asks(1)
		time.Sleep(time.Nanosecond)
		asks(2)
		for i := range 1200 { // more than are kept
			id := fmt.Sprintf("50000000000202001010000%05d", i+10)
			wechat.refunds[id] = booked(map[string]string{"refund_id_0": id})
			for range 2 {
				if _, err := shop.Verify(t.Context(), unverifiedRefund(t, id)); err != nil {
					t.Fatal(err)
				}
			}
		}
		if n := len(wechat.questions()); n != 1202 {
			t.Errorf("WeChat was asked %d times", n)
		}
	})
	synctest.Test(t, func(t *testing.T) {
		wechat := newBooks(booked(map[string]string{"refund_status_0": "CHANGE"}))
		shop := wechat.client(asking())
		for range 2 {
			if _, err := shop.Verify(t.Context(), unverifiedRefund(t, "50000000000202001010000000001")); !errors.Is(err, wepay.ErrUnconfirmed) {
				t.Errorf("got %v, want ErrUnconfirmed", err)
			}
		}
		if n := len(wechat.questions()); n != 2 {
			t.Errorf("WeChat was asked %d times", n)
		}
	})
}
