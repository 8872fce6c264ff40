package apiv2_test

import (
	"bytes"
	"context"
	"errors"
	"net/http"
	"slices"
	"strings"
	"testing"
	"unicode/utf16"

	"github.com/windsome/caddy-wepay/wepay"
	"github.com/windsome/caddy-wepay/wepay/apiv2"
)

// read takes a notification all the way, with a WeChat that answers nothing.
func read(body []byte, key string) (*wepay.Notification, error) {
	return readAsking(body, key, func(*http.Request) (*http.Response, error) {
		return nil, errors.New("WeChat Pay was asked")
	})
}

// readAsking reads a notification of a merchant with a key, and asks WeChat
// where that is needed.
func readAsking(body []byte, key string, wechat transport) (*wepay.Notification, error) {
	unverified, err := apiv2.ReadNotification(body)
	if err != nil {
		return nil, err
	}
	m := merchant("https://wechat.invalid")
	m.PartnerKey = key
	return apiv2.NewClient(m, wepay.ClientOptions{Transport: wechat}).Verify(context.Background(), unverified)
}

// transport answers requests without a network.
type transport func(*http.Request) (*http.Response, error)

func (f transport) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

func TestNotifications(t *testing.T) {
	for file, want := range map[string]map[string]string{
		"v20.xml": {"attach": "福州路店 & 🧦", "coupon_fee": "100", "new_field_of_2031": "x", "total_fee": "1200"},
		"v21.xml": {"attach": "福州路店 & 🧦", "sign": vectors(t)["V21"].Result},
		"v22.xml": {"sub_mch_id": "1900000110", "total_fee": "1"},
	} {
		t.Run(file, func(t *testing.T) {
			n, err := read(testdata(t, file), key)
			if err != nil {
				t.Fatal(err)
			}
			if n.Kind != wepay.Payment || n.Merchant == nil || n.Merchant.Name != "shop" {
				t.Errorf("got kind %q of %v", n.Kind, n.Merchant)
			}
			for name, value := range want {
				if got, found := n.Fields.Lookup(name); !found || got != value {
					t.Errorf("%s is %q (%v), want %q", name, got, found, value)
				}
			}
		})
	}
}

func TestRecipient(t *testing.T) {
	for file, want := range map[string]wepay.Recipient{
		"v20.xml": {MchID: "1900000109", AppID: "wx00112233445566aa", TradeType: "JSAPI"},
		"v22.xml": {MchID: "1900000109", AppID: "wx00112233445566aa", SubMchID: "1900000110", TradeType: "JSAPI"},
	} {
		unverified, err := apiv2.ReadNotification(testdata(t, file))
		if err != nil {
			t.Fatal(err)
		}
		if got := unverified.Recipient(); got != want {
			t.Errorf("%s is for %v, want %v", file, got, want)
		}
	}
}

// A forgery is V20 after one change; each must be refused, for its own reason.
func TestForgeries(t *testing.T) {
	const md5, hmac = "6FDDEF4522BEB596558C81AA25D29FF5", "0A739F3B30E7910E494CCAB24271E48AE914848AF824ED8562A660CF7C93F91C"
	sign := "<sign><![CDATA[" + md5 + "]]></sign>"
	instead := func(value string) func(string) string {
		return func(s string) string { return strings.Replace(s, md5, value, 1) }
	}
	replace := func(old, new string) func(string) string {
		return func(s string) string { return strings.Replace(s, old, new, 1) }
	}
	before := func(text string) func(string) string {
		return func(s string) string { return text + s }
	}
	after := func(text string) func(string) string {
		return func(s string) string { return s + text }
	}
	within := func(text string) func(string) string { return replace("<appid>", text+"<appid>") }
	const fee = "<total_fee>1200</total_fee>"

	malformed, unsigned, wrong := wepay.ErrMalformed, wepay.ErrUnsigned, wepay.ErrSignature
	tests := []struct {
		name  string
		forge func(string) string
		want  error
	}{
		{"sign missing", replace(sign, ""), unsigned},
		{"sign empty", instead(""), unsigned},
		{"sign self-closing", replace(sign, "<sign/>"), unsigned},
		{"sign twice", replace(sign, sign+sign), malformed},
		{"sign twice, one empty", replace(sign, sign+"<sign/>"), malformed},
		{"sign in lower case", instead(strings.ToLower(md5)), wrong},
		{"sign of 31 digits", instead(md5[:31]), wrong},
		{"sign of 33 digits", instead(md5 + "0"), wrong},
		{"sign of 63 digits", instead(hmac[:63]), wrong},
		{"sign of the other algorithm cut", instead(hmac[:32]), wrong},
		{"sign with a blank", instead(md5 + " "), wrong},
		{"sign under another name", replace(sign, strings.ReplaceAll(sign, "sign>", "Sign>")), unsigned},
		{"sign of no key", instead(apiv2.Sign(fieldsOf(t, "v20.xml"), wepay.MD5, "")), wrong},

		{"amount changed", replace(fee, "<total_fee>1</total_fee>"), wrong},
		{"order changed", replace("5ba27cc3a70db45dd108b53f", "5ba27cc3a70db45dd108b540"), wrong},
		{"attach trimmed", replace(" & ", "& "), wrong},
		{"unknown field removed", replace("<new_field_of_2031><![CDATA[x]]></new_field_of_2031>", ""), wrong},
		{"unknown field changed", replace("[x]", "[y]"), wrong},
		{"unknown field added", within("<new_field_of_2032>x</new_field_of_2032>"), wrong},
		{"blank field added", within("<new_field_of_2032> </new_field_of_2032>"), wrong},
		{"field renamed", func(s string) string { return strings.ReplaceAll(s, "cash_fee>", "cash_fef>") }, wrong},
		{"values swapped", func(s string) string {
			return strings.NewReplacer("<cash_fee><![CDATA[1100", "<cash_fee><![CDATA[1200", fee, "<total_fee>1100</total_fee>").Replace(s)
		}, wrong},

		{"sign_type HMAC-SHA256 over an MD5 sign", within("<sign_type>HMAC-SHA256</sign_type>"), wrong},
		{"sign_type MD5 over an HMAC sign", func(s string) string { return within("<sign_type>MD5</sign_type>")(instead(hmac)(s)) }, wrong},
		{"sign_type NONE without sign", func(s string) string { return within("<sign_type>NONE</sign_type>")(replace(sign, "")(s)) }, unsigned},
		{"sign_type NONE with an empty sign", func(s string) string { return within("<sign_type>NONE</sign_type>")(instead("")(s)) }, unsigned},

		{"return_code FAIL", replace("<return_code><![CDATA[SUCCESS]]>", "<return_code><![CDATA[FAIL]]>"), malformed},
		{"return_code missing", replace("<return_code><![CDATA[SUCCESS]]></return_code>", ""), wrong},
		{"return_code in lower case", replace("<return_code><![CDATA[SUCCESS]]>", "<return_code><![CDATA[success]]>"), malformed},

		{"document type", before("<!DOCTYPE xml>"), malformed},
		{"external entity", before(`<!DOCTYPE xml [<!ENTITY xxe SYSTEM "file:///etc/passwd">]>`), malformed},
		{"entity used", replace("<total_fee>1200", "<total_fee>&xxe;"), malformed},
		{"entity in a root", within("&xxe;"), malformed},
		{"entity of HTML", replace("<total_fee>1200", "<total_fee>1200&nbsp;"), malformed},
		{"two roots", func(s string) string { return s + s }, malformed},
		{"another root", func(s string) string { return strings.NewReplacer("<xml>", "<root>", "</xml>", "</root>").Replace(s) }, malformed},
		{"root in capitals", func(s string) string { return strings.NewReplacer("<xml>", "<XML>", "</xml>", "</XML>").Replace(s) }, malformed},
		{"root in a root", func(s string) string { return "<xml>" + s + "</xml>" }, malformed},
		{"element nested", replace(fee, "<total_fee><a>1200</a></total_fee>"), malformed},
		{"element nested beside text", replace(fee, "<total_fee>1200<a/></total_fee>"), malformed},
		{"element twice", replace(fee, fee+fee), malformed},
		{"element twice, one empty", replace(fee, fee+"<total_fee></total_fee>"), malformed},
		{"element twice, far apart", replace("</xml>", "<appid>x</appid></xml>"), malformed},
		{"text after the root", after("x"), malformed},
		{"text before the root", before("x"), malformed},
		{"text among the elements", within("x"), malformed},
		{"NUL after the root", after("\x00"), malformed},
		{"NUL in a value", replace(fee, "<total_fee>1200\x00</total_fee>"), malformed},
		{"BOM", before("\uFEFF"), malformed},
		{"UTF-16, big end first", func(s string) string { return utf16Text(s, true) }, malformed},
		{"UTF-16, little end first", func(s string) string { return utf16Text(s, false) }, malformed},
		{"declared as UTF-16", before(`<?xml version="1.0" encoding="UTF-16"?>`), malformed},
		{"declared as UTF-7", before(`<?xml version="1.0" encoding="UTF-7"?>`), malformed},
		{"not UTF-8", replace("福", "\xb8\xa3"), malformed},
		{"attribute", replace("<total_fee>", `<total_fee a="1">`), malformed},
		{"attribute of the root", replace("<xml>", `<xml a="1">`), malformed},
		{"namespace", replace("<xml>", `<xml xmlns="urn:a">`), malformed},
		{"prefixed name", replace(fee, "<a:total_fee>1200</a:total_fee>"), malformed},
		{"comment among the elements", within("<!-- -->"), malformed},
		{"comment in a value", replace(fee, "<total_fee>12<!-- -->00</total_fee>"), malformed},
		{"comment before the root", before("<!-- -->"), malformed},
		{"comment after the root", after("<!-- -->"), malformed},
		{"processing instruction among the elements", within("<?a b?>"), malformed},
		{"processing instruction in a value", replace(fee, "<total_fee>12<?a?>00</total_fee>"), malformed},
		{"processing instruction before the root", before("<?xml-stylesheet href='a'?>"), malformed},
		{"processing instruction after the root", after("<?a?>"), malformed},
		{"CDATA that never ends", replace("<![CDATA[x]]>", "<![CDATA[x"), malformed},
		{"CDATA end in text", replace(fee, "<total_fee>1200]]></total_fee>"), malformed},
		{"CDATA in small letters", replace("<![CDATA[x]]>", "<![cdata[x]]>"), malformed},
		{"CDATA among the elements", within("<![CDATA[ ]]>"), malformed},
		{"CDATA after the root", after("<![CDATA[]]>"), malformed},
		{"CDATA that hides elements", replace(fee, "<total_fee><![CDATA[1</total_fee><a>]]></total_fee>"), wrong},
		{"cut short", func(s string) string { return s[:len(s)/2] }, malformed},
		{"end tag missing", replace("</xml>", ""), malformed},
		{"end tag of another", replace("</total_fee>", "</cash_fee>"), malformed},
		{"empty", func(string) string { return "" }, malformed},
		{"JSON", func(string) string { return `{"return_code":"SUCCESS"}` }, malformed},
		{"only return_code", func(string) string { return "<xml><return_code>SUCCESS</return_code></xml>" }, unsigned},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			original := string(testdata(t, "v20.xml"))
			forged := test.forge(original)
			if forged == original {
				t.Fatal("the forgery is the original")
			}
			n, err := read([]byte(forged), key)
			if !errors.Is(err, test.want) || n != nil {
				t.Errorf("got %v, %v, want %v", n, err, test.want)
			}
		})
	}
	t.Run("another merchant's key", func(t *testing.T) {
		if n, err := read(testdata(t, "v20.xml"), otherKey); !errors.Is(err, wrong) || n != nil {
			t.Errorf("got %v, %v", n, err)
		}
	})
}

// Nobody signed an element without a value, so that nobody is told of it.
func TestEmptyElements(t *testing.T) {
	genuine, err := read(testdata(t, "v20.xml"), key)
	if err != nil {
		t.Fatal(err)
	}
	for _, empty := range []string{"<device_info/>", "<trade_state></trade_state>", "<refund_id><![CDATA[]]></refund_id>", "<req_info/>", "<coupon_fee_9/>"} {
		n, err := read([]byte(strings.Replace(string(testdata(t, "v20.xml")), "<xml>", "<xml>"+empty, 1)), key)
		if err != nil || n.Kind != wepay.Payment || !slices.Equal(n.Fields, genuine.Fields) {
			t.Errorf("with %s: got %v, %v", empty, n, err)
		}
	}
	if n, err := read(testdata(t, "v22.xml"), key); err != nil || n.Fields.Get("sub_mch_id") == "" {
		t.Error(err)
	} else if _, found := n.Fields.Lookup("device_info"); found {
		t.Error("an empty device_info is passed on")
	}
}

// What changes nothing of what was signed is no forgery.
func TestNotificationsWrittenOtherwise(t *testing.T) {
	for name, rewrite := range map[string]func(string) string{
		"without CDATA":       strings.NewReplacer("<![CDATA[", "", "]]>", "", " & ", " &amp; ").Replace,
		"declared":            func(s string) string { return `<?xml version="1.0" encoding="utf-8"?>` + "\n" + s },
		"with CR LF":          func(s string) string { return strings.ReplaceAll(s, "\n", "\r\n") },
		"an empty field more": func(s string) string { return strings.Replace(s, "<appid>", "<device_info/><appid>", 1) },
		"white space around":  func(s string) string { return " \n" + s + "\r\n\t" },
	} {
		t.Run(name, func(t *testing.T) {
			if _, err := read([]byte(rewrite(string(testdata(t, "v20.xml")))), key); err != nil {
				t.Error(err)
			}
		})
	}
	t.Run("sign_type that was signed", func(t *testing.T) {
		fields := fieldsOf(t, "v20.xml")
		fields.Set("attach", "x")
		fields.Set("sign_type", "MD5")
		if _, err := read([]byte(signed(fields, wepay.MD5, key)), key); err != nil {
			t.Error(err)
		}
	})
}

func fieldsOf(t *testing.T, file string) wepay.Fields {
	t.Helper()
	fields, err := apiv2.Decode("xml", testdata(t, file))
	if err != nil {
		t.Fatal(err)
	}
	return fields
}

func utf16Text(s string, bigEndian bool) string {
	var b bytes.Buffer
	for _, unit := range utf16.Encode([]rune("\uFEFF" + s)) {
		high, low := byte(unit>>8), byte(unit)
		if bigEndian {
			b.Write([]byte{high, low})
		} else {
			b.Write([]byte{low, high})
		}
	}
	return b.String()
}
