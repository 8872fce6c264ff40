package apiv2_test

import (
	"crypto/sha1"
	"encoding/hex"
	"errors"
	"net/url"
	"slices"
	"strings"
	"testing"

	"github.com/windsome/caddy-wepay/wepay"
	"github.com/windsome/caddy-wepay/wepay/apiv2"
)

// The URL is signed as it is and sent encoded.
func TestShortURL(t *testing.T) {
	const long = "weixin://wxpay/bizpayurl?sign=X&appid=wx1&mch_id=1&product_id=a b+c%20d&time_stamp=1&nonce_str=袜"
	for _, signType := range []wepay.SignType{wepay.MD5, wepay.HMACSHA256} {
		server := serve(t, rows[wepay.ShortURL].good(wepay.ShortURL))
		m := able(t, server.URL)
		m.SignType = signType
		got, err := calls(t, m, wepay.ShortURL, map[string]string{"long_url": long})
		if err != nil || got.Get("short_url") != "weixin://wxpay/s/x" {
			t.Fatalf("got %v, %v", got, err)
		}
		sent := server.asked()[0].fields
		if strings.ContainsAny(sent.Get("long_url"), ":/?&= 袜") {
			t.Errorf("long_url was sent as %q", sent.Get("long_url"))
		}
		if raw, err := url.QueryUnescape(sent.Get("long_url")); err != nil || raw != long {
			t.Errorf("long_url was sent as %q", sent.Get("long_url"))
		}
		if apiv2.Verify(sent, key) == nil {
			t.Error("the signature is of what was sent, not of the URL itself")
		}
		sent.Set("long_url", long)
		if err := apiv2.Verify(sent, key); err != nil {
			t.Errorf("the request has %v", err)
		}
	}
}

// without makes a call that sends nothing.
func without(t *testing.T, m *wepay.Merchant, op wepay.Operation, in map[string]string) (wepay.Fields, error) {
	t.Helper()
	server := serve(t, status(500, ""))
	m.Endpoints = []string{server.URL}
	got, err := client(t, m, wepay.ClientOptions{Now: newClock().now}).Do(t.Context(), op, wepay.NewFields(in))
	if n := len(server.asked()); n != 0 {
		t.Errorf("%d requests were sent", n)
	}
	return got, err
}

// V15's names, always signed with MD5.
func TestBizPayURL(t *testing.T) {
	v := vectors(t)["V15"]
	if got := apiv2.Sign(parse(v.Base), wepay.MD5, v.Key); got != v.Result {
		t.Errorf("V15: got %s, want %s", got, v.Result)
	}
	for _, product := range []string{"88888", "袜子 & 1+1", strings.Repeat("a", 32)} {
		m := merchant()
		m.SignType = wepay.HMACSHA256
		got, err := without(t, m, wepay.BizPayURL, map[string]string{"product_id": product})
		if err != nil || len(got) != 1 {
			t.Fatalf("got %v, %v", got, err)
		}
		rest, found := strings.CutPrefix(got.Get("url"), "weixin://wxpay/bizpayurl?")
		query, err := url.ParseQuery(rest)
		if !found || err != nil {
			t.Fatalf("the URL is %q", got.Get("url"))
		}
		fields := make(map[string]string)
		for name := range query {
			fields[name] = query.Get(name)
		}
		sign, link := fields["sign"], fields
		delete(link, "sign")
		signed := wepay.NewFields(link)
		var names []string
		for _, field := range signed {
			names = append(names, field.Name)
		}
		var want []string
		for _, field := range parse(v.Base) {
			want = append(want, field.Name)
		}
		if !slices.Equal(names, want) {
			t.Errorf("the URL has %q, want %q", names, want)
		}
		if sign != apiv2.Sign(signed, wepay.MD5, key) {
			t.Errorf("%s has another signature", got.Get("url"))
		}
		if signed.Get("product_id") != product || signed.Get("time_stamp") != "1577851200" || signed.Get("appid") != m.AppID || signed.Get("mch_id") != m.MchID {
			t.Errorf("the URL is of %v", signed)
		}
	}
}

// V23's names, in SHA-1 without a key. The browser does not send the fragment,
// so that it is not signed.
func TestEditAddress(t *testing.T) {
	sum := func(base string) string {
		digest := sha1.Sum([]byte(base))
		return hex.EncodeToString(digest[:])
	}
	v := vectors(t)["V23"]
	if got := sum(v.Base); got != v.Result {
		t.Errorf("V23: got %s, want %s", got, v.Result)
	}
	vector := parse(strings.Replace(v.Base, "&state=1", "", 1)) // its URL has a & of its own
	const page = "https://pay.example.cn/eshop?code=0&state=1"
	token := vector.Get("accesstoken")
	for shown, base := range map[string]string{page: page, page + "#wechat_redirect": page, page + "#": page, page + "#a#b": page, "https://pay.example.cn/": "https://pay.example.cn/"} {
		got, err := without(t, merchant(), wepay.EditAddress, map[string]string{"accesstoken": token, "url": shown})
		if err != nil {
			t.Fatal(err)
		}
		if len(got) != 6 || got.Get("appId") != "wx00112233445566aa" || got.Get("scope") != "jsapi_address" || got.Get("signType") != "sha1" ||
			got.Get("timeStamp") != "1577851200" || len(got.Get("nonceStr")) < 16 {
			t.Errorf("got %v", got)
		}
		// The order and the names are those of V23.
		text := v.Base
		for name, value := range map[string]string{"noncestr": got.Get("nonceStr"), "timestamp": "1577851200"} {
			text = strings.Replace(text, name+"="+vector.Get(name), name+"="+value, 1)
		}
		text = strings.Replace(text, page, base, 1)
		if got.Get("addrSign") != sum(text) {
			t.Errorf("%s: addrSign is %s, want that of %s", shown, got.Get("addrSign"), text)
		}
	}
}

func TestToolsRefuse(t *testing.T) {
	for _, test := range []struct {
		op    wepay.Operation
		in    map[string]string
		field string
	}{
		{wepay.BizPayURL, nil, "product_id"},
		{wepay.BizPayURL, map[string]string{"product_id": strings.Repeat("a", 33)}, "product_id"},
		{wepay.BizPayURL, map[string]string{"product_id": "1", "sub_mch_id": "2"}, "sub_mch_id"},
		{wepay.EditAddress, map[string]string{"url": "https://a/"}, "accesstoken"},
		{wepay.EditAddress, map[string]string{"accesstoken": "x"}, "url"},
		{wepay.EditAddress, map[string]string{"accesstoken": strings.Repeat("s3cret", 86), "url": "https://a/"}, "accesstoken"},
		{wepay.EditAddress, map[string]string{"accesstoken": "x", "url": strings.Repeat("a", 2049)}, "url"},
	} {
		got, err := without(t, merchant(), test.op, test.in)
		var field *wepay.FieldError
		if !errors.As(err, &field) || field.Field != test.field || got != nil {
			t.Errorf("%s: got %v, %v, want a FieldError about %s", test.op, got, err, test.field)
		}
		if err != nil && strings.Contains(err.Error(), "s3cret") {
			t.Errorf("the error tells the token: %v", err)
		}
	}
}

// A red packet's reply is the only one that is not flat.
func TestRedPacketList(t *testing.T) {
	row := rows[wepay.QueryRedPacket]
	const talk = "<return_code><![CDATA[SUCCESS]]></return_code><result_code><![CDATA[SUCCESS]]></result_code><mch_billno>B1</mch_billno>"
	const info = "<hbinfo><openid><![CDATA[o1]]></openid><amount>1</amount><rcv_time><![CDATA[2026-01-01 <12>]]></rcv_time></hbinfo>"
	const one = `{"amount":"1","openid":"o1","rcv_time":"2026-01-01 <12>"}`
	for name, test := range map[string]struct{ text, list string }{
		"one":         {"<xml>" + talk + "<status>RECEIVED</status><hblist>" + info + "</hblist></xml>", "[" + one + "]"},
		"two":         {"<?xml version=\"1.0\"?>\n<xml>\n" + talk + "<status>RECEIVED</status>\n<hblist>\n" + info + "\n" + info + "\n</hblist>\n</xml>\n", "[" + one + "," + one + "]"},
		"none":        {"<xml>" + talk + "<status>SENT</status><hblist></hblist></xml>", "[]"},
		"none, short": {"<xml>" + talk + "<status>SENT</status><hblist/></xml>", "[]"},
		"none, wide":  {"<xml>" + talk + "<status>SENT</status>\n<hblist>\n</hblist>\n</xml>", "[]"},
		"none, CDATA": {"<xml>" + talk + "<status>SENT</status><hblist><![CDATA[]]></hblist></xml>", "[]"},
		"no list":     {"<xml>" + talk + "<status>SENT</status></xml>", ""},
		"empty info":  {"<xml>" + talk + "<status>SENT</status><hblist><hbinfo/></hblist></xml>", "[{}]"},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := calls(t, able(t, serve(t, says(test.text)).URL), wepay.QueryRedPacket, nil)
			if err != nil || got.Get("hblist") != test.list || got.Get("mch_billno") != "B1" {
				t.Errorf("got %v, %v, want %s", got, err, test.list)
			}
		})
	}
	for name, text := range map[string]string{
		"cut short":        "<xml>" + talk + "<status>RECEIVED</status><hblist>" + info,
		"cut in the list":  "<xml>" + talk + "<status>RECEIVED</status><hblist><hbinfo><openid>o1",
		"text for a list":  "<xml>" + talk + "<status>SENT</status><hblist>1</hblist></xml>",
		"another root":     "<root>" + talk + "<status>RECEIVED</status></root>",
		"a status twice":   "<xml>" + talk + "<status>FAILED</status><status>RECEIVED</status></xml>",
		"a result twice":   "<xml><result_code>FAIL</result_code>" + talk + "<status>RECEIVED</status></xml>",
		"an entity":        "<xml>" + talk + "<status>&xxe;</status></xml>",
		"another encoding": "<?xml version=\"1.0\" encoding=\"GBK\"?><xml>" + talk + "<status>RECEIVED</status></xml>",
		"an entity of its own": `<!DOCTYPE xml [<!ENTITY xxe SYSTEM "file:///etc/passwd">]><xml>` + talk +
			"<status>&xxe;</status></xml>",
		"no UTF-8": "<xml>" + talk + "<status>\xff</status></xml>",
	} {
		t.Run(name, func(t *testing.T) {
			got, err := calls(t, able(t, serve(t, says(text)).URL), wepay.QueryRedPacket, nil)
			wantError(t, err, row.unanswered)
			if !errors.Is(err, wepay.ErrMalformed) || got != nil {
				t.Errorf("got %v, %v, want ErrMalformed", got, err)
			}
		})
	}
}
