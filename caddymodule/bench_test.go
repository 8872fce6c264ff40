package caddymodule

import (
	"bytes"
	"io"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"

	"github.com/windsome/caddy-wepay/wepay"
	"github.com/windsome/caddy-wepay/wepay/apiv2"
)

// discard is an answer that nobody reads, on a connection that can have
// deadlines, as Caddy's.
type discard struct {
	*httptest.ResponseRecorder
}

func (discard) SetReadDeadline(time.Time) error { return nil }

// BenchmarkNotification is the cost of one notification of 27 fields from its
// body to WeChat's answer: reading, verifying, signing for the order service,
// handing over. The order service takes no time and no sockets.
func BenchmarkNotification(b *testing.B) {
	merchants, err := wepay.NewMerchants(testMerchant)
	if err != nil {
		b.Fatal(err)
	}
	secrets, err := parseSecrets([]string{testSecret})
	if err != nil {
		b.Fatal(err)
	}
	metrics, err := newMetrics(prometheus.NewRegistry())
	if err != nil {
		b.Fatal(err)
	}
	taken := &http.Response{StatusCode: http.StatusNoContent, Body: http.NoBody}
	h := &Handler{
		prefix: defaultPathPrefix, merchants: merchants, logger: zap.NewNop(),
		app: &App{
			CallbackTimeout: caddy.Duration(defaultCallbackTimeout), metrics: metrics, merchants: merchants,
			accounts: map[*wepay.Merchant]*account{testMerchant: {
				merchant: testMerchant, v2: apiv2.NewClient(testMerchant),
				callback: &callback{
					url: testMerchant.CbNotifyURL, secrets: secrets, timeout: defaultCallbackTimeout,
					transport: orders(func(r *http.Request) (*http.Response, error) {
						_, err := io.Copy(io.Discard, r.Body)
						return taken, err
					}),
				},
			}},
		},
	}
	text := notificationXML(b)
	b.ReportAllocs()
	b.SetBytes(int64(len(text)))
	for b.Loop() {
		r := httptest.NewRequest(http.MethodPost, "/apis/v1/wepay/pay_notify", nil)
		r.Body, r.ContentLength = io.NopCloser(bytes.NewReader(text)), int64(len(text))
		w := discard{httptest.NewRecorder()}
		if err := h.ServeHTTP(w, r, nil); err != nil {
			b.Fatal(err)
		}
		if !bytes.Contains(w.Body.Bytes(), []byte("SUCCESS")) {
			b.Fatal(w.Body)
		}
	}
}
