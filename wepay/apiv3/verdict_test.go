package apiv3_test

import (
	"cmp"
	"errors"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/windsome/caddy-wepay/wepay"
)

// The refusals that need no signature, for what WeChat does not know the sender
// of or has too much of it did not do.
func TestUnsignedRefusals(t *testing.T) {
	for name, test := range map[string]struct {
		says answer
		want wepay.Verdict
		code string
		text string
	}{
		"a wrong signature": {answer{status: 401, body: `{"code":"SIGN_ERROR","message":"签名错误","detail":{"field":"signature","issue":"sign not match"}}`, bare: true}, wepay.Fix, "SIGNERROR", "signature sign not match"},
		"too many":          {answer{status: 429, body: `{"code":"FREQUENCY_LIMITED","message":"频率超限"}`, bare: true}, wepay.Later, "FREQUENCY_LIMITED", ""},
		"an unknown rate":   {answer{status: 429, body: `{"code":"SLOW_DOWN"}`, bare: true}, wepay.Later, "SLOW_DOWN", ""},
		"a wrong clock":     {answer{status: 401, body: `{"code":"SIGN_ERROR","message":"签名错误"}`, bare: true, header: map[string][]string{"Date": {start.Add(-7 * time.Minute).UTC().Format(http.TimeFormat)}}}, wepay.Fix, "SIGNERROR", "clock is 7m0s from WeChat Pay's"},
		"a slow clock":      {answer{status: 401, body: `{"code":"SIGN_ERROR","message":"签名错误"}`, bare: true, header: map[string][]string{"Date": {start.Add(time.Hour).UTC().Format(http.TimeFormat)}}}, wepay.Fix, "SIGNERROR", "clock is -1h0m0s from WeChat Pay's"},
	} {
		w := newWechat(t, func(http.ResponseWriter, *http.Request) answer { return test.says })
		_, err := w.client(t, w.merchant(t)).Do(t.Context(), wepay.PlaceOrder, order("ORDER-0001", "1200"))
		failed := wantError(t, err, test.want)
		if failed.Code != test.code || !failed.Unsigned || !strings.Contains(err.Error(), test.text) || strings.Contains(err.Error(), "clock") != strings.Contains(test.text, "clock") {
			t.Errorf("%s: got %+v", name, failed)
		}
	}
}

// A refusal that nobody signed keeps WeChat's code and words, marked, and proves
// nothing: neither that an order does not exist nor that it is closed. Whatever
// shape the rest of it has, code and words are read.
func TestUnsignedRefusalKeepsWords(t *testing.T) {
	for name, test := range map[string]struct {
		status              int
		body                string
		code, v3code, words string
	}{
		"plain":              {400, `{"code":"PARAM_ERROR","message":"参数错误"}`, "PARAM_ERROR", "PARAM_ERROR", "参数错误"},
		"no right":           {403, `{"code":"NO_AUTH","message":"商户无权限"}`, "NOAUTH", "NO_AUTH", "商户无权限"},
		"paid":               {400, `{"code":"ORDERPAID","message":"该订单已支付"}`, "ORDERPAID", "ORDERPAID", "该订单已支付"},
		"not there":          {404, `{"code":"ORDER_NOT_EXIST"}`, "ORDERNOTEXIST", "ORDER_NOT_EXIST", ""},
		"detail":             {400, `{"code":"PARAM_ERROR","message":"x","detail":{"field":"/amount/total","issue":"太大","value":1,"location":"body"}}`, "PARAM_ERROR", "PARAM_ERROR", "x (/amount/total 太大)"},
		"detail is text":     {400, `{"code":"PARAM_ERROR","message":"x","detail":"y"}`, "PARAM_ERROR", "PARAM_ERROR", "x (y)"},
		"detail is null":     {400, `{"code":"PARAM_ERROR","message":"x","detail":null}`, "PARAM_ERROR", "PARAM_ERROR", "x"},
		"detail is an array": {400, `{"code":"PARAM_ERROR","message":"x","detail":[{"field":"y"}]}`, "PARAM_ERROR", "PARAM_ERROR", "x"},
		"field is an array":  {400, `{"code":"PARAM_ERROR","message":"x","detail":{"field":["a","b"],"issue":"z"}}`, "PARAM_ERROR", "PARAM_ERROR", "x (a, b z)"},
		"field is an object": {400, `{"code":"PARAM_ERROR","message":"x","detail":{"field":{"a":1},"issue":["z"]}}`, "PARAM_ERROR", "PARAM_ERROR", "x"},
		"field is a number":  {400, `{"code":"PARAM_ERROR","message":"x","detail":{"field":7}}`, "PARAM_ERROR", "PARAM_ERROR", "x (7)"},
		"message is none":    {400, `{"code":"PARAM_ERROR","message":["x"],"detail":{"issue":"z"}}`, "PARAM_ERROR", "PARAM_ERROR", "(z)"},
		"words cut short":    {400, "{\"code\":\"PARAM_ERROR\",\"message\":\"参数\xe9\x94\"}", "PARAM_ERROR", "PARAM_ERROR", "参数\uFFFD"},
		"detail has a twice": {400, `{"code":"PARAM_ERROR","message":"x","detail":{"a":1,"a":2}}`, "PARAM_ERROR", "PARAM_ERROR", "x"},
		"field has a twice":  {400, `{"code":"PARAM_ERROR","message":"x","detail":{"field":{"a":1,"a":2},"issue":"z"}}`, "PARAM_ERROR", "PARAM_ERROR", "x (z)"},
		"half a character":   {400, `{"code":"PARAM_ERROR","message":"x\ud83e"}`, "PARAM_ERROR", "PARAM_ERROR", "x\uFFFD"},
		"code is null":       {400, `{"code":null,"message":"参数错误"}`, "", "", "参数错误"},
		"code is empty":      {400, `{"code":"","message":"参数错误"}`, "", "", "参数错误"},
		"code is an object":  {400, `{"code":{"a":1,"a":2},"message":"x","detail":{"issue":"z"}}`, "", "", "x (z)"},
		"code is a number":   {400, `{"code":268435456,"message":"x"}`, "268435456", "268435456", "x"},
	} {
		t.Run(name, func(t *testing.T) {
			for _, signed := range []bool{false, true} {
				w := newWechat(t, func(http.ResponseWriter, *http.Request) answer {
					return answer{status: test.status, body: test.body, bare: !signed}
				})
				c := w.client(t, w.merchant(t))
				for op, in := range map[wepay.Operation]wepay.Fields{wepay.PlaceOrder: order("ORDER-0001", "1200"), wepay.QueryOrder: aQuery, wepay.CloseOrder: aQuery} {
					_, err := c.Do(t.Context(), op, in)
					failed, ok := errors.AsType[*wepay.Error](err)
					if !ok || failed.Code != test.code || failed.V3Code != test.v3code || failed.Message != test.words || failed.Unsigned == signed || errors.Is(err, wepay.ErrNoAnswer) == signed {
						t.Errorf("%s, signed %v: got %+v", op, signed, failed)
					}
					if signed {
						continue
					}
					want := map[wepay.Operation]wepay.Verdict{wepay.PlaceOrder: wepay.Query, wepay.QueryOrder: wepay.Fix, wepay.CloseOrder: wepay.Again}[op]
					if op == wepay.QueryOrder && name == "not there" {
						want = wepay.Again
					}
					if failed.Verdict != want {
						t.Errorf("%s: the verdict is %s, want %s", op, failed.Verdict, want)
					}
					if !strings.Contains(err.Error(), "refused without a signature: "+cmp.Or(test.v3code, test.words)) {
						t.Errorf("%s: got %v", op, err)
					}
				}
			}
		})
	}
}

// Words that WeChat signed are its own, also without a code: the status decides. Nobody
// knows whose unsigned ones are, and none are no reason.
func TestRefusalWithoutCode(t *testing.T) {
	for op, in := range map[wepay.Operation]wepay.Fields{wepay.PlaceOrder: order("ORDER-0001", "1200"), wepay.QueryOrder: aQuery} {
		for _, test := range []struct {
			says    answer
			verdict map[wepay.Operation]wepay.Verdict
			words   string
		}{
			{answer{status: 400, body: `{"message":"参数错误"}`}, map[wepay.Operation]wepay.Verdict{wepay.PlaceOrder: wepay.Query, wepay.QueryOrder: wepay.Fix}, "参数错误"},
			{answer{status: 500, body: `{"message":"x"}`}, map[wepay.Operation]wepay.Verdict{wepay.PlaceOrder: wepay.Query, wepay.QueryOrder: wepay.Again}, "x"},
			{answer{status: 400, body: `{"message":"x"}`, bare: true}, map[wepay.Operation]wepay.Verdict{wepay.PlaceOrder: wepay.Query, wepay.QueryOrder: wepay.Again}, ""},
			{answer{status: 400, body: `{}`}, map[wepay.Operation]wepay.Verdict{wepay.PlaceOrder: wepay.Query, wepay.QueryOrder: wepay.Again}, ""},
		} {
			w := newWechat(t, func(http.ResponseWriter, *http.Request) answer { return test.says })
			_, err := w.client(t, w.merchant(t)).Do(t.Context(), op, in)
			if failed := wantError(t, err, test.verdict[op]); failed.Message != test.words || errors.Is(err, wepay.ErrNoAnswer) != (test.words == "") {
				t.Errorf("%s, %d %s: got %+v", op, test.says.status, test.says.body, failed)
			}
		}
	}
}

// What nobody signed never ends a query but as wrong.
func TestUnsignedRefusalOfQuery(t *testing.T) {
	for _, test := range []struct {
		op     wepay.Operation
		status int
		code   string
		want   wepay.Verdict
	}{
		{wepay.QueryOrder, 400, "NEW_CODE", wepay.Fix},
		{wepay.QueryOrder, 500, "PARAM_ERROR", wepay.Again},
		{wepay.QueryOrder, 403, "RULE_LIMIT", wepay.Again},
		{wepay.QueryRefund, 404, "RESOURCE_NOT_EXISTS", wepay.Again},
		{wepay.DownloadBill, 400, "NO_STATEMENT_EXIST", wepay.Again},
		{wepay.DownloadBill, 400, "INVALID_REQUEST", wepay.Fix},
	} {
		w := newWechat(t, func(http.ResponseWriter, *http.Request) answer {
			return answer{status: test.status, body: `{"code":"` + test.code + `"}`, bare: true}
		})
		c, err := w.client(t, w.merchant(t)), error(nil)
		if test.op == wepay.DownloadBill {
			_, err = c.Download(t.Context(), test.op, fields("bill_date", "20200101"))
		} else {
			_, err = c.Do(t.Context(), test.op, map[wepay.Operation]wepay.Fields{wepay.QueryOrder: aQuery, wepay.QueryRefund: fields("out_refund_no", "R1")}[test.op])
		}
		if failed := wantError(t, err, test.want); !failed.Unsigned {
			t.Errorf("%s %s: got %+v", test.op, test.code, failed)
		}
	}
}

// Every refusal has its verdict, whoever's word for it WeChat uses.
func TestVerdicts(t *testing.T) {
	for _, test := range []struct {
		op     wepay.Operation
		status int
		code   string
		want   wepay.Verdict
	}{
		{wepay.PlaceOrder, 400, "ORDERPAID", wepay.Done},
		{wepay.PlaceOrder, 400, "ORDER_PAID", wepay.Done},
		{wepay.PlaceOrder, 400, "ORDER_CLOSED", wepay.Never},
		{wepay.PlaceOrder, 403, "OUT_TRADE_NO_USED", wepay.Query},
		{wepay.PlaceOrder, 400, "PARAM_ERROR", wepay.Fix},
		{wepay.PlaceOrder, 400, "INVALID_REQUEST", wepay.Fix},
		{wepay.PlaceOrder, 400, "APPID_MCHID_NOT_MATCH", wepay.Fix},
		{wepay.PlaceOrder, 400, "MCH_NOT_EXISTS", wepay.Fix},
		{wepay.PlaceOrder, 403, "NO_AUTH", wepay.Fix},
		{wepay.PlaceOrder, 403, "NOAUTH", wepay.Fix},
		{wepay.PlaceOrder, 403, "RULE_LIMIT", wepay.Never},
		{wepay.PlaceOrder, 403, "TRADE_ERROR", wepay.Query},
		{wepay.PlaceOrder, 500, "SYSTEM_ERROR", wepay.Again},
		{wepay.PlaceOrder, 500, "BANK_ERROR", wepay.Query},
		{wepay.PlaceOrder, 500, "OPENID_MISMATCH", wepay.Fix},
		{wepay.PlaceOrder, 429, "RATELIMIT_EXCEEDED", wepay.Later},
		{wepay.PlaceOrder, 400, "NEW_CODE", wepay.Query},
		{wepay.QueryOrder, 404, "ORDER_NOT_EXIST", wepay.Again},
		{wepay.QueryOrder, 500, "SYSTEM_ERROR", wepay.Again},
		{wepay.CloseOrder, 404, "ORDERNOTEXIST", wepay.Done},
		{wepay.CloseOrder, 500, "SYSTEMERROR", wepay.Again},
		{wepay.Refund, 403, "NOT_ENOUGH", wepay.Later},
		{wepay.Refund, 403, "USER_ACCOUNT_ABNORMAL", wepay.Never},
		{wepay.Refund, 404, "RESOURCE_NOT_EXISTS", wepay.Fix},
		{wepay.Refund, 429, "FREQUENCY_LIMITED", wepay.Later},
		{wepay.Refund, 500, "SYSTEM_ERROR", wepay.Again},
		{wepay.Refund, 400, "NEW_CODE", wepay.Query},
		{wepay.QueryRefund, 404, "RESOURCE_NOT_EXISTS", wepay.Again},
		// Codes that no table has: not asked again and again, unless WeChat is in
		// trouble.
		{wepay.QueryOrder, 400, "NEW_CODE", wepay.Fix},
		{wepay.QueryOrder, 403, "NEW_CODE", wepay.Fix},
		{wepay.QueryOrder, 404, "NEW_CODE", wepay.Fix},
		{wepay.QueryOrder, 500, "NEW_CODE", wepay.Again},
		{wepay.QueryRefund, 400, "NEW_CODE", wepay.Fix},
		{wepay.CloseOrder, 400, "NEW_CODE", wepay.Query},
		{wepay.CloseOrder, 500, "NEW_CODE", wepay.Again},
		{wepay.PlaceOrder, 500, "NEW_CODE", wepay.Query},
	} {
		w := newWechat(t, func(http.ResponseWriter, *http.Request) answer {
			return answer{status: test.status, body: `{"code":"` + test.code + `","message":"x"}`}
		})
		in := map[wepay.Operation]wepay.Fields{
			wepay.PlaceOrder: order("ORDER-0001", "1"), wepay.QueryOrder: aQuery, wepay.CloseOrder: aQuery,
			wepay.Refund: refund("R1", "ORDER-0001", "2", "1"), wepay.QueryRefund: fields("out_refund_no", "R1"),
		}[test.op]
		_, err := w.client(t, w.merchant(t)).Do(t.Context(), test.op, in)
		if failed := wantError(t, err, test.want); failed.V3Code != test.code || failed.Code == "" || failed.Err != nil {
			t.Errorf("%s %s: got %+v", test.op, test.code, failed)
		}
	}
}
