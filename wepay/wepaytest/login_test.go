package wepaytest_test

import (
	"encoding/json"
	"errors"
	"maps"
	"net/http"
	"net/url"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/windsome/caddy-wepay/wepay"
	"github.com/windsome/caddy-wepay/wepay/wepaytest"
)

const (
	sessionPath = "/sns/jscode2session"
	tokenPath   = "/sns/oauth2/access_token"
	secret      = "0123456789abcdef0123456789abcdef"
)

type loginAnswer struct {
	OpenID       string `json:"openid"`
	SessionKey   string `json:"session_key"`
	AccessToken  string `json:"access_token"`
	RefreshToken string `json:"refresh_token"`
	Scope        string `json:"scope"`
	ExpiresIn    int    `json:"expires_in"`
	ErrCode      int    `json:"errcode"`
	ErrMsg       string `json:"errmsg"`
}

// login exchanges a code, with some of the request changed.
func (s *shop) login(method, path, code string, changes ...string) loginAnswer {
	s.t.Helper()
	name := map[string]string{sessionPath: "js_code", tokenPath: "code"}[path]
	values := url.Values{}
	for name, value := range maps.All(with(map[string]string{
		"appid": appID, "secret": secret, name: code, "grant_type": "authorization_code",
	}, changes...)) {
		values.Set(name, value)
	}
	req, err := http.NewRequestWithContext(s.t.Context(), method, s.wechat.URL+path+"?"+values.Encode(), http.NoBody)
	if err != nil {
		s.t.Fatal(err)
	}
	status, body := s.send(req, s.merchant)
	var answer loginAnswer
	if err := json.Unmarshal([]byte(body), &answer); err != nil || status != http.StatusOK {
		s.t.Fatalf("HTTP status %d: %s", status, body)
	}
	return answer
}

func (s *shop) loginCode() string {
	s.t.Helper()
	if err := s.wechat.AddApp(appID, secret); err != nil {
		s.t.Fatal(err)
	}
	code, err := s.wechat.LoginCode(appID, openID)
	if err != nil {
		s.t.Fatal(err)
	}
	return code
}

func TestLogin(t *testing.T) {
	s := newShop(t)
	code := s.loginCode()
	if got := s.login(http.MethodGet, sessionPath, code); got.OpenID != openID || got.SessionKey == "" || got.ErrCode != 0 || got.AccessToken != "" {
		t.Errorf("a mini program gets %+v", got)
	}
	if got := s.login(http.MethodGet, sessionPath, code); got.ErrCode != 40163 || got.OpenID != "" {
		t.Errorf("a code used twice gives %+v", got)
	}
	if got := s.login(http.MethodGet, tokenPath, code); got.ErrCode != 40163 {
		t.Errorf("a code used elsewhere gives %+v", got)
	}
	got := s.login(http.MethodGet, tokenPath, s.loginCode())
	if got.OpenID != openID || got.AccessToken == "" || got.RefreshToken == "" || got.ExpiresIn != 7200 || got.Scope == "" || got.SessionKey != "" {
		t.Errorf("a page gets %+v", got)
	}
	requests := s.wechat.Requests(tokenPath)
	check(t, requests[len(requests)-1].Fields, map[string]string{"appid": appID, "secret": secret, "grant_type": "authorization_code"})
}

// What is refused uses no code up.
func TestLoginIsRefused(t *testing.T) {
	for path, name := range map[string]string{sessionPath: "js_code", tokenPath: "code"} {
		s := newShop(t)
		code := s.loginCode()
		if err := s.wechat.AddApp("wx2", secret); err != nil {
			t.Fatal(err)
		}
		for _, c := range []struct {
			change, value string
			want          int
		}{
			{"appid", "wx1", 40013},
			{"appid", "", 40013},
			{"appid", "wx2", 40029}, // the code is another app's
			{"secret", secret[1:], 40125},
			{"secret", "", 40125},
			{"grant_type", "client_credential", 40002},
			{name, "", 41008},
			{name, "0123", 40029},
		} {
			if got := s.login(http.MethodGet, path, code, c.change, c.value); got.ErrCode != c.want || got.ErrMsg == "" || got.OpenID != "" {
				t.Errorf("%s: %s %q gives %+v, want %d", path, c.change, c.value, got, c.want)
			}
		}
		if got := s.login(http.MethodPost, path, code); got.ErrCode != 43001 {
			t.Errorf("%s: POST gives %+v", path, got)
		}
		s.clock.Advance(5 * time.Minute)
		if got := s.login(http.MethodGet, path, code); got.OpenID != openID {
			t.Errorf("%s: in time it gives %+v", path, got)
		}
		code = s.loginCode()
		s.clock.Advance(5*time.Minute + 1)
		if got := s.login(http.MethodGet, path, code); got.ErrCode != 40029 {
			t.Errorf("%s: too late it gives %+v", path, got)
		}
	}
}

func TestLoginFaults(t *testing.T) {
	s := newShop(t)
	code := s.loginCode()
	s.wechat.Misbehave(sessionPath, wepaytest.Fault{Kind: wepaytest.Refused, NoEffect: true})
	if got := s.login(http.MethodGet, sessionPath, code); got.ErrCode != -1 {
		t.Errorf("busy it gives %+v", got)
	}
	s.wechat.Misbehave(sessionPath, wepaytest.Fault{Kind: wepaytest.Refused, Code: "45011", Message: "too often"})
	if got := s.login(http.MethodGet, sessionPath, code); got.ErrCode != 45011 {
		t.Errorf("too often it gives %+v", got)
	}
	if got := s.login(http.MethodGet, sessionPath, code); got.ErrCode != 40163 {
		t.Errorf("after a reply that was lost it gives %+v", got)
	}
	if _, err := s.wechat.LoginCode("wx1", openID); !errors.Is(err, wepaytest.ErrNoApp) {
		t.Errorf("logging in at no app gives %v", err)
	}
	for _, app := range [][2]string{{"", secret}, {appID, ""}} {
		var field *wepay.FieldError
		if err := s.wechat.AddApp(app[0], app[1]); !errors.As(err, &field) {
			t.Errorf("adding %v gives %v", app, err)
		}
	}
}

func TestConcurrentLogins(t *testing.T) {
	s := newShop(t)
	code := s.loginCode()
	var all sync.WaitGroup
	var logins atomic.Int32
	for range 8 {
		all.Go(func() {
			if s.login(http.MethodGet, sessionPath, code).OpenID != "" {
				logins.Add(1)
			}
		})
	}
	all.Wait()
	if got := logins.Load(); got != 1 {
		t.Errorf("one code logs in %d times", got)
	}
}
