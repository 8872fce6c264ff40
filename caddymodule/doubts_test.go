package caddymodule

import (
	"encoding/json"
	"os"
	"slices"
	"strings"
	"testing"
	"time"
)

// checkDoubts validates a Caddyfile and compares the reasons that it is warned for
// with those wanted, each by a part of it, in their order.
func checkDoubts(t *testing.T, caddyfile string, want ...string) (warnings string) {
	t.Helper()
	warnings, err := validate(t, caddyfile)
	if err != nil {
		t.Fatal(err)
	}
	lines := slices.Collect(strings.Lines(warnings))
	if len(lines) != len(want) {
		t.Fatalf("%d warnings, want %d: %s", len(lines), len(want), warnings)
	}
	for i, line := range lines {
		var entry struct{ Level, Reason string }
		if err := json.Unmarshal([]byte(line), &entry); err != nil {
			t.Fatal(err)
		}
		if entry.Level != "warn" || !strings.Contains(entry.Reason, want[i]) {
			t.Errorf("warned: %s\nwant …%s…", line, want[i])
		}
	}
	return warnings
}

// validate_test.go has what each merchant is warned of besides.
func TestDoubtAccess(t *testing.T) {
	const (
		strangers = " lets strangers in: name the addresses of the site's own services, or ask for a token in place of it"
		guessed   = " has less than 16 characters and can be guessed: make one by openssl rand -hex 24"
	)
	t.Setenv("WEPAY_TEST_RANGE", "0.0.0.0/0")
	t.Setenv("WEPAY_TEST_ZONE", "::/0%eth0")
	for lines, want := range map[string][]string{
		"allow private_ranges 127.0.0.1 ::1 10.0.0.0/8 192.168.0.0/24 172.16.0.0/12 fd00::/8 fc00::/7 fe80::/10 fe80::1%eth0 100.64.0.0/10 169.254.0.0/16": nil,
		"allow 203.0.113.9 203.0.113.0/24 198.51.0.0/16 2001:db8::7 2001:db8::/32":                                                                         nil,
		"allow 0.0.0.0/0 ::/0":                {"Caddyfile:14: allow: 0.0.0.0/0" + strangers, "Caddyfile:14: allow: ::/0" + strangers},
		"allow 0.0.0.0/1 128.0.0.0/1":         {"0.0.0.0/1" + strangers, "128.0.0.0/1" + strangers},
		"allow 10.0.0.0/7 11.0.0.0/8":         {"10.0.0.0/7" + strangers, "11.0.0.0/8" + strangers},
		"allow 203.0.0.0/15 2000::/3":         {"203.0.0.0/15" + strangers, "2000::/3" + strangers},
		"allow {env.WEPAY_TEST_ZONE}":         {"::/0" + strangers},
		"allow {env.WEPAY_TEST_RANGE}":        {"0.0.0.0/0" + strangers},
		"allow 0.0.0.0/0\ntoken " + testToken: {"0.0.0.0/0" + strangers},

		"token 0123456789abcdef":                       nil,
		"token 0123456789abcde":                        {"Caddyfile:14: token: number 1" + guessed},
		"token " + testToken + " secret " + testToken:  {"token: number 2" + guessed},
		"allow 10.0.0.1\ntoken pass-word":              {"Caddyfile:15: token: number 1" + guessed},
		"allow private_ranges\ntoken " + testToken:     nil,
		"path_prefix /pay\nmerchants shop\nallow ::/1": {"::/1" + strangers},
	} {
		t.Run(lines, func(t *testing.T) {
			warnings := checkDoubts(t, options(merchantBlock("shop", "cb_notify_url http://orders/"))+":8080 {\nwepay {\n"+lines+"\n}\n}\n", want...)
			if strings.Contains(warnings, "secret") || strings.Contains(warnings, "pass-word") {
				t.Errorf("a token is told: %s", warnings)
			}
		})
	}
}

func TestDoubtTransports(t *testing.T) {
	const shop, insecure = "cb_notify_url https://orders.example/", ": tls_insecure_skip_verify lets anyone on the network pose as the server"
	file := func(lines string) string {
		return options(lines+"\n"+merchantBlock("shop", shop)+merchantBlock("mini", shop+"\napp_id wx00112233445566bb")) + aSite
	}
	checkDoubts(t, file(""))
	checkDoubts(t, file("transport http {\ntls_server_name pay.example\n}"))
	checkDoubts(t, file("transport http {\ntls_insecure_skip_verify\n}"), "Caddyfile:3: transport"+insecure)
	checkDoubts(t, file("callback_transport http {\ntls\ntls_insecure_skip_verify\n}"), "Caddyfile:3: callback_transport"+insecure)
	checkDoubts(t, file("callback_transport http {\ntls_insecure_skip_verify\n}\ntransport http {\ntls_insecure_skip_verify\n}"),
		"Caddyfile:6: transport"+insecure, "Caddyfile:3: callback_transport"+insecure)
}

func TestDoubtCallbacks(t *testing.T) {
	const clear = " is plain http to another network, and there is no callback_secret"
	for url, own := range map[string]bool{
		"http://orders/": true, "http://ORDERS:3000/n": true, "http://localhost:3000": true, "http://api.localhost": true, "http://127.0.0.1": true, "http://127.9.9.9": true, "http://[::1]:80": true,
		"http://10.1.2.3": true, "http://172.16.0.1": true, "http://192.168.1.1": true, "http://[fd12::1]": true, "http://[fe80::1%25eth0]": true, "http://169.254.1.1": true, "http://100.64.0.1": true,
		"http://[::ffff:10.0.0.1]": true, "http://orders.shop.svc": true, "http://orders.shop.svc.cluster.local": true, "http://host.docker.internal": true, "http://nas.lan.": true, "http://a.home.arpa": true,
		"https://orders.example.cn": true, "https://203.0.113.9": true,
		"http://orders.example.cn": false, "HTTP://orders.example.cn:8080/n": false, "http://203.0.113.9": false, "http://[2001:db8::7]": false, "http://172.32.0.1": false, "http://[::ffff:203.0.113.9]": false,
		"http://notlocal": true, "http://orders.notlocal": false, "http://localhost.example.cn": false, "http://10.0.0.1.nip.io": false, "http://home.arpa": false, "http://svc.cn": false,
	} {
		t.Run(url, func(t *testing.T) {
			var want []string
			if !own {
				want = []string{"cb_notify_url" + clear}
			}
			checkDoubts(t, options(merchantBlock("shop", "cb_notify_url "+url))+aSite, want...)
			checkDoubts(t, options(merchantBlock("shop", "cb_notify_url "+url+"\ncallback_secret "+testSecret))+aSite)
		})
	}
	checkDoubts(t, options(merchantBlock("shop", "cb_notify_url http://orders/\ncb_refund_notify_url http://refunds.example.cn/"))+aSite, "cb_refund_notify_url"+clear)
	checkDoubts(t, options(merchantBlock("shop", "cb_notify_url http://orders/\ncb_event_url http://events.example.cn/"))+aSite, "cb_event_url"+clear)
	const same = "cb_event_url is where payments or refunds go, too"
	checkDoubts(t, options(merchantBlock("shop", "cb_notify_url http://orders/\ncb_event_url http://orders/"))+aSite, same)
	checkDoubts(t, options(merchantBlock("shop", "cb_notify_url http://orders/\ncb_refund_notify_url http://refunds/\ncb_event_url http://refunds/"))+aSite, same)
	checkDoubts(t, options(merchantBlock("shop", "cb_notify_url http://orders/\ncb_event_url http://orders/events"))+aSite)
	checkDoubts(t, options(merchantBlock("shop", "cb_notify_url http://orders.example.cn/\ncb_refund_notify_url http://refunds.example.cn/"))+aSite, "cb_notify_url"+clear, "cb_refund_notify_url"+clear)
}

// What JSON and the Node service's file say is doubted, too.
func TestDoubtJSON(t *testing.T) {
	config := testConfig(t, ":8080\n")
	config.AppsRaw["wepay"] = json.RawMessage(`{"merchants":[{"name":"shop","app_id":"wx00112233445566aa","mch_id":"1900000109","partner_key":"` + testKey + `","cb_notify_url":"http://orders.example.cn/"}],"transport":{"protocol":"http","tls":{"insecure_skip_verify":true}}}`)
	config.AppsRaw["http"] = json.RawMessage(`{"servers":{"srv0":{"listen":[":8080"],"routes":[{"handle":[{"handler":"wepay","allow":"0.0.0.0/0","token":"short"}]}]}}}`)
	warnings, err := validateConfig(t, config)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{`"reason":"transport: tls_insecure_skip_verify`, `"reason":"cb_notify_url is plain http`, `"reason":"allow: 0.0.0.0/0 lets`, `"reason":"token: number 1 has`} {
		if strings.Count(warnings, want) != 1 {
			t.Errorf("got %s, want one warning: %s", warnings, want)
		}
	}
}

// The example is valid, and nothing in it is doubted.
func TestCaddyfileExample(t *testing.T) {
	example, err := os.ReadFile("../Caddyfile.example")
	if err != nil {
		t.Fatal(err)
	}
	for name, value := range map[string]string{
		"WEPAY_SHOP_KEY": testKey, "WEPAY_COUNTER_KEY": otherTestKey, "WEPAY_APP_APIV3_KEY": testV3Key, "WEPAY_CALLBACK_SECRET": testSecret, "WEPAY_TOKEN": testToken,
	} {
		t.Setenv(name, value)
	}
	now := time.Now()
	dir, _ := keyFiles(t) // with pub_key.pem
	counter := issue(t, "1525312342", now)
	for name, content := range map[string][]byte{
		"apiclient_cert_1525312341.p12": issue(t, "1525312341", now).P12,
		"apiclient_cert.pem":            counter.CertPEM,
		"apiclient_key.pem":             counter.KeyPEM,
		"apiclient_key_1525312343.pem":  counter.KeyPEM,
	} {
		writeFile(t, dir, name, content)
	}
	checkDoubts(t, strings.NewReplacer(" apiclient_", " "+dir+"/apiclient_", " pub_key", " "+dir+"/pub_key").Replace(string(example)))
}

// What no site serves shows before it is loaded, too.
func TestDoubtRoutesValidated(t *testing.T) {
	shop := options(merchantBlock("shop", "cb_notify_url http://orders/\nnotify_url https://m.example.cn/apis/v1/wepay/paynotify"))
	checkDoubts(t, shop+":8080 {\nwepay\n}\n", "notify_url: no wepay directive of this server takes notifications at the path /apis/v1/wepay/paynotify")
	checkDoubts(t, shop+":8080 {\nrespond ok\n}\n", "no wepay directive of this server serves it")
	if warnings, err := validate(t, shop+":8080 {\nwepay {\nmerchants nobody\n}\n}\n"); err == nil || strings.Contains(warnings, "no wepay directive") {
		t.Errorf("a config that is refused is doubted as well: %s (%v)", warnings, err)
	}
}

// A notify_url whose host or path does not get to the directive that takes it shows,
// and nothing that may be right is doubted.
func TestDoubtReach(t *testing.T) {
	const lost = "notify_url: the site or the matcher that the wepay directive stands in does not let a POST to m.example.cn/apis/v1/wepay/pay_notify through"
	shop := options(merchantBlock("shop", "cb_notify_url http://orders/\nnotify_url https://m.example.cn/apis/v1/wepay/pay_notify"))
	for site, warned := range map[string]bool{
		":8080 {\nwepay\n}":                                                          false,
		"http://m.example.cn:8080 {\nwepay\n}":                                       false,
		"http://*.example.cn:8080 {\nwepay\n}":                                       false,
		"http://M.EXAMPLE.CN:8080, http://b.example.cn:8080 {\nwepay\n}":             false,
		"http://b.example.cn:8080 {\nwepay\n}":                                       true,
		"http://b.example.cn:8080 {\nwepay\n}\nhttp://m.example.cn:8080 {\nwepay\n}": false,
		":8080 {\nwepay /apis/*\n}":                                                  false,
		":8080 {\nwepay /api/*\n}":                                                   true,
		":8080 {\nhandle /api/* {\nwepay\n}\n}":                                      true,
		":8080 {\nhandle /apis/* {\nwepay\n}\n}":                                     false,
		":8080 {\nhandle {\nwepay\n}\n}":                                             false,
		":8080 {\nroute /api/* {\nwepay\n}\nroute /apis/* {\nwepay\n}\n}":            false,
		":8080 {\nhandle_path /api/* {\nwepay\n}\n}":                                 false, // it rewrites the path
		":8080 {\nrewrite * /api{uri}\nwepay /api/*\n}":                              false,
		":8080 {\n@get method GET\nwepay @get\n}":                                    true,
		":8080 {\n@post method POST PUT\nwepay @post\n}":                             false,
		":8080 {\n@own host b.example.cn\nwepay @own\n}":                             true,
		":8080 {\n@not not path /apis/*\nwepay @not\n}":                              false,
		":8080 {\n@cel expression `path('/api/*')`\nwepay @cel\n}":                   false,
		":8080 {\n@either {\npath /api/*\nremote_ip 10.0.0.0/8\n}\nwepay @either\n}": true,
		":8080 {\n@other {\npath /apis/*\nremote_ip 10.0.0.0/8\n}\nwepay @other\n}":  false,
		":8080 {\n@place path {env.WEPAY_TEST_NOWHERE}/*\nwepay @place\n}":           false,
		":8080 {\nhandle_errors {\nwepay\n}\n}":                                      false,
	} {
		t.Run(site, func(t *testing.T) {
			var want []string
			if warned {
				want = []string{lost}
			}
			checkDoubts(t, shop+site+"\n", want...)
		})
	}
}

func TestQuotedName(t *testing.T) {
	for _, name := range []string{"“shop”", "‘shop’", "sh'op", "sh`op", "＂shop＂"} {
		_, err := validate(t, options(merchantBlock(name, "cb_notify_url http://orders/")))
		if err == nil || !strings.Contains(err.Error(), "name: has a quotation mark in it") {
			t.Errorf("%s: got %v", name, err)
		}
	}
}
