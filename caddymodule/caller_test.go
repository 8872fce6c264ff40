package caddymodule

import (
	"crypto/tls"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

// Where no token is asked for, a name that strangers may have pointed here is
// refused, and every name of the site's is taken.
func TestAccessByHost(t *testing.T) {
	t.Setenv("WEPAY_TEST_SITE", "pay.example.cn")
	t.Setenv("WEPAY_TEST_ANY", "*")
	many := "many.example.cn"
	for c := 'a'; c <= 'z'; c++ {
		for _, d := range "abcde" {
			many += ", " + string(c) + string(d) + ".example.cn"
		}
	}
	const anywhere = "10.0.0.1 10.0.0.1:8080 127.0.0.1:1 [::1] [::1]:8080 [2001:db8::7]:443 localhost LOCALHOST:8080 localhost. pay.localhost"
	for _, test := range []struct{ name, site, taken, refused string }{
		{
			"without a name", ":8080", anywhere,
			"evil.example evil.example:8080 evil.example. orders caddy:8080 10.0.0.1.evil.example 10.0.0.1.nip.io localhost.evil.example notlocalhost 127.1 0x7f.1 2130706433 010.0.0.1 " +
				"localhost:x ::1 [::1 [evil.example] * *.* .localhost.x lo%63alhost",
		},
		{"of one name", "http://pay.example.cn:8080, http://caddy:8080", "pay.example.cn PAY.example.CN:8080 caddy caddy:1", ""},
		{"of many names", many, "many.example.cn ZE.example.cn:443", ""},
		{"beside any name", "http://pay.example.cn:8080, :8080", anywhere, "pay.example.cn evil.example"},
		{"of a wildcard", "http://*.example.cn:8080", "pay.example.cn a.example.cn:1", ""},
		{"of any name of one word", "http://*:8080", "localhost", "orders"},
		{"of any name of two words", "http://*.*:8080", "", "evil.example pay.cn"},
		{"of any name of a country", "http://*.cn:8080", "", "pay.cn"},
		{"of any name within two countries", "http://*.*.cn:8080", "", "pay.example.cn"},
		{"of a placeholder", "http://{env.WEPAY_TEST_SITE}:8080", "pay.example.cn", ""},
		{"of a placeholder for any name", "http://{env.WEPAY_TEST_ANY}:8080", "", "orders"},
		{"of a name in Chinese", "http://支付.example.cn:8080", "xn--bnq875c.example.cn", ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			withServer(t, accessFileOf("", test.site, "allow 127.0.0.1"), func(server http.Handler) {
				for host := range strings.FieldsSeq(test.taken) {
					row := accessRow{peer: "127.0.0.1:4711", headers: []string{"Host: " + host}, status: http.StatusOK}
					t.Run(host, func(t *testing.T) { row.check(t, server) })
				}
				for host := range strings.FieldsSeq(test.refused) {
					row := accessRow{peer: "127.0.0.1:4711", headers: []string{"Host: " + host}, status: 403, reason: "neither an address, nor localhost, nor a name of this site's"}
					t.Run("not "+host, func(t *testing.T) { row.check(t, server) })
				}
			})
		})
	}
}

// A Host that is more than a host and a port is none.
func TestHostname(t *testing.T) {
	for host, want := range map[string]string{
		"Pay.example.cn.:80": "pay.example.cn", "[::1]:80": "::1", "localhost:": "localhost", "": "", ":80": "", ".": "", "10.0.0.1@evil.example": "",
		"localhost:80@evil.example": "", "evil.example:80@localhost": "", "localhost/evil.example": "", "localhost?evil": "", "localhost#evil": "", "local host": "", "localhost\n": "", "localhost\x00": "",
	} {
		if got, ok := hostname(host); got != want || ok != (want != "") {
			t.Errorf("%q: got %q, %v, want %q", host, got, ok, want)
		}
	}
}

// Names count wherever a route of the server matches them, and not where one
// matches all but them.
func TestAccessByHostOfRoutes(t *testing.T) {
	const routes = `:8080 {
	@pay {
		host pay.internal
		method POST
	}
	handle @pay {
		wepay {
			allow 127.0.0.1
		}
	}
	handle /apis/* {
		@within host deep.internal
		route @within {
			respond "not here" 418
		}
		@rest not host shut.internal
		wepay @rest {
			allow 127.0.0.1
		}
	}
}
http://orders:8080 {
	respond "not here" 418
}
`
	rest := accessFileOf("", ":1", "")
	withServer(t, rest[:strings.Index(rest, ":1 {")]+routes, func(server http.Handler) {
		for host, want := range map[string]int{
			"pay.internal": 200, "Pay.Internal:8080": 200, "127.0.0.1": 200, "evil.example": 403, "other.internal": 403,
			"deep.internal": 418, "orders": 418, "orders.": 200,
		} {
			if w := asking(server, "refund", "127.0.0.1:4711", "Host: "+host); w.Code != want {
				t.Errorf("%q: HTTP status %d, want %d: %s", host, w.Code, want, w.Body)
			}
		}
	})
}

// Where no token is asked for no page may ask, whosever it is.
func TestAccessByBrowser(t *testing.T) {
	const (
		chrome  = "User-Agent: Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/126.0.0.0 Safari/537.36"
		browser = "made by a browser"
		other   = "a page of another site"
	)
	rows := []struct {
		method string
		accessRow
	}{
		{"POST", accessRow{name: "a page of this site", headers: []string{"Sec-Fetch-Site: same-origin"}, status: 403, reason: browser}},
		{"POST", accessRow{name: "a person", headers: []string{"Sec-Fetch-Site: none"}, status: 403, reason: browser}},
		{"POST", accessRow{name: "a page of this site over http", headers: []string{"Origin: http://10.0.0.1:8080"}, status: 403, reason: browser}},
		{"POST", accessRow{name: "a page that DNS rebinding made of this site", headers: []string{"Host: evil.example", "Origin: http://evil.example"}, status: 403, reason: browser}},
		{"POST", accessRow{name: "a page of another site", headers: []string{"Origin: http://evil.example"}, status: 403, reason: other}},
		{"POST", accessRow{name: "Node's fetch", headers: []string{"Sec-Fetch-Mode: cors", "User-Agent: node", "Accept-Language: *"}, status: 200}},
		{"POST", accessRow{name: "a service of Java's", headers: []string{chrome + " Hutool"}, status: 200}},
		{"GET", accessRow{name: "a picture of a page's", headers: []string{chrome}, status: 403, reason: browser}},
		{"GET", accessRow{name: "a picture of a page's over https", headers: []string{chrome, "Sec-Fetch-Site: cross-site"}, status: 403, reason: other}},
		{"GET", accessRow{name: "a service", headers: []string{"User-Agent: Go-http-client/1.1"}, status: 200}},
		{"GET", accessRow{name: "a service without a name", status: 200}},
	}
	withServer(t, accessFile("allow 127.0.0.1"), func(server http.Handler) {
		for _, row := range rows {
			t.Run(row.method+" "+row.name, func(t *testing.T) {
				row.peer = "127.0.0.1:4711"
				if row.method == http.MethodPost {
					row.check(t, server)
					return
				}
				r := httptest.NewRequest(http.MethodGet, "http://10.0.0.1:8080/apis/v1/wepay/v3/certificates", nil)
				r.RemoteAddr = row.peer
				for _, header := range row.headers {
					name, value, _ := strings.Cut(header, ": ")
					r.Header.Add(name, value)
				}
				w := asks(server, r)
				if refused := w.Code == http.StatusForbidden; refused != (row.status == http.StatusForbidden) || !strings.Contains(w.Body.String(), row.reason) {
					t.Errorf("HTTP status %d: %s, want %d …%s…", w.Code, w.Body, row.status, row.reason)
				}
			})
		}
	})
}

// What comes before the handshake is complete may be a copy that anybody sends.
func TestAccessBeforeHandshake(t *testing.T) {
	for _, lines := range []string{"allow 127.0.0.1", "token " + testToken} {
		withServer(t, accessFile(lines), func(server http.Handler) {
			for _, complete := range []bool{true, false} {
				r := httptest.NewRequest(http.MethodPost, "https://10.0.0.1:8080/apis/v1/wepay/refund", strings.NewReader("{}"))
				r.RemoteAddr, r.TLS = "127.0.0.1:4711", &tls.ConnectionState{HandshakeComplete: complete}
				r.Header.Set("Authorization", "Bearer "+testToken)
				row := accessRow{status: http.StatusOK}
				if !complete {
					row = accessRow{status: http.StatusTooEarly, reason: "send it again"}
				}
				row.judge(t, asks(server, r))
			}
		})
	}
}
