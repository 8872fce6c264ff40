package wepay

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptrace"
	"net/url"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	strictjson "github.com/go-json-experiment/json"
)

// DefaultLoginEndpoint is WeChat's server of logins, which is not WeChat Pay's.
const DefaultLoginEndpoint = "https://api.weixin.qq.com"

// LoginRules are the fields of OpenID.
var LoginRules = Rules{{Name: "code", Required: true, Max: 512}}

// maxLoginReply bounds a reply of the login server's.
const maxLoginReply = 64 << 10

// Login exchanges the login codes of pages and mini programs for the user's
// openid.
type Login struct {
	Endpoint  string
	Transport http.RoundTripper
	Timeout   time.Duration
}

// loginVerdicts are of the login server's codes.
var loginVerdicts = map[int]Verdict{
	-1:    Again,
	40029: Never, // no such code
	40163: Never, // the code was used
	40226: Never, // a risky user
	41008: Fix,
	40013: Fix,
	40125: Fix,
	45011: Later,
}

// OpenID exchanges a login code: a mini program's or that of a page's OAuth, by the
// merchant's env. A code works once, so nothing is repeated. The result has openid,
// unionid and is_snapshotuser if WeChat returns them, and session_key, which
// decrypts a user's data, only if the merchant allows it.
// Errors are those of Gateway.Do.
// Source: 小程序登录 (jscode2session); 网页授权 (oauth2/access_token).
func (l *Login) OpenID(ctx context.Context, m *Merchant, in Fields) (Fields, error) {
	if err := LoginRules.Check(in); err != nil {
		return nil, err
	}
	if m.AppSecret == "" {
		return nil, m.NotAble("app_secret")
	}
	var sent atomic.Bool // net/http writes from a goroutine of its own
	ctx = httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{WroteHeaders: func() { sent.Store(true) }})
	reply, err := l.ask(ctx, m, in.Get("code"))
	if err != nil {
		failed := &Error{Merchant: m.Name, Operation: OpenID, Verdict: Never, Err: m.Quoter().QuoteError(fmt.Errorf("%w: %w", ErrNoAnswer, err), in.Get("code"))}
		if !sent.Load() {
			failed.Verdict = Again // the code is unused
		}
		return nil, failed
	}
	if reply.Errcode != 0 {
		verdict, known := loginVerdicts[reply.Errcode]
		if !known {
			verdict = Fix
		}
		return nil, &Error{Merchant: m.Name, Operation: OpenID, Code: strconv.Itoa(reply.Errcode), Message: m.Quoter().Quote(reply.Errmsg, in.Get("code")), Verdict: verdict}
	}
	if reply.OpenID == "" || strings.Contains(reply.OpenID+reply.UnionID+reply.SessionKey, m.AppSecret) {
		return nil, &Error{Merchant: m.Name, Operation: OpenID, Verdict: Never, Err: fmt.Errorf("%w: the reply lacks openid, or repeats app_secret", ErrNoAnswer)}
	}
	result := Fields{{Name: "openid", Value: reply.OpenID}}
	if reply.UnionID != "" {
		result.Set("unionid", reply.UnionID)
	}
	if reply.IsSnapshotUser != 0 {
		result.Set("is_snapshotuser", strconv.Itoa(reply.IsSnapshotUser))
	}
	if m.SessionKey && reply.SessionKey != "" {
		result.Set("session_key", reply.SessionKey)
	}
	return result, nil
}

// loginReply is a reply of the login server; success has no errcode.
type loginReply struct {
	Errcode        int    `json:"errcode"`
	Errmsg         string `json:"errmsg"`
	OpenID         string `json:"openid"`
	UnionID        string `json:"unionid"`
	SessionKey     string `json:"session_key"`
	IsSnapshotUser int    `json:"is_snapshotuser"`
}

func (l *Login) ask(ctx context.Context, m *Merchant, code string) (*loginReply, error) {
	ctx, cancel := context.WithTimeout(ctx, l.Timeout)
	defer cancel()
	path, codeName := "/sns/oauth2/access_token", "code"
	if m.Env == WXAPP {
		path, codeName = "/sns/jscode2session", "js_code"
	}
	query := url.Values{
		// A sub-merchant logs in to its own page or mini program.
		"appid":      {cmp.Or(m.SubAppID, m.AppID)},
		"secret":     {m.AppSecret},
		codeName:     {code},
		"grant_type": {"authorization_code"},
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, strings.TrimRight(l.Endpoint, "/")+path+"?"+query.Encode(), nil)
	if err != nil {
		return nil, errors.New("the login endpoint is no URL") // the cause would hold the secret
	}
	// A connection that is kept is watched: what a server says unasked goes to the
	// standard log, and that may be the URL with the secret.
	req.Close = true
	resp, err := RoundTrip(l.Transport, req)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", req.URL.Host, err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(io.LimitReader(resp.Body, maxLoginReply))
	if err != nil {
		return nil, fmt.Errorf("%s: reading the reply: %w", req.URL.Host, err)
	}
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("%s: HTTP status %d", req.URL.Host, resp.StatusCode)
	}
	reply := new(loginReply)
	if strictjson.Unmarshal(text, reply) != nil {
		return nil, fmt.Errorf("%s: the reply is no JSON object", req.URL.Host)
	}
	return reply, nil
}
