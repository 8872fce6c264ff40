package caddymodule

import (
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
			for i := range want {
				want[i].positions = positions{"block": "config_file " + path + ": entry " + string(rune('1'+i))}
			}
			got, err := readConfigFile(path)
			if err != nil {
				t.Fatal(err)
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
			configs, err := parseConfigFile([]byte(row.text))
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
	} {
		t.Run(row.name, func(t *testing.T) {
			configs, err := parseConfigFile([]byte(`{"mchId": ` + row.value + ` }`))
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
	const notJSON = "reading JSON, an object or an array of objects: "
	for _, row := range []struct{ name, text, want string }{
		{"nothing", "", notJSON},
		{"text", "merchants", notJSON},
		{"a number", "1", notJSON},
		{"an array of text", `["shop"]`, notJSON},
		{"cut off", `[{"mchId":"1"}`, notJSON},
		{"something after it", `{"mchId":"1"} {"mchId":"2"}`, notJSON},
		{"objects without array", `{"mchId":"1"},{"mchId":"2"}`, notJSON},
		{"a comment of JavaScript's", "// merchants\n{}", notJSON},
		{"unknown key", `{"mchID":"1"}`, `entry 1: "mchID": no such key (a comment's key begins with _)`},
		{"unknown key of the second", `[{"mchId":"1"},{"mchId":"2","key":"` + testKey + `"}]`, `entry 2: "key": no such key (a comment's key begins with _)`},
		{"a boolean", `{"partnerKey":true}`, `entry 1: "partnerKey": must be text`},
		{"an object", `{"pfx":{}}`, `entry 1: "pfx": must be text`},
		{"an array", `[{"mchId":["1"]}]`, `entry 1: "mchId": must be text`},
	} {
		t.Run(row.name, func(t *testing.T) {
			configs, err := parseConfigFile([]byte(row.text))
			if err == nil {
				t.Fatalf("it was accepted: %s", asJSON(t, configs))
			}
			if got := err.Error(); !strings.HasPrefix(got, row.want) || row.want != notJSON && got != row.want {
				t.Errorf("got %s, want %s", got, row.want)
			}
			if strings.Contains(err.Error(), testKey) {
				t.Errorf("the error tells the key: %v", err)
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
		{"garbage", `merchants`, "Caddyfile:3: config_file: DIR/config.json: reading JSON, an object or an array of objects: invalid character 'm' looking for beginning of value"},
		{"unknown key", `[` + entry + `,"key":"1"}]`, `Caddyfile:3: config_file: DIR/config.json: entry 1: "key": no such key (a comment's key begins with _)`},
		{"wrong entry", `[` + entry + `},` + entry + `,"env":"JSAPI"}]`, `config_file DIR/config.json: entry 2: merchant "1900000109-JSAPI": env: must be H5 or WXAPP or APP or MWEB or NATIVE`},
		{"missing file", entry + `,"pfx":"no.p12"}`, `config_file DIR/config.json: entry 1: merchant "1900000109": pfx: DIR/no.p12: open DIR/no.p12: no such file or directory`},
		{"wrong passphrase", entry + `,"pfx":"cert.p12","passphrase":"` + testPassphrase + `"}`, `config_file DIR/config.json: entry 1: merchant "1900000109": pfx: DIR/cert.p12: wrong passphrase`},
		{"empty entry", `[null]`, `config_file DIR/config.json: entry 1: merchant "": name: is required`},
		{"twice", `[` + entry + `},` + entry + `}]`, `config_file DIR/config.json: entry 2: merchant "1900000109-H5": there are two of this name`},
		{"disagreeing", `[` + entry + `},` + entry + `,"env":"WXAPP","cbNotifyUrl":"http://other/"}]`, `config_file DIR/config.json: entry 2: merchant "1900000109-WXAPP": cb_notify_url: a notification of trade type JSAPI cannot be told from one of merchant "1900000109-H5", and the two disagree about cb_notify_url, cb_refund_notify_url or partner_key`},
	} {
		t.Run(row.name, func(t *testing.T) {
			dir := t.TempDir()
			path := writeFile(t, dir, "config.json", []byte(row.text))
			cert, err := os.ReadFile("../testdata/certificates/wechat.p12")
			if err != nil {
				t.Fatal(err)
			}
			writeFile(t, dir, "cert.p12", cert)
			wantError(t, options("config_file "+path)+aSite, strings.ReplaceAll(row.want, "DIR", dir))
		})
	}
	t.Run("not there", func(t *testing.T) {
		wantError(t, options("config_file no.json")+aSite, "Caddyfile:3: config_file: reading the file: open no.json: no such file or directory")
	})
	t.Run("beside a merchant of the same name", func(t *testing.T) {
		path := writeFile(t, t.TempDir(), "config.json", []byte(entry+`,"name":"shop"}`))
		wantError(t, options("config_file "+path+"\n"+merchantBlock("shop", ""))+aSite, "config_file "+path+`: entry 1: merchant "shop": there are two of this name`)
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
		configs, err := parseConfigFile(text)
		if err != nil {
			return
		}
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
		if again, err := parseConfigFile(text); err != nil || !reflect.DeepEqual(again, configs) {
			t.Errorf("read again it is another: %v", err)
		}
	})
}
