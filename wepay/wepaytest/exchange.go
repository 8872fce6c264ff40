package wepaytest

import (
	"bytes"
	"crypto/subtle"
	"crypto/x509"
	"net/url"
	"slices"
	"time"

	"github.com/windsome/caddy-wepay/wepay"
	"github.com/windsome/caddy-wepay/wepay/apiv2"
)

// exchange is one request on its way through the checks that every call makes,
// in WeChat's order, and to what the call does. The server's lock is held all
// the while.
type exchange struct {
	server  *Server
	now     time.Time
	call    call
	sandbox bool
	in      wepay.Fields
	json    string            // the body of a request of API v3, "" of one of API v2
	cert    *x509.Certificate // the client's, nil without one

	// Known once the merchant is, and only then can a reply be signed.
	account  *account
	books    *books
	key      string
	signType wepay.SignType

	nested string // XML that a call has its reply end with
	bill   *bill  // what a call has for its reply
}

// admit says why a request is not the merchant's, or not well formed.
func (x *exchange) admit() *refusal {
	for _, check := range []func() *refusal{
		x.knowParams, x.findAccount, x.checkCertificate, x.checkNonce, x.checkSignature,
		func() *refusal { return x.account.belongs(x.in, x.call.identity) },
		func() *refusal { return x.call.params.check(x.in) },
	} {
		if refused := check(); refused != nil {
			return refused
		}
	}
	return nil
}

func (x *exchange) knowParams() *refusal {
	also := [][]string{x.call.identity.names(), signed}
	if x.call.hasSignType() {
		also = append(also, []string{"sign_type"})
	}
	return x.call.params.know(x.in, also...)
}

func (x *exchange) findAccount() *refusal {
	name := x.call.identity.mchID
	mchID := x.in.Get(name)
	if mchID == "" {
		return fail("缺少参数" + name)
	}
	a, found := x.server.accounts[mchID]
	if !found {
		return fail("MCHID_NOT_EXIST 商户号不存在")
	}
	x.account, x.books, x.key = a, &a.real, a.Key
	if x.sandbox {
		x.books, x.key = &a.sandbox, a.currentSandboxKey(x.now)
	}
	return nil
}

func (x *exchange) checkCertificate() *refusal {
	if !x.call.certificate {
		return nil
	}
	return x.server.authority.check(x.cert, x.account.MchID, x.now)
}

func (x *exchange) checkNonce() *refusal {
	switch value := x.in.Get("nonce_str"); {
	case value == "":
		return fail("缺少参数nonce_str")
	case len(value) > 32:
		return fail("nonce_str参数长度有误")
	case !nonce(value):
		return fail("nonce_str参数格式错误")
	default:
		return nil
	}
}

// checkSignature takes exactly the algorithm that sign_type names, MD5 without
// one, and upper-case hex.
func (x *exchange) checkSignature() *refusal {
	signType := wepay.SignType(x.in.Get("sign_type"))
	switch {
	case signType == "" && x.call.nameSign:
		return lacks("sign_type")
	case signType == "":
		signType = wepay.MD5
	}
	allowed := x.call.signTypes
	if x.sandbox {
		allowed = onlyMD5
	}
	if !slices.Contains(allowed, signType) {
		return fail("sign_type参数格式错误")
	}
	sign := x.in.Get("sign")
	if sign == "" {
		return fail("缺少参数sign")
	}
	in, refused := x.decoded()
	if refused != nil {
		return refused
	}
	// Before the sandbox's key is issued no signature is right.
	right := apiv2.Sign(in, signType, x.key)
	if x.key == "" || subtle.ConstantTimeCompare([]byte(sign), []byte(right)) != 1 {
		if x.sandbox {
			return failAs("SIGN_ERROR", "沙箱验证签名失败")
		}
		return failAs("SIGN_ERROR", "签名错误")
	}
	x.in, x.signType = in, signType
	return nil
}

// decoded is the request as it was signed: where one parameter is sent
// URL-encoded, with its value as it was before. One that was not encoded is
// refused, for its signature would be right.
func (x *exchange) decoded() (wepay.Fields, *refusal) {
	name := x.call.encoded
	value := x.in.Get(name)
	if name == "" || value == "" {
		return x.in, nil
	}
	raw, err := url.QueryUnescape(value)
	if err != nil || !alphanumeric(value, "-_.~%+*") {
		return nil, fail(name + "参数格式错误")
	}
	in := x.in.Clone()
	in.Set(name, raw)
	return in, nil
}

// read decodes a request's body.
func read(body []byte) (wepay.Fields, *refusal) {
	if len(bytes.TrimSpace(body)) == 0 {
		return nil, failAs("POST_DATA_EMPTY", "post数据为空")
	}
	in, err := apiv2.Decode("xml", body)
	if err != nil {
		return nil, failAs("XML_ERROR", "XML格式错误")
	}
	return in, nil
}
