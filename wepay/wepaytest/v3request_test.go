package wepaytest_test

import (
	"strings"
	"testing"
	"time"

	"github.com/windsome/caddy-wepay/wepay/wepaytest"
)

// Whatever is wrong with who sends a request is SIGN_ERROR, and nothing of it is
// done.
func TestV3Authorization(t *testing.T) {
	s := newV3Shop(t)
	if err := s.wechat.AddMerchant(wepaytest.Merchant{MchID: "1900000110", AppIDs: []string{appID}, APIv3Key: apiV3Key}); err != nil {
		t.Fatal(err)
	}
	other, err := s.wechat.Issue("1900000110")
	if err != nil {
		t.Fatal(err)
	}
	revoked, err := s.wechat.Issue(mchID)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.wechat.RevokeCertificate(mchID, revoked.Serial); err != nil {
		t.Fatal(err)
	}
	resign := func(change func(*message)) func(*message) {
		return func(m *message) {
			change(m)
			s.sign(m)
		}
	}
	rewrite := func(old, replacement string) func(*message) {
		return func(m *message) {
			m.header.Set("Authorization", strings.Replace(m.header.Get("Authorization"), old, replacement, 1))
		}
	}
	for name, spoil := range map[string]func(*message){
		"none":                  func(m *message) { m.header.Del("Authorization") },
		"twice":                 func(m *message) { m.header.Add("Authorization", m.header.Get("Authorization")) },
		"another scheme":        rewrite("SHA256-RSA2048", "SM2-WITH-SM3"),
		"a pair missing":        rewrite(`mchid="`+mchID+`",`, ""),
		"a pair twice":          rewrite("mchid=", `mchid="`+mchID+`",mchid=`),
		"a pair unknown":        rewrite("mchid=", `body="",mchid=`),
		"no quotes":             rewrite(`"`+mchID+`"`, mchID),
		"the body changed":      func(m *message) { m.body = strings.Replace(m.body, "100", "101", 1) },
		"a byte more":           func(m *message) { m.body += "\n" },
		"the path changed":      func(m *message) { m.uri = strings.Replace(m.uri, "jsapi", "native", 1) },
		"a query more":          func(m *message) { m.uri += "?a=b" },
		"the method changed":    resign(func(m *message) { m.method = "post" }),
		"unknown merchant":      resign(func(m *message) { m.mchID = "1900000999" }),
		"another's serial":      resign(func(m *message) { m.serial = other.Serial }),
		"revoked":               resign(func(m *message) { m.serial = revoked.Serial }),
		"WeChat's serial":       resign(func(m *message) { m.serial, _ = s.publicKey() }),
		"stale":                 resign(func(m *message) { m.at = start.Add(-301 * time.Second) }),
		"ahead":                 resign(func(m *message) { m.at = start.Add(301 * time.Second) }),
		"milliseconds":          resign(func(m *message) { m.at = time.Unix(start.UnixMilli(), 0) }),
		"a signature cut":       rewrite(`==",`, `=",`),
		"base64url":             rewrite("signature=\"", "signature=\"_"),
		"another's certificate": resign(func(m *message) { m.mchID = "1900000110" }),
	} {
		t.Run(name, func(t *testing.T) {
			shop := *s
			shop.t = t
			m := shop.message("POST", jsapiPath, s.jsapi("ORDER-0001", 100))
			spoil(&m)
			if m.method == "post" {
				m.method = "POST"
			}
			shop.denied(401, "SIGN_ERROR", m)
			if _, found := s.wechat.Order(mchID, "ORDER-0001"); found {
				t.Error("the order was placed")
			}
		})
	}
}

func TestV3SignError(t *testing.T) {
	s := newV3Shop(t)
	m := s.message("POST", jsapiPath, s.jsapi("ORDER-0001", 100))
	m.body = strings.Replace(m.body, "100", "101", 1)
	checkAt(t, s.denied(401, "SIGN_ERROR", m).body, map[string]string{
		"detail.issue": "sign not match", "detail.sign_information.method": "POST", "detail.sign_information.url": jsapiPath,
	})
	for _, at := range []time.Time{start.Add(-300 * time.Second), start.Add(300 * time.Second)} {
		m := s.message("GET", "/v3/certificates", nil)
		m.at = at
		s.sign(&m)
		if a := s.send(m); a.status != 200 {
			t.Errorf("at %s: %d %s", at, a.status, a.raw)
		}
	}
	s.clock.Advance(6 * 365 * 24 * time.Hour)
	s.denied(401, "SIGN_ERROR", s.message("GET", "/v3/certificates", nil)) // the certificate has expired
}

func TestV3Headers(t *testing.T) {
	s := newV3Shop(t)
	for name, c := range map[string]struct{ header, value string }{
		"no User-Agent":       {"User-Agent", ""},
		"no Accept":           {"Accept", ""},
		"no Content-Type":     {"Content-Type", ""},
		"a form":              {"Content-Type", "application/x-www-form-urlencoded"},
		"another charset":     {"Content-Type", "application/json; charset=gbk"},
		"compressed":          {"Content-Encoding", "gzip"},
		"an unknown serial":   {"Wechatpay-Serial", strings.Repeat("A", 40)},
		"the merchant's own":  {"Wechatpay-Serial", s.credential.Serial},
		"not even hex digits": {"Wechatpay-Serial", "x"},
	} {
		t.Run(name, func(t *testing.T) {
			shop := *s
			shop.t = t
			m := shop.message("POST", jsapiPath, s.jsapi("ORDER-0001", 100))
			m.header[c.header] = []string{c.value}
			shop.denied(400, "PARAM_ERROR", m)
		})
	}
	m := s.message("POST", jsapiPath, s.jsapi("ORDER-0001", 100))
	m.header.Set("Content-Type", "application/json; charset=UTF-8")
	if a := s.send(m); a.status != 200 {
		t.Errorf("with a charset: %d %s", a.status, a.raw)
	}
}

func TestV3Values(t *testing.T) {
	s := newV3Shop(t)
	order := s.jsapi("ORDER-0001", 100)
	raw := func(old, replacement string) string {
		text := s.message("POST", jsapiPath, order).body
		if !strings.Contains(text, old) {
			t.Fatalf("no %s in %s", old, text)
		}
		return strings.Replace(text, old, replacement, 1)
	}
	for name, c := range map[string]struct {
		body  any
		field string
	}{
		"unknown member":         {changed(order, "mch_id", mchID), "/mch_id"},
		"unknown member inside":  {changed(order, "amount.fee", 1), "/amount/fee"},
		"no appid":               {changed(order, "appid", nil), "/appid"},
		"no payer":               {changed(order, "payer", nil), "/payer"},
		"empty description":      {changed(order, "description", ""), "/description"},
		"no total":               {changed(order, "amount.total", nil), "/amount/total"},
		"total of nothing":       {changed(order, "amount.total", 0), "/amount/total"},
		"total below nothing":    {changed(order, "amount.total", -1), "/amount/total"},
		"total as text":          {changed(order, "amount.total", "100"), "/amount/total"},
		"total in parts":         {changed(order, "amount.total", 1.5), "/amount/total"},
		"total with an exponent": {raw("100", "1e2"), "/amount/total"},
		"number as number":       {changed(order, "out_trade_no", 20260101), "/out_trade_no"},
		"amount as list":         {changed(order, "amount", []int{1}), "/amount"},
		"truth as text":          {changed(order, "support_fapiao", "true"), "/support_fapiao"},
		"another currency":       {changed(order, "amount.currency", "USD"), "/amount/currency"},
		"number too short":       {changed(order, "out_trade_no", "12345"), "/out_trade_no"},
		"number too long":        {changed(order, "out_trade_no", strings.Repeat("1", 33)), "/out_trade_no"},
		"number with a dot":      {changed(order, "out_trade_no", "ORDER.0001"), "/out_trade_no"},
		"attach too long":        {changed(order, "attach", strings.Repeat("袜", 129)), "/attach"},
		"description too long":   {changed(order, "description", strings.Repeat("袜", 128)), "/description"},
		"a URL with a query":     {changed(order, "notify_url", "https://pay.example.cn/?a=b"), "/notify_url"},
		"a time without a zone":  {changed(order, "time_expire", "2026-01-02T00:00:00"), "/time_expire"},
		"an unknown limit":       {changed(order, "limit_pay", []string{"no_debit"}), "/limit_pay"},
		"goods without a number": {changed(order, "detail", obj{"goods_detail": []obj{{"quantity": 1, "unit_price": 1}}}), "/detail/goods_detail/0/merchant_goods_id"},
		"an emoji":               {changed(order, "description", "🧦"), ""},
		"an emoji escaped":       {raw("福州路店 - 袜子", `\ud83e\udde6`), ""},
		"null":                   {raw(`"shelf \u003c7\u003e"`, "null"), ""},
		"a member twice":         {raw(`"attach"`, `"appid":"x","attach"`), ""},
		"not UTF-8":              {raw("袜", "\xe8"), ""},
		"more behind it":         {raw("}}", "}}{}"), ""},
		"cut off":                {raw("}}", "}"), ""},
		"a list":                 {"[]", ""},
		"very deep":              {strings.Repeat(`{"a":`, 500) + "1" + strings.Repeat("}", 500), ""},
		"nothing":                {"", ""},
		"another merchant":       {changed(order, "mchid", "1900000110"), ""},
	} {
		t.Run(name, func(t *testing.T) {
			shop := *s
			shop.t = t
			m := shop.message("POST", jsapiPath, c.body)
			checkAt(t, shop.denied(400, "PARAM_ERROR", m).body, map[string]string{"detail.field": c.field})
			if _, found := s.wechat.Order(mchID, "ORDER-0001"); found {
				t.Error("the order was placed")
			}
		})
	}
}

func TestV3Parameters(t *testing.T) {
	s := newV3Shop(t)
	order := s.jsapi("ORDER-0001", 100)
	s.denied(400, "APPID_MCHID_NOT_MATCH", s.message("POST", jsapiPath, changed(order, "appid", "wxother")))
	s.granted("POST", jsapiPath, changed(order, "attach", strings.Repeat("袜", 128)))
	s.denied(403, "OUT_TRADE_NO_USED", s.message("POST", jsapiPath, order))
	const query = "/v3/pay/transactions/out-trade-no/ORDER-0001"
	for _, uri := range []string{query, query + "?mchid=1900000110", query + "?mchid=" + mchID + "&mchid=" + mchID, query + "?mchid=" + mchID + "&x=1"} {
		s.denied(400, "PARAM_ERROR", s.message("GET", uri, nil))
	}
}

func TestV3Paths(t *testing.T) {
	s := newV3Shop(t)
	for _, m := range []message{
		s.message("POST", "/v3/nothing", obj{}),
		s.message("GET", jsapiPath, nil),
		s.message("GET", "/v3/pay/transactions/out-trade-no/?mchid="+mchID, nil),
		s.message("GET", "/v3/pay/transactions/out-trade-no/a/b?mchid="+mchID, nil),
	} {
		if a := s.send(m); a.status != 404 || !strings.Contains(string(a.raw), "<html>") || a.header.Get("Wechatpay-Signature") != "" {
			t.Errorf("%s %s answers %d %s", m.method, m.uri, a.status, a.raw)
		}
	}
	s.granted("POST", jsapiPath, s.jsapi("ORDER|A*0001", 100))
	s.granted("GET", "/v3/pay/transactions/out-trade-no/ORDER%7CA%2A0001?mchid="+mchID, nil)
}

func TestV3Faults(t *testing.T) {
	for name, c := range map[string]struct {
		fault  wepaytest.Fault
		status int
		says   string // of the verification
	}{
		"probe":           {wepaytest.Fault{Kind: wepaytest.Probe}, 200, ""},
		"wrong signature": {wepaytest.Fault{Kind: wepaytest.WrongSignature}, 200, "verification error"},
		"no signature":    {wepaytest.Fault{Kind: wepaytest.NoSignature}, 200, "0 of"},
		"skewed":          {wepaytest.Fault{Kind: wepaytest.Skewed, Delay: time.Hour}, 200, "stale"},
		"header missing":  {wepaytest.Fault{Kind: wepaytest.HeaderMissing, Header: "Wechatpay-Serial"}, 200, "0 of"},
		"empty":           {wepaytest.Fault{Kind: wepaytest.EmptyBody}, 200, "verification error"},
		"truncated":       {wepaytest.Fault{Kind: wepaytest.TruncatedXML}, 200, "verification error"},
		"a page":          {wepaytest.Fault{Kind: wepaytest.HTML, Status: 502}, 502, "0 of"},
		"failed":          {wepaytest.Fault{Kind: wepaytest.Failed, Status: 503, Code: "SERVICE_UNAVAILABLE"}, 503, "0 of"},
	} {
		t.Run(name, func(t *testing.T) {
			s := newV3Shop(t)
			s.wechat.Misbehave(jsapiPath, c.fault)
			m := s.message("POST", jsapiPath, s.jsapi("ORDER-0001", 100))
			a := s.send(m)
			if err := s.verify(a.header, a.raw); a.status != c.status || err == nil || !strings.Contains(err.Error(), c.says) {
				t.Errorf("%d %s is verified as %v", a.status, a.raw, err)
			}
			if _, found := s.wechat.Order(mchID, "ORDER-0001"); !found {
				t.Error("the order was not placed")
			}
			s.granted("POST", jsapiPath, s.jsapi("ORDER-0001", 100)) // the fault was for one reply
		})
	}
	for kind, says := range map[wepaytest.FaultKind]string{wepaytest.Failed: "0 of", wepaytest.Refused: ""} {
		s := newV3Shop(t)
		s.wechat.Misbehave(jsapiPath, wepaytest.Fault{Kind: kind, Status: 400, Code: "PARAM_ERROR", Message: "参数错误", Detail: map[string]any{"field": []string{"a", "b"}}})
		a := s.send(s.message("POST", jsapiPath, s.jsapi("ORDER-0001", 100)))
		err := s.verify(a.header, a.raw)
		if string(a.raw) != `{"code":"PARAM_ERROR","detail":{"field":["a","b"]},"message":"参数错误"}` || a.status != 400 || says == "" && err != nil || says != "" && (err == nil || !strings.Contains(err.Error(), says)) {
			t.Errorf("a refusal of an odd shape: %d %s (%v)", a.status, a.raw, err)
		}
	}
	s := newV3Shop(t)
	s.wechat.Misbehave("/v3/pay/transactions/out-trade-no/{out_trade_no}/close", wepaytest.Fault{Kind: wepaytest.Refused, NoEffect: true})
	s.granted("POST", jsapiPath, s.jsapi("ORDER-0001", 100))
	s.denied(500, "SYSTEM_ERROR", s.message("POST", "/v3/pay/transactions/out-trade-no/ORDER-0001/close", obj{"mchid": mchID}))
	if o, _ := s.wechat.Order(mchID, "ORDER-0001"); o.TradeState != "NOTPAY" {
		t.Errorf("the order is %s", o.TradeState)
	}
}
