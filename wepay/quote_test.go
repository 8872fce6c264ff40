package wepay_test

import (
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"net/url"
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"

	"github.com/windsome/caddy-wepay/wepay"
)

// guarded is a merchant with every kind of secret, and them.
func guarded(t testing.TB) (*wepay.Merchant, map[string]string) {
	t.Helper()
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	pkcs8, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	m := &wepay.Merchant{
		Name: "shop", MchID: "1900000109", PartnerKey: "Kd7q2Vn0sX9tB4mHc6Zr1Lw8Fy3Pj5Ga", APIv3Key: "v3Key7q2Vn0sX9tB4mHc6Zr1Lw8Fy301",
		AppSecret: "c7a3d9e1f5b24680c7a3d9e1f5b24680", PrivateKey: key, MchSerial: strings.Repeat("A", 40),
		Endpoints: []string{"https://user:an-endpoints-password@proxy.example"}, CbNotifyURL: "https://shop:order%2Fservice@orders.example/paid?key=of-the-order-service",
		CbRefundNotifyURL: "https://orders.example/refunded?key=of-the-refund-service",
		Secrets:           []string{"pass/phrase&+", "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"},
	}
	lines := strings.Fields(string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: pkcs8})))
	return m, map[string]string{
		"partner_key": m.PartnerKey, "apiv3_key": m.APIv3Key, "app_secret": m.AppSecret, "passphrase": m.Secrets[0], "callback_secret": m.Secrets[1],
		"endpoint": "an-endpoints-password", "cb_notify_url": "of-the-order-service",
		"cb_refund_notify_url": "of-the-refund-service", "password": "order/service",
		"login":                 base64.StdEncoding.EncodeToString([]byte("shop:order/service")),
		"a line of private_key": lines[5], "PKCS #1": base64.StdEncoding.EncodeToString(x509.MarshalPKCS1PrivateKey(key))[64:128],
		"the exponent": key.D.Text(16), "a prime": hex.EncodeToString(key.Primes[0].Bytes()),
	}
}

// Whatever an upstream says of a merchant's secrets, and wherever it says it, none
// is repeated, nor any part of one that is cut.
func TestQuoteHidesSecrets(t *testing.T) {
	m, secrets := guarded(t)
	q := m.Quoter()
	for name, secret := range secrets {
		for _, form := range []string{secret, strings.ToUpper(secret), strings.ToLower(secret), url.QueryEscape(secret), url.PathEscape(secret)} {
			for _, before := range []int{0, 180, 199, 590, 2990} {
				text := strings.Repeat("签", before/2) + strings.Repeat("x", before-before/2) + " " + form + " and more"
				for _, quoted := range []string{q.Quote(text), q.QuoteError(errors.New(text)).Error()} {
					for n := len(form); n >= 8; n-- {
						if strings.Contains(strings.ToLower(quoted), strings.ToLower(form[:n])) {
							t.Fatalf("%s: %q has %d characters of it", name, quoted, n)
						}
					}
				}
			}
		}
	}
	for _, secret := range secrets { // what is cut, and what of it is not shown
		text := strings.Repeat("\x00", 5*200-len(secret)/2) + secret
		if quoted := q.Quote(text); strings.Contains(quoted, secret[:4]) {
			t.Errorf("%q begins as a secret", quoted)
		}
	}
	if quoted := q.Quote(m.AppSecret + " " + m.PartnerKey + " " + m.AppSecret); quoted != "*** *** ***" {
		t.Errorf("of three secrets: %q", quoted)
	}
	if quoted := q.Quote("the key of now: a-sandbox-key", "a-sandbox-key"); quoted != "the key of now: ***" {
		t.Errorf("got %q", quoted)
	}
}

func TestQuote(t *testing.T) {
	m, _ := guarded(t)
	q := m.Quoter()
	long := strings.Repeat("长", 250)
	for text, want := range map[string]string{
		"":                                 "",
		"系统繁忙,请稍后再试.":                      "系统繁忙,请稍后再试.",
		"a b  c":                           "a b  c",
		"a\r\nb\x00\tc":                    "a b c",
		"\x1b[31mred":                      "[31mred",
		"a\xffb":                           "a\uFFFDb",
		strings.Repeat("\x00", 1000) + "a": "",
		long:                               long[:200*len("长")] + "…",
		"GET /sns/jscode2session?appid=wx1&secret=0123456789&js_code=abc&grant_type=authorization_code": "GET /sns/jscode2session?appid=wx1&secret=***&js_code=***&grant_type=authorization_code",
		"GET /sns/oauth2/access_token?code=abc HTTP/1.1":                                                "GET /sns/oauth2/access_token?code=*** HTTP/1.1",
		`{"access_token":"ACCESS","openid":"o1","session_key" : "S=="}`:                                 `{"access_token":"***","openid":"o1","session_key" : "***"}`,
		"Authorization: WECHATPAY2-SHA256-RSA2048 mchid=\"1\",signature=\"abc\"\r\nHost: a":             "Authorization: *** Host: a",
		"dial https://user:word@proxy.example: no":                                                      "dial https://user:***@proxy.example: no",
		"-----BEGIN RSA PRIVATE KEY-----\nMIIE":                                                         "***",
		"no signature: there is no Wechatpay-Signature; is it lost?":                                    "no signature: there is no Wechatpay-Signature; is it lost?",
		"err_code=NOTENOUGH code=1":                                                                     "err_code=NOTENOUGH code=1",
	} {
		if got := q.Quote(text); got != want {
			t.Errorf("%q: got %q, want %q", text, got, want)
		}
	}
	if got := new(wepay.Merchant).Quoter().Quote("a"); got != "a" {
		t.Errorf("a merchant without secrets: got %q", got)
	}
	short := &wepay.Merchant{Secrets: []string{"abcdef", "vwxyz"}}
	if got := short.Quoter().Quote("abcdef vwxyz"); got != "*** vwxyz" {
		t.Errorf("what is too short for a secret: got %q", got)
	}
}

func TestQuoteError(t *testing.T) {
	m, _ := guarded(t)
	q := m.Quoter()
	if err := q.QuoteError(nil); err != nil {
		t.Errorf("got %v", err)
	}
	plain := fmt.Errorf("%w: plain", wepay.ErrNoAnswer)
	if err := q.QuoteError(plain); err != plain {
		t.Errorf("got %#v", err)
	}
	err := q.QuoteError(fmt.Errorf("%w: %w", &wepay.Error{Message: m.AppSecret}, wepay.ErrNoAnswer))
	if _, found := errors.AsType[*wepay.Error](err); !found || !errors.Is(err, wepay.ErrNoAnswer) || strings.Contains(err.Error(), m.AppSecret) {
		t.Errorf("got %v", err)
	}
	if err := q.QuoteError(errors.New(strings.Repeat("长", 700))); utf8.RuneCountInString(err.Error()) != 601 {
		t.Errorf("got %d characters", utf8.RuneCountInString(err.Error()))
	}
}

func FuzzQuote(f *testing.F) {
	m, _ := guarded(f)
	q := m.Quoter()
	for _, text := range []string{"", "a", "secret=\xff", m.AppSecret[:31] + "\x00" + m.AppSecret, strings.Repeat("=", 3000)} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		for _, quoted := range []string{q.Quote(text), q.Quote(text + m.AppSecret), q.Quote(m.PartnerKey + text)} {
			if utf8.RuneCountInString(quoted) > 201 || strings.Contains(quoted, m.AppSecret) || strings.Contains(quoted, m.PartnerKey) ||
				strings.IndexFunc(quoted, func(r rune) bool { return !unicode.IsPrint(r) }) >= 0 {
				t.Errorf("%q is quoted as %q", text, quoted)
			}
		}
	})
}
