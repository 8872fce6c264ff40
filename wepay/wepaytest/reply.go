package wepaytest

import (
	"bytes"
	"cmp"
	"crypto/rand"
	"fmt"
	"net/http"
	"strconv"
	"strings"

	"github.com/windsome/caddy-wepay/wepay"
	"github.com/windsome/caddy-wepay/wepay/apiv2"
)

// refusal is WeChat's reason for not processing a request.
type refusal struct {
	code    string // err_code; "": return_code is FAIL
	message string // err_code_des or return_msg

	// cause is the err_code of a refusal without one, for the calls that name
	// one even then.
	cause string
}

// fail refuses a request that WeChat cannot read or trust. The reply is not
// signed.
func fail(message string) *refusal { return failAs("PARAM_ERROR", message) }

func failAs(cause, message string) *refusal { return &refusal{message: message, cause: cause} }

// refuse returns a refusal with a signed reply.
func refuse(code, message string) *refusal { return &refusal{code: code, message: message} }

func lacks(name string) *refusal { return refuse("LACK_PARAMS", "缺少参数"+name) }

// reply is one answer before it is written out.
type reply struct {
	status int
	page   string // the title of an HTML page instead of the reply
	fields wepay.Fields
	nested string // XML after the fields
	json   []byte // instead of the reply
	bill   *bill  // instead of the reply

	// Of API v3, whose replies are signed in their headers.
	contentType string
	header      http.Header
	v3          *v3seal

	key      string // the reply is signed with; "": it is not signed
	signType wepay.SignType
}

// page answers as the web server before WeChat Pay does.
func page(status int, title string) reply { return reply{status: status, page: title} }

// failed is the reply to what could not be read or trusted.
func failed(message string) reply {
	return reply{status: http.StatusOK, fields: wepay.NewFields(map[string]string{
		"return_code": "FAIL", "return_msg": message,
	})}
}

// reply makes the reply of a result, with the fields of all replies.
func (x *exchange) reply(out wepay.Fields, refused *refusal) reply {
	if refused != nil {
		return x.refuse(refused)
	}
	if x.bill != nil {
		return reply{status: http.StatusOK, bill: x.bill}
	}
	r := x.answered(out)
	r.nested = x.nested
	if x.call.form != talkOnly {
		r.fields.Set("result_code", "SUCCESS")
	}
	return x.seal(r)
}

// answered has what replies to a request that was read have.
func (x *exchange) answered(out wepay.Fields) reply {
	fields := out.Clone()
	fields.Set("return_code", "SUCCESS")
	fields.Set("return_msg", "OK")
	for _, name := range x.call.identity.names() {
		if value := x.in.Get(name); value != "" {
			fields.Set(name, value)
		}
	}
	return reply{status: http.StatusOK, fields: fields}
}

// seal has a reply signed if the call's is.
func (x *exchange) seal(r reply) reply {
	if x.call.unsigned {
		return r
	}
	r.fields.Set("nonce_str", rand.Text())
	r.key, r.signType = x.key, x.signType
	if r.signType == "" {
		r.signType = wepay.MD5
	}
	return r
}

// refuse makes the reply of a refusal, in the call's own form.
func (x *exchange) refuse(refused *refusal) reply {
	switch x.call.form {
	case mixed:
		return refused.inOne("err_code")
	case risky:
		return refused.inOne("error_code")
	case billed:
		return refused.forBill()
	}
	if refused.code == "" || x.call.form == talkOnly || x.key == "" {
		return failed(refused.message)
	}
	r := x.answered(nil)
	r.fields.Set("result_code", "FAIL")
	r.fields.Set("err_code", refused.code)
	r.fields.Set("err_code_des", refused.message)
	return x.seal(r)
}

// inOne reports a refusal in both layers, as payouts do: return_code FAIL with
// result_code FAIL and a code. A missing parameter has the code of a wrong one.
func (refused *refusal) inOne(name string) reply {
	code := refused.code
	if code == "" {
		code = refused.cause
	}
	if code == "LACK_PARAMS" {
		code = "PARAM_ERROR"
	}
	r := failed(refused.message)
	if code != "" {
		r.fields.Set("result_code", "FAIL")
		r.fields.Set(name, code)
		r.fields.Set(name+"_des", refused.message)
	}
	return r
}

// billRefusals are downloadbill's words and numbers.
// Source: WeChat Pay, 下载交易账单; the numbers are told by those who met them.
var billRefusals = map[string]struct{ message, code string }{
	noBill:            {"No Bill Exist", "20002"},
	billCreating:      {"Bill Creating", "20003"},
	"SYSTEMERROR":     {"SYSTEMERROR", "20100"},
	"LACK_PARAMS":     {"missing parameter", "20001"},
	"SIGN_ERROR":      {"SIGN ERROR", "20001"},
	"XML_ERROR":       {"data format error", "20001"},
	"POST_DATA_EMPTY": {"empty post data", "20001"},
}

// forBill tells a refusal in the words that downloadbill has.
func (refused *refusal) forBill() reply {
	told, found := billRefusals[cmp.Or(refused.code, refused.cause)]
	switch {
	case found:
	case refused.code == "" && refused.cause == "": // a fault's
		return failed(refused.message)
	case strings.Contains(refused.message, "bill_type"):
		told.message, told.code = "invalid bill_type", "20001"
	case strings.Contains(refused.message, "bill_date"):
		told.message, told.code = "invalid bill_date", "20001"
	case strings.Contains(refused.message, "tar_type"):
		told.message, told.code = "invalid tar_type, Only GZIP supported", "20001"
	case refused.code == "" || refused.code == "PARAM_ERROR":
		told.message, told.code = "invalid parameter", "20001"
	default:
		told.message = refused.code
	}
	r := failed(told.message)
	if told.code != "" {
		r.fields.Set("error_code", told.code)
	}
	return r
}

// write returns a reply's bytes and their type.
func (r reply) write() (body []byte, contentType string) {
	switch {
	case r.page != "":
		return fmt.Appendf(nil, "<html>\r\n<head><title>%[1]s</title></head>\r\n<body>\r\n"+
			"<center><h1>%[1]s</h1></center>\r\n<hr><center>nginx</center>\r\n</body>\r\n</html>\r\n", r.page), "text/html"
	case r.json != nil:
		return r.json, cmp.Or(r.contentType, "text/plain")
	case r.bill != nil:
		var b bytes.Buffer
		_ = r.bill.write(&b) // a buffer takes everything
		return b.Bytes(), "text/plain"
	}
	if r.key != "" {
		r.fields.Set("sign", apiv2.Sign(r.fields, r.signType, r.key))
	}
	return encode("xml", r.fields, r.nested), "text/xml"
}

// plain are the fields that WeChat writes without CDATA.
var plain = map[string]bool{"total_fee": true, "settlement_total_fee": true, "coupon_fee": true}

// encode writes a message as WeChat does: a field a line, values in CDATA, except a few
// numbers and empty values, and the nested XML at the end.
func encode(root string, fields wepay.Fields, nested string) []byte {
	var b bytes.Buffer
	b.WriteString("<" + root + ">")
	for i, field := range fields {
		if i > 0 {
			b.WriteByte('\n')
		}
		value := field.Value
		if value != "" && !plain[field.Name] {
			value = "<![CDATA[" + sections.Replace(value) + "]]>"
		}
		fmt.Fprintf(&b, "<%s>%s</%[1]s>", field.Name, value)
	}
	b.WriteString(nested + "\n</" + root + ">")
	return b.Bytes()
}

// sections splits a CDATA section where it cannot hold a value: at its own end
// and at a carriage return, which a reader would take for a line feed.
var sections = strings.NewReplacer("]]>", "]]]]><![CDATA[>", "\r", "]]>&#13;<![CDATA[")

func text(n int64) string { return strconv.FormatInt(n, 10) }
