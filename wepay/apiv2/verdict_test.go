package apiv2_test

import (
	"errors"
	"testing"

	"github.com/windsome/caddy-wepay/wepay"
)

func TestVerdicts(t *testing.T) {
	tests := []struct {
		op   wepay.Operation
		code string
		want wepay.Verdict
	}{
		{wepay.PlaceOrder, "ORDERPAID", wepay.Done},
		{wepay.PlaceOrder, "ORDERCLOSED", wepay.Never},
		{wepay.PlaceOrder, "OUT_TRADE_NO_USED", wepay.Query},
		{wepay.PlaceOrder, "NOTENOUGH", wepay.Never},
		{wepay.PlaceOrder, "INVALID_REQUEST", wepay.Fix},
		{wepay.PlaceOrder, "SYSTEMERROR", wepay.Again},
		{wepay.PlaceOrder, "A_CODE_OF_2031", wepay.Query},
		{wepay.QueryOrder, "ORDERNOTEXIST", wepay.Again},
		{wepay.QueryOrder, "SYSTEMERROR", wepay.Again},
		{wepay.QueryOrder, "A_CODE_OF_2031", wepay.Fix},
		{wepay.Refund, "SYSTEMERROR", wepay.Again},
		{wepay.Refund, "BIZERR_NEED_RETRY", wepay.Again},
		{wepay.Refund, "NOTENOUGH", wepay.Later},
		{wepay.Refund, "ORDER_NOT_READY", wepay.Later},
		{wepay.Refund, "TRADE_OVERDUE", wepay.Never},
		{wepay.Refund, "USER_ACCOUNT_ABNORMAL", wepay.Never},
		{wepay.Refund, "REFUND_FEE_MISMATCH", wepay.Fix},
		{wepay.Refund, "INVALID_TRANSACTIONID", wepay.Fix},
		{wepay.Refund, "ORDERNOTEXIST", wepay.Fix},
		{wepay.Refund, "ERROR", wepay.Fix},
		{wepay.Refund, "INVALID_REQ_TOO_MUCH", wepay.Later},
		{wepay.Refund, "A_CODE_OF_2031", wepay.Query},
		// Codes that any call can give, however they are spelt.
		{wepay.Refund, "BANKERROR", wepay.Query},
		{wepay.Refund, "SIGNERROR", wepay.Fix},
		{wepay.Refund, "SIGN_ERROR", wepay.Fix},
		{wepay.Refund, "SIGN ERROR", wepay.Fix},
		{wepay.Refund, "sign error", wepay.Fix},
		{wepay.Refund, "system error", wepay.Again},
		{wepay.Refund, "SYSTEM_ERROR", wepay.Again},
		{wepay.Refund, "NO_AUTH", wepay.Fix},
		{wepay.Refund, "NOAUTH", wepay.Fix},
		{wepay.QueryOrder, "ORDER_NOT_EXIST", wepay.Again},
		{wepay.Refund, "XML_FORMAT_ERROR", wepay.Fix},
		{wepay.Refund, "XML_ERROR", wepay.Fix},
		{wepay.Refund, "POST_DATA_EMPTY", wepay.Fix},
		{wepay.Refund, "REQUIRE_POST_METHOD", wepay.Fix},
		{wepay.Refund, "NOT_UTF8", wepay.Fix},
		{wepay.Refund, "PARAM_IS_NOT_UTF8", wepay.Fix},
		{wepay.Refund, "APPID_NOT_EXIST", wepay.Fix},
		{wepay.Refund, "MCHID_NOT_EXIST", wepay.Fix},
		{wepay.Refund, "APPID_MCHID_NOT_MATCH", wepay.Fix},
		{wepay.Refund, "LACK_PARAMS", wepay.Fix},
		{wepay.Refund, "PARAM_ERROR", wepay.Fix},
		{wepay.Refund, "CA_ERROR", wepay.Fix},
		{wepay.Refund, "CERT_ERROR", wepay.Fix},
		{wepay.Refund, "FREQUENCY_LIMITED", wepay.Later},
		{wepay.Refund, "FREQ_LIMIT", wepay.Later},
		{wepay.Refund, "RATELIMIT_EXCEEDED", wepay.Later},
		{wepay.PlaceOrder, "RULELIMIT", wepay.Never},
		{wepay.PlaceOrder, "TRADE_ERROR", wepay.Never},
		{wepay.PlaceOrder, "ACCOUNTERROR", wepay.Never},
	}
	for _, test := range tests {
		t.Run(string(test.op)+" "+test.code, func(t *testing.T) {
			refusal := reply(map[string]string{"result_code": "FAIL", "err_code": test.code, "err_code_des": "说明"})
			server := serve(t, says(signed(refusal, wepay.MD5, key)))
			// A refusal is an answer: the second endpoint is not to be asked.
			m := withCertificate(t, merchant(server.URL, server.URL), "wechat.p12")
			_, err := client(t, m).Do(t.Context(), test.op, requests[test.op].in)
			failed := wantError(t, err, test.want)
			if failed.Code != test.code || failed.Message != "说明" || failed.Merchant != "shop" || failed.Operation != test.op {
				t.Errorf("got %+v", failed)
			}
			if errors.Is(err, wepay.ErrNoAnswer) {
				t.Error("a refusal is taken for no answer")
			}
			if n := len(server.asked()); n != 1 {
				t.Errorf("%d requests", n)
			}
		})
	}
}

// What a text says with a code that nobody knows may be about anything.
func TestTextOfUnknownCode(t *testing.T) {
	for _, text := range []string{"SYSTEMERROR", "系统繁忙，请稍后重试", "ORDERPAID", "NOTENOUGH", "签名错误"} {
		for op, want := range map[wepay.Operation]wepay.Verdict{wepay.PlaceOrder: wepay.Query, wepay.Refund: wepay.Query, wepay.QueryOrder: wepay.Fix} {
			server := serve(t, says(signed(reply(map[string]string{"result_code": "FAIL", "err_code": "A_CODE_OF_2031", "err_code_des": text}), wepay.MD5, key)))
			_, err := client(t, withCertificate(t, merchant(server.URL), "wechat.p12")).Do(t.Context(), op, requests[op].in)
			if failed := wantError(t, err, want); failed.Message != text {
				t.Errorf("%s, %s: got %+v", op, text, failed)
			}
		}
	}
}

// With return_code FAIL WeChat signs nothing and mostly gives no code.
func TestVerdictsOfTalk(t *testing.T) {
	for text, want := range map[string]struct {
		message string
		verdict wepay.Verdict
	}{
		"<xml><return_code>FAIL</return_code><return_msg>签名错误</return_msg></xml>":               {"签名错误", wepay.Fix},
		"<xml><return_code>FAIL</return_code><return_msg>系统繁忙,请稍后再试.</return_msg></xml>":        {"系统繁忙,请稍后再试.", wepay.Again},
		"<xml><return_code>FAIL</return_code><return_msg>system error</return_msg></xml>":       {"system error", wepay.Again},
		"<xml><return_code>FAIL</return_code><return_msg>SYSTEM_ERROR</return_msg></xml>":       {"SYSTEM_ERROR", wepay.Again},
		"<xml><return_code>FAIL</return_code><return_msg>appid不存在</return_msg></xml>":           {"appid不存在", wepay.Fix},
		"<xml><return_code>FAIL</return_code><return_msg>商户号mch_id与appid不匹配</return_msg></xml>": {"商户号mch_id与appid不匹配", wepay.Fix},
		"<xml><return_code>FAIL</return_code><return_msg>不识别的参数foo</return_msg></xml>":          {"不识别的参数foo", wepay.Fix},
		"<xml><return_code>FAIL</return_code><return_msg>201 商户订单号重复</return_msg></xml>":        {"201 商户订单号重复", wepay.Query},
		"<xml><return_code>FAIL</return_code><return_msg>原因不明</return_msg></xml>":               {"原因不明", wepay.Query},
		"<xml><return_code>FAIL</return_code></xml>":                                            {"", wepay.Query},
		"<xml><return_code>FAIL</return_code><err_code>FREQ_LIMIT</err_code></xml>":             {"", wepay.Later},
		"<xml><return_code>FAIL</return_code><err_code>A_CODE_OF_2031</err_code></xml>":         {"", wepay.Query},
		"<xml><return_code>Fail</return_code><return_msg>x</return_msg><result_code/></xml>":    {"x", wepay.Query},
	} {
		t.Run(text, func(t *testing.T) {
			server := serve(t, says(text))
			m := withCertificate(t, merchant(server.URL), "wechat.p12")
			_, err := client(t, m).Do(t.Context(), wepay.Refund, aRefund)
			if failed := wantError(t, err, want.verdict); failed.Message != want.message {
				t.Errorf("the message is %q, want %q", failed.Message, want.message)
			}
		})
	}
}
