package apiv2_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/windsome/caddy-wepay/wepay"
	"github.com/windsome/caddy-wepay/wepay/apiv2"
)

const (
	sandboxKeyPath   = "/xdc/apiv2getsignkey/sign/getsignkey"
	sandboxQueryPath = "/xdc/apiv2sandbox/pay/orderquery"
)

// sandboxOf is WeChat's sandbox: it hands out a key, another each time it is
// asked, and answers with the one it handed out last. Before it hands one out
// it waits for the gate, where there is one.
type sandboxOf struct {
	*wechat
	issued  atomic.Int32
	revoked atomic.Bool // the next call is refused for its key
	gate    chan struct{}
}

func (s *sandboxOf) key() string { return fmt.Sprintf("%032d", s.issued.Load()) }

func sandbox(t *testing.T, gate chan struct{}) (*sandboxOf, *wepay.Merchant) {
	t.Helper()
	s := &sandboxOf{gate: gate}
	s.wechat = serve(t, func(w http.ResponseWriter, r asked) {
		switch {
		case r.URL.Path == sandboxKeyPath:
			if s.gate != nil {
				<-s.gate
			}
			s.issued.Add(1)
			says("<xml><return_code>SUCCESS</return_code><mch_id>1900000109</mch_id><sandbox_signkey>"+s.key()+"</sandbox_signkey></xml>")(w, r)
		case s.revoked.CompareAndSwap(true, false):
			says("<xml><return_code>FAIL</return_code><return_msg>沙箱验证签名失败</return_msg></xml>")(w, r)
		default:
			says(signed(reply(requests[wepay.QueryOrder].reply), wepay.MD5, s.key()))(w, r)
		}
	})
	m := merchant(s.URL)
	m.Sandbox = true
	return s, m
}

// fetches counts how often the key was asked for.
func (s *sandboxOf) fetches() (n int) {
	for _, r := range s.asked() {
		if r.URL.Path == sandboxKeyPath {
			n++
		}
	}
	return n
}

func TestSandboxCalls(t *testing.T) {
	s, m := sandbox(t, nil)
	m.SignType = wepay.HMACSHA256 // which the sandbox does not take
	do(t, client(t, m), wepay.QueryOrder)
	all := s.asked()
	if len(all) != 2 || all[0].URL.Path != sandboxKeyPath || all[1].URL.Path != sandboxQueryPath {
		t.Fatalf("asked for %v", all)
	}
	fetch, query := all[0].fields, all[1].fields
	if err := apiv2.Verify(fetch, key); err != nil || len(fetch.Get("sign")) != 32 {
		t.Errorf("the key was asked for with %v", err)
	}
	for _, f := range fetch {
		if f.Name != "mch_id" && f.Name != "nonce_str" && f.Name != "sign" {
			t.Errorf("the key was asked for with %s, which the call does not know", f.Name)
		}
	}
	if err := apiv2.Verify(query, s.key()); err != nil || query.Get("sign_type") != "" || len(query.Get("sign")) != 32 {
		t.Errorf("the call was made with %v, %v", err, query)
	}
}

// The sandbox's prefix stands before the whole path. It asks for no certificate.
func TestSandboxRefund(t *testing.T) {
	s, m := sandbox(t, nil)
	if _, err := client(t, m).Do(t.Context(), wepay.Refund, aRefund); err != nil {
		t.Fatal(err)
	}
	if path := s.asked()[1].URL.Path; path != "/xdc/apiv2sandbox/secapi/pay/refund" {
		t.Errorf("asked for %s", path)
	}
}

func TestSandboxKeyIsFetchedOnce(t *testing.T) {
	gate := make(chan struct{})
	s, m := sandbox(t, gate)
	c := client(t, m)
	var wg sync.WaitGroup
	for range 16 {
		wg.Go(func() {
			if _, err := c.Do(context.Background(), wepay.QueryOrder, aQuery); err != nil {
				t.Error(err)
			}
		})
	}
	close(gate)
	wg.Wait()
	if n := s.fetches(); n != 1 {
		t.Errorf("the key was fetched %d times", n)
	}
}

func TestSandboxKeyExpires(t *testing.T) {
	s, m := sandbox(t, nil)
	now := newClock()
	c := client(t, m, wepay.ClientOptions{Now: now.now})
	for _, step := range []struct {
		turn time.Duration
		want int
	}{{0, 1}, {time.Hour, 1}, {59*time.Hour - time.Second, 1}, {time.Second, 2}, {60*time.Hour - time.Second, 2}, {time.Second, 3}} {
		now.turn(step.turn)
		do(t, c, wepay.QueryOrder)
		if n := s.fetches(); n != step.want {
			t.Fatalf("after %s more the key was fetched %d times, want %d", step.turn, n, step.want)
		}
	}
}

func TestSandboxKeyRefused(t *testing.T) {
	s, m := sandbox(t, nil)
	c := client(t, m)
	do(t, c, wepay.QueryOrder)
	s.revoked.Store(true)
	_, err := c.Do(t.Context(), wepay.QueryOrder, aQuery)
	wantError(t, err, wepay.Again)
	do(t, c, wepay.QueryOrder)
	if n := s.fetches(); n != 2 {
		t.Errorf("the key was fetched %d times, want 2", n)
	}
}

// Who gives up does not take the key from the others who wait for it.
func TestSandboxKeyOutlivesTheFirstCaller(t *testing.T) {
	gate := make(chan struct{})
	s, m := sandbox(t, gate)
	c := client(t, m)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := c.Do(ctx, wepay.QueryOrder, aQuery); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v, want context.Canceled", err)
	}
	close(gate)
	do(t, c, wepay.QueryOrder)
	if n := s.fetches(); n != 1 {
		t.Errorf("the key was fetched %d times", n)
	}
}

// A failed fetch is not remembered.
func TestSandboxKeyFails(t *testing.T) {
	var broken atomic.Bool
	broken.Store(true)
	s, m := sandbox(t, nil)
	proxy := serve(t, func(w http.ResponseWriter, r asked) {
		if broken.Load() {
			w.WriteHeader(http.StatusBadGateway)
			return
		}
		s.Config.Handler.ServeHTTP(w, r.again())
	})
	m.Endpoints = []string{proxy.URL}
	c := client(t, m)
	_, err := c.Do(t.Context(), wepay.QueryOrder, aQuery)
	if failed := wantError(t, err, wepay.Again); failed.Operation != wepay.SandboxKey {
		t.Errorf("%s failed", failed.Operation)
	}
	broken.Store(false)
	do(t, c, wepay.QueryOrder)
}

// Notifications, which anybody may send, have WeChat asked no more often than once
// in ten seconds while it does not tell the key. A call asks in any case.
func TestNotificationsAskOnceInAWhile(t *testing.T) {
	away := serve(t, func(w http.ResponseWriter, _ asked) { w.WriteHeader(http.StatusBadGateway) })
	m := merchant(away.URL)
	m.Sandbox = true
	now := newClock()
	c := client(t, m, wepay.ClientOptions{Now: now.now})
	for _, step := range []struct {
		turn time.Duration
		want int
	}{{0, 1}, {0, 1}, {9 * time.Second, 1}, {time.Second, 2}, {9 * time.Second, 2}} {
		now.turn(step.turn)
		if _, err := c.Verify(t.Context(), apiv2.NewUnverified(nil)); !errors.Is(err, wepay.ErrNoAnswer) {
			t.Errorf("got %v", err)
		}
		if n := len(away.asked()); n != step.want {
			t.Errorf("after %s more WeChat was asked %d times, wants %d", step.turn, n, step.want)
		}
	}
	_, err := c.Do(t.Context(), wepay.QueryOrder, aQuery)
	if wantError(t, err, wepay.Again); len(away.asked()) != 3 {
		t.Errorf("WeChat was asked %d times, with a call", len(away.asked()))
	}
}

func TestSandboxKeyOperation(t *testing.T) {
	s, m := sandbox(t, nil)
	m.Sandbox = false
	got, err := client(t, m).Do(t.Context(), wepay.SandboxKey, nil)
	if err != nil || got.Get("sandbox_signkey") != s.key() {
		t.Errorf("got %v, %v", got, err)
	}
}

// The sandbox signs notifications with its own key.
func TestSandboxNotification(t *testing.T) {
	s, m := sandbox(t, nil)
	c := client(t, m)
	do(t, c, wepay.QueryOrder) // which has it fetch the key
	for _, signedWith := range []string{s.key(), key} {
		unverified, err := apiv2.ReadNotification([]byte(signed(payment(nil), wepay.MD5, signedWith)))
		if err != nil {
			t.Fatal(err)
		}
		n, err := c.Verify(t.Context(), unverified)
		if signedWith == key && !errors.Is(err, wepay.ErrSignature) || signedWith != key && (err != nil || n.Merchant != m) {
			t.Errorf("signed with %s: got %v, %v", signedWith, n, err)
		}
	}
	if n := s.fetches(); n != 1 {
		t.Errorf("the key was fetched %d times", n)
	}
}
