package apiv3_test

import (
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha1"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strconv"
	"sync"
	"testing"

	"github.com/windsome/caddy-wepay/wepay"
	"github.com/windsome/caddy-wepay/wepay/apiv3"
	"github.com/windsome/caddy-wepay/wepay/wepaytest"
)

// answer is what a WeChat of a test says. It is signed with the vectors' key
// unless the test says otherwise.
type answer struct {
	status int // 0: 200
	body   string
	header map[string][]string // over those that sign it; an empty list takes one away
	bare   bool                // nothing signs it
}

// wechat stands in for WeChat Pay where the one of wepaytest is too good.
type wechat struct {
	*httptest.Server
	keys  keys
	clock *wepaytest.FakeClock

	mu  sync.Mutex
	all []*http.Request
}

// newWechat starts one. A test that writes the answer itself returns status -1.
func newWechat(t testing.TB, says func(http.ResponseWriter, *http.Request) answer) *wechat {
	t.Helper()
	s := &wechat{keys: vectorKeys(t), clock: wepaytest.NewFakeClock(start)}
	key := privateKey(t, []byte(s.keys.PlatformPrivate))
	s.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.mu.Lock()
		s.all = append(s.all, r)
		s.mu.Unlock()
		a := says(w, r)
		if a.status < 0 {
			return
		}
		w.Header().Set("Date", s.clock.Now().UTC().Format(http.TimeFormat))
		if !a.bare {
			s.sign(w.Header(), key, a.body)
		}
		for name, values := range a.header {
			w.Header()[name] = values
			if len(values) == 0 {
				w.Header().Del(name)
			}
		}
		if a.status == 0 {
			a.status = http.StatusOK
		}
		w.WriteHeader(a.status)
		_, _ = io.WriteString(w, a.body)
	}))
	t.Cleanup(s.Close)
	return s
}

func (s *wechat) sign(h http.Header, key *rsa.PrivateKey, body string) {
	timestamp, nonce := strconv.FormatInt(s.clock.Now().Unix(), 10), rand.Text()
	h["Wechatpay-Timestamp"], h["Wechatpay-Nonce"], h["Wechatpay-Serial"] = []string{timestamp}, []string{nonce}, []string{s.keys.PublicKeyID}
	h["Wechatpay-Signature"] = []string{signed(key, timestamp, nonce, body)}
}

// signed is WeChat's signature, made here by itself.
func signed(key *rsa.PrivateKey, timestamp, nonce, body string) string {
	digest := sha256.Sum256([]byte(timestamp + "\n" + nonce + "\n" + body + "\n"))
	signature, err := rsa.SignPKCS1v15(nil, key, crypto.SHA256, digest[:])
	if err != nil {
		panic(err) // the key is RSA
	}
	return base64.StdEncoding.EncodeToString(signature)
}

// asked returns how often the server was asked.
func (s *wechat) asked() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.all)
}

// merchant is one that knows this WeChat by its public key.
func (s *wechat) merchant(t testing.TB, more ...string) *wepay.Merchant {
	t.Helper()
	return &wepay.Merchant{
		Name: "shop", Env: wepay.NATIVE, Type: wepay.Direct, API: wepay.V3, SignType: wepay.MD5,
		AppID: appID, MchID: mchID, APIv3Key: apiV3Key,
		PrivateKey: privateKey(t, testdata(t, "../certificates/key.pem")), MchSerial: "048D5A6B7C8D9E0F1A2B3C4D5E6F708192A3B4C5",
		PublicKeyID: s.keys.PublicKeyID, PublicKey: publicKey(t, s.keys.PlatformPublic),
		NotifyURL: "https://pay.example.cn/apis/v1/wepay/pay_notify",
		Endpoints: append([]string{s.URL}, more...),
	}
}

// client asks as a merchant, at the time of this WeChat.
func (s *wechat) client(t testing.TB, m *wepay.Merchant, given ...wepay.ClientOptions) *apiv3.Client {
	t.Helper()
	transport := wepay.NewTransport(m)
	t.Cleanup(transport.CloseIdleConnections)
	var options wepay.ClientOptions
	if len(given) > 0 {
		options = given[0]
	}
	options.Transport = transport
	if options.Now == nil {
		options.Now = s.clock.Now
	}
	return apiv3.NewClient(m, apiv3.NewKeyRing(m, nil, options), options)
}

// sealFor encrypts a field for the merchant of merchant.
func sealFor(t testing.TB, plain string) string {
	t.Helper()
	key := privateKey(t, testdata(t, "../certificates/key.pem"))
	sealed, err := rsa.EncryptOAEP(sha1.New(), rand.Reader, &key.PublicKey, []byte(plain), nil)
	if err != nil {
		t.Fatal(err)
	}
	return base64.StdEncoding.EncodeToString(sealed)
}

func isNotAble(err error) bool { return errors.Is(err, wepay.ErrNotAble) }
