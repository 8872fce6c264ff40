package apiv3_test

import (
	"crypto/rand"
	"crypto/rsa"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/windsome/caddy-wepay/wepay"
	"github.com/windsome/caddy-wepay/wepay/internal/billtest"
	"github.com/windsome/caddy-wepay/wepay/wepaytest"
)

const aLink = `{"code_url":"weixin://wxpay/bizpayurl?pr=p4lpSuKzz"}`

var aQuery = fields("out_trade_no", "ORDER-0001")

// state is an order as WeChat tells it.
func state(mchid, number string) string {
	return `{"appid":"` + appID + `","mchid":"` + mchid + `","out_trade_no":"` + number + `","trade_state":"NOTPAY","amount":{"total":1200}}`
}

// Whatever is not WeChat's own reply says nothing: placing an order leaves its
// outcome open, and asking about it is done again.
func TestReplyIsNotBelieved(t *testing.T) {
	k := vectorKeys(t)
	stamp := func(d time.Duration) string { return strconv.FormatInt(start.Add(d).Unix(), 10) }
	header := func(name string, values ...string) map[string][]string {
		return map[string][]string{"Wechatpay-" + name: values}
	}
	good := answer{body: aLink}
	wrong := func(change func(*answer)) answer {
		a := good
		change(&a)
		return a
	}
	tests := map[string]struct {
		says answer
		want error
		text string // of the error
	}{
		"huge":                 {answer{body: `{"code_url":"` + strings.Repeat("x", 1<<20) + `"}`}, wepay.ErrTooLarge, "1048576 bytes"},
		"a page":               {answer{body: "<html><title>200 OK</title></html>", bare: true}, wepay.ErrUnsigned, ""},
		"a page, 502":          {answer{status: 502, body: "<html><title>502 Bad Gateway</title></html>", bare: true}, nil, `"502 Bad Gateway"`},
		"a page, signed":       {answer{body: "<html>"}, wepay.ErrMalformed, ""},
		"no JSON, 404, signed": {answer{status: 404, body: "404"}, nil, "HTTP status 404"},
		"cut JSON":             {answer{body: aLink[:len(aLink)-2]}, wepay.ErrMalformed, ""},
		"two JSONs":            {answer{body: aLink + "{}"}, wepay.ErrMalformed, ""},
		"a list":               {answer{body: "[]"}, wepay.ErrMalformed, ""},
		"nothing":              {answer{}, nil, "prepay_id"},
		"null":                 {answer{body: "null"}, nil, "prepay_id"},
		"nothing, 204":         {answer{status: 204}, nil, "prepay_id"},
		"unsigned":             {answer{body: aLink, bare: true}, wepay.ErrUnsigned, "Wechatpay-Timestamp"},
		"no link":              {answer{body: `{}`}, nil, "prepay_id"},
		"an old one":           {wrong(func(a *answer) { a.header = stale(t, k, -300*time.Second) }), wepay.ErrStale, "-300 seconds"},
		"one ahead":            {wrong(func(a *answer) { a.header = stale(t, k, 300*time.Second) }), wepay.ErrStale, "300 seconds"},
		"another time":         {wrong(func(a *answer) { a.header = header("Timestamp", stamp(time.Second)) }), wepay.ErrSignature, ""},
		"milliseconds":         {wrong(func(a *answer) { a.header = header("Timestamp", stamp(0)+"000000") }), wepay.ErrMalformed, "milliseconds"},
		"no number":            {wrong(func(a *answer) { a.header = header("Timestamp", "+"+stamp(0)) }), wepay.ErrMalformed, "Timestamp"},
		"a time below nothing": {wrong(func(a *answer) { a.header = header("Timestamp", "-"+stamp(0)) }), wepay.ErrMalformed, "Timestamp"},
		"a time with a zero":   {wrong(func(a *answer) { a.header = header("Timestamp", "0"+stamp(0)) }), wepay.ErrMalformed, "Timestamp"},
		"a time too large":     {wrong(func(a *answer) { a.header = header("Timestamp", strings.Repeat("9", 20)) }), wepay.ErrMalformed, "Timestamp"},
		"another nonce":        {wrong(func(a *answer) { a.header = header("Nonce", "x") }), wepay.ErrSignature, ""},
		"another algorithm":    {wrong(func(a *answer) { a.header = header("Signature-Type", "WECHATPAY2-SM2-WITH-SM3") }), wepay.ErrMalformed, "Signature-Type"},
		"a second algorithm": {wrong(func(a *answer) {
			a.header = header("Signature-Type", "WECHATPAY2-SHA256-RSA2048", "WECHATPAY2-SM2-WITH-SM3")
		}), wepay.ErrMalformed, "Signature-Type"},
		"base64url": {wrong(func(a *answer) {
			a.header = resigned(t, k, strings.NewReplacer("+", "-", "/", "_").Replace)
		}), wepay.ErrSignature, ""},
		"no padding":      {wrong(func(a *answer) { a.header = resigned(t, k, func(s string) string { return strings.TrimRight(s, "=") }) }), wepay.ErrSignature, ""},
		"a signature cut": {wrong(func(a *answer) { a.header = resigned(t, k, func(s string) string { return s[4:] }) }), wepay.ErrSignature, ""},
		"a probe":         {wrong(func(a *answer) { a.header = header("Signature", "WECHATPAY/SIGNTEST/"+strings.Repeat("A", 324)+"=") }), wepay.ErrProbe, "probe"},
		"no base64":       {wrong(func(a *answer) { a.header = header("Signature", "-") }), wepay.ErrSignature, ""},
		"an unknown public key": {
			wrong(func(a *answer) { a.header = header("Serial", k.PublicKeyID+"1") }), wepay.ErrUnknownKey, "public key of another account",
		},
		"our own certificate": {
			wrong(func(a *answer) { a.header = header("Serial", "048D5A6B7C8D9E0F1A2B3C4D5E6F708192A3B4C5") }), wepay.ErrUnknownKey, "merchant's own certificate",
		},
		"an odd serial": {wrong(func(a *answer) { a.header = header("Serial", "0a1b") }), wepay.ErrUnknownKey, "neither"},
		"the wrong key": {wrong(func(a *answer) { a.header = signedBy(t, strangersKey(t), k.PublicKeyID, aLink) }), wepay.ErrSignature, ""},
		"another body":  {wrong(func(a *answer) { a.header = signedBy(t, wechatsKey(t), k.PublicKeyID, aLink+" ") }), wepay.ErrSignature, ""},
		"a body and a bit": {wrong(func(a *answer) {
			a.header = signedBy(t, wechatsKey(t), k.PublicKeyID, strings.Replace(aLink, "p4", "p5", 1))
		}), wepay.ErrSignature, ""},
	}
	for _, name := range []string{"Timestamp", "Nonce", "Serial", "Signature"} {
		tests["no "+name] = struct {
			says answer
			want error
			text string
		}{wrong(func(a *answer) { a.header = header(name) }), wepay.ErrUnsigned, name}
		tests["an empty "+name] = struct {
			says answer
			want error
			text string
		}{wrong(func(a *answer) { a.header = header(name, "") }), wepay.ErrUnsigned, name}
		tests["two of "+name] = struct {
			says answer
			want error
			text string
		}{wrong(func(a *answer) { a.header = header(name, "x", "x") }), wepay.ErrMalformed, name}
		tests["two of "+name+", one empty"] = struct {
			says answer
			want error
			text string
		}{wrong(func(a *answer) { a.header = header(name, "", "x") }), wepay.ErrMalformed, name}
		tests["a huge "+name] = struct {
			says answer
			want error
			text string
		}{wrong(func(a *answer) { a.header = header(name, strings.Repeat("1", 1025)) }), wepay.ErrMalformed, name}
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			w := newWechat(t, func(http.ResponseWriter, *http.Request) answer { return test.says })
			c := w.client(t, w.merchant(t))
			got, err := c.Do(t.Context(), wepay.PlaceOrder, order("ORDER-0001", "1200"))
			failed := wantError(t, err, wepay.Query)
			if got != nil || !errors.Is(err, wepay.ErrNoAnswer) || failed.Code != "" || test.want != nil && !errors.Is(err, test.want) || !strings.Contains(err.Error(), test.text) {
				t.Errorf("placing: got %v, %v, want %v with %q", got, err, test.want, test.text)
			}
			_, err = c.Do(t.Context(), wepay.QueryOrder, aQuery)
			if failed := wantError(t, err, wepay.Again); !errors.Is(err, wepay.ErrNoAnswer) || failed.Code != "" {
				t.Errorf("asking: %v", err)
			}
			_, err = c.Do(t.Context(), wepay.CloseOrder, aQuery)
			if !strings.HasPrefix(name, "nothing") && name != "null" && !strings.HasPrefix(name, "no link") { // which is what closing says
				wantError(t, err, wepay.Again)
			}
		})
	}
}

func wechatsKey(t testing.TB) *rsa.PrivateKey {
	return privateKey(t, []byte(vectorKeys(t).PlatformPrivate))
}

func strangersKey(t testing.TB) *rsa.PrivateKey {
	return privateKey(t, testdata(t, "../certificates/other-key.pem"))
}

// signedBy are headers that sign a body with a key.
func signedBy(t testing.TB, key *rsa.PrivateKey, serial, body string) map[string][]string {
	t.Helper()
	timestamp, nonce := strconv.FormatInt(start.Unix(), 10), rand.Text()
	return map[string][]string{
		"Wechatpay-Timestamp": {timestamp}, "Wechatpay-Nonce": {nonce}, "Wechatpay-Serial": {serial},
		"Wechatpay-Signature": {signed(key, timestamp, nonce, body)},
	}
}

// resigned are headers that sign aLink rightly, but for how the signature is
// written. One is taken that each change changes.
func resigned(t testing.TB, k keys, change func(string) string) map[string][]string {
	t.Helper()
	for {
		h := signedBy(t, wechatsKey(t), k.PublicKeyID, aLink)
		right := h["Wechatpay-Signature"][0]
		if changed := change(right); changed != right {
			h["Wechatpay-Signature"] = []string{changed}
			return h
		}
	}
}

// stale are headers that sign aLink rightly, at another time.
func stale(t testing.TB, k keys, d time.Duration) map[string][]string {
	t.Helper()
	timestamp := strconv.FormatInt(start.Add(d).Unix(), 10)
	return map[string][]string{
		"Wechatpay-Timestamp": {timestamp}, "Wechatpay-Nonce": {"x"}, "Wechatpay-Serial": {k.PublicKeyID},
		"Wechatpay-Signature": {signed(wechatsKey(t), timestamp, "x", aLink)},
	}
}

// A reply of almost five minutes ago is as good as one of now.
func TestReplyWindow(t *testing.T) {
	for _, d := range []time.Duration{-299 * time.Second, 299 * time.Second} {
		w := newWechat(t, func(http.ResponseWriter, *http.Request) answer {
			return answer{body: aLink, header: stale(t, vectorKeys(t), d)}
		})
		got, err := w.client(t, w.merchant(t)).Do(t.Context(), wepay.PlaceOrder, order("ORDER-0001", "1200"))
		if err != nil || got.Get("code_url") == "" {
			t.Errorf("%s: got %v, %v", d, got, err)
		}
	}
}

// A reply that names a certificate which nobody knows has WeChat asked for it once,
// and not again for a while, whatever comes; it is accepted once it is listed.
func TestReplyOfUnknownCertificate(t *testing.T) {
	var mu sync.Mutex
	all, fetches := []listed{{serial: 1}}, 0
	w := newWechat(t, func(_ http.ResponseWriter, r *http.Request) answer {
		mu.Lock()
		defer mu.Unlock()
		if r.URL.Path == certificatesPath {
			fetches++
			body := list(t, all...)
			return answer{body: body, header: signedBy(t, wechatsKey(t), serialOf(1), body)}
		}
		return answer{body: aLink, header: map[string][]string{"Wechatpay-Serial": {serialOf(9)}}}
	})
	m := w.merchant(t)
	m.PublicKey, m.PublicKeyID = nil, ""
	c := w.client(t, m)
	flood := func() {
		var callers sync.WaitGroup
		for i := range 20 {
			callers.Go(func() {
				_, err := c.Do(t.Context(), wepay.PlaceOrder, order(fmt.Sprintf("ORDER-%04d", i), "1"))
				if wantError(t, err, wepay.Query); !errors.Is(err, wepay.ErrUnknownKey) || !errors.Is(err, wepay.ErrNoAnswer) {
					t.Errorf("got %v", err)
				}
			})
		}
		callers.Wait()
	}
	for n := range 3 {
		if flood(); fetches != n+1 {
			t.Errorf("%d fetches after %d floods", fetches, n+1)
		}
		w.clock.Advance(5 * time.Second)
	}
	all = append(all, listed{serial: 9})
	if _, err := c.Do(t.Context(), wepay.PlaceOrder, order("ORDER-0001", "1")); err != nil || fetches != 4 {
		t.Errorf("listed: got %v, %d fetches", err, fetches)
	}
}

// A reply about another merchant or another order is none, though WeChat signed
// it.
func TestForeignReply(t *testing.T) {
	for name, body := range map[string]string{
		"another merchant": state("1900000111", "ORDER-0001"),
		"another order":    state(mchID, "ORDER-0002"),
	} {
		w := newWechat(t, func(http.ResponseWriter, *http.Request) answer { return answer{body: body} })
		_, err := w.client(t, w.merchant(t)).Do(t.Context(), wepay.QueryOrder, aQuery)
		wantError(t, err, wepay.Again)
		if !errors.Is(err, wepay.ErrForeign) {
			t.Errorf("%s: got %v", name, err)
		}
	}
	w := newWechat(t, func(http.ResponseWriter, *http.Request) answer {
		return answer{body: `{"refund_id":"1","out_refund_no":"R2","status":"SUCCESS"}`}
	})
	_, err := w.client(t, w.merchant(t)).Do(t.Context(), wepay.QueryRefund, fields("out_refund_no", "R1"))
	if wantError(t, err, wepay.Again); !errors.Is(err, wepay.ErrForeign) {
		t.Errorf("another refund: got %v", err)
	}
	_, err = w.client(t, w.merchant(t)).Do(t.Context(), wepay.Refund, refund("R1", "ORDER-0001", "2", "1"))
	if wantError(t, err, wepay.Query); !errors.Is(err, wepay.ErrForeign) {
		t.Errorf("refunding, another refund: got %v", err)
	}
	s := openShop(t, ways[4])
	s.pay(order("ORDER-0001", "1200"))
	s.wechat.Misbehave("", wepaytest.Fault{Kind: wepaytest.Foreign})
	_, err = s.client.Do(t.Context(), wepay.QueryOrder, aQuery)
	if wantError(t, err, wepay.Again); !errors.Is(err, wepay.ErrForeign) {
		t.Errorf("a partner's: got %v", err)
	}
}

// What WeChat says in numbers that are none is no reply.
func TestMalformedReply(t *testing.T) {
	for _, body := range []string{
		`{"out_trade_no":"ORDER-0001","trade_state":"SUCCESS","amount":{"total":12.5}}`,
		`{"out_trade_no":"ORDER-0001","trade_state":"SUCCESS","amount":{"total":1e3}}`,
		`{"out_trade_no":"ORDER-0001","trade_state":"SUCCESS","amount":{"total":-1}}`,
		`{"out_trade_no":"ORDER-0001"}`,
	} {
		w := newWechat(t, func(http.ResponseWriter, *http.Request) answer { return answer{body: body} })
		_, err := w.client(t, w.merchant(t)).Do(t.Context(), wepay.QueryOrder, aQuery)
		if wantError(t, err, wepay.Again); !errors.Is(err, wepay.ErrNoAnswer) {
			t.Errorf("%s: got %v", body, err)
		}
	}
}

// An error never tells what a caller sent or WeChat answered.
func TestErrorsKeepSecrets(t *testing.T) {
	for _, says := range []answer{
		{body: `{"secret":"` + apiV3Key + `"}`, bare: true},
		{status: 500, body: apiV3Key, bare: true},
		{body: apiV3Key},
	} {
		w := newWechat(t, func(http.ResponseWriter, *http.Request) answer { return says })
		m := w.merchant(t)
		m.Payouts = true
		for _, do := range []func() error{
			func() error {
				_, err := w.client(t, m).Do(t.Context(), wepay.Transfer, with(transfer("TR1", "200000"), "re_user_name", "张三"))
				return err
			},
			func() error {
				_, err := w.client(t, m).Do(t.Context(), wepay.QueryOrder, aQuery)
				return err
			},
		} {
			if err := do(); err == nil || strings.Contains(fmt.Sprint(err), apiV3Key) || strings.Contains(fmt.Sprint(err), "张三") || strings.Contains(fmt.Sprint(err), openID) {
				t.Errorf("got %v", err)
			}
		}
	}
}

// WeChat's bytes are what is verified, and not what a proxy made of them.
func TestReplyIsUnpacked(t *testing.T) {
	w := newWechat(t, func(w http.ResponseWriter, r *http.Request) answer {
		if r.Header.Get("Accept-Encoding") != "gzip" {
			t.Errorf("asked with %v", r.Header)
		}
		return answer{body: aLink}
	})
	proxy := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		req, _ := http.NewRequestWithContext(r.Context(), r.Method, w.URL+r.RequestURI, r.Body)
		req.Header = r.Header
		resp, err := http.DefaultTransport.RoundTrip(req)
		if err != nil {
			t.Error(err)
			return
		}
		defer resp.Body.Close()
		body, _ := io.ReadAll(resp.Body)
		for name, values := range resp.Header {
			rw.Header()[name] = values
		}
		rw.Header().Del("Content-Length")
		rw.Header().Set("Content-Encoding", "gzip")
		_, _ = io.WriteString(rw, billtest.Zipped(t, string(body)))
	}))
	defer proxy.Close()
	defer http.DefaultTransport.(*http.Transport).CloseIdleConnections()
	m := w.merchant(t)
	m.Endpoints = []string{proxy.URL}
	if got, err := w.client(t, m).Do(t.Context(), wepay.PlaceOrder, order("ORDER-0001", "1")); err != nil || got.Get("code_url") == "" {
		t.Errorf("got %v, %v", got, err)
	}
}
