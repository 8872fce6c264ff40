package wepaytest

import (
	"crypto/x509"
	"errors"
	"io"
	"net/http"
	"net/url"
	"strings"

	"github.com/windsome/caddy-wepay/wepay"
)

const (
	// v3Prefix is where API v3 begins.
	v3Prefix = "/v3/"
	// maxV3Request bounds a request's body: a batch of 1000 transfers, each
	// with an encrypted name, has 600 KB.
	maxV3Request = 1 << 20
)

// v3exchange is a request of API v3. What both APIs do is done by the exchange in it,
// whose fields are the request under API v2's names.
type v3exchange struct {
	exchange
	call        v3call
	request     *http.Request
	raw         []byte            // the body
	certificate *x509.Certificate // the merchant's, which signed

	path, query, body object
}

// handleV3 answers one request of API v3, as handle does.
func (s *Server) handleV3(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxV3Request))
	var tooLarge *http.MaxBytesError
	if err != nil && !errors.As(err, &tooLarge) {
		return // the client is gone in the middle of its request
	}
	f, answer := s.answerV3(r, body, tooLarge != nil)
	s.send(w, r, f, answer.signed(f))
}

// answerV3 processes a request and returns the reply.
func (s *Server) answerV3(r *http.Request, body []byte, tooLarge bool) (Fault, reply) {
	var certificate *x509.Certificate
	if r.TLS != nil && len(r.TLS.PeerCertificates) > 0 {
		certificate = r.TLS.PeerCertificates[0]
	}
	var fields wepay.Fields
	if r.Method == http.MethodGet {
		fields = single(r.URL.Query())
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	now := s.clock.Now()
	s.record(Request{now, r.Method, r.URL.Path, r.Header.Clone(), body, fields, certificate})
	call, path, found := findV3(r.Method, r.URL.EscapedPath())
	f := s.nextFault(r.URL.Path, call.path)
	switch {
	case !found:
		return f, page(http.StatusNotFound, "404 Not Found")
	case tooLarge:
		return f, page(http.StatusRequestEntityTooLarge, "413 Request Entity Too Large")
	}
	x := &v3exchange{exchange: exchange{server: s, now: now}, call: call, request: r, raw: body, path: path}
	refused := x.admit()
	var out object
	if refused == nil && !f.NoEffect {
		out, refused = call.do(x)
	}
	return f, x.reply(f, out, refused)
}

// findV3 finds the call of a method and an escaped path, and the path's parameters.
func findV3(method, escaped string) (v3call, object, bool) {
	for _, call := range v3calls {
		if call.method != method {
			continue
		}
		if path, found := call.match(escaped); found {
			return call, path, true
		}
	}
	return v3call{}, nil, false
}

// match compares a path by segments; {name} matches any segment.
func (c v3call) match(escaped string) (object, bool) {
	parts, pattern := strings.Split(escaped, "/"), strings.Split(c.path, "/")
	if len(parts) != len(pattern) {
		return nil, false
	}
	path := object{}
	for i, part := range parts {
		name, variable := strings.CutPrefix(pattern[i], "{")
		if !variable {
			if part != pattern[i] {
				return nil, false
			}
			continue
		}
		value, err := url.PathUnescape(part)
		if err != nil || value == "" {
			return nil, false
		}
		path[strings.TrimSuffix(name, "}")] = value
	}
	return path, true
}

// admit says why a request is not the merchant's, or not well formed.
func (x *v3exchange) admit() *v3refusal {
	for _, check := range []func() *v3refusal{
		x.authorize, x.makeKeys, x.checkHeaders, x.read, x.identify, x.checkSerial,
	} {
		if refused := check(); refused != nil {
			return refused
		}
	}
	return nil
}

func (x *v3exchange) makeKeys() *v3refusal {
	if _, err := x.server.keys(x.account); err != nil {
		return broken()
	}
	return nil
}

// read takes the query and the body apart, and translates both.
func (x *v3exchange) read() *v3refusal {
	values, err := url.ParseQuery(x.request.URL.RawQuery)
	if err != nil {
		return invalid("请求参数格式错误")
	}
	x.query, x.body = object{}, object{}
	for name, all := range values {
		if len(all) != 1 {
			return wrong("query", "/"+name, all[0], "参数重复")
		}
		x.query[name] = all[0]
	}
	if refused := x.call.query.check(x.query, "query", ""); refused != nil {
		return refused
	}
	if refused := x.readBody(); refused != nil {
		return refused
	}
	x.call.query.translate(x.query, &x.in)
	x.call.body.translate(x.body, &x.in)
	for name, value := range x.path {
		x.in.Set(name, value.(string)) // match has put strings there
	}
	return nil
}

func (x *v3exchange) readBody() *v3refusal {
	if x.call.body == nil {
		if len(x.raw) > 0 {
			return invalid("请求不应有请求体")
		}
		return nil
	}
	if len(x.raw) == 0 {
		return invalid("请求体为空")
	}
	body, issue := parse(x.raw)
	if issue != "" {
		return invalid(issue)
	}
	x.body, x.json = body, jsonOf(body)
	return x.call.body.check(body, "body", "")
}

// identify wants the request to be about the merchant that signed it, and its
// appids and sub-merchant to be the merchant's.
func (x *v3exchange) identify() *v3refusal {
	if mchID, named := x.in.Lookup("mch_id"); named && mchID != x.account.MchID {
		return invalid("Http头Authorization中的mchid与请求参数中的商户号不一致")
	}
	x.in.Set("mch_id", x.account.MchID)
	if x.call.as == anyone {
		return nil
	}
	if partner := len(x.account.SubMerchants) > 0; x.call.as == asPartner && !partner || x.call.as == asDirect && partner {
		return &v3refusal{status: http.StatusForbidden, code: "NO_AUTH", message: "商户无此接口权限"}
	}
	of := withoutAppID
	if _, named := x.in.Lookup("appid"); named {
		of = common
	}
	return inV3(x.account.belongs(x.in, of))
}

// checkSerial requires Wechatpay-Serial, if present, to name a key that can sign the
// reply. A merchant with only the public key has to name it, except for calls with
// unsigned replies and for certificates.
func (x *v3exchange) checkSerial() *v3refusal {
	values := x.request.Header.Values("Wechatpay-Serial")
	if len(values) > 1 {
		return invalid("Http头Wechatpay-Serial重复")
	}
	serial := x.request.Header.Get("Wechatpay-Serial")
	if serial == "" && x.call.anySerial {
		return nil
	}
	if _, found := x.account.keyRing.named(serial, x.now); !found {
		if serial == "" {
			return invalid("Http头缺少Wechatpay-Serial")
		}
		return invalid("平台证书序列号Wechatpay-Serial错误")
	}
	return nil
}

// decryptV3 reads a sensitive field with the key that the request names.
func (x *v3exchange) decryptV3(value string) (string, *v3refusal) {
	serial := x.request.Header.Get("Wechatpay-Serial")
	p := &x.account.keyRing
	if serial == "" || strings.HasPrefix(serial, publicKeyPrefix) && p.mode == ByCertificate {
		return "", invalid("平台证书序列号Wechatpay-Serial错误")
	}
	k, found := p.named(serial, x.now)
	if !found {
		return "", invalid("平台证书序列号Wechatpay-Serial错误")
	}
	plain, ok := k.open(value)
	if !ok || plain == "" {
		return "", invalid("敏感信息解密失败")
	}
	return plain, nil
}

// encryptV3 writes a sensitive field for the merchant, who signed with the key
// that opens it.
func (x *v3exchange) encryptV3(value string) (string, *v3refusal) {
	text, err := sealFor(x.certificate, value)
	if err != nil {
		return "", broken()
	}
	return text, nil
}

// signedBody is the part of the body that is signed.
func (x *v3exchange) signedBody() []byte { return x.raw }
