package caddymodule

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"os"
	"strings"
	"testing"

	"github.com/caddyserver/caddy/v2"

	"github.com/windsome/caddy-wepay/wepay"
)

const (
	testV3Key       = "TestApiV3KeyTestApiV3KeyTestApi3"
	testPublicKeyID = "PUB_KEY_ID_0119000001092024101100000000000001"
)

// The lines stand where TestMerchantLines has its own.
func TestV3MerchantLines(t *testing.T) {
	const (
		one    = ": needs one value, at Caddyfile:4"
		pair   = `merchant "shop": public_key: needs the key's id, PUB_KEY_ID_ and digits, and its file, at Caddyfile:4`
		serial = `merchant "shop": mch_serial: must be 1 to 40 hexadecimal digits, at Caddyfile:4`
	)
	wrongLines{
		{"api", `merchant "shop": api` + one},
		{"private_key", `merchant "shop": private_key` + one},
		{"private_key a.pem b.pem", `merchant "shop": private_key` + one},
		{"mch_serial", `merchant "shop": mch_serial` + one},
		{"apiv3_key", `merchant "shop": apiv3_key` + one},
		{"apiv3_key " + testV3Key + " " + testV3Key, `merchant "shop": apiv3_key` + one},
		{"payload", `merchant "shop": payload` + one},
		{"public_key", pair},
		{"public_key " + testPublicKeyID, pair},
		{`public_key "" pub_key.pem`, pair},
		{"public_key " + testPublicKeyID + ` ""`, pair},
		{"public_key " + testPublicKeyID + " pub_key.pem " + testPublicKeyID, pair},
		{"public_key_file pub_key.pem", `merchant "shop": unrecognized directive "public_key_file", at Caddyfile:4`},

		{"api v2\napi v2", `merchant "shop": api already specified, at Caddyfile:5`},
		{"private_key a.pem\nprivate_key a.pem", `merchant "shop": private_key already specified, at Caddyfile:5`},
		{"mch_serial 1\nmch_serial 1", `merchant "shop": mch_serial already specified, at Caddyfile:5`},
		{"apiv3_key " + testV3Key + "\napiv3_key " + testV3Key, `merchant "shop": apiv3_key already specified, at Caddyfile:5`},
		{"public_key PUB_KEY_ID_01 a.pem\npublic_key PUB_KEY_ID_01 a.pem", `merchant "shop": public_key already specified, at Caddyfile:5`},
		{"payload v2\npayload v3", `merchant "shop": payload already specified, at Caddyfile:5`},

		{"api V3", `merchant "shop": api: must be v2 or v3, at Caddyfile:4`},
		{"payload both", `merchant "shop": payload: must be v2 or v3, at Caddyfile:4`},
		{"apiv3_key " + testV3Key[:31], `merchant "shop": apiv3_key: must be 32 characters, has 31, at Caddyfile:4`},
		{"apiv3_key " + testV3Key + "x", `merchant "shop": apiv3_key: must be 32 characters, has 33, at Caddyfile:4`},
		{"apiv3_key " + testV3Key[:31] + "-", `merchant "shop": apiv3_key: must be letters and digits, at Caddyfile:4`},
		{"mch_serial 1DDE55AD98ED71D6EDD4A4A16996DE7B47773A8C0", serial},
		{"mch_serial 1D:DE:55", serial},
		{"public_key PUB_KEY_ID_ a.pem", `merchant "shop": public_key: must be the key's id, PUB_KEY_ID_ and digits, and its file, at Caddyfile:4`},
		{"public_key 1DDE55AD98ED71D6EDD4A4A16996DE7B47773A8C a.pem", `merchant "shop": public_key: must be the key's id, PUB_KEY_ID_ and digits, and its file, at Caddyfile:4`},
		{"public_key pub_key.pem " + testPublicKeyID, `merchant "shop": public_key: must be the key's id, PUB_KEY_ID_ and digits, and its file, at Caddyfile:4`},

		{"api v3", `merchant "shop": apiv3_key: is required, at Caddyfile:8`},
		{"api v3\napiv3_key \"\"", `merchant "shop": apiv3_key: is required, at Caddyfile:9`},
	}.run(t, func(lines string) string { return "{\nwepay {\n" + merchantBlock("shop", lines) + "}\n}\n" })
}

// shopV3 is a site's Caddyfile with a merchant of API v3 that has no key of API
// v2. The first of the lines is line 7.
func shopV3(lines string) string {
	return options("merchant shop {\napi v3\napp_id wx00112233445566aa\nmch_id 1900000109\n"+lines+"\n}") + aSite
}

// keyFiles adds to credentialFiles what API v3 has besides.
func keyFiles(t *testing.T) (dir, serial string) {
	t.Helper()
	dir = credentialFiles(t)
	text, err := os.ReadFile(dir + "/cert.pem")
	if err != nil {
		t.Fatal(err)
	}
	block, _ := pem.Decode(text)
	cert, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	write := func(name, kind string, der []byte, err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		writeFile(t, dir, name, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}))
	}
	wechat := rsaKey(t, 2048)
	der, err := x509.MarshalPKIXPublicKey(&wechat.PublicKey)
	write("pub_key.pem", "PUBLIC KEY", der, err)
	der, err = x509.MarshalPKIXPublicKey(cert.PublicKey)
	write("own_pub.pem", "PUBLIC KEY", der, err)
	small := rsaKey(t, 1024)
	der, err = x509.MarshalPKCS8PrivateKey(small)
	write("small_key.pem", "PRIVATE KEY", der, err)
	der, err = x509.MarshalPKIXPublicKey(&small.PublicKey)
	write("small_pub.pem", "PUBLIC KEY", der, err)
	curve, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der, err = x509.MarshalPKCS8PrivateKey(curve)
	write("curve_key.pem", "PRIVATE KEY", der, err)
	writeFile(t, dir, "apiv3_key", []byte(testV3Key+"\n"))
	return dir, wepay.CertificateSerial(cert)
}

func rsaKey(t *testing.T, bits int) *rsa.PrivateKey {
	t.Helper()
	t.Setenv("GODEBUG", "rsa1024min=0")
	key, err := rsa.GenerateKey(rand.Reader, bits)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// What does not belong together is told with its line and the file; SERIAL is
// that of the certificate.
func TestValidateV3(t *testing.T) {
	dir, serial := keyFiles(t)
	t.Setenv("WEPAY_TEST_V3", "v3")
	t.Setenv("WEPAY_TEST_ID", testPublicKeyID)
	t.Setenv("WEPAY_TEST_SHORT", testV3Key[:31])
	t.Setenv("WEPAY_TEST_BASE64", testV3Key[:31]+"=")
	t.Setenv("WEPAY_TEST_KEY", testKey)
	const (
		key    = "apiv3_key {file.DIR/apiv3_key}\n"
		signed = key + "private_key DIR/key.pem\nmch_serial SERIAL\n"
		at     = `Caddyfile:%: merchant "shop": `
	)
	v2 := func(lines string) string { return options(merchantBlock("shop", lines)) + aSite }
	for _, row := range []struct{ name, caddyfile, want string }{
		{"key and serial number", shopV3(signed), ""},
		{"pfx", shopV3(key + "pfx DIR/cert.p12"), ""},
		{"cert", shopV3(key + "cert DIR/cert.pem DIR/key.pem"), ""},
		{"all that agrees", shopV3(signed + "pfx DIR/cert.p12\npublic_key " + testPublicKeyID + " DIR/pub_key.pem\npayload v3"), ""},
		{"the serial number as openssl has it", shopV3(key + "private_key DIR/key.pem\ncert DIR/cert.pem DIR/key.pem\nmch_serial " + strings.ToLower(serial)), ""},
		{"the public key's id from elsewhere", shopV3(signed + "public_key {env.WEPAY_TEST_ID} DIR/pub_key.pem"), ""},
		{"both keys", shopV3(signed + "partner_key " + testKey), ""},
		{"v2 with all of v3", v2(signed + "payload v3\npublic_key " + testPublicKeyID + " DIR/pub_key.pem"), ""},
		{"v2 with the key alone", v2(key), ""},
		{"api from elsewhere", v2("api {env.WEPAY_TEST_V3}\n" + signed), ""},
		{"api from elsewhere, without the other's key", strings.Replace(shopV3(signed), "api v3", "api {env.WEPAY_TEST_V3}", 1), ""},

		{"no key to sign with", shopV3(key), at + "private_key: is required for api v3, unless pfx or cert has it"},
		{"no serial number", shopV3(key + "private_key DIR/key.pem"), at + "mch_serial: is required for api v3, unless pfx or cert tells it"},
		{"no apiv3_key, by a placeholder", v2("api {env.WEPAY_TEST_V3}\npfx DIR/cert.p12"), at + "apiv3_key: is required for api v3"},
		{"apiv3_key short", shopV3("apiv3_key {env.WEPAY_TEST_SHORT}\npfx DIR/cert.p12"), "Caddyfile:7: merchant \"shop\": apiv3_key: must be 32 characters, has 31"},
		{"apiv3_key in base64", shopV3("apiv3_key {env.WEPAY_TEST_BASE64}\npfx DIR/cert.p12"), "Caddyfile:7: merchant \"shop\": apiv3_key: must be letters and digits"},
		{"apiv3_key not there", shopV3("apiv3_key {file.DIR/no}\npfx DIR/cert.p12"), "Caddyfile:7: merchant \"shop\": apiv3_key: resolving a placeholder: evaluated placeholder {file.DIR/no} is empty"},
		{"sandbox", shopV3(signed + "sandbox"), "Caddyfile:10: merchant \"shop\": sandbox: API v3 has no sandbox"},
		{"payload of no API", v2("payload v3"), "Caddyfile:4: merchant \"shop\": payload: v3 needs apiv3_key: without it there are no notifications of API v3"},

		{"another's serial number", shopV3(key + "mch_serial 1DDE55\npfx DIR/cert.p12"), "Caddyfile:8: merchant \"shop\": mch_serial: is not that of the certificate, which is SERIAL"},
		{"a stranger's key beside pfx", shopV3(key + "private_key DIR/stranger_key.pem\npfx DIR/cert.p12"), "Caddyfile:8: merchant \"shop\": private_key: does not belong to the certificate"},
		{"a stranger's key beside pfx, of v2", v2("private_key DIR/stranger_key.pem\npfx DIR/cert.p12"), "Caddyfile:4: merchant \"shop\": private_key: does not belong to the certificate"},
		{"private_key not there", shopV3(key + "private_key DIR/no.pem"), "Caddyfile:8: merchant \"shop\": private_key: DIR/no.pem: open DIR/no.pem: no such file or directory"},
		{"private_key is a certificate", shopV3(key + "private_key DIR/cert.pem"), "Caddyfile:8: merchant \"shop\": private_key: DIR/cert.pem: reading a private key: the file holds a CERTIFICATE: it must be apiclient_key.pem"},
		{"private_key is a p12", shopV3(key + "private_key DIR/cert.p12"), "Caddyfile:8: merchant \"shop\": private_key: DIR/cert.p12: reading a private key: the file is a .p12 file: it must be PEM"},
		{"private_key of another kind", shopV3(key + "private_key DIR/curve_key.pem"), "Caddyfile:8: merchant \"shop\": private_key: DIR/curve_key.pem: reading a private key: it is not RSA"},
		{"private_key too short", shopV3(key + "private_key DIR/small_key.pem\nmch_serial 1DDE55"), "Caddyfile:8: merchant \"shop\": private_key: is of 1024 bits, WeChat Pay's are of 2048"},

		{"public key not there", shopV3(signed + "public_key " + testPublicKeyID + " DIR/no.pem"), "Caddyfile:10: merchant \"shop\": public_key: DIR/no.pem: open DIR/no.pem: no such file or directory"},
		{"public key is a certificate", shopV3(signed + "public_key " + testPublicKeyID + " DIR/cert.pem"), "Caddyfile:10: merchant \"shop\": public_key: DIR/cert.pem: reading a public key: the file holds a CERTIFICATE: it must be WeChat Pay's pub_key.pem, which the merchant platform offers"},
		{"public key is a private one", shopV3(signed + "public_key " + testPublicKeyID + " DIR/key.pem"), "Caddyfile:10: merchant \"shop\": public_key: DIR/key.pem: reading a public key: the file holds a "},
		{"public key is the merchant's own", shopV3(signed + "public_key " + testPublicKeyID + " DIR/own_pub.pem"), "Caddyfile:10: merchant \"shop\": public_key: is the merchant's own, not WeChat Pay's: download pub_key.pem from the merchant platform"},
		{"public key too short", shopV3(signed + "public_key " + testPublicKeyID + " DIR/small_pub.pem"), "Caddyfile:10: merchant \"shop\": public_key: is of 1024 bits, WeChat Pay's are of 2048"},
		{"public key of another id", shopV3(signed + "public_key {env.WEPAY_TEST_KEY} DIR/pub_key.pem"), "Caddyfile:10: merchant \"shop\": public_key: must be the key's id, PUB_KEY_ID_ and digits, and its file"},
		{"public key from a missing place", shopV3(signed + "public_key " + testPublicKeyID + " {env.WEPAY_TEST_NOT_SET}"), "Caddyfile:10: merchant \"shop\": public_key: resolving a placeholder: evaluated placeholder {env.WEPAY_TEST_NOT_SET} is empty"},
	} {
		t.Run(row.name, func(t *testing.T) {
			caddyfile := strings.NewReplacer("DIR", dir, "SERIAL", serial).Replace(row.caddyfile)
			want := strings.NewReplacer("DIR", dir, "SERIAL", serial, "Caddyfile:%", "Caddyfile:3").Replace(row.want)
			wantError(t, caddyfile, want)
		})
	}
}

// Refunds of API v3 do not say their appid.
func TestValidateSharedAccount(t *testing.T) {
	dir, serial := keyFiles(t)
	block := func(name, appID, more string) string {
		return "merchant " + name + " {\napp_id " + appID + "\nmch_id 1900000109\napiv3_key " + testV3Key +
			"\nprivate_key " + dir + "/key.pem\nmch_serial " + serial + "\n" + more + "\n}\n"
	}
	const (
		v3    = "api v3\n"
		v2    = "partner_key " + testKey + "\n"
		here  = "cb_notify_url http://orders/\n"
		there = "cb_notify_url http://other/\n"

		says    = `API v3 does not say the appid of a refund, so that its notification cannot be told from one of merchant \"page\", `
		advises = `: have the two sent to pay_notify/mini and pay_notify/page`
		other   = says + "which goes elsewhere" + advises
		bare    = says + "and is handed over without an appid" + advises
	)
	own := func(name string) string {
		return "notify_url https://m.example.cn/apis/v1/wepay/pay_notify/" + name + "\n"
	}
	for _, row := range []struct {
		name, page, mini string
		warning          string
	}{
		{"one order service", v3 + here, v3 + here, bare},
		{"two order services", v3 + here, v3 + there, other},
		{"one of API v2", v2 + here, v3 + there, other},
		{"both of API v2", v2 + here, v2 + there, ""},
		{"refunds to one", v3 + here + "cb_refund_notify_url http://refunds/", v3 + there + "cb_refund_notify_url http://refunds/", bare},
		{"in different words", v3 + here, v3 + here + "payload v3", other},
		{"in WeChat's own words", v3 + here + "payload v3", v3 + here + "payload v3", ""},
		{"each by its name", v3 + here + own("page"), v3 + there + own("mini"), ""},
		{"each by its name, to one", v3 + here + own("page"), v3 + here + own("mini"), ""},
		{"one by its name", v3 + here + own("page"), v3 + there, other},
		{"events to one", v3 + here + "payload v3\ncb_event_url http://a/", v3 + here + "payload v3\ncb_event_url http://a/", ""},
		{"events of one", v3 + here + "payload v3", v3 + here + "payload v3\ncb_event_url http://a/", ""},
		{
			"events to two", v3 + here + "payload v3\ncb_event_url http://a/", v3 + here + "payload v3\ncb_event_url http://b/",
			`a complaint does not say an appid, so that it cannot be told from one of merchant \"page\", which has another cb_event_url: have WeChat send such events to pay_notify/mini or pay_notify/page`,
		},
	} {
		t.Run(row.name, func(t *testing.T) {
			warnings, err := validate(t, options(block("page", "wx00112233445566aa", row.page)+block("mini", "wx00112233445566bb", row.mini))+
				":8080 {\nwepay {\nallow private_ranges\n}\n}\n")
			if err != nil {
				t.Fatal(err)
			}
			if !strings.Contains(warnings, row.warning) || (row.warning == "") != (warnings == "") {
				t.Errorf("warnings: %s, wants %s", warnings, row.warning)
			}
		})
	}
}

// A key that opens notifications is of no use where nothing can verify them.
func TestValidateV3KeyAlone(t *testing.T) {
	dir, serial := keyFiles(t)
	for lines, warns := range map[string]bool{
		"": true,
		"public_key " + testPublicKeyID + " " + dir + "/pub_key.pem": false,
		"private_key " + dir + "/key.pem\nmch_serial " + serial:      false,
		"private_key " + dir + "/key.pem":                            true,
		"pfx " + dir + "/cert.p12":                                   false,
	} {
		warnings, err := validate(t, options(merchantBlock("shop", "cb_notify_url http://orders/\napiv3_key "+testV3Key+"\n"+lines))+
			":8080 {\nwepay {\nallow private_ranges\n}\n}\n")
		if err != nil {
			t.Fatal(err)
		}
		if got := strings.Contains(warnings, "notifications of API v3 cannot be verified"); got != warns || !warns && warnings != "" {
			t.Errorf("%s: %s", lines, warnings)
		}
	}
}

// In JSON the key's id and its file are two members, which need each other.
func TestValidateV3JSON(t *testing.T) {
	dir, serial := keyFiles(t)
	for _, row := range []struct {
		more map[string]any
		want string
	}{
		{map[string]any{"public_key": testPublicKeyID, "public_key_file": dir + "/pub_key.pem"}, ""},
		{map[string]any{"public_key": testPublicKeyID}, "public_key: needs the key's id and its file"},
		{map[string]any{"public_key_file": dir + "/pub_key.pem"}, "public_key: needs the key's id and its file"},
		{map[string]any{"mch_serial": serial + "0"}, "mch_serial: must be 1 to 40 hexadecimal digits"},
		{map[string]any{"apiv3_key": ""}, "apiv3_key: is required for api v3"},
	} {
		merchant := map[string]any{
			"name": "shop", "api": "v3", "app_id": "wx00112233445566dd", "mch_id": "1900000109",
			"apiv3_key": testV3Key, "private_key": dir + "/key.pem", "mch_serial": " " + serial + "\n",
		}
		for name, value := range row.more {
			merchant[name] = value
		}
		config := testConfig(t, ":8080\n")
		text, err := json.Marshal(map[string]any{"merchants": []any{merchant}})
		if err != nil {
			t.Fatal(err)
		}
		config.AppsRaw["wepay"] = bytes.Clone(text)
		err = caddy.Validate(config)
		if row.want == "" && err != nil || row.want != "" && (err == nil || !strings.HasSuffix(err.Error(), row.want)) {
			t.Errorf("%v: got %v, want %q", row.more, err, row.want)
		}
	}
}
