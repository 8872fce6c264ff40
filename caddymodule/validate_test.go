package caddymodule

import (
	"bytes"
	"encoding/json"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"

	"github.com/windsome/caddy-wepay/wepay/wepaytest"
)

// Secrets of the tests, none of which may ever be told.
const (
	otherTestKey   = "192006250b4c09247ec02edce69f6a2d"
	testPassphrase = "open-sesame-4711"
	testToken      = "token-of-the-order-service"
	testSecret     = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
)

// memoryLog is a writer of Caddy's log that keeps the text.
type memoryLog struct{}

var logged struct {
	sync.Mutex
	bytes.Buffer
}

func init() { caddy.RegisterModule(memoryLog{}) }

func (memoryLog) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{ID: "caddy.logging.writers.wepay_test", New: func() caddy.Module { return new(memoryLog) }}
}
func (memoryLog) String() string                        { return "memory" }
func (memoryLog) WriterKey() string                     { return "memory" }
func (m memoryLog) OpenWriter() (io.WriteCloser, error) { return m, nil }
func (memoryLog) Close() error                          { return nil }
func (memoryLog) Write(text []byte) (int, error) {
	logged.Lock()
	defer logged.Unlock()
	return logged.Buffer.Write(text)
}

// testConfig adapts a Caddyfile into a config that logs warnings to memory.
func testConfig(t *testing.T, caddyfile string) *caddy.Config {
	t.Helper()
	// Caddy keeps an id of its own among the user's data.
	t.Setenv("XDG_DATA_HOME", t.TempDir())
	adapted, _, err := adapt(caddyfile)
	if err != nil {
		t.Fatal(err)
	}
	config := new(caddy.Config)
	if err := caddy.StrictUnmarshalJSON(adapted, config); err != nil {
		t.Fatal(err)
	}
	config.Logging = &caddy.Logging{Logs: map[string]*caddy.CustomLog{"default": {BaseLog: caddy.BaseLog{
		WriterRaw: json.RawMessage(`{"output":"wepay_test"}`), EncoderRaw: json.RawMessage(`{"format":"json"}`), Level: "WARN",
	}}}}
	logged.Lock()
	defer logged.Unlock()
	logged.Reset()
	return config
}

// validate does with a Caddyfile what caddy validate does, and returns the
// warnings that were logged.
func validate(t *testing.T, caddyfile string) (warnings string, err error) {
	t.Helper()
	return validateConfig(t, testConfig(t, caddyfile))
}

func validateConfig(t *testing.T, config *caddy.Config) (warnings string, err error) {
	t.Helper()
	err = caddy.Validate(config)
	logged.Lock()
	defer logged.Unlock()
	warnings = logged.String()
	for _, secret := range []string{testKey, otherTestKey, testPassphrase, testToken, testSecret, testV3Key} {
		if err != nil && strings.Contains(err.Error(), secret) {
			t.Errorf("the error tells a secret: %v", err)
		}
		if strings.Contains(warnings, secret) {
			t.Errorf("the log tells a secret: %s", warnings)
		}
	}
	return warnings, err
}

// credentialFiles writes certificates of mch_id 1900000109 in every form and
// every state into a directory.
func credentialFiles(t *testing.T) (dir string) {
	t.Helper()
	dir = t.TempDir()
	now := time.Now()
	day := func(year int) time.Time { return time.Date(year, 1, 1, 12, 0, 0, 0, time.UTC) }
	for prefix, of := range map[string]struct {
		mchID string
		at    time.Time
	}{
		"":          {"1900000109", now},
		"expired_":  {"1900000109", day(2015)}, // WeChat's are valid for 5 years
		"future_":   {"1900000109", day(2090)},
		"expiring_": {"1900000109", now.AddDate(-5, 0, 8)},
		"other_":    {"1900000110", now},
	} {
		c := issue(t, of.mchID, of.at)
		writeFile(t, dir, prefix+"cert.p12", c.P12)
		writeFile(t, dir, prefix+"cert.pem", c.CertPEM)
		writeFile(t, dir, prefix+"key.pem", c.KeyPEM)
	}
	// All of wepaytest's certificates have one key.
	stranger, err := os.ReadFile("../testdata/certificates/other-key.pem")
	if err != nil {
		t.Fatal(err)
	}
	writeFile(t, dir, "stranger_key.pem", stranger)
	writeFile(t, dir, "garbage", []byte("This is no certificate."))
	writeFile(t, dir, "empty", nil)
	return dir
}

// issue makes a certificate at a time.
func issue(t *testing.T, mchID string, at time.Time) wepaytest.Credential {
	t.Helper()
	wechat, err := wepaytest.NewServer(wepaytest.WithClock(wepaytest.NewFakeClock(at)))
	if err != nil {
		t.Fatal(err)
	}
	defer wechat.Close()
	if err := wechat.AddMerchant(wepaytest.Merchant{MchID: mchID, Key: testKey}); err != nil {
		t.Fatal(err)
	}
	credential, err := wechat.Issue(mchID)
	if err != nil {
		t.Fatal(err)
	}
	return credential
}

func writeFile(t *testing.T, dir, name string, data []byte) string {
	t.Helper()
	path := filepath.Join(dir, name)
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// aSite serves every merchant and lets nobody in. (Caddy warns of port 80.)
const aSite = ":8080 {\nwepay\n}\n"

// options is the global option of these lines, the first of which is line 3.
func options(lines string) string { return "{\nwepay {\n" + lines + "\n}\n}\n" }

// TestValidate has what only provisioning can see, each by the end of the
// error, which begins at the place. DIR stands for a directory of files.
func TestValidate(t *testing.T) {
	shop := func(lines string) string { return options(merchantBlock("shop", lines)) + aSite }
	site := func(lines string) string {
		return options(merchantBlock("shop", "")) + ":8080 {\nwepay {\n" + lines + "\n}\n}\n"
	}
	two := func(first, second string) string {
		return options(merchantBlock("shop", first)+merchantBlock("mini", second)) + aSite
	}
	dir := credentialFiles(t)
	t.Setenv("WEPAY_TEST_EMPTY", "")
	t.Setenv("WEPAY_TEST_KEY", testKey)
	t.Setenv("WEPAY_TEST_SHORT", testKey[:31])
	t.Setenv("WEPAY_TEST_TOKENS", testToken+" "+testToken)
	t.Setenv("WEPAY_TEST_SECRET", testSecret)
	t.Setenv("WEPAY_TEST_PASSPHRASE", testPassphrase)
	t.Setenv("WEPAY_TEST_ENV", "JSAPI")
	t.Setenv("WEPAY_TEST_URL", "http://wepay:"+testPassphrase+"@orders:port/")
	t.Setenv("WEPAY_TEST_PAIR", "10.0.0.1 10.0.0.2")
	writeFile(t, dir, "key", []byte(testKey+"\n"))

	for _, row := range []struct{ name, caddyfile, want string }{
		{"least", shop(""), ""},
		{"certificate", shop("pfx DIR/cert.p12"), ""},
		{"certificate with its passphrase", shop("pfx DIR/cert.p12 1900000109"), ""},
		{"certificate as PEM", shop("cert DIR/cert.pem DIR/key.pem"), ""},
		{"certificate soon expires", shop("pfx DIR/expiring_cert.p12"), ""},
		{"服务商 by its sub_mch_id", shop("sub_mch_id 1900000110\nsub_app_id wx00112233445566dd"), ""},
		{"服务商 by its type's English word", shop("type partner\nsub_mch_id 1900000110"), ""},
		{"secrets from elsewhere", options(merchantBlock("shop", "partner_key {file.DIR/key}\ncallback_secret {env.WEPAY_TEST_SECRET}")) + ":8080 {\nwepay {\ntoken {env.WEPAY_TEST_KEY}\n}\n}\n", ""},

		{"pfx not there", shop("pfx DIR/no.p12"), `Caddyfile:4: merchant "shop": pfx: DIR/no.p12: open DIR/no.p12: no such file or directory`},
		{"pfx is a directory", shop("pfx DIR"), `Caddyfile:4: merchant "shop": pfx: DIR: read DIR: is a directory`},
		{"pfx with a wrong passphrase", shop("pfx DIR/cert.p12 " + testPassphrase), `Caddyfile:4: merchant "shop": pfx: DIR/cert.p12: wrong passphrase`},
		{"pfx with a wrong passphrase from elsewhere", shop("pfx DIR/cert.p12 {env.WEPAY_TEST_PASSPHRASE}"), `Caddyfile:4: merchant "shop": pfx: DIR/cert.p12: wrong passphrase`},
		{"pfx of another mch_id", shop("pfx DIR/other_cert.p12"), `Caddyfile:4: merchant "shop": pfx: DIR/other_cert.p12: wrong passphrase`},
		{"pfx is garbage", shop("pfx DIR/garbage"), `Caddyfile:4: merchant "shop": pfx: DIR/garbage: reading PKCS #12: the file is no .p12 file, or is damaged`},
		{"pfx is empty", shop("pfx DIR/empty"), `Caddyfile:4: merchant "shop": pfx: DIR/empty: reading PKCS #12: the file is empty`},
		{"pfx is PEM", shop("pfx DIR/cert.pem"), `Caddyfile:4: merchant "shop": pfx: DIR/cert.pem: reading PKCS #12: the file is PEM: it must be a .p12 file, as PEM belongs to cert and private_key`},
		{"pfx expired", shop("pfx DIR/expired_cert.p12"), `Caddyfile:4: merchant "shop": pfx: DIR/expired_cert.p12: the certificate expired on 2019-12-31`},
		{"pfx not yet valid", shop("pfx DIR/future_cert.p12"), `Caddyfile:4: merchant "shop": pfx: DIR/future_cert.p12: the certificate is not valid before 2090-01-01 (is this machine's clock right?)`},
		{"cert expired", shop("cert DIR/expired_cert.pem DIR/expired_key.pem"), `Caddyfile:4: merchant "shop": cert: DIR/expired_cert.pem: the certificate expired on 2019-12-31`},
		{"cert not there", shop("cert DIR/no.pem DIR/key.pem"), `Caddyfile:4: merchant "shop": cert: DIR/no.pem: open DIR/no.pem: no such file or directory`},
		{"cert's key not there", shop("cert DIR/cert.pem DIR/no.pem"), `Caddyfile:4: merchant "shop": cert: DIR/no.pem: open DIR/no.pem: no such file or directory`},
		{"cert with a stranger's key", shop("cert DIR/cert.pem DIR/stranger_key.pem"), `Caddyfile:4: merchant "shop": cert: DIR/cert.pem: reading PEM pair: tls: private key does not match public key`},
		{"cert is garbage", shop("cert DIR/garbage DIR/key.pem"), `Caddyfile:4: merchant "shop": cert: DIR/garbage: reading a certificate: the file has no PEM in it`},
		{"cert beside pfx", shop("pfx DIR/cert.p12\ncert DIR/cert.pem DIR/key.pem"), `Caddyfile:5: merchant "shop": cert: stands beside pfx: only one of them may`},

		{"partner_key empty", shop("partner_key {env.WEPAY_TEST_EMPTY}"), `Caddyfile:4: merchant "shop": partner_key: resolving a placeholder: evaluated placeholder {env.WEPAY_TEST_EMPTY} is empty`},
		{"partner_key not set", shop("partner_key {env.WEPAY_TEST_NOT_SET}"), `Caddyfile:4: merchant "shop": partner_key: resolving a placeholder: evaluated placeholder {env.WEPAY_TEST_NOT_SET} is empty`},
		{"partner_key from a missing file", shop("partner_key {file.DIR/no}"), `Caddyfile:4: merchant "shop": partner_key: resolving a placeholder: evaluated placeholder {file.DIR/no} is empty`},
		{"partner_key unknown", shop("partner_key {http.request.host}"), `Caddyfile:4: merchant "shop": partner_key: resolving a placeholder: unrecognized placeholder {http.request.host}`},
		{"partner_key short", shop("partner_key {env.WEPAY_TEST_SHORT}"), `Caddyfile:4: merchant "shop": partner_key: must be 32 characters, has 31`},
		{"env of another word", shop("env {env.WEPAY_TEST_ENV}"), `Caddyfile:4: merchant "shop": env: must be H5 or WXAPP or APP or MWEB or NATIVE`},
		{"type of another word", shop("type {env.WEPAY_TEST_ENV}"), `Caddyfile:4: merchant "shop": type: must be 普通商户 (merchant) or 服务商 (partner)`},
		{"sign_type of another word", shop("sign_type {env.WEPAY_TEST_ENV}"), `Caddyfile:4: merchant "shop": sign_type: must be MD5 or HMAC-SHA256`},
		{"app_id of other characters", shop("app_id {env.WEPAY_TEST_TOKENS}"), `Caddyfile:4: merchant "shop": app_id: must be wx (a company's of WeCom: ww) and 16 letters and digits`},
		{"cb_notify_url malformed", shop("cb_notify_url {env.WEPAY_TEST_URL}"), `Caddyfile:4: merchant "shop": cb_notify_url: must be an absolute http:// or https:// URL`},
		{"notify_url malformed", shop("notify_url https://m.example.cn/?{env.WEPAY_TEST_KEY}"), `Caddyfile:4: merchant "shop": notify_url: must not have a query or a fragment, WeChat Pay refuses them`},
		{"callback_secret without whsec_", shop("callback_secret MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"), `Caddyfile:4: merchant "shop": callback_secret: must be whsec_ and base64`},
		{"callback_secret not base64", shop("callback_secret " + testSecret + "!"), `Caddyfile:4: merchant "shop": callback_secret: must be whsec_ and base64`},
		{"callback_secret of nothing", shop("callback_secret whsec_"), `Caddyfile:4: merchant "shop": callback_secret: must be whsec_ and base64`},
		{"callback_secret's second wrong", shop("callback_secret " + testSecret + " {env.WEPAY_TEST_KEY}"), `Caddyfile:4: merchant "shop": callback_secret: must be whsec_ and base64`},
		{"endpoint malformed", shop("endpoint https://api.mch.weixin.qq.com api2.mch.weixin.qq.com"), `Caddyfile:4: merchant "shop": endpoint: must be an absolute http:// or https:// URL`},
		{"sub_mch_id of 普通商户", shop("type 普通商户\nsub_mch_id 1900000110"), `Caddyfile:5: merchant "shop": sub_mch_id: is for type 服务商 only`},
		{"sub_app_id of 普通商户", shop("sub_app_id wx00112233445566dd"), `Caddyfile:4: merchant "shop": sub_app_id: is for type 服务商 only`},
		{"服务商 without sub_mch_id", shop("type 服务商"), `Caddyfile:3: merchant "shop": sub_mch_id: is required for type 服务商`},

		{"two alike", two("cb_notify_url http://orders/", "env WXAPP\ncb_notify_url http://orders/"), ""},
		{"two for different orders", two("cb_notify_url http://orders/", "env APP\ncb_notify_url http://other/"), ""},
		{"two that disagree about cb_notify_url", two("cb_notify_url http://orders/", "env WXAPP\ncb_notify_url http://other/"), `Caddyfile:11: merchant "mini": cb_notify_url: a notification of trade type JSAPI cannot be told from one of merchant "shop", and the two disagree about cb_notify_url, cb_refund_notify_url or partner_key`},
		{"two that disagree about partner_key", two("", "partner_key "+otherTestKey), `Caddyfile:8: merchant "mini": cb_notify_url: a notification of trade type JSAPI cannot be told from one of merchant "shop", and the two disagree about cb_notify_url, cb_refund_notify_url or partner_key`},

		{"global endpoint malformed", options(merchantBlock("shop", "")+"endpoint https://api.mch.weixin.qq.com ftp://api2.mch.weixin.qq.com") + aSite, `Caddyfile:8: endpoint: must be an absolute http:// or https:// URL`},
		{"global endpoint empty", options("endpoint {env.WEPAY_TEST_EMPTY}\n"+merchantBlock("shop", "")) + aSite, `Caddyfile:3: endpoint: resolving a placeholder: evaluated placeholder {env.WEPAY_TEST_EMPTY} is empty`},
		{"transport over HTTP/3", options("transport http {\nversions 3\n}\n"+merchantBlock("shop", "")) + aSite, `Caddyfile:3: transport: loading: versions: WeChat Pay is not asked over HTTP/3, which has no client certificates here`},
		{"transport's authority not there", options("transport http {\ntls_trust_pool file DIR/no.pem\n}\n"+merchantBlock("shop", "")) + aSite, `Caddyfile:3: transport: loading: `},
		{"callback_transport's authority not there", options("callback_transport http {\ntls_trust_pool file DIR/no.pem\n}\n"+merchantBlock("shop", "")) + aSite, `Caddyfile:3: callback_transport: loading: `},

		{"merchants with a typo", site("merchants shop shpo"), `Caddyfile:13: merchants: there is no merchant "shpo"`},
		{"merchants twice the same", site("merchants shop shop"), `Caddyfile:13: merchants: names "shop" twice`},
		{"path_prefix without slash", site("path_prefix wepay"), `Caddyfile:13: path_prefix: must begin with /`},
		{"allow of two in one", site("allow {env.WEPAY_TEST_PAIR}"), `Caddyfile:13: allow: reading addresses: invalid IP address: '10.0.0.1 10.0.0.2'`},
		{"allow empty", site("allow {env.WEPAY_TEST_EMPTY}"), `Caddyfile:13: allow: resolving a placeholder: evaluated placeholder {env.WEPAY_TEST_EMPTY} is empty`},
		{"token empty", site("token {env.WEPAY_TEST_EMPTY}"), `Caddyfile:13: token: resolving a placeholder: evaluated placeholder {env.WEPAY_TEST_EMPTY} is empty`},
		{"token unknown", site("token {http.token}"), `Caddyfile:13: token: resolving a placeholder: unrecognized placeholder {http.token}`},
		{"token of no letters", site(`token ""`), `Caddyfile:13: token: must be one word`},
		{"token of two words", site("token {env.WEPAY_TEST_TOKENS}"), `Caddyfile:13: token: must be one word`},
		{"no merchant", options("") + aSite, `Caddyfile:7: no merchant is configured: the global option wepay needs a merchant block or a config_file`},
		{"no option", aSite, `Caddyfile:2: no merchant is configured: the global option wepay needs a merchant block or a config_file`},
	} {
		t.Run(row.name, func(t *testing.T) {
			wantError(t, strings.ReplaceAll(row.caddyfile, "DIR", dir), strings.ReplaceAll(row.want, "DIR", dir))
		})
	}
}

// wantError validates a Caddyfile and demands an error that has want after
// what Caddy says of its modules, or none for "".
func wantError(t *testing.T, caddyfile, want string) {
	t.Helper()
	_, err := validate(t, caddyfile)
	switch {
	case want == "" && err != nil:
		t.Errorf("unexpected error: %v", err)
	case want != "" && err == nil:
		t.Errorf("it was accepted, want: %s", want)
	case want != "" && !strings.Contains(err.Error(), ": "+want):
		t.Errorf("got:  %v\nwant: %s", err, want)
	}
}

// Every directive that takes a placeholder says so when its value is not there.
func TestValidatePlaceholders(t *testing.T) {
	const unknown = "{http.unknown}"
	in := func(line string) string { return options(merchantBlock("shop", line)) + aSite }
	files := map[string]string{
		"passphrase": in("pfx cert.p12 " + unknown),
		"cert":       in("cert " + unknown + " key.pem"),
		"cert_key":   in("cert cert.pem " + unknown),

		"public_key": in("public_key PUB_KEY_ID_01 " + unknown),

		"callback_secret": in("callback_secret " + testSecret + " " + unknown),
		"endpoint":        in("endpoint https://api.mch.weixin.qq.com " + unknown),

		"config_file": options("config_file "+unknown) + aSite,
	}
	for _, d := range new(MerchantConfig).values() {
		if files[d.name] == "" {
			files[d.name] = in(d.name + " " + unknown)
		}
	}
	for _, name := range []string{"path_prefix", "merchants", "allow", "token"} {
		files[name] = options(merchantBlock("shop", "")) + ":8080 {\nwepay {\n" + name + " " + unknown + "\n}\n}\n"
	}
	for name, caddyfile := range files {
		t.Run(name, func(t *testing.T) {
			_, err := validate(t, caddyfile)
			want := name + ": resolving a placeholder: unrecognized placeholder " + unknown
			if err == nil || !strings.HasSuffix(err.Error(), ": "+want) || !strings.Contains(err.Error(), ": Caddyfile:") {
				t.Errorf("got %v, want …Caddyfile:…: %s", err, want)
			}
		})
	}
}

// What is doubtful is not refused, and is told once.
func TestValidateWarnings(t *testing.T) {
	dir := credentialFiles(t)
	const open = ":8080 {\nwepay {\nallow private_ranges\n}\n}\n"
	for _, row := range []struct{ name, merchant, site, want string }{
		{"nothing", "cb_notify_url http://orders/\npfx DIR/cert.p12", open, ""},
		{"certificate of another mch_id", "cb_notify_url http://orders/\npfx DIR/other_cert.p12 1900000110", open, `the certificate is of \"1900000110\", not of mch_id 1900000109`},
		{"certificate expires soon", "cb_notify_url http://orders/\npfx DIR/expiring_cert.p12", open, "the certificate expires on "},
		{"no cb_notify_url", "pfx DIR/cert.p12", open, "no cb_notify_url: notifications of payments are answered FAIL"},
		{"endpoint in clear", "cb_notify_url http://orders/\nendpoint http://wechat.example", open, "an endpoint is not https"},
		{"nobody may ask, as is recommended", "cb_notify_url http://orders/", aSite, ""},
	} {
		t.Run(row.name, func(t *testing.T) {
			caddyfile := options(merchantBlock("shop", row.merchant)) + row.site
			warnings, err := validate(t, strings.ReplaceAll(caddyfile, "DIR", dir))
			if err != nil {
				t.Fatalf("unexpected error: %v", err)
			}
			if row.want == "" && warnings != "" {
				t.Errorf("unexpected warnings: %s", warnings)
			}
			if row.want != "" && (strings.Count(warnings, row.want) != 1 || strings.Count(warnings, "\n") != 1) {
				t.Errorf("got %s, want one warning: %s", warnings, row.want)
			}
		})
	}
}

// A config in JSON has no lines; its errors name merchant and directive alone.
func TestValidateJSON(t *testing.T) {
	config := testConfig(t, ":8080\n")
	config.AppsRaw["wepay"] = json.RawMessage(`{"merchants":[{"name":"shop","app_id":"wx00112233445566dd","mch_id":"1900000109"}]}`)
	err := caddy.Validate(config)
	if want := `provision wepay: merchant "shop": partner_key: is required for api v2`; err == nil || !strings.HasSuffix(err.Error(), want) {
		t.Errorf("got %v, want …%s", err, want)
	}
}
