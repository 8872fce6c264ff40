package e2e_test

import (
	"bytes"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/windsome/caddy-wepay/wepay/wepaytest"
)

// forgery is what somebody makes of a notification of API v3.
type forgery struct {
	name   string
	header func(h http.Header)
	body   func(body []byte) []byte
	status int
	reason string
}

func setting(name, value string) func(http.Header) {
	return func(h http.Header) { h.Set(name, value) }
}

func without(names ...string) func(http.Header) {
	return func(h http.Header) {
		for _, name := range names {
			h.Del(name)
		}
	}
}

func twice(name string) func(http.Header) {
	return func(h http.Header) { h.Add(name, h.Get(name)) }
}

// earlier has a notification be older than it is, or younger.
func earlier(by time.Duration) func(http.Header) {
	return func(h http.Header) { h.Set("Wechatpay-Timestamp", strconv.FormatInt(time.Now().Add(-by).Unix(), 10)) }
}

func replacing(old, by string) func([]byte) []byte {
	return func(body []byte) []byte { return bytes.Replace(body, []byte(old), []byte(by), 1) }
}

func forgeries(m *merchant) []forgery {
	const (
		timestamp, nonce, signature, serial = "Wechatpay-Timestamp", "Wechatpay-Nonce", "Wechatpay-Signature", "Wechatpay-Serial"
		unauthorized                        = http.StatusUnauthorized
		bad                                 = http.StatusBadRequest
	)
	var all []forgery
	for _, name := range []string{timestamp, nonce, signature, serial} {
		all = append(all,
			forgery{name + " missing", without(name), nil, unauthorized, "unsigned"},
			forgery{name + " empty", setting(name, ""), nil, unauthorized, "unsigned"},
			forgery{name + " twice", twice(name), nil, bad, "malformed"},
			forgery{name + " long", setting(name, strings.Repeat("1", 2000)), nil, bad, "malformed"},
		)
	}
	return append(all,
		forgery{"another amount, which is encrypted", nil, replacing(`"ciphertext":"`, `"ciphertext":"A`), unauthorized, "wrong_signature"},
		forgery{"another event_type", nil, replacing("TRANSACTION.SUCCESS", "REFUND.SUCCESS"), unauthorized, "wrong_signature"},
		forgery{"a line feed at the end", nil, func(b []byte) []byte { return append(b, '\n') }, unauthorized, "wrong_signature"},
		forgery{"a space before", nil, func(b []byte) []byte { return append([]byte(" "), b...) }, unauthorized, "wrong_signature"},
		forgery{"another nonce", setting(nonce, "0123456789abcdef"), nil, unauthorized, "wrong_signature"},
		forgery{"another second", earlier(7 * time.Second), nil, unauthorized, "wrong_signature"},
		forgery{"stale", earlier(302 * time.Second), nil, unauthorized, "stale"},
		forgery{"from the future", earlier(-302 * time.Second), nil, unauthorized, "stale"},
		forgery{"in milliseconds", setting(timestamp, strconv.FormatInt(time.Now().UnixMilli(), 10)), nil, bad, "malformed"},
		forgery{"of no time", setting(timestamp, "now"), nil, bad, "malformed"},
		forgery{"a signature of nothing", setting(signature, "AAAA"), nil, unauthorized, "wrong_signature"},
		forgery{"a signature that is no base64", setting(signature, "!"), nil, unauthorized, "wrong_signature"},
		forgery{"a probe", func(h http.Header) {
			h.Set(signature, "WECHATPAY/SIGNTEST/"+h.Get(signature)[19:])
		}, nil, unauthorized, "probe"},
		forgery{"the merchant's own serial number", setting(serial, m.credential.Serial), nil, unauthorized, "unknown_key"},
		forgery{"another's public key", setting(serial, "PUB_KEY_ID_0199"), nil, unauthorized, "unknown_key"},
		forgery{"a serial number of no form", setting(serial, "../../etc/passwd"), nil, unauthorized, "unknown_key"},
		forgery{"another algorithm", setting("Wechatpay-Signature-Type", "WECHATPAY2-SM2-WITH-SM3"), nil, bad, "malformed"},
		forgery{"compressed", setting("Content-Encoding", "gzip"), nil, bad, "malformed"},
		forgery{"not signed at all", without(timestamp, nonce, signature, serial), nil, unauthorized, "unsigned"},
		forgery{"nothing", nil, func([]byte) []byte { return nil }, unauthorized, "wrong_signature"},
		forgery{"too large", nil, func(b []byte) []byte { return append(b, bytes.Repeat([]byte(" "), maxBody-len(b)+1)...) }, http.StatusRequestEntityTooLarge, "too_large"},
		forgery{"just not too large", nil, func(b []byte) []byte { return append(b, bytes.Repeat([]byte(" "), maxBody-len(b))...) }, unauthorized, "wrong_signature"},
		forgery{"signed, but XML", nil, func([]byte) []byte { return []byte("<xml><return_code>SUCCESS</return_code></xml>") }, unauthorized, "wrong_signature"},
	)
}

// Whatever is not WeChat's word for it that the merchant was paid is answered
// with a status that has WeChat send again, in JSON.
func TestHostileV3Notifications(t *testing.T) {
	env, shop := newV3Shop(t, "")
	env.get("get_pay_request_params", shop.order3("order-1"))
	delivery := env.pay(shop, "order-1", wepaytest.Held())
	for _, f := range forgeries(shop) {
		t.Run(f.name, func(t *testing.T) {
			env := env.in(t)
			for _, route := range []string{"pay_notify", "pay_notify/shop", "refund_notify"} {
				header, err := delivery.Header()
				if err != nil {
					t.Fatal(err)
				}
				body := delivery.Body()
				if f.header != nil {
					f.header(header)
				}
				if f.body != nil {
					body = f.body(body)
				}
				checkRefusedV3(t, env, env.deliverBody(route, header, body), f.status, f.reason)
			}
		})
	}
	t.Run("the genuine one, by any method", func(t *testing.T) {
		for _, method := range []string{http.MethodPost, http.MethodPut, http.MethodPatch} {
			header, err := delivery.Header()
			if err != nil {
				t.Fatal(err)
			}
			req, err := http.NewRequestWithContext(t.Context(), method, env.site+"/apis/v1/wepay/pay_notify", bytes.NewReader(delivery.Body()))
			if err != nil {
				t.Fatal(err)
			}
			req.Header = header
			resp, err := env.web.Do(req)
			if err != nil {
				t.Fatal(err)
			}
			resp.Body.Close()
			if resp.StatusCode != http.StatusNoContent || len(env.orders.forget()) != 1 {
				t.Errorf("%s: WeChat hears %d", method, resp.StatusCode)
			}
		}
	})
}

// What WeChat signed may still be nothing that the merchant can take.
func TestGenuineButRefused(t *testing.T) {
	env, shop, other := newEnvironment(t), newV3Merchant("shop", 1), newV3Merchant("other", 2)
	env.serve(layout{merchants: []*merchant{shop, other}, site: counting})
	notify := env.site + "/apis/v1/wepay/pay_notify"
	// The reply to an order has shop's certificates fetched before they are needed.
	env.done("get_pay_request_params", shop.order("ORDER-0001"))
	event := func(kind, original string, resource map[string]any) wepaytest.Event {
		return wepaytest.Event{URL: notify, Type: kind, OriginalType: original, Summary: "x", Resource: resource}
	}
	paid := func(changes ...any) map[string]any { return shop.paid3("o1", changes...) }
	for _, test := range []struct {
		name    string
		event   wepaytest.Event
		options []wepaytest.PayOption
		status  int
		reason  string
	}{
		{"of another merchant number", event("TRANSACTION.SUCCESS", "transaction", paid("mchid", other.mchID)), nil, 404, "foreign"},
		{"of a merchant elsewhere", event("TRANSACTION.SUCCESS", "transaction", paid("mchid", "1999999999")), nil, 404, "foreign"},
		{"of another appid", event("TRANSACTION.SUCCESS", "transaction", paid("appid", "wx0000000000000000")), nil, 404, "foreign"},
		{"of nobody", event("TRANSACTION.SUCCESS", "transaction", paid("mchid", nil)), nil, 500, "no_cb_event_url"},
		{"not paid", event("TRANSACTION.SUCCESS", "transaction", paid("trade_state", "NOTPAY")), nil, 500, "no_cb_event_url"},
		{"of a kind that nobody knows", event("PAYSCORE.USER_PAID", "payscore", map[string]any{"mchid": shop.mchID, "service_id": "1"}), nil, 500, "no_cb_event_url"},
		{"under another APIv3 key", event("TRANSACTION.SUCCESS", "transaction", paid()), []wepaytest.PayOption{wepaytest.WithFault(wepaytest.Fault{Kind: wepaytest.WrongKey, Standing: true})}, 500, "apiv3_key"},
	} {
		t.Run(test.name, func(t *testing.T) {
			env := env.in(t)
			d, err := env.wechat.Notify(shop.mchID, test.event, append(test.options, wepaytest.Held())...)
			if err != nil {
				t.Fatal(err)
			}
			for _, route := range []string{"pay_notify", "pay_notify/shop"} {
				checkRefusedV3(t, env, env.deliver(route, d, nil), test.status, test.reason)
			}
		})
	}
	d, err := env.wechat.Notify(shop.mchID, event("TRANSACTION.SUCCESS", "transaction", paid()), wepaytest.Held())
	if err != nil {
		t.Fatal(err)
	}
	checkRefusedV3(t, env, env.deliver("pay_notify/other", d, nil), http.StatusUnauthorized, "unknown_key")
	checkRefusedV3(t, env, env.deliver("pay_notify/nobody", d, nil), http.StatusNotFound, "foreign")
	if a := env.deliver("pay_notify/shop", d, nil); a.status != http.StatusNoContent {
		t.Errorf("the genuine one: HTTP %d %s", a.status, a.body)
	}
}

// The order service decides over API v3, too, and WeChat hears of it by the
// status.
func TestOrderServiceRefusesV3(t *testing.T) {
	env, shop := newV3Shop(t, "")
	env.get("get_pay_request_params", shop.order3("order-1"))
	d := env.pay(shop, "order-1", wepaytest.Held())
	for _, test := range []struct {
		answer http.HandlerFunc
		status int
	}{
		{replying(http.StatusOK, ``), 204},
		{replying(http.StatusOK, `{"errcode":0}`), 204},
		{replying(http.StatusOK, `{"errcode":1}`), 503},
		{replying(http.StatusInternalServerError, ``), 503},
		{replying(http.StatusOK, `<xml>`), 503},
	} {
		env.orders.answers(test.answer)
		if a := env.deliver("pay_notify", d, nil); a.status != test.status || (a.body == "") != (test.status == 204) {
			t.Errorf("WeChat hears %d %s, wants %d", a.status, a.body, test.status)
		}
	}
}

// WeChat's probes are refused, and nobody is alarmed. The right notification
// follows.
func TestProbe(t *testing.T) {
	env, shop := newV3Shop(t, "")
	env.get("get_pay_request_params", shop.order3("order-1"))
	d := env.pay(shop, "order-1", wepaytest.WithFault(wepaytest.Fault{Kind: wepaytest.Probe}))
	if first := d.Attempts()[0]; first.Taken || first.Status != http.StatusUnauthorized {
		t.Errorf("WeChat hears %d %s of a probe", first.Status, first.Answer)
	}
	env.clock.Advance(15 * time.Second)
	env.until("WeChat sends again", func() bool { return len(d.Attempts()) == 2 })
	checkTakenV3(t, d)
	if probes, taken := env.counts("shop", "probe"), env.counts("shop", "taken"); probes != 1 || taken != 1 {
		t.Errorf("%d probes and %d taken are counted", probes, taken)
	}
	text, err := os.ReadFile(filepath.Join(env.dir, "caddy.log"))
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		if strings.Contains(line, `"reason":"probe"`) && !strings.Contains(line, `"level":"info"`) {
			t.Errorf("it is logged as %s", line)
		}
	}
	if !strings.Contains(string(text), `"reason":"probe"`) {
		t.Error("the log says nothing of it")
	}
}

// A clock of ours that is wrong makes everything of WeChat's look old, or ahead:
// the log of notifications and the answer to a caller say by how much.
func TestClockSkew(t *testing.T) {
	env, shop := newV3Shop(t, "")
	env.get("get_pay_request_params", shop.order3("order-1"))
	for delay, want := range map[time.Duration]string{-400 * time.Second: "-", 400 * time.Second: ""} {
		says := regexp.MustCompile(`its time is ` + want + `(39\d|40\d) seconds from this machine's: if WeChat Pay sent it, this clock is wrong \(is NTP running\?\)`)
		fault := wepaytest.Fault{Kind: wepaytest.Skewed, Delay: delay}
		env.wechat.Misbehave("/v3/pay/transactions/out-trade-no/order-1", fault)
		if a := env.try("order_query", map[string]any{"out_trade_no": "order-1"}); a.status != http.StatusBadGateway || !says.MatchString(a.XOrigMsg) {
			t.Errorf("a reply of %s: HTTP %d %s", delay, a.status, a.body)
		}
		d, err := env.wechat.Notify(shop.mchID, wepaytest.Event{
			URL: env.site + "/apis/v1/wepay/pay_notify", Type: "TRANSACTION.SUCCESS", OriginalType: "transaction", Resource: shop.paid3("order-1"),
		}, wepaytest.WithFault(fault))
		if err != nil {
			t.Fatal(err)
		}
		if first := d.Attempts()[0]; first.Taken || first.Status != http.StatusUnauthorized {
			t.Errorf("of %s WeChat hears %d %s", delay, first.Status, first.Answer)
		}
		text, err := os.ReadFile(filepath.Join(env.dir, "caddy.log"))
		if err != nil {
			t.Fatal(err)
		}
		said := false
		for line := range strings.Lines(string(text)) {
			said = said || strings.Contains(line, `"msg":"notification refused","merchant":"shop","reason":"stale"`) && says.MatchString(line)
		}
		if !said {
			t.Errorf("the log does not say that a notification is of %s", delay)
		}
	}
}

// Ten merchants of two kinds have one URL that says nothing of them.
func TestTenMerchantsAtOneURL(t *testing.T) {
	env := newEnvironment(t)
	var merchants []*merchant
	for n := range 10 {
		m := newV3Merchant(fmt.Sprintf("shop%d", n), n+1)
		m.notify = "pay_notify"
		if n%2 == 1 {
			m.v3.mode, m.v3.publicKey = wepaytest.ByPublicKey, true
		}
		merchants = append(merchants, m)
	}
	// Two of one account, which only the appid tells apart.
	second := newV3Merchant("second", 1)
	second.shared, second.credential, second.appID, second.notify = true, merchants[0].credential, "wxaabbccddeeff0011", "pay_notify"
	env.registers(merchants...)
	if err := env.wechat.AddMerchant(wepaytest.Merchant{MchID: second.mchID, AppIDs: []string{merchants[0].appID, second.appID}, APIv3Key: second.v3.key}); err != nil {
		t.Fatal(err)
	}
	second.credential = merchants[0].credential
	env.write("second key.pem", second.credential.KeyPEM)
	env.serve(layout{merchants: append(merchants, second), site: counting})
	env.awaitFetches(5)
	for n, m := range append(merchants, second) {
		id := fmt.Sprintf("order-%d", n)
		env.get("get_pay_request_params", m.order3(id))
		d := env.pay(m, id)
		checkTakenV3(t, d)
		if got, told := env.deliveredOnce(); got.path != "/paid/"+m.name || told["mch_id"] != m.mchID || told["appid"] != m.appID {
			t.Errorf("of %s's payment %s got %v", m.name, got.path, told)
		}
	}
	if got := env.fetches(); got != 5 {
		t.Errorf("WeChat was asked %d times for certificates, by five accounts", got)
	}
}

// registers opens merchants' accounts before Caddy runs.
func (env *environment) registers(merchants ...*merchant) {
	env.t.Helper()
	for _, m := range merchants {
		env.register(m)
		m.shared = true
	}
}
