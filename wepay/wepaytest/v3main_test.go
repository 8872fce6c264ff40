package wepaytest_test

import (
	"bytes"
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/windsome/caddy-wepay/wepay"
	"github.com/windsome/caddy-wepay/wepay/wepaytest"
)

const apiV3Key = "v3v3v3v3v3v3v3v3v3v3v3v3v3v3v3v3"

// v3shop is a merchant that speaks API v3 by hand, with its WeChat Pay. It
// knows the protocol by itself, and not from the server.
type v3shop struct {
	t          *testing.T
	wechat     *wepaytest.Server
	clock      *wepaytest.FakeClock
	mchID      string
	credential wepaytest.Credential
	notified   *receiver
	client     *http.Client
	serial     string // Wechatpay-Serial of requests; "": none
}

// newV3Shop opens a shop whose merchant a test may change.
func newV3Shop(t *testing.T, changes ...func(*wepaytest.Merchant)) *v3shop {
	t.Helper()
	clock := wepaytest.NewFakeClock(start)
	wechat := newServer(t, wepaytest.WithClock(clock))
	m := wepaytest.Merchant{MchID: mchID, AppIDs: []string{appID}, APIv3Key: apiV3Key}
	for _, change := range changes {
		change(&m)
	}
	s := openV3Shop(t, wechat, m)
	s.clock = clock
	return s
}

func openV3Shop(t *testing.T, wechat *wepaytest.Server, m wepaytest.Merchant) *v3shop {
	t.Helper()
	if err := wechat.AddMerchant(m); err != nil {
		t.Fatal(err)
	}
	credential, err := wechat.Issue(m.MchID)
	if err != nil {
		t.Fatal(err)
	}
	s := &v3shop{t: t, wechat: wechat, mchID: m.MchID, credential: credential, notified: newReceiver(t)}
	s.notified.answers(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNoContent) })
	transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: wechat.RootCAs(), MinVersion: tls.VersionTLS12}}
	t.Cleanup(transport.CloseIdleConnections)
	s.client = &http.Client{Transport: transport}
	if m.Mode == wepaytest.ByPublicKey {
		s.serial, _ = s.publicKey()
	}
	return s
}

func partnerOf(m *wepaytest.Merchant) {
	m.SubMerchants = []wepaytest.SubMerchant{{MchID: "1900000209", AppIDs: []string{"wxaabbccddeeff0011"}}}
}

func byPublicKey(m *wepaytest.Merchant) { m.Mode = wepaytest.ByPublicKey }

func withV2(m *wepaytest.Merchant) { m.Key = key }

func (s *v3shop) publicKey() (string, *rsa.PublicKey) {
	s.t.Helper()
	id, text, err := s.wechat.PublicKey(s.mchID)
	if err != nil {
		s.t.Fatal(err)
	}
	block, rest := pem.Decode(text)
	if block == nil || block.Type != "PUBLIC KEY" || len(rest) > 0 {
		s.t.Fatalf("the public key is %q", text)
	}
	key, err := x509.ParsePKIXPublicKey(block.Bytes)
	if err != nil {
		s.t.Fatal(err)
	}
	return id, key.(*rsa.PublicKey)
}

// wechatKey finds WeChat's key of a serial.
func (s *v3shop) wechatKey(serial string) *rsa.PublicKey {
	if id, key := s.publicKey(); id == serial {
		return key
	}
	certs, _ := s.wechat.PlatformCertificates(s.mchID)
	for _, cert := range certs {
		if wepay.CertificateSerial(cert) == serial {
			return cert.PublicKey.(*rsa.PublicKey)
		}
	}
	return nil
}

// verify checks what WeChat says as a merchant has to.
func (s *v3shop) verify(header http.Header, body []byte) error {
	values := map[string]string{}
	for _, name := range []string{"Timestamp", "Nonce", "Signature", "Serial"} {
		all := header.Values("Wechatpay-" + name)
		if len(all) != 1 || all[0] == "" {
			return fmt.Errorf("%d of Wechatpay-%s", len(all), name)
		}
		values[name] = all[0]
	}
	seconds, err := strconv.ParseInt(values["Timestamp"], 10, 64)
	if err != nil {
		return err
	}
	now := time.Now()
	if s.clock != nil {
		now = s.clock.Now()
	}
	if now.Sub(time.Unix(seconds, 0)).Abs() >= 300*time.Second {
		return errors.New("stale")
	}
	key := s.wechatKey(values["Serial"])
	if key == nil {
		return fmt.Errorf("unknown serial %s", values["Serial"])
	}
	signature, err := base64.StdEncoding.DecodeString(values["Signature"])
	if err != nil {
		return err
	}
	digest := sha256.Sum256([]byte(values["Timestamp"] + "\n" + values["Nonce"] + "\n" + string(body) + "\n"))
	return rsa.VerifyPKCS1v15(key, crypto.SHA256, digest[:], signature)
}

// message is a request that a test may spoil before or after it is signed.
type message struct {
	method, uri, body string
	mchID, serial     string
	at                time.Time
	header            http.Header
}

func (s *v3shop) message(method, uri string, body any) message {
	s.t.Helper()
	text, isText := body.(string)
	if body != nil && !isText {
		raw, err := json.Marshal(body)
		if err != nil {
			s.t.Fatal(err)
		}
		text = string(raw)
	}
	m := message{
		method: method, uri: uri, body: text, mchID: s.mchID, serial: s.credential.Serial, at: time.Now(),
		header: http.Header{"User-Agent": {"v3shop/1"}, "Accept": {"application/json"}},
	}
	if s.clock != nil {
		m.at = s.clock.Now()
	}
	if text != "" {
		m.header.Set("Content-Type", "application/json")
	}
	if s.serial != "" {
		m.header.Set("Wechatpay-Serial", s.serial)
	}
	s.sign(&m)
	return m
}

func (s *v3shop) sign(m *message) {
	s.t.Helper()
	timestamp, nonce := strconv.FormatInt(m.at.Unix(), 10), strings.ToUpper(rand.Text())
	digest := sha256.Sum256([]byte(m.method + "\n" + m.uri + "\n" + timestamp + "\n" + nonce + "\n" + m.body + "\n"))
	signature, err := rsa.SignPKCS1v15(nil, s.credential.Certificate.PrivateKey.(*rsa.PrivateKey), crypto.SHA256, digest[:])
	if err != nil {
		s.t.Fatal(err)
	}
	m.header.Set("Authorization", fmt.Sprintf(`WECHATPAY2-SHA256-RSA2048 mchid="%s",nonce_str="%s",signature="%s",timestamp="%s",serial_no="%s"`,
		m.mchID, nonce, base64.StdEncoding.EncodeToString(signature), timestamp, m.serial))
}

// answer is a reply as it came.
type answer struct {
	status int
	header http.Header
	raw    []byte
	body   map[string]any
}

// at finds what stands at a path such as amount.total, written as text.
func (a answer) at(path string) string { return at(a.body, path) }

func at(body any, path string) string {
	for name := range strings.SplitSeq(path, ".") {
		switch inner := body.(type) {
		case map[string]any:
			body = inner[name]
		case []any:
			i, err := strconv.Atoi(name)
			if err != nil || i >= len(inner) {
				return ""
			}
			body = inner[i]
		}
	}
	if body == nil {
		return ""
	}
	return fmt.Sprint(body)
}

func (s *v3shop) send(m message) answer {
	s.t.Helper()
	req, err := http.NewRequestWithContext(s.t.Context(), m.method, s.wechat.URL+m.uri, strings.NewReader(m.body))
	if err != nil {
		s.t.Fatal(err)
	}
	req.Header = m.header
	resp, err := s.client.Do(req)
	if err != nil {
		s.t.Fatal(err)
	}
	defer resp.Body.Close()
	raw, err := io.ReadAll(resp.Body)
	if err != nil {
		s.t.Fatal(err)
	}
	a := answer{status: resp.StatusCode, header: resp.Header, raw: raw}
	if len(raw) > 0 && json.Valid(raw) {
		a.body = decodeJSON(s.t, raw)
	}
	return a
}

func decodeJSON(t *testing.T, raw []byte) map[string]any {
	t.Helper()
	d := json.NewDecoder(bytes.NewReader(raw))
	d.UseNumber()
	var body map[string]any
	if err := d.Decode(&body); err != nil {
		t.Fatalf("%v: %.200s", err, raw)
	}
	return body
}

// granted asks for what WeChat has to do, in a reply that is rightly signed.
func (s *v3shop) granted(method, uri string, body any) answer {
	s.t.Helper()
	a := s.send(s.message(method, uri, body))
	if a.status != http.StatusOK && a.status != http.StatusNoContent {
		s.t.Fatalf("%s %s: %d %s", method, uri, a.status, a.raw)
	}
	if err := s.verify(a.header, a.raw); err != nil {
		s.t.Fatalf("%s %s: the reply's signature: %v", method, uri, err)
	}
	return a
}

// denied asks for what WeChat has to refuse, in a reply that is signed unless
// the request's own signature was refused.
func (s *v3shop) denied(status int, code string, m message) answer {
	s.t.Helper()
	a := s.send(m)
	if a.status != status || a.at("code") != code || a.at("message") == "" {
		s.t.Errorf("%s %s %.150s: %d %s, want %d %s", m.method, m.uri, m.body, a.status, a.raw, status, code)
	}
	switch err := s.verify(a.header, a.raw); {
	case status == http.StatusUnauthorized && a.header.Get("Wechatpay-Signature") != "":
		s.t.Errorf("%s %s: 401 is signed", m.method, m.uri)
	case status != http.StatusUnauthorized && err != nil:
		s.t.Errorf("%s %s: the refusal's signature: %v", m.method, m.uri, err)
	}
	return a
}

// told reads a notification as a merchant does, and returns the envelope with
// its resource opened.
func (s *v3shop) decrypted(d *wepaytest.Delivery) (envelope, resource map[string]any) {
	s.t.Helper()
	header, err := d.Header()
	if err != nil {
		s.t.Fatal(err)
	}
	if err := s.verify(header, d.Body()); err != nil {
		s.t.Fatalf("the notification's signature: %v", err)
	}
	envelope = decodeJSON(s.t, d.Body())
	return envelope, decodeJSON(s.t, open(s.t, apiV3Key, envelope["resource"].(map[string]any)))
}

type obj = map[string]any

// jsapi is an order that a payer can pay.
func (s *v3shop) jsapi(number string, total int) obj {
	return obj{
		"appid": appID, "mchid": s.mchID, "description": "福州路店 - 袜子", "out_trade_no": number,
		"notify_url": s.notified.URL, "attach": "shelf <7>",
		"amount": obj{"total": total, "currency": "CNY"}, "payer": obj{"openid": openID},
	}
}

const jsapiPath = "/v3/pay/transactions/jsapi"

func (s *v3shop) pay(number string, total int, options ...wepaytest.PayOption) *wepaytest.Delivery {
	s.t.Helper()
	s.granted("POST", jsapiPath, s.jsapi(number, total))
	d, err := s.wechat.Pay(s.mchID, number, options...)
	if err != nil {
		s.t.Fatal(err)
	}
	return d
}

// changed is a copy with one member changed at a path; nil takes it away.
func changed(body obj, path string, value any) obj {
	raw, err := json.Marshal(body)
	if err != nil {
		panic(err) // test data always can be written
	}
	var out obj
	if err := json.Unmarshal(raw, &out); err != nil {
		panic(err)
	}
	inner := out
	names := strings.Split(path, ".")
	for _, name := range names[:len(names)-1] {
		if _, found := inner[name]; !found {
			inner[name] = obj{}
		}
		inner = inner[name].(obj)
	}
	if value == nil {
		delete(inner, names[len(names)-1])
	} else {
		inner[names[len(names)-1]] = value
	}
	return out
}

// checkAt compares what stands at paths.
func checkAt(t *testing.T, body any, want map[string]string) {
	t.Helper()
	for path, value := range want {
		if got := at(body, path); got != value {
			t.Errorf("%s is %q, want %q", path, got, value)
		}
	}
}
