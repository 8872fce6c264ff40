package e2e_test

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/windsome/caddy-wepay/wepay"
	"github.com/windsome/caddy-wepay/wepay/apiv2"
	"github.com/windsome/caddy-wepay/wepay/wepaytest"
)

// maxBody is what anybody may send, in bytes.
const maxBody = 64 << 10

// What is wrong with a request is said before WeChat hears of it.
func TestBadInput(t *testing.T) {
	env := newEnvironment(t)
	page, app, other := newMerchant("page", 1), newMerchant("app", 1), newMerchant("other", 2)
	app.env, app.shared, app.form = "APP", true, none
	env.serve(layout{merchants: []*merchant{page, app, other}})

	order := func(change string) string {
		return changed(`{"id":"order-1","fee":1200,"body":"袜子","openid":"o1"}`, change)
	}
	refund := func(change string) string {
		return changed(`{"out_trade_no":"order-1","out_refund_no":"r1","total_fee":1200,"refund_fee":200}`, change)
	}
	const place, back, query = "get_pay_request_params", "refund", "order_query"
	for _, test := range []struct {
		name, route, body string
		errcode           int
		field             string // that xOrigMsg begins with
	}{
		{"order without id", place, order(`"id":"order-1",`), 40008, "id"},
		{"order with an empty id", place, order(`"order-1" ""`), 40008, "id"},
		{"order without fee", place, order(`"fee":1200,`), 40008, "fee"},
		{"order with fee null", place, order(`1200 null`), 40008, "fee"},
		{"order without body", place, order(`"body":"袜子",`), 40008, "body"},
		{"order without openid", place, order(`,"openid":"o1"`), 40008, "openid"},
		{"nothing", place, "", 40008, "id"},
		{"blanks", place, " \r\n", 40008, "id"},
		{"fee 0", place, order("1200 0"), 40003, "fee"},
		{"fee -1", place, order("1200 -1"), 40003, "fee"},
		{"fee 1.5", place, order("1200 1.5"), 40003, "fee"},
		{"fee 1.0", place, order("1200 1.0"), 40003, "fee"},
		{"fee 1e3", place, order("1200 1e3"), 40003, "fee"},
		{"fee abc", place, order(`1200 "abc"`), 40003, "fee"},
		{"fee 0x10", place, order(`1200 "0x10"`), 40003, "fee"},
		{"fee +1", place, order(`1200 "+1"`), 40003, "fee"},
		{"fee 01", place, order(`1200 "01"`), 40003, "fee"},
		{"fee in other digits", place, order(`1200 "１２"`), 40003, "fee"},
		{"fee beyond 64 bits", place, order("1200 9223372036854775808"), 40003, "fee"},
		{"fee with a blank", place, strings.Replace(order(""), "1200", `" 1"`, 1), 40003, "fee"},
		{"fee true", place, order("1200 true"), 40003, "fee"},
		{"fee in an object", place, order(`1200 {"fee":1}`), 40003, "fee"},
		{"fee in an array", place, order(`1200 [1200]`), 40003, "fee"},
		{"id of 33", place, order("order-1 " + strings.Repeat("1", 33)), 40003, "id"},
		{"id with a blank", place, strings.Replace(order(""), "order-1", "order 1", 1), 40003, "id"},
		{"id in Chinese", place, order("order-1 订单"), 40003, "id"},
		{"id with markup", place, order("order-1 </xml>"), 40003, "id"},
		{"openid of 129", place, order("o1 " + strings.Repeat("o", 129)), 40003, "openid"},
		{"attach of 128", place, order(`"openid" "attach":"` + strings.Repeat("a", 128) + `","openid"`), 40003, "attach"},
		{"attach that XML cannot carry", place, order(`"openid" "attach":"\u0000","openid"`), 40003, "attach"},
		{"attach of half a character", place, order(`"openid" "attach":"\ud83e","openid"`), 40003, "attach"},
		{"attach of GBK", place, order("\"openid\" \"attach\":\"\xd5\xc5\",\"openid\""), 40003, "attach"},
		{"detail with a name twice", place, order(`"openid" "detail":{"cost_price":1,"cost_price":2},"openid"`), 40003, "detail"},
		{"scene_info as text, with a name twice", place, order(`"openid" "scene_info":"{\"id\":1,\"id\":2}","openid"`), 40003, "scene_info"},
		{"time_expire that is past", place, order(`"openid" "time_expire":"20200101120000","openid"`), 40003, "time_expire"},
		{"no address", place, order(`"openid" "ip":"here","openid"`), 40003, "ip"},
		{"two words for one field", place, order(`"openid" "out_trade_no":"order-2","openid"`), 40003, ""},
		{"one key twice", place, order(`"openid" "fee":1,"openid"`), 40003, "fee"},
		{"refund without its number", back, refund(`"out_refund_no":"r1",`), 40008, "out_refund_no"},
		{"refund of no order", back, refund(`"out_trade_no":"order-1",`), 40008, "out_trade_no"},
		{"refund without total", back, refund(`"total_fee":1200,`), 40008, "total_fee"},
		{"refund without fee", back, refund(`,"refund_fee":200`), 40008, "refund_fee"},
		{"refund of more than was paid", back, refund("200} 1201}"), 40003, "refund_fee"},
		{"refund of 0", back, refund("200} 0}"), 40003, "refund_fee"},
		{"refund of -1", back, refund("200} -1}"), 40003, "refund_fee"},
		{"refund with a number of 65", back, refund("r1 " + strings.Repeat("r", 65)), 40003, "out_refund_no"},
		{"refund with a field of nobody's", back, refund(`"refund_fee" "fee":1,"refund_fee"`), 40003, "fee"},
		{"refund with another's mch_id", back, refund(`"refund_fee" "mch_id":"1","refund_fee"`), 40003, "mch_id"},
		{"refund with a signature", back, refund(`"refund_fee" "sign":"1","refund_fee"`), 40003, "sign"},
		{"refund without certificate", back, refund(`"refund_fee" "merchant":"app","refund_fee"`), 40010, ""},
		{"query of no order", query, `{}`, 40008, "out_trade_no"},
		{"query with fee", query, `{"out_trade_no":"order-1","fee":1}`, 40003, "fee"},
		{"array", place, `[{"id":"order-1"}]`, 40003, "request"},
		{"text", place, `"id"`, 40003, "request"},
		{"null", place, `null`, 40003, "request"},
		{"form", place, `id=order-1&fee=1200`, 40003, "request"},
		{"cut JSON", place, `{"id":"order-1","fee":12`, 40003, "request"},
		{"unclosed JSON", place, `{"id":"order-1"`, 40003, "request"},
		{"JSON and more JSON", place, order("") + `{}`, 40003, "request"},
		{"JSON and garbage", place, order("") + `]`, 40003, "request"},
		{"no such merchant", place, order(`"openid" "merchant":"nobody","openid"`), 40004, ""},
		{"no such mchId", place, order(`"openid" "mchId":1900000199,"openid"`), 40004, ""},
		{"no such appId", place, order(`"openid" "appId":"wx1","openid"`), 40004, ""},
		{"no such env", place, order(`"openid" "env":"h5","openid"`), 40004, ""},
		{"merchant of another env", place, order(`"openid" "merchant":"page","env":"APP","openid"`), 40004, ""},
		{"mchId and appId of two merchants", place, order(`"openid" "mchId":"1900000101","appId":"wx0011223344556602","openid"`), 40004, ""},
		{"env of two accounts", place, order(`"openid" "env":"H5","openid"`), 40004, ""},
		{"no such route", "refunds", refund(""), 40011, ""},
		{"no route", "", refund(""), 40011, ""},
		{"an operation of the client's own", "bank%20public%20key", "{}", 40011, ""},
		{"a route below a route", "refund/all", refund(""), 40011, ""},
		{"nearly a notification", "pay_notifying", refund(""), 40011, ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			env, before := env.in(t), len(env.received())
			a := env.post(test.route, test.body, "Content-Type", "application/json")
			if a.status != statusOf(test.errcode) || a.Errcode != test.errcode || a.Message == "" || a.XOrigMsg == "" || a.Result != nil {
				t.Errorf("HTTP %d %s", a.status, a.body)
			}
			if test.field != "" && !strings.HasPrefix(a.XOrigMsg, test.field+": ") {
				t.Errorf("%q is not about %s", a.XOrigMsg, test.field)
			}
			if got := env.received()[before:]; len(got) > 0 {
				t.Errorf("WeChat got %s", got[0].Body)
			}
		})
	}
}

// changed makes one change: what stands before the first blank is replaced by
// what stands after it, or taken out without one.
func changed(text, change string) string {
	from, to, _ := strings.Cut(change, " ")
	return strings.Replace(text, from, to, 1)
}

func TestHTTPStatus(t *testing.T) {
	env, shop := newShop(t, "")
	const prefix = "/apis/v1/wepay"
	order := toJSON(t, shop.order("order-1"))
	for _, test := range []struct {
		name, method, path, body string
		status, errcode          int
		text                     string // the answer without JSON
	}{
		{"GET", http.MethodGet, prefix + "/refund", "", http.StatusMethodNotAllowed, 40011, ""},
		{"PUT", http.MethodPut, prefix + "/get_pay_request_params", order, http.StatusMethodNotAllowed, 40011, ""},
		{"OPTIONS", http.MethodOptions, prefix + "/refund", "", http.StatusMethodNotAllowed, 40011, ""},
		{"GET of no route", http.MethodGet, prefix + "/refunds", "", http.StatusNotFound, 40011, ""},
		{"too large", http.MethodPost, prefix + "/refund", padded(order, maxBody+1), http.StatusRequestEntityTooLarge, 40003, ""},
		{"just not too large", http.MethodPost, prefix + "/refund", padded(toJSON(t, shop.refund("", "", 1)), maxBody), http.StatusOK, 40008, ""},
		{"another path", http.MethodPost, "/apis/v1/orders", order, http.StatusOK, 0, "the rest of the site"},
		{"a path that begins like ours", http.MethodPost, prefix + "ing/refund", order, http.StatusOK, 0, "the rest of the site"},
		{"a path in other letters", http.MethodPost, "/APIS/v1/wepay/refund", order, http.StatusOK, 0, "the rest of the site"},
	} {
		t.Run(test.name, func(t *testing.T) {
			env, before := env.in(t), len(env.received())
			a, err := env.send(test.method, env.site+test.path, test.body)
			if err != nil {
				t.Fatal(err)
			}
			if a.status != test.status || a.Errcode != test.errcode || test.text != "" && a.body != test.text {
				t.Errorf("HTTP %d %s", a.status, a.body)
			}
			if isJSON := a.header.Get("Content-Type") == "application/json; charset=utf-8"; isJSON != (test.text == "") {
				t.Errorf("the answer is of type %s", a.header.Get("Content-Type"))
			}
			if allowed := a.header.Get("Allow") == http.MethodPost; allowed != (test.status == http.StatusMethodNotAllowed) {
				t.Errorf("Allow: %s", a.header.Get("Allow"))
			}
			if got := env.received()[before:]; len(got) > 0 {
				t.Errorf("WeChat got %s", got[0].Body)
			}
		})
	}
}

// padded makes a text so many bytes long.
func padded(text string, size int) string { return text + strings.Repeat(" ", size-len(text)) }

// Whatever is not WeChat's word for it that the merchant was paid is answered
// FAIL, and nobody else hears of it.
func TestHostileNotifications(t *testing.T) {
	env, shop, other := newEnvironment(t), newMerchant("shop", 1), newMerchant("other", 2)
	env.serve(layout{merchants: []*merchant{shop, other}})
	env.get("get_pay_request_params", shop.order("order-1"))
	query := map[string]any{"merchant": "shop", "out_trade_no": "order-1"}
	unpaid := replay(t, shop, env.get("order_query", query))
	genuine := string(env.pay(shop, "order-1", wepaytest.Held()).Body())
	paid := replay(t, shop, env.get("order_query", query))
	refund := replay(t, shop, env.get("refund", shop.refund("order-1", "refund-1", 200)))
	charged := replay(t, shop, env.get("micropay", map[string]any{
		"merchant": "shop", "out_trade_no": "order-2", "total_fee": 1200, "body": "袜子", "auth_code": "134567890123456789", "spbill_create_ip": "203.0.113.7",
	}))
	sign := readXML(t, []byte(genuine))["sign"]
	field := func(value string) string { return strings.Replace(genuine, "<xml>", "<xml>"+value, 1) }
	replaced := func(old, by string) string { return strings.ReplaceAll(genuine, old, by) }
	for _, test := range []struct{ name, body, reason string }{
		{"another amount", replaced("1200", "1"), "wrong_signature"},
		{"another order", replaced("order-1", "order-2"), "wrong_signature"},
		{"a field more", field("<coupon_fee>1</coupon_fee>"), "wrong_signature"},
		{"signature in lower case", replaced(sign, strings.ToLower(sign)), "wrong_signature"},
		{"signature of HMAC-SHA256's length", replaced(sign, sign+sign), "wrong_signature"},
		{"signature cut", replaced(sign, sign[:31]), "wrong_signature"},
		{"no signature", replaced(sign, ""), "unsigned"},
		{"signed by another merchant", signedBy(t, other, genuine), "wrong_signature"},
		{"about another merchant here", replaced(shop.mchID, other.mchID), "foreign"},
		{"about a merchant elsewhere", replaced(shop.mchID, "1999999999"), "foreign"},
		{"about nobody", "<xml><return_code>SUCCESS</return_code></xml>", "foreign"},
		{"return_code FAIL", "<xml><return_code>FAIL</return_code></xml>", "malformed"},
		{"the reply to a query, sent to us", unpaid, "not_a_payment"},
		{"the reply to a query of a paid order, sent to us", paid, "not_a_payment"},
		{"the reply to a payment by code, sent to us", charged, "not_a_payment"},
		{"the reply to a refund, sent to us", refund, "not_a_payment"},
		{"just not too large", field("<a>" + strings.Repeat("a", maxBody-len(genuine)-7) + "</a>"), "wrong_signature"},
		{"too large", field("<a>" + strings.Repeat("a", maxBody-len(genuine)-6) + "</a>"), "too_large"},
		{"DOCTYPE", `<!DOCTYPE xml [<!ENTITY a SYSTEM "file:///etc/passwd">]>` + genuine, "malformed"},
		{"an entity", field("<a>&a;</a>"), "malformed"},
		{"a field twice", field("<total_fee>1</total_fee>"), "malformed"},
		{"fields within fields", field("<a><b>1</b></a>"), "malformed"},
		{"two messages", genuine + genuine, "malformed"},
		{"half a message", genuine[:len(genuine)/2], "malformed"},
		{"nothing", "", "malformed"},
		{"not UTF-8", field("<a>\xff</a>"), "malformed"},
	} {
		t.Run(test.name, func(t *testing.T) {
			env := env.in(t)
			for _, route := range []string{"pay_notify", "pay_notify/shop"} {
				checkRefused(t, env, env.post(route, test.body, "Content-Type", "text/xml"), test.reason)
			}
		})
	}
	t.Run("GET", func(t *testing.T) {
		env := env.in(t)
		a, err := env.send(http.MethodGet, env.site+"/apis/v1/wepay/pay_notify", "")
		if err != nil {
			t.Fatal(err)
		}
		checkRefused(t, env, a, "malformed")
	})
	t.Run("the genuine one, by any method", func(t *testing.T) {
		env := env.in(t)
		for _, method := range []string{http.MethodPost, http.MethodPut, http.MethodPatch} {
			a, err := env.send(method, env.site+"/apis/v1/wepay/pay_notify", genuine)
			if err != nil || a.body != taken || len(env.orders.forget()) != 1 {
				t.Errorf("%s: WeChat hears %s (%v)", method, a.body, err)
			}
		}
	})
}

func checkRefused(t *testing.T, env *environment, a answer, reason string) {
	t.Helper()
	if a.status != http.StatusOK || a.body != refused(reason) || a.header.Get("Content-Type") != "text/xml; charset=utf-8" {
		t.Errorf("WeChat hears %d %s %s, wants %s", a.status, a.header.Get("Content-Type"), a.body, reason)
	}
	if delivered := env.orders.forget(); len(delivered) > 0 {
		t.Errorf("the order service got %s", delivered[0].body)
	}
}

// replay writes WeChat's reply to a merchant as WeChat signed it, to be sent to us.
// The result itself does not have what it was signed with.
func replay(t *testing.T, m *merchant, reply map[string]string) string {
	t.Helper()
	if reply["sign"] != "" || reply["nonce_str"] != "" {
		t.Errorf("the result has what WeChat signed it with: %v", reply)
	}
	fields := wepay.NewFields(reply)
	fields.Set("nonce_str", "5K8264ILTKCH16CQ2502SI8ZNMTM67VS")
	return signedBy(t, m, encode(t, fields))
}

// signedBy signs a message anew, with a merchant's key.
func signedBy(t *testing.T, m *merchant, message string) string {
	t.Helper()
	fields := wepay.NewFields(readXML(t, []byte(message)))
	fields.Set("sign", apiv2.Sign(fields, wepay.MD5, m.key))
	return encode(t, fields)
}

func encode(t *testing.T, fields wepay.Fields) string {
	t.Helper()
	text, err := apiv2.Encode("xml", fields)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func asMap(fields wepay.Fields) map[string]string {
	values := make(map[string]string)
	for _, field := range fields {
		values[field.Name] = field.Value
	}
	return values
}

// Who sends half a body and then nothing is not waited for. This takes the 5
// seconds that WeChat itself would wait.
func TestSlowBody(t *testing.T) {
	env, _ := newShop(t, "")
	var both sync.WaitGroup
	for _, test := range []struct{ route, want string }{
		{"pay_notify", refused("malformed")},
		{"refund", `{"errcode":40003,`},
	} {
		both.Go(func() {
			conn, err := net.Dial("tcp", strings.TrimPrefix(env.site, "http://"))
			if err != nil {
				t.Error(err)
				return
			}
			defer conn.Close()
			_ = conn.SetDeadline(time.Now().Add(20 * time.Second))
			fmt.Fprintf(conn, "POST /apis/v1/wepay/%s HTTP/1.1\r\nHost: %s\r\nContent-Length: 100\r\n\r\n<xml>",
				test.route, strings.TrimPrefix(env.site, "http://"))
			resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
			if err != nil {
				t.Error(err)
				return
			}
			defer resp.Body.Close()
			body, err := io.ReadAll(resp.Body)
			if err != nil || resp.StatusCode != http.StatusOK || !strings.HasPrefix(string(body), test.want) {
				t.Errorf("%s: %d %s (%v)", test.route, resp.StatusCode, body, err)
			}
		})
	}
	both.Wait()
	if len(env.orders.forget()) > 0 || len(env.received()) > 0 {
		t.Error("half a body was acted upon")
	}
}

// The log says what went wrong, with whom and why, and none of what only the
// merchant and WeChat may know.
func TestLogKeepsSecrets(t *testing.T) {
	env, shop := newShop(t, "")
	env.get("get_pay_request_params", shop.order("order-1"))
	genuine := string(env.pay(shop, "order-1").Body())
	env.post("pay_notify", strings.Replace(genuine, "1200", "1", 1))
	env.ask("refund", shop.refund("order-1", "refund-1", 1201))
	env.wechat.Misbehave("/secapi/pay/refund", wepaytest.Fault{Kind: wepaytest.WrongSignature})
	env.ask("refund", shop.refund("order-1", "refund-1", 1))
	text, err := os.ReadFile(filepath.Join(env.dir, "caddy.log"))
	if err != nil {
		t.Fatal(err)
	}
	log := string(text)
	for _, told := range []string{
		`"notification taken","merchant":"shop","event":"evt_`,
		`"notification refused","merchant":"shop","reason":"wrong_signature"`,
		`"operation failed","operation":"refund","errcode":40003`,
		`"operation failed","operation":"refund","errcode":40000`,
	} {
		if !strings.Contains(log, told) {
			t.Errorf("the log does not say %s:\n%s", told, log)
		}
	}
	for _, kept := range []string{shop.key, strings.TrimPrefix(secret, "whsec_"), openID, readXML(t, []byte(genuine))["sign"], "return_code"} {
		if strings.Contains(log, kept) {
			t.Errorf("the log says %s:\n%s", kept, log)
		}
	}
}
