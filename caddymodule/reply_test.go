package caddymodule

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"

	"go.uber.org/zap/zapcore"

	"github.com/windsome/caddy-wepay/caddymodule/delivery"
	"github.com/windsome/caddy-wepay/wepay"
)

// Each error has its number, its HTTP status and its level in the log; the
// text is byte for byte what a caller gets.
func TestFailure(t *testing.T) {
	refused := &wepay.Error{Merchant: "shop", Operation: wepay.Refund, Code: "NOTENOUGH", Message: "基本账户余额不足", Verdict: wepay.Later}
	noAnswer := &wepay.Error{Merchant: "shop", Operation: wepay.PlaceOrder, Verdict: wepay.Query, Err: wepay.ErrNoAnswer}
	unsigned := &wepay.Error{Merchant: "shop", Operation: wepay.Refund, Code: "NOAUTH", V3Code: "NO_AUTH", Message: "商户无权限", Unsigned: true, Verdict: wepay.Query, Ask: wepay.QueryRefund, Err: wepay.ErrNoAnswer}
	notAble := &wepay.MerchantError{Merchant: "shop", Err: fmt.Errorf("%w: this needs pfx", wepay.ErrNotAble)}
	missing := &wepay.FieldError{Field: "fee", Reason: "is required", Missing: true}
	wrong := &wepay.FieldError{Field: "fee", Reason: "must be a whole number of fen above 0"}
	const (
		debug = zapcore.DebugLevel
		warn  = zapcore.WarnLevel
	)
	for _, row := range []struct {
		name   string
		err    error
		status int
		level  zapcore.Level
		want   string
	}{
		{"WeChat refused", refused, 200, warn, `{"errcode":40000,"message":"第三方API调用失败","xOrigMsg":"merchant \"shop\": refund: WeChat Pay refused: NOTENOUGH 基本账户余额不足: it did not happen: send it later with the same number","err_code":"NOTENOUGH","err_code_des":"基本账户余额不足","verdict":"LATER"}`},
		{"no answer", noAnswer, 502, warn, `{"errcode":40000,"message":"第三方API调用失败","xOrigMsg":"merchant \"shop\": get_pay_request_params: no valid answer from WeChat Pay: it may have happened: query it before anything else, and never send it with a new number","verdict":"QUERY"}`},
		{"refused without a signature", unsigned, 502, warn, `{"errcode":40000,"message":"第三方API调用失败","xOrigMsg":"merchant \"shop\": refund: WeChat Pay refused without a signature: NO_AUTH 商户无权限: no valid answer from WeChat Pay: it may have happened: query it before anything else, and never send it with a new number (with refund_query)","err_code":"NOAUTH","err_code_des":"商户无权限","unsigned":true,"verdict":"QUERY","ask":"refund_query"}`},
		{"no merchant", fmt.Errorf("%w: <none>", wepay.ErrNoMerchant), 200, debug, `{"errcode":40004,"message":"没有该实体","xOrigMsg":"no such merchant: <none>"}`},
		{"not able", notAble, 200, warn, `{"errcode":40010,"message":"模块没有初始化","xOrigMsg":"merchant \"shop\": merchant not able: this needs pfx"}`},
		{"missing field", missing, 200, debug, `{"errcode":40008,"message":"缺少必填项","xOrigMsg":"fee: is required"}`},
		{"wrong field", wrong, 200, debug, `{"errcode":40003,"message":"参数错误","xOrigMsg":"fee: must be a whole number of fen above 0"}`},
		{"wrong field within", fmt.Errorf("order: %w", wrong), 200, debug, `{"errcode":40003,"message":"参数错误","xOrigMsg":"order: fee: must be a whole number of fen above 0"}`},
		{"no token", refuseAccess(httptest.NewRecorder(), errBadToken), 401, warn, `{"errcode":401,"message":"未登录","xOrigMsg":"` + errBadToken.Error() + `"}`},
		{"not allowed", refuseAccess(httptest.NewRecorder(), errAddress), 403, warn, `{"errcode":401,"message":"未登录","xOrigMsg":"` + errAddress.Error() + `"}`},
		{"no route", statusError{200, codeNoSuchAPI, errors.New("none")}, 200, debug, `{"errcode":40011,"message":"没有此API","xOrigMsg":"none"}`},
		{"wrong method", statusError{405, codeNoSuchAPI, errors.New("POST")}, 405, debug, `{"errcode":40011,"message":"没有此API","xOrigMsg":"POST"}`},
		{"too large", statusError{413, codeParameter, wepay.ErrTooLarge}, 413, debug, `{"errcode":40003,"message":"参数错误","xOrigMsg":"message too large"}`},
		{"anything else", errors.New("that should not be"), 500, zapcore.ErrorLevel, `{"errcode":-1,"message":"未知错误","xOrigMsg":"that should not be"}`},
	} {
		t.Run(row.name, func(t *testing.T) {
			f := newFailure(row.err)
			if f.level() != row.level {
				t.Errorf("logged as %s, want %s", f.level(), row.level)
			}
			w := httptest.NewRecorder()
			if err := writeJSON(w, f.status, f); err != nil {
				t.Fatal(err)
			}
			if w.Code != row.status || w.Body.String() != row.want+"\n" {
				t.Errorf("HTTP status %d, want %d\n%s\n%s", w.Code, row.status, w.Body, row.want)
			}
		})
	}
}

func TestAnswers(t *testing.T) {
	for _, row := range []struct {
		name                     string
		write                    func(http.ResponseWriter) error
		contentType, cache, want string
	}{
		{
			"JSON", func(w http.ResponseWriter) error {
				return writeJSON(w, http.StatusOK, success{Result: wepay.NewFields(map[string]string{"code_url": "weixin://wxpay?a=1&b=<2>"})})
			},
			"application/json; charset=utf-8", "no-store", `{"errcode":0,"result":{"code_url":"weixin://wxpay?a=1&b=<2>"}}` + "\n",
		},
		{
			"JSON of nothing", func(w http.ResponseWriter) error {
				return writeJSON(w, http.StatusOK, success{Result: wepay.Fields(nil)})
			},
			"application/json; charset=utf-8", "no-store", `{"errcode":0,"result":{}}` + "\n",
		},
		{
			"XML", func(w http.ResponseWriter) error { return writeXML(w, http.StatusOK, "SUCCESS", "OK") },
			"text/xml; charset=utf-8", "", "<xml><return_code><![CDATA[SUCCESS]]></return_code><return_msg><![CDATA[OK]]></return_msg></xml>",
		},
		{
			"XML of a failure", func(w http.ResponseWriter) error { return writeXML(w, http.StatusOK, "FAIL", "not_taken") },
			"text/xml; charset=utf-8", "", "<xml><return_code><![CDATA[FAIL]]></return_code><return_msg><![CDATA[not_taken]]></return_msg></xml>",
		},
	} {
		t.Run(row.name, func(t *testing.T) {
			w := httptest.NewRecorder()
			if err := row.write(w); err != nil {
				t.Fatal(err)
			}
			if w.Code != http.StatusOK || w.Body.String() != row.want {
				t.Errorf("HTTP status %d\n%s\nwant:\n%s", w.Code, w.Body, row.want)
			}
			header := map[string]string{"Content-Type": row.contentType, "Content-Length": fmt.Sprint(len(row.want))}
			if row.cache != "" {
				header["Cache-Control"] = row.cache
			}
			got := make(map[string]string)
			for name := range w.Header() {
				got[name] = w.Header().Get(name)
			}
			if !maps.Equal(got, header) {
				t.Errorf("header %v, want %v", got, header)
			}
		})
	}
}

// What is wrong with WeChat's side of it is 4xx to a notification of API v3, and
// what is wrong with ours 5xx.
func TestOutcome(t *testing.T) {
	for _, row := range []struct {
		err    error
		result string
		status int
	}{
		{nil, "taken", 204},
		{wepay.ErrTooLarge, "too_large", 413},
		{wepay.ErrMalformed, "malformed", 400},
		{fmt.Errorf("%w: %w", wepay.ErrUnreadable, wepay.ErrMalformed), "unreadable", 400},
		{wepay.ErrForeign, "foreign", 404},
		{wepay.ErrUnsigned, "unsigned", 401},
		{wepay.ErrSignature, "wrong_signature", 401},
		{fmt.Errorf("%w: %w", wepay.ErrSignature, wepay.ErrProbe), "probe", 401},
		{wepay.ErrStale, "stale", 401},
		{wepay.ErrUnknownKey, "unknown_key", 401},
		{wepay.ErrAPIv3Key, "apiv3_key", 500},
		{delivery.ErrNoEventURL, "no_cb_event_url", 500},
		{wepay.ErrNotPayment, "not_a_payment", 400},
		{errNoPartnerKey, "no_partner_key", 500},
		{errNoAPIv3Key, "no_apiv3_key", 500},
		{delivery.ErrNoURL, "no_cb_notify_url", 500},
		{delivery.ErrNotTaken, "not_taken", 503},
		{errNotStored, "not_stored", 503},
		{wepay.ErrNoAnswer, "no_certificates", 503},
		{fmt.Errorf("%w: %w", wepay.ErrNoAnswer, wepay.ErrSignature), "no_certificates", 503},
		{errors.New("anything else"), "failed", 500},
	} {
		err := row.err
		if err != nil {
			err = fmt.Errorf("reading: %w", err)
		}
		if got := outcomeOf(wepay.V3, err); got.result != row.result || got.status != row.status {
			t.Errorf("%v is %+v, want %s %d", err, got, row.result, row.status)
		}
	}
	if got := outcomeOf(wepay.V2, wepay.ErrNoAnswer); got.result != "no_sandbox_key" {
		t.Errorf("over API v2 no answer is %s", got.result)
	}
}

func TestParseValues(t *testing.T) {
	const malformed = "request: must be one JSON object"
	for _, row := range []struct {
		name, body string
		want       map[string]string
		err        string
	}{
		{"nothing", "", map[string]string{}, ""},
		{"space", " \r\n\t", map[string]string{}, ""},
		{"empty object", "{}", map[string]string{}, ""},
		{"text", `{"id":"1","body":"袜子 🧦 & <b>"}`, map[string]string{"id": "1", "body": "袜子 🧦 & <b>"}, ""},
		{"escapes", `{"\u0069d":"\u889c\u5b50 \ud83e\udde6\n\t\"\\\/"}`, map[string]string{"id": "袜子 🧦\n\t\"\\/"}, ""},
		{"U+FFFD, which is a character", `{"body":"\ufffd"}`, map[string]string{"body": "\ufffd"}, ""},
		{"numbers as written", `{"a":1200,"b":-0,"c":1.50,"d":1e3,"e":12345678901234567890123}`, map[string]string{"a": "1200", "b": "-0", "c": "1.50", "d": "1e3", "e": "12345678901234567890123"}, ""},
		{"null", `{"attach":null}`, map[string]string{"attach": ""}, ""},
		{"nested", ` { "detail" : { "a" : [ 1 , "x y" , { } ] } , "list" : [ ] } `, map[string]string{"detail": `{"a":[1,"x y",{}]}`, "list": "[]"}, ""},
		{"nested, as it is written", `{"detail":{"price":1.0,"n":"\u5b57"}}`, map[string]string{"detail": `{"price":1.0,"n":"\u5b57"}`}, ""},
		{"empty name", `{"":"x"}`, map[string]string{"": "x"}, ""},
		{"names of other case", `{"id":"1","ID":"2"}`, map[string]string{"id": "1", "ID": "2"}, ""},

		{"twice", `{"fee":1,"fee":1200}`, nil, "fee: stands there twice"},
		{"twice the same", `{"fee":1,"fee":1}`, nil, "fee: stands there twice"},
		{"twice, escaped", `{"fee":1,"\u0066ee":1200}`, nil, "fee: stands there twice"},
		{"twice, once null", `{"fee":null,"fee":1200}`, nil, "fee: stands there twice"},
		{"nested twice", `{"detail":{"a":1,"a":2}}`, nil, "detail: names something in it twice"},
		{"nested twice, escaped", `{"receivers":[{"account":"a","\u0061ccount":"b"}]}`, nil, "receivers: names something in it twice"},
		{"GBK", "{\"id\":\"1\",\"attach\":\"\xd5\xc5\xc8\xfd\"}", nil, "attach: is not valid UTF-8 (is it GBK?)"},
		{"GBK, nested", "{\"detail\":{\"goods_name\":\"\xd5\xc5\"}}", nil, "detail: is not valid UTF-8 (is it GBK?)"},
		{"a surrogate in UTF-8", "{\"re_user_name\":\"\xed\xa0\x80\"}", nil, "re_user_name: is not valid UTF-8 (is it GBK?)"},
		{"half a character", `{"body":"\ud83e"}`, nil, `body: holds half a character: one \uD800 to \uDFFF without its other half`},
		{"the other half", `{"re_user_name":"\udde6"}`, nil, `re_user_name: holds half a character: one \uD800 to \uDFFF without its other half`},
		{"halves in the wrong order", `{"body":"\udde6\ud83e"}`, nil, `body: holds half a character: one \uD800 to \uDFFF without its other half`},
		{"half a character, nested", `{"detail":{"goods_name":"\ud83e"}}`, nil, `detail: holds half a character: one \uD800 to \uDFFF without its other half`},
		{"a name of GBK", "{\"\xd5\xc5\":\"1\"}", nil, "request: has a name that is not valid UTF-8"},
		{"a name of half a character", `{"\ud83e":"1"}`, nil, "request: has a name that is not valid UTF-8"},
		{"a byte order mark", "\ufeff{}", nil, malformed},
		{"UTF-16", "\xff\xfe{\x00}\x00", nil, malformed},
		{"white space that is not JSON's", "\u00a0", nil, malformed},
		{"true", `{"sandbox":true}`, nil, "sandbox: must be text or a number"},
		{"false", `{"sandbox":false}`, nil, "sandbox: must be text or a number"},
		{"an array", `[{"id":"1"}]`, nil, malformed},
		{"text alone", `"id"`, nil, malformed},
		{"null alone", `null`, nil, malformed},
		{"form", `id=1&fee=1200`, nil, malformed},
		{"XML", `<xml><id>1</id></xml>`, nil, malformed},
		{"cut off", `{"id":"1"`, nil, malformed},
		{"cut off in a value", `{"id":"1`, nil, malformed},
		{"no value", `{"id"}`, nil, malformed},
		{"a comma too much", `{"id":"1",}`, nil, malformed},
		{"no comma", `{"id":"1" "fee":1}`, nil, malformed},
		{"two objects", `{"id":"1"}{"fee":1}`, nil, malformed},
		{"something after it", `{"id":"1"} x`, nil, malformed},
		{"a number with a leading zero", `{"fee":0100}`, nil, malformed},
		{"a hexadecimal number", `{"fee":0x10}`, nil, malformed},
		{"not a number", `{"fee":NaN}`, nil, malformed},
		{"a name that is no text", `{1:"x"}`, nil, malformed},
		{"a control character", "{\"id\":\"\x01\"}", nil, malformed},
		{"too deep", `{"detail":` + strings.Repeat("[", 20000) + strings.Repeat("]", 20000) + `}`, nil, malformed},
	} {
		t.Run(row.name, func(t *testing.T) {
			got, _, err := parseValues([]byte(row.body))
			if row.err == "" {
				if err != nil || !maps.Equal(got, row.want) {
					t.Errorf("got %q, %v, want %q", got, err, row.want)
				}
				return
			}
			if field, ok := errors.AsType[*wepay.FieldError](err); !ok || field.Missing || err.Error() != row.err {
				t.Errorf("got %q, %v, want %s", got, err, row.err)
			}
		})
	}
}

// An object is no text, except where WeChat wants JSON.
func TestStructuredFields(t *testing.T) {
	for body, field := range map[string]string{
		`{"body":{"a":1}}`: "body", `{"attach":[1]}`: "attach", `{"id":"1","openid":{}}`: "openid", `{"fee":[]}`: "fee", `{"a":{}}`: "a",
		`{"detail":{"a":1},"scene_info":{},"receivers":[],"receiver":{},"sub_orders":[],"transfer_detail_list":[],"transfer_scene_report_infos":[]}`: "",
		`{"body":"{}","attach":"[1]","fee":1}`: "",
	} {
		req, err := readRequest(httptest.NewRecorder(), httptest.NewRequest(http.MethodPost, "/", strings.NewReader(body)))
		if err != nil {
			t.Fatal(err)
		}
		err = req.checkStructured()
		if wrong, ok := errors.AsType[*wepay.FieldError](err); ok != (field != "") || ok && wrong.Field != field {
			t.Errorf("%s: got %v", body, err)
		}
	}
}

func TestReadRequest(t *testing.T) {
	r := httptest.NewRequest(http.MethodPost, "/", strings.NewReader(`{"merchant":"shop","mchId":1900000109,"appId":"wx1","env":"APP","id":"1"}`))
	got, err := readRequest(httptest.NewRecorder(), r)
	if err != nil {
		t.Fatal(err)
	}
	if want := (wepay.Selector{Name: "shop", MchID: "1900000109", AppID: "wx1", Env: wepay.APP}); got.selector != want {
		t.Errorf("the merchant is %+v, want %+v", got.selector, want)
	}
	if want := map[string]string{"id": "1"}; !maps.Equal(got.values, want) {
		t.Errorf("the values are %v, want %v", got.values, want)
	}
	for size, status := range map[int]int{65536: http.StatusOK, 65537: http.StatusRequestEntityTooLarge} {
		body := `{"body":"` + strings.Repeat("x", size-11) + `"}`
		_, err := readRequest(httptest.NewRecorder(), httptest.NewRequest(http.MethodPost, "/", strings.NewReader(body)))
		if (err == nil) != (status == http.StatusOK) || err != nil && newFailure(err).status != status {
			t.Errorf("%d bytes: %v, want HTTP status %d", len(body), err, status)
		}
	}
}

// A merchant's name and what is to be decrypted are found however the query escapes
// its own names, and taken out of what WeChat gets.
func TestSplitQuery(t *testing.T) {
	for query, want := range map[string]struct {
		name, rest, wrong string
		decrypt           []string
	}{
		"":                                {},
		"decrypt=a":                       {decrypt: []string{"a"}},
		"a=%2a&decrypt=data.x%2Cy,z&&b=":  {rest: "a=%2a&&b=", decrypt: []string{"data.x", "y", "z"}},
		"%64ecrypt=a&Decrypt=b":           {wrong: "Decrypt"},
		"%64ecrypt=a&mchid=1&appid=2":     {rest: "mchid=1&appid=2", decrypt: []string{"a"}},
		"decrypt=a&decrypt=b":             {wrong: "decrypt"},
		"decrypt=%zz":                     {wrong: "decrypt"},
		"a=1&merchant=shop&b=%20&&":       {name: "shop", rest: "a=1&b=%20&&"},
		"%6derchant=shop&a=1":             {name: "shop", rest: "a=1"},
		"merchant=sh%6fp":                 {name: "shop"},
		"Merchant=shop":                   {wrong: "Merchant"},
		"merchant%20=shop":                {wrong: "merchant "},
		"Env=H5":                          {wrong: "Env"},
		"merchant=shop&%6Derchant=mini":   {wrong: "merchant"},
		"merchant=%zz":                    {wrong: "merchant"},
		"%zz=1":                           {rest: "%zz=1"}, // which the client refuses
		"merchant=shop&a=%D5%C5&a=%E5%AD": {name: "shop", rest: "a=%D5%C5&a=%E5%AD"},
	} {
		q, err := splitQuery(query)
		if field, _ := errors.AsType[*wepay.FieldError](err); (field == nil) != (want.wrong == "") || field != nil && field.Field != want.wrong {
			t.Errorf("%s: got %v", query, err)
			continue
		}
		if err == nil && (q.selector.Name != want.name || q.rest != want.rest || !slices.Equal(q.decrypt, want.decrypt)) {
			t.Errorf("%s: got %+v", query, q)
		}
	}
}

// GBK's bytes may be valid UTF-8, of other characters: who says that they are GBK
// is not to be read as if they were UTF-8.
func TestReadRequestCharset(t *testing.T) {
	const gbk, ascii = "{\"body\":\"\xd2\xbb\"}", `{"body":"one"}`
	for _, row := range []struct {
		contentType, body string
		refused           bool
	}{
		{"", gbk, false},
		{"application/json", gbk, false},
		{"application/json; charset=utf-8", gbk, false},
		{`application/json;charset="UTF8"`, gbk, false},
		{"application/json; charset=GBK", gbk, true},
		{"text/plain; charset=ISO-8859-1", gbk, true},
		{"text/plain; charset=ISO-8859-1", ascii, false},
		{"application/json; charset=GBK", ascii, false},
		{"charset=GBK", gbk, false},
	} {
		t.Run(row.contentType+" "+row.body, func(t *testing.T) {
			r := httptest.NewRequest(http.MethodPost, "/", strings.NewReader(row.body))
			r.Header.Set("Content-Type", row.contentType)
			_, err := readRequest(httptest.NewRecorder(), r)
			field, refused := errors.AsType[*wepay.FieldError](err)
			if refused != row.refused || refused && (field.Field != "Content-Type" || newFailure(err).Errcode != codeParameter) {
				t.Errorf("got %v", err)
			}
		})
	}
}

// FuzzRequest demands that a body is one object of which each value comes as
// it stands there, and that nothing in it makes fields that nobody gave.
func FuzzRequest(f *testing.F) {
	for _, body := range []string{
		"", "{}", "null", `{"id":"1","fee":1200,"body":"袜子","openid":"o"}`, `{"merchant":"shop","mchId":1}`, `{"fee":1,"fee":2}`,
		`{"detail":{"a":[1,{}]},"attach":null,"x":true}`, `{"a":1e5,"b":"\ud800"}`, `{"id":"1","out_trade_no":"2"}`, "{\"a\":\n 1 }", `{"a":1}{}`,
	} {
		f.Add([]byte(body))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		r := httptest.NewRequest(http.MethodPost, "/", bytes.NewReader(body))
		got, err := readRequest(httptest.NewRecorder(), r)
		if err != nil {
			if f := newFailure(err); f.Errcode != codeParameter {
				t.Errorf("errcode %d of %v", f.Errcode, err)
			}
			return
		}
		var members map[string]json.RawMessage
		if len(bytes.TrimSpace(body)) > 0 && json.Unmarshal(body, &members) != nil {
			t.Fatal("accepted, but no JSON object")
		}
		s := got.selector
		selects := map[string]string{"merchant": s.Name, "mchId": s.MchID, "appId": s.AppID, "env": string(s.Env)}
		for name, raw := range members {
			value, isSelector := selects[name]
			if !isSelector {
				value = got.values[name]
			}
			want := string(raw)
			switch raw[0] {
			case '"', 'n':
				want = ""
				_ = json.Unmarshal(raw, &want)
			case '{', '[':
				var compact bytes.Buffer
				_ = json.Compact(&compact, raw)
				want = compact.String()
			}
			if value != want {
				t.Errorf("%q is %q, want %q", name, value, want)
			}
			delete(got.values, name)
		}
		if len(got.values) > 0 {
			t.Errorf("values that nobody gave: %q", got.values)
		}
	})
}
