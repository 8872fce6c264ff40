package e2e_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/windsome/caddy-wepay/wepay/wepaytest"
)

// What only WeChat or only the merchant may read in these tests, none of which may
// be anywhere else.
const (
	payeesName, payersPhone = "张三丰机密", "13800138000"
	tooMuch                 = 43 // times the name, which is more than can be encrypted
)

// keepsSecrets demands that neither the log nor what WeChat got has them.
func (env *environment) keepsSecrets() {
	env.t.Helper()
	heard := strings.Join(env.caddyLog(), "\n")
	for _, r := range env.received() {
		heard += string(r.Body)
	}
	for _, secret := range []string{payeesName, payersPhone, url.QueryEscape(payeesName)} {
		if strings.Contains(heard, secret) {
			env.t.Errorf("the log or WeChat has %s", secret)
		}
	}
}

// An application for a sub-merchant needs no SDK: its secrets are encrypted here.
func TestPassThroughV3Applyment(t *testing.T) {
	env, partner := newEnvironment(t), newV3Merchant("partner", 1)
	partner.subMchID, partner.subAppID = subFirst, appFirst
	env.serve(env.stalls(stall{partner, []string{"passthrough"}}))
	body := fmt.Sprintf(`{
  "business_code": "B1",
  "contact_info": {"contact_type":"LEGAL", "contact_name":{"$encrypt":%q}, "mobile_phone": {"$encrypt":%q}},
  "subject_info": {"subject_type":"SUBJECT_TYPE_ENTERPRISE","ubo_info_list":[{"ubo_id_doc_name":{ "$encrypt" : %q }}]},
  "business_info":{"merchant_shortname":"店","rate":0.60}
}`, payeesName, payersPhone, payeesName)
	const call = "/v3/applyment4sub/applyment/"
	a := env.pass(http.MethodPost, call+"?merchant=partner", body, "Content-Type", "application/json")
	if a.status != http.StatusOK || !strings.Contains(a.body, `"applyment_id"`) {
		t.Fatalf("HTTP %d %s", a.status, a.body)
	}
	kept, err := env.wechat.Applyment(partner.mchID, "B1")
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{`"contact_name":"` + payeesName + `"`, `"mobile_phone":"` + payersPhone + `"`, `"ubo_id_doc_name":"` + payeesName + `"`, `"rate":0.60`} {
		if !strings.Contains(string(kept), want) {
			t.Errorf("WeChat keeps %s, wants %s", kept, want)
		}
	}
	// A caller that encrypts by itself names the key, and may have the rest encrypted.
	serial := env.lastV3().Header.Get("Wechatpay-Serial")
	a = env.pass(http.MethodPost, call+"?merchant=partner", strings.Replace(body, "B1", "B2", 1), "Content-Type", "application/json", "Wechatpay-Serial", serial)
	if got := env.lastV3().Header.Get("Wechatpay-Serial"); a.status != http.StatusOK || serial == "" || got != serial {
		t.Errorf("with a key named by the caller: HTTP %d %s, sent %q", a.status, a.body, got)
	}
	a = env.pass(http.MethodPost, call+"?merchant=partner", body, "Wechatpay-Serial", partner.credential.Serial)
	if a.Errcode != 40003 || !strings.HasPrefix(a.XOrigMsg, "Wechatpay-Serial: ") {
		t.Errorf("with the merchant's own: HTTP %d %s", a.status, a.body)
	}
	if a := env.pass(http.MethodGet, call+"business_code/B1?merchant=partner", ""); a.status != http.StatusOK || !strings.Contains(a.body, "AUDITING") {
		t.Errorf("HTTP %d %s", a.status, a.body)
	}
	before := len(env.received())
	for body, field := range map[string]string{
		`{"contact_info":{"contact_name":{"$encrypt":"` + payeesName + `","a":1}}}`:                    "/contact_info/contact_name: ",
		`{"list":[{"$encrypt":["` + payeesName + `"]}]}`:                                               "/list/0: ",
		`{"contact_info":{"contact_name":{"$encrypt":"` + strings.Repeat(payeesName, tooMuch) + `"}}}`: "/contact_info/contact_name: is too long",
	} {
		if a := env.pass(http.MethodPost, call+"?merchant=partner", body); a.Errcode != 40003 || !strings.HasPrefix(a.XOrigMsg, field) || strings.Contains(a.body, payeesName) {
			t.Errorf("HTTP %d %s", a.status, a.body)
		}
	}
	if after := len(env.received()); after > before {
		t.Errorf("WeChat got %d more requests", after-before)
	}
	env.keepsSecrets()
}

// Complaints come with the payers' phones, which WeChat encrypts for the merchant.
func TestPassThroughV3Complaints(t *testing.T) {
	env, shop, _, _ := newV3Stall(t)
	for _, phone := range []string{payersPhone, ""} {
		if _, err := env.wechat.Complain(shop.mchID, wepaytest.Complaint{OutTradeNo: "order-1", Detail: "重复扣费", PayerPhone: phone}); err != nil {
			t.Fatal(err)
		}
	}
	day := env.clock.Now().In(time.FixedZone("", 8*60*60)).Format(time.DateOnly)
	call := "/v3/merchant-service/complaints-v2?begin_date=" + day + "&merchant=shop&end_date=" + day
	closed := env.pass(http.MethodGet, call, "")
	a := env.pass(http.MethodGet, call+"&decrypt=data.payer_phone&limit=2", "")
	var got struct {
		Data []struct {
			Phone  string `json:"payer_phone"`
			Detail string `json:"complaint_detail"`
		} `json:"data"`
		Total int `json:"total_count"`
	}
	if err := json.Unmarshal([]byte(a.body), &got); err != nil || a.status != http.StatusOK || got.Total != 2 || len(got.Data) != 2 ||
		got.Data[0].Phone != payersPhone || got.Data[1].Phone != "" || got.Data[0].Detail != "重复扣费" {
		t.Errorf("HTTP %d %s (%v)", a.status, a.body, err)
	}
	if strings.Contains(closed.body, payersPhone) || a.header.Get("Wepay-Not-Decrypted") != "" || a.header.Get("Cache-Control") != "no-store" {
		t.Errorf("not asked for it: %s, and asked: %v", closed.body, a.header)
	}
	if query := env.lastV3().Fields; len(query) != 3 || query.Get("limit") != "2" {
		t.Errorf("WeChat got the query %v", query)
	}
	a = env.pass(http.MethodGet, call+"&decrypt=data.complaint_detail,data.payer_phone,nothing", "")
	if a.status != http.StatusOK || a.header.Get("Wepay-Not-Decrypted") != "data.complaint_detail" || !strings.Contains(a.body, payersPhone) || !strings.Contains(a.body, "重复扣费") {
		t.Errorf("HTTP %d %v %s", a.status, a.header, a.body)
	}
	if n := env.logs(`"level":"warn"`, `"merchant":"shop"`, `"members":["data.complaint_detail"]`); n != 1 {
		t.Errorf("the log says so %d times", n)
	}
	for _, paths := range []string{"data[].payer_phone", "a,,b", "a&decrypt=b", "%zz"} {
		if a := env.pass(http.MethodGet, call+"&decrypt="+paths, ""); a.Errcode != 40003 || !strings.HasPrefix(a.XOrigMsg, "decrypt: ") {
			t.Errorf("%s: HTTP %d %s", paths, a.status, a.body)
		}
	}
	env.keepsSecrets()
}

// A transfer by the payee's name, by whichever key WeChat is known, and what one
// that gets no answer leaves in the log.
func TestPassThroughV3Transfer(t *testing.T) {
	for _, mode := range []wepaytest.KeyMode{wepaytest.ByCertificate, wepaytest.ByPublicKey} {
		env, shop := newEnvironment(t), newV3Merchant("shop", 1)
		shop.v3.mode, shop.v3.publicKey = mode, mode == wepaytest.ByPublicKey
		env.serve(env.stalls(stall{shop, []string{"passthrough"}}))
		env.deposit(shop)
		env.wechat.NamePayee(openID, payeesName)
		const call = "/v3/fund-app/mch-transfer/transfer-bills"
		transfer := func(number string) answer {
			return env.pass(http.MethodPost, call+"?merchant=shop", fmt.Sprintf(`{"appid":%q,"out_bill_no":%q,"transfer_scene_id":"1000","openid":%q,"user_name":{"$encrypt":%q},
				"transfer_amount":300,"transfer_remark":"奖励","transfer_scene_report_infos":[{"info_type":"活动名称","info_content":"新会员有礼"}]}`, shop.appID, number, openID, payeesName))
		}
		if a := transfer("T1"); a.status != http.StatusOK || !strings.Contains(a.body, `"package_info"`) {
			t.Fatalf("HTTP %d %s", a.status, a.body)
		}
		if _, err := env.wechat.ConfirmTransfer(shop.mchID, "T1"); err != nil {
			t.Fatal(err)
		}
		if a := env.pass(http.MethodGet, call+"/out-bill-no/T1?merchant=shop", ""); !strings.Contains(a.body, `"state":"SUCCESS"`) {
			t.Errorf("WeChat read another name: %s", a.body)
		}
		env.wechat.Misbehave(call, wepaytest.Fault{Kind: wepaytest.HTML, Status: 502})
		if a := transfer("T2"); a.status != http.StatusBadGateway || a.Verdict != "QUERY" {
			t.Errorf("HTTP %d %s", a.status, a.body)
		}
		if n := env.logs(`"verdict":"QUERY"`, `"out_bill_no":"T2"`); n != 1 {
			t.Errorf("the log says which %d times", n)
		}
		env.keepsSecrets()
		if err := env.unload(); err != nil {
			t.Fatal(err)
		}
	}
}

// WeChat's own test of the keys, as an operation and passed on.
func TestSecurityEcho(t *testing.T) {
	env, _, _, old := newV3Stall(t)
	got := env.get("security_echo", map[string]any{"merchant": "shop", "echo_message": "你好", "encrypted_echo_message": payeesName})
	if got["echo_message"] != "你好" || got["encrypted_echo_message"] != payeesName {
		t.Errorf("got %v", got)
	}
	body := fmt.Sprintf(`{"echo_message":"你好","encrypted_echo_message":{"$encrypt":%q}}`, payeesName)
	a := env.pass(http.MethodPost, "/v3/security/echo?merchant=shop&decrypt=encrypted_echo_message", body)
	if want := fmt.Sprintf(`{"echo_message":"你好","encrypted_echo_message":%q}`, payeesName); a.body != want {
		t.Errorf("HTTP %d %s, wants %s", a.status, a.body, want)
	}
	if a := env.ask("security_echo", map[string]any{"merchant": old.name, "echo_message": "x"}); a.Errcode != 40010 {
		t.Errorf("of a merchant of API v2: HTTP %d %s", a.status, a.body)
	}
	if a := env.ask("security_echo", map[string]any{"merchant": "shop"}); a.Errcode != 40008 || !strings.HasPrefix(a.XOrigMsg, "echo_message: ") {
		t.Errorf("of nothing: HTTP %d %s", a.status, a.body)
	}
	env.keepsSecrets()
}
