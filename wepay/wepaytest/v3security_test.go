package wepaytest_test

import (
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha1"
	"encoding/base64"
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/windsome/caddy-wepay/wepay"
	"github.com/windsome/caddy-wepay/wepay/wepaytest"
)

const echoPath = "/v3/security/echo"

// opened decrypts what WeChat encrypted for the shop.
func (s *v3shop) opened(sealed string) string {
	s.t.Helper()
	raw, err := base64.StdEncoding.DecodeString(sealed)
	if err != nil {
		s.t.Fatalf("%q: %v", sealed, err)
	}
	plain, err := rsa.DecryptOAEP(sha1.New(), nil, s.credential.Certificate.PrivateKey.(*rsa.PrivateKey), raw, nil)
	if err != nil {
		s.t.Fatalf("%q: %v", sealed, err)
	}
	return string(plain)
}

// WeChat's test gives back both messages, the one encrypted for the merchant, and
// tells of it where it is asked to.
func TestV3SecurityEcho(t *testing.T) {
	s := newV3Shop(t, byPublicKey)
	got := s.granted("POST", echoPath, obj{"echo_message": "你好", "encrypted_echo_message": s.encrypted("张三"), "notify_url": s.notified.URL})
	if got.at("echo_message") != "你好" || s.opened(got.at("encrypted_echo_message")) != "张三" {
		t.Errorf("got %s", got.raw)
	}
	if told := len(s.notified.received()); told > 0 {
		t.Errorf("told %d times before the reply", told)
	}
	s.clock.Advance(time.Second)
	heard := s.notified.received()
	if len(heard) != 1 {
		t.Fatalf("told %d times", len(heard))
	}
	if err := s.verify(s.notified.header, heard[0]); err != nil {
		t.Errorf("the notification's signature: %v", err)
	}
	envelope := decodeJSON(t, heard[0])
	checkAt(t, envelope, map[string]string{"event_type": "SECURITY_ECHO.SUCCESS", "resource.original_type": "security", "summary": "回调通知成功"})
	resource := decodeJSON(t, open(t, apiV3Key, envelope["resource"].(map[string]any)))
	if at(resource, "echo_message") != "你好" || s.opened(at(resource, "encrypt_echo_message")) != "张三" {
		t.Errorf("it says %v", resource)
	}

	plain := s.granted("POST", echoPath, obj{"echo_message": "x"})
	if s.clock.Advance(time.Hour); len(plain.body) != 1 || len(s.notified.received()) != 1 {
		t.Errorf("the shortest gives %s, told %d times", plain.raw, len(s.notified.received()))
	}
	s.denied(400, "PARAM_ERROR", s.message("POST", echoPath, obj{"encrypted_echo_message": s.encrypted("x")}))
	s.denied(400, "PARAM_ERROR", s.message("POST", echoPath, obj{"echo_message": "x", "encrypted_echo_message": "plain"}))
	s.denied(400, "PARAM_ERROR", s.message("POST", echoPath, obj{"echo_message": "x", "notify_url": "/n"}))
	own, err := rsa.EncryptOAEP(sha1.New(), rand.Reader, &s.credential.Certificate.PrivateKey.(*rsa.PrivateKey).PublicKey, []byte("x"), nil)
	if err != nil {
		t.Fatal(err)
	}
	s.denied(400, "PARAM_ERROR", s.message("POST", echoPath, obj{"echo_message": "x", "encrypted_echo_message": base64.StdEncoding.EncodeToString(own)}))
	certificates := newV3Shop(t)
	certificates.denied(400, "PARAM_ERROR", certificates.message("POST", echoPath, obj{"echo_message": "x"}))
}

// A partner's application is kept with what was encrypted opened; what was not is
// refused.
func TestV3Applyment(t *testing.T) {
	s := newV3Shop(t, byPublicKey, partnerOf)
	const path = "/v3/applyment4sub/applyment/"
	application := func(code string) obj {
		return obj{
			"business_code": code, "subject_info": obj{"subject_type": "SUBJECT_TYPE_ENTERPRISE", "ubo_info_list": []obj{{"ubo_id_doc_name": s.encrypted("李四")}}},
			"contact_info":  obj{"contact_type": "LEGAL", "contact_name": s.encrypted("张三"), "mobile_phone": s.encrypted("13800138000")},
			"business_info": obj{"merchant_shortname": "店"},
		}
	}
	id := s.granted("POST", path, application("B1")).at("applyment_id")
	for _, by := range []string{"business_code/B1", "applyment_id/" + id} {
		checkAt(t, s.granted("GET", path+by, nil).body, map[string]string{"business_code": "B1", "applyment_id": id, "applyment_state": "APPLYMENT_STATE_AUDITING"})
	}
	kept, err := s.wechat.Applyment(mchID, "B1")
	if err != nil {
		t.Fatal(err)
	}
	var got obj
	if err := json.Unmarshal(kept, &got); err != nil {
		t.Fatal(err)
	}
	checkAt(t, got, map[string]string{"contact_info.contact_name": "张三", "contact_info.mobile_phone": "13800138000", "subject_info.ubo_info_list.0.ubo_id_doc_name": "李四"})
	s.denied(400, "INVALID_REQUEST", s.message("POST", path, application("B1")))
	s.denied(400, "PARAM_ERROR", s.message("POST", path, changed(application("B2"), "contact_info.contact_name", "张三")))
	s.denied(400, "PARAM_ERROR", s.message("POST", path, changed(application("B2"), "contact_info.contact_name", nil)))
	s.denied(400, "PARAM_ERROR", s.message("POST", path, changed(application("B2"), "bank_account_info", obj{"account_number": "6222"})))
	s.denied(404, "RESOURCE_NOT_EXISTS", s.message("GET", path+"business_code/B2", nil))
	if kept, err := s.wechat.Applyment(mchID, "B2"); kept != nil || err != nil {
		t.Errorf("got %s, %v", kept, err)
	}
	if _, err := s.wechat.Applyment("1", "B1"); !errors.Is(err, wepay.ErrNoMerchant) {
		t.Errorf("of nobody: got %v", err)
	}
	direct := newV3Shop(t, byPublicKey)
	direct.denied(403, "NO_AUTH", direct.message("POST", path, obj{"business_code": "B1", "subject_info": obj{}, "contact_info": obj{}, "business_info": obj{}}))
}

// Complaints come a page at a time, with the payer's phone encrypted.
func TestV3Complaints(t *testing.T) {
	s := newV3Shop(t, byPublicKey)
	var ids []string
	for _, phone := range []string{"13800138000", "", "13900139000"} {
		id, err := s.wechat.Complain(mchID, wepaytest.Complaint{OutTradeNo: "ORDER-1", Detail: "重复扣费", PayerPhone: phone})
		if err != nil {
			t.Fatal(err)
		}
		ids = append(ids, id)
	}
	const path, days = "/v3/merchant-service/complaints-v2", "begin_date=2026-01-01&end_date=2026-01-01"
	page := s.granted("GET", path+"?limit=2&offset=1&"+days, nil)
	checkAt(t, page.body, map[string]string{"total_count": "3", "limit": "2", "offset": "1", "data.0.complaint_id": ids[1], "data.0.payer_phone": "", "data.1.complaint_id": ids[2], "data.2": ""})
	if got := s.opened(page.at("data.1.payer_phone")); got != "13900139000" {
		t.Errorf("the phone is %s", got)
	}
	if one := s.granted("GET", path+"/"+ids[0], nil); s.opened(one.at("payer_phone")) != "13800138000" || one.at("complaint_detail") != "重复扣费" {
		t.Errorf("got %s", one.raw)
	}
	checkAt(t, s.granted("GET", path+"?begin_date=2026-01-02&end_date=2026-01-03", nil).body, map[string]string{"total_count": "0"})
	for _, query := range []string{"", "?begin_date=2026-01-01", "?" + days + "&limit=51", "?" + days + "&limit=0", "?" + days + "&limit=x", "?" + days + "&limit=" + strings.Repeat("9", 30), "?" + strings.ReplaceAll(days, "-", "")} {
		s.denied(400, "PARAM_ERROR", s.message("GET", path+query, nil))
	}
	s.denied(404, "RESOURCE_NOT_EXISTS", s.message("GET", path+"/1", nil))
	if _, err := s.wechat.Complain("1", wepaytest.Complaint{}); !errors.Is(err, wepay.ErrNoMerchant) {
		t.Errorf("of nobody: got %v", err)
	}
}
