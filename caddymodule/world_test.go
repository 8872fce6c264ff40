package caddymodule_test

import (
	"encoding/json"
	"fmt"
	"io"
	"log"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig"

	"github.com/windsome/caddy-wepay/wepay/wepaytest"
)

// secret signs what the order services get.
const secret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"

const openID = "oUpF8uMuAJO_M2pxb1Q9zNjWeS6o"

// world is a WeChat Pay, a Caddy with the module and an order service, all in
// this process. Caddy is one for the process, so that no two worlds are at the
// same time.
type world struct {
	t      *testing.T
	dir    string // of every file
	site   string // where Caddy is: http://127.0.0.1:port
	clock  *wepaytest.FakeClock
	wechat *wepaytest.Server
	orders *orderService
	web    *http.Client

	wechatKey string // the APIv3 key that WeChat has in place of a seller's
	patience  int    // how often a caller dials again that got no answer
}

// newWorld starts everything but Caddy, which layouts are for.
func newWorld(t *testing.T) *world {
	t.Helper()
	w := &world{t: t, dir: t.TempDir(), clock: wepaytest.NewFakeClock(time.Now())}
	// Caddy keeps an id of its own among the user's data, whatever its config.
	t.Setenv("XDG_DATA_HOME", w.dir)
	t.Setenv("XDG_CONFIG_HOME", w.dir)
	var err error
	if w.wechat, err = wepaytest.NewServer(wepaytest.WithClock(w.clock)); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(w.wechat.Close)
	w.write("wechat_ca.pem", w.wechat.CACertPEM())
	w.orders = newOrderService(t)
	w.site = "http://" + freeAddress(t)
	// No connection is kept, so that none is found dead after a reload.
	w.web = &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	return w
}

// in returns the same world for a subtest.
func (w *world) in(t *testing.T) *world {
	inner := *w
	inner.t = t
	return &inner
}

// newShop is a world with one merchant, which serves the usual way.
func newShop(t *testing.T, options string) (*world, *seller) {
	t.Helper()
	w, shop := newWorld(t), newSeller("shop", 1)
	w.serve(layout{sellers: []*seller{shop}, options: options})
	return w, shop
}

// seller is a merchant, in the words of its Caddyfile block.
type seller struct {
	name, env          string
	appID, mchID       string
	subAppID, subMchID string
	key, signType      string // key "": it has API v3 alone
	form               form   // of its certificate
	notify             string // the route in its notify_url
	orders             string // its cb_notify_url; "": the world's
	endpoint           string // "": the world's WeChat Pay
	credential         wepaytest.Credential
	sandbox            bool
	shared             bool // the account is another seller's as well
	v3                 v3Keys
}

// form is a form in which a merchant has its certificate.
type form string

const (
	legacyP12 form = "p12 as WeChat issues it"
	chainP12  form = "p12 with its chain"
	modernP12 form = "p12 as OpenSSL 3 writes it"
	pemPair   form = "PEM pair"
	none      form = "none"
	bareKey   form = "key and serial number"
)

// newSeller returns a merchant like others, but with an account of its own.
func newSeller(name string, n int) *seller {
	return &seller{
		name: name, env: "H5", signType: "MD5", form: legacyP12,
		appID:  fmt.Sprintf("wx00112233445566%02x", n),
		mchID:  fmt.Sprintf("19000001%02d", n),
		key:    fmt.Sprintf("Kd7q2Vn0sX9tB4mHc6Zr1Lw8Fy3Pj5%02d", n),
		notify: "pay_notify/" + name,
	}
}

// order is what the seller's shop asks for when a customer pays 1200 fen.
func (s *seller) order(id string) map[string]any {
	order := map[string]any{"merchant": s.name, "id": id, "fee": 1200, "body": "袜子 & <手套> 🧦", "attach": "shelf \"7\" & more"}
	if s.env == "H5" || s.env == "WXAPP" {
		order["openid"] = openID
	}
	return order
}

func (s *seller) refund(id, number string, fee int) map[string]any {
	return map[string]any{"merchant": s.name, "out_trade_no": id, "out_refund_no": number, "total_fee": 1200, "refund_fee": fee}
}

// layout is what a test's Caddyfile has of its own.
type layout struct {
	sellers []*seller
	options string // further lines of the global option
	site    string // the lines of the site; "": wepay, open to this machine
	more    string // further sites
}

const openSite = `
	wepay {
		allow 127.0.0.1
	}
	respond "the rest of the site"`

// serve has Caddy run a layout until the end of the test.
func (w *world) serve(l layout) {
	w.t.Helper()
	for _, s := range l.sellers {
		w.register(s)
	}
	if err := w.load(l); err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() {
		if err := caddy.Stop(); err != nil {
			w.t.Error(err)
		}
	})
}

// load has Caddy run a layout, as a reload does.
func (w *world) load(l layout) error {
	w.t.Helper()
	return caddy.Load(w.adapt(l), true)
}

func (w *world) adapt(l layout) []byte {
	w.t.Helper()
	adapted, _, err := caddyconfig.GetAdapter("caddyfile").Adapt([]byte(w.caddyfile(l)), map[string]any{"filename": "Caddyfile"})
	if err != nil {
		w.t.Fatalf("%v\n%s", err, w.caddyfile(l))
	}
	return adapted
}

func (w *world) caddyfile(l layout) string {
	var merchants strings.Builder
	for _, s := range l.sellers {
		merchants.WriteString(w.block(s))
	}
	return fmt.Sprintf(`{
	admin off
	persist_config off
	auto_https off
	storage file_system %[1]s/caddy
	log {
		level DEBUG
		output file %[1]s/caddy.log {
			roll_disabled
		}
	}
	wepay {
		endpoint %[2]s
		transport http {
			tls_trust_pool file %[1]s/wechat_ca.pem
		}
%[3]s%[4]s
	}
}
%[5]s {
	bind 127.0.0.1
%[6]s
}
%[7]s
`, w.dir, w.wechat.URL, merchants.String(), l.options, w.site, firstOf(l.site, openSite), l.more)
}

// register opens a seller's account at WeChat Pay and writes its certificate
// down in its form.
func (w *world) register(s *seller) {
	w.t.Helper()
	if s.shared {
		return
	}
	account := wepaytest.Merchant{MchID: s.mchID, AppIDs: []string{s.appID}, Key: s.key, APIv3Key: firstOf(w.wechatKey, s.v3.key), Mode: s.v3.mode}
	if s.subMchID != "" {
		account.SubMerchants = []wepaytest.SubMerchant{{MchID: s.subMchID, AppIDs: []string{s.subAppID}}}
	}
	if err := w.wechat.AddMerchant(account); err != nil {
		w.t.Fatal(err)
	}
	var err error
	if s.credential, err = w.wechat.Issue(s.mchID); err != nil {
		w.t.Fatal(err)
	}
	for name, data := range map[string][]byte{
		string(legacyP12): s.credential.P12, string(chainP12): s.credential.P12Chain, string(modernP12): s.credential.P12Modern,
		"cert.pem": s.credential.CertPEM, "key.pem": s.credential.KeyPEM,
	} {
		w.write(s.name+" "+name, data)
	}
	w.registerV3(s)
}

// block is a seller's block of the Caddyfile.
func (w *world) block(s *seller) string {
	lines := []string{
		"env " + s.env, "app_id " + s.appID, "mch_id " + s.mchID, "sign_type " + s.signType,
		"callback_secret " + secret,
		"notify_url " + w.site + "/apis/v1/wepay/" + s.notify,
		"cb_notify_url " + firstOf(s.orders, w.orders.URL+"/paid/"+s.name),
	}
	file := filepath.Join(w.dir, s.name+" ")
	switch s.form {
	case none:
	case bareKey:
		lines = append(lines, fmt.Sprintf("private_key %q", file+"key.pem"), "mch_serial "+s.credential.Serial)
	case pemPair:
		lines = append(lines, fmt.Sprintf("cert %q %q", file+"cert.pem", file+"key.pem"))
	default:
		lines = append(lines, fmt.Sprintf("pfx %q", file+string(s.form)))
	}
	if s.key != "" {
		lines = append(lines, "partner_key "+s.key)
	}
	lines = append(lines, w.linesV3(s)...)
	if s.subMchID != "" {
		lines = append(lines, "sub_mch_id "+s.subMchID, "sub_app_id "+s.subAppID)
	}
	if s.sandbox {
		lines = append(lines, "sandbox")
	}
	if s.endpoint != "" {
		lines = append(lines, "endpoint "+s.endpoint)
	}
	return "\t\tmerchant " + s.name + " {\n\t\t\t" + strings.Join(lines, "\n\t\t\t") + "\n\t\t}\n"
}

func firstOf(text, otherwise string) string {
	if text == "" {
		return otherwise
	}
	return text
}

func (w *world) write(name string, data []byte) {
	w.t.Helper()
	if err := os.WriteFile(filepath.Join(w.dir, name), data, 0o600); err != nil {
		w.t.Fatal(err)
	}
}

// quiet takes what a test's servers have to say of the clients that the test is
// about.
var quiet = log.New(io.Discard, "", 0)

// freeAddress returns an address that nobody listens on, for what has to know
// it before it does. The port is below those that systems give out themselves,
// so that no connection made meanwhile takes it.
func freeAddress(t *testing.T) string {
	t.Helper()
	for range 100 {
		address := fmt.Sprintf("127.0.0.1:%d", 20000+rand.IntN(10000))
		if listener, err := net.Listen("tcp", address); err == nil {
			if err := listener.Close(); err != nil {
				t.Fatal(err)
			}
			return address
		}
	}
	t.Fatal("no free port")
	return ""
}

// answer is Caddy's, with what its JSON holds where it is JSON.
type answer struct {
	status int
	header http.Header
	body   string

	Errcode    int               `json:"errcode"`
	Message    string            `json:"message"`
	XOrigMsg   string            `json:"xOrigMsg"`
	ErrCode    string            `json:"err_code"`
	ErrCodeDes string            `json:"err_code_des"`
	Verdict    string            `json:"verdict"`
	Result     map[string]string `json:"result"`
}

// send asks Caddy. It may be used by many goroutines.
func (w *world) send(method, url, body string, headers ...string) (answer, error) {
	a, err := w.sendOnce(method, url, body, headers...)
	for range w.patience {
		if err == nil {
			break
		}
		a, err = w.sendOnce(method, url, body, headers...)
	}
	return a, err
}

func (w *world) sendOnce(method, url, body string, headers ...string) (answer, error) {
	req, err := http.NewRequestWithContext(w.t.Context(), method, url, strings.NewReader(body))
	if err != nil {
		return answer{}, err
	}
	for pair := range slices.Chunk(headers, 2) {
		req.Header.Set(pair[0], pair[1])
	}
	resp, err := w.web.Do(req)
	if err != nil {
		return answer{}, err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		return answer{}, err
	}
	a := answer{status: resp.StatusCode, header: resp.Header, body: string(text)}
	if strings.HasPrefix(resp.Header.Get("Content-Type"), "application/json") {
		err = json.Unmarshal(text, &a)
	}
	return a, err
}

func (w *world) post(route, body string, headers ...string) answer {
	w.t.Helper()
	a, err := w.send(http.MethodPost, w.site+"/apis/v1/wepay/"+route, body, headers...)
	if err != nil {
		w.t.Fatal(err)
	}
	return a
}

// ask asks for an operation with whatever comes of it.
func (w *world) ask(route string, request map[string]any) answer {
	w.t.Helper()
	return w.post(route, toJSON(w.t, request), "Content-Type", "application/json")
}

// get asks for an operation that has to succeed.
func (w *world) get(route string, request map[string]any) map[string]string {
	w.t.Helper()
	a := w.ask(route, request)
	if a.status != http.StatusOK || a.Errcode != 0 {
		w.t.Fatalf("%s: HTTP %d %s", route, a.status, a.body)
	}
	return a.Result
}

func toJSON(t *testing.T, v any) string {
	t.Helper()
	text, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// pay has the customer pay an order.
func (w *world) pay(s *seller, id string, options ...wepaytest.PayOption) *wepaytest.Delivery {
	w.t.Helper()
	delivery, err := w.wechat.Pay(s.mchID, id, options...)
	if err != nil {
		w.t.Fatal(err)
	}
	return delivery
}
