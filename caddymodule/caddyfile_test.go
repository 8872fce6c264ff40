package caddymodule

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig"
	_ "github.com/caddyserver/caddy/v2/modules/standard"
)

// testKey is nobody's: the one of the vectors in wepay/apiv2/testdata.
const testKey = "Kd7q2Vn0sX9tB4mHc6Zr1Lw8Fy3Pj5Ga"

// adapt turns a Caddyfile into Caddy's JSON, as caddy adapt does. Errors call
// the file "Caddyfile".
func adapt(caddyfile string) ([]byte, []caddyconfig.Warning, error) {
	return caddyconfig.GetAdapter("caddyfile").Adapt([]byte(caddyfile), nil)
}

// Each file of testdata/adapt is a Caddyfile, a line of ten dashes, and the
// JSON or the error that comes of it.
func TestAdapt(t *testing.T) {
	files, err := filepath.Glob("testdata/adapt/*.caddyfiletest")
	if err != nil || len(files) == 0 {
		t.Fatalf("no test files: %v", err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".caddyfiletest"), func(t *testing.T) {
			data, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			text := strings.ReplaceAll(string(data), "\r\n", "\n")
			caddyfile, want, found := strings.Cut(text, "----------\n")
			if !found {
				t.Fatal("the file has no line of dashes")
			}
			config, warnings, err := adapt(caddyfile)
			got := ""
			if err != nil {
				got = err.Error()
			} else {
				checkReadBack(t, config)
				here, err := os.Getwd() // where the Caddyfile is
				if err != nil {
					t.Fatal(err)
				}
				got = strings.ReplaceAll(indent(t, config), here+"/", "")
			}
			if want = strings.TrimSpace(want); got != want {
				t.Errorf("got:\n%s\nwant:\n%s", got, want)
			}
			// Among others: that caddy fmt would write the file differently.
			if len(warnings) > 0 {
				t.Errorf("unexpected warnings: %v", warnings)
			}
		})
	}
}

func indent(t *testing.T, config []byte) string {
	t.Helper()
	var indented bytes.Buffer
	if err := json.Indent(&indented, config, "", "\t"); err != nil {
		t.Fatal(err)
	}
	return indented.String()
}

// checkReadBack demands that the app knows all that the parser writes for it.
func checkReadBack(t *testing.T, config []byte) {
	t.Helper()
	var parsed caddy.Config
	if err := caddy.StrictUnmarshalJSON(config, &parsed); err != nil {
		t.Fatal(err)
	}
	raw, found := parsed.AppsRaw["wepay"]
	if !found {
		return
	}
	app := new(App)
	if err := caddy.StrictUnmarshalJSON(raw, app); err != nil {
		t.Fatal(err)
	}
	if again := caddyconfig.JSON(app, nil); !bytes.Equal(again, raw) {
		t.Errorf("the app reads\n%s\nand writes\n%s", raw, again)
	}
}

// wrongLines are lines of one block, and the error that they make.
type wrongLines []struct{ lines, want string }

// run adapts each row's lines within a Caddyfile, and demands the error.
func (rows wrongLines) run(t *testing.T, caddyfile func(lines string) string) {
	t.Helper()
	for _, row := range rows {
		t.Run(row.lines, func(t *testing.T) {
			_, _, err := adapt(caddyfile(row.lines))
			if err == nil {
				t.Fatal("it was accepted")
			}
			got := strings.TrimPrefix(err.Error(), "parsing caddyfile tokens for 'wepay': ")
			if got != row.want {
				t.Errorf("got:  %s\nwant: %s", got, row.want)
			}
			if strings.Contains(got, testKey[:8]) {
				t.Errorf("the error tells the key: %s", got)
			}
		})
	}
}

// The lines stand before what a merchant needs at least, so that the first of
// them is always line 4. What they say themselves is not said again.
func TestMerchantLines(t *testing.T) {
	const (
		args = `merchant "shop": wrong argument count or unexpected line ending after `
		url  = "must be an absolute http:// or https:// URL, at Caddyfile:4"
	)
	wrongLines{
		{"appid wx00112233445566aa", `merchant "shop": unrecognized directive "appid", at Caddyfile:4`},
		{"name mini", `merchant "shop": unrecognized directive "name", at Caddyfile:4`},
		{"passphrase 1900000109", `merchant "shop": unrecognized directive "passphrase", at Caddyfile:4`},
		{"cert_key apiclient_key.pem", `merchant "shop": unrecognized directive "cert_key", at Caddyfile:4`},

		{"env", `merchant "shop": env: needs one value, at Caddyfile:4`},
		{"type", `merchant "shop": type: needs one value, at Caddyfile:4`},
		{"app_id", `merchant "shop": app_id: needs one value, at Caddyfile:4`},
		{"mch_id", `merchant "shop": mch_id: needs one value, at Caddyfile:4`},
		{"sub_app_id", `merchant "shop": sub_app_id: needs one value, at Caddyfile:4`},
		{"sub_mch_id", `merchant "shop": sub_mch_id: needs one value or more, at Caddyfile:4`},
		{"partner_key", `merchant "shop": partner_key: needs one value, at Caddyfile:4`},
		{"sign_type", `merchant "shop": sign_type: needs one value, at Caddyfile:4`},
		{"notify_url", `merchant "shop": notify_url: needs one value, at Caddyfile:4`},
		{"cb_notify_url", `merchant "shop": cb_notify_url: needs one value, at Caddyfile:4`},
		{"pfx", `merchant "shop": pfx: needs a file, and its passphrase if that is not the mch_id, at Caddyfile:4`},
		{`pfx ""`, `merchant "shop": pfx: needs a file, and its passphrase if that is not the mch_id, at Caddyfile:4`},
		{"cert", `merchant "shop": cert: needs a certificate file and a key file, at Caddyfile:4`},
		{`cert "" ""`, `merchant "shop": cert: needs a certificate file and a key file, at Caddyfile:4`},
		{"callback_secret", args + "'callback_secret', at Caddyfile:4"},
		{"endpoint", args + "'endpoint', at Caddyfile:4"},

		{"env H5 WXAPP", `merchant "shop": env: needs one value, at Caddyfile:4`},
		{"partner_key " + testKey + " " + testKey, `merchant "shop": partner_key: needs one value, at Caddyfile:4`},
		{"notify_url https://a/ https://b/", `merchant "shop": notify_url: needs one value, at Caddyfile:4`},
		{"pfx one.p12 " + testKey + " two", `merchant "shop": pfx: needs a file, and its passphrase if that is not the mch_id, at Caddyfile:4`},
		{"cert cert.pem", `merchant "shop": cert: needs a certificate file and a key file, at Caddyfile:4`},
		{"cert cert.pem key.pem ca.pem", `merchant "shop": cert: needs a certificate file and a key file, at Caddyfile:4`},
		{"sandbox off", args + "'off', at Caddyfile:4"},

		{"env H5\nenv H5", `merchant "shop": env already specified, at Caddyfile:5`},
		{"type merchant\ntype merchant", `merchant "shop": type already specified, at Caddyfile:5`},
		{"app_id wx00112233445566dd\napp_id wx00112233445566dd", `merchant "shop": app_id already specified, at Caddyfile:5`},
		{"mch_id 1\nmch_id 1", `merchant "shop": mch_id already specified, at Caddyfile:5`},
		{"sub_app_id wx00112233445566dd\nsub_app_id wx00112233445566dd", `merchant "shop": sub_app_id already specified, at Caddyfile:5`},
		{"sub_mch_id 1\nsub_mch_id 1", `merchant "shop": sub_mch_id already specified, at Caddyfile:5`},
		{"partner_key " + testKey + "\npartner_key " + testKey, `merchant "shop": partner_key already specified, at Caddyfile:5`},
		{"sign_type MD5\nsign_type MD5", `merchant "shop": sign_type already specified, at Caddyfile:5`},
		{"notify_url https://a/\nnotify_url https://a/", `merchant "shop": notify_url already specified, at Caddyfile:5`},
		{"cb_notify_url http://a/\ncb_notify_url http://a/", `merchant "shop": cb_notify_url already specified, at Caddyfile:5`},
		{"pfx a.p12\npfx a.p12", `merchant "shop": pfx already specified, at Caddyfile:5`},
		{"cert c.pem k.pem\ncert c.pem k.pem", `merchant "shop": cert already specified, at Caddyfile:5`},
		{"callback_secret whsec_AAAA\ncallback_secret whsec_AAAA", `merchant "shop": callback_secret already specified, at Caddyfile:5`},
		{"endpoint https://a\nendpoint https://a", `merchant "shop": endpoint already specified, at Caddyfile:5`},
		{"sandbox\nsandbox", `merchant "shop": sandbox already specified, at Caddyfile:5`},

		{"env JSAPI", `merchant "shop": env: must be H5 or WXAPP or APP or MWEB or NATIVE, at Caddyfile:4`},
		{"env h5", `merchant "shop": env: must be H5 or WXAPP or APP or MWEB or NATIVE, at Caddyfile:4`},
		{"type 商户", `merchant "shop": type: must be 普通商户 (merchant) or 服务商 (partner), at Caddyfile:4`},
		{"sign_type SHA256", `merchant "shop": sign_type: must be MD5 or HMAC-SHA256, at Caddyfile:4`},
		{"partner_key " + testKey[:31], `merchant "shop": partner_key: must be 32 characters, has 31, at Caddyfile:4`},
		{"partner_key " + testKey + "x", `merchant "shop": partner_key: must be 32 characters, has 33, at Caddyfile:4`},
		{`partner_key "` + testKey[:31] + ` "`, `merchant "shop": partner_key: must be letters and digits, at Caddyfile:4`},
		{"partner_key " + testKey[:29] + "密", `merchant "shop": partner_key: must be letters and digits, at Caddyfile:4`},
		{`app_id "wx0011 66aa"`, `merchant "shop": app_id: must be wx (a company's of WeCom: ww) and 16 letters and digits, at Caddyfile:4`},
		{"app_id wx00112233445566aa00112233445566a", `merchant "shop": app_id: must be wx (a company's of WeCom: ww) and 16 letters and digits, at Caddyfile:4`},
		{"mch_id 1900000109.0", `merchant "shop": mch_id: may hold digits only, at Caddyfile:4`},
		{"sub_app_id wx00112233/445566aa", `merchant "shop": sub_app_id: must be wx (a company's of WeCom: ww) and 16 letters and digits, at Caddyfile:4`},
		{"sub_mch_id 一九", `merchant "shop": sub_mch_id: may hold digits only, at Caddyfile:4`},
		{"notify_url m.example.cn/pay_notify", `merchant "shop": notify_url: ` + url},
		{"notify_url /pay_notify", `merchant "shop": notify_url: ` + url},
		{"notify_url https:///pay_notify", `merchant "shop": notify_url: ` + url},
		{"notify_url https://m.example.cn/%zz", `merchant "shop": notify_url: ` + url},
		{"notify_url https://m.example.cn/a?shop=1", `merchant "shop": notify_url: must not have a query or a fragment, WeChat Pay refuses them, at Caddyfile:4`},
		{"notify_url https://m.example.cn/a?", `merchant "shop": notify_url: must not have a query or a fragment, WeChat Pay refuses them, at Caddyfile:4`},
		{"notify_url https://m.example.cn/a#b", `merchant "shop": notify_url: must not have a query or a fragment, WeChat Pay refuses them, at Caddyfile:4`},
		{"notify_url https://m.example.cn/支付", `merchant "shop": notify_url: must be plain ASCII, at Caddyfile:4`},
		{"notify_url https://m.example.cn/" + strings.Repeat("a", 236), `merchant "shop": notify_url: is 257 bytes of UTF-8, the limit is 256, at Caddyfile:4`},
		{"cb_notify_url ftp://127.0.0.1/", `merchant "shop": cb_notify_url: ` + url},
		{"cb_notify_url 127.0.0.1:3000", `merchant "shop": cb_notify_url: ` + url},
		{"cb_notify_url http://wepay:" + testKey + "@127.0.0.1:port/", `merchant "shop": cb_notify_url: ` + url},

		// What is missing is seen where the block ends.
		{`app_id ""`, `merchant "shop": app_id: is required, at Caddyfile:7`},
		{`mch_id ""`, `merchant "shop": mch_id: is required, at Caddyfile:7`},
		{`partner_key ""`, `merchant "shop": partner_key: is required, at Caddyfile:7`},
	}.run(t, func(lines string) string { return "{\nwepay {\n" + merchantBlock("shop", lines) + "}\n}\n" })
}

// merchantBlock is a merchant's block of lines and, after those, what they
// leave out of what a merchant needs at least.
func merchantBlock(name, lines string) string {
	least := []string{"app_id wx00112233445566aa", "mch_id 1900000109", "partner_key " + testKey}
	block := []string{"merchant " + name + " {"}
	if lines != "" {
		block = append(block, lines)
	}
	for line := range strings.Lines(lines) {
		least = slices.DeleteFunc(least, func(needed string) bool {
			return strings.Fields(needed)[0] == strings.Fields(line)[0]
		})
	}
	return strings.Join(slices.Concat(block, least, []string{"}", ""}), "\n")
}

func TestMerchantLacks(t *testing.T) {
	for _, missing := range []string{"app_id", "mch_id", "partner_key"} {
		t.Run(missing, func(t *testing.T) {
			var block []string
			for _, line := range []string{"app_id wx00112233445566aa", "mch_id 1900000109", "partner_key " + testKey} {
				if !strings.HasPrefix(line, missing) {
					block = append(block, line)
				}
			}
			_, _, err := adapt("{\nwepay {\nmerchant shop {\n" + strings.Join(block, "\n") + "\n}\n}\n}\n")
			want := `parsing caddyfile tokens for 'wepay': merchant "shop": ` + missing + ": is required, at Caddyfile:6"
			if err == nil || err.Error() != want {
				t.Errorf("got:  %v\nwant: %s", err, want)
			}
		})
	}
}

// The first line of the rows is line 3.
func TestOptionLines(t *testing.T) {
	const args = "wrong argument count or unexpected line ending after "
	wrongLines{
		{"merchent shop", `unrecognized wepay option "merchent", at Caddyfile:3`},
		{"config_file", args + "'config_file', at Caddyfile:3"},
		{"config_file a.json b.json", args + "'a.json', at Caddyfile:3"},
		{"config_file a.json\nconfig_file a.json", "config_file already specified, at Caddyfile:4"},
		{"endpoint", args + "'endpoint', at Caddyfile:3"},
		{"endpoint https://a\nendpoint https://a", "endpoint already specified, at Caddyfile:4"},
		{"call_timeout", args + "'call_timeout', at Caddyfile:3"},
		{"call_timeout 1s 2s", args + "'1s', at Caddyfile:3"},
		{"call_timeout 5", `call_timeout: "5" is not a time above 0, at Caddyfile:3`},
		{"call_timeout soon", `call_timeout: "soon" is not a time above 0, at Caddyfile:3`},
		{"call_timeout 0s", `call_timeout: "0s" is not a time above 0, at Caddyfile:3`},
		{"call_timeout 1s\ncall_timeout 1s", "call_timeout already specified, at Caddyfile:4"},
		{"callback_timeout", args + "'callback_timeout', at Caddyfile:3"},
		{"callback_timeout -4s", `callback_timeout: "-4s" is not a time above 0, at Caddyfile:3`},
		{"callback_timeout 1s\ncallback_timeout 1s", "callback_timeout already specified, at Caddyfile:4"},
		{"transport", "transport must be http, the transport of reverse_proxy, at Caddyfile:3"},
		{"transport fastcgi", "transport must be http, the transport of reverse_proxy, at Caddyfile:3"},
		{"transport http 1.1", args + "'http', at Caddyfile:3"},
		{"transport http\ntransport http", "transport already specified, at Caddyfile:4"},
		{"callback_transport", "transport must be http, the transport of reverse_proxy, at Caddyfile:3"},
		{"callback_transport h2c", "transport must be http, the transport of reverse_proxy, at Caddyfile:3"},
		{"callback_transport http\ncallback_transport http", "callback_transport already specified, at Caddyfile:4"},
	}.run(t, func(lines string) string { return "{\nwepay {\n" + lines + "\n}\n}\n" })
}

// The first line of the rows is line 3.
func TestDirectiveLines(t *testing.T) {
	const args = "wrong argument count or unexpected line ending after "
	wrongLines{
		{"tokens " + testKey, `unrecognized subdirective "tokens", at Caddyfile:3`},
		{"path_prefix", args + "'path_prefix', at Caddyfile:3"},
		{"path_prefix /a /b", args + "'/a', at Caddyfile:3"},
		{"path_prefix /a\npath_prefix /a", "path_prefix already specified, at Caddyfile:4"},
		{"merchants", args + "'merchants', at Caddyfile:3"},
		{"merchants shop\nmerchants mini", "merchants already specified, at Caddyfile:4"},
		{"allow", args + "'allow', at Caddyfile:3"},
		{"allow 10.0.0.1\nallow 10.0.0.2", "allow already specified, at Caddyfile:4"},
		{"allow localhost", `allow: invalid IP address: 'localhost': ParseAddr("localhost"): unable to parse IP, at Caddyfile:3`},
		{"allow private_ranges 10.0.0.256", `allow: invalid IP address: '10.0.0.256': ParseAddr("10.0.0.256"): IPv4 field has value >255, at Caddyfile:3`},
		{"allow 10.0.0.1:80", `allow: invalid IP address: '10.0.0.1:80': ParseAddr("10.0.0.1:80"): unexpected character (at ":80"), at Caddyfile:3`},
		{"allow 10.0.0.0/33", `allow: parsing CIDR expression: '10.0.0.0/33': netip.ParsePrefix("10.0.0.0/33"): prefix length out of range, at Caddyfile:3`},
		{`allow ""`, `allow: invalid IP address: '': ParseAddr(""): unable to parse IP, at Caddyfile:3`},
		{"token", args + "'token', at Caddyfile:3"},
		{"token " + testKey + "\ntoken " + testKey, "token already specified, at Caddyfile:4"},
	}.run(t, func(lines string) string { return ":80 {\nwepay {\n" + lines + "\n}\n}\n" })
}
