package caddymodule

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/caddyserver/caddy/v2"
)

const testAppSecret = "5f4dcc3b5aa765d61d8327deb882cf99"

// The lines stand where TestMerchantLines has its own.
func TestNewMerchantLines(t *testing.T) {
	const (
		args = `merchant "shop": wrong argument count or unexpected line ending after `
		url  = "must be an absolute http:// or https:// URL, at Caddyfile:4"
		form = `merchant "shop": sub_mch_id: may hold digits only, at Caddyfile:4`
	)
	wrongLines{
		{"cb_refund_notify_url", `merchant "shop": cb_refund_notify_url: needs one value, at Caddyfile:4`},
		{"cb_event_url", `merchant "shop": cb_event_url: needs one value, at Caddyfile:4`},
		{"cb_event_url http://a/ http://b/", `merchant "shop": cb_event_url: needs one value, at Caddyfile:4`},
		{"cb_event_url http://a/\ncb_event_url http://a/", `merchant "shop": cb_event_url already specified, at Caddyfile:5`},
		{"cb_event_url /events", `merchant "shop": cb_event_url: ` + url},
		{"app_secret", `merchant "shop": app_secret: needs one value, at Caddyfile:4`},

		{"partnerid", `merchant "shop": partnerid: needs one value, at Caddyfile:4`},
		{"partnerid mch_id sub_mch_id", `merchant "shop": partnerid: needs one value, at Caddyfile:4`},
		{"partnerid mch_id\npartnerid mch_id", `merchant "shop": partnerid already specified, at Caddyfile:5`},
		{"partnerid sp_mchid", `merchant "shop": partnerid: must be mch_id or sub_mch_id, at Caddyfile:4`},
		{"cb_refund_notify_url http://a/ http://b/", `merchant "shop": cb_refund_notify_url: needs one value, at Caddyfile:4`},
		{"app_secret " + testKey + " " + testKey, `merchant "shop": app_secret: needs one value, at Caddyfile:4`},
		{"payouts off", args + "'off', at Caddyfile:4"},
		{"passthrough v2", args + "'v2', at Caddyfile:4"},
		{"session_key WXAPP", args + "'WXAPP', at Caddyfile:4"},

		{"cb_refund_notify_url http://a/\ncb_refund_notify_url http://a/", `merchant "shop": cb_refund_notify_url already specified, at Caddyfile:5`},
		{"app_secret a\napp_secret a", `merchant "shop": app_secret already specified, at Caddyfile:5`},
		{"payouts\npayouts", `merchant "shop": payouts already specified, at Caddyfile:5`},
		{"passthrough\npassthrough", `merchant "shop": passthrough already specified, at Caddyfile:5`},
		{"session_key\nsession_key", `merchant "shop": session_key already specified, at Caddyfile:5`},
		{"sub_mch_id 1 2\nsub_mch_id 3", `merchant "shop": sub_mch_id already specified, at Caddyfile:5`},

		{"cb_refund_notify_url ftp://127.0.0.1/", `merchant "shop": cb_refund_notify_url: ` + url},
		{"cb_refund_notify_url /refunded", `merchant "shop": cb_refund_notify_url: ` + url},
		{"cb_refund_notify_url http://wepay:" + testKey + "@127.0.0.1:port/", `merchant "shop": cb_refund_notify_url: ` + url},
		{"app_secret " + testKey + "-" + testKey[:8], `merchant "shop": app_secret: may hold digits and letters only, at Caddyfile:4`},
		{"app_secret " + testKey + testKey + "x", `merchant "shop": app_secret: is 65 bytes of UTF-8, the limit is 64, at Caddyfile:4`},
		{"sub_mch_id 1900000110 一九", form},
		{"sub_mch_id 1900000110,1900000111", `merchant "shop": sub_mch_id: is 21 bytes of UTF-8, the limit is 16, at Caddyfile:4`},
		{"sub_mch_id *1900000110", form},
		{"sub_mch_id 1900000110 *1", form},
		{"sub_mch_id **", form},
		{"sub_mch_id 19000001*", form},
		{"sub_mch_id 1 " + strings.Repeat("1", 33), `merchant "shop": sub_mch_id: is 33 bytes of UTF-8, the limit is 16, at Caddyfile:4`},

		{"app_secrets a", `merchant "shop": unrecognized directive "app_secrets", at Caddyfile:4`},
		{"payout", `merchant "shop": unrecognized directive "payout", at Caddyfile:4`},
		{"login_endpoint https://a", `merchant "shop": unrecognized directive "login_endpoint", at Caddyfile:4`},
	}.run(t, func(lines string) string { return "{\nwepay {\n" + merchantBlock("shop", lines) + "}\n}\n" })
}

func TestNewOptionLines(t *testing.T) {
	const args = "wrong argument count or unexpected line ending after "
	wrongLines{
		{"risk_endpoint", args + "'risk_endpoint', at Caddyfile:3"},
		{"login_endpoint", args + "'login_endpoint', at Caddyfile:3"},
		{"risk_endpoint https://a https://b", "risk_endpoint: wrong number of values, at Caddyfile:3"},
		{"login_endpoint https://a https://b", "login_endpoint: wrong number of values, at Caddyfile:3"},
		{"risk_endpoint https://a\nrisk_endpoint https://a", "risk_endpoint already specified, at Caddyfile:4"},
		{"login_endpoint https://a\nlogin_endpoint https://a", "login_endpoint already specified, at Caddyfile:4"},
		{"payouts", `unrecognized wepay option "payouts", at Caddyfile:3`},
		{"passthrough", `unrecognized wepay option "passthrough", at Caddyfile:3`},
	}.run(t, options)
}

// What only provisioning can see, as in TestValidate.
func TestValidateNewDirectives(t *testing.T) {
	shop := func(lines string) string { return options(merchantBlock("shop", lines)) + aSite }
	global := func(line string) string { return options(line+"\n"+merchantBlock("shop", "")) + aSite }
	two := func(first, second string) string {
		return options(merchantBlock("shop", first)+merchantBlock("mini", second)) + aSite
	}
	t.Setenv("WEPAY_TEST_EMPTY", "")
	t.Setenv("WEPAY_TEST_SECRET", testAppSecret)
	t.Setenv("WEPAY_TEST_WORDS", testKey[:10]+" "+testKey[:10])
	t.Setenv("WEPAY_TEST_SUB", "1900000111")
	t.Setenv("WEPAY_TEST_ANY", "*")
	const eventsDiffer = `merchant "mini": cb_event_url: a notification of trade type JSAPI cannot be told from one of merchant "shop", and the two disagree about cb_event_url`
	const conflict = `Caddyfile:12: merchant "mini": cb_notify_url: a notification of trade type JSAPI cannot be told from one of merchant "shop", and the two disagree about cb_notify_url, cb_refund_notify_url or partner_key`
	for _, row := range []struct{ name, caddyfile, want string }{
		{"all of them", shop("env WXAPP\ncb_refund_notify_url http://a/\npayouts\npassthrough\napp_secret {env.WEPAY_TEST_SECRET}\nsession_key"), ""},
		{"sub-merchants", shop("sub_mch_id 1900000110 {env.WEPAY_TEST_SUB}"), ""},
		{"any sub-merchant", shop("sub_mch_id *"), ""},
		{"any sub-merchant from elsewhere", shop("sub_mch_id {env.WEPAY_TEST_ANY}"), ""},
		{"a sub-merchant, and any", shop("type partner\nsub_mch_id 1900000110 *"), ""},
		{"other servers", global("risk_endpoint https://a\nlogin_endpoint http://127.0.0.1:1"), ""},

		{"app_secret of two words", shop("app_secret {env.WEPAY_TEST_WORDS}"), `Caddyfile:4: merchant "shop": app_secret: may hold digits and letters only`},
		{"app_secret empty", shop("app_secret {env.WEPAY_TEST_EMPTY}"), `Caddyfile:4: merchant "shop": app_secret: resolving a placeholder: evaluated placeholder {env.WEPAY_TEST_EMPTY} is empty`},
		{"cb_refund_notify_url malformed", shop("cb_refund_notify_url {env.WEPAY_TEST_WORDS}"), `Caddyfile:4: merchant "shop": cb_refund_notify_url: must be an absolute http:// or https:// URL`},
		{"sub_mch_id of two words", shop("sub_mch_id {env.WEPAY_TEST_WORDS}"), `Caddyfile:4: merchant "shop": sub_mch_id: is 21 bytes of UTF-8, the limit is 16`},
		{"sub_mch_id's second of two words", shop("sub_mch_id 1900000110 {env.WEPAY_TEST_WORDS}"), `Caddyfile:4: merchant "shop": sub_mch_id: is 21 bytes of UTF-8, the limit is 16`},
		{"sub_mch_id's second of two words beside any", shop("sub_mch_id * {env.WEPAY_TEST_WORDS}"), `Caddyfile:4: merchant "shop": sub_mch_id: is 21 bytes of UTF-8, the limit is 16`},
		{"sub_mch_id's second empty", shop("sub_mch_id 1900000110 {env.WEPAY_TEST_EMPTY}"), `Caddyfile:4: merchant "shop": sub_mch_id: resolving a placeholder: evaluated placeholder {env.WEPAY_TEST_EMPTY} is empty`},
		{"sub-merchants of 普通商户", shop("type 普通商户\nsub_mch_id 1 2"), `Caddyfile:5: merchant "shop": sub_mch_id: is for type 服务商 only`},
		{"partnerid of 服务商", shop("sub_mch_id 1900000110\npartnerid sub_mch_id"), ""},
		{"partnerid of 普通商户", shop("partnerid mch_id"), `Caddyfile:4: merchant "shop": partnerid: is for type 服务商 only`},
		{"partnerid of two words", shop("sub_mch_id 1900000110\npartnerid {env.WEPAY_TEST_WORDS}"), `Caddyfile:5: merchant "shop": partnerid: must be mch_id or sub_mch_id`},
		{"any sub-merchant of 普通商户", shop("type merchant\nsub_mch_id *"), `Caddyfile:5: merchant "shop": sub_mch_id: is for type 服务商 only`},
		{"risk_endpoint malformed", global("risk_endpoint fraud.mch.weixin.qq.com"), `Caddyfile:3: risk_endpoint: must be an absolute http:// or https:// URL`},
		{"login_endpoint malformed", global("login_endpoint ftp://api.weixin.qq.com"), `Caddyfile:3: login_endpoint: must be an absolute http:// or https:// URL`},
		{"login_endpoint empty", global("login_endpoint {env.WEPAY_TEST_EMPTY}"), `Caddyfile:3: login_endpoint: resolving a placeholder: evaluated placeholder {env.WEPAY_TEST_EMPTY} is empty`},

		{"cb_event_url by a placeholder", shop("cb_event_url {env.WEPAY_TEST_WORDS}"), `Caddyfile:4: merchant "shop": cb_event_url: must be an absolute http:// or https:// URL`},
		{"two that send events to one place", two("cb_event_url http://a/", "env WXAPP\ncb_event_url http://a/"), ""},
		{"two of which one takes events", two("", "env WXAPP\ncb_event_url http://a/"), ""},
		{"two that send events elsewhere", two("cb_event_url http://a/", "env WXAPP\ncb_event_url http://b/"), "Caddyfile:11: " + eventsDiffer},
		{"two that share no sub-merchant", two("sub_mch_id 1 2\ncb_notify_url http://a/", "sub_mch_id 3\ncb_notify_url http://b/"), ""},
		{"two that share one and agree", two("sub_mch_id 1 2\ncb_notify_url http://a/", "sub_mch_id 3 2\ncb_notify_url http://a/"), ""},
		{"two that share one", two("sub_mch_id 1 2\ncb_notify_url http://a/", "sub_mch_id 3 2\ncb_notify_url http://b/"), conflict},
		{"two of which one has any", two("sub_mch_id 1\ncb_notify_url http://a/", "sub_mch_id *\ncb_notify_url http://b/"), conflict},
	} {
		t.Run(row.name, func(t *testing.T) {
			wantError(t, row.caddyfile, row.want)
			warnings, err := validate(t, row.caddyfile)
			if strings.Contains(warnings, testAppSecret) || err != nil && strings.Contains(err.Error(), testAppSecret) {
				t.Errorf("the app_secret is told: %s %v", warnings, err)
			}
		})
	}
}

// In JSON one value of several may stand alone.
func TestSubMchIDInJSON(t *testing.T) {
	for _, test := range []struct{ value, want string }{
		{`"1900000110"`, ""},
		{`["1900000110"]`, ""},
		{`["1900000110","*"]`, ""},
		{`["1900000110","1/2"]`, "sub_mch_id: may hold digits only"},
		{`1900000110`, "cannot unmarshal number"},
	} {
		t.Run(test.value, func(t *testing.T) {
			config := testConfig(t, ":8080\n")
			config.AppsRaw["wepay"] = json.RawMessage(`{"merchants":[{"name":"shop","app_id":"wx00112233445566dd","mch_id":"1900000109","partner_key":"` +
				testKey + `","sub_mch_id":` + test.value + `}]}`)
			err := caddy.Validate(config)
			if test.want == "" && err != nil || test.want != "" && (err == nil || !strings.Contains(err.Error(), test.want)) {
				t.Errorf("got %v, want %q", err, test.want)
			}
		})
	}
}
