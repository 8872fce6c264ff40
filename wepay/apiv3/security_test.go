package apiv3_test

import (
	"errors"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/windsome/caddy-wepay/wepay"
)

// WeChat's test of the keys passes by whichever key WeChat is known.
func TestSecurityEcho(t *testing.T) {
	everyWay(t, func(t *testing.T, s *shop) {
		got := s.do(wepay.SecurityEcho, fields("echo_message", "你好", "encrypted_echo_message", "张三", "notify_url", "http://127.0.0.1:1/n"))
		s.checkDone(got)
		check(t, got, "echo_message", "你好", "encrypted_echo_message", "张三")
		check(t, s.do(wepay.SecurityEcho, fields("echo_message", "x")), "echo_message", "x", "encrypted_echo_message", "")
		for _, r := range s.wechat.Requests("/v3/security/echo") {
			if strings.Contains(string(r.Body), "张三") || r.Header.Get("Wechatpay-Serial") == "" {
				t.Errorf("sent %s", r.Body)
			}
		}
		s.clock.Advance(time.Second) // the notification goes nowhere
	})
}

// What WeChat or the signature says of the keys is to be corrected; only what WeChat
// did not get or could not do is to be sent again.
func TestSecurityEchoVerdicts(t *testing.T) {
	for name, test := range map[string]struct {
		says answer
		want wepay.Verdict
		text string
	}{
		"a wrong signature":   {answer{status: 401, body: `{"code":"SIGN_ERROR","message":"签名错误"}`, bare: true}, wepay.Fix, "签名错误"},
		"an unsigned refusal": {answer{status: 400, body: `{"code":"PARAM_ERROR","message":"解密失败"}`, bare: true}, wepay.Fix, "解密失败"},
		"an unknown refusal":  {answer{status: 403, body: `{"code":"ODD","message":"密钥不对"}`}, wepay.Fix, "密钥不对"},
		"no signature":        {answer{body: `{"echo_message":"x"}`, bare: true}, wepay.Fix, "no signature"},
		"another's signature": {answer{body: `{"echo_message":"x"}`, header: map[string][]string{"Wechatpay-Nonce": {"other"}}}, wepay.Fix, "wrong signature"},
		"WeChat's trouble":    {answer{status: 500, body: `{"code":"SYSTEM_ERROR","message":"系统错误"}`}, wepay.Again, "系统错误"},
		"WeChat's unsigned":   {answer{status: 500, body: `{"code":"SYSTEM_ERROR","message":"系统错误"}`, bare: true}, wepay.Again, "系统错误"},
		"nothing from WeChat": {answer{status: 502, body: "<html>", bare: true}, wepay.Again, "502"},
		"too many at once":    {answer{status: 429, body: `{"code":"FREQUENCY_LIMITED","message":"频率超限"}`, bare: true}, wepay.Later, "频率超限"},
	} {
		w := newWechat(t, func(http.ResponseWriter, *http.Request) answer { return test.says })
		_, err := w.client(t, w.merchant(t)).Do(t.Context(), wepay.SecurityEcho, fields("echo_message", "x"))
		if wantError(t, err, test.want); !strings.Contains(err.Error(), test.text) {
			t.Errorf("%s: got %v", name, err)
		}
	}
}

// What does not come back as it was sent is a failure, and what it says is no
// secret.
func TestSecurityEchoFails(t *testing.T) {
	in := fields("echo_message", "x", "encrypted_echo_message", "张三")
	for name, test := range map[string]struct {
		body string
		says string
	}{
		"nothing":                    {`{}`, "the reply lacks"},
		"another message":            {`{"echo_message":"y","encrypted_echo_message":` + sealedFor(t, "张三") + `}`, "another echo_message"},
		"another message, encrypted": {`{"echo_message":"x","encrypted_echo_message":` + sealedFor(t, "李四") + `}`, "another encrypted_echo_message"},
		"encrypted for another":      {`{"echo_message":"x","encrypted_echo_message":"` + vectors(t)["O1"].Ciphertext + `"}`, "another key than private_key's"},
		"without the one":            {`{"echo_message":"x"}`, "the reply lacks encrypted_echo_message"},
		"null for the one":           {`{"echo_message":"x","encrypted_echo_message":null}`, "the reply lacks encrypted_echo_message"},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWechat(t, func(http.ResponseWriter, *http.Request) answer { return answer{body: test.body} })
			_, err := w.client(t, w.merchant(t)).Do(t.Context(), wepay.SecurityEcho, in)
			wantError(t, err, wepay.Fix)
			if !errors.Is(err, wepay.ErrNoAnswer) || !strings.Contains(err.Error(), test.says) || strings.Contains(err.Error(), "李四") || strings.Contains(err.Error(), "张三") {
				t.Errorf("got %v", err)
			}
		})
	}
	w := newWechat(t, func(http.ResponseWriter, *http.Request) answer { return answer{body: `{"echo_message":"x"}`} })
	c := w.client(t, w.merchant(t))
	for field, in := range map[string]wepay.Fields{
		"echo_message":           fields("encrypted_echo_message", "x"),
		"notify_url":             fields("echo_message", "x", "notify_url", "https://m.example.cn/n?a=1"),
		"encrypted_echo_message": fields("echo_message", "x", "encrypted_echo_message", strings.Repeat("字", 72)),
		"sub_mch_id":             fields("echo_message", "x", "sub_mch_id", "1"),
	} {
		_, err := c.Do(t.Context(), wepay.SecurityEcho, in)
		wantField(t, err, field)
	}
	if w.asked() > 0 {
		t.Errorf("%d requests were sent", w.asked())
	}
}
