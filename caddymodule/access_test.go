package caddymodule

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
)

// visitor is an app that is there for its Provision alone: it lets a test use
// a config that is provisioned and cleaned up, as caddy validate does, but never
// started.
type visitor struct{}

var visit func(caddy.Context) error

func init() { caddy.RegisterModule(new(visitor)) }

func (*visitor) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{ID: "wepay_test", New: func() caddy.Module { return new(visitor) }}
}
func (*visitor) Provision(ctx caddy.Context) error { return visit(ctx) }
func (*visitor) Start() error                      { return nil }
func (*visitor) Stop() error                       { return nil }

// withServer has the server of a Caddyfile, which listens nowhere, used by a
// function.
func withServer(t *testing.T, caddyfile string, use func(server http.Handler)) {
	t.Helper()
	config := testConfig(t, caddyfile)
	config.AppsRaw["wepay_test"] = json.RawMessage("{}")
	visit = func(ctx caddy.Context) error {
		app, err := ctx.App("http")
		if err != nil {
			return err
		}
		use(app.(*caddyhttp.App).Servers["srv0"])
		return nil
	}
	if err := caddy.Validate(config); err != nil {
		t.Fatal(err)
	}
}

// asking is one POST to a route, from a peer and with headers, each "Name:
// value". The Host is an address unless there is one among the headers.
func asking(server http.Handler, route, peer string, headers ...string) *httptest.ResponseRecorder {
	r := httptest.NewRequest(http.MethodPost, "http://10.0.0.1:8080/apis/v1/wepay/"+route, strings.NewReader("{}"))
	r.RemoteAddr = peer
	for _, header := range headers {
		name, value, _ := strings.Cut(header, ": ")
		if name == "Host" {
			r.Host = value
		} else {
			r.Header.Add(name, value)
		}
	}
	return asks(server, r)
}

func asks(server http.Handler, r *http.Request) *httptest.ResponseRecorder {
	w := httptest.NewRecorder()
	server.ServeHTTP(w, r)
	return w
}

// accessFile is a Caddyfile whose directive has these lines, behind proxies
// of 10.9.0.0/16.
func accessFile(lines string) string { return accessFileOf("", ":8080", lines) }

// accessFileOf is one with further options of its server, and another address of
// its site.
func accessFileOf(options, site, lines string) string {
	return "{\nservers {\ntrusted_proxies static 10.9.0.0/16\n" + options + "\n}\nwepay {\n" + merchantBlock("shop", "") + "}\n}\n" +
		site + " {\nwepay {\n" + lines + "\n}\n}\n"
}

// accessRow is a request to a directive of these lines, and what becomes of it.
type accessRow struct {
	name, lines, peer string
	headers           []string
	status            int
	reason            string
}

func TestAccess(t *testing.T) {
	const (
		lan      = "10.0.0.7:4711"
		local    = "127.0.0.1:4711"
		stranger = "203.0.113.9:4711"
		proxy    = "10.9.0.1:4711"

		bearer = "Authorization: Bearer " + testToken
		allow  = "allow 10.0.0.0/24 127.0.0.1 2001:db8::/32"
		token  = "token first-token " + testToken
		lans   = "allow private_ranges"
		both   = allow + "\n" + token
	)
	// What a caller who may ask hears of an empty refund, and the others.
	const (
		in       = http.StatusOK
		noToken  = http.StatusUnauthorized
		shut     = "add allow <addresses> or token <token>"
		address  = "not among those of allow"
		relayed  = "not among trusted_proxies"
		badToken = "Authorization: Bearer <token>"
		other    = "a page of another site"
	)
	rows := []accessRow{
		{"neither", "", local, nil, 403, shut},
		{"neither, with a token", "", local, []string{bearer}, 403, shut},

		{"address of a range", allow, lan, nil, in, ""},
		{"address of its own", allow, local, nil, in, ""},
		{"address of IPv6", allow, "[2001:db8::7]:4711", nil, in, ""},
		{"address of IPv6 with a zone", allow, "[2001:db8::7%eth0]:4711", nil, in, ""},
		{"address just outside", allow, "10.0.1.0:4711", nil, 403, address},
		{"address of a stranger", allow, stranger, nil, 403, address},
		{"address of a stranger, with a token", allow, stranger, []string{bearer}, 403, address},
		{"address not known", allow, "@", nil, 403, address},

		{"address of a private range", lans, "192.168.7.7:4711", nil, in, ""},
		{"address of no private range", lans, stranger, nil, 403, address},

		{"relayed to this machine", allow, local, []string{"X-Forwarded-For: 203.0.113.9"}, 403, relayed},
		{"relayed, claiming an address within", allow, stranger, []string{"X-Forwarded-For: 10.0.0.7"}, 403, relayed},
		{"relayed, with Forwarded", allow, local, []string{"Forwarded: for=203.0.113.9"}, 403, relayed},
		{"relayed, with X-Real-IP", allow, local, []string{"X-Real-IP: 203.0.113.9"}, 403, relayed},
		{"relayed, with a header in lower case", allow, local, []string{"x-forwarded-for: 203.0.113.9"}, 403, relayed},
		{"relayed, with an empty header", allow, local, []string{"X-Forwarded-For: "}, 403, relayed},
		{"by a proxy, from within", allow, proxy, []string{"X-Forwarded-For: 10.0.0.7"}, in, ""},
		{"by a proxy, from a stranger", allow, proxy, []string{"X-Forwarded-For: 203.0.113.9"}, 403, address},
		{"by a proxy, itself outside", allow, proxy, nil, 403, address},
		{"by a proxy, with all headers", allow, proxy, []string{"X-Forwarded-For: 10.0.0.7", "Forwarded: for=10.0.0.7", "X-Real-IP: 10.0.0.7"}, in, ""},

		{"by a proxy that does not say for whom", allow, proxy, []string{"X-Real-IP: 10.0.0.7"}, 403, relayed},

		{"token", token, stranger, []string{bearer}, in, ""},
		{"the other token", token, stranger, []string{"Authorization: Bearer first-token"}, in, ""},
		{"token in lower case's scheme", token, stranger, []string{"Authorization: bearer " + testToken}, in, ""},
		{"token after more space", token, stranger, []string{"Authorization: Bearer   " + testToken + " "}, in, ""},
		{"token by way of a relay", token, stranger, []string{bearer, "X-Forwarded-For: 203.0.113.10"}, in, ""},
		{"no token", token, lan, nil, noToken, badToken},
		{"wrong token", token, lan, []string{"Authorization: Bearer token"}, noToken, badToken},
		{"token's beginning", token, lan, []string{"Authorization: Bearer " + testToken[:5]}, noToken, badToken},
		{"token in other case", token, lan, []string{"Authorization: Bearer " + strings.ToUpper(testToken)}, noToken, badToken},
		{"both tokens at once", token, lan, []string{"Authorization: Bearer first-token " + testToken}, noToken, badToken},
		{"token without scheme", token, lan, []string{"Authorization: " + testToken}, noToken, badToken},
		{"token of another scheme", token, lan, []string{"Authorization: Basic " + testToken}, noToken, badToken},
		{"scheme without token", token, lan, []string{"Authorization: Bearer "}, noToken, badToken},
		{"the digest of nothing", token, lan, []string{"Authorization: Bearer"}, noToken, badToken},

		{"both", both, lan, []string{bearer}, in, ""},
		{"both, no token", both, lan, nil, noToken, badToken},
		{"both, wrong address", both, stranger, []string{bearer}, 403, address},
		{"both, neither holds", both, stranger, nil, 403, address},
		{"both, relayed", both, lan, []string{bearer, "X-Real-IP: 10.0.0.8"}, 403, relayed},

		{"page of another site", allow, local, []string{"Sec-Fetch-Site: cross-site"}, 403, other},
		{"page of a sister site", allow, local, []string{"Sec-Fetch-Site: same-site"}, 403, other},
		{"page of another site, with a token", both, local, []string{bearer, "Sec-Fetch-Site: cross-site"}, 403, other},
		{"page of another site in an old browser", allow, local, []string{"Origin: https://evil.example"}, 403, other},
		{"page from a file", allow, local, []string{"Origin: null"}, 403, other},
		{"page of this site, with a token", both, local, []string{bearer, "Sec-Fetch-Site: same-origin", "Host: m.example.cn", "Origin: http://m.example.cn"}, in, ""},
		{"page of this site in an old browser, with a token", token, local, []string{bearer, "Host: m.example.cn", "Origin: http://m.example.cn"}, in, ""},
		{"any name, with a token", both, local, []string{bearer, "Host: evil.example"}, in, ""},
	}
	for _, lines := range []string{"", allow, token, both, lans} {
		withServer(t, accessFile(lines), func(server http.Handler) {
			for _, row := range rows {
				if row.lines == lines {
					t.Run(row.name, func(t *testing.T) { row.check(t, server) })
				}
			}
		})
	}
}

func (row accessRow) check(t *testing.T, server http.Handler) {
	row.judge(t, asking(server, "refund", row.peer, row.headers...))
}

func (row accessRow) judge(t *testing.T, w *httptest.ResponseRecorder) {
	t.Helper()
	var answer failure
	if err := json.Unmarshal(w.Body.Bytes(), &answer); err != nil {
		t.Fatalf("%v: %s", err, w.Body)
	}
	errcode := codeUnauthorized
	if row.status == http.StatusOK {
		errcode = codeMissing // the refund's fields, which are read after the access
	}
	if w.Code != row.status || answer.Errcode != errcode || !strings.Contains(answer.XOrigMsg, row.reason) {
		t.Errorf("HTTP status %d, errcode %d: %s\nwant %d, %d: …%s…", w.Code, answer.Errcode, answer.XOrigMsg, row.status, errcode, row.reason)
	}
	challenge := ""
	if row.status == http.StatusUnauthorized {
		challenge = "Bearer"
	}
	if got := w.Header().Get("WWW-Authenticate"); got != challenge {
		t.Errorf("WWW-Authenticate is %q, want %q", got, challenge)
	}
	if strings.Contains(w.Body.String(), testToken) {
		t.Errorf("the answer tells a token: %s", w.Body)
	}
}

// Every operation is behind the same door; notifications, unknown routes and
// other paths are not.
func TestAccessRoutes(t *testing.T) {
	withServer(t, accessFile(""), func(server http.Handler) {
		for op, route := range routes {
			path := string(op)
			if route.path {
				path += "/pay/orderquery"
			}
			if w := asking(server, path, "127.0.0.1:4711"); w.Code != http.StatusForbidden {
				t.Errorf("%s: HTTP status %d, want 403: %s", op, w.Code, w.Body)
			}
		}
		for route, want := range map[string]string{
			"pay_notify":      `"message":"unsigned"`,
			"pay_notify/shop": `"message":"unsigned"`,
			"no_such_route":   `"errcode":40011`,
		} {
			if w := asking(server, route, "203.0.113.9:4711", "X-Forwarded-For: 10.0.0.7", "Sec-Fetch-Site: cross-site"); w.Code == http.StatusForbidden || !strings.Contains(w.Body.String(), want) {
				t.Errorf("%s: HTTP status %d, %s, want …%s…", route, w.Code, w.Body, want)
			}
		}
	})
}
