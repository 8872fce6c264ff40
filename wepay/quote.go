package wepay

import (
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"unicode"
)

// Quoter repeats what others say, as it may stand in an answer, an error or a log:
// printable, bounded, and without a merchant's secrets or what is named as one.
type Quoter struct {
	secrets []string // in small letters
}

// How much is repeated, in characters: of one text of others, and of an error that
// may hold several.
const (
	maxQuote      = 200
	maxQuoteError = 600
)

// Quoter returns one that knows the merchant's secrets.
func (m *Merchant) Quoter() *Quoter {
	q := new(Quoter)
	q.hide(m.PartnerKey, m.APIv3Key, m.AppSecret)
	q.hide(m.Secrets...)
	for _, address := range append([]string{m.CbNotifyURL, m.CbRefundNotifyURL, m.CbEventURL}, m.Endpoints...) {
		q.hide(secretsIn(address)...)
	}
	if _, key := m.SigningKey(); key != nil {
		q.hide(secretsOf(key)...)
	}
	return q
}

// leastSecret is what is hidden, in bytes. What is shorter is in any text.
const leastSecret = 6

// hide adds secrets, as they are and as they stand in a URL.
func (q *Quoter) hide(secrets ...string) {
	for _, secret := range secrets {
		for _, form := range []string{secret, url.QueryEscape(secret), url.PathEscape(secret)} {
			if form = lower(form); len(secret) >= leastSecret && !slices.Contains(q.secrets, form) {
				q.secrets = append(q.secrets, form)
			}
		}
	}
}

// Quote repeats a text, of 200 characters at most, without further secrets.
func (q *Quoter) Quote(text string, further ...string) string {
	return q.quote(text, maxQuote, further)
}

// QuoteError repeats an error, in 600 characters at most. Errors.Is and errors.As
// find in it what they found before.
func (q *Quoter) QuoteError(err error, further ...string) error {
	if err == nil {
		return nil
	}
	text := err.Error()
	quoted := q.quote(text, maxQuoteError, further)
	if quoted == text {
		return err
	}
	return &quotedError{quoted, err}
}

type quotedError struct {
	text string
	err  error
}

func (e *quotedError) Error() string { return e.text }
func (e *quotedError) Unwrap() error { return e.err }

// hidden stands in the place of a secret.
const hidden = "***"

// named are what is called a secret, whosever it is.
var named = []struct {
	text  *regexp.Regexp
	shown string // what stays of it
}{
	{regexp.MustCompile(`(?i)\b((?:app_?secret|secret|access_token|refresh_token|session_key|js_code|passphrase|password|partner_key|api_?v3_?key|private_key|signature)(?:=|\\?"\s*:\s*)\\?"?)[^\s&;,"\\<>]+`), "$1" + hidden},
	{regexp.MustCompile(`(?i)([?&]code=)[^\s&"<>]+`), "$1" + hidden},
	{regexp.MustCompile(`(?i)\b(authorization:\s*)[^\r\n]+`), "$1" + hidden},
	{regexp.MustCompile(`(://[^\s/@:]*:)[^\s/@]+@`), "$1" + hidden + "@"},
	{regexp.MustCompile(`(?s)-----BEGIN [A-Z ]*PRIVATE KEY-----.*`), hidden},
}

// quote hides before it cuts, so that no part of a secret is left at the end.
func (q *Quoter) quote(text string, most int, further []string) string {
	text = without(text, slices.Concat(further, q.secrets))
	if long := 5 * most; len(text) > long {
		text = text[:long]
	}
	if strings.ContainsAny(text, "=:-") {
		for _, n := range named {
			text = n.text.ReplaceAllString(text, n.shown)
		}
	}
	text = strings.Join(strings.FieldsFunc(strings.ToValidUTF8(text, "\uFFFD"), func(r rune) bool { return !unicode.IsPrint(r) }), " ")
	if characters := []rune(text); len(characters) > most {
		return string(characters[:most]) + "…"
	}
	return text
}

// without hides each place of a text that has one of some secrets, in capital or
// small letters.
func without(text string, secrets []string) string {
	small := lower(text)
	for _, secret := range secrets {
		secret = lower(secret)
		if secret == "" || !strings.Contains(small, secret) {
			continue
		}
		var shown strings.Builder
		for i := strings.Index(small, secret); i >= 0; i = strings.Index(small, secret) {
			shown.WriteString(text[:i] + hidden)
			text, small = text[i+len(secret):], small[i+len(secret):]
		}
		shown.WriteString(text)
		text = shown.String()
		small = lower(text)
	}
	return text
}

// lower is strings.ToLower of ASCII, which leaves each byte in its place.
func lower(text string) string {
	if strings.IndexFunc(text, isCapital) < 0 {
		return text
	}
	small := []byte(text)
	for i, c := range small {
		if isCapital(rune(c)) {
			small[i] = c + 'a' - 'A'
		}
	}
	return string(small)
}

func isCapital(r rune) bool { return 'A' <= r && r <= 'Z' }

// secretsIn are what a URL may say of who uses it.
func secretsIn(address string) (secrets []string) {
	u, err := url.Parse(address)
	if err != nil {
		return nil
	}
	if password, found := u.User.Password(); found {
		secrets = append(secrets, password, base64.StdEncoding.EncodeToString([]byte(u.User.Username()+":"+password)))
	}
	for _, values := range u.Query() {
		secrets = append(secrets, values...)
	}
	return secrets
}

// secretsOf are the lines of a key's file, in both forms of it, and its numbers.
func secretsOf(key *rsa.PrivateKey) (secrets []string) {
	forms := [][]byte{x509.MarshalPKCS1PrivateKey(key)}
	if pkcs8, err := x509.MarshalPKCS8PrivateKey(key); err == nil {
		forms = append(forms, pkcs8)
	}
	const line = 64 // characters
	for _, form := range forms {
		for text := range slices.Chunk([]byte(base64.StdEncoding.EncodeToString(form)), line) {
			secrets = append(secrets, string(text))
		}
	}
	secrets = append(secrets, key.D.Text(16))
	for _, prime := range key.Primes {
		secrets = append(secrets, prime.Text(16))
	}
	return secrets
}
