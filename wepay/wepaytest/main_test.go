package wepaytest_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strconv"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/windsome/caddy-wepay/wepay"
	"github.com/windsome/caddy-wepay/wepay/apiv2"
	"github.com/windsome/caddy-wepay/wepay/wepaytest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	mchID  = "1900000109"
	appID  = "wx00112233445566aa"
	key    = "Kd7q2Vn0sX9tB4mHc6Zr1Lw8Fy3Pj5Ga"
	openID = "oUpF8uMuAJO_M2pxb1Q9zNjWeS6o"
)

var start = time.Date(2026, 1, 1, 12, 0, 0, 0, time.UTC)

// shop is a merchant with its WeChat Pay.
type shop struct {
	t        *testing.T
	wechat   *wepaytest.Server
	clock    *wepaytest.FakeClock
	merchant *wepay.Merchant
	client   *apiv2.Client
	notified *receiver
}

// newShop opens a direct merchant's shop, whose merchant a test may change.
func newShop(t *testing.T, changes ...func(*wepay.Merchant)) *shop {
	t.Helper()
	clock := wepaytest.NewFakeClock(start)
	s := newShopAt(t, newServer(t, wepaytest.WithClock(clock)), changes...)
	s.clock = clock
	return s
}

// newShopAt opens the shop at a WeChat Pay that a test made.
func newShopAt(t *testing.T, wechat *wepaytest.Server, changes ...func(*wepay.Merchant)) *shop {
	t.Helper()
	if err := wechat.AddMerchant(wepaytest.Merchant{MchID: mchID, AppIDs: []string{appID}, Key: key}); err != nil {
		t.Fatal(err)
	}
	credential, err := wechat.Issue(mchID)
	if err != nil {
		t.Fatal(err)
	}
	s := &shop{t: t, wechat: wechat, notified: newReceiver(t)}
	s.merchant = &wepay.Merchant{
		Name: "shop", Env: wepay.H5, Type: wepay.Direct, AppID: appID, MchID: mchID,
		PartnerKey: key, SignType: wepay.MD5, Certificate: &credential.Certificate,
		NotifyURL: s.notified.URL, Endpoints: []string{wechat.URL},
	}
	for _, change := range changes {
		change(s.merchant)
	}
	if err := s.merchant.Validate(credential.Certificate.Leaf.NotBefore); err != nil {
		t.Fatal(err)
	}
	s.client = newClient(t, wechat, s.merchant)
	return s
}

func newServer(t *testing.T, options ...wepaytest.Option) *wepaytest.Server {
	t.Helper()
	wechat, err := wepaytest.NewServer(options...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(wechat.Close)
	return wechat
}

func newClient(t *testing.T, wechat *wepaytest.Server, m *wepay.Merchant) *apiv2.Client {
	t.Helper()
	return apiv2.NewClient(m, wepay.ClientOptions{Transport: trusting(t, wechat, m)})
}

// trusting returns a merchant's connections to the simulator.
func trusting(t *testing.T, wechat *wepaytest.Server, m *wepay.Merchant) *http.Transport {
	t.Helper()
	transport := wepay.NewTransport(m)
	transport.TLSClientConfig.RootCAs = wechat.RootCAs()
	t.Cleanup(transport.CloseIdleConnections)
	return transport
}

// order is one that a payer can pay.
func order(number string, total int) wepay.Fields {
	return wepay.NewFields(map[string]string{
		"out_trade_no": number, "total_fee": strconv.Itoa(total), "body": "福州路店 - 袜子 & 🧦",
		"spbill_create_ip": "203.0.113.9", "openid": openID, "attach": "shelf <7>",
	})
}

func refundOf(number, refundNumber string, total, fee int) wepay.Fields {
	return wepay.NewFields(map[string]string{
		"out_trade_no": number, "out_refund_no": refundNumber,
		"total_fee": strconv.Itoa(total), "refund_fee": strconv.Itoa(fee),
	})
}

func query(number string) wepay.Fields { return wepay.Fields{{Name: "out_trade_no", Value: number}} }

// do has the client do what has to succeed.
func (s *shop) do(op wepay.Operation, in wepay.Fields) wepay.Fields {
	s.t.Helper()
	out, err := s.client.Do(s.t.Context(), op, in)
	if err != nil {
		s.t.Fatal(err)
	}
	return out
}

// refused has the client do what WeChat has to refuse.
func (s *shop) refused(op wepay.Operation, in wepay.Fields) *wepay.Error {
	s.t.Helper()
	out, err := s.client.Do(s.t.Context(), op, in)
	var refused *wepay.Error
	if !errors.As(err, &refused) {
		s.t.Fatalf("got %v and error %v, want a refusal", out, err)
	}
	return refused
}

// pay places and pays an order.
func (s *shop) pay(number string, total int, options ...wepaytest.PayOption) *wepaytest.Delivery {
	s.t.Helper()
	s.do(wepay.PlaceOrder, order(number, total))
	d, err := s.wechat.Pay(mchID, number, options...)
	if err != nil {
		s.t.Fatal(err)
	}
	return d
}

// check compares fields with those that are wanted of them.
func check(t *testing.T, got wepay.Fields, want map[string]string) {
	t.Helper()
	for name, value := range want {
		if got.Get(name) != value {
			t.Errorf("%s is %q, want %q", name, got.Get(name), value)
		}
	}
}

// raw posts fields as they are, with the signature they have.
func (s *shop) raw(path string, fields wepay.Fields) (status int, reply wepay.Fields, body string) {
	s.t.Helper()
	document, err := apiv2.Encode("xml", fields)
	if err != nil {
		s.t.Fatal(err)
	}
	status, body = s.post(path, document)
	reply, err = apiv2.Decode("xml", []byte(body))
	if err != nil {
		reply = nil
	}
	return status, reply, body
}

func (s *shop) post(path string, document []byte) (status int, body string) {
	s.t.Helper()
	req, err := http.NewRequestWithContext(s.t.Context(), http.MethodPost, s.wechat.URL+path, bytes.NewReader(document))
	if err != nil {
		s.t.Fatal(err)
	}
	return s.send(req, s.merchant)
}

func (s *shop) send(req *http.Request, as *wepay.Merchant) (status int, body string) {
	s.t.Helper()
	transport := wepay.NewTransport(as)
	transport.TLSClientConfig.RootCAs = s.wechat.RootCAs()
	defer transport.CloseIdleConnections()
	resp, err := transport.RoundTrip(req)
	if err != nil {
		s.t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		s.t.Fatal(err)
	}
	return resp.StatusCode, string(text)
}

// sealed is a request of the merchant's with its signature.
func sealed(fields map[string]string, signType wepay.SignType) wepay.Fields {
	request := wepay.NewFields(fields)
	for name, value := range map[string]string{"appid": appID, "mch_id": mchID, "nonce_str": rand.Text()} {
		if _, found := request.Lookup(name); !found {
			request.Set(name, value)
		}
	}
	if signType != wepay.MD5 {
		request.Set("sign_type", string(signType))
	}
	request.Set("sign", apiv2.Sign(request, signType, key))
	return request
}

const thanks = "<xml><return_code><![CDATA[SUCCESS]]></return_code><return_msg><![CDATA[OK]]></return_msg></xml>"

// receiver is where a merchant gets its notifications.
type receiver struct {
	*httptest.Server

	mu     sync.Mutex
	answer func(http.ResponseWriter, *http.Request)
	bodies [][]byte
	header http.Header
}

func newReceiver(t *testing.T) *receiver {
	r := &receiver{}
	r.reply(thanks)
	r.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		body, err := io.ReadAll(req.Body)
		if err != nil {
			return
		}
		r.mu.Lock()
		r.bodies = append(r.bodies, body)
		r.header = req.Header.Clone()
		answer := r.answer
		r.mu.Unlock()
		answer(w, req)
	}))
	t.Cleanup(r.Close)
	return r
}

func (r *receiver) reply(answer string) {
	r.answers(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, answer) })
}

func (r *receiver) answers(answer func(http.ResponseWriter, *http.Request)) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.answer = answer
}

func (r *receiver) received() [][]byte {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.bodies
}

// soon bounds what would otherwise wait for ever if it were broken.
func soon(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	t.Cleanup(cancel)
	return ctx
}
