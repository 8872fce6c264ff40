package wepaytest

import (
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"github.com/windsome/caddy-wepay/wepay"
)

// ErrNoApp says that an appid was not registered with AddApp.
var ErrNoApp = errors.New("no such app")

// loginLife is how long a login's code can be exchanged.
const loginLife = 5 * time.Minute

// login is a payer's login in an app.
type login struct {
	appID, openid string
	until         time.Time
	used          bool
}

// AddApp registers an official account, a mini program or an app with its
// secret, or changes the secret.
func (s *Server) AddApp(appID, secret string) error {
	switch {
	case appID == "":
		return fmt.Errorf("adding an app: %w", &wepay.FieldError{Field: "appid", Reason: "is required", Missing: true})
	case secret == "":
		return fmt.Errorf("adding app %q: %w", appID, &wepay.FieldError{Field: "secret", Reason: "is required", Missing: true})
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.apps[appID] = secret
	return nil
}

// LoginCode has a payer log in at an app, and returns the code that the app or
// the page gets: it can be exchanged once, within 5 minutes. The error wraps
// ErrNoApp.
func (s *Server) LoginCode(appID, openid string) (string, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, found := s.apps[appID]; !found {
		return "", fmt.Errorf("logging in at %q: %w", appID, ErrNoApp)
	}
	code := "0" + rand.Text() + rand.Text()[:5] // 32 characters, as WeChat's
	s.logins[code] = &login{appID: appID, openid: openid, until: s.clock.Now().Add(loginLife)}
	return code, nil
}

// loginCalls are the calls of the login host by path, with their parameter of the code
// and what they return besides the openid.
var loginCalls = map[string]struct {
	code string
	also func() map[string]any
}{
	"/sns/jscode2session": {"js_code", func() map[string]any {
		key := make([]byte, 16)
		_, _ = rand.Read(key) // it never fails
		return map[string]any{"session_key": base64.StdEncoding.EncodeToString(key)}
	}},
	"/sns/oauth2/access_token": {"code", func() map[string]any {
		return map[string]any{
			"access_token": rand.Text(), "expires_in": 7200, "refresh_token": rand.Text(), "scope": "snsapi_base",
		}
	}},
}

// answerLogin answers a call of the login host. Of a fault Refused its Code is
// the errcode.
func (s *Server) answerLogin(r *http.Request) (Fault, reply) {
	query := r.URL.Query()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.record(Request{At: s.clock.Now(), Method: r.Method, Path: r.URL.Path, Header: r.Header.Clone(), Fields: single(query)})
	f := s.nextFault(r.URL.Path, "")
	if r.Method != http.MethodGet {
		return f, loginRefused(43001, "require GET method")
	}
	var answer reply
	if !f.NoEffect {
		answer = s.exchangeCode(r.URL.Path, query)
	}
	if f.Kind == Refused || f.Kind == Failed || f.NoEffect {
		code, err := strconv.Atoi(f.Code)
		if err != nil {
			code = -1
		}
		message := f.Message
		if message == "" {
			message = "system error"
		}
		return f, loginRefused(code, message)
	}
	return f, answer
}

// single makes fields of a query, of a name given twice the first.
func single(query url.Values) wepay.Fields {
	var fields wepay.Fields
	for name := range query {
		fields.Set(name, query.Get(name))
	}
	return fields
}

// exchangeCode returns who logged in. The documents do not list the errcode for another
// grant_type.
func (s *Server) exchangeCode(path string, query url.Values) reply {
	call := loginCalls[path]
	secret, found := s.apps[query.Get("appid")]
	switch {
	case !found:
		return loginRefused(40013, "invalid appid")
	case query.Get("secret") != secret:
		return loginRefused(40125, "invalid appsecret")
	case query.Get("grant_type") != "authorization_code":
		return loginRefused(40002, "invalid grant_type")
	case query.Get(call.code) == "":
		return loginRefused(41008, "missing code")
	}
	l, found := s.logins[query.Get(call.code)]
	switch {
	case !found || l.appID != query.Get("appid"):
		return loginRefused(40029, "invalid code")
	case l.used:
		return loginRefused(40163, "code been used")
	case s.clock.Now().After(l.until):
		return loginRefused(40029, "invalid code")
	}
	l.used = true
	answer := call.also()
	answer["openid"] = l.openid
	return loginReply(answer)
}

func loginRefused(code int, message string) reply {
	return loginReply(map[string]any{"errcode": code, "errmsg": message + " rid: " + rand.Text()})
}

func loginReply(answer map[string]any) reply {
	body, err := json.Marshal(answer)
	if err != nil {
		return page(http.StatusInternalServerError, "500 Internal Server Error") // strings and numbers always can be written
	}
	return reply{status: http.StatusOK, json: body}
}
