package wepaytest

import (
	"bytes"
	"cmp"
	"crypto/rand"
	"encoding/json"
	"net/http"
	"time"
)

// v3refusal is WeChat's reason for not processing a request of API v3.
type v3refusal struct {
	status        int
	code, message string
	detail        any  // an object, but for a fault's
	unsigned      bool // the reply is
}

// invalid refuses a request for its form.
func invalid(message string) *v3refusal {
	return &v3refusal{status: http.StatusBadRequest, code: "PARAM_ERROR", message: message}
}

// wrong refuses one value of a request.
func wrong(location, field string, value any, issue string) *v3refusal {
	refused := invalid("参数错误: " + field + " " + issue)
	detail := object{"field": field, "issue": issue, "location": location}
	if value != nil {
		detail["value"] = value
	}
	refused.detail = detail
	return refused
}

// invalidRequest refuses what breaks a rule.
func invalidRequest(message string) *v3refusal {
	return &v3refusal{status: http.StatusBadRequest, code: "INVALID_REQUEST", message: message}
}

func absent(code, message string) *v3refusal {
	return &v3refusal{status: http.StatusNotFound, code: code, message: message}
}

// unauthorized refuses a request with a wrong signature.
func unauthorized(message string) *v3refusal {
	return &v3refusal{status: http.StatusUnauthorized, code: "SIGN_ERROR", message: message, unsigned: true}
}

func broken() *v3refusal {
	return &v3refusal{status: http.StatusInternalServerError, code: "SYSTEM_ERROR", message: "系统异常，请稍后重试"}
}

// v3codes are the codes of API v2 as API v3 has them.
// Source: WeChat Pay, the tables of error codes of each call (API v3).
var v3codes = map[string]struct {
	status int
	code   string
}{
	"ORDERPAID":             {http.StatusBadRequest, "ORDERPAID"},
	"ORDERCLOSED":           {http.StatusBadRequest, "ORDER_CLOSED"},
	"ORDERREVERSED":         {http.StatusBadRequest, "ORDER_REVERSED"},
	"AUTHCODEEXPIRE":        {http.StatusBadRequest, "AUTH_CODE_EXPIRE"},
	"AUTH_CODE_INVALID":     {http.StatusBadRequest, "AUTH_CODE_INVALID"},
	"INVALID_TRANSACTIONID": {http.StatusBadRequest, "INVALID_TRANSACTIONID"},
	"APPID_MCHID_NOT_MATCH": {http.StatusBadRequest, "APPID_MCHID_NOT_MATCH"},
	"LACK_PARAMS":           {http.StatusBadRequest, "PARAM_ERROR"},
	"PARAM_ERROR":           {http.StatusBadRequest, "PARAM_ERROR"},
	noBill:                  {http.StatusBadRequest, "NO_STATEMENT_EXIST"},
	billCreating:            {http.StatusBadRequest, "STATEMENT_CREATING"},
	"USERPAYING":            {http.StatusAccepted, "USERPAYING"},
	"OUT_TRADE_NO_USED":     {http.StatusForbidden, "OUT_TRADE_NO_USED"},
	"NOAUTH":                {http.StatusForbidden, "NO_AUTH"},
	"NOTENOUGH":             {http.StatusForbidden, "NOT_ENOUGH"},
	"TRADE_ERROR":           {http.StatusForbidden, "TRADE_ERROR"},
	"AMOUNT_OVERDUE":        {http.StatusForbidden, "RULE_LIMIT"},
	"ORDERNOTEXIST":         {http.StatusNotFound, "ORDER_NOT_EXIST"},
	"REFUNDNOTEXIST":        {http.StatusNotFound, "RESOURCE_NOT_EXISTS"},
	"RESOURCE_NOT_EXISTS":   {http.StatusNotFound, "RESOURCE_NOT_EXISTS"},
	"SYSTEMERROR":           {http.StatusInternalServerError, "SYSTEM_ERROR"},
	"NOTSUPORTCARD":         {http.StatusForbidden, "TRADE_ERROR"},
	"TRADE_STATE_ERROR":     {http.StatusBadRequest, "INVALID_REQUEST"},
	"REVERSE_EXPIRE":        {http.StatusBadRequest, "INVALID_REQUEST"},
}

// inV3 translates a refusal of API v2 into API v3's. One without a code there is an
// INVALID_REQUEST.
func inV3(refused *refusal) *v3refusal {
	if refused == nil {
		return nil
	}
	if as, found := v3codes[cmp.Or(refused.code, refused.cause)]; found {
		return &v3refusal{status: as.status, code: as.code, message: refused.message}
	}
	return invalidRequest(refused.message)
}

// v3seal signs a reply, without the server's lock.
type v3seal struct {
	key *wechatKey
	at  time.Time
}

// reply makes the reply of a result, or of a fault.
func (x *v3exchange) reply(f Fault, out object, refused *v3refusal) reply {
	switch f.Kind {
	case Refused, Failed:
		refused = broken()
		refused.status = cmp.Or(f.Status, refused.status)
		refused.code = cmp.Or(f.Code, refused.code)
		refused.message = cmp.Or(f.Message, refused.message)
		refused.detail = f.Detail
		refused.unsigned = f.Kind == Failed
	case Foreign:
		for _, name := range []string{"mchid", "sp_mchid", "mch_id"} {
			if _, found := out[name]; found {
				out[name] = "1999999999"
			}
		}
	case WrongHash:
		if _, found := out["hash_value"]; found {
			out["hash_value"] = "da39a3ee5e6b4b0d3255bfef95601890afd80709"
		}
	}
	if refused == nil && x.bill != nil {
		return reply{status: http.StatusOK, bill: x.bill}
	}
	r := reply{status: http.StatusOK, contentType: "application/json; charset=utf-8"}
	switch {
	case refused != nil:
		r.status, r.json = refused.status, []byte(jsonOf(refused.body()))
	case out == nil:
		r.status, r.json = http.StatusNoContent, []byte{}
	default:
		r.json = []byte(jsonOf(out))
	}
	if x.account != nil && (refused == nil || !refused.unsigned) && x.account.keyRing.public != nil {
		k, _ := x.account.keyRing.named(x.request.Header.Get("Wechatpay-Serial"), x.now)
		r.v3 = &v3seal{k, x.now}
	}
	return r
}

func (refused *v3refusal) body() object {
	body := object{"code": refused.code, "message": refused.message}
	if refused.detail != nil {
		body["detail"] = refused.detail
	}
	return body
}

// signed adds the headers that a reply of API v3 has, right or not.
func (r reply) signed(f Fault) reply {
	if f.Kind == HTML {
		return f.spoil(r)
	}
	r.header = http.Header{"Request-Id": {rand.Text()}}
	if r.v3 == nil {
		return r
	}
	header, err := f.sign(r.v3.key, r.json, r.v3.at)
	if err != nil {
		return page(http.StatusInternalServerError, "500 Internal Server Error") // RSA keys of our own can sign
	}
	for name, values := range header {
		r.header[name] = values
	}
	return r
}

// sign signs what WeChat says by API v3, as far as the fault lets it.
func (f Fault) sign(k *wechatKey, body []byte, now time.Time) (http.Header, error) {
	switch f.Kind {
	case NoSignature:
		return http.Header{}, nil
	case WrongSignature:
		key, err := wechatKeys.get(wrongWechatKey)
		if err != nil {
			return nil, err
		}
		k = &wechatKey{id: k.id, key: key}
	case Skewed:
		now = now.Add(f.Delay)
	}
	header, err := k.sign(body, now)
	if err != nil {
		return nil, err
	}
	name := http.CanonicalHeaderKey(f.Header)
	switch f.Kind {
	case Probe:
		header["Wechatpay-Signature"] = []string{"WECHATPAY/SIGNTEST/" + header.Get("Wechatpay-Signature")}
	case HeaderMissing:
		delete(header, name)
	case HeaderDoubled:
		header[name] = append(header[name], header[name]...)
	case HeaderChanged:
		header[name] = []string{f.Message}
	}
	return header, nil
}

// encodeV3 writes a resource as WeChat does: in one line, without escaping what
// HTML would need escaped.
func encodeV3(value any) ([]byte, error) {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(value); err != nil {
		return nil, err
	}
	return bytes.TrimSuffix(b.Bytes(), []byte("\n")), nil
}
