package apiv3_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"mime/multipart"
	"net/http"
	"net/textproto"
	"strings"
	"testing"
	"time"

	"github.com/windsome/caddy-wepay/wepay"
	"github.com/windsome/caddy-wepay/wepay/apiv3"
	"github.com/windsome/caddy-wepay/wepay/wepaytest"
)

func get(path string) apiv3.PassRequest { return apiv3.PassRequest{Method: http.MethodGet, Path: path} }

func post(path, body string) apiv3.PassRequest {
	return apiv3.PassRequest{Method: http.MethodPost, Path: path, Body: []byte(body)}
}

// passed reads what came of a pass.
func passed(t testing.TB, c *apiv3.Client, in apiv3.PassRequest) (status int, body string, header http.Header) {
	t.Helper()
	p, err := c.Pass(t.Context(), in)
	if err != nil {
		t.Fatalf("%s: %v", in.Path, err)
	}
	text, err := io.ReadAll(p.Body)
	if err := errors.Join(err, p.Body.Close()); err != nil {
		t.Fatal(err)
	}
	return p.Status, string(text), p.Header
}

// Any call goes there and back as WeChat has it, refusals too.
func TestPass(t *testing.T) {
	everyWay(t, func(t *testing.T, s *shop) {
		root, who := "/v3/pay/transactions", `"appid":"`+appID+`","mchid":"`+mchID+`"`
		query := "?mchid=" + mchID
		if s.merchant.Type == wepay.Partner {
			root, who = "/v3/pay/partner/transactions", `"sp_appid":"`+appID+`","sp_mchid":"`+mchID+`","sub_mchid":"`+subMchID+`"`
			query = "?sub_mchid=" + subMchID + "&sp_mchid=" + mchID
		}
		body := `{` + who + `,"description":"袜子","out_trade_no":"ORDER*1","notify_url":"https://pay.example.cn/n","amount":{"total":1,"currency":"CNY"}}`
		status, text, header := passed(t, s.client, post(root+"/native", body))
		if status != 200 || !strings.Contains(text, "code_url") || header.Get("Request-Id") == "" || header.Get("Wechatpay-Signature") != "" ||
			!strings.HasPrefix(header.Get("Content-Type"), "application/json") {
			t.Errorf("placing: %d %s %v", status, text, header)
		}
		for _, path := range []string{"ORDER*1", "ORDER%2A1", "%4F%52DER*1"} {
			status, text, _ := passed(t, s.client, get(root+"/out-trade-no/"+path+query))
			if status != 200 || !json.Valid([]byte(text)) || !strings.Contains(text, "NOTPAY") {
				t.Errorf("%s: %d %s", path, status, text)
			}
		}
		status, text, _ = passed(t, s.client, get(root+"/out-trade-no/NOBODYS"+query))
		if status != 404 || !strings.Contains(text, "ORDER_NOT_EXIST") {
			t.Errorf("of nobody: %d %s", status, text)
		}
		who = strings.TrimPrefix(strings.Replace(strings.Replace(who, `"sp_appid":"`+appID+`",`, "", 1), `"appid":"`+appID+`",`, "", 1), ",")
		if status, text, _ := passed(t, s.client, post(root+"/out-trade-no/ORDER*1/close", "{"+who+"}")); status != 204 || text != "" {
			t.Errorf("closing: %d %q", status, text)
		}
		if status, _, _ := passed(t, s.client, get("/v3/certificates")); status != 200 && s.merchant.PublicKey == nil {
			t.Errorf("certificates: %d", status)
		}
	})
}

// A file, which WeChat never signs, is passed on as it comes.
func TestPassFiles(t *testing.T) {
	s := openShop(t, ways[2])
	s.pay(order("ORDER-0001", "1200"))
	s.clock.Advance(24 * time.Hour)
	_, text, _ := passed(t, s.client, get("/v3/bill/tradebill?bill_date=2026-01-01"))
	var offered struct {
		URL string `json:"download_url"`
	}
	if err := json.Unmarshal([]byte(text), &offered); err != nil {
		t.Fatal(err)
	}
	path := strings.TrimPrefix(offered.URL, s.wechat.URL)
	status, text, _ := passed(t, s.client, get(path))
	if status != 200 || !strings.HasPrefix(text, "\ufeff") {
		t.Errorf("got %d %q", status, text)
	}
	if status, text, _ := passed(t, s.client, get("/v3/billdownload/file?token=NOBODYS")); status != 400 || !strings.Contains(text, "INVALID_REQUEST") {
		t.Errorf("refused: %d %s", status, text)
	}

	image := strings.Repeat("\xff\xd8", 1<<20)
	w := newWechat(t, func(w http.ResponseWriter, r *http.Request) answer {
		return answer{body: image, bare: true, header: map[string][]string{"Content-Type": {"image/jpeg"}, "Server": {"nginx"}}}
	})
	m := w.merchant(t)
	m.Passthrough = true
	for path, ok := range map[string]bool{
		"/v3/merchant-service/images/ChsyMDAyMDEwMTIwMjM%3D": true, "/v3/merchant-service/complaints": false,
		"/v3/transferdownload/signfile?token=1": true, "/v3/transferdownload/elecvoucherfile?token=1": true,
		"/v3/transferbilldownload/elecvoucherfile?token=1": true, "/v3/billdownload/files?token=1": false,
		"/v3/new-tax-control-fapiao/download?token=1": true, "/v3/new-tax-control-fapiao/download/1": false,
		"/v3/global/statements?date=20260101": true, "/v3/statements?date=20260101": true, "/v3/global/statement": false,
	} {
		p, err := w.client(t, m).Pass(t.Context(), get(path))
		if !ok {
			if wantError(t, err, wepay.Again); !errors.Is(err, wepay.ErrNoAnswer) {
				t.Errorf("%s: got %v", path, err)
			}
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		got, err := io.ReadAll(p.Body)
		if err := errors.Join(err, p.Body.Close()); err != nil || string(got) != image || p.Header.Get("Content-Type") != "image/jpeg" || p.Header.Get("Server") != "" {
			t.Errorf("%s: %d bytes, %v, %v", path, len(got), p.Header, err)
		}
	}
	if _, err := w.client(t, m).Pass(t.Context(), post("/v3/billdownload/file?token=1", "{}")); !errors.Is(err, wepay.ErrNoAnswer) {
		t.Errorf("a file that is posted: got %v", err)
	}
}

// Of an upload the part meta alone is signed, byte for byte.
func TestPassUpload(t *testing.T) {
	v := vectors(t)["R3"]
	var upload bytes.Buffer
	form := multipart.NewWriter(&upload)
	meta, _ := form.CreatePart(textproto.MIMEHeader{"Content-Disposition": {`form-data; name="meta"`}, "Content-Type": {"application/json"}})
	_, _ = io.WriteString(meta, v.Body)
	file, _ := form.CreateFormFile("file", "a.jpg")
	_, _ = io.WriteString(file, "\xff\xd8\xff\xe0")
	if err := form.Close(); err != nil {
		t.Fatal(err)
	}
	w := newWechat(t, func(_ http.ResponseWriter, r *http.Request) answer {
		body, _ := io.ReadAll(r.Body)
		pairs := authorizationPairs.FindStringSubmatch(r.Header.Get("Authorization"))
		message := "POST\n/v3/merchant/media/upload\n" + pairs[4] + "\n" + pairs[2] + "\n" + v.Body + "\n"
		if !verifies(&privateKey(t, testdata(t, "../certificates/key.pem")).PublicKey, message, pairs[3]) || !bytes.Equal(body, upload.Bytes()) || r.Header.Get("Content-Type") != form.FormDataContentType() {
			t.Errorf("sent %q with %v", body, r.Header)
		}
		return answer{body: `{"media_id":"1"}`}
	})
	m := w.merchant(t)
	m.Passthrough = true
	in := apiv3.PassRequest{Method: http.MethodPost, Path: v.URL, ContentType: form.FormDataContentType(), Body: upload.Bytes()}
	if _, text, _ := passed(t, w.client(t, m), in); text != `{"media_id":"1"}` {
		t.Errorf("got %s", text)
	}
	whole := upload.String()
	second := strings.Index(whole[1:], "--"+form.Boundary()) + 1 // where the second part begins
	for name, test := range map[string]struct{ body, field string }{
		"nothing in it":      {"--x--\r\n", "request"},
		"no meta":            {strings.Replace(whole, `"meta"`, `"mета"`, 1), "request"},
		"two metas":          {whole[:second] + whole, "request"},
		"an empty meta":      {strings.Replace(whole, v.Body, "", 1), "request"},
		"cut in meta":        {whole[:120], "request"},
		"cut in the file":    {strings.TrimSuffix(whole, "--\r\n"), "request"},
		"a meta of no JSON":  {strings.Replace(whole, v.Body, "a.jpg", 1), "request"},
		"a meta of another":  {strings.Replace(whole, v.Body, `{"mchid":"1900000111"}`, 1), "mchid"},
		"another's boundary": {strings.ReplaceAll(whole, form.Boundary(), "x"), "request"},
	} {
		in.Body = []byte(test.body)
		_, err := w.client(t, m).Pass(t.Context(), in)
		t.Run(name, func(t *testing.T) { wantField(t, err, test.field) })
	}
	if w.asked() != 1 {
		t.Errorf("%d requests were sent", w.asked())
	}
}

// What WeChat did not sign, and should have, is no answer; only a GET is sent
// again by itself.
func TestPassIsNotBelieved(t *testing.T) {
	for name, bad := range map[string]answer{
		"unsigned":          {body: "{}", bare: true},
		"wrong":             {body: "{}", header: map[string][]string{"Wechatpay-Nonce": {"x"}}},
		"a probe":           {body: "{}", header: map[string][]string{"Wechatpay-Signature": {"WECHATPAY/SIGNTEST/x"}}},
		"huge":              {body: `"` + strings.Repeat("x", 1<<20) + `"`},
		"a page, 502":       {status: 502, body: "<html><title>502 Bad Gateway</title></html>", bare: true},
		"an unsigned error": {status: 404, body: `{"code":"ORDER_NOT_EXIST"}`, bare: true},
	} {
		t.Run(name, func(t *testing.T) {
			first := newWechat(t, func(http.ResponseWriter, *http.Request) answer { return bad })
			second := newWechat(t, func(http.ResponseWriter, *http.Request) answer { return answer{body: `{"a":1}`} })
			m := first.merchant(t, second.URL)
			m.Passthrough = true
			for _, method := range []string{http.MethodPost, http.MethodPut, http.MethodPatch, http.MethodDelete} {
				_, err := first.client(t, m).Pass(t.Context(), apiv3.PassRequest{Method: method, Path: "/v3/a", Body: []byte("{}")})
				if failed := wantError(t, err, wepay.Query); !errors.Is(err, wepay.ErrNoAnswer) || failed.Operation != apiv3.Pass {
					t.Errorf("%s: got %v", method, err)
				}
			}
			if second.asked() != 0 {
				t.Error("it was sent to the second")
			}
			p, err := first.client(t, m).Pass(t.Context(), get("/v3/a"))
			if name == "an unsigned error" { // which WeChat's own gateway may have said
				wantError(t, err, wepay.Again)
				return
			}
			if err != nil || p.Status != 200 {
				t.Errorf("GET: %v", err)
			}
		})
	}
	w := newWechat(t, func(http.ResponseWriter, *http.Request) answer {
		return answer{status: 401, body: `{"code":"SIGN_ERROR","message":"签名错误"}`, bare: true}
	})
	m := w.merchant(t)
	m.Passthrough = true
	_, err := w.client(t, m).Pass(t.Context(), get("/v3/a"))
	if failed := wantError(t, err, wepay.Fix); failed.V3Code != "SIGN_ERROR" {
		t.Errorf("got %+v", failed)
	}
}

// A signed answer is passed on whatever its status and its text.
func TestPassAnswers(t *testing.T) {
	for _, says := range []answer{
		{status: 200, body: "no JSON"},
		{status: 202, body: `{"code":"USERPAYING"}`},
		{status: 204},
		{status: 400, body: "plain"},
		{status: 500, body: `{"code":"SYSTEM_ERROR"}`},
		{status: 503, body: `{"code":"SERVICE_UNAVAILABLE"}`},
	} {
		w := newWechat(t, func(http.ResponseWriter, *http.Request) answer { return says })
		m := w.merchant(t)
		m.Passthrough = true
		for _, in := range []apiv3.PassRequest{get("/v3/a"), post("/v3/a", "{}"), {Method: http.MethodDelete, Path: "/v3/a"}} {
			if status, text, _ := passed(t, w.client(t, m), in); status != says.status || text != says.body {
				t.Errorf("got %d %q, want %d %q", status, text, says.status, says.body)
			}
		}
	}
}

// The query and the path are sent byte for byte, and signed as they are sent.
func TestPassIsSentAsItIs(t *testing.T) {
	for _, uri := range []string{
		"/v3/a?x=%2a&y=%2A&z=a+b%20c&&", "/v3/a?x", "/v3/a?a=/?:@!$'()*,;=x&b=|", "/v3/a/%7C*~+,=:@b._-/b.c%3D", "/v3/%E5%AD%97", "/v3/a?x=%E5%AD%97&x=2", "/v3/applyment4sub/applyment/", "/v3/a/?x=1",
	} {
		var got string
		w := newWechat(t, func(_ http.ResponseWriter, r *http.Request) answer {
			got = r.RequestURI
			pairs := authorizationPairs.FindStringSubmatch(r.Header.Get("Authorization"))
			if !verifies(&privateKey(t, testdata(t, "../certificates/key.pem")).PublicKey, "GET\n"+r.RequestURI+"\n"+pairs[4]+"\n"+pairs[2]+"\n\n", pairs[3]) {
				t.Errorf("%s: what is signed is not what is sent", uri)
			}
			return answer{body: "{}"}
		})
		m := w.merchant(t)
		m.Passthrough = true
		if strings.ContainsRune(uri, ';') && strings.Contains(uri, "?") {
			_, err := w.client(t, m).Pass(t.Context(), get(uri))
			wantField(t, err, "query")
			continue
		}
		passed(t, w.client(t, m), get(uri))
		if got != uri {
			t.Errorf("sent %s, want %s", got, uri)
		}
	}
}

func TestPassNothingIsSent(t *testing.T) {
	w := newWechat(t, func(http.ResponseWriter, *http.Request) answer { return answer{body: "{}"} })
	m := w.merchant(t)
	m.Passthrough = true
	c := w.client(t, m)
	for _, path := range []string{
		"", "/", "/v3", "/v3/", "v3/a", "//v3/a", "/v2/a", "/V3/a", "/v3//a", "/v3/a//", "/v3/./a", "/v3/../a", "/v3/...", "/v3/a/..", "/v3/a/%2e%2e",
		"/v3/a%2Fb", "/v3/a%2fb", "/v3/a%5Cb", `/v3/a\b`, "/v3/a%00", "/v3/a%0a", "/v3/a%7f", "/v3/a%20b", "/v3/a b", "/v3/a\n", "/v3/a\x00", "/v3/a%", "/v3/a%2", "/v3/a%zz",
		"/v3/a%25", "/v3/a%252F", "/v3/a%3Fb", "/v3/a%23b", "/v3/a#b", "/v3/字", "/v3/%E5%AD", "https://example.com/v3/a", "//example.com/v3/a", "/v3/a%2Eb", "/v3/a|b", `/v3/"`,
		"/v3/..;/x", "/v3/.;/x", "/v3/a/..;b=1/x", "/v3/%2e%2e;/x", "/v3/..%3B/x", "/v3/..%3b%2Fx", "/v3/a;b", "/v3/a/;/b", "/v3/;", "/v3/.a", "/v3/..a/b", "/v3/.;",
		"/v3/a!b", "/v3/a$b", "/v3/a&b", "/v3/a'b", "/v3/(a)", "/v3/a%26b", "/v3/a%3Cb", "/v3/a[b]", "/v3/a%5Bb%5D", "/v3/{a}", "/v3/a%22",
		"/v3/%EF%BC%8E%EF%BC%8E/a" /* ．． */, "/v3/a%EF%BC%8Fb" /* ／ */, "/v3/a%EF%BC%9Bb" /* ； */, "/v3/%E2%80%A4%E2%80%A4/a", /* ․․ */
		"/v3/a%C2%85b" /* NEL */, "/v3/a%E2%80%AEb" /* RLO */, "/v3/a%C0%AE", "/v3/a%E2%92%88", /* ⒈ */
	} {
		_, err := c.Pass(t.Context(), get(path))
		t.Run(path, func(t *testing.T) { wantField(t, err, "path") })
	}
	for _, query := range []string{"?", "?a#b", "?a b", "?a=\n", "?a=字", "?a=\x00", "?a=%zz", "?a=%", "?a;b=1", "?a=%D5%C5%C8%FD", "?%D5%C5=1", "?a=%ED%A0%80"} {
		_, err := c.Pass(t.Context(), get("/v3/a"+query))
		t.Run(query, func(t *testing.T) { wantField(t, err, "query") })
	}
	for _, method := range []string{"", "get", "HEAD", "CONNECT", "TRACE", "OPTIONS", "GET /v3/b HTTP/1.1\r\n"} {
		_, err := c.Pass(t.Context(), apiv3.PassRequest{Method: method, Path: "/v3/a"})
		t.Run(method, func(t *testing.T) { wantField(t, err, "method") })
	}
	for body, field := range map[string]string{
		`[]`: "request", `{`: "request", `{}{}`: "request", `{"a":1} x`: "request", `x`: "request", "{\"a\":\"\xff\"}": "request",
		`{"a":1,"a":2}`:                                                   "request",
		`{"a":{"b":1,"\u0062":2}}`:                                        "request",
		`{"a":[{"sub_mchid":"1","sub_mchid":"1"}]}`:                       "sub_mchid",
		`{"mchid":"1900000111"}`:                                          "mchid",
		`{"mchid":1900000111}`:                                            "mchid",
		`{"mchid":["1900000109"]}`:                                        "mchid",
		`{"mchid":null}`:                                                  "mchid",
		`{"mchid":""}`:                                                    "mchid",
		`{"\u006dchid":"1900000111"}`:                                     "mchid",
		`{"mchid":"1900000109","mchid":"1900000111"}`:                     "request",
		`{"mchid":"1900000111","mchid":"1900000109"}`:                     "mchid",
		`{"sp_mchid":"1900000111"}`:                                       "sp_mchid",
		`{"combine_mchid":"1900000111"}`:                                  "combine_mchid",
		`{"sub_mchid":"1900000209"}`:                                      "sub_mchid",
		`{"appid":"x","sub_orders":[{"mchid":"1"}],"mchid":"1900000111"}`: "mchid",
		`{"sub_orders":[{"sub_mchid":"1"}]}`:                              "sub_mchid",
		`{"a":{"b":[1,"c",{"sub_mchid":1}]}}`:                             "sub_mchid",
		strings.Repeat(`{"a":`, 20000):                                    "request",
		strings.Repeat(`{"a":`, 20000) + "1" + strings.Repeat("}", 20000): "request",
	} {
		_, err := c.Pass(t.Context(), post("/v3/a", body))
		t.Run(body[:min(len(body), 80)], func(t *testing.T) { wantField(t, err, field) })
	}
	for query, field := range map[string]string{
		"mchid=1900000111": "mchid", "mchid=1900000109&mchid=1900000111": "mchid", "%6dchid=1900000111": "mchid", "sp_mchid=1": "sp_mchid", "sub_mchid=1": "sub_mchid", "mchid=": "mchid",
	} {
		_, err := c.Pass(t.Context(), get("/v3/a?"+query))
		t.Run(query, func(t *testing.T) { wantField(t, err, field) })
	}
	for name, test := range map[string]struct {
		in    apiv3.PassRequest
		field string
	}{
		"a body of GET": {apiv3.PassRequest{Method: "GET", Path: "/v3/a", Body: []byte("{}")}, "request"},
		"a form":        {apiv3.PassRequest{Method: "POST", Path: "/v3/a", Body: []byte("a=1"), ContentType: "application/x-www-form-urlencoded"}, "Content-Type"},
		"no type":       {apiv3.PassRequest{Method: "POST", Path: "/v3/a", Body: []byte("{}"), ContentType: ";"}, "Content-Type"},
		"an odd serial": {apiv3.PassRequest{Method: "POST", Path: "/v3/a", Body: []byte("{}"), Serial: "x\r\ny"}, "Wechatpay-Serial"},
		"an odd key":    {apiv3.PassRequest{Method: "POST", Path: "/v3/a", Body: []byte("{}"), Serial: "PUB_KEY_ID_"}, "Wechatpay-Serial"},
	} {
		_, err := c.Pass(t.Context(), test.in)
		t.Run(name, func(t *testing.T) { wantField(t, err, test.field) })
	}
	m.Passthrough = false
	if _, err := c.Pass(t.Context(), get("/v3/a")); !isNotAble(err) {
		t.Errorf("got %v", err)
	}
	m.Passthrough, m.APIv3Key = true, ""
	if _, err := c.Pass(t.Context(), get("/v3/a")); !isNotAble(err) {
		t.Errorf("without keys: got %v", err)
	}
	if w.asked() != 0 {
		t.Errorf("%d requests were sent", w.asked())
	}
}

// A partner acts for its own sub-merchants alone, here too.
func TestPassOfPartner(t *testing.T) {
	w := newWechat(t, func(http.ResponseWriter, *http.Request) answer { return answer{body: "{}"} })
	m := w.merchant(t)
	m.Passthrough, m.Type, m.SubMchID, m.SubMchIDs = true, wepay.Partner, subMchID, []string{"1900000210"}
	for sub, ok := range map[string]bool{subMchID: true, "1900000210": true, "1900000211": false, "": true} {
		for _, in := range []apiv3.PassRequest{
			get("/v3/a?sub_mchid=" + sub), post("/v3/a", `{"sub_mchid":"`+sub+`"}`),
			post("/v3/a", `{"combine_mchid":"`+mchID+`","sub_orders":[{"mchid":"1900000110"},{"sub_mchid" : "`+sub+`"}]}`),
		} {
			if _, err := w.client(t, m).Pass(t.Context(), in); (err == nil) != ok {
				t.Errorf("%s: got %v", in.Path, err)
			}
		}
	}
}

// The caller's serial names the key that it encrypted with.
func TestPassSerial(t *testing.T) {
	var got, kind string
	w := newWechat(t, func(_ http.ResponseWriter, r *http.Request) answer {
		got, kind = r.Header.Get("Wechatpay-Serial"), r.Header.Get("Content-Type")
		return answer{body: "{}"}
	})
	m := w.merchant(t)
	m.Passthrough = true
	for given, want := range map[string]string{"": m.PublicKeyID, "PUB_KEY_ID_012": "PUB_KEY_ID_012", "a1b": strings.Repeat("0", 37) + "A1B"} {
		passed(t, w.client(t, m), apiv3.PassRequest{Method: http.MethodPost, Path: "/v3/a", Serial: given, Body: []byte("{}"), ContentType: "application/json; charset=utf-8"})
		if got != want || kind != "application/json; charset=utf-8" {
			t.Errorf("%q: sent %q, %q", given, got, kind)
		}
	}
}

// A busy access point does not fail a question.
func TestPassBusy(t *testing.T) {
	s := openShop(t, ways[2], func(m *wepay.Merchant) { m.Endpoints = append(m.Endpoints, m.Endpoints[0]+"/") })
	s.wechat.Misbehave("", wepaytest.Fault{Kind: wepaytest.Refused, Status: 503, Code: "SERVICE_UNAVAILABLE"})
	if status, text, _ := passed(t, s.client, get("/v3/pay/transactions/out-trade-no/X?mchid="+mchID)); status != 404 {
		t.Errorf("got %d %s", status, text)
	}
}
