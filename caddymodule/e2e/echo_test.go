package e2e_test

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"html"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"software.sslmate.com/src/go-pkcs12"
)

// sandboxKey is what the echoing WeChat gives to the sandbox's merchant.
const sandboxKey = "S4ndb0xKeyS4ndb0xKeyS4ndb0xKey01"

const accessToken = "ACCESS-TOKEN-0123456789"

const siteToken = "tok_7q2Vn0sX9tB4mHc6Zr1Lw8Fy3Pj5Ga"

// echoing is a server that answers everything with a text in every place that an
// answer has for texts, and with what it was asked.
type echoing struct {
	*httptest.Server
	text string

	mu    sync.Mutex
	style int
}

// styles are the ways to say it.
var styles = []func(e *echoing, w http.ResponseWriter, r *http.Request, said string){
	func(_ *echoing, w http.ResponseWriter, r *http.Request, said string) {
		w.Header().Set("Location", "https://user:"+sandboxKey+"@"+r.Host+"/?"+strings.ReplaceAll(said, "\n", "&"))
		w.WriteHeader(http.StatusTemporaryRedirect)
	},
	func(_ *echoing, w http.ResponseWriter, _ *http.Request, said string) {
		w.WriteHeader(http.StatusBadGateway)
		_, _ = io.WriteString(w, "<html><title>"+said+"</title>"+said)
	},
	func(_ *echoing, w http.ResponseWriter, _ *http.Request, said string) {
		_, _ = io.WriteString(w, "<title>"+said[:min(len(said), 199)]+"</title>")
	},
	func(_ *echoing, w http.ResponseWriter, _ *http.Request, said string) {
		fmt.Fprintf(w, "<xml><return_code>FAIL</return_code><return_msg>%s</return_msg></xml>", html.EscapeString(said))
	},
	func(_ *echoing, w http.ResponseWriter, _ *http.Request, said string) {
		fmt.Fprintf(w, "<xml><return_code>SUCCESS</return_code><result_code>FAIL</result_code><err_code>%[1]s</err_code><err_code_des>%[1]s</err_code_des></xml>", html.EscapeString(said))
	},
	func(_ *echoing, w http.ResponseWriter, _ *http.Request, said string) { refuseV3(w, 500, said) },
	func(_ *echoing, w http.ResponseWriter, _ *http.Request, said string) { refuseV3(w, 429, said) },
	func(_ *echoing, w http.ResponseWriter, _ *http.Request, said string) { refuseV3(w, 401, said) },
	func(e *echoing, w http.ResponseWriter, _ *http.Request, said string) { e.raw(w, "HTTP/1.1 "+said) },
	func(e *echoing, w http.ResponseWriter, _ *http.Request, said string) { e.raw(w, said) },
	func(e *echoing, w http.ResponseWriter, _ *http.Request, said string) {
		e.raw(w, "HTTP/1.1 200 OK\r\n"+said+"\r\n\r\n")
	},
	func(e *echoing, w http.ResponseWriter, _ *http.Request, said string) {
		e.raw(w, "HTTP/1.1 200 OK\r\nContent-Length: "+said+"\r\n\r\n")
	},
	func(e *echoing, w http.ResponseWriter, _ *http.Request, said string) {
		e.raw(w, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"+said)
	},
	func(_ *echoing, w http.ResponseWriter, r *http.Request, said string) {
		text, _ := json.Marshal(said)
		fmt.Fprintf(w, `{"errcode":4%s,"errmsg":%s,"openid":%s}`, strings.Repeat("0", 30), text, text)
	},
}

// login alone hears this: what comes unasked goes to the standard log.
func unasked(e *echoing, w http.ResponseWriter, r *http.Request) {
	e.raw(w, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"+r.URL.String())
}

func refuseV3(w http.ResponseWriter, status int, said string) {
	text, _ := json.Marshal(said)
	w.WriteHeader(status)
	fmt.Fprintf(w, `{"code":%[1]s,"message":%[1]s,"detail":{"field":%[1]s,"issue":%[1]s}}`, text)
}

func (e *echoing) raw(w http.ResponseWriter, text string) {
	conn, _, err := http.NewResponseController(w).Hijack()
	if err != nil {
		return
	}
	defer conn.Close()
	_, _ = io.WriteString(conn, text)
}

func (e *echoing) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	e.mu.Lock()
	style := e.style
	e.mu.Unlock()
	switch {
	case strings.HasSuffix(r.URL.Path, "/getsignkey"):
		fmt.Fprintf(w, "<xml><return_code>SUCCESS</return_code><sandbox_signkey>%s</sandbox_signkey></xml>", sandboxKey)
	case strings.HasPrefix(r.URL.Path, "/sns/") && style == 0:
		unasked(e, w, r)
	default:
		styles[style](e, w, r, e.text+"\n"+r.URL.String()+" "+string(body)+r.Header.Get("Authorization"))
	}
}

// newEchoing starts one that says secrets.
func newEchoing(t *testing.T, secrets ...string) *echoing {
	t.Helper()
	e := &echoing{text: strings.Join(secrets, " ") + ` {"access_token":"` + accessToken + `"}`}
	e.Server = httptest.NewUnstartedServer(e)
	e.Config.ErrorLog = quiet
	e.Start()
	t.Cleanup(e.Close)
	return e
}

// Whatever the servers that Caddy asks say of a merchant's secrets, neither who
// asked nor the log is told them.
func TestEchoingUpstreams(t *testing.T) {
	const passphrase, password, query = "pass-phrase-of-the-file", "pass-word-of-the-orders", "key-of-the-orders"
	env, old, sandboxed, newer := newEnvironment(t), newMerchant("old", 1), newMerchant("sandboxed", 2), newV3Merchant("newer", 3)
	old.form, sandboxed.sandbox, newer.v3.publicKey = none, true, true
	env.registers(old, newer)
	p12, err := pkcs12.Modern.Encode(old.credential.Certificate.PrivateKey, old.credential.Certificate.Leaf, nil, passphrase)
	if err != nil {
		t.Fatal(err)
	}
	env.write("locked.p12", p12)
	callbackSecret := strings.TrimPrefix(secret, "whsec_")
	keyLine := strings.Fields(string(newer.credential.KeyPEM))[6]
	servers := []*echoing{
		newEchoing(t, old.key, appSecret, passphrase, callbackSecret, secret, password, query),
		newEchoing(t, sandboxed.key, sandboxKey, password),
		newEchoing(t, newer.v3.key, keyLine, callbackSecret, query, password),
	}
	lines := []string{"payouts", "passthrough"}
	locked := fmt.Sprintf("pfx %q %s", filepath.Join(env.dir, "locked.p12"), passphrase)
	for i, m := range []*merchant{old, sandboxed, newer} {
		m.endpoint = servers[i].URL
		m.orders = strings.Replace(m.endpoint, "//", "//caddy:"+password+"@", 1) + "/paid?key=" + query
	}
	l := env.stalls(stall{old, append(lines, "app_secret "+appSecret, locked)}, stall{sandboxed, lines}, stall{newer, lines})
	l.options = strings.ReplaceAll(l.options, env.wechat.URL, servers[0].URL)
	l.site = "\n\twepay {\n\t\tallow 127.0.0.1\n\t\ttoken " + siteToken + "\n\t}"
	env.serve(l)
	secrets := []string{
		old.key, sandboxed.key, newer.v3.key, appSecret, passphrase, sandboxKey, keyLine, callbackSecret, password, query, accessToken, siteToken,
		base64.StdEncoding.EncodeToString([]byte("caddy:" + password)),
	}
	for style := range styles {
		for _, e := range servers {
			e.mu.Lock()
			e.style = style
			e.mu.Unlock()
		}
		for _, a := range env.askEverything(old, sandboxed, newer, style == len(styles)-1) {
			checkKept(t, fmt.Sprintf("the answer in style %d", style), a.body, secrets)
		}
	}
	log, err := os.ReadFile(filepath.Join(env.dir, "caddy.log"))
	if err != nil || !strings.Contains(string(log), "operation failed") || !strings.Contains(string(log), "notification refused") {
		t.Fatalf("the log does not tell of what failed: %v", err)
	}
	for line := range strings.Lines(string(log)) {
		checkKept(t, "the log", line, secrets)
	}
}

// checkKept demands that a text tells none of these, and is not long.
func checkKept(t *testing.T, what, text string, secrets []string) {
	t.Helper()
	for _, secret := range secrets {
		if strings.Contains(text, secret) {
			t.Errorf("%s tells %s: %.500s", what, secret, text)
		}
	}
	if len(text) > 4<<10 {
		t.Errorf("%s has %d bytes: %.300s", what, len(text), text)
	}
}

// askEverything has Caddy ask the servers in every way there is. Where they say
// something that is no refusal, it could be a bill.
func (env *environment) askEverything(old, sandboxed, newer *merchant, says bool) (answers []answer) {
	env.t.Helper()
	authorization := []string{"Authorization", "Bearer " + siteToken, "Content-Type", "application/json"}
	send := func(method, route, body string, headers ...string) {
		a, err := env.send(method, env.site+"/apis/v1/wepay/"+route, body, headers...)
		if err != nil {
			a.body = err.Error() // a bill that breaks off
		}
		answers = append(answers, a)
	}
	for _, m := range []*merchant{old, sandboxed, newer} {
		for _, c := range everyCall(m) {
			isBill, isQuery := strings.HasPrefix(c.route, "download_"), c.route == "order_query"
			if c.open == "" || isBill && says || m != old && c.route == "pay_bank" || m == sandboxed && !isQuery {
				continue // it waits, or is a text, or asks the other's server, or is asked over again
			}
			request := maps.Clone(c.request)
			request["merchant"] = m.name
			send(http.MethodPost, c.route, toJSON(env.t, request), authorization...)
		}
	}
	send(http.MethodPost, "openid", `{"merchant":"old","code":"c1"}`, authorization...)
	for _, route := range []string{"v2/pay/orderquery", "v2/secapi/pay/refund"} {
		send(http.MethodPost, route, `{"merchant":"old","out_trade_no":"o1"}`, authorization...)
	}
	send(http.MethodPost, "v3/refund/domestic/refunds?merchant=newer", `{"out_refund_no":"r1"}`, authorization...)
	send(http.MethodGet, "v3/refund/domestic/refunds/r1?merchant=newer", "", authorization...)
	send(http.MethodPost, "pay_notify/old", old.notification(env.t, "o1"))
	answers = append(answers, env.deliver("pay_notify/newer", env.paidEvent(newer, newer.paid3("o1")), nil))
	return answers
}
