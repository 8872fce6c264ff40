package wepay_test

import (
	"crypto/tls"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/windsome/caddy-wepay/wepay"
)

func TestValidate(t *testing.T) {
	tests := []struct {
		name    string
		change  func(*wepay.Merchant)
		refused string
		missing bool
	}{
		{name: "as it is", change: func(*wepay.Merchant) {}},
		{name: "WXAPP", change: env(wepay.WXAPP)},
		{name: "APP", change: env(wepay.APP)},
		{name: "MWEB", change: env(wepay.MWEB)},
		{name: "NATIVE", change: env(wepay.NATIVE)},
		{name: "no env", change: env(""), refused: "env", missing: true},
		{name: "env in lower case", change: env("h5"), refused: "env"},
		{name: "no type", change: func(m *wepay.Merchant) { m.Type = "" }, refused: "type", missing: true},
		// ParseType reads these words, but a Merchant holds what ParseType returns.
		{name: "type as its English word", change: func(m *wepay.Merchant) { m.Type = "merchant" }, refused: "type"},
		{name: "partner as its English word", change: func(m *wepay.Merchant) { m.Type = "partner" }, refused: "type"},
		{name: "no app_id", change: func(m *wepay.Merchant) { m.AppID = "" }, refused: "app_id", missing: true},
		{name: "app_id with a blank", change: func(m *wepay.Merchant) { m.AppID = "wx 1" }, refused: "app_id"},
		{name: "app_id of 17", change: app("wx00112233445566a"), refused: "app_id"},
		{name: "app_id of 19", change: app("wx00112233445566aaa"), refused: "app_id"},
		{name: "app_id of a company in WeCom", change: app("ww00112233445566aa")},
		{name: "app_id of an original id", change: app("gh_00112233445566a"), refused: "app_id"},
		{name: "app_id in capitals", change: app("WX00112233445566AA"), refused: "app_id"},
		{name: "app_id with full-width digits", change: app("wx0011223344５５"), refused: "app_id"},
		{name: "mch_id in app_id's place", change: app("1900000109"), refused: "app_id"},
		{name: "sub_app_id short", change: func(m *wepay.Merchant) { m.Type, m.SubMchID, m.SubAppID = wepay.Partner, "1", "wx1" }, refused: "sub_app_id"},
		{name: "no mch_id", change: func(m *wepay.Merchant) { m.MchID = "" }, refused: "mch_id", missing: true},
		{name: "a key in mch_id's place", change: func(m *wepay.Merchant) { m.MchID = key }, refused: "mch_id"},
		{name: "mch_id with a letter", change: func(m *wepay.Merchant) { m.MchID = "190000010x" }, refused: "mch_id"},
		{name: "mch_id of many digits", change: func(m *wepay.Merchant) { m.MchID = "12345678901234567" }, refused: "mch_id"},
		{name: "sub_mch_id with a letter", change: func(m *wepay.Merchant) { m.Type, m.SubMchID = wepay.Partner, "190000010x" }, refused: "sub_mch_id"},
		{name: "mch_id with a line end", change: func(m *wepay.Merchant) { m.MchID = "1900000109\n" }, refused: "mch_id"},
		{name: "direct with sub_app_id", change: subApp, refused: "sub_app_id"},
		{name: "direct with sub_mch_id", change: func(m *wepay.Merchant) { m.SubMchID = "1" }, refused: "sub_mch_id"},
		{name: "partner without sub_mch_id", change: func(m *wepay.Merchant) { m.Type = wepay.Partner }, refused: "sub_mch_id", missing: true},
		{name: "partner with sub_mch_id", change: func(m *wepay.Merchant) { m.Type, m.SubMchID = wepay.Partner, "1" }},
		{name: "no partner_key", change: func(m *wepay.Merchant) { m.PartnerKey = "" }, refused: "partner_key", missing: true},
		{name: "partner_key of 31", change: func(m *wepay.Merchant) { m.PartnerKey = key[1:] }, refused: "partner_key"},
		{name: "partner_key of 33", change: func(m *wepay.Merchant) { m.PartnerKey = key + "a" }, refused: "partner_key"},
		{name: "partner_key with a blank", change: func(m *wepay.Merchant) { m.PartnerKey = key[1:] + " " }, refused: "partner_key"},
		{name: "partner_key in Chinese", change: func(m *wepay.Merchant) { m.PartnerKey = key[3:] + "密" }, refused: "partner_key"},
		{name: "no sign_type", change: func(m *wepay.Merchant) { m.SignType = "" }, refused: "sign_type", missing: true},
		{name: "sign_type SHA-1", change: func(m *wepay.Merchant) { m.SignType = "SHA-1" }, refused: "sign_type"},
		{name: "sign_type HMAC-SHA256", change: func(m *wepay.Merchant) { m.SignType = wepay.HMACSHA256 }},
		{name: "no notify_url", change: func(m *wepay.Merchant) { m.NotifyURL = "" }},
		{name: "notify_url with a query", change: func(m *wepay.Merchant) { m.NotifyURL += "?a=1" }, refused: "notify_url"},
		{name: "notify_url of 257", change: func(m *wepay.Merchant) { m.NotifyURL = "https://a/" + strings.Repeat("a", 247) }, refused: "notify_url"},
		{name: "notify_url of 256", change: func(m *wepay.Merchant) { m.NotifyURL = "https://a/" + strings.Repeat("a", 246) }},
		{name: "no cb_notify_url", change: callback("")},
		{name: "cb_notify_url with a query", change: callback("http://orders/?a=1")},
		{name: "cb_notify_url without a host", change: callback("/pay_notify"), refused: "cb_notify_url"},
		{name: "no endpoint", change: func(m *wepay.Merchant) { m.Endpoints = nil }, refused: "endpoint", missing: true},
		{name: "endpoint without a scheme", change: func(m *wepay.Merchant) { m.Endpoints = []string{"api.mch.weixin.qq.com"} }, refused: "endpoint"},
		{name: "endpoints with ports", change: endpoints("https://a:8443", "https://b:8443")},
		{name: "first endpoint empty", change: endpoints("", "https://b"), refused: "endpoint", missing: true},
		{name: "second endpoint empty", change: endpoints("https://a", ""), refused: "endpoint", missing: true},
		{name: "second endpoint wrong", change: func(m *wepay.Merchant) { m.Endpoints = []string{wepay.DefaultEndpoints[0], "x"} }, refused: "endpoint"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			err := direct(test.change).Validate(now)
			if fieldErr := wantField(t, err, test.refused); fieldErr != nil && fieldErr.Missing != test.missing {
				t.Errorf("Missing is %v for %v", fieldErr.Missing, err)
			}
			if err != nil && strings.Contains(err.Error(), key[3:31]) {
				t.Errorf("the error repeats the key: %v", err)
			}
		})
	}
}

func endpoints(urls ...string) func(*wepay.Merchant) {
	return func(m *wepay.Merchant) { m.Endpoints = urls }
}

func TestValidateCertificate(t *testing.T) {
	m := direct(certificate(t, "wechat.p12"))
	leaf := m.Certificate.Leaf
	for name, test := range map[string]struct {
		at      time.Time
		refused string
	}{
		"before":      {leaf.NotBefore.Add(-time.Second), "pfx"},
		"at its dawn": {leaf.NotBefore, ""},
		"at its end":  {leaf.NotAfter, ""},
		"after":       {leaf.NotAfter.Add(time.Second), "pfx"},
	} {
		t.Run(name, func(t *testing.T) { wantField(t, m.Validate(test.at), test.refused) })
	}
	t.Run("expired", func(t *testing.T) {
		wantField(t, direct(certificate(t, "expired.p12")).Validate(now), "pfx")
	})
}

// certificate gives a merchant a .p12 file of ../testdata, which has mch_id
// 1900000109 for a passphrase.
func certificate(t *testing.T, file string) func(*wepay.Merchant) {
	t.Helper()
	cert, err := wepay.ParsePKCS12(testdata(t, file), "1900000109")
	if err != nil {
		t.Fatal(err)
	}
	return func(m *wepay.Merchant) { m.Certificate = cert }
}

func TestWarnings(t *testing.T) {
	withCertificate := certificate(t, "wechat.p12")
	notAfter := direct(withCertificate).Certificate.Leaf.NotAfter
	endpoint := func(url string) func(*wepay.Merchant) {
		return func(m *wepay.Merchant) { m.Endpoints = []string{url} }
	}
	tests := []struct {
		name   string
		change func(*wepay.Merchant)
		at     time.Time
		want   string // a part of the only warning, "" for none
	}{
		{"nothing", func(*wepay.Merchant) {}, now, ""},
		{"a good certificate", withCertificate, now, ""},
		{"no cb_notify_url", callback(""), now, "cb_notify_url"},
		{"another merchant's certificate", func(m *wepay.Merchant) { withCertificate(m); m.MchID = "1900000111" }, now, "1900000109"},
		{"30 days left", withCertificate, notAfter.Add(-30 * 24 * time.Hour), ""},
		{"less than 30 days left", withCertificate, notAfter.Add(-30*24*time.Hour + time.Second), "expires on"},
		{"plain endpoint", endpoint("http://api.mch.weixin.qq.com"), now, "not https"},
		{"plain endpoint on this machine", endpoint("http://127.0.0.1:8080"), now, ""},
		{"plain endpoint on this machine, IPv6", endpoint("http://[::1]:8080"), now, ""},
		{"plain endpoint on localhost", endpoint("http://localhost:8080"), now, ""},
		{"plain endpoint of a misleading name", endpoint("http://localhost.example.cn"), now, "not https"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			got := direct(test.change).Warnings(test.at)
			switch {
			case test.want == "" && len(got) != 0:
				t.Errorf("unexpected warnings %q", got)
			case test.want != "" && (len(got) != 1 || !strings.Contains(got[0], test.want)):
				t.Errorf("got %q, want one about %q", got, test.want)
			}
		})
	}
}

func TestParseType(t *testing.T) {
	for word, want := range map[string]wepay.Type{
		"普通商户": wepay.Direct, "merchant": wepay.Direct, "服务商": wepay.Partner, "partner": wepay.Partner, "": "", "Merchant": "",
	} {
		t.Run(word, func(t *testing.T) {
			got, err := wepay.ParseType(word)
			if got != want || (err != nil) != (want == "") {
				t.Errorf("got %q, %v", got, err)
			}
		})
	}
}

func TestConfigureTLS(t *testing.T) {
	config := new(tls.Config)
	direct().ConfigureTLS(config)
	if config.GetClientCertificate != nil {
		t.Error("a merchant without a certificate presents one")
	}

	m := direct(certificate(t, "wechat.p12"))
	m.ConfigureTLS(config)
	// The server hints at an authority that did not issue the certificate.
	got, err := config.GetClientCertificate(&tls.CertificateRequestInfo{AcceptableCAs: [][]byte{[]byte("another")}})
	if err != nil || got != m.Certificate {
		t.Errorf("presents %v, %v", got, err)
	}
}

func TestRequireCertificate(t *testing.T) {
	if err := direct().RequireCertificate(); !errors.Is(err, wepay.ErrNotAble) || !strings.Contains(err.Error(), `"shop"`) {
		t.Errorf("got %v, want ErrNotAble with the merchant's name", err)
	}
	if err := direct(certificate(t, "wechat.p12")).RequireCertificate(); err != nil {
		t.Error(err)
	}
}
