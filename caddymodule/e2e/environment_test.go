package e2e_test

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

// environment is a WeChat Pay, a Caddy with the module and an order service, all in
// this process. Caddy is one for the process, so that no two environments are at the
// same time.
type environment struct {
	t      *testing.T
	dir    string // of every file
	site   string // where Caddy is: http://127.0.0.1:port
	clock  *wepaytest.FakeClock
	wechat *wepaytest.Server
	orders *orderService
	web    *http.Client

	wechatKey string // the APIv3 key that WeChat has in place of a merchant's
	patience  int    // how often a caller dials again that got no answer
}

// newEnvironment starts everything but Caddy, which layouts are for.
func newEnvironment(t *testing.T) *environment {
	t.Helper()
	env := &environment{t: t, dir: t.TempDir(), clock: wepaytest.NewFakeClock(time.Now())}
	// Caddy keeps an id of its own among the user's data, whatever its config.
	t.Setenv("XDG_DATA_HOME", env.dir)
	t.Setenv("XDG_CONFIG_HOME", env.dir)
	var err error
	if env.wechat, err = wepaytest.NewServer(wepaytest.WithClock(env.clock)); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(env.wechat.Close)
	env.write("wechat_ca.pem", env.wechat.CACertPEM())
	env.orders = newOrderService(t)
	env.site = "http://" + freeAddress(t)
	// No connection is kept, so that none is found dead after a reload.
	env.web = &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	return env
}

// in returns the same environment for a subtest.
func (env *environment) in(t *testing.T) *environment {
	inner := *env
	inner.t = t
	return &inner
}

// newShop is an environment with one merchant, which serves the usual way.
func newShop(t *testing.T, options string) (*environment, *merchant) {
	t.Helper()
	env, shop := newEnvironment(t), newMerchant("shop", 1)
	env.serve(layout{merchants: []*merchant{shop}, options: options})
	return env, shop
}

// merchant is a merchant, in the words of its Caddyfile block.
type merchant struct {
	name, env          string
	appID, mchID       string
	subAppID, subMchID string
	key, signType      string // key "": it has API v3 alone
	form               form   // of its certificate
	notify             string // the route in its notify_url
	orders             string // its cb_notify_url; "": the environment's
	events             bool   // it has a cb_event_url: the environment's
	endpoint           string // "": the environment's WeChat Pay
	more               string // a further line
	credential         wepaytest.Credential
	sandbox            bool
	shared             bool // the account is another merchant's as well
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

// newMerchant returns a merchant like others, but with an account of its own.
func newMerchant(name string, n int) *merchant {
	return &merchant{
		name: name, env: "H5", signType: "MD5", form: legacyP12,
		appID:  fmt.Sprintf("wx00112233445566%02x", n),
		mchID:  fmt.Sprintf("19000001%02d", n),
		key:    fmt.Sprintf("Kd7q2Vn0sX9tB4mHc6Zr1Lw8Fy3Pj5%02d", n),
		notify: "pay_notify/" + name,
	}
}

// order is what the merchant's shop asks for when a customer pays 1200 fen.
func (m *merchant) order(id string) map[string]any {
	order := map[string]any{"merchant": m.name, "id": id, "fee": 1200, "body": "袜子 & <手套> 🧦", "attach": "shelf \"7\" & more"}
	if m.env == "H5" || m.env == "WXAPP" {
		order["openid"] = openID
	}
	return order
}

func (m *merchant) refund(id, number string, fee int) map[string]any {
	return map[string]any{"merchant": m.name, "out_trade_no": id, "out_refund_no": number, "total_fee": 1200, "refund_fee": fee}
}

// layout is what a test's Caddyfile has of its own.
type layout struct {
	merchants []*merchant
	options   string // further lines of the global option
	transport string // further lines of the transport to WeChat
	site      string // the lines of the site; "": wepay, open to this machine
	more      string // further sites
}

const openSite = `
	wepay {
		allow 127.0.0.1
	}
	respond "the rest of the site"`

// serve has Caddy run a layout until the end of the test.
func (env *environment) serve(l layout) {
	env.t.Helper()
	for _, m := range l.merchants {
		env.register(m)
	}
	if err := env.load(l); err != nil {
		env.t.Fatal(err)
	}
	env.t.Cleanup(func() {
		if err := caddy.Stop(); err != nil {
			env.t.Error(err)
		}
	})
}

// load has Caddy run a layout, as a reload does.
func (env *environment) load(l layout) error {
	env.t.Helper()
	return caddy.Load(env.adapt(l), true)
}

func (env *environment) adapt(l layout) []byte {
	env.t.Helper()
	adapted, _, err := caddyconfig.GetAdapter("caddyfile").Adapt([]byte(env.caddyfile(l)), map[string]any{"filename": "Caddyfile"})
	if err != nil {
		env.t.Fatalf("%v\n%s", err, env.caddyfile(l))
	}
	return adapted
}

func (env *environment) caddyfile(l layout) string {
	var merchants strings.Builder
	for _, m := range l.merchants {
		merchants.WriteString(env.block(m))
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
			%[8]s
		}
%[3]s%[4]s
	}
}
%[5]s {
	bind 127.0.0.1
%[6]s
}
%[7]s
`, env.dir, env.wechat.URL, merchants.String(), l.options, env.site, firstOf(l.site, openSite), l.more, l.transport)
}

// register opens a merchant's account at WeChat Pay and writes its certificate
// down in its form.
func (env *environment) register(m *merchant) {
	env.t.Helper()
	if m.shared {
		return
	}
	account := wepaytest.Merchant{MchID: m.mchID, AppIDs: []string{m.appID}, Key: m.key, APIv3Key: firstOf(env.wechatKey, m.v3.key), Mode: m.v3.mode}
	if m.subMchID != "" {
		account.SubMerchants = []wepaytest.SubMerchant{{MchID: m.subMchID, AppIDs: []string{m.subAppID}}}
	}
	if err := env.wechat.AddMerchant(account); err != nil {
		env.t.Fatal(err)
	}
	var err error
	if m.credential, err = env.wechat.Issue(m.mchID); err != nil {
		env.t.Fatal(err)
	}
	for name, data := range map[string][]byte{
		string(legacyP12): m.credential.P12, string(chainP12): m.credential.P12Chain, string(modernP12): m.credential.P12Modern,
		"cert.pem": m.credential.CertPEM, "key.pem": m.credential.KeyPEM,
	} {
		env.write(m.name+" "+name, data)
	}
	env.registerV3(m)
}

// block is a merchant's block of the Caddyfile.
func (env *environment) block(m *merchant) string {
	lines := []string{
		"env " + m.env, "app_id " + m.appID, "mch_id " + m.mchID, "sign_type " + m.signType,
		"callback_secret " + secret,
		"notify_url " + env.site + "/apis/v1/wepay/" + m.notify,
		"cb_notify_url " + firstOf(m.orders, env.orders.URL+"/paid/"+m.name),
	}
	if m.events {
		lines = append(lines, "cb_event_url "+env.orders.URL+"/events/"+m.name)
	}
	file := filepath.Join(env.dir, m.name+" ")
	switch m.form {
	case none:
	case bareKey:
		lines = append(lines, fmt.Sprintf("private_key %q", file+"key.pem"), "mch_serial "+m.credential.Serial)
	case pemPair:
		lines = append(lines, fmt.Sprintf("cert %q %q", file+"cert.pem", file+"key.pem"))
	default:
		lines = append(lines, fmt.Sprintf("pfx %q", file+string(m.form)))
	}
	if m.key != "" {
		lines = append(lines, "partner_key "+m.key)
	}
	lines = append(lines, env.linesV3(m)...)
	if m.subMchID != "" {
		lines = append(lines, "sub_mch_id "+m.subMchID, "sub_app_id "+m.subAppID)
	}
	if m.sandbox {
		lines = append(lines, "sandbox")
	}
	if m.endpoint != "" {
		lines = append(lines, "endpoint "+m.endpoint)
	}
	if m.more != "" {
		lines = append(lines, m.more)
	}
	return "\t\tmerchant " + m.name + " {\n\t\t\t" + strings.Join(lines, "\n\t\t\t") + "\n\t\t}\n"
}

func firstOf(text, otherwise string) string {
	if text == "" {
		return otherwise
	}
	return text
}

func (env *environment) write(name string, data []byte) {
	env.t.Helper()
	if err := os.WriteFile(filepath.Join(env.dir, name), data, 0o600); err != nil {
		env.t.Fatal(err)
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
func (env *environment) send(method, url, body string, headers ...string) (answer, error) {
	a, err := env.sendOnce(method, url, body, headers...)
	for range env.patience {
		if err == nil {
			break
		}
		a, err = env.sendOnce(method, url, body, headers...)
	}
	return a, err
}

func (env *environment) sendOnce(method, url, body string, headers ...string) (answer, error) {
	req, err := http.NewRequestWithContext(env.t.Context(), method, url, strings.NewReader(body))
	if err != nil {
		return answer{}, err
	}
	for pair := range slices.Chunk(headers, 2) {
		req.Header.Set(pair[0], pair[1])
	}
	return env.do(req)
}

func (env *environment) do(req *http.Request) (answer, error) {
	resp, err := env.web.Do(req)
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

func (env *environment) post(route, body string, headers ...string) answer {
	env.t.Helper()
	a, err := env.send(http.MethodPost, env.site+"/apis/v1/wepay/"+route, body, headers...)
	if err != nil {
		env.t.Fatal(err)
	}
	return a
}

// ask asks for an operation with whatever comes of it.
func (env *environment) ask(route string, request map[string]any) answer {
	env.t.Helper()
	return env.post(route, toJSON(env.t, request), "Content-Type", "application/json")
}

// get asks for an operation that has to succeed.
func (env *environment) get(route string, request map[string]any) map[string]string {
	env.t.Helper()
	a := env.ask(route, request)
	if a.status != http.StatusOK || a.Errcode != 0 {
		env.t.Fatalf("%s: HTTP %d %s", route, a.status, a.body)
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
func (env *environment) pay(m *merchant, id string, options ...wepaytest.PayOption) *wepaytest.Delivery {
	env.t.Helper()
	delivery, err := env.wechat.Pay(m.mchID, id, options...)
	if err != nil {
		env.t.Fatal(err)
	}
	return delivery
}
