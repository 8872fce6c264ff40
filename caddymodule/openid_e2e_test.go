package caddymodule_test

import (
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/windsome/caddy-wepay/wepay/wepaytest"
)

const appSecret = "5f4dcc3b5aa765d61d8327deb882cf99"

const (
	pageLogin = "/sns/oauth2/access_token"
	miniLogin = "/sns/jscode2session"
)

// newLogins is a world with every kind of merchant that has logins: a page, a
// mini program, one that hands out session_keys, and one without a secret.
func newLogins(t *testing.T) (w *world, page, mini, open, bare *seller) {
	t.Helper()
	w = newWorld(t)
	page, mini, open, bare = newSeller("page", 1), newSeller("mini", 2), newSeller("open", 3), newSeller("bare", 4)
	mini.env, open.env = "WXAPP", "WXAPP"
	has := "app_secret " + appSecret
	w.serve(w.stalls(stall{page, []string{has, "session_key"}}, stall{mini, []string{has}}, stall{open, []string{has, "session_key"}}, stall{bare, nil}))
	for _, s := range []*seller{page, mini, open, bare} {
		if err := w.wechat.AddApp(s.appID, appSecret); err != nil {
			t.Fatal(err)
		}
	}
	return w, page, mini, open, bare
}

// login is a payer who logs in at a seller's app.
func (w *world) login(s *seller) (code string) {
	w.t.Helper()
	code, err := w.wechat.LoginCode(s.appID, openID)
	if err != nil {
		w.t.Fatal(err)
	}
	return code
}

func TestOpenID(t *testing.T) {
	w, page, mini, open, bare := newLogins(t)
	var kept []string
	for _, test := range []struct {
		seller     *seller
		name, path string
		result     []string
	}{
		{page, "code", pageLogin, []string{"openid"}},
		{mini, "code", miniLogin, []string{"openid"}},
		{mini, "js_code", miniLogin, []string{"openid"}},
		{open, "code", miniLogin, []string{"openid", "session_key"}},
	} {
		t.Run(test.seller.name+" with "+test.name, func(t *testing.T) {
			w := w.in(t)
			code := w.login(test.seller)
			request := map[string]any{"merchant": test.seller.name, test.name: code}
			reply := w.get("openid", request)
			if names := slices.Sorted(maps.Keys(reply)); !slices.Equal(names, test.result) || reply["openid"] != openID {
				t.Errorf("the caller gets %v, wants %v", reply, test.result)
			}
			kept = append(kept, code)
			if key := reply["session_key"]; key != "" {
				kept = append(kept, key)
			}
			sent := w.last(test.path)
			checkFields(t, asMap(sent.Fields), map[string]string{"appid": test.seller.appID, "secret": appSecret, "grant_type": "authorization_code"})
			if sent.Method != http.MethodGet {
				t.Errorf("WeChat was asked with %s", sent.Method)
			}
			w.declines("openid", request, "40163", "NEVER") // the code was used
		})
	}
	w.declines("openid", map[string]any{"merchant": "page", "code": w.login(mini)}, "40029", "NEVER")
	w.refuses("openid", map[string]any{"merchant": "bare", "code": w.login(bare)}, 40010, "app_secret")
	w.refuses("openid", map[string]any{"merchant": "page"}, 40008, "code: ")
	w.refuses("openid", map[string]any{"merchant": "page", "code": "1", "secret": "2"}, 40003, "secret: ")
	w.refuses("openid", map[string]any{"merchant": "page", "code": strings.Repeat("1", 513)}, 40003, "code: ")
	w.refuses("openid", map[string]any{"merchant": "mini", "code": "1", "js_code": "2"}, 40003, "js_code: ")
	w.get("openid", map[string]any{"merchant": "mini", "code": w.login(mini), "js_code": nil})
	late := w.login(page)
	w.clock.Advance(6 * time.Minute)
	w.declines("openid", map[string]any{"merchant": "page", "code": late}, "40029", "NEVER")
	checkLog(t, w, append(kept, appSecret, late))
}

// checkLog demands that the log tells none of these, and that there is one.
func checkLog(t *testing.T, w *world, kept []string) {
	t.Helper()
	log, err := os.ReadFile(filepath.Join(w.dir, "caddy.log"))
	if err != nil || !strings.Contains(string(log), `"operation failed","operation":"openid"`) {
		t.Fatalf("the log does not tell of what failed: %v\n%s", err, log)
	}
	for _, secret := range kept {
		if strings.Contains(string(log), secret) {
			t.Errorf("the log says %s", secret)
		}
	}
}

// A code works once, so that a failure is final and nothing is repeated; what
// the caller hears never holds the secret.
func TestOpenIDFails(t *testing.T) {
	w, page, mini, _, _ := newLogins(t)
	for _, test := range []struct {
		name          string
		seller        *seller
		path          string
		fault         wepaytest.Fault
		code, verdict string
	}{
		{"trouble at WeChat", page, pageLogin, wepaytest.Fault{Kind: wepaytest.Refused}, "-1", "AGAIN"},
		{"too often", mini, miniLogin, wepaytest.Fault{Kind: wepaytest.Refused, Code: "45011"}, "45011", "LATER"},
		{"a risky user", mini, miniLogin, wepaytest.Fault{Kind: wepaytest.Refused, Code: "40226"}, "40226", "NEVER"},
		{"a wrong secret", page, pageLogin, wepaytest.Fault{Kind: wepaytest.Refused, Code: "40125"}, "40125", "FIX"},
		{"a code of tomorrow", page, pageLogin, wepaytest.Fault{Kind: wepaytest.Refused, Code: "99999", Message: "新"}, "99999", "FIX"},
		{"no answer", page, pageLogin, wepaytest.Fault{Kind: wepaytest.CutOff}, "", "NEVER"},
		{"nothing", mini, miniLogin, wepaytest.Fault{Kind: wepaytest.EmptyBody}, "", "NEVER"},
		{"a page", page, pageLogin, wepaytest.Fault{Kind: wepaytest.HTML}, "", "NEVER"},
		{"HTTP 500", page, pageLogin, wepaytest.Fault{Kind: wepaytest.HTML, Status: 500}, "", "NEVER"},
	} {
		t.Run(test.name, func(t *testing.T) {
			w, before := w.in(t), len(w.received())
			w.wechat.Misbehave(test.path, test.fault)
			a := w.try("openid", map[string]any{"merchant": test.seller.name, "code": w.login(test.seller)})
			status := map[bool]int{true: http.StatusBadGateway, false: http.StatusOK}[test.code == ""]
			if a.status != status || a.Errcode != 40000 || a.ErrCode != test.code || a.Verdict != test.verdict || a.Ask != "" {
				t.Errorf("HTTP %d %s", a.status, a.body)
			}
			if strings.Contains(a.body, appSecret) {
				t.Errorf("the caller hears the secret: %s", a.body)
			}
			if asked := len(w.received()) - before; asked != 1 {
				t.Errorf("WeChat was asked %d times", asked)
			}
		})
	}
}

// A login server that cannot be reached is told of without the URL, which holds
// secret and code.
func TestLoginServerIsAway(t *testing.T) {
	w, page := newWorld(t), newSeller("page", 1)
	l := w.stalls(stall{page, []string{"app_secret " + appSecret}})
	address := freeAddress(t)
	l.options = strings.Replace(l.options, "login_endpoint "+w.wechat.URL, "login_endpoint https://"+address, 1)
	w.serve(l)
	a := w.try("openid", map[string]any{"code": "the-code-of-a-payer"})
	if a.status != http.StatusBadGateway || a.Errcode != 40000 || !strings.Contains(a.XOrigMsg, address) {
		t.Errorf("HTTP %d %s", a.status, a.body)
	}
	if strings.Contains(a.body, appSecret) || strings.Contains(a.body, "the-code-of-a-payer") {
		t.Errorf("the caller hears %s", a.body)
	}
	checkLog(t, w, []string{appSecret, "the-code-of-a-payer"})
}
