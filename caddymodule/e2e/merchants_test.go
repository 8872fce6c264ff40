package e2e_test

import (
	"bytes"
	"crypto/hmac"
	"crypto/md5"
	"crypto/sha256"
	"encoding/hex"
	"encoding/xml"
	"io"
	"maps"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/windsome/caddy-wepay/wepay/wepaytest"
)

// The answers that WeChat understands, to the byte.
const taken = `<xml><return_code><![CDATA[SUCCESS]]></return_code><return_msg><![CDATA[OK]]></return_msg></xml>`

func refused(reason string) string {
	return `<xml><return_code><![CDATA[FAIL]]></return_code><return_msg><![CDATA[` + reason + `]]></return_msg></xml>`
}

// everyMerchant differs from the others in all that merchants can differ in.
func everyMerchant() []*merchant {
	h5, mini, app, mweb, native, partner := newMerchant("h5", 1), newMerchant("mini", 2), newMerchant("app", 3),
		newMerchant("mweb", 4), newMerchant("native", 5), newMerchant("partner", 6)
	h5.notify = "pay_notify"
	mini.env, mini.signType, mini.form = "WXAPP", "HMAC-SHA256", chainP12
	app.env, app.form = "APP", modernP12
	mweb.env, mweb.signType, mweb.form, mweb.notify = "MWEB", "HMAC-SHA256", pemPair, "pay_notify"
	native.env, native.form = "NATIVE", modernP12
	partner.signType, partner.form = "HMAC-SHA256", chainP12
	partner.subMchID, partner.subAppID = "1900000199", "wx99112233445566ff"
	return []*merchant{h5, mini, app, mweb, native, partner}
}

func TestFromOrderToRefund(t *testing.T) {
	env, merchants := newEnvironment(t), everyMerchant()
	env.serve(layout{merchants: merchants})
	for _, m := range merchants {
		t.Run(m.name, func(t *testing.T) {
			env := env.in(t)
			id := "order-of-" + m.name
			checkClientParameters(t, m, env.get("get_pay_request_params", m.order(id)))
			checkOrderAtWeChat(t, env, m, id)

			delivery := env.pay(m, id, wepaytest.WithField("a_field_of_tomorrow", "明天 <&>"))
			checkTaken(t, delivery)
			told := checkCallback(t, env, m, delivery)

			asked := env.get("order_query", map[string]any{"merchant": m.name, "out_trade_no": id})
			if asked["trade_state"] != "SUCCESS" || asked["transaction_id"] != told["transaction_id"] {
				t.Errorf("the query says %v", asked)
			}
			first := env.get("refund", m.refund(id, "refund-of-"+m.name, 200))
			again := env.get("refund", m.refund(id, "refund-of-"+m.name, 200))
			if first["refund_id"] == "" || first["refund_id"] != again["refund_id"] || first["refund_fee"] != "200" {
				t.Errorf("the refund was %v, and the same again %v", first, again)
			}
			if order, _ := env.wechat.Order(m.mchID, id); order.Refunds != 1 || order.Refunded != 200 {
				t.Errorf("WeChat has %+v", order)
			}
			checkCertificate(t, env, m)
		})
	}
}

// checkClientParameters does the payer's SDK's part: the parameters are those
// that it knows, and signed over those that it signs.
func checkClientParameters(t *testing.T, m *merchant, params map[string]string) {
	t.Helper()
	names := []string{"appId", "nonceStr", "package", "paySign", "signType", "timeStamp", "timestamp"}
	appID, mchID := firstOf(m.subAppID, m.appID), firstOf(m.subMchID, m.mchID)
	sign, right := params["paySign"], signBy(m, "appId="+params["appId"], "nonceStr="+params["nonceStr"],
		"package="+params["package"], "signType="+params["signType"], "timeStamp="+params["timeStamp"])
	ok := params["appId"] == appID && strings.HasPrefix(params["package"], "prepay_id=wx") &&
		params["signType"] == m.signType && params["timestamp"] == params["timeStamp"]
	switch m.env {
	case "APP":
		names = []string{"appid", "noncestr", "package", "partnerid", "prepayid", "sign", "timestamp"}
		sign, right = params["sign"], signBy(m, "appid="+params["appid"], "noncestr="+params["noncestr"],
			"package="+params["package"], "partnerid="+params["partnerid"], "prepayid="+params["prepayid"], "timestamp="+params["timestamp"])
		ok = params["appid"] == appID && params["partnerid"] == mchID && params["package"] == "Sign=WXPay" &&
			strings.HasPrefix(params["prepayid"], "wx")
	case "NATIVE":
		names = append(names, "code_url")
		ok = ok && strings.HasPrefix(params["code_url"], "weixin://wxpay/")
	case "MWEB":
		names = append(names, "mweb_url")
		ok = ok && strings.HasPrefix(params["mweb_url"], "https://wx.tenpay.com/")
	}
	slices.Sort(names)
	if got := slices.Sorted(maps.Keys(params)); !slices.Equal(got, names) {
		t.Errorf("the client gets %v, wants %v", got, names)
	}
	if !ok || sign != right {
		t.Errorf("the client would refuse %v (the signature should be %s)", params, right)
	}
}

// signBy signs pairs that are sorted already, by WeChat's rule for signatures.
func signBy(m *merchant, pairs ...string) string {
	base := strings.Join(pairs, "&") + "&key=" + m.key
	sum := md5.New()
	if m.signType == "HMAC-SHA256" {
		sum = hmac.New(sha256.New, []byte(m.key))
	}
	sum.Write([]byte(base))
	return strings.ToUpper(hex.EncodeToString(sum.Sum(nil)))
}

func checkOrderAtWeChat(t *testing.T, env *environment, m *merchant, id string) {
	t.Helper()
	requests := env.wechat.Requests("/pay/unifiedorder")
	got := requests[len(requests)-1].Fields
	want := map[string]string{
		"appid": m.appID, "mch_id": m.mchID, "sub_appid": m.subAppID, "sub_mch_id": m.subMchID,
		"out_trade_no": id, "total_fee": "1200", "body": "袜子 & <手套> 🧦", "attach": `shelf "7" & more`,
		"spbill_create_ip": "127.0.0.1", "notify_url": env.site + "/apis/v1/wepay/" + m.notify,
		"trade_type": map[string]string{"H5": "JSAPI", "WXAPP": "JSAPI"}[m.env],
	}
	if want["trade_type"] == "" {
		want["trade_type"] = m.env
	}
	switch {
	case m.subAppID != "":
		want["sub_openid"], want["openid"] = openID, "" // an openid of the sub-merchant's own appid
	case want["trade_type"] == "JSAPI":
		want["openid"] = openID
	}
	for name, value := range want {
		if got.Get(name) != value {
			t.Errorf("WeChat got %s %q, wants %q", name, got.Get(name), value)
		}
	}
}

func checkTaken(t *testing.T, delivery *wepaytest.Delivery) {
	t.Helper()
	attempts := delivery.Attempts()
	if last := attempts[len(attempts)-1]; !last.Taken || last.Status != http.StatusOK || string(last.Answer) != taken {
		t.Fatalf("WeChat got %d %q (%v)", last.Status, last.Answer, last.Err)
	}
}

// checkCallback looks at the one callback that the order service got, and
// returns its fields: those of the notification, each of them, as text.
func checkCallback(t *testing.T, env *environment, m *merchant, delivery *wepaytest.Delivery) map[string]string {
	t.Helper()
	got, fields := env.deliveredOnce()
	if got.path != "/paid/"+m.name {
		t.Errorf("the callback came to %s", got.path)
	}
	if want := readXML(t, delivery.Body()); !maps.Equal(fields, want) {
		t.Errorf("the order service got\n%v\nwants\n%v", fields, want)
	}
	return fields
}

// readXML reads a notification with the standard library's reader.
func readXML(t *testing.T, text []byte) map[string]string {
	t.Helper()
	var message struct {
		Fields []struct {
			XMLName xml.Name
			Value   string `xml:",chardata"`
		} `xml:",any"`
	}
	if err := xml.Unmarshal(text, &message); err != nil {
		t.Fatal(err)
	}
	fields := make(map[string]string)
	for _, field := range message.Fields {
		fields[field.XMLName.Local] = field.Value
	}
	return fields
}

// checkCertificate demands that a merchant's certificate, and no other, was on
// every connection that the merchant's requests came by.
func checkCertificate(t *testing.T, env *environment, m *merchant) {
	t.Helper()
	count := 0
	for _, request := range env.received() {
		if request.Fields.Get("mch_id") != m.mchID {
			continue
		}
		count++
		if request.Serial() != m.credential.Serial {
			t.Errorf("%s came with the certificate %q (%s), wants %s", request.Path, request.Serial(), request.CommonName(), m.credential.Serial)
		}
	}
	if count != 4 {
		t.Errorf("WeChat got %d requests: an order, a query and two refunds are 4", count)
	}
}

// A notification that somebody else could read is no use at another
// merchant's door.
func TestNotificationAtAnotherDoor(t *testing.T) {
	env, merchants := newEnvironment(t), everyMerchant()
	env.serve(layout{merchants: merchants})
	shop := merchants[0]
	env.get("get_pay_request_params", shop.order("order-1"))
	body := string(env.pay(shop, "order-1", wepaytest.Held()).Body())
	for _, test := range []struct{ name, route, want string }{
		{"another merchant's", "pay_notify/mini", refused("foreign")},
		{"nobody's", "pay_notify/nobody", refused("foreign")},
		{"deeper than a name", "pay_notify/h5/h5", refused("foreign")},
		{"its own", "pay_notify/h5", taken},
		{"everybody's", "pay_notify", taken},
		{"everybody's with a slash", "pay_notify/", taken},
	} {
		t.Run(test.name, func(t *testing.T) {
			env := env.in(t)
			a := env.post(test.route, body)
			if delivered := len(env.orders.forget()) == 1; a.body != test.want || delivered != (test.want == taken) {
				t.Errorf("WeChat hears %s, the order service got: %v", a.body, delivered)
			}
		})
	}
}

func TestTraceIsPassedOn(t *testing.T) {
	env, shop := newShop(t, "")
	env.get("get_pay_request_params", shop.order("order-1"))
	body := string(env.pay(shop, "order-1", wepaytest.Held()).Body())
	const parent, state = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", "congo=t61rcWkgMzE"
	env.post("pay_notify", body, "Traceparent", parent, "Tracestate", state, "Cookie", "a=b", "Authorization", "Basic eDp5")
	got := env.orders.forget()[0].header
	if got.Get("Traceparent") != parent || got.Get("Tracestate") != state {
		t.Errorf("the trace is %q %q", got.Get("Traceparent"), got.Get("Tracestate"))
	}
	if got.Get("Cookie") != "" || got.Get("Authorization") != "" {
		t.Errorf("more than the trace was passed on: %v", got)
	}
}

// Two merchants that only the trade type tells apart have order services of
// their own.
func TestOneAccountTwoTradeTypes(t *testing.T) {
	env := newEnvironment(t)
	page, code := newMerchant("page", 1), newMerchant("code", 1)
	code.env, code.notify, code.shared, code.form = "NATIVE", "pay_notify", true, none
	page.notify = "pay_notify"
	others := newOrderService(t)
	code.orders = others.URL
	env.serve(layout{merchants: []*merchant{page, code}})
	for _, test := range []struct {
		name      string
		merchant  *merchant
		tradeType string
		taken     [2]int // by each order service
	}{
		{"a page's", page, "JSAPI", [2]int{1, 0}},
		{"a code's", code, "NATIVE", [2]int{0, 1}},
		{"of a type that neither has", code, "MICROPAY", [2]int{0, 0}},
	} {
		t.Run(test.name, func(t *testing.T) {
			env := env.in(t)
			id := "order-" + test.tradeType
			env.get("get_pay_request_params", test.merchant.order(id))
			delivery := env.pay(test.merchant, id, wepaytest.WithField("trade_type", test.tradeType))
			if got := [2]int{len(env.orders.forget()), len(others.forget())}; got != test.taken {
				t.Errorf("the order services got %v, want %v", got, test.taken)
			}
			if delivery.Taken() != (test.taken != [2]int{}) {
				t.Errorf("WeChat got %s", delivery.Attempts()[0].Answer)
			}
		})
	}
}

// The Node service's own file is configuration enough: its words, and the
// certificates beside it.
func TestConfigFileAlone(t *testing.T) {
	for _, test := range []struct {
		file  string
		names []string // of the merchants, in their order
	}{
		{"object.json", []string{"1900000101"}},
		{"array.json", []string{"shop", "1900000102-WXAPP", "1900000102-NATIVE"}},
	} {
		t.Run(test.file, func(t *testing.T) {
			env := newEnvironment(t)
			shop, mini := newMerchant("shop", 1), newMerchant("mini", 2)
			for _, m := range []*merchant{shop, mini} {
				env.register(m)
				env.write("apiclient_cert_"+m.mchID+".p12", m.credential.P12)
			}
			text, err := os.ReadFile(filepath.Join("testdata", test.file))
			if err != nil {
				t.Fatal(err)
			}
			env.write("config.json", []byte(strings.NewReplacer("https://m.example.cn", env.site, "http://orders", env.orders.URL).Replace(string(text))))
			env.serve(layout{options: "config_file " + filepath.Join(env.dir, "config.json")})
			for i, name := range test.names {
				id := "order-" + name
				params := env.get("get_pay_request_params", map[string]any{"merchant": name, "id": id, "fee": "1", "body": "b", "openid": openID})
				if _, isCode := params["code_url"]; isCode != strings.HasSuffix(name, "NATIVE") {
					t.Errorf("%s got %v", name, params)
				}
				m := []*merchant{shop, mini, mini}[i]
				checkTaken(t, env.pay(m, id))
				env.get("refund", map[string]any{"mchId": m.mchID, "out_trade_no": id, "out_refund_no": id, "total_fee": 1, "refund_fee": 1})
				refunds := env.wechat.Requests("/secapi/pay/refund")
				if serial := refunds[len(refunds)-1].Serial(); serial != m.credential.Serial {
					t.Errorf("%s was refunded with the certificate %s", name, serial)
				}
			}
			if delivered := env.orders.forget(); len(delivered) != len(test.names) || delivered[0].path != "/apis/v1/mqtt/pay_notify" || delivered[0].header.Get("webhook-signature") != "" {
				t.Errorf("the order service got %+v", delivered)
			}
		})
	}
}

// orderService is a site's own service, which is told of payments.
type orderService struct {
	*httptest.Server

	mu        sync.Mutex
	delivered []callback
	answer    http.HandlerFunc // nil: {"errcode":0}
}

// callback is what an order service was told once.
type callback struct {
	path   string
	header http.Header
	body   []byte
}

func newOrderService(t *testing.T) *orderService {
	t.Helper()
	return newOrderServiceAt(t, "127.0.0.1:0")
}

func newOrderServiceAt(t *testing.T, address string) *orderService {
	t.Helper()
	listener, err := net.Listen("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	s := new(orderService)
	s.Server = &httptest.Server{Listener: listener, Config: &http.Server{Handler: s, ErrorLog: quiet}}
	s.Start()
	t.Cleanup(s.Close)
	return s
}

func (s *orderService) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return // Caddy is gone in the middle of its request
	}
	s.mu.Lock()
	s.delivered = append(s.delivered, callback{r.URL.Path, r.Header.Clone(), bytes.Clone(body)})
	answer := s.answer
	s.mu.Unlock()
	if answer == nil {
		answer = replying(http.StatusOK, `{"errcode":0}`)
	}
	answer(w, r)
}

func replying(status int, body string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(status)
		_, _ = io.WriteString(w, body)
	}
}

// answers chooses what the service does once it has got one.
func (s *orderService) answers(answer http.HandlerFunc) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.answer = answer
}

// forget returns what the service has got since it last forgot.
func (s *orderService) forget() []callback {
	s.mu.Lock()
	defer s.mu.Unlock()
	delivered := s.delivered
	s.delivered = nil
	return delivered
}
