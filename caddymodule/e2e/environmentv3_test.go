package e2e_test

import (
	"bytes"
	"crypto"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/caddyserver/caddy/v2"

	"github.com/windsome/caddy-wepay/wepay/wepaytest"
)

// v3Keys are a merchant's for API v3. It may have them and go by API v2.
type v3Keys struct {
	api       string // "": v2
	key       string // apiv3_key; "": it has none of it
	payload   string
	mode      wepaytest.KeyMode // by which keys WeChat is known
	publicKey bool              // the configuration has WeChat Pay's
	id        string            // of that
}

// newV3Merchant returns a merchant that goes by API v3 and has no key of API v2.
func newV3Merchant(name string, n int) *merchant {
	m := newMerchant(name, n)
	m.key, m.form = "", bareKey
	m.v3 = v3Keys{api: "v3", key: fmt.Sprintf("v3Key7q2Vn0sX9tB4mHc6Zr1Lw8Fy3%02d", n)}
	return m
}

// moving returns a merchant with the keys of both APIs.
func moving(name string, n int, api string) *merchant {
	m, old := newV3Merchant(name, n), newMerchant(name, n)
	m.key, m.form, m.v3.api = old.key, old.form, api
	return m
}

// newV3Shop is an environment with one merchant of API v3 and further lines of the
// global option.
func newV3Shop(t *testing.T, options string) (*environment, *merchant) {
	t.Helper()
	env, shop := newEnvironment(t), newV3Merchant("shop", 1)
	env.serve(layout{merchants: []*merchant{shop}, options: options, site: counting})
	return env, shop
}

// counting is the open site that also tells what it counts.
const counting = openSite + "\n\thandle /metrics {\n\t\tmetrics\n\t}"

func (env *environment) registerV3(m *merchant) {
	env.t.Helper()
	if m.v3.key == "" {
		return
	}
	id, text, err := env.wechat.PublicKey(m.mchID)
	if err != nil {
		env.t.Fatal(err)
	}
	m.v3.id = id
	env.write(m.name+" pub_key.pem", text)
}

func (env *environment) linesV3(m *merchant) (lines []string) {
	for name, value := range map[string]string{"api": m.v3.api, "apiv3_key": m.v3.key, "payload": m.v3.payload} {
		if value != "" {
			lines = append(lines, name+" "+value)
		}
	}
	if m.v3.publicKey {
		lines = append(lines, fmt.Sprintf("public_key %s %q", m.v3.id, env.dir+"/"+m.name+" pub_key.pem"))
	}
	return lines
}

// fetches counts how often WeChat was asked for certificates.
func (env *environment) fetches() int { return len(env.wechat.Requests("/v3/certificates")) }

// received is what WeChat was asked for but platform certificates, which are
// fetched by themselves at any time.
func (env *environment) received() []wepaytest.Request {
	return slices.DeleteFunc(env.wechat.Requests(""), func(r wepaytest.Request) bool { return r.Path == "/v3/certificates" })
}

// counts is how often the site counted a result of notifications for a merchant.
func (env *environment) counts(merchant, result string) (n int) {
	env.t.Helper()
	return env.counted(fmt.Sprintf("caddy_wepay_notifications_total{merchant=%q,result=%q}", merchant, result))
}

// counted returns what a series of the metrics stands at.
func (env *environment) counted(series string) (n int) {
	env.t.Helper()
	a, err := env.send(http.MethodGet, env.site+"/metrics", "")
	if err != nil {
		env.t.Fatal(err)
	}
	for line := range strings.Lines(a.body) {
		if value, found := strings.CutPrefix(line, series+" "); found {
			if _, err := fmt.Sscan(value, &n); err != nil {
				env.t.Fatal(err)
			}
		}
	}
	return n
}

// deliver sends a notification itself, as WeChat would but for what change does
// to its header.
func (env *environment) deliver(route string, d *wepaytest.Delivery, change func(http.Header)) answer {
	env.t.Helper()
	header, err := d.Header()
	if err != nil {
		env.t.Fatal(err)
	}
	if change != nil {
		change(header)
	}
	return env.deliverBody(route, header, d.Body())
}

func (env *environment) deliverBody(route string, header http.Header, body []byte) answer {
	env.t.Helper()
	for tries := 0; ; tries++ {
		req, err := http.NewRequestWithContext(env.t.Context(), http.MethodPost, env.site+"/apis/v1/wepay/"+route, bytes.NewReader(body))
		if err != nil {
			env.t.Fatal(err)
		}
		req.Header = header
		a, err := env.do(req)
		if err == nil {
			return a
		}
		if tries >= env.patience {
			env.t.Fatal(err)
		}
	}
}

// paid3 is what WeChat tells over API v3 of an order that was paid, but for some
// changes of names and values.
func (m *merchant) paid3(id string, changes ...any) map[string]any {
	resource := map[string]any{
		"mchid": m.mchID, "appid": m.appID, "out_trade_no": id, "transaction_id": "42" + id, "trade_type": "JSAPI",
		"trade_state": "SUCCESS", "bank_type": "OTHERS", "success_time": "2026-01-01T00:00:00+08:00",
		"payer": map[string]any{"openid": openID}, "amount": map[string]any{"total": 1, "payer_total": 1, "currency": "CNY", "payer_currency": "CNY"},
	}
	for i := 0; i < len(changes); i += 2 {
		resource[changes[i].(string)] = changes[i+1]
	}
	return resource
}

// paidEvent has WeChat tell of a payment, and keeps what it tells.
func (env *environment) paidEvent(m *merchant, resource map[string]any) *wepaytest.Delivery {
	env.t.Helper()
	d, err := env.wechat.Notify(m.mchID, wepaytest.Event{
		URL: env.site + "/apis/v1/wepay/pay_notify", Type: "TRANSACTION.SUCCESS", OriginalType: "transaction", Summary: "支付成功", Resource: resource,
	}, wepaytest.Held())
	if err != nil {
		env.t.Fatal(err)
	}
	return d
}

// checkRefusedV3 demands the answer to a notification of API v3 that was not
// taken, and that nothing was delivered.
func checkRefusedV3(t *testing.T, env *environment, a answer, status int, reason string) {
	t.Helper()
	checkAnswerV3(t, a, status, reason)
	if delivered := env.orders.forget(); len(delivered) > 0 {
		t.Errorf("the order service got %s", delivered[0].body)
	}
}

// checkAnswerV3 demands a status and the JSON that WeChat wants with it.
func checkAnswerV3(t *testing.T, a answer, status int, reason string) {
	t.Helper()
	want := fmt.Sprintf(`{"code":"FAIL","message":%q}`, reason)
	if a.status != status || strings.TrimSpace(a.body) != want || !strings.HasPrefix(a.header.Get("Content-Type"), "application/json") {
		t.Errorf("WeChat hears %d %s %s, wants %d %s", a.status, a.header.Get("Content-Type"), a.body, status, reason)
	}
}

// checkTakenV3 demands that WeChat got so, which is 204 and not a byte.
func checkTakenV3(t *testing.T, d *wepaytest.Delivery) {
	t.Helper()
	attempts := d.Attempts()
	if len(attempts) == 0 {
		t.Fatal("WeChat has sent nothing")
	}
	if last := attempts[len(attempts)-1]; !last.Taken || last.Status != http.StatusNoContent || len(last.Answer) > 0 {
		t.Fatalf("WeChat got %d %q (%v)", last.Status, last.Answer, last.Err)
	}
}

// deliveredOnce returns the one callback that the order service got, signed and flat.
func (env *environment) deliveredOnce() (callback, map[string]string) {
	env.t.Helper()
	delivered := env.orders.forget()
	if len(delivered) != 1 {
		env.t.Fatalf("the order service got %d times", len(delivered))
	}
	checkWebhook(env.t, delivered[0])
	var fields map[string]string
	if err := json.Unmarshal(delivered[0].body, &fields); err != nil {
		env.t.Fatalf("the callback is no flat object of text: %v: %s", err, delivered[0].body)
	}
	return delivered[0], fields
}

// checkClientParametersV3 does the payer's SDK's part for an order of API v3.
func checkClientParametersV3(t *testing.T, m *merchant, params map[string]string) {
	t.Helper()
	appID := firstOf(m.subAppID, m.appID)
	names := []string{"appId", "nonceStr", "package", "paySign", "signType", "timeStamp", "timestamp"}
	message, sign := lines(params["appId"], params["timeStamp"], params["nonceStr"], params["package"]), params["paySign"]
	ok := params["appId"] == appID && params["signType"] == "RSA" && params["timestamp"] == params["timeStamp"] &&
		strings.HasPrefix(params["package"], "prepay_id=wx")
	switch m.env {
	case "APP":
		names = []string{"appid", "noncestr", "package", "partnerid", "prepayid", "sign", "timestamp"}
		message, sign = lines(params["appid"], params["timestamp"], params["noncestr"], params["prepayid"]), params["sign"]
		ok = params["appid"] == appID && params["package"] == "Sign=WXPay" && strings.HasPrefix(params["prepayid"], "wx")
	case "NATIVE":
		names, sign = []string{"code_url", "trade_type"}, ""
		ok = strings.HasPrefix(params["code_url"], "weixin://wxpay/")
	case "MWEB":
		names, sign = []string{"mweb_url", "trade_type"}, ""
		ok = strings.HasPrefix(params["mweb_url"], "https://wx.tenpay.com/")
	}
	if got := slices.Sorted(maps.Keys(params)); !slices.Equal(got, names) {
		t.Errorf("the client gets %v, wants %v", got, names)
	}
	if sign != "" {
		digest, raw := sha256.Sum256([]byte(message)), fromBase64(t, sign)
		err := rsa.VerifyPKCS1v15(m.credential.Certificate.Leaf.PublicKey.(*rsa.PublicKey), crypto.SHA256, digest[:], raw)
		ok = ok && err == nil
	}
	if !ok {
		t.Errorf("the client would refuse %v", params)
	}
}

func lines(all ...string) string { return strings.Join(all, "\n") + "\n" }

func fromBase64(t *testing.T, text string) []byte {
	t.Helper()
	raw, err := base64.StdEncoding.DecodeString(text)
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

// unload stops Caddy before the test ends, which then has none to stop.
func (env *environment) unload() error {
	env.t.Helper()
	return caddy.Stop()
}
