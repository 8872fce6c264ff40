package wepay_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/windsome/caddy-wepay/wepay"
)

const (
	appSecret  = "c7a3d9e1f5b24680c7a3d9e1f5b24680"
	sessionKey = "HyVFkGl5F5OQWJZZaNzBBg=="
)

// login is the login server: it keeps what it was asked.
type login struct {
	*wepay.Login

	mu    sync.Mutex
	asked []*url.URL
}

func loginServer(t *testing.T, answer http.HandlerFunc) *login {
	t.Helper()
	l := new(login)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		l.mu.Lock()
		l.asked = append(l.asked, r.URL)
		l.mu.Unlock()
		if r.Method != http.MethodGet {
			t.Errorf("asked by %s", r.Method)
		}
		if !r.Close {
			t.Error("the connection is kept, and net/http logs what a server says on it unasked")
		}
		answer(w, r)
	}))
	t.Cleanup(server.Close)
	transport := new(http.Transport)
	t.Cleanup(transport.CloseIdleConnections)
	l.Login = &wepay.Login{Endpoint: server.URL + "/", Transport: transport, Timeout: 10 * time.Second}
	return l
}

// urls are what it was asked for.
func (l *login) urls() []*url.URL {
	l.mu.Lock()
	defer l.mu.Unlock()
	return append([]*url.URL(nil), l.asked...)
}

func says(text string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/plain")
		_, _ = io.WriteString(w, text)
	}
}

func secret(m *wepay.Merchant) { m.AppSecret = appSecret }

var aCode = wepay.Fields{{Name: "code", Value: "a code & more"}}

func TestOpenID(t *testing.T) {
	miniReply := `{"openid":"o1","session_key":"` + sessionKey + `","unionid":"u1"}`
	const pageReply = `{"access_token":"at","expires_in":7200,"refresh_token":"rt","openid":"o1","scope":"snsapi_base","is_snapshotuser":1,"unionid":"u1"}`
	keyed := func(m *wepay.Merchant) { m.SessionKey = true }
	tests := []struct {
		name  string
		m     *wepay.Merchant
		reply string
		path  string
		query url.Values
		want  map[string]string
	}{
		{
			"a mini program", direct(secret, env(wepay.WXAPP)), miniReply, "/sns/jscode2session",
			url.Values{"appid": {"wx00112233445566aa"}, "js_code": {"a code & more"}},
			map[string]string{"openid": "o1", "unionid": "u1"},
		},
		{
			"a mini program with its session_key", direct(secret, keyed, env(wepay.WXAPP)), miniReply, "/sns/jscode2session",
			url.Values{"appid": {"wx00112233445566aa"}, "js_code": {"a code & more"}},
			map[string]string{"openid": "o1", "unionid": "u1", "session_key": sessionKey},
		},
		{
			"a mini program without more", direct(secret, keyed, env(wepay.WXAPP)), `{"openid":"o1","errcode":0,"errmsg":"ok"}`, "/sns/jscode2session",
			url.Values{"appid": {"wx00112233445566aa"}, "js_code": {"a code & more"}},
			map[string]string{"openid": "o1"},
		},
		{
			"a page", direct(secret, keyed), pageReply, "/sns/oauth2/access_token",
			url.Values{"appid": {"wx00112233445566aa"}, "code": {"a code & more"}},
			map[string]string{"openid": "o1", "unionid": "u1", "is_snapshotuser": "1"},
		},
		{
			"a partner's page", partner(secret), pageReply, "/sns/oauth2/access_token",
			url.Values{"appid": {"wx00112233445566aa"}, "code": {"a code & more"}},
			map[string]string{"openid": "o1", "unionid": "u1", "is_snapshotuser": "1"},
		},
		{
			"a sub-merchant's page", partner(secret, subApp), `{"openid":"o1"}`, "/sns/oauth2/access_token",
			url.Values{"appid": {"wx00112233445566bb"}, "code": {"a code & more"}},
			map[string]string{"openid": "o1"},
		},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			l := loginServer(t, says(test.reply))
			got, err := l.OpenID(t.Context(), test.m, aCode)
			if err != nil {
				t.Fatal(err)
			}
			if text, _ := got.MarshalJSON(); string(text) != mustJSON(test.want) {
				t.Errorf("got %s, want %s", text, mustJSON(test.want))
			}
			if len(l.urls()) != 1 || l.urls()[0].Path != test.path {
				t.Fatalf("asked %v, want %s", l.urls(), test.path)
			}
			test.query.Set("secret", appSecret)
			test.query.Set("grant_type", "authorization_code")
			if got := l.urls()[0].Query(); got.Encode() != test.query.Encode() {
				t.Errorf("asked with %v, want %v", got, test.query)
			}
		})
	}
}

func mustJSON(values map[string]string) string {
	text, _ := wepay.NewFields(values).MarshalJSON()
	return string(text)
}

// keeps demands that an error tells neither the secret nor a session_key.
func keeps(t *testing.T, err error) {
	t.Helper()
	for _, hidden := range []string{appSecret, sessionKey, url.QueryEscape(sessionKey), "a code", "a+code"} {
		if err != nil && strings.Contains(err.Error(), hidden) {
			t.Errorf("the error tells %s: %v", hidden, err)
		}
	}
}

func TestOpenIDRefused(t *testing.T) {
	for errcode, want := range map[string]wepay.Verdict{
		"-1": wepay.Again, "40029": wepay.Never, "40163": wepay.Never, "40226": wepay.Never, "41008": wepay.Fix, "40013": wepay.Fix,
		"40125": wepay.Fix, "45011": wepay.Later, "49999": wepay.Fix,
	} {
		for _, e := range []wepay.Env{wepay.WXAPP, wepay.H5} {
			t.Run(errcode+" "+string(e), func(t *testing.T) {
				// An openid beside an error is none.
				l := loginServer(t, says(`{"errcode":`+errcode+`,"errmsg":"invalid code, rid: 1","openid":"o1","session_key":"`+sessionKey+`"}`))
				got, err := l.OpenID(t.Context(), direct(secret, env(e)), aCode)
				failed, ok := errors.AsType[*wepay.Error](err)
				if !ok || got != nil || failed.Verdict != want || failed.Code != errcode || failed.Message != "invalid code, rid: 1" ||
					failed.Operation != wepay.OpenID || failed.Merchant != "shop" {
					t.Errorf("got %v, %+v, want %s", got, failed, want)
				}
				keeps(t, err)
				if len(l.urls()) != 1 {
					t.Errorf("asked %d times", len(l.urls()))
				}
			})
		}
	}
}

// A code works once, so that a call without answer is not made again: not by
// us, and not by the caller either.
func TestOpenIDNoAnswer(t *testing.T) {
	for name, answer := range map[string]http.HandlerFunc{
		"HTTP 500": func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(500)
			_, _ = io.WriteString(w, `{"openid":"o1"}`)
		},
		"elsewhere": func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, "/elsewhere", http.StatusFound) },
		"nothing":   says(""),
		"null":      says("null"),
		"a list":    says(`[]`),
		"a page":    says("<html></html>"),
		"no openid": says(`{"session_key":"` + sessionKey + `"}`),
		"cut short": says(`{"openid":"o1","session_key":"` + sessionKey),
		"odd types": says(`{"openid":1,"session_key":"` + sessionKey + `"}`),
		"too large": says(`{"openid":"o1","a":"` + strings.Repeat("a", 64<<10) + `"}`),
		"reset":     func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) },
		"too short": func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Length", "1000")
			_, _ = io.WriteString(w, `{"openid":"o1"}`)
		},
	} {
		t.Run(name, func(t *testing.T) {
			l := loginServer(t, answer)
			got, err := l.OpenID(t.Context(), direct(secret, env(wepay.WXAPP)), aCode)
			failed, ok := errors.AsType[*wepay.Error](err)
			if !ok || got != nil || failed.Verdict != wepay.Never || !errors.Is(err, wepay.ErrNoAnswer) {
				t.Errorf("got %v, %v, want ErrNoAnswer for good", got, err)
			}
			keeps(t, err)
			if len(l.urls()) != 1 {
				t.Errorf("asked %d times", len(l.urls()))
			}
		})
	}
}

// A login server that repeats what it was asked has nobody else told.
func TestOpenIDEchoed(t *testing.T) {
	reply := func(format string) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) { says(fmt.Sprintf(format, r.URL.String()))(w, r) }
	}
	for name, answer := range map[string]http.HandlerFunc{
		"refused": reply(`{"errcode":40013,"errmsg":"invalid appid in %[1]s%[1]s%[1]s%[1]s"}`),
		"openid":  reply(`{"openid":%q}`),
		"unionid": reply(`{"openid":"o1","unionid":%q}`),
		"a page":  reply("<title>%s</title>"),
		"a status": func(w http.ResponseWriter, r *http.Request) {
			conn, _, err := http.NewResponseController(w).Hijack()
			if err != nil {
				t.Error(err)
				return
			}
			defer conn.Close()
			_, _ = fmt.Fprintf(conn, "HTTP/1.1 %s %s\r\n\r\n", r.URL, r.URL)
		},
	} {
		t.Run(name, func(t *testing.T) {
			l := loginServer(t, answer)
			got, err := l.OpenID(t.Context(), direct(secret, env(wepay.WXAPP)), aCode)
			if err == nil || got != nil {
				t.Errorf("got %v, %v", got, err)
			}
			keeps(t, err)
			if failed, ok := errors.AsType[*wepay.Error](err); !ok || utf8.RuneCountInString(failed.Message) > 201 || strings.Contains(failed.Message, appSecret) {
				t.Errorf("got %q", failed.Message)
			}
		})
	}
}

func TestOpenIDUnreachable(t *testing.T) {
	l := loginServer(t, says(""))
	for name, endpoint := range map[string]string{
		"nobody listens": "http://127.0.0.1:1", "no URL": "http://%zz", "no such scheme": "ftp://127.0.0.1", "no host": "http://",
	} {
		l.Endpoint = endpoint
		_, err := l.OpenID(t.Context(), direct(secret), aCode)
		failed, ok := errors.AsType[*wepay.Error](err)
		if !ok || !errors.Is(err, wepay.ErrNoAnswer) || failed.Verdict != wepay.Again {
			t.Errorf("%s: got %v, want ErrNoAnswer, and the code unused", name, err)
		}
		keeps(t, err)
	}
}

func TestOpenIDTimeout(t *testing.T) {
	hang := func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }
	l := loginServer(t, hang)
	l.Timeout = 100 * time.Millisecond
	_, err := l.OpenID(t.Context(), direct(secret), aCode)
	if !errors.Is(err, context.DeadlineExceeded) || !errors.Is(err, wepay.ErrNoAnswer) {
		t.Errorf("got %v, want ErrNoAnswer for a deadline", err)
	}
	keeps(t, err)
}

func TestOpenIDNothingIsSent(t *testing.T) {
	l := loginServer(t, says(`{"openid":"o1"}`))
	for name, test := range map[string]struct {
		m     *wepay.Merchant
		in    wepay.Fields
		field string
	}{
		"no secret":     {direct(), aCode, ""},
		"no code":       {direct(secret), nil, "code"},
		"an empty code": {direct(secret), wepay.Fields{{Name: "code"}}, "code"},
		"a long code":   {direct(secret), wepay.Fields{{Name: "code", Value: strings.Repeat("a", 513)}}, "code"},
		"another field": {direct(secret), wepay.Fields{{Name: "code", Value: "x"}, {Name: "secret", Value: "x"}}, "secret"},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := l.OpenID(t.Context(), test.m, test.in)
			if test.field == "" {
				if !errors.Is(err, wepay.ErrNotAble) || !strings.Contains(err.Error(), "app_secret") {
					t.Errorf("got %v, want ErrNotAble for app_secret", err)
				}
			} else {
				wantField(t, err, test.field)
			}
			if got != nil || len(l.urls()) != 0 {
				t.Errorf("got %v after %d questions", got, len(l.urls()))
			}
		})
	}
}
