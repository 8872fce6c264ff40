package caddymodule

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
)

func TestConfigFile(t *testing.T) {
	dir, err := filepath.Abs("testdata/config")
	if err != nil {
		t.Fatal(err)
	}
	shop := MerchantConfig{
		Name: "服务号支付", Env: "H5", Type: "普通商户", AppID: "wx00112233445566aa", MchID: "1900000109",
		NotifyURL:  "https://pay.example.cn/apis/v1/wepay/pay_notify",
		PartnerKey: testKey, PFX: filepath.Join(dir, "apiclient_cert_1900000109.p12"), Passphrase: "1900000109",
		CbNotifyURL: "http://127.0.0.1:3000/apis/v1/mqtt/pay_notify",
	}
	for _, row := range []struct {
		file string
		want func() []*MerchantConfig
	}{
		{"object.json", func() []*MerchantConfig { return []*MerchantConfig{&shop} }},
		{"array.json", func() []*MerchantConfig {
			first := shop
			first.PFX = filepath.Join(dir, "certs", "apiclient_cert.p12")
			return []*MerchantConfig{&first, {
				Name: "小程序", Env: "WXAPP", Type: "服务商", AppID: "wx00112233445566bb", MchID: "1900000110",
				SubAppID: "wx00112233445566cc", SubMchID: oneOrMore{"1900000111"},
				NotifyURL:  "https://pay.example.cn/apis/v1/wepay/pay_notify",
				PartnerKey: otherTestKey, PFX: "/run/secrets/apiclient_cert.p12",
			}}
		}},
	} {
		t.Run(row.file, func(t *testing.T) {
			path := filepath.Join(dir, row.file)
			want := row.want()
			got, err := readConfigFile(path)
			if err != nil {
				t.Fatal(err)
			}
			for i := range want {
				want[i].positions = got[i].positions // TestConfigFileValidate has those
			}
			if !reflect.DeepEqual(got, want) {
				t.Errorf("got:\n%s\nwant:\n%s", asJSON(t, got), asJSON(t, want))
			}
			// The path takes placeholders, and the files are beside what it means.
			t.Setenv("WEPAY_TEST_DIR", dir)
			again, err := readConfigFile("{env.WEPAY_TEST_DIR}" + string(filepath.Separator) + row.file)
			if err != nil || !reflect.DeepEqual(again, want) {
				t.Errorf("by a placeholder: %v\n%s", err, asJSON(t, again))
			}
		})
	}
}

func asJSON(t *testing.T, value any) string {
	t.Helper()
	text, err := json.MarshalIndent(value, "", "\t")
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func TestConfigFileNames(t *testing.T) {
	for _, row := range []struct{ name, text, want string }{
		{"its own name", `[{"name":"shop","mchId":"1"},{"name":"mini","mchId":"1"}]`, "shop mini"},
		{"no name", `[{"mchId":"1"},{"mchId":"2"}]`, "1 2"},
		{"an empty name", `[{"name":"","mchId":"1"},{"name":null,"mchId":"2"}]`, "1 2"},
		{"a repeated name", `[{"name":"微信支付","mchId":"1"},{"name":"微信支付","mchId":"2"},{"name":"mini","mchId":"3"}]`, "1 2 mini"},
		{"one account", `[{"mchId":"1","env":"H5"},{"mchId":"1","env":"WXAPP"},{"mchId":"2","env":"H5"}]`, "1-H5 1-WXAPP 2"},
		{"one account and no env", `[{"mchId":"1"},{"mchId":"1","env":"WXAPP"}]`, "1-H5 1-WXAPP"},
		{"one account, one of it named", `[{"name":"shop","mchId":"1","env":"H5"},{"mchId":"1","env":"APP"}]`, "shop 1-APP"},
		{"numbers", `[{"mchId":1},{"mchId":"1","env":"APP"}]`, "1-H5 1-APP"},
	} {
		t.Run(row.name, func(t *testing.T) {
			configs, err := parseConfigFile([]byte(row.text), "config.json")
			if err != nil {
				t.Fatal(err)
			}
			var names []string
			for _, config := range configs {
				names = append(names, config.Name)
			}
			if got := strings.Join(names, " "); got != row.want {
				t.Errorf("got %s, want %s", got, row.want)
			}
		})
	}
}

// What stands in the file comes as it stands there.
func TestConfigFileValues(t *testing.T) {
	for _, row := range []struct{ name, value, want string }{
		{"text", `"1900000109"`, "1900000109"},
		{"a number", `1900000109`, "1900000109"},
		{"a number as it is written", `1.9e9`, "1.9e9"},
		{"null", `null`, ""},
		{"escapes", `"\u5546\u6237\n\"\\"`, "商户\n\"\\"},
		{"a placeholder, resolved later", `"{env.WEPAY_KEY}"`, "{env.WEPAY_KEY}"},
		{"space", `"  1900000109 "`, "  1900000109 "},
		{"after a comment that stands there twice", `1,"_":"a","_":"b"`, "1"},
	} {
		t.Run(row.name, func(t *testing.T) {
			configs, err := parseConfigFile([]byte(`{"mchId": `+row.value+` }`), "config.json")
			if err != nil {
				t.Fatal(err)
			}
			if got := configs[0].MchID; got != row.want {
				t.Errorf("got %q, want %q", got, row.want)
			}
		})
	}
}

func TestConfigFileRefused(t *testing.T) {
	const (
		noObject = "line 1, column 1: must be a JSON object, or an array of objects"
		notJSON  = "line 1, column 1: is no JSON here: a comma, a colon or a quotation mark is missing or too much"
		unknown  = "there is no such key (a comment's key begins with _)"
		comma    = "is a full-width comma: JSON's is ,"
		quote    = "a curly or full-width quotation mark: JSON's is \""
		half     = `holds half a character: one \uD800 to \uDFFF without its other half`
	)
	for _, row := range []struct{ name, text, want string }{
		{"nothing", "", noObject},
		{"white space", " \r\n", noObject},
		{"null", "null", noObject},
		{"a number", "1", noObject},
		{"text", `"merchants"`, noObject},
		{"a word", "merchants", notJSON},
		{"an array of text", `["shop"]`, "line 1, column 2: entry 1: must be an object"},
		{"an empty entry", "[{},\n null]", "line 2, column 2: entry 2: must be an object"},
		{"cut off", `[{"mchId":"1"}`, "line 1, column 15: the file ends before its JSON does: a bracket or a quotation mark is missing"},
		{"something after it", `{"mchId":"1"} {"mchId":"2"}`, "line 1, column 14: there is more behind the object or array: several objects belong in an array, [ … ]"},
		{"objects without array", `{"mchId":"1"},{"mchId":"2"}`, "line 1, column 14: there is more behind the object or array: several objects belong in an array, [ … ]"},

		{"full-width quotes", "{\n  “mchId”: “1”}", "line 2, column 3: is " + quote},
		{"full-width quotes of a value", "{\"partnerKey\": “" + testKey + "”}", "line 1, column 16: is " + quote},
		{"full-width quotes of another kind", "{\"partnerKey\": ＂" + testKey + "＂}", "line 1, column 16: is " + quote},
		{"a full-width quote alone", "{\"partnerKey\": \"" + testKey + "”,\n\"mchId\": \"1\"}", "line 1, column 51: is no JSON; the line has " + quote},
		{"a full-width quote of a key", "{\"partnerKey”: \"" + testKey + "\"}", "line 1, column 17: is no JSON; the line has " + quote},
		{"single quotes", "{'mchId': '1'}", "line 1, column 2: is a single quotation mark: JSON's is \""},
		{"a full-width comma", "{\"mchId\":\"1\"，\n\"env\":\"H5\"}", "line 1, column 13: " + comma},
		{"a full-width comma of entries", "[{\"mchId\":\"商户\"}，{}]", "line 1, column 16: " + comma},
		{"a full-width colon", "{\"partnerKey\"：\"" + testKey + "\"}", "line 1, column 14: is a full-width colon: JSON's is :"},
		{"full-width brackets", "［｛｝］", "line 1, column 1: is a full-width bracket: JSON's are { } [ ]"},
		{"a full-width blank", "{\n\u3000\"mchId\":\"1\"}", "line 2, column 1: is a blank that is not JSON's: put a plain one there"},
		{"a comment of JavaScript's", "// merchants\n{}", "line 1, column 1: is a comment, which JSON has none of: put it under a key that begins with _"},
		{"a comma too much", "{\"mchId\":\"1\",\n}", "line 1, column 13: is a comma behind which nothing follows"},
		{"a quote too few", "{\"mchId\":\"1,\n\"env\":\"H5\"}", "line 1, column 13: is within a text: a quotation mark is missing before it"},
		{"no quotes", "{\"partnerKey\": " + testKey + "}", "line 1, column 16: is no JSON here: a comma, a colon or a quotation mark is missing or too much"},
		{"no comma", "{\"mchId\":\"1\"\n\"partnerKey\":\"" + testKey + "\"}", "line 2, column 1: is no JSON here: a comma, a colon or a quotation mark is missing or too much"},
		{"a key in the place of its name", "{\"partnerKey\",\"" + testKey + "\"}", "line 1, column 14: is no JSON here: a comma, a colon or a quotation mark is missing or too much"},
		{"UTF-16", "\xff\xfe{\x00}\x00", "is UTF-16, as PowerShell and Notepad write it: save it as UTF-8"},
		{"GBK", "{\"name\":\"\xc9\xcc\xb5\xea\"}", "is not UTF-8 text (is it GBK?): save it as UTF-8"},

		{"unknown key", `{"mchID":"1"}`, `line 1, column 10: entry 1: there is no such key, but there is "mchId"`},
		{"the Caddyfile's word", `{"partner_key":"1"}`, `line 1, column 16: entry 1: there is no such key, but there is "partnerKey"`},
		{"unknown key of the second", `[{"mchId":"1"},{"mchId":"2","key":"` + testKey + `"}]`, `line 1, column 35: entry 2: ` + unknown},
		{"a secret for a key", `{"` + testKey + `":"partnerKey"}`, `line 1, column 37: entry 1: ` + unknown},
		{"a key twice", "{\"partnerKey\":\"" + otherTestKey + "\",\n \"partnerKey\":\"" + testKey + "\"}", `line 2, column 15: entry 1: "partnerKey": stands there twice`},
		{"a key twice, escaped", `{"mchId":"1","\u006dchId":"2"}`, `line 1, column 27: entry 1: "mchId": stands there twice`},
		{"half a character", `{"name":"\ud800"}`, `line 1, column 9: entry 1: "name": ` + half},
		{"a key of half a character", `{"\ud800":"x"}`, `line 1, column 1: entry 1: has a name that is not valid UTF-8`},
		{"a boolean", `{"partnerKey":true}`, `line 1, column 15: entry 1: "partnerKey": must be text`},
		{"an object", `{"pfx":{}}`, `line 1, column 8: entry 1: "pfx": must be text`},
		{"an array", `[{"mchId":["1"]}]`, `line 1, column 11: entry 1: "mchId": must be text`},
	} {
		t.Run(row.name, func(t *testing.T) {
			configs, err := parseConfigFile([]byte(row.text), "config.json")
			if err == nil {
				t.Fatalf("it was accepted: %s", asJSON(t, configs))
			}
			if got := err.Error(); got != row.want {
				t.Errorf("got %s, want %s", got, row.want)
			}
			for i := range len(testKey) - 6 {
				if strings.Contains(err.Error(), testKey[i:i+6]) {
					t.Fatalf("the error tells of the key: %v", err)
				}
			}
		})
	}
}

// What comes of a file in the whole config. DIR stands for the file's place.
func TestConfigFileValidate(t *testing.T) {
	const entry = `{"appId":"wx00112233445566aa","mchId":"1900000109","partnerKey":"` + testKey + `"`
	for _, row := range []struct{ name, text, want string }{
		{"one merchant", entry + `}`, ""},
		{"its certificate", entry + `,"pfx":"cert.p12"}`, ""},
		{"none", `[]`, "Caddyfile:7: no merchant is configured: the global option wepay needs a merchant block or a config_file"},
		{"garbage", `merchants`, "Caddyfile:3: config_file: DIR/config.json: line 1, column 1: is no JSON here: a comma, a colon or a quotation mark is missing or too much"},
		{"unknown key", `[` + entry + `,"key":"1"}]`, `Caddyfile:3: config_file: DIR/config.json: line 1, column 107: entry 1: there is no such key (a comment's key begins with _)`},
		{"wrong entry", `[` + entry + `},` + entry + `,"env":"JSAPI"}]`, `config_file DIR/config.json: line 1, column 207: entry 2, "env": merchant "1900000109-JSAPI": env: must be H5 or WXAPP or APP or MWEB or NATIVE`},
		{"missing file", entry + `,"pfx":"no.p12"}`, `config_file DIR/config.json: line 1, column 106: entry 1, "pfx": merchant "1900000109": pfx: DIR/no.p12: open DIR/no.p12: no such file or directory`},
		{"a certificate's text", entry + `,"pfx":"` + strings.Repeat("MIIKFQIBAzCC", 100) + `"}`, `config_file DIR/config.json: line 1, column 106: entry 1, "pfx": pfx: is what belongs in a file: it must be the path of that file`},
		{"a passphrase in pfx", entry + `,"pfx":"` + testPassphrase + `"}`, `config_file DIR/config.json: line 1, column 106: entry 1, "pfx": pfx: must be the path of a file (not shown here, as it does not look like one): no such file or directory`},
		{"a file without an ending", entry + `,"pfx":"cert"}`, ""},
		{"a file by a placeholder", entry + `,"pfx":"{env.WEPAY_TEST_P12}"}`, ""},
		{"a byte order mark", "\ufeff" + entry + `}`, ""},
		{"the file's own word", entry + `,"notifyUrl":"https://pay.example.cn/?a=1"}`, `config_file DIR/config.json: line 1, column 112: entry 1, "notifyUrl": merchant "1900000109": notify_url: must not have a query or a fragment, WeChat Pay refuses them`},
		{"wrong passphrase", entry + `,"pfx":"cert.p12","passphrase":"` + testPassphrase + `"}`, `config_file DIR/config.json: line 1, column 106: entry 1, "pfx": merchant "1900000109": pfx: DIR/cert.p12: wrong passphrase`},
		{"empty entry", `[null]`, `Caddyfile:3: config_file: DIR/config.json: line 1, column 2: entry 1: must be an object`},
		{"twice", `[` + entry + `},` + entry + `}]`, `config_file DIR/config.json: line 1, column 102: entry 2: merchant "1900000109-H5": there are two of this name`},
		{"a URL for events", entry + `,"cbEventUrl":"http://127.0.0.1/events"}`, ""},
		{"a URL for events that is none", entry + `,"cbEventUrl":"127.0.0.1/events"}`, `config_file DIR/config.json: line 1, column 113: entry 1, "cbEventUrl": merchant "1900000109": cb_event_url: must be an absolute http:// or https:// URL`},
		{"a URL for events in other letters", entry + `,"cb_event_url":"http://127.0.0.1/"}`, `Caddyfile:3: config_file: DIR/config.json: line 1, column 115: entry 1: there is no such key, but there is "cbEventUrl"`},
		{"disagreeing", `[` + entry + `},` + entry + `,"env":"WXAPP","cbNotifyUrl":"http://other/"}]`, `config_file DIR/config.json: line 1, column 229: entry 2, "cbNotifyUrl": merchant "1900000109-WXAPP": cb_notify_url: a notification of trade type JSAPI cannot be told from one of merchant "1900000109-H5", and the two disagree about cb_notify_url, cb_refund_notify_url or partner_key`},
	} {
		t.Run(row.name, func(t *testing.T) {
			t.Setenv("WEPAY_TEST_P12", "cert")
			dir := t.TempDir()
			path := writeFile(t, dir, "config.json", []byte(row.text))
			cert, err := os.ReadFile("../testdata/certificates/wechat.p12")
			if err != nil {
				t.Fatal(err)
			}
			writeFile(t, dir, "cert.p12", cert)
			writeFile(t, dir, "cert", cert)
			wantError(t, options("config_file "+path)+aSite, strings.ReplaceAll(row.want, "DIR", dir))
		})
	}
	t.Run("not there", func(t *testing.T) {
		path := filepath.Join(t.TempDir(), "no.json")
		wantError(t, options("config_file "+path)+aSite, "Caddyfile:3: config_file: "+path+": open "+path+": no such file or directory")
	})
	t.Run("beside a merchant of the same name", func(t *testing.T) {
		path := writeFile(t, t.TempDir(), "config.json", []byte(entry+`,"name":"shop"}`))
		wantError(t, options("config_file "+path+"\n"+merchantBlock("shop", ""))+aSite, "config_file "+path+`: line 1, column 1: entry 1: merchant "shop": there are two of this name`)
	})
}

// FuzzConfigFile demands that a file is accepted only as a whole: JSON, one
// merchant for each entry, and each value as it stands there.
func FuzzConfigFile(f *testing.F) {
	for _, file := range []string{"object.json", "array.json"} {
		text, err := os.ReadFile(filepath.Join("testdata/config", file))
		if err != nil {
			f.Fatal(err)
		}
		f.Add(text)
	}
	for _, text := range []string{
		"null", "[]", "[null]", "{}", `{"mchId":1},{}`, `[{"name":"a","mchId":"1"},{"name":"a","mchId":"1"}]`,
		`{"mchId":"1","mchId":"2"}`, `{"_":{}}`, `{"name":"\ud800"}`, "\ufeff{}", `{"mchId":1e999}`,
	} {
		f.Add([]byte(text))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		configs, err := parseConfigFile(text, "config.json")
		if err != nil {
			return
		}
		text = bytes.TrimPrefix(text, []byte("\ufeff"))
		var entries []map[string]json.RawMessage
		if json.Unmarshal(text, &entries) != nil {
			entries = make([]map[string]json.RawMessage, 1)
			if err := json.Unmarshal(text, &entries[0]); err != nil {
				t.Fatalf("accepted, but no JSON: %v", err)
			}
		}
		if len(configs) != len(entries) {
			t.Fatalf("%d merchants of %d entries", len(configs), len(entries))
		}
		value := func(entry map[string]json.RawMessage, key string) string {
			var text string
			if json.Unmarshal(entry[key], &text) != nil {
				return string(entry[key]) // a number, or nothing
			}
			return text
		}
		names := make(map[string]int)
		for _, entry := range entries {
			names[value(entry, "name")]++
		}
		for i, entry := range entries {
			if number := value(entry, "mchId"); configs[i].MchID != number {
				t.Errorf("entry %d: mchId is %q, want %q", i, configs[i].MchID, number)
			}
			if name := value(entry, "name"); name != "" && names[name] == 1 {
				if configs[i].Name != name {
					t.Errorf("entry %d: name is %q, want %q", i, configs[i].Name, name)
				}
			} else if !strings.HasPrefix(configs[i].Name, configs[i].MchID) {
				t.Errorf("entry %d: name is %q, of nothing in it", i, configs[i].Name)
			}
		}
		if again, err := parseConfigFile(text, "config.json"); err != nil || !reflect.DeepEqual(again, configs) {
			t.Errorf("read again it is another: %v", err)
		}
	})
}
