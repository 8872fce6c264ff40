package e2e_test

import (
	"bufio"
	"crypto/sha1"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime/multipart"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/windsome/caddy-wepay/wepay/wepaytest"
)

// newV3Stall is an environment with a merchant that passes calls on, and one that does
// not.
func newV3Stall(t *testing.T) (env *environment, shop, shut, old *merchant) {
	t.Helper()
	env, shop, shut, old = newEnvironment(t), newV3Merchant("shop", 1), newV3Merchant("shut", 2), newMerchant("old", 3)
	on := []string{"passthrough"}
	env.serve(env.stalls(stall{shop, on}, stall{shut, nil}, stall{old, on}))
	return env, shop, shut, old
}

// pass asks for a call of WeChat's as it stands there.
func (env *environment) pass(method, call, body string, headers ...string) answer {
	env.t.Helper()
	a, err := env.send(method, env.site+"/apis/v1/wepay"+call, body, headers...)
	if err != nil {
		env.t.Fatal(err)
	}
	return a
}

// lastV3 is what WeChat got last.
func (env *environment) lastV3() wepaytest.Request {
	env.t.Helper()
	all := env.received()
	for i := len(all) - 1; i >= 0; i-- {
		if all[i].Path != "/v3/certificates" {
			return all[i]
		}
	}
	env.t.Fatal("WeChat was not asked")
	return wepaytest.Request{}
}

// A call of API v3 goes to WeChat as the caller wrote it, and comes back as
// WeChat did.
func TestPassThroughV3(t *testing.T) {
	env, shop, _, _ := newV3Stall(t)
	order := fmt.Sprintf(`{"appid":%q,"mchid":%q, "description":"袜子","out_trade_no":"order-1","notify_url":"https://m.example.cn/n","amount":{"total":1200},"payer":{"openid":%q}}`,
		shop.appID, shop.mchID, openID)
	a := env.pass(http.MethodPost, "/v3/pay/transactions/jsapi?merchant=shop", order, "Content-Type", "application/json")
	if a.status != http.StatusOK || !strings.Contains(a.body, `"prepay_id"`) || strings.Contains(a.body, "errcode") ||
		a.header.Get("Request-Id") == "" || a.header.Get("Cache-Control") != "no-store" || a.header.Get("Wechatpay-Signature") != "" {
		t.Errorf("placing an order: HTTP %d %v %s", a.status, a.header, a.body)
	}
	if got := env.lastV3(); string(got.Body) != order {
		t.Errorf("WeChat got %s", got.Body)
	}

	a = env.pass(http.MethodGet, "/v3/pay/transactions/out-trade-no/order-1?appId="+shop.appID+"&mchid="+shop.mchID+"&mchId="+shop.mchID+"&env=H5", "")
	var order1 map[string]any
	if err := json.Unmarshal([]byte(a.body), &order1); err != nil || a.status != http.StatusOK || order1["trade_state"] != "NOTPAY" {
		t.Errorf("querying it: HTTP %d %s (%v)", a.status, a.body, err)
	}
	if got := env.lastV3().Fields; len(got) != 1 || got.Get("mchid") != shop.mchID {
		t.Errorf("WeChat got the query %v", got)
	}

	a = env.pass(http.MethodPost, "/v3/pay/transactions/out-trade-no/order-1/close?merchant=shop", fmt.Sprintf(`{"mchid":%q}`, shop.mchID))
	if a.status != http.StatusNoContent || a.body != "" {
		t.Errorf("closing it: HTTP %d %s", a.status, a.body)
	}
	a = env.pass(http.MethodGet, "/v3/pay/transactions/out-trade-no/order-2?merchant=shop&mchid="+shop.mchID, "")
	if a.status != http.StatusNotFound || !strings.Contains(a.body, `"code":"ORDER_NOT_EXIST"`) {
		t.Errorf("querying another: HTTP %d %s", a.status, a.body)
	}
	a = env.pass(http.MethodDelete, "/v3/pay/transactions/out-trade-no/order-1?merchant=shop", "")
	if a.status != http.StatusBadGateway || a.Errcode != 40000 { // a page, which nobody signed
		t.Errorf("DELETE of what WeChat does not know: HTTP %d %s", a.status, a.body)
	}
	if got := env.lastV3(); got.Method != http.MethodDelete {
		t.Errorf("WeChat got %s", got.Method)
	}
}

// A bill is passed on as it comes, once its address was asked for; the route for
// bills has the same.
func TestPassThroughV3Bill(t *testing.T) {
	env, shop, _, _ := newV3Stall(t)
	day := time.Now().AddDate(0, 0, -3)
	if err := env.wechat.FillBill(shop.mchID, day.Format("20060102"), 20_000); err != nil {
		t.Fatal(err)
	}
	a := env.pass(http.MethodGet, "/v3/bill/tradebill?bill_date="+day.Format(time.DateOnly)+"&merchant=shop", "")
	var bill struct {
		HashValue   string `json:"hash_value"`
		DownloadURL string `json:"download_url"`
	}
	if err := json.Unmarshal([]byte(a.body), &bill); err != nil || a.status != http.StatusOK {
		t.Fatalf("HTTP %d %s (%v)", a.status, a.body, err)
	}
	download, err := url.Parse(bill.DownloadURL)
	if err != nil {
		t.Fatal(err)
	}
	a = env.pass(http.MethodGet, download.RequestURI()+"&merchant=shop", "")
	if sum := fmt.Sprintf("%x", sha1.Sum([]byte(a.body))); a.status != http.StatusOK || sum != bill.HashValue || strings.Count(a.body, "\n") < 20_000 {
		t.Errorf("HTTP %d, %d bytes with the hash %s, wants %s", a.status, len(a.body), sum, bill.HashValue)
	}
	text := env.bill("download_bill", "text/csv; charset=utf-8", map[string]any{"merchant": "shop", "bill_date": day.Format("20060102")})
	if strings.TrimPrefix(text, "\ufeff") != strings.TrimPrefix(a.body, "\ufeff") {
		t.Errorf("the route has another bill, of %d bytes and not %d", len(text), len(a.body))
	}
}

// Nothing that our side or anything on the way could read in two ways reaches
// WeChat, and what was escaped gets there as it was.
func TestPassThroughV3Paths(t *testing.T) {
	env, _, _, _ := newV3Stall(t)
	const query = "?merchant=shop"
	for _, test := range []struct {
		path    string
		errcode int
		sent    string // what WeChat got, escaped; "": nothing
	}{
		{"/v3/pay/transactions/id/a%2Ab", 0, "/v3/pay/transactions/id/a%2Ab"},
		{"/v3/pay/transactions/id/a*b", 0, "/v3/pay/transactions/id/a*b"},
		{"/v3/pay/transactions/id/%E8%A2%9C%E5%AD%90", 0, "/v3/pay/transactions/id/%E8%A2%9C%E5%AD%90"},
		{"/v3/pay/transactions/id/%61", 0, "/v3/pay/transactions/id/%61"},
		{"/v3/pay/transactions/id/a%2Fb", 40003, ""},
		{"/v3/pay/transactions/id/%2e%2e/refund", 40003, ""},
		{"/v3/pay/../refund/domestic/refunds", 40003, ""},
		{"/v3/pay/./transactions", 40003, ""},
		{"/v3/%2e%2e/pay/transactions", 40003, ""},
		{"/v3/..;/x", 40003, ""},
		{"/v3/.;/x", 40003, ""},
		{"/v3/pay/..;a=b/x", 40003, ""},
		{"/v3/pay/..%3B/x", 40003, ""},
		{"/v3//pay/transactions", 40003, ""},
		{"/v3/pay/transactions/", 0, "/v3/pay/transactions/"},
		{"/v3/pay/transactions//", 40003, ""},
		{"/v3/pay%5ctransactions", 40003, ""},
		{"/v3/pay%3Fa=b", 40003, ""},
		{"/v3/pay%23a", 40003, ""},
		{"/v3/pay%00", 40003, ""},
		{"/v3/pay%0D%0AHost:%20evil.example", 40003, ""},
		{"/v3/pay%25", 40003, ""},
		{"/v3/%ff", 40003, ""},
		{"/v3", 40011, ""},
		{"/v3/", 40011, ""},
		{"/v3//", 40011, ""},
		{"/%763/pay/transactions/id/a", 40011, ""},
		{"/v4/pay/transactions/id/a", 40011, ""},
	} {
		t.Run(test.path, func(t *testing.T) {
			env := env.in(t)
			before := len(env.received())
			a := env.pass(http.MethodGet, test.path+query, "")
			after := env.received()[before:]
			switch {
			case test.sent == "":
				isMethod := a.status == http.StatusMethodNotAllowed
				if a.Errcode != test.errcode || a.status != statusOf(test.errcode) && !isMethod || len(after) > 0 {
					t.Errorf("HTTP %d %s, WeChat got %d requests", a.status, a.body, len(after))
				}
			case len(after) == 0:
				t.Errorf("HTTP %d %s, WeChat got nothing", a.status, a.body)
			}
		})
	}
}

// The bytes of path and query are those that the caller sent.
func TestPassThroughV3Bytes(t *testing.T) {
	env, shop, _, _ := newV3Stall(t)
	env.get("get_pay_request_params", shop.order3("order-1")) // WeChat is known from now on
	got := make(chan string, 1)
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			line, _ := bufio.NewReader(conn).ReadString('\n')
			_, _ = io.WriteString(conn, "HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
			conn.Close()
			if strings.Contains(line, "/v3/certificates") {
				continue // fetched by itself
			}
			select {
			case got <- line:
			default:
			}
		}
	}()
	env.patience = redials
	raw := *shop
	raw.endpoint, raw.shared = "http://"+listener.Addr().String(), true
	layout := env.layoutOf(stall{&raw, []string{"passthrough"}})
	if err := env.load(layout); err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct{ asked, sent string }{
		{"/v3/a/%E8%A2%9C%2a*?b=%7e~&merchant=shop&c=1%2C2+3&b=", "/v3/a/%E8%A2%9C%2a*?b=%7e~&c=1%2C2+3&b="},
		{"/v3/a?merchant=shop", "/v3/a"},
		{"/v3/a?merchant=shop&b", "/v3/a?b"},
		{"/v3/a?mchid=" + shop.mchID, "/v3/a?mchid=" + shop.mchID},
	} {
		env.pass(http.MethodDelete, test.asked, "")
		if line, want := <-got, "DELETE "+test.sent+" HTTP/1.1"; strings.TrimSpace(line) != want {
			t.Errorf("WeChat got %s, wants %s", line, want)
		}
	}
}

// Uploads may be as large as WeChat takes them, which is more than other bodies
// may.
func TestPassThroughV3Upload(t *testing.T) {
	env, shop := newEnvironment(t), newV3Merchant("shop", 1)
	got := make(chan int64, 1)
	media := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		n, err := io.Copy(io.Discard, r.Body)
		if err != nil {
			n = -1
		}
		if r.Method == http.MethodPost {
			got <- n
		}
		w.WriteHeader(http.StatusBadGateway)
	}))
	defer media.Close()
	shop.endpoint = media.URL
	env.serve(env.stalls(stall{shop, []string{"passthrough"}}))
	upload := func(size int) (body, contentType string) {
		var text strings.Builder
		form := multipart.NewWriter(&text)
		meta, err := form.CreateFormField("meta")
		if err == nil {
			_, err = io.WriteString(meta, `{"filename":"a.mp4","sha256":"0"}`)
		}
		file, err2 := form.CreateFormFile("file", "a.mp4")
		if err := errors.Join(err, err2); err != nil {
			t.Fatal(err)
		}
		if _, err := file.Write(make([]byte, size)); err != nil || form.Close() != nil {
			t.Fatal(err)
		}
		return text.String(), form.FormDataContentType()
	}
	const call = "/v3/merchant/media/video_upload?merchant=shop"
	for _, size := range []int{2 << 20, 5 << 20} {
		body, kind := upload(size)
		a := env.pass(http.MethodPost, call, body, "Content-Type", kind)
		if a.status != http.StatusBadGateway {
			t.Errorf("%d bytes: HTTP %d %s", size, a.status, a.body)
		}
		if n := <-got; n != int64(len(body)) {
			t.Errorf("WeChat got %d bytes of %d", n, len(body))
		}
	}
	body, kind := upload(5<<20 + 64<<10)
	if a := env.pass(http.MethodPost, call, body, "Content-Type", kind); a.status != http.StatusRequestEntityTooLarge || a.Errcode != 40003 {
		t.Errorf("too large: HTTP %d %s", a.status, a.body)
	}
	body, _ = upload(1 << 20) // of more net/http would read nothing, and the connection be reset
	if a := env.pass(http.MethodPost, call, body, "Content-Type", "application/json"); a.status != http.StatusRequestEntityTooLarge {
		t.Errorf("no upload: HTTP %d %s", a.status, a.body)
	}
}

// layoutOf is stalls without registering anybody.
func (env *environment) layoutOf(all ...stall) layout {
	env.t.Helper()
	for _, s := range all {
		s.shared = true
	}
	return env.stalls(all...)
}

func TestPassThroughV3Refused(t *testing.T) {
	env, shop, shut, _ := newV3Stall(t)
	of := func(m *merchant) string { return fmt.Sprintf(`{"mchid":%q}`, m.mchID) }
	const path = "/v3/pay/transactions/out-trade-no/order-1/close"
	for _, test := range []struct {
		name, method, call, body string
		status, errcode          int
		says                     string
	}{
		{"not switched on", http.MethodPost, path + "?merchant=shut", of(shut), 200, 40010, "passthrough"},
		{"of a merchant of API v2", http.MethodPost, path + "?merchant=old", "{}", 200, 40010, "apiv3_key"},
		{"of nobody", http.MethodPost, path + "?merchant=nobody", of(shop), 200, 40004, ""},
		{"of two at once", http.MethodPost, path + "?merchant=shop&merchant=shut", of(shop), 200, 40003, "merchant: "},
		{"of one by name and another by number", http.MethodPost, path + "?merchant=shop&mchId=" + shut.mchID, of(shop), 200, 40004, ""},
		{"in another merchant's name", http.MethodPost, path + "?merchant=shop", of(shut), 200, 40003, "mchid: "},
		{"of another merchant, in the query", http.MethodGet, "/v3/pay/transactions/id/1?merchant=shop&mchid=" + shut.mchID, "", 200, 40003, "mchid: "},
		{"not JSON", http.MethodPost, path + "?merchant=shop", "mchid=1", 200, 40003, "request: must be one JSON object"},
		{"a name escaped badly", http.MethodPost, path + "?merchant=%zz", of(shop), 200, 40003, "merchant: "},
		{"too large", http.MethodPost, path + "?merchant=shop", padded(of(shop), 1<<20+1), 413, 40003, "too large"},
		{"OPTIONS", http.MethodOptions, path + "?merchant=shop", "", 405, 40011, ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			env := env.in(t)
			before := len(env.wechat.Requests(path))
			a := env.pass(test.method, test.call, test.body)
			if a.status != test.status || a.Errcode != test.errcode || !strings.Contains(a.XOrigMsg, test.says) {
				t.Errorf("HTTP %d %s, wants %d %d %q", a.status, a.body, test.status, test.errcode, test.says)
			}
			if got := len(env.wechat.Requests(path)) - before; got > 0 {
				t.Errorf("WeChat got %d requests", got)
			}
		})
	}
	named := strings.Replace(of(shop), "{", "{\"name\":\"\xd2\xbb\",", 1) // GBK of one character, and UTF-8 of another
	if a := env.pass(http.MethodPost, path+"?merchant=shop", named, "Content-Type", "application/json; charset=GBK"); a.Errcode != 40003 || !strings.Contains(a.XOrigMsg, "Content-Type: ") {
		t.Errorf("GBK: HTTP %d %s", a.status, a.body)
	}
	if a := env.pass(http.MethodPost, path+"?merchant=shop", padded(of(shop), 1<<20)); a.status != http.StatusNoContent && a.status != http.StatusNotFound {
		t.Errorf("just not too large: HTTP %d %s", a.status, a.body)
	}
}

// Whoever may not ask for money may not ask for this either.
func TestPassThroughV3IsShut(t *testing.T) {
	for _, test := range []struct {
		site    string
		status  int
		headers []string
	}{
		{"wepay", 403, nil},
		{"wepay {\n\t\tallow 10.0.0.1\n\t}", 403, nil},
		{"wepay {\n\t\ttoken a-token-of-the-site\n\t}", 401, nil},
		{"wepay {\n\t\tallow 127.0.0.1\n\t}", 403, []string{"Sec-Fetch-Site", "cross-site", "Origin", "https://evil.example"}},
	} {
		env, shop := newEnvironment(t), newV3Merchant("shop", 1)
		l := env.stalls(stall{shop, []string{"passthrough"}})
		l.site = test.site
		env.serve(l)
		for _, method := range []string{http.MethodGet, http.MethodPost, http.MethodDelete} {
			a := env.pass(method, "/v3/pay/transactions/id/1?merchant=shop&"+url.Values{"mchid": {shop.mchID}}.Encode(), "", test.headers...)
			if a.status != test.status || a.Errcode != 401 {
				t.Errorf("%s of %s: HTTP %d %s", method, test.site, a.status, a.body)
			}
		}
		if got := len(env.wechat.Requests("/v3/pay/transactions/id/1")); got > 0 {
			t.Errorf("WeChat got %d requests", got)
		}
		if err := env.unload(); err != nil {
			t.Fatal(err)
		}
	}
}

// What nobody signed is not passed on as WeChat's.
func TestPassThroughV3Reply(t *testing.T) {
	env, shop, _, _ := newV3Stall(t)
	env.get("get_pay_request_params", shop.order3("order-1"))
	const call = "/v3/pay/transactions/out-trade-no/order-1"
	for _, test := range []struct {
		name  string
		fault wepaytest.Fault
		says  string
	}{
		{"wrong signature", wepaytest.Fault{Kind: wepaytest.WrongSignature}, "wrong signature"},
		{"no signature", wepaytest.Fault{Kind: wepaytest.NoSignature}, "no signature"},
		{"a probe", wepaytest.Fault{Kind: wepaytest.Probe}, "a signature probe"},
		{"stale", wepaytest.Fault{Kind: wepaytest.Skewed, Delay: -301e9}, "signed too long ago"},
		{"a page", wepaytest.Fault{Kind: wepaytest.HTML, Status: 502}, "HTTP status 502"},
	} {
		t.Run(test.name, func(t *testing.T) {
			env := env.in(t)
			env.wechat.Misbehave(call, test.fault)
			a := env.pass(http.MethodGet, call+"?merchant=shop&mchid="+shop.mchID, "")
			if a.status != http.StatusBadGateway || a.Errcode != 40000 || !strings.Contains(a.XOrigMsg, test.says) {
				t.Errorf("HTTP %d %s", a.status, a.body)
			}
		})
	}
}
