package wepaytest_test

import (
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/windsome/caddy-wepay/wepay"
	"github.com/windsome/caddy-wepay/wepay/apiv2"
	"github.com/windsome/caddy-wepay/wepay/wepaytest"
)

// none has no form that a parameter may ask for.
const none = "none"

// callTable has every call with a request that is well formed, written down
// once more from the documents.
var callTable = []struct {
	path        string
	certificate bool
	sandbox     bool
	signs       string // both, MD5 or HMAC
	valid       map[string]string
	optional    []string       // of the valid ones
	limits      map[string]int // in bytes
	malformed   map[string]string
}{
	{path: closePath, sandbox: true, signs: "both", valid: named("out_trade_no"), limits: map[string]int{"out_trade_no": 32}},
	{
		path: refundQueryPath, sandbox: true, signs: "both", valid: named("out_trade_no"), optional: []string{"out_trade_no"},
		limits: map[string]int{"out_trade_no": 32, "transaction_id": 32, "out_refund_no": 64, "refund_id": 32}, malformed: map[string]string{"offset": "x"},
	},
	{
		path: micropayPath, sandbox: true, signs: "both", valid: validMicropay, optional: []string{"attach"},
		limits: map[string]int{"body": 127, "attach": 127, "detail": 6000, "out_trade_no": 32, "auth_code": 128, "device_info": 32, "goods_tag": 32},
		malformed: map[string]string{
			"total_fee": "0", "spbill_create_ip": none, "out_trade_no": "short", "limit_pay": none, "receipt": "X", "profit_sharing": "X",
			"scene_info": "{", "time_start": none, "time_expire": "2026", "fee_type": "USD",
		},
	},
	{path: reversePath, certificate: true, sandbox: true, signs: "both", valid: named("out_trade_no"), optional: []string{"out_trade_no"}, limits: map[string]int{"out_trade_no": 32, "transaction_id": 32}},
	{path: openIDPath, signs: "both", valid: map[string]string{"auth_code": "130000000000000002"}, limits: map[string]int{"auth_code": 128}},
	{path: shortPath, signs: "both", valid: map[string]string{"long_url": "weixin://wxpay/x"}},
	{
		path: packetPath, certificate: true, signs: "MD5", valid: validPacket,
		limits:    map[string]int{"send_name": 32, "re_openid": 32, "wishing": 128, "act_name": 32, "remark": 256, "risk_info": 128, "mch_billno": 28},
		malformed: map[string]string{"total_num": "2", "total_amount": "1.00", "client_ip": none, "scene_id": "PRODUCT_9"},
	},
	{
		path: groupPath, certificate: true, signs: "MD5", valid: validGroup,
		limits:    map[string]int{"send_name": 32},
		malformed: map[string]string{"total_num": "2", "amt_type": none, "total_amount": "-3"},
	},
	{path: packetQueryPath, certificate: true, signs: "MD5", valid: map[string]string{"mch_billno": billno, "bill_type": "MCHT"}, malformed: map[string]string{"bill_type": "ALL"}},
	{
		path: transferPath, certificate: true, signs: "MD5", valid: validTransfer,
		limits:    map[string]int{"partner_trade_no": 32, "openid": 64, "desc": 100, "re_user_name": 64},
		malformed: map[string]string{"partner_trade_no": "a-b", "check_name": "OPTION_CHECK", "amount": "0", "spbill_create_ip": none},
	},
	{path: transferQuery, certificate: true, signs: "MD5", valid: named("partner_trade_no"), limits: map[string]int{"partner_trade_no": 32}},
	{
		path: bankPath, certificate: true, signs: "MD5",
		valid:  map[string]string{"partner_trade_no": "B0000001", "enc_bank_no": "x", "enc_true_name": "x", "bank_code": "1001", "amount": "1"},
		limits: map[string]int{"partner_trade_no": 32, "desc": 100}, malformed: map[string]string{"amount": "x", "bank_code": "9999"},
	},
	{path: bankQueryPath, certificate: true, signs: "MD5", valid: named("partner_trade_no"), limits: map[string]int{"partner_trade_no": 32}},
	{path: bankKeyPath, certificate: true, signs: "both", valid: map[string]string{}},
	{path: sharePath, certificate: true, signs: "HMAC", valid: shareOf("1", "S-1", toStore(1)), limits: map[string]int{"transaction_id": 32, "out_order_no": 64}, malformed: map[string]string{"out_order_no": "a b", "receivers": "["}},
	{path: multiPath, certificate: true, signs: "HMAC", valid: shareOf("1", "S-1", toStore(1)), limits: map[string]int{"receivers": 10240}, malformed: map[string]string{"receivers": "["}},
	{path: finishPath, certificate: true, signs: "HMAC", valid: map[string]string{"transaction_id": "1", "out_order_no": "S-1", "description": "x"}, limits: map[string]int{"description": 80}},
	{
		path: returnPath, certificate: true, signs: "HMAC", optional: []string{"out_order_no"},
		valid: map[string]string{
			"out_order_no": "S-1", "out_return_no": "B-1", "return_account_type": "MERCHANT_ID", "return_account": "1", "return_amount": "1", "description": "x",
		},
		limits: map[string]int{"out_return_no": 64, "description": 80, "order_id": 64}, malformed: map[string]string{"return_amount": "0", "return_account_type": none},
	},
	{path: shareQueryPath, signs: "HMAC", valid: map[string]string{"transaction_id": "1", "out_order_no": "S-1"}, limits: map[string]int{"out_order_no": 64}},
	{path: returnQueryPath, signs: "HMAC", valid: map[string]string{"out_order_no": "S-1", "out_return_no": "B-1"}, optional: []string{"out_order_no"}, limits: map[string]int{"out_return_no": 64}},
	{path: addPath, signs: "HMAC", valid: map[string]string{"receiver": `{"type":"MERCHANT_ID","account":"1","relation_type":"STORE"}`}, malformed: map[string]string{"receiver": "{"}},
	{path: removePath, signs: "HMAC", valid: map[string]string{"receiver": `{"type":"MERCHANT_ID","account":"1"}`}, malformed: map[string]string{"receiver": "{"}},
	{path: unsharedPath, signs: "HMAC", valid: map[string]string{"transaction_id": "1"}, limits: map[string]int{"transaction_id": 32}},
	{path: ratioPath, signs: "HMAC", valid: map[string]string{}},
	{path: billPath, sandbox: true, signs: "both", valid: validBill, optional: []string{"bill_type"}},
	{path: flowPath, certificate: true, signs: "HMAC", valid: validFlow, malformed: map[string]string{"account_type": none, "tar_type": "ZIP"}},
}

// named is a request that only names one thing.
func named(name string) map[string]string { return map[string]string{name: "ORDER0001"} }

// passed says whether a request got through the checks that all calls make:
// whatever refuses it then is about its matter.
func passed(reply wepay.Fields) bool {
	for _, code := range []string{"PARAM_ERROR", "LACK_PARAMS", "SIGN_ERROR", "CA_ERROR", "XML_ERROR"} {
		if reply.Get("err_code") == code || reply.Get("error_code") == code {
			return reply.Get("return_msg") == "参数错误:enc_bank_no参数格式错误" // which it has, and is no encryption
		}
	}
	message := reply.Get("return_msg")
	return reply.Get("return_code") == "SUCCESS" || reply.Get("err_code") != "" || message == "No Bill Exist"
}

func TestEveryCallsParameters(t *testing.T) {
	s := newShop(t)
	for _, c := range callTable {
		t.Run(c.path, func(t *testing.T) {
			if reply := s.ask(c.path, c.valid); !passed(reply) {
				t.Fatalf("what is well formed is refused: %v", reply)
			}
			if reply := s.ask(c.path, with(c.valid, "colour", "red")); passed(reply) || c.path != billPath && !strings.Contains(reply.Get("return_msg"), "不识别的参数colour") {
				t.Errorf("an unknown parameter gives %v", reply)
			}
			for name := range c.valid {
				if slices.Contains(c.optional, name) {
					continue
				}
				reply := s.ask(c.path, with(c.valid, name, ""))
				if words := reply.Get("return_msg") + reply.Get("err_code_des"); passed(reply) || c.path != billPath && !strings.Contains(words, "缺少参数"+name) {
					t.Errorf("without %s it gives %v", name, reply)
				}
			}
			for name, limit := range c.limits {
				reply := s.ask(c.path, with(c.valid, name, strings.Repeat("1", limit+1)))
				if passed(reply) || !strings.Contains(reply.Get("return_msg"), name+"参数长度有误") {
					t.Errorf("a long %s gives %v", name, reply)
				}
				reply = s.ask(c.path, with(c.valid, name, strings.Repeat("1", limit)))
				if strings.Contains(reply.Get("return_msg"), "长度有误") {
					t.Errorf("a %s that just fits gives %v", name, reply)
				}
			}
			for name, value := range c.malformed {
				reply := s.ask(c.path, with(c.valid, name, value))
				if words := reply.Get("return_msg") + reply.Get("err_code_des"); passed(reply) || !strings.Contains(words, name) {
					t.Errorf("%s %q gives %v", name, value, reply)
				}
			}
		})
	}
}

// Each call takes the algorithms it has and no other, and no foreign key.
func TestEveryCallsSignature(t *testing.T) {
	s := newShop(t)
	for _, c := range callTable {
		by := func(signType wepay.SignType, byName bool, key string) wepay.Fields {
			in := request(c.path, c.valid)
			in.Delete("sign_type")
			if byName {
				in.Set("sign_type", string(signType))
			}
			raw := in.Clone()
			if long, found := c.valid["long_url"]; found {
				raw.Set("long_url", long)
			}
			in.Set("sign", apiv2.Sign(raw, signType, key))
			_, reply, _ := s.raw(c.path, in)
			return reply
		}
		for name, got := range map[string]struct {
			reply wepay.Fields
			want  bool
		}{
			"MD5":         {by(wepay.MD5, false, key), c.signs != "HMAC" && c.path != bankKeyPath},
			"MD5 by name": {by(wepay.MD5, true, key), c.signs == "both"},
			"HMAC":        {by(wepay.HMACSHA256, true, key), c.signs != "MD5"},
			"HMAC alone":  {by(wepay.HMACSHA256, false, key), false},
			"another key": {by(signTypeOf(c.path), signTypeOf(c.path) != wepay.MD5 || c.path == bankKeyPath, key[1:]+"x"), false},
		} {
			if passed(got.reply) != got.want {
				t.Errorf("%s signed with %s gives %v", c.path, name, got.reply)
			}
		}
	}
}

func TestEveryCallsCertificate(t *testing.T) {
	s := newShop(t)
	if err := s.wechat.AddMerchant(wepaytest.Merchant{MchID: storeID, Key: key}); err != nil {
		t.Fatal(err)
	}
	foreign, err := s.wechat.Issue(storeID)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range callTable {
		s.merchant.Certificate = nil
		status, reply, body := s.raw(c.path, request(c.path, c.valid))
		if c.certificate != (status == http.StatusBadRequest) || c.certificate == passed(reply) {
			t.Errorf("%s without a certificate gives HTTP status %d: %s", c.path, status, body)
		}
		if !c.certificate {
			continue
		}
		s.merchant.Certificate = &foreign.Certificate
		reply = s.ask(c.path, c.valid)
		code := map[bool]string{true: "CA_ERROR"}[strings.HasPrefix(c.path, "/mmpay")]
		if passed(reply) || !strings.Contains(reply.Get("return_msg"), "证书错误") || reply.Get("err_code") != code {
			t.Errorf("%s with a foreign certificate gives %v", c.path, reply)
		}
	}
}

// The sandbox has the code payments and what belongs to them, and nothing that
// pays out.
func TestEveryCallInTheSandbox(t *testing.T) {
	s := newShop(t)
	for _, c := range callTable {
		path := "/xdc/apiv2sandbox" + c.path
		status, _, _ := s.raw(path, request(c.path, c.valid))
		if got := status != http.StatusNotFound; got != c.sandbox {
			t.Errorf("%s: HTTP status %d", path, status)
		}
	}
	if status, _, _ := s.raw("/xdc/apiv2sandbox/pay/refund", request(refundPath, validRefund)); status != http.StatusNotFound {
		t.Errorf("without secapi: HTTP status %d", status)
	}
}

// What cannot be read has the form of the call's refusals too.
func TestEveryCallsForm(t *testing.T) {
	s := newShop(t)
	for _, c := range callTable {
		_, body := s.post(c.path, []byte("{}"))
		reply := decode(t, body)
		want := map[string]string{"return_code": "FAIL", "return_msg": "XML格式错误", "sign": ""}
		if c.path == billPath {
			want["return_msg"], want["error_code"] = "data format error", "20001"
		}
		if strings.HasPrefix(c.path, "/mmpay") {
			want["result_code"], want["err_code"] = "FAIL", "XML_ERROR"
		}
		if c.path == bankKeyPath {
			want["result_code"], want["error_code"] = "FAIL", "XML_ERROR"
		}
		check(t, reply, want)
	}
}
