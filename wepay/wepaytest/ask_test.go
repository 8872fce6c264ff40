package wepaytest_test

import (
	"crypto/rand"
	"slices"
	"strings"
	"testing"

	"github.com/windsome/caddy-wepay/wepay"
	"github.com/windsome/caddy-wepay/wepay/apiv2"
	"github.com/windsome/caddy-wepay/wepay/wepaytest"
)

const (
	closePath       = "/pay/closeorder"
	refundQueryPath = "/pay/refundquery"
	micropayPath    = "/pay/micropay"
	reversePath     = "/secapi/pay/reverse"
	openIDPath      = "/tools/authcodetoopenid"
	shortPath       = "/tools/shorturl"
	packetPath      = "/mmpaymkttransfers/sendredpack"
	groupPath       = "/mmpaymkttransfers/sendgroupredpack"
	packetQueryPath = "/mmpaymkttransfers/gethbinfo"
	transferPath    = "/mmpaymkttransfers/promotion/transfers"
	transferQuery   = "/mmpaymkttransfers/gettransferinfo"
	bankPath        = "/mmpaysptrans/pay_bank"
	bankQueryPath   = "/mmpaysptrans/query_bank"
	bankKeyPath     = "/risk/getpublickey"
	sharePath       = "/secapi/pay/profitsharing"
	multiPath       = "/secapi/pay/multiprofitsharing"
	finishPath      = "/secapi/pay/profitsharingfinish"
	returnPath      = "/secapi/pay/profitsharingreturn"
	shareQueryPath  = "/pay/profitsharingquery"
	returnQueryPath = "/pay/profitsharingreturnquery"
	addPath         = "/pay/profitsharingaddreceiver"
	removePath      = "/pay/profitsharingremovereceiver"
	unsharedPath    = "/pay/profitsharingorderamountquery"
	ratioPath       = "/pay/profitsharingmerchantratioquery"
	billPath        = "/pay/downloadbill"
	flowPath        = "/pay/downloadfundflow"
)

// unsigned are the calls whose replies carry no signature.
var unsigned = []string{
	packetPath, groupPath, packetQueryPath, transferPath, transferQuery, bankPath, bankQueryPath, bankKeyPath, billPath, flowPath,
}

// names are how a call names the merchant.
func names(path string) (appName, mchName string) {
	switch path {
	case packetPath, groupPath:
		return "wxappid", "mch_id"
	case transferPath:
		return "mch_appid", "mchid"
	case bankPath, bankQueryPath, bankKeyPath, shareQueryPath, unsharedPath, ratioPath, keyPath:
		return "", "mch_id"
	default:
		return "appid", "mch_id"
	}
}

func signTypeOf(path string) wepay.SignType {
	if strings.Contains(path, "profitsharing") || path == flowPath {
		return wepay.HMACSHA256
	}
	return wepay.MD5
}

// request is a call's with identity and signature.
func request(path string, in map[string]string) wepay.Fields {
	fields := wepay.NewFields(in)
	appName, mchName := names(path)
	if _, given := in[appName]; appName != "" && !given {
		fields.Set(appName, appID)
	}
	if _, given := in[mchName]; !given {
		fields.Set(mchName, mchID)
	}
	fields.Set("nonce_str", rand.Text())
	signType := signTypeOf(path)
	if signType == wepay.HMACSHA256 || path == bankKeyPath {
		fields.Set("sign_type", string(signType))
	}
	fields.Set("sign", apiv2.Sign(fields, signType, key))
	if long, found := in["long_url"]; found {
		fields.Set("long_url", escape(long))
	}
	return fields
}

// ask calls WeChat Pay by hand and returns whatever it answers.
func (s *shop) ask(path string, in map[string]string) wepay.Fields {
	s.t.Helper()
	_, reply, body := s.raw(path, request(path, in))
	if reply == nil {
		s.t.Fatalf("%s answers %.200s", path, body)
	}
	return reply
}

// granted calls WeChat Pay for what it has to do.
func (s *shop) granted(path string, in map[string]string) wepay.Fields {
	s.t.Helper()
	reply := s.ask(path, in)
	if reply.Get("return_code") != "SUCCESS" || reply.Get("result_code") != "SUCCESS" {
		s.t.Fatalf("%s is refused: %v", path, reply)
	}
	_, mchName := names(path)
	check(s.t, reply, map[string]string{mchName: mchID})
	if slices.Contains(unsigned, path) {
		check(s.t, reply, map[string]string{"sign": ""})
	} else if err := apiv2.Verify(reply, key); err != nil {
		s.t.Errorf("%s: the reply has %v", path, err)
	}
	return reply
}

// denied calls WeChat Pay for what it has to refuse with a code.
func (s *shop) denied(path, code string, in map[string]string) {
	s.t.Helper()
	checkDenied(s.t, path, s.ask(path, in), code, "")
}

// checkDenied wants a refusal in the form that a call's have.
func checkDenied(t *testing.T, path string, reply wepay.Fields, code, text string) {
	t.Helper()
	switch {
	case path == bankKeyPath:
		check(t, reply, map[string]string{"return_code": "FAIL", "result_code": "FAIL", "error_code": code, "err_code": "", "sign": ""})
	case strings.HasPrefix(path, "/mmpay"):
		check(t, reply, map[string]string{"return_code": "FAIL", "result_code": "FAIL", "err_code": code, "sign": ""})
		if reply.Get("err_code_des") != reply.Get("return_msg") || !strings.Contains(reply.Get("return_msg"), text) {
			t.Errorf("%s: the refusal is %v", path, reply)
		}
	default:
		checkRefusal(t, reply, code, text)
	}
}

// wallet compares the money of a merchant.
func (s *shop) wallet(of string, want wepaytest.Funds) {
	s.t.Helper()
	if got, found := s.wechat.Funds(of); !found || got != want {
		s.t.Errorf("%s has %+v, want %+v", of, got, want)
	}
}

// deposit has the shop have money.
func (s *shop) deposit(fee int64) {
	s.t.Helper()
	if err := s.wechat.Deposit(mchID, fee); err != nil {
		s.t.Fatal(err)
	}
}

func decode(t *testing.T, body string) wepay.Fields {
	t.Helper()
	fields, err := apiv2.Decode("xml", []byte(body))
	if err != nil {
		t.Fatalf("%v: %.200s", err, body)
	}
	return fields
}
