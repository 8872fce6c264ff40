package caddymodule_test

import (
	"bytes"
	"crypto"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/caddyserver/caddy/v2"

	"github.com/windsome/caddy-wepay/wepay/wepaytest"
)

// v3Keys are a seller's for API v3. It may have them and go by API v2.
type v3Keys struct {
	api       string // "": v2
	key       string // apiv3_key; "": it has none of it
	payload   string
	mode      wepaytest.KeyMode // by which keys WeChat is known
	publicKey bool              // the configuration has WeChat Pay's
	id        string            // of that
}

// newV3Seller returns a merchant that goes by API v3 and has no key of API v2.
func newV3Seller(name string, n int) *seller {
	s := newSeller(name, n)
	s.key, s.form = "", bareKey
	s.v3 = v3Keys{api: "v3", key: fmt.Sprintf("v3Key7q2Vn0sX9tB4mHc6Zr1Lw8Fy3%02d", n)}
	return s
}

// moving returns a merchant with the keys of both APIs.
func moving(name string, n int, api string) *seller {
	s, old := newV3Seller(name, n), newSeller(name, n)
	s.key, s.form, s.v3.api = old.key, old.form, api
	return s
}

// newV3Shop is a world with one merchant of API v3 and further lines of the
// global option.
func newV3Shop(t *testing.T, options string) (*world, *seller) {
	t.Helper()
	w, shop := newWorld(t), newV3Seller("shop", 1)
	w.serve(layout{sellers: []*seller{shop}, options: options, site: counting})
	return w, shop
}

// counting is the open site that also tells what it counts.
const counting = openSite + "\n\thandle /metrics {\n\t\tmetrics\n\t}"

func (w *world) registerV3(s *seller) {
	w.t.Helper()
	if s.v3.key == "" {
		return
	}
	id, text, err := w.wechat.PublicKey(s.mchID)
	if err != nil {
		w.t.Fatal(err)
	}
	s.v3.id = id
	w.write(s.name+" pub_key.pem", text)
}

func (w *world) linesV3(s *seller) (lines []string) {
	for name, value := range map[string]string{"api": s.v3.api, "apiv3_key": s.v3.key, "payload": s.v3.payload} {
		if value != "" {
			lines = append(lines, name+" "+value)
		}
	}
	if s.v3.publicKey {
		lines = append(lines, fmt.Sprintf("public_key %s %q", s.v3.id, w.dir+"/"+s.name+" pub_key.pem"))
	}
	return lines
}

// fetches counts how often WeChat was asked for certificates.
func (w *world) fetches() int { return len(w.wechat.Requests("/v3/certificates")) }

// received is what WeChat was asked for but platform certificates, which are
// fetched by themselves at any time.
func (w *world) received() []wepaytest.Request {
	return slices.DeleteFunc(w.wechat.Requests(""), func(r wepaytest.Request) bool { return r.Path == "/v3/certificates" })
}

// counts is how often the site counted a result of notifications for a merchant.
func (w *world) counts(merchant, result string) (n int) {
	w.t.Helper()
	a, err := w.send(http.MethodGet, w.site+"/metrics", "")
	if err != nil {
		w.t.Fatal(err)
	}
	series := fmt.Sprintf("caddy_wepay_notifications_total{merchant=%q,result=%q} ", merchant, result)
	for line := range strings.Lines(a.body) {
		if value, found := strings.CutPrefix(line, series); found {
			if _, err := fmt.Sscan(value, &n); err != nil {
				w.t.Fatal(err)
			}
		}
	}
	return n
}

// deliver sends a notification itself, as WeChat would but for what change does
// to its header.
func (w *world) deliver(route string, d *wepaytest.Delivery, change func(http.Header)) answer {
	w.t.Helper()
	header, err := d.Header()
	if err != nil {
		w.t.Fatal(err)
	}
	if change != nil {
		change(header)
	}
	return w.deliverBody(route, header, d.Body())
}

func (w *world) deliverBody(route string, header http.Header, body []byte) answer {
	w.t.Helper()
	req, err := http.NewRequestWithContext(w.t.Context(), http.MethodPost, w.site+"/apis/v1/wepay/"+route, bytes.NewReader(body))
	if err != nil {
		w.t.Fatal(err)
	}
	req.Header = header
	resp, err := w.web.Do(req)
	if err != nil {
		w.t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		w.t.Fatal(err)
	}
	return answer{status: resp.StatusCode, header: resp.Header, body: string(text)}
}

// paid3 is what WeChat tells over API v3 of an order that was paid, but for some
// changes of names and values.
func (s *seller) paid3(id string, changes ...any) map[string]any {
	resource := map[string]any{
		"mchid": s.mchID, "appid": s.appID, "out_trade_no": id, "transaction_id": "42" + id, "trade_type": "JSAPI",
		"trade_state": "SUCCESS", "bank_type": "OTHERS", "success_time": "2026-01-01T00:00:00+08:00",
		"payer": map[string]any{"openid": openID}, "amount": map[string]any{"total": 1, "payer_total": 1, "currency": "CNY", "payer_currency": "CNY"},
	}
	for i := 0; i < len(changes); i += 2 {
		resource[changes[i].(string)] = changes[i+1]
	}
	return resource
}

// paidEvent has WeChat tell of a payment, and keeps what it tells.
func (w *world) paidEvent(s *seller, resource map[string]any) *wepaytest.Delivery {
	w.t.Helper()
	d, err := w.wechat.Notify(s.mchID, wepaytest.Event{
		URL: w.site + "/apis/v1/wepay/pay_notify", Type: "TRANSACTION.SUCCESS", OriginalType: "transaction", Summary: "支付成功", Resource: resource,
	}, wepaytest.Held())
	if err != nil {
		w.t.Fatal(err)
	}
	return d
}

// checkRefusedV3 demands the answer to a notification of API v3 that was not
// taken, and that nobody heard of it.
func checkRefusedV3(t *testing.T, w *world, a answer, status int, reason string) {
	t.Helper()
	checkAnswerV3(t, a, status, reason)
	if heard := w.orders.forget(); len(heard) > 0 {
		t.Errorf("the order service heard %s", heard[0].body)
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

// checkTakenV3 demands that WeChat heard so, which is 204 and not a byte.
func checkTakenV3(t *testing.T, d *wepaytest.Delivery) {
	t.Helper()
	attempts := d.Attempts()
	if len(attempts) == 0 {
		t.Fatal("WeChat has sent nothing")
	}
	if last := attempts[len(attempts)-1]; !last.Taken || last.Status != http.StatusNoContent || len(last.Answer) > 0 {
		t.Fatalf("WeChat heard %d %q (%v)", last.Status, last.Answer, last.Err)
	}
}

// heardOnce returns what the order service was told, which has to be one thing.
func (w *world) heardOnce() (callback, map[string]string) {
	w.t.Helper()
	heard := w.orders.forget()
	if len(heard) != 1 {
		w.t.Fatalf("the order service heard %d times", len(heard))
	}
	var fields map[string]string
	if err := json.Unmarshal(heard[0].body, &fields); err != nil {
		w.t.Fatalf("the callback is no flat object of text: %v: %s", err, heard[0].body)
	}
	return heard[0], fields
}

// checkClientParametersV3 does the payer's SDK's part for an order of API v3.
func checkClientParametersV3(t *testing.T, s *seller, params map[string]string) {
	t.Helper()
	appID := firstOf(s.subAppID, s.appID)
	names := []string{"appId", "nonceStr", "package", "paySign", "signType", "timeStamp", "timestamp"}
	message, sign := lines(params["appId"], params["timeStamp"], params["nonceStr"], params["package"]), params["paySign"]
	ok := params["appId"] == appID && params["signType"] == "RSA" && params["timestamp"] == params["timeStamp"] &&
		strings.HasPrefix(params["package"], "prepay_id=wx")
	switch s.env {
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
		err := rsa.VerifyPKCS1v15(s.credential.Certificate.Leaf.PublicKey.(*rsa.PublicKey), crypto.SHA256, digest[:], raw)
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
func (w *world) unload() error {
	w.t.Helper()
	return caddy.Stop()
}
