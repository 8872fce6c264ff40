package apiv2_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/windsome/caddy-wepay/wepay"
	"github.com/windsome/caddy-wepay/wepay/apiv2"
)

// Keys that are nobody's: of the vectors, and of another merchant.
const (
	key      = "Kd7q2Vn0sX9tB4mHc6Zr1Lw8Fy3Pj5Ga"
	otherKey = "192006250b4c09247ec02edce69f6a2d"
)

func testdata(t testing.TB, name string) []byte {
	t.Helper()
	dir := "testdata"
	if filepath.Ext(name) == ".xml" { // which other packages' tests need as well
		dir = "../../testdata/notifications"
	}
	data, err := os.ReadFile(filepath.Join(dir, name))
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// vector is one row of testdata/vectors.json.
type vector struct{ What, How, Key, Base, Result string }

func vectors(t testing.TB) map[string]vector {
	t.Helper()
	var all map[string]vector
	if err := json.Unmarshal(testdata(t, "vectors.json"), &all); err != nil {
		t.Fatal(err)
	}
	return all
}

// merchant returns one that asks WeChat at the given endpoints.
func merchant(endpoints ...string) *wepay.Merchant {
	return &wepay.Merchant{
		Name: "shop", Env: wepay.H5, Type: wepay.Direct,
		AppID: "wx00112233445566aa", MchID: "1900000109",
		PartnerKey: key, SignType: wepay.MD5,
		NotifyURL: "https://pay.example.cn/apis/v1/wepay/pay_notify",
		Endpoints: endpoints,
	}
}

// withCertificate gives a merchant the file of ../../testdata/certificates that has its mch_id
// for a passphrase.
func withCertificate(t *testing.T, m *wepay.Merchant, file string) *wepay.Merchant {
	t.Helper()
	cert, err := wepay.ParsePKCS12(testdata(t, filepath.Join("..", "..", "..", "testdata", "certificates", file)), m.MchID)
	if err != nil {
		t.Fatal(err)
	}
	m.Certificate = cert
	return m
}

// The smallest requests.
var (
	anOrder = wepay.NewFields(map[string]string{
		"out_trade_no": "5ba27cc3a70db45dd108b53f", "total_fee": "1200", "body": "袜子",
		"spbill_create_ip": "203.0.113.7", "openid": "oUpF8uMuAJO_M2pxb1Q9zNjWeS6o",
	})
	aQuery  = wepay.NewFields(map[string]string{"out_trade_no": "5ba27cc3a70db45dd108b53f"})
	aRefund = wepay.NewFields(map[string]string{
		"out_refund_no": "R1", "out_trade_no": "5ba27cc3a70db45dd108b53f", "total_fee": "1200", "refund_fee": "1100",
	})
)

// requests are the smallest ones by operation, and what a good reply holds
// beyond what every reply does.
var requests = map[wepay.Operation]struct {
	in    wepay.Fields
	reply map[string]string
}{
	wepay.PlaceOrder: {anOrder, map[string]string{"prepay_id": "wx201411101639507cbf6ffd8b0779950874", "trade_type": "JSAPI"}},
	wepay.QueryOrder: {aQuery, map[string]string{"trade_state": "NOTPAY", "out_trade_no": "5ba27cc3a70db45dd108b53f"}},
	wepay.Refund:     {aRefund, map[string]string{"refund_id": "50000000000202001010000000001", "out_refund_no": "R1"}},
}

// asked is one request as it came over the wire.
type asked struct {
	*http.Request
	body   []byte
	fields wepay.Fields
}

// again returns the request with its body unread.
func (a asked) again() *http.Request {
	r := a.Clone(a.Context())
	r.Body = io.NopCloser(bytes.NewReader(a.body))
	return r
}

// wechat stands in for WeChat Pay: it keeps what it was asked, and answers as
// the test says.
type wechat struct {
	*httptest.Server

	mu  sync.Mutex
	all []asked
}

type answer func(w http.ResponseWriter, r asked)

func serve(t *testing.T, a answer) *wechat {
	t.Helper()
	s := start(a, (*httptest.Server).Start)
	t.Cleanup(s.Close)
	return s
}

func start(a answer, how func(*httptest.Server)) *wechat {
	s := new(wechat)
	s.Server = httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		fields, _ := apiv2.Decode("xml", body)
		got := asked{r, body, fields}
		s.mu.Lock()
		s.all = append(s.all, got)
		s.mu.Unlock()
		a(w, got)
	}))
	how(s.Server)
	return s
}

func (s *wechat) asked() []asked {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]asked(nil), s.all...)
}

// reply returns the fields of an unsigned reply that says all is well.
func reply(more map[string]string) wepay.Fields {
	fields := wepay.NewFields(map[string]string{
		"return_code": "SUCCESS", "return_msg": "OK", "result_code": "SUCCESS",
		"appid": "wx00112233445566aa", "mch_id": "1900000109", "nonce_str": "IITRi8Iabbblz1Jc",
	})
	for name, value := range more {
		fields.Set(name, value)
	}
	return fields
}

// document writes fields as XML without regard to what the package's own
// writer refuses; values are to be plain.
func document(fields wepay.Fields) string {
	text := "<xml>"
	for _, f := range fields {
		text += "<" + f.Name + ">" + f.Value + "</" + f.Name + ">"
	}
	return text + "</xml>"
}

func signed(fields wepay.Fields, signType wepay.SignType, key string) string {
	fields = fields.Clone()
	fields.Set("sign", apiv2.Sign(fields, signType, key))
	return document(fields)
}

// says answers every request with one text.
func says(text string) answer {
	return func(w http.ResponseWriter, _ asked) { _, _ = io.WriteString(w, text) }
}

// does answers a request of an operation as WeChat does when all is well.
func does(op wepay.Operation) answer {
	return says(signed(reply(requests[op].reply), wepay.MD5, key))
}

// status answers every request with an HTTP status and a text.
func status(code int, text string) answer {
	return func(w http.ResponseWriter, _ asked) {
		w.WriteHeader(code)
		_, _ = io.WriteString(w, text)
	}
}

// client returns a client whose connections end with the test, with the options
// that are given, if any.
func client(t *testing.T, m *wepay.Merchant, given ...wepay.ClientOptions) *apiv2.Client {
	t.Helper()
	transport := wepay.NewTransport(m)
	t.Cleanup(transport.CloseIdleConnections)
	options := first(given)
	options.Transport = transport
	return apiv2.NewClient(m, options)
}

func first(given []wepay.ClientOptions) (options wepay.ClientOptions) {
	if len(given) > 0 {
		options = given[0]
	}
	return options
}

// clock is a time that tests turn.
type clock struct {
	mu sync.Mutex
	t  time.Time
}

func newClock() *clock { return &clock{t: time.Unix(1577851200, 0)} }

func (c *clock) now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.t
}

func (c *clock) turn(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.t = c.t.Add(d)
}

// do asks for an operation and demands that it succeeds.
func do(t *testing.T, c *apiv2.Client, op wepay.Operation) wepay.Fields {
	t.Helper()
	got, err := c.Do(context.Background(), op, requests[op].in)
	if err != nil {
		t.Fatal(err)
	}
	return got
}

// wantError demands a *wepay.Error with a verdict.
func wantError(t *testing.T, err error, verdict wepay.Verdict) *wepay.Error {
	t.Helper()
	failed, ok := errors.AsType[*wepay.Error](err)
	if !ok {
		t.Fatalf("got %v (%T), want a *wepay.Error", err, err)
	}
	if failed.Verdict != verdict {
		t.Errorf("the verdict is %s, want %s: %v", failed.Verdict, verdict, err)
	}
	return failed
}
