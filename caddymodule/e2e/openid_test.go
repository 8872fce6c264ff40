package e2e_test

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

// newLogins is an environment with every kind of merchant that has logins: a page, a
// mini program, one that hands out session_keys, and one without a secret.
func newLogins(t *testing.T) (env *environment, page, mini, open, bare *merchant) {
	t.Helper()
	env = newEnvironment(t)
	page, mini, open, bare = newMerchant("page", 1), newMerchant("mini", 2), newMerchant("open", 3), newMerchant("bare", 4)
	mini.env, open.env = "WXAPP", "WXAPP"
	has := "app_secret " + appSecret
	env.serve(env.stalls(stall{page, []string{has, "session_key"}}, stall{mini, []string{has}}, stall{open, []string{has, "session_key"}}, stall{bare, nil}))
	for _, m := range []*merchant{page, mini, open, bare} {
		if err := env.wechat.AddApp(m.appID, appSecret); err != nil {
			t.Fatal(err)
		}
	}
	return env, page, mini, open, bare
}

// login is a payer who logs in at a merchant's app.
func (env *environment) login(m *merchant) (code string) {
	env.t.Helper()
	code, err := env.wechat.LoginCode(m.appID, openID)
	if err != nil {
		env.t.Fatal(err)
	}
	return code
}

func TestOpenID(t *testing.T) {
	env, page, mini, open, bare := newLogins(t)
	var kept []string
	for _, test := range []struct {
		merchant   *merchant
		name, path string
		result     []string
	}{
		{page, "code", pageLogin, []string{"openid"}},
		{mini, "code", miniLogin, []string{"openid"}},
		{mini, "js_code", miniLogin, []string{"openid"}},
		{open, "code", miniLogin, []string{"openid", "session_key"}},
	} {
		t.Run(test.merchant.name+" with "+test.name, func(t *testing.T) {
			env := env.in(t)
			code := env.login(test.merchant)
			request := map[string]any{"merchant": test.merchant.name, test.name: code}
			reply := env.get("openid", request)
			if names := slices.Sorted(maps.Keys(reply)); !slices.Equal(names, test.result) || reply["openid"] != openID {
				t.Errorf("the caller gets %v, wants %v", reply, test.result)
			}
			kept = append(kept, code)
			if key := reply["session_key"]; key != "" {
				kept = append(kept, key)
			}
			sent := env.last(test.path)
			checkFields(t, asMap(sent.Fields), map[string]string{"appid": test.merchant.appID, "secret": appSecret, "grant_type": "authorization_code"})
			if sent.Method != http.MethodGet {
				t.Errorf("WeChat was asked with %s", sent.Method)
			}
			env.declines("openid", request, "40163", "NEVER") // the code was used
		})
	}
	env.declines("openid", map[string]any{"merchant": "page", "code": env.login(mini)}, "40029", "NEVER")
	env.refuses("openid", map[string]any{"merchant": "bare", "code": env.login(bare)}, 40010, "app_secret")
	env.refuses("openid", map[string]any{"merchant": "page"}, 40008, "code: ")
	env.refuses("openid", map[string]any{"merchant": "page", "code": "1", "secret": "2"}, 40003, "secret: ")
	env.refuses("openid", map[string]any{"merchant": "page", "code": strings.Repeat("1", 513)}, 40003, "code: ")
	env.refuses("openid", map[string]any{"merchant": "mini", "code": "1", "js_code": "2"}, 40003, "js_code: ")
	env.get("openid", map[string]any{"merchant": "mini", "code": env.login(mini), "js_code": nil})
	late := env.login(page)
	env.clock.Advance(6 * time.Minute)
	env.declines("openid", map[string]any{"merchant": "page", "code": late}, "40029", "NEVER")
	checkLog(t, env, append(kept, appSecret, late))
}

// checkLog demands that the log tells none of these, and that there is one.
func checkLog(t *testing.T, env *environment, kept []string) {
	t.Helper()
	log, err := os.ReadFile(filepath.Join(env.dir, "caddy.log"))
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
	env, page, mini, _, _ := newLogins(t)
	for _, test := range []struct {
		name          string
		merchant      *merchant
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
			env, before := env.in(t), len(env.received())
			env.wechat.Misbehave(test.path, test.fault)
			a := env.try("openid", map[string]any{"merchant": test.merchant.name, "code": env.login(test.merchant)})
			status := map[bool]int{true: http.StatusBadGateway, false: http.StatusOK}[test.code == ""]
			if a.status != status || a.Errcode != 40000 || a.ErrCode != test.code || a.Verdict != test.verdict || a.Ask != "" {
				t.Errorf("HTTP %d %s", a.status, a.body)
			}
			if strings.Contains(a.body, appSecret) {
				t.Errorf("the caller hears the secret: %s", a.body)
			}
			if asked := len(env.received()) - before; asked != 1 {
				t.Errorf("WeChat was asked %d times", asked)
			}
		})
	}
}

// A login server that cannot be reached is told of without the URL, which holds
// secret and code.
func TestLoginServerIsAway(t *testing.T) {
	env, page := newEnvironment(t), newMerchant("page", 1)
	l := env.stalls(stall{page, []string{"app_secret " + appSecret}})
	address := freeAddress(t)
	l.options = strings.Replace(l.options, "login_endpoint "+env.wechat.URL, "login_endpoint https://"+address, 1)
	env.serve(l)
	a := env.try("openid", map[string]any{"code": "the-code-of-a-payer"})
	if a.status != http.StatusBadGateway || a.Errcode != 40000 || !strings.Contains(a.XOrigMsg, address) {
		t.Errorf("HTTP %d %s", a.status, a.body)
	}
	if strings.Contains(a.body, appSecret) || strings.Contains(a.body, "the-code-of-a-payer") {
		t.Errorf("the caller hears %s", a.body)
	}
	checkLog(t, env, []string{appSecret, "the-code-of-a-payer"})
}
