package e2e_test

import (
	"crypto"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig"

	"github.com/windsome/caddy-wepay/wepay"
	"github.com/windsome/caddy-wepay/wepay/wepaytest"
)

// rig is a Caddy in front of an order service, and beside it Caddy's own reverse
// proxy in front of the same one: all in this process, as is what sends.
type rig struct {
	b         *testing.B
	shop      *merchant
	wechat    *wepaytest.Server
	key       *rsa.PublicKey // of WeChat Pay
	orders    *httptest.Server
	web       *http.Client
	delivered atomic.Int64
	site      string // address of the site that takes notifications
	proxied   string // address of the site with the reverse proxy
	sent      int

	connections int
}

// sent is a notification as WeChat sends it.
type sent struct {
	header http.Header
	body   string
}

const rigRound = 8000 // notifications

// newRig has further lines of the global option.
func newRig(b *testing.B, connections int, options string) *rig {
	b.Helper()
	dir := b.TempDir()
	b.Setenv("XDG_DATA_HOME", dir)
	b.Setenv("XDG_CONFIG_HOME", dir)
	r := &rig{b: b, shop: moving("shop", 1, "v2"), site: benchAddress(b), proxied: benchAddress(b), connections: connections}
	publicKey := r.startWeChat(filepath.Join(dir, "pub_key.pem"))
	r.web = &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: connections}}
	b.Cleanup(r.web.CloseIdleConnections)
	r.orders = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		if _, err := io.Copy(io.Discard, req.Body); err != nil {
			b.Error(err)
		}
		w.WriteHeader(http.StatusNoContent)
		r.delivered.Add(1)
	}))
	b.Cleanup(r.orders.Close)
	config := fmt.Sprintf(`{
	admin off
	persist_config off
	auto_https off
	storage file_system %[1]s
	log {
		output file %[1]s/caddy.log {
			roll_disabled
		}
	}
	wepay {
		merchant shop {
			env H5
			app_id %[2]s
			mch_id %[3]s
			partner_key %[4]s
			apiv3_key %[9]s
			public_key %[10]s
			callback_secret %[5]s
			notify_url http://%[6]s/apis/v1/wepay/pay_notify
			cb_notify_url %[8]s
		}
%[11]s
	}
}
http://%[6]s {
	bind 127.0.0.1
	wepay
}
http://%[7]s {
	bind 127.0.0.1
	reverse_proxy %[8]s
}
`, dir, r.shop.appID, r.shop.mchID, r.shop.key, secret, r.site, r.proxied, r.orders.URL, r.shop.v3.key, publicKey, options)
	adapted, _, err := caddyconfig.GetAdapter("caddyfile").Adapt([]byte(config), map[string]any{"filename": filepath.Join(dir, "Caddyfile")})
	if err != nil {
		b.Fatal(err)
	}
	if err := caddy.Load(adapted, true); err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		if err := caddy.Stop(); err != nil {
			b.Error(err)
		}
	})
	return r
}

// benchAddress returns an address that nobody listens on.
func benchAddress(b *testing.B) string {
	b.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	defer listener.Close()
	return listener.Addr().String()
}

// startWeChat starts a WeChat Pay that signs notifications of API v3, and returns
// what public_key says.
func (r *rig) startWeChat(file string) string {
	var err error
	if r.wechat, err = wepaytest.NewServer(); err != nil {
		r.b.Fatal(err)
	}
	r.b.Cleanup(r.wechat.Close)
	account := wepaytest.Merchant{MchID: r.shop.mchID, AppIDs: []string{r.shop.appID}, Key: r.shop.key, APIv3Key: r.shop.v3.key, Mode: wepaytest.ByPublicKey}
	if err := r.wechat.AddMerchant(account); err != nil {
		r.b.Fatal(err)
	}
	id, text, err := r.wechat.PublicKey(r.shop.mchID)
	if err != nil {
		r.b.Fatal(err)
	}
	if err := os.WriteFile(file, text, 0o600); err != nil {
		r.b.Fatal(err)
	}
	if r.key, err = wepay.ParsePublicKey(text); err != nil {
		r.b.Fatal(err)
	}
	return id + " " + file
}

// notifications returns a round of API v2 that nobody has seen yet.
func (r *rig) notifications() []sent {
	r.sent++
	return r.sign(rigRound, func(n int) sent {
		return sent{http.Header{"Content-Type": {"text/xml"}}, r.shop.notification(r.b, fmt.Sprintf("%d-%d", r.sent, n))}
	})
}

func (*rig) sign(n int, sign func(n int) sent) []sent {
	all := make([]sent, n)
	for i := range all {
		all[i] = sign(i)
	}
	return all
}

// notificationV3 is of the payment that merchant.notification is of.
func (r *rig) notificationV3(id string) sent {
	d, err := r.wechat.Notify(r.shop.mchID, wepaytest.Event{
		URL: "http://" + r.site, Type: "TRANSACTION.SUCCESS", OriginalType: "transaction", Summary: "支付成功",
		Resource: r.shop.paid3(id, "attach", "福州路店", "bank_type", "CMC", "amount", map[string]any{
			"total": 1200, "payer_total": 1200, "currency": "CNY", "payer_currency": "CNY",
		}),
	}, wepaytest.Held())
	if err != nil {
		r.b.Fatal(err)
	}
	header, err := d.Header()
	if err != nil {
		r.b.Fatal(err)
	}
	return sent{header, string(d.Body())}
}

// volley sends notifications over some connections and returns how long each
// took to be answered since it should have been sent: at once after the one
// before, or at a pace of so many a second.
func (r *rig) volley(address string, notifications []sent, pace float64) []time.Duration {
	latencies := make([]time.Duration, len(notifications))
	began := time.Now()
	var next atomic.Int64
	var senders sync.WaitGroup
	for range r.connections {
		senders.Go(func() {
			for n := int(next.Add(1)) - 1; n < len(notifications); n = int(next.Add(1)) - 1 {
				due := time.Now()
				if pace > 0 {
					due = began.Add(time.Duration(float64(n) / pace * float64(time.Second)))
					<-time.After(time.Until(due))
				}
				if err := r.send(address, notifications[n]); err != nil {
					r.b.Error(err)
					return
				}
				latencies[n] = time.Since(due)
			}
		})
	}
	senders.Wait()
	return latencies
}

// send sends a notification and demands that it is taken.
func (r *rig) send(address string, n sent) error {
	req, err := http.NewRequest(http.MethodPost, "http://"+address+"/apis/v1/wepay/pay_notify", strings.NewReader(n.body))
	if err != nil {
		return err
	}
	req.Header = n.header
	resp, err := r.web.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err == nil && resp.StatusCode != http.StatusNoContent && string(body) != taken {
		err = fmt.Errorf("HTTP %d %s", resp.StatusCode, body)
	}
	return err
}

// round sends a round at full speed and returns how many a second were answered
// and how many reached the order service.
func (r *rig) round(address string, notifications []sent) (answered, delivered float64) {
	n := len(notifications)
	before := r.delivered.Load()
	began := time.Now()
	r.volley(address, notifications, 0)
	answered = float64(n) / time.Since(began).Seconds()
	r.awaitDelivered(before + int64(n))
	return answered, float64(n) / time.Since(began).Seconds()
}

func (r *rig) awaitDelivered(n int64) {
	for began := time.Now(); r.delivered.Load() < n; <-time.After(time.Millisecond) {
		if time.Since(began) > soon {
			r.b.Fatalf("%d of %d are delivered", r.delivered.Load(), n)
		}
	}
}

// verify returns how many signatures a second all processors verify by the
// standard library alone.
func (r *rig) verify(notifications []sent) float64 {
	signatures := make([]func() error, len(notifications))
	for i, n := range notifications {
		signatures[i] = signatureCheck(r.b, r.key, n.header, []byte(n.body))
	}
	began := time.Now()
	var verifiers sync.WaitGroup
	for part := range slices.Chunk(signatures, len(signatures)/runtime.GOMAXPROCS(0)+1) {
		verifiers.Go(func() {
			for _, verify := range part {
				if err := verify(); err != nil {
					r.b.Error(err)
				}
			}
		})
	}
	verifiers.Wait()
	return float64(len(signatures)) / time.Since(began).Seconds()
}

// signatureCheck readies a notification's signature, so that RSA is all that is
// left to do.
func signatureCheck(b *testing.B, key *rsa.PublicKey, header http.Header, body []byte) func() error {
	b.Helper()
	raw, err := base64.StdEncoding.DecodeString(header.Get("Wechatpay-Signature"))
	if err != nil {
		b.Fatal(err)
	}
	digest := sha256.Sum256(fmt.Appendf(nil, "%s\n%s\n%s\n", header.Get("Wechatpay-Timestamp"), header.Get("Wechatpay-Nonce"), body))
	return func() error { return rsa.VerifyPKCS1v15(key, crypto.SHA256, digest[:], raw) }
}
