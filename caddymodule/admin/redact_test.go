package admin

import (
	"strings"
	"testing"
)

// Nothing that tells who somebody is is shown, wherever it stands in what either
// API has the order service get; all else is.
func TestRedact(t *testing.T) {
	for _, test := range []struct{ name, payload, want string }{
		{"payment", `{"openid":"oSECRET","sub_openid":"oSECRET","total_fee":"1"}`, `{"openid":"***","sub_openid":"***","total_fee":"1"}`},
		{"refund", `{"refund_recv_accout":"SECRET0403","refund_fee":"1"}`, `{"refund_fee":"1","refund_recv_accout":"***"}`},
		{"combined payment", `{"openid":"oSECRET","sub_openid_0":"oSECRET","sub_openid_12":"oSECRET","total_fee_0":"1"}`, `{"openid":"***","sub_openid_0":"***","sub_openid_12":"***","total_fee_0":"1"}`},
		{"profit sharing", `{"receiver_account":"oSECRET","receiver_amount":"1","receiver_type":"PERSONAL_OPENID"}`, `{"receiver_account":"***","receiver_amount":"1","receiver_type":"PERSONAL_OPENID"}`},
		{"transfer", `{"openid":"oSECRET","transfer_amount":"1"}`, `{"openid":"***","transfer_amount":"1"}`},
		{"payment as of API v3", `{"payer":{"openid":"oSECRET"},"amount":{"total":1}}`, `{"amount":{"total":1},"payer":{"openid":"***"}}`},
		{"payment of a partner's", `{"payer":{"sp_openid":"oSECRET","sub_openid":"oSECRET"}}`, `{"payer":{"sp_openid":"***","sub_openid":"***"}}`},
		{"combined payment as of API v3", `{"combine_payer_info":{"openid":"oSECRET"},"sub_orders":[{"sub_openid":"oSECRET","mchid":"1"}]}`, `{"combine_payer_info":{"openid":"***"},"sub_orders":[{"mchid":"1","sub_openid":"***"}]}`},
		{"refund as of API v3", `{"user_received_account":"SECRET0403"}`, `{"user_received_account":"***"}`},
		{"profit sharing as of API v3", `{"receiver":{"account":"oSECRET","type":"PERSONAL_OPENID"}}`, `{"receiver":{"account":"***","type":"PERSONAL_OPENID"}}`},
		{"names", `{"user_name":"SECRET","re_user_name":"SECRET","real_name":"SECRET","bank_account":"SECRET","unionid":"SECRET","re_openid":"oSECRET"}`, `{"bank_account":"***","re_openid":"***","re_user_name":"***","real_name":"***","unionid":"***","user_name":"***"}`},
		{"refund abroad", `{"recv_account":"SECRET0403","amount":{"refund":1}}`, `{"amount":{"refund":1},"recv_account":"***"}`},
		{
			"complaint", `{"complaint_id":"1","payer_phone":"SECRET","payer_openid":"oSECRET","complaint_detail":"SECRET","complainted_mchid":"2","complaint_state":"PENDING"}`,
			`{"complaint_detail":"***","complaint_id":"1","complaint_state":"PENDING","complainted_mchid":"2","payer_openid":"***","payer_phone":"***"}`,
		},
		{"contract", `{"change_type":"ADD","contract_display_account":"SECRET","contract_id":"Wx1"}`, `{"change_type":"ADD","contract_display_account":"***","contract_id":"Wx1"}`},
		{"car", `{"parking_info":{"plate_number":"SECRET","plate_color":"BLUE"}}`, `{"parking_info":{"plate_color":"BLUE","plate_number":"***"}}`},
		{"invoice", `{"buyer_information":{"phone":"SECRET","email":"SECRET","address":"SECRET","type":"INDIVIDUAL"}}`, `{"buyer_information":{"address":"***","email":"***","phone":"***","type":"INDIVIDUAL"}}`},
		{"no object, but text", `"SECRET"`, `"***"`},
		{"no object, but an array", `["SECRET",{"total":1}]`, `"***"`},
		{"an object where text is", `{"openid":{"is":"oSECRET"}}`, `{"openid":"***"}`},
		{"numbers as they are", `{"total":12345678901234567890,"attach":"<&>福"}`, `{"attach":"<&>福","total":12345678901234567890}`},
	} {
		t.Run(test.name, func(t *testing.T) {
			got, err := redact([]byte(test.payload))
			if err != nil || string(got) != test.want || strings.Contains(string(got), "SECRET") {
				t.Errorf("got %s (%v)", got, err)
			}
		})
	}
	if got, err := redact([]byte(`{"openid":"oSECRET"`)); err == nil || strings.Contains(err.Error(), "SECRET") {
		t.Errorf("half a payload: %s (%v)", got, err)
	}
}
