package apiv3_test

import (
	"context"
	"crypto/rsa"
	"encoding/json"
	"errors"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/windsome/caddy-wepay/wepay"
	"github.com/windsome/caddy-wepay/wepay/apiv3"
	"github.com/windsome/caddy-wepay/wepay/wepaytest"
)

const (
	mchID    = "1900000109"
	otherMch = "1900000110"
	subMchID = "1900000209"
	appID    = "wx00112233445566aa"
	openID   = "oUpF8uMuAJO_M2pxb1Q9zNjWeS6o"
	apiV3Key = "v3v3v3v3v3v3v3v3v3v3v3v3v3v3v3v3"
)

// start is what clocks show first: noon in Beijing.
var start = time.Date(2026, 1, 1, 4, 0, 0, 0, time.UTC)

func testdata(t testing.TB, name string) []byte {
	t.Helper()
	data, err := os.ReadFile(filepath.Join("..", "..", "testdata", "apiv3", name))
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// vector is one row of ../../testdata/apiv3/vectors.json.
type vector struct {
	Method, URL, Timestamp, Nonce, Body, Message, Signature string
	Headers                                                 map[string]string
	Plaintext, Ciphertext                                   string
}

func vectors(t testing.TB) map[string]vector {
	t.Helper()
	var all map[string]vector
	if err := json.Unmarshal(testdata(t, "vectors.json"), &all); err != nil {
		t.Fatal(err)
	}
	return all
}

// keys are those that the vectors were made with.
type keys struct {
	MerchantPublic  string `json:"merchant_public_key"`
	MerchantSerial  string `json:"merchant_serial"`
	PlatformPublic  string `json:"platform_public_key"`
	PlatformPrivate string `json:"platform_private_key"`
	PublicKeyID     string `json:"public_key_id"`
	APIv3Key        string `json:"apiv3_key"`
	MchID           string `json:"mchid"`
	PlatformSerial  string `json:"platform_serial"`
}

func vectorKeys(t testing.TB) keys {
	t.Helper()
	var all struct{ K1 keys }
	if err := json.Unmarshal(testdata(t, "vectors.json"), &all); err != nil {
		t.Fatal(err)
	}
	return all.K1
}

func publicKey(t testing.TB, text string) *rsa.PublicKey {
	t.Helper()
	key, err := wepay.ParsePublicKey([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func privateKey(t testing.TB, text []byte) *rsa.PrivateKey {
	t.Helper()
	key, err := wepay.ParsePrivateKey(text)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// shop is a merchant that asks a WeChat Pay in process.
type shop struct {
	t        testing.TB
	wechat   *wepaytest.Server
	clock    *wepaytest.FakeClock
	merchant *wepay.Merchant
	keyRing  *apiv3.KeyRing
	client   *apiv3.Client
	store    *store
}

// way is by which keys a merchant knows WeChat, and whether it is a partner.
type way struct {
	name    string
	mode    wepaytest.KeyMode
	partner bool
}

var ways = []way{
	{"by certificate", wepaytest.ByCertificate, false},
	{"migrating", wepaytest.Migrating, false},
	{"by public key", wepaytest.ByPublicKey, false},
	{"partner by certificate", wepaytest.ByCertificate, true},
	{"partner by public key", wepaytest.ByPublicKey, true},
}

// everyWay runs a test for each way to know WeChat.
func everyWay(t *testing.T, test func(t *testing.T, s *shop)) {
	for _, w := range ways {
		t.Run(w.name, func(t *testing.T) { test(t, openShop(t, w)) })
	}
}

// openShop opens a shop whose merchant a test may change.
func openShop(t testing.TB, w way, changes ...func(*wepay.Merchant)) *shop {
	t.Helper()
	s := &shop{t: t, clock: wepaytest.NewFakeClock(start), store: new(store)}
	var err error
	if s.wechat, err = wepaytest.NewServer(wepaytest.WithClock(s.clock)); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.wechat.Close)
	account := wepaytest.Merchant{MchID: mchID, AppIDs: []string{appID}, APIv3Key: apiV3Key, Mode: w.mode, Key: "Kd7q2Vn0sX9tB4mHc6Zr1Lw8Fy3Pj5Ga"}
	if w.partner {
		account.SubMerchants = []wepaytest.SubMerchant{{MchID: subMchID}}
	}
	for _, m := range []wepaytest.Merchant{account, {MchID: otherMch, APIv3Key: apiV3Key}} {
		if err := s.wechat.AddMerchant(m); err != nil {
			t.Fatal(err)
		}
	}
	s.merchant = s.newMerchant(w)
	for _, change := range changes {
		change(s.merchant)
	}
	if err := s.merchant.Validate(start); err != nil {
		t.Fatal(err)
	}
	s.connect()
	return s
}

func (s *shop) newMerchant(w way) *wepay.Merchant {
	s.t.Helper()
	credential, err := s.wechat.Issue(mchID)
	if err != nil {
		s.t.Fatal(err)
	}
	m := &wepay.Merchant{
		Name: "shop", Env: wepay.H5, Type: wepay.Direct, API: wepay.V3, SignType: wepay.MD5,
		AppID: appID, MchID: mchID, APIv3Key: apiV3Key,
		PrivateKey: credential.Certificate.PrivateKey.(*rsa.PrivateKey), MchSerial: credential.Serial,
		NotifyURL: "https://pay.example.cn/apis/v1/wepay/pay_notify",
		Endpoints: []string{s.wechat.URL},
	}
	if w.partner {
		m.Type, m.SubMchID = wepay.Partner, subMchID
	}
	if w.mode != wepaytest.ByCertificate {
		id, text, err := s.wechat.PublicKey(mchID)
		if err != nil {
			s.t.Fatal(err)
		}
		m.PublicKeyID, m.PublicKey = id, publicKey(s.t, string(text))
	}
	m.Payouts, m.Passthrough = true, true
	return m
}

// connect makes the client anew, as a restart does.
func (s *shop) connect() {
	transport := wepay.NewTransport(s.merchant)
	transport.TLSClientConfig.RootCAs = s.wechat.RootCAs()
	s.t.Cleanup(transport.CloseIdleConnections)
	s.connectOver(transport)
}

func (s *shop) connectOver(transport http.RoundTripper) {
	options := wepay.ClientOptions{Transport: transport, Now: s.clock.Now, Timeout: time.Minute} // on a busy machine, too
	s.keyRing = apiv3.NewKeyRing(s.merchant, s.store, options)
	s.client = apiv3.NewClient(s.merchant, s.keyRing, options)
}

func fields(pairs ...string) wepay.Fields {
	var f wepay.Fields
	for i := 0; i < len(pairs); i += 2 {
		f.Set(pairs[i], pairs[i+1])
	}
	return f
}

// order is the smallest one that a payer can pay.
func order(number string, total string) wepay.Fields {
	return fields("out_trade_no", number, "total_fee", total, "body", "袜子", "spbill_create_ip", "203.0.113.7", "openid", openID)
}

// with is a request with further fields.
func with(in wepay.Fields, pairs ...string) wepay.Fields {
	in = in.Clone()
	for i := 0; i < len(pairs); i += 2 {
		in.Set(pairs[i], pairs[i+1])
	}
	return in
}

// do asks for what WeChat has to do.
func (s *shop) do(op wepay.Operation, in wepay.Fields) wepay.Fields {
	s.t.Helper()
	got, err := s.client.Do(s.t.Context(), op, in)
	if err != nil {
		s.t.Fatalf("%s: %v", op, err)
	}
	return got
}

// refused asks for what WeChat has to refuse.
func (s *shop) refused(op wepay.Operation, in wepay.Fields, code string, verdict wepay.Verdict) {
	s.t.Helper()
	got, err := s.client.Do(s.t.Context(), op, in)
	failed := wantError(s.t, err, verdict)
	if got != nil || failed.Code != code || failed.V3Code == "" {
		s.t.Errorf("%s: got %v, code %s, %s, want %s: %v", op, got, failed.Code, failed.V3Code, code, err)
	}
}

// pay places an order and has it paid.
func (s *shop) pay(in wepay.Fields, options ...wepaytest.PayOption) (transactionID string) {
	s.t.Helper()
	s.do(wepay.PlaceOrder, in)
	if _, err := s.wechat.Pay(mchID, in.Get("out_trade_no"), append(options, wepaytest.Held())...); err != nil {
		s.t.Fatal(err)
	}
	o, _ := s.wechat.Order(mchID, in.Get("out_trade_no"))
	return o.TransactionID
}

// check compares some fields; "" is not there.
func check(t testing.TB, got wepay.Fields, want ...string) {
	t.Helper()
	for i := 0; i < len(want); i += 2 {
		if value := got.Get(want[i]); value != want[i+1] {
			t.Errorf("%s is %q, want %q", want[i], value, want[i+1])
		}
	}
}

// checkDone wants what API v2 says of every success.
func (s *shop) checkDone(got wepay.Fields) {
	s.t.Helper()
	check(s.t, got, "return_code", "SUCCESS", "result_code", "SUCCESS", "mch_id", mchID, "appid", appID)
}

// wantError demands a *wepay.Error with a verdict.
func wantError(t testing.TB, err error, verdict wepay.Verdict) *wepay.Error {
	t.Helper()
	failed, ok := errors.AsType[*wepay.Error](err)
	if !ok {
		t.Fatalf("got %v (%T), want a *wepay.Error", err, err)
	}
	if failed.Verdict != verdict {
		t.Errorf("the verdict is %s, want %s: %v", failed.Verdict, verdict, err)
	}
	for _, secret := range []string{apiV3Key, openID, "BEGIN"} {
		if strings.Contains(err.Error(), secret) {
			t.Errorf("the error tells a secret: %v", err)
		}
	}
	return failed
}

// wantField demands a *wepay.FieldError about a field.
func wantField(t testing.TB, err error, field string) {
	t.Helper()
	wrong, ok := errors.AsType[*wepay.FieldError](err)
	if !ok || wrong.Field != field {
		t.Errorf("got %v, want a *wepay.FieldError about %s", err, field)
	}
}

// store is a Store in memory.
type store struct {
	mu     sync.Mutex
	values map[string][]byte
	stored time.Time // when, as far as the store knows
	loads  int
}

func (s *store) Store(_ context.Context, key string, value []byte) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.values == nil {
		s.values = make(map[string][]byte)
	}
	s.values[key] = slices.Clone(value)
	return nil
}

func (s *store) Load(ctx context.Context, key string) ([]byte, time.Time, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.loads++
	value, found := s.values[key]
	switch {
	case ctx.Err() != nil:
		return nil, time.Time{}, ctx.Err()
	case !found:
		return nil, time.Time{}, fs.ErrNotExist
	default:
		return value, s.stored, nil
	}
}
