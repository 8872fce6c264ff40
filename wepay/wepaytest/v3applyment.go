package wepaytest

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"

	"github.com/windsome/caddy-wepay/wepay"
)

// applyment is a partner's application for a sub-merchant (进件).
type applyment struct {
	id      string
	request object // with what was encrypted opened
}

// v3ApplymentCalls are a partner's.
// Source: WeChat Pay, 特约商户进件: 提交申请单, 申请单号查询申请状态 and 业务申请编号查询申请状态.
var v3ApplymentCalls = []v3call{
	{
		method: http.MethodPost, path: "/v3/applyment4sub/applyment/", as: anyone,
		body: members{
			{name: "business_code", required: true, max: 124},
			{name: "contact_info", required: true, kind: free},
			{name: "subject_info", required: true, kind: free},
			{name: "business_info", required: true, kind: free},
			{name: "settlement_info", kind: free},
			{name: "bank_account_info", kind: free},
			{name: "addition_info", kind: free},
		},
		do: (*v3exchange).apply,
	},
	{method: http.MethodGet, path: "/v3/applyment4sub/applyment/business_code/{business_code}", as: anyone, do: (*v3exchange).queryApplyment},
	{method: http.MethodGet, path: "/v3/applyment4sub/applyment/applyment_id/{applyment_id}", as: anyone, do: (*v3exchange).queryApplyment},
}

// applymentSecrets are those members that have to be encrypted.
var applymentSecrets = []string{
	"contact_info.contact_name", "contact_info.contact_id_number", "contact_info.mobile_phone", "contact_info.contact_email",
	"subject_info.identity_info.id_card_info.id_card_name", "subject_info.identity_info.id_card_info.id_card_number",
	"subject_info.identity_info.id_card_info.id_card_address",
	"subject_info.identity_info.id_doc_info.id_doc_name", "subject_info.identity_info.id_doc_info.id_doc_number",
	"subject_info.identity_info.id_doc_info.id_doc_address",
	"subject_info.ubo_info_list.ubo_id_doc_name", "subject_info.ubo_info_list.ubo_id_doc_number", "subject_info.ubo_info_list.ubo_id_doc_address",
	"bank_account_info.account_name", "bank_account_info.account_number",
}

// apply opens what is encrypted, all of it, and keeps the application.
func (x *v3exchange) apply() (object, *v3refusal) {
	if len(x.account.SubMerchants) == 0 {
		return nil, &v3refusal{status: http.StatusForbidden, code: "NO_AUTH", message: "商户无此接口权限"}
	}
	code := x.body.text("business_code")
	if _, found := x.account.applyments[code]; found {
		return nil, invalidRequest("存在流程进行中的申请单，请检查是否重入")
	}
	if x.body.text("contact_info.contact_name") == "" || x.body.text("contact_info.mobile_phone") == "" {
		return nil, wrong("body", "/contact_info", nil, "缺少参数")
	}
	for _, path := range applymentSecrets {
		if refused := x.openText(x.body, path); refused != nil {
			return nil, refused
		}
	}
	a := &applyment{x.server.nextNumber("2000", x.now), x.body}
	x.account.applyments[code] = a
	return object{"applyment_id": json.Number(a.id)}, nil
}

// openText puts the plaintext in the place of a text at a path, which in a list is
// that of each element.
func (x *v3exchange) openText(in object, path string) *v3refusal {
	name, rest, nested := strings.Cut(path, ".")
	switch value := in[name].(type) {
	case string:
		plain, refused := x.decryptV3(value)
		if refused != nil {
			return refused
		}
		in[name] = plain
	case object:
		if nested {
			return x.openText(value, rest)
		}
	case []any:
		for _, element := range value {
			if inner, ok := element.(object); ok && nested {
				if refused := x.openText(inner, rest); refused != nil {
					return refused
				}
			}
		}
	}
	return nil
}

func (x *v3exchange) queryApplyment() (object, *v3refusal) {
	for code, a := range x.account.applyments {
		if code == x.path.text("business_code") || a.id == x.path.text("applyment_id") {
			return object{
				"business_code": code, "applyment_id": json.Number(a.id), "applyment_state": "APPLYMENT_STATE_AUDITING",
				"applyment_state_msg": "申请单审核中",
			}, nil
		}
	}
	return nil, absent("RESOURCE_NOT_EXISTS", "申请单不存在")
}

// Applyment returns a partner's application for a sub-merchant, as JSON with all that
// was encrypted opened. The error wraps wepay.ErrNoMerchant; nil: there is no such
// application.
func (s *Server) Applyment(mchID, businessCode string) (json.RawMessage, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	a, found := s.accounts[mchID]
	if !found {
		return nil, fmt.Errorf("reading an applyment of %q: %w", mchID, wepay.ErrNoMerchant)
	}
	if known := a.applyments[businessCode]; known != nil {
		return json.RawMessage(jsonOf(known.request)), nil
	}
	return nil, nil
}
