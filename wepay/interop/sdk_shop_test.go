package interop

import (
	"context"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/wechatpay-apiv3/wechatpay-go/core"
	"github.com/wechatpay-apiv3/wechatpay-go/core/auth"
	"github.com/wechatpay-apiv3/wechatpay-go/core/auth/verifiers"
	"github.com/wechatpay-apiv3/wechatpay-go/core/cipher/decryptors"
	"github.com/wechatpay-apiv3/wechatpay-go/core/cipher/encryptors"
	"github.com/wechatpay-apiv3/wechatpay-go/core/downloader"
	"github.com/wechatpay-apiv3/wechatpay-go/core/notify"
	"github.com/wechatpay-apiv3/wechatpay-go/core/option"

	"github.com/windsome/caddy-wepay/wepay/wepaytest"
)

const (
	mchID    = "1900000109"
	otherID  = "1900000110"
	appID    = "wx00112233445566aa"
	openID   = "oUpF8uMuAJO_M2pxb1Q9zNjWeS6o"
	apiKey   = "Kd7q2Vn0sX9tB4mHc6Zr1Lw8Fy3Pj5Ga"
	apiV3Key = "v3v3v3v3v3v3v3v3v3v3v3v3v3v3v3v3"
)

// shop is a merchant that uses the SDK, with its WeChat Pay.
type shop struct {
	t        *testing.T
	wechat   *wepaytest.Server
	clock    *clock
	client   *core.Client
	http     *http.Client
	serial   string // the merchant's
	key      *rsa.PrivateKey
	verifier auth.Verifier
	handler  *notify.Handler
	site     *httptest.Server

	mu      sync.Mutex
	arrived *http.Request // what was notified last
	body    string
}

// clock is the machine's, which the SDK goes by, and days ahead of it for what
// has to be waited for.
type clock struct {
	mu    sync.Mutex
	ahead time.Duration
}

func (c *clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return time.Now().Add(c.ahead)
}

func (c *clock) AfterFunc(d time.Duration, f func()) func() bool { return time.AfterFunc(d, f).Stop }

func (c *clock) turn(ahead time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.ahead = ahead
}

// newShop opens a shop that knows WeChat by certificates or by the public key.
func newShop(t *testing.T, mode wepaytest.KeyMode) *shop {
	t.Helper()
	s := &shop{t: t, clock: &clock{}}
	s.wechat = must(wepaytest.NewServer(wepaytest.WithClock(s.clock)))(t)
	t.Cleanup(s.wechat.Close)
	for _, m := range []wepaytest.Merchant{
		{MchID: mchID, AppIDs: []string{appID}, Key: apiKey, APIv3Key: apiV3Key, Mode: mode}, {MchID: otherID, APIv3Key: apiV3Key},
	} {
		if err := s.wechat.AddMerchant(m); err != nil {
			t.Fatal(err)
		}
	}
	credential := must(s.wechat.Issue(mchID))(t)
	s.serial, s.key = credential.Serial, credential.Certificate.PrivateKey.(*rsa.PrivateKey)
	s.site = httptest.NewServer(http.HandlerFunc(s.take))
	t.Cleanup(s.site.Close)
	// The SDK calls WeChat by its name, which leads to the server.
	address := strings.TrimPrefix(s.wechat.URL, "https://")
	transport := &http.Transport{
		TLSClientConfig: &tls.Config{RootCAs: s.wechat.RootCAs(), MinVersion: tls.VersionTLS12},
		DialContext: func(ctx context.Context, network, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, network, address)
		},
	}
	t.Cleanup(transport.CloseIdleConnections)
	s.http = &http.Client{Transport: transport}
	if mode == wepaytest.ByPublicKey {
		s.byPublicKey()
	} else {
		s.byCertificate()
	}
	s.handler = must(notify.NewRSANotifyHandler(apiV3Key, s.verifier))(t)
	return s
}

func (s *shop) byPublicKey() {
	id, text, err := s.wechat.PublicKey(mchID)
	if err != nil {
		s.t.Fatal(err)
	}
	block, _ := pem.Decode(text)
	key := must(x509.ParsePKIXPublicKey(block.Bytes))(s.t).(*rsa.PublicKey)
	s.verifier = verifiers.NewSHA256WithRSAPubkeyVerifier(id, *key)
	s.client = must(core.NewClient(s.t.Context(),
		option.WithWechatPayPublicKeyAuthCipher(mchID, s.serial, s.key, id, key), option.WithHTTPClient(s.http)))(s.t)
}

// download has the SDK fetch the platform certificates.
func (s *shop) download() *downloader.CertificateDownloader {
	s.t.Helper()
	unverified := must(core.NewClient(s.t.Context(),
		option.WithMerchantCredential(mchID, s.serial, s.key), option.WithoutValidator(), option.WithHTTPClient(s.http)))(s.t)
	return must(downloader.NewCertificateDownloaderWithClient(s.t.Context(), unverified, apiV3Key))(s.t)
}

func (s *shop) byCertificate() {
	certificates := s.download()
	s.verifier = verifiers.NewSHA256WithRSAVerifier(certificates)
	s.client = must(core.NewClient(s.t.Context(),
		option.WithMerchantCredential(mchID, s.serial, s.key), option.WithVerifier(s.verifier), option.WithHTTPClient(s.http),
		option.WithWechatPayCipher(encryptors.NewWechatPayEncryptor(certificates), decryptors.NewWechatPayDecryptor(s.key))))(s.t)
}

// take has the SDK read a notification, and answers as it went.
func (s *shop) take(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return
	}
	r.Body = io.NopCloser(strings.NewReader(string(body)))
	s.mu.Lock()
	s.arrived, s.body = r.Clone(context.Background()), string(body)
	s.mu.Unlock()
	if _, err := s.handler.ParseNotifyRequest(r.Context(), r, &map[string]any{}); err != nil {
		w.WriteHeader(http.StatusUnauthorized)
		return
	}
	w.WriteHeader(http.StatusNoContent)
}

// read has the SDK read what was notified last.
func (s *shop) read(into any) *notify.Request {
	s.t.Helper()
	s.mu.Lock()
	r := s.arrived
	r.Body = io.NopCloser(strings.NewReader(s.body))
	s.mu.Unlock()
	return must(s.handler.ParseNotifyRequest(s.t.Context(), r, into))(s.t)
}

// must ends a test that cannot go on.
func must[T any](value T, err error) func(*testing.T) T {
	return func(t *testing.T) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return value
	}
}

// must2 is must for the SDK's services, which also return the reply.
func must2[T any](value T, _ *core.APIResult, err error) func(*testing.T) T { return must(value, err) }

// inBothModes runs a test for either way to know WeChat.
func inBothModes(t *testing.T, test func(*testing.T, *shop)) {
	t.Run("certificates", func(t *testing.T) { test(t, newShop(t, wepaytest.ByCertificate)) })
	t.Run("public key", func(t *testing.T) { test(t, newShop(t, wepaytest.ByPublicKey)) })
}
