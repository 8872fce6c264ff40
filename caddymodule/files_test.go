package caddymodule

import (
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/caddyserver/caddy/v2/caddyconfig"
	"software.sslmate.com/src/go-pkcs12"
)

// wantNothingOf validates a Caddyfile, and finds any six characters of a secret in
// the error and in the log.
func wantNothingOf(t *testing.T, secret, caddyfile, want string) {
	t.Helper()
	warnings, err := validate(t, caddyfile)
	if err == nil || !strings.Contains(err.Error(), want) {
		t.Errorf("got %v, want %s", err, want)
	}
	for i := range len(secret) - 6 {
		if part := secret[i : i+6]; err != nil && strings.Contains(err.Error(), part) || strings.Contains(warnings, part) {
			t.Fatalf("%q is told: %v %s", part, err, warnings)
		}
	}
}

// What stands in the place of a file's path may be what belongs in the file.
func TestContentsInThePlaceOfAPath(t *testing.T) {
	dir, _ := keyFiles(t)
	read := func(name string) string {
		text, err := os.ReadFile(dir + "/" + name)
		if err != nil {
			t.Fatal(err)
		}
		return string(text)
	}
	key := read("key.pem")
	block, _ := pem.Decode([]byte(key))
	der := base64.StdEncoding.EncodeToString(block.Bytes)
	p12 := base64.StdEncoding.EncodeToString([]byte(read("cert.p12")))
	t.Setenv("WEPAY_TEST_PEM", key)
	const contents, hidden = "is what belongs in a file: it must be the path of that file", "not shown here, as it does not look like one"
	for name, test := range map[string]struct{ secret, line, want string }{
		"a key, in back-ticks":        {der, "private_key `" + key + "`", "private_key: " + contents},
		"a key, from the environment": {der, "private_key {env.WEPAY_TEST_PEM}", "private_key: " + contents},
		"a key, from its file":        {der, "private_key {file." + dir + "/key.pem}", "private_key: " + contents},
		"a key with \\n":              {der, "private_key `" + strings.ReplaceAll(key, "\n", `\n`) + "`", "private_key: " + contents},
		"a key in base64":             {der, "private_key " + der, "private_key: " + contents},
		"a part of one":               {der[:100], "private_key " + der[:100], "private_key: " + contents},
		"a .p12 file in base64":       {p12, "pfx " + p12, "pfx: " + contents},
		"a certificate":               {der, "cert `" + key + "` " + dir + "/key.pem", "cert: " + contents},
		"a certificate's key":         {der, "cert " + dir + "/cert.pem `" + key + "`", "cert: " + contents},
		"a public key":                {der, "public_key " + testPublicKeyID + " " + der, "public_key: " + contents},
		"a key of API v2":             {testKey, "private_key " + testKey, "private_key: must be the path of a file (" + hidden},
		"a passphrase":                {testPassphrase, "pfx " + testPassphrase, "pfx: must be the path of a file (" + hidden},
		"passphrase before pfx":       {testPassphrase, "pfx " + testPassphrase + " " + dir + "/cert.p12", "pfx: must be the path of a file (" + hidden},
		"a key of API v3":             {testV3Key, "cert " + testV3Key + " key.pem", "cert: must be the path of a file (" + hidden},
	} {
		t.Run(name, func(t *testing.T) {
			wantNothingOf(t, test.secret, options(merchantBlock("shop", test.line))+aSite, `merchant "shop": `+test.want)
		})
	}
	t.Run("config_file", func(t *testing.T) {
		wantNothingOf(t, testKey, options("config_file `{\"partnerKey\":\n\""+testKey+"\"}`")+aSite, "config_file: ")
		wantNothingOf(t, testKey, options("config_file "+testKey)+aSite, "config_file: must be the path of a file ("+hidden)
	})
}

// What is in a file that a placeholder names is a value with what editors put
// around it.
func TestPlaceholderFiles(t *testing.T) {
	dir := t.TempDir()
	const short = `partner_key: must be 32 characters, has 33, not all of them letters and digits (is there a blank, or a quotation mark?)`
	for name, test := range map[string]struct{ text, want string }{
		"a line end":                  {testKey + "\n", ""},
		"CRLF":                        {testKey + "\r\n", ""},
		"several line ends":           {testKey + "\r\n\r\n\n", ""},
		"a byte order mark":           {"\ufeff" + testKey, ""},
		"a byte order mark and CRLF":  {"\ufeff" + testKey + "\r\n", ""},
		"a blank":                     {testKey + " \n", short},
		"a blank before it":           {"\t" + testKey, short},
		"quotation marks":             {"“" + testKey + "”", "partner_key: must be 32 characters, has 34, not all of them letters and digits (is there a blank, or a quotation mark?)"},
		"a line before it":            {"\n" + testKey, short},
		"one of them more than there": {testKey + "a", "partner_key: must be 32 characters, has 33"},
		"line ends alone":             {"\n\r\n", "partner_key: resolving a placeholder: it has nothing but a line end"},
		"UTF-16":                      {"\xff\xfe" + strings.Join(strings.Split(testKey, ""), "\x00") + "\x00", "partner_key: is not valid UTF-8: save the file that it stands in as UTF-8"},
		"GBK":                         {"\xc3\xdc\xd4\xbf", "partner_key: is not valid UTF-8: save the file that it stands in as UTF-8"},
	} {
		t.Run(name, func(t *testing.T) {
			path := writeFile(t, dir, "partner_key", []byte(test.text))
			caddyfile := options(merchantBlock("shop", "partner_key {file."+path+"}")) + aSite
			if test.want == "" {
				wantError(t, caddyfile, "")
				return
			}
			wantNothingOf(t, testKey, caddyfile, `Caddyfile:4: merchant "shop": `+test.want)
		})
	}
}

// Braces of a secret are not shown as if they were a placeholder's.
func TestBracesInASecret(t *testing.T) {
	dir := credentialFiles(t)
	for _, secret := range []string{"ab{correcthorse}cd", "{correct.horse}", "{correcthorse}"} {
		wantNothingOf(t, "correcthorse", options(merchantBlock("shop", "pfx "+dir+"/cert.p12 "+secret))+aSite, `passphrase: resolving a placeholder: there is none of this name`)
	}
	wantError(t, options(merchantBlock("shop", "pfx "+dir+`/cert.p12 ab\{correcthorse}cd`))+aSite, `Caddyfile:4: merchant "shop": pfx: `+dir+`/cert.p12: wrong passphrase`)
}

// A Caddyfile of GBK is refused where it says something, not read as U+FFFD.
func TestCaddyfileOfGBK(t *testing.T) {
	const wrong = "is not valid UTF-8: save the file that it stands in as UTF-8"
	wantError(t, options(merchantBlock("\xc9\xcc\xb5\xea", ""))+aSite, "Caddyfile:3: merchant \"\ufffd\u0335\ufffd\": name: "+wrong)
	wantError(t, options(merchantBlock("shop", "pfx \xc9\xcc\xb5\xea.p12"))+aSite, `Caddyfile:4: merchant "shop": pfx: `+wrong)
	wantError(t, options(merchantBlock("shop", ""))+":8080 {\nwepay {\ntoken \xc9\xcc\xb5\xea\n}\n}\n", `Caddyfile:13: token: `+wrong)
}

// A file that was exported without a passphrase is opened without one, unless one
// is given.
func TestEmptyPassphrase(t *testing.T) {
	dir := credentialFiles(t)
	text, err := os.ReadFile(dir + "/key.pem")
	if err != nil {
		t.Fatal(err)
	}
	block, _ := pem.Decode(text)
	key, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	if text, err = os.ReadFile(dir + "/cert.pem"); err != nil {
		t.Fatal(err)
	}
	block, _ = pem.Decode(text)
	cert, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	for name, encoder := range map[string]*pkcs12.Encoder{"RC2": pkcs12.LegacyRC2, "DES": pkcs12.LegacyDES, "AES": pkcs12.Modern2023} {
		t.Run(name, func(t *testing.T) {
			file, err := encoder.Encode(key, cert, nil, "")
			if err != nil {
				t.Fatal(err)
			}
			path := writeFile(t, dir, "bare.p12", file)
			shop := func(lines string) string { return options(merchantBlock("shop", lines)) + aSite }
			wantError(t, shop("pfx "+path), "")
			wantError(t, shop("pfx "+path+` ""`), "")
			wantError(t, shop("pfx "+path+" "+testPassphrase), `Caddyfile:4: merchant "shop": pfx: `+path+`: wrong passphrase`)
		})
	}
}

// A secret in any wrong place of a Caddyfile is not repeated.
func TestSecretsInWrongPlaces(t *testing.T) {
	block := func(line string) string { return options(merchantBlock("shop", line)) + aSite }
	site := func(line string) string {
		return options(merchantBlock("shop", "")) + ":8080 {\nwepay {\n" + line + "\n}\n}\n"
	}
	key := "g0JkFGBWonu9veE5" + testKey
	for name, test := range map[string]struct{ secret, caddyfile string }{
		"the lines of a key":          {key, block("private_key " + key[:32] + "\n" + key)},
		"an equals sign":              {testKey, block("app_secret=" + testKey)},
		"a full-width colon":          {testV3Key, block("apiv3_key：" + testV3Key)},
		"alone in a block":            {testKey, block(testKey)},
		"alone among the options":     {testKey, options(testKey+"\n"+merchantBlock("shop", "")) + aSite},
		"a directive's equals sign":   {testToken, site("token=" + testToken)},
		"an address":                  {testToken, site("allow " + testToken)},
		"a time":                      {testKey, options("call_timeout "+testKey+"\n"+merchantBlock("shop", "")) + aSite},
		"a number":                    {testKey, options("store sqlite\ndeliver {\nworkers "+testKey+"\n}\n"+merchantBlock("shop", "")) + aSite},
		"a wait":                      {testKey, options("store sqlite\ndeliver {\nretry 1s "+testKey+"\n}\n"+merchantBlock("shop", "")) + aSite},
		"an option of a store":        {testKey, options("store sqlite a.db "+testKey+"\n"+merchantBlock("shop", "")) + aSite},
		"a variable's name":           {testKey, block("app_secret {env." + testKey + "}")},
		"one value too many":          {testKey, options("login_endpoint https://a "+testKey+"\n"+merchantBlock("shop", "")) + aSite},
		"behind a switch":             {testKey, block("payouts " + testKey)},
		"behind the name of a prefix": {testToken, site("path_prefix /pay " + testToken)},
		"behind the block's own name": {testKey, "{\nwepay " + testKey + " {\n}\n}\n"},
		"behind the directive's name": {testToken, options(merchantBlock("shop", "")) + ":8080 {\nwepay /pay " + testToken + "\n}\n"},
	} {
		t.Run(name, func(t *testing.T) {
			_, _, err := adapt(test.caddyfile)
			if err == nil {
				_, err = validate(t, test.caddyfile)
			}
			if err == nil {
				t.Fatal("it is taken")
			}
			for i := range len(test.secret) - 6 {
				if strings.Contains(err.Error(), test.secret[i:i+6]) {
					t.Fatalf("it is told: %v", err)
				}
			}
		})
	}
}

// A relative path starts at the Caddyfile that it stands in, also at one that is
// imported, and not at the working directory.
func TestRelativePaths(t *testing.T) {
	dir := t.TempDir()
	if err := os.Mkdir(filepath.Join(dir, "shops"), 0o700); err != nil {
		t.Fatal(err)
	}
	writeFile(t, dir, "shops/shop", []byte("merchant shop {\npfx cert.p12\ncert a.pem keys/b.pem\nprivate_key ../c.pem\npublic_key PUB_KEY_ID_1 d.pem\napp_id wx00112233445566aa\nmch_id 1900000109\npartner_key "+testKey+"\n}\n"))
	writeFile(t, dir, "bare", nil)
	text := "{\nwepay {\nimport shops/shop\nconfig_file ./config.json\nstore sqlite data/store.db\nmerchant mini {\npfx bare\nprivate_key {env.KEYS}/e.pem\napp_id wx00112233445566aa\nmch_id 1900000109\npartner_key " + testKey + "\n}\n}\n}\n"
	config, _, err := caddyconfig.GetAdapter("caddyfile").Adapt([]byte(text), map[string]any{"filename": filepath.Join(dir, "Caddyfile")})
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"shops/cert.p12", "shops/a.pem", "shops/keys/b.pem", "c.pem", "shops/d.pem", "config.json", "data/store.db", "bare"} {
		if !strings.Contains(string(config), `"`+filepath.Join(dir, want)+`"`) {
			t.Errorf("%s is not in %s", want, config)
		}
	}
	if !strings.Contains(string(config), `"{env.KEYS}/e.pem"`) {
		t.Errorf("the placeholder is not in %s", config)
	}
}
