package caddymodule

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"
	"go.uber.org/zap"

	"github.com/windsome/caddy-wepay/caddymodule/delivery"
	"github.com/windsome/caddy-wepay/wepay"
	"github.com/windsome/caddy-wepay/wepay/apiv2"
	"github.com/windsome/caddy-wepay/wepay/apiv3"
)

// discard is an answer that nobody reads, on a connection that can have
// deadlines, as Caddy's.
type discard struct {
	*httptest.ResponseRecorder
}

func (discard) SetReadDeadline(time.Time) error { return nil }

// signed is a notification of a payment, with the merchant that it is for.
type signed struct {
	merchant *wepay.Merchant
	header   http.Header
	body     []byte
	status   int // of WeChat's answer
}

// newSigned is one of API v2, of 27 fields.
func newSigned(tb testing.TB) signed {
	return signed{testMerchant, http.Header{"Content-Type": {"text/xml"}}, notificationXML(tb), http.StatusOK}
}

// among is a handler of the merchant and so many others, each with an account of
// its own, whose order services take no time and no sockets.
func (s signed) among(tb testing.TB, others int) *Handler {
	tb.Helper()
	all := make([]*wepay.Merchant, 0, others+1)
	for n := range others {
		m := *s.merchant
		m.Name, m.MchID, m.PublicKeyID = fmt.Sprintf("shop%d", n), fmt.Sprintf("18%08d", n), fmt.Sprintf("%s%032d", wepay.PublicKeyPrefix, n)
		all = append(all, &m)
	}
	all = append(all, s.merchant)
	merchants, err := wepay.NewMerchants(all...)
	if err != nil {
		tb.Fatal(err)
	}
	secrets, err := parseSecrets([]string{testSecret})
	if err != nil {
		tb.Fatal(err)
	}
	app := &App{CallbackTimeout: caddy.Duration(defaultCallbackTimeout), metrics: newMetrics(), merchants: merchants, accounts: make(map[*wepay.Merchant]*account)}
	app.keyRings = newKeyRings(nil)
	taken := &http.Response{StatusCode: http.StatusNoContent, Body: http.NoBody}
	service := orders(func(r *http.Request) (*http.Response, error) {
		_, err := io.Copy(io.Discard, r.Body)
		return taken, err
	})
	options := wepay.ClientOptions{Transport: service}
	for _, m := range all {
		app.accounts[m] = &account{
			merchant: m, keyRing: app.keyRings.of(m, options),
			endpoint: &delivery.Endpoint{URL: m.CbNotifyURL, Secrets: secrets, Timeout: defaultCallbackTimeout, Transport: service},
		}
		if m.Uses(wepay.V2) {
			app.accounts[m].v2 = apiv2.NewClient(m, wepay.ClientOptions{})
		}
	}
	app.keyRings.KeyRings = apiv3.NewKeyRings(app.keyRings.all...)
	return &Handler{prefix: defaultPathPrefix, merchants: merchants, logger: zap.NewNop(), app: app}
}

// send has the handler take the notification.
func (s signed) send(tb testing.TB, h *Handler, path string) {
	r := httptest.NewRequest(http.MethodPost, "/apis/v1/wepay/"+path, nil)
	r.Header, r.Body, r.ContentLength = s.header, io.NopCloser(bytes.NewReader(s.body)), int64(len(s.body))
	w := discard{httptest.NewRecorder()}
	if err := h.ServeHTTP(w, r, nil); err != nil {
		tb.Fatal(err)
	}
	if w.Code != s.status || bytes.Contains(w.Body.Bytes(), []byte("FAIL")) {
		tb.Fatal(w.Code, w.Body)
	}
}

// BenchmarkNotification is the cost of one notification from its body to WeChat's
// answer: reading, verifying, signing for the order service, handing over. The
// order service takes no time and no sockets.
func BenchmarkNotification(b *testing.B) { benchmark(b, newSigned(b)) }

func benchmark(b *testing.B, s signed) {
	h := s.among(b, 0)
	b.ReportAllocs()
	b.SetBytes(int64(len(s.body)))
	for b.Loop() {
		s.send(b, h, "pay_notify")
	}
}
