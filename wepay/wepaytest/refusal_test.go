package wepaytest_test

import (
	"fmt"
	"maps"
	"net/http"
	"strings"
	"testing"

	"github.com/windsome/caddy-wepay/wepay"
	"github.com/windsome/caddy-wepay/wepay/apiv2"
	"github.com/windsome/caddy-wepay/wepay/wepaytest"
)

const (
	orderPath  = "/pay/unifiedorder"
	queryPath  = "/pay/orderquery"
	refundPath = "/secapi/pay/refund"
	keyPath    = "/xdc/apiv2getsignkey/sign/getsignkey"
)

// with is a request with some fields changed, "" taking one out.
func with(fields map[string]string, changes ...string) map[string]string {
	changed := maps.Clone(fields)
	for i := 0; i < len(changes); i += 2 {
		changed[changes[i]] = changes[i+1]
		if changes[i+1] == "" {
			delete(changed, changes[i])
		}
	}
	return changed
}

var (
	validOrder = map[string]string{
		"out_trade_no": "ORDER-0001", "total_fee": "100", "body": "socks", "spbill_create_ip": "203.0.113.9",
		"notify_url": "https://shop.example/notify", "trade_type": "JSAPI", "openid": openID,
	}
	validRefund = map[string]string{
		"out_trade_no": "PAID-0001", "out_refund_no": "R-NEW", "total_fee": "100", "refund_fee": "10",
	}
)

// What makes each of these wrong is the change alone: unchanged they are taken.
func TestParametersAreRefused(t *testing.T) {
	s := newShop(t)
	s.pay("PAID-0001", 100)
	s.do(wepay.Refund, refundOf("PAID-0001", "R-OLD", 100, 10))
	s.pay("PAID-0002", 100)
	s.do(wepay.Refund, refundOf("PAID-0002", "R-ALL", 100, 100))
	s.do(wepay.PlaceOrder, order("OPEN-0001", 100))
	before := make(map[string]wepaytest.Order)
	for _, number := range []string{"PAID-0001", "PAID-0002", "OPEN-0001"} {
		before[number], _ = s.wechat.Order(mchID, number)
	}
	long := func(n int) string { return strings.Repeat("x", n) }
	for _, c := range []struct {
		path   string
		fields map[string]string
		code   string // "": return_code is FAIL
		text   string
	}{
		{orderPath, with(validOrder, "colour", "red"), "", "不识别的参数colour"},
		{queryPath, map[string]string{"out_trade_no": "PAID-0001", "spbill_create_ip": "203.0.113.9"}, "", "不识别的参数spbill_create_ip"},
		{orderPath, with(validOrder, "nonce_str", long(33)), "", "nonce_str参数长度有误"},
		{orderPath, with(validOrder, "nonce_str", "a-b"), "", "nonce_str参数格式错误"},
		{orderPath, with(validOrder, "sign_type", "SHA1"), "", "sign_type参数格式错误"},
		{orderPath, with(validOrder, "mch_id", "1"), "", "MCHID_NOT_EXIST 商户号不存在"},
		{orderPath, with(validOrder, "appid", "wx1"), "APPID_MCHID_NOT_MATCH", "appid和mch_id不匹配"},
		{orderPath, with(validOrder, "sub_mch_id", "1900000110"), "NOAUTH", "受理关系不存在"},

		{orderPath, with(validOrder, "body", ""), "LACK_PARAMS", "缺少参数body"},
		{orderPath, with(validOrder, "out_trade_no", ""), "LACK_PARAMS", "缺少参数out_trade_no"},
		{orderPath, with(validOrder, "total_fee", ""), "LACK_PARAMS", "缺少参数total_fee"},
		{orderPath, with(validOrder, "spbill_create_ip", ""), "LACK_PARAMS", "缺少参数spbill_create_ip"},
		{orderPath, with(validOrder, "notify_url", ""), "LACK_PARAMS", "缺少参数notify_url"},
		{orderPath, with(validOrder, "trade_type", ""), "LACK_PARAMS", "缺少参数trade_type"},
		{orderPath, with(validOrder, "body", long(128)), "", "body参数长度有误"},
		{orderPath, with(validOrder, "body", strings.Repeat("袜", 43)), "", "body参数长度有误"},
		{orderPath, with(validOrder, "attach", long(128)), "", "attach参数长度有误"},
		{orderPath, with(validOrder, "detail", long(6001)), "", "detail参数长度有误"},
		{orderPath, with(validOrder, "out_trade_no", long(33)), "", "out_trade_no参数长度有误"},
		{orderPath, with(validOrder, "out_trade_no", "short"), "PARAM_ERROR", "out_trade_no"},
		{orderPath, with(validOrder, "out_trade_no", "ORDER@0001"), "PARAM_ERROR", "out_trade_no"},
		{orderPath, with(validOrder, "total_fee", "0"), "PARAM_ERROR", "total_fee"},
		{orderPath, with(validOrder, "total_fee", "2147483648"), "PARAM_ERROR", "total_fee"},
		{orderPath, with(validOrder, "total_fee", "1.00"), "PARAM_ERROR", "total_fee"},
		{orderPath, with(validOrder, "total_fee", "-1"), "PARAM_ERROR", "total_fee"},
		{orderPath, with(validOrder, "total_fee", "+1"), "PARAM_ERROR", "total_fee"},
		{orderPath, with(validOrder, "fee_type", "USD"), "PARAM_ERROR", "fee_type"},
		{orderPath, with(validOrder, "spbill_create_ip", "::ffff:203.0.113.9"), "PARAM_ERROR", "spbill_create_ip"},
		{orderPath, with(validOrder, "notify_url", "https://shop.example/notify?a=1"), "PARAM_ERROR", "notify_url"},
		{orderPath, with(validOrder, "notify_url", "/notify"), "PARAM_ERROR", "notify_url"},
		{orderPath, with(validOrder, "notify_url", "https://袜子.example/"), "PARAM_ERROR", "notify_url"},
		{orderPath, with(validOrder, "time_start", "20261301000000"), "PARAM_ERROR", "time_start"},
		{orderPath, with(validOrder, "time_expire", "20260101200059"), "PARAM_ERROR", "time_expire"},
		{orderPath, with(validOrder, "trade_type", "WAP"), "PARAM_ERROR", "trade_type"},
		{orderPath, with(validOrder, "scene_info", "{"), "PARAM_ERROR", "scene_info"},
		{orderPath, with(validOrder, "openid", ""), "", "JSAPI支付必须传openid"},
		{orderPath, with(validOrder, "sub_openid", openID), "LACK_PARAMS", "缺少参数sub_appid"},
		{orderPath, with(validOrder, "trade_type", "NATIVE"), "", "NATIVE支付必须传product_id"},
		{orderPath, with(validOrder, "trade_type", "MWEB"), "", "MWEB支付必须传scene_info"},

		{orderPath, with(validOrder, "out_trade_no", "PAID-0001"), "OUT_TRADE_NO_USED", "商户订单号重复"},
		{orderPath, with(validOrder, "out_trade_no", "OPEN-0001", "total_fee", "101"), "OUT_TRADE_NO_USED", "商户订单号重复"},

		{queryPath, map[string]string{}, "LACK_PARAMS", "缺少参数out_trade_no"},
		{queryPath, map[string]string{"out_trade_no": "NONE-0001"}, "ORDERNOTEXIST", "订单不存在"},
		{queryPath, map[string]string{"out_trade_no": "PAID-0001", "transaction_id": "4200000000202601010000000000"}, "ORDERNOTEXIST", "订单不存在"},

		{refundPath, with(validRefund, "out_trade_no", ""), "LACK_PARAMS", "缺少参数out_trade_no"},
		{refundPath, with(validRefund, "out_refund_no", ""), "LACK_PARAMS", "缺少参数out_refund_no"},
		{refundPath, with(validRefund, "out_refund_no", long(65)), "", "out_refund_no参数长度有误"},
		{refundPath, with(validRefund, "refund_desc", long(81)), "", "refund_desc参数长度有误"},
		{refundPath, with(validRefund, "refund_account", "MINE"), "PARAM_ERROR", "refund_account"},
		{refundPath, with(validRefund, "transaction_id", "4200x"), "INVALID_TRANSACTIONID", "transaction_id"},
		{refundPath, with(validRefund, "out_trade_no", "NONE-0001"), "ORDERNOTEXIST", "订单不存在"},
		{refundPath, with(validRefund, "out_trade_no", "OPEN-0001"), "ORDERNOTEXIST", "订单不存在"},
		{refundPath, with(validRefund, "refund_fee", "101"), "", "invalid refund_fee"},
		{refundPath, with(validRefund, "total_fee", "99"), "REFUND_FEE_MISMATCH", "不一致"},
		{refundPath, with(validRefund, "refund_fee", "91"), "INVALID_REQUEST", "refund_fee大于可退金额"},
		{refundPath, with(validRefund, "out_refund_no", "R-OLD", "refund_fee", "11"), "REFUND_FEE_MISMATCH", "不一致"},
		{refundPath, with(validRefund, "out_refund_no", "R-OLD", "out_trade_no", "PAID-0002"), "INVALID_REQUEST", "商户退款单号重复"},
		{refundPath, with(validRefund, "out_trade_no", "PAID-0002"), "ERROR", "订单已全额退款"},

		{keyPath, map[string]string{"appid": appID}, "", "不识别的参数appid"},
	} {
		t.Run(c.path+" "+c.text, func(t *testing.T) {
			request := sealed(c.fields, wepay.MD5)
			status, reply, body := s.raw(c.path, request)
			if status != http.StatusOK {
				t.Fatalf("HTTP status %d: %s", status, body)
			}
			checkRefusal(t, reply, c.code, c.text)
		})
	}
	for _, number := range []string{"PAID-0001", "PAID-0002", "OPEN-0001"} {
		if got, _ := s.wechat.Order(mchID, number); got != before[number] {
			t.Errorf("what was refused made %+v of %+v", got, before[number])
		}
	}
	if _, found := s.wechat.Order(mchID, "ORDER-0001"); found {
		t.Error("an order that was refused is there")
	}
}

// checkRefusal wants WeChat's words, and its signature where there is one.
func checkRefusal(t *testing.T, reply wepay.Fields, code, text string) {
	t.Helper()
	got := reply.Get("return_msg")
	if code != "" {
		check(t, reply, map[string]string{"return_code": "SUCCESS", "result_code": "FAIL", "err_code": code, "mch_id": mchID})
		if err := apiv2.Verify(reply, key); err != nil {
			t.Errorf("the refusal has %v", err)
		}
		got = reply.Get("err_code_des")
	} else {
		check(t, reply, map[string]string{"return_code": "FAIL", "result_code": "", "sign": ""})
	}
	if !strings.Contains(got, text) {
		t.Errorf("the refusal says %q, want %q", got, text)
	}
}

func TestUnchangedParametersAreTaken(t *testing.T) {
	s := newShop(t)
	s.pay("PAID-0001", 100)
	for path, fields := range map[string]map[string]string{
		orderPath:  with(validOrder, "time_expire", "20260101200100", "detail", strings.Repeat("x", 6000), "body", strings.Repeat("袜", 42)),
		refundPath: validRefund,
		queryPath:  {"out_trade_no": "PAID-0001"},
	} {
		for _, signType := range []wepay.SignType{wepay.MD5, wepay.HMACSHA256} {
			if path == orderPath && signType == wepay.HMACSHA256 {
				fields = with(fields, "out_trade_no", "ORDER-0002")
			}
			_, reply, body := s.raw(path, sealed(fields, signType))
			if reply.Get("result_code") != "SUCCESS" {
				t.Errorf("%s by %s: %s", path, signType, body)
			}
			if err := apiv2.Verify(reply, key); err != nil {
				t.Errorf("%s by %s: the reply has %v", path, signType, err)
			}
			if want := len(apiv2.Sign(nil, signType, key)); len(reply.Get("sign")) != want {
				t.Errorf("%s: the reply to %s is signed %s", path, signType, reply.Get("sign"))
			}
		}
	}
}

func TestSignaturesAreRefused(t *testing.T) {
	s := newShop(t)
	fields := map[string]string{"out_trade_no": "ORDER-0001"}
	for name, change := range map[string]func(wepay.Fields) wepay.Fields{
		"wrong key":           func(f wepay.Fields) wepay.Fields { f.Set("sign", apiv2.Sign(f, wepay.MD5, key[1:])); return f },
		"lower case":          func(f wepay.Fields) wepay.Fields { f.Set("sign", strings.ToLower(f.Get("sign"))); return f },
		"a field more":        func(f wepay.Fields) wepay.Fields { f.Set("transaction_id", "1"); return f },
		"HMAC without a word": func(f wepay.Fields) wepay.Fields { f.Set("sign", apiv2.Sign(f, wepay.HMACSHA256, key)); return f },
		"MD5 called HMAC": func(f wepay.Fields) wepay.Fields {
			f.Set("sign_type", "HMAC-SHA256")
			f.Set("sign", apiv2.Sign(f, wepay.MD5, key))
			return f
		},
	} {
		_, reply, body := s.raw(queryPath, change(sealed(fields, wepay.MD5)))
		if reply.Get("return_code") != "FAIL" || reply.Get("return_msg") != "签名错误" {
			t.Errorf("%s: %s", name, body)
		}
	}
	for _, missing := range []string{"sign", "nonce_str", "mch_id"} {
		request := sealed(fields, wepay.MD5)
		request.Delete(missing)
		if _, reply, body := s.raw(queryPath, request); reply.Get("return_msg") != "缺少参数"+missing {
			t.Errorf("without %s: %s", missing, body)
		}
	}
}

func TestDocumentsAreRefused(t *testing.T) {
	s := newShop(t)
	good, err := apiv2.Encode("xml", sealed(map[string]string{"out_trade_no": "ORDER-0001"}, wepay.MD5))
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct{ body, want string }{
		"nothing":      {"", "post数据为空"},
		"blanks":       {" \n", "post数据为空"},
		"JSON":         {"{}", "XML格式错误"},
		"another root": {"<root></root>", "XML格式错误"},
		"cut short":    {string(good[:len(good)-1]), "XML格式错误"},
		"twice":        {strings.Replace(string(good), "<xml>", "<xml><mch_id>1</mch_id>", 1), "XML格式错误"},
		"not UTF-8":    {"<xml><body>\xff</body></xml>", "XML格式错误"},
		"an entity":    {`<!DOCTYPE xml [<!ENTITY a "b">]><xml><body>&a;</body></xml>`, "XML格式错误"},
		"too much":     {"<xml><body>" + strings.Repeat("x", 64<<10) + "</body></xml>", "post数据过长"},
	} {
		status, body := s.post(queryPath, []byte(c.body))
		reply, err := apiv2.Decode("xml", []byte(body))
		if err != nil || status != http.StatusOK || reply.Get("return_code") != "FAIL" || reply.Get("return_msg") != c.want {
			t.Errorf("%s: HTTP status %d, %s", name, status, body)
		}
	}
	if status, body := s.post("/pay/nothing", good); status != http.StatusNotFound || !strings.Contains(body, "<title>404 Not Found</title>") {
		t.Errorf("an unknown path: HTTP status %d, %s", status, body)
	}
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, s.wechat.URL+queryPath, http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	if _, body := s.send(req, s.merchant); !strings.Contains(body, "请使用post方法") {
		t.Errorf("GET: %s", body)
	}
}

func TestFiftyRefunds(t *testing.T) {
	s := newShop(t)
	s.pay("ORDER-0001", 100)
	for i := range 50 {
		s.do(wepay.Refund, refundOf("ORDER-0001", fmt.Sprintf("R-%d", i), 100, 1))
	}
	if got := s.refused(wepay.Refund, refundOf("ORDER-0001", "R-50", 100, 1)); got.Code != "INVALID_REQUEST" {
		t.Errorf("the 51st refund gives %v", got)
	}
	s.do(wepay.Refund, refundOf("ORDER-0001", "R-49", 100, 1)) // which is no further one
}

func TestRefundAfterAYear(t *testing.T) {
	s := newShop(t)
	s.pay("ORDER-0001", 100)
	s.clock.Advance(365 * 24 * 3600e9)
	s.do(wepay.Refund, refundOf("ORDER-0001", "R-1", 100, 1))
	s.clock.Advance(1e9)
	if got := s.refused(wepay.Refund, refundOf("ORDER-0001", "R-2", 100, 1)); got.Code != "TRADE_OVERDUE" {
		t.Errorf("a refund after a year gives %v", got)
	}
}
