package delivery

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"maps"
	"net/http"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"

	"github.com/windsome/caddy-wepay/caddymodule/store"
	"github.com/windsome/caddy-wepay/wepay"
	"github.com/windsome/caddy-wepay/wepay/apiv2"
)

// testKey is nobody's: the one of the vectors in wepay/apiv2/testdata.
const testKey = "Kd7q2Vn0sX9tB4mHc6Zr1Lw8Fy3Pj5Ga"

// testMerchant is whom the vectors in wepay/apiv2/testdata are for.
var testMerchant = &wepay.Merchant{
	Name: "shop", Env: wepay.H5, Type: wepay.Direct, AppID: "wx00112233445566aa", MchID: "1900000109",
	PartnerKey: testKey, SignType: wepay.MD5, CbNotifyURL: "http://orders/apis/v1/mqtt/pay_notify",
	Endpoints: wepay.DefaultEndpoints,
}

// orders is an order service: a function of what it gets.
type orders func(*http.Request) (*http.Response, error)

func (o orders) RoundTrip(r *http.Request) (*http.Response, error) { return o(r) }

// answering is an order service that answers and keeps what it got.
func answering(status int, reply io.Reader, got *http.Request, body *[]byte) orders {
	return func(r *http.Request) (*http.Response, error) {
		var err error
		if *body, err = io.ReadAll(r.Body); err != nil {
			return nil, err
		}
		*got = *r
		return &http.Response{StatusCode: status, Body: io.NopCloser(reply)}, r.Body.Close()
	}
}

// notificationXML is a notification of 27 fields, signed with testKey.
func notificationXML(t testing.TB) []byte {
	t.Helper()
	text, err := os.ReadFile("../../testdata/notifications/v20.xml")
	if err != nil {
		t.Fatal(err)
	}
	return text
}

// payment is a notification of a few fields, with further ones.
func payment(more ...string) *wepay.Notification {
	n := &wepay.Notification{Kind: wepay.Payment, Merchant: testMerchant, EventType: "TRANSACTION.SUCCESS", Fields: wepay.NewFields(map[string]string{
		"appid": "wx00112233445566aa", "attach": "袜子 & <手套> \"🧦\"\n", "coupon_id_0": "", "mch_id": "1900000109",
		"out_trade_no": "5ba27cc3a70db45dd108b53f", "result_code": "SUCCESS", "total_fee": "1200", "transaction_id": "4200000000202001010000000001",
	})}
	for pair := range slices.Chunk(more, 2) {
		n.Fields.Set(pair[0], pair[1])
	}
	return n
}

// deliver has an endpoint deliver a notification, and returns what went out.
func deliver(t *testing.T, c *Endpoint, n *wepay.Notification, header http.Header) (*http.Request, []byte) {
	t.Helper()
	var got http.Request
	var body []byte
	c.Transport, c.Timeout = answering(http.StatusOK, strings.NewReader(""), &got, &body), time.Minute
	if err := c.Deliver(t.Context(), event(t, n, header)); err != nil {
		t.Fatal(err)
	}
	return &got, body
}

// event is what a notification becomes.
func event(t *testing.T, n *wepay.Notification, header http.Header) *store.Event {
	t.Helper()
	e, err := store.NewEvent(n, store.SourceNotify, header, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	return e
}

func TestEndpointRequest(t *testing.T) {
	c := &Endpoint{URL: "https://orders.example.cn:8443/apis/v1/mqtt/pay_notify?from=wepay"}
	before := time.Now().Unix()
	r, body := deliver(t, c, payment(), http.Header{
		"Content-Type": {"text/xml"}, "Cookie": {"a=b"}, "Authorization": {"Bearer " + "token-of-the-order-service"}, "Traceparent": {"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"}, "Tracestate": {"a=1,b=2"},
	})
	const want = `{"appid":"wx00112233445566aa","attach":"袜子 & <手套> \"🧦\"\n","coupon_id_0":"","mch_id":"1900000109",` +
		`"out_trade_no":"5ba27cc3a70db45dd108b53f","result_code":"SUCCESS","total_fee":"1200","transaction_id":"4200000000202001010000000001"}`
	if string(body) != want || r.ContentLength != int64(len(want)) {
		t.Errorf("got %d bytes:\n%s\nwant:\n%s", r.ContentLength, body, want)
	}
	if r.Method != http.MethodPost || r.URL.String() != c.URL {
		t.Errorf("got %s %s", r.Method, r.URL)
	}
	sent, err := strconv.ParseInt(r.Header.Get("webhook-timestamp"), 10, 64)
	if err != nil || sent < before || sent > time.Now().Unix() {
		t.Errorf("webhook-timestamp is %q", r.Header.Get("webhook-timestamp"))
	}
	wantHeader := map[string]string{
		"Content-Type": "application/json", "User-Agent": "caddy-wepay/" + wepay.Version,
		"Webhook-Id": payment().EventID(), "Webhook-Timestamp": r.Header.Get("Webhook-Timestamp"),
		"Traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", "Tracestate": "a=1,b=2",
		"Wepay-Event": "TRANSACTION.SUCCESS", "Wepay-Merchant": "shop", "Wepay-Source": "notify",
		"Idempotency-Key": "", // for net/http, which repeats the request by it; not sent
	}
	got := make(map[string]string)
	for name, values := range r.Header {
		got[name] = strings.Join(values, ",")
	}
	if !maps.Equal(got, wantHeader) {
		t.Errorf("header:\n%v\nwant:\n%v", got, wantHeader)
	}
}

// Every field goes out as WeChat signed it, known or not.
func TestEndpointBodyIsSigned(t *testing.T) {
	unverified, err := apiv2.ReadNotification(notificationXML(t))
	if err != nil {
		t.Fatal(err)
	}
	n, err := apiv2.NewClient(testMerchant, wepay.ClientOptions{}).Verify(t.Context(), unverified)
	if err != nil {
		t.Fatal(err)
	}
	_, body := deliver(t, &Endpoint{URL: "http://orders/"}, n, nil)
	var values map[string]string
	if err := json.Unmarshal(body, &values); err != nil {
		t.Fatal(err)
	}
	if err := apiv2.Verify(wepay.NewFields(values), testKey); err != nil {
		t.Errorf("%v: %s", err, body)
	}
}

func TestEndpointSignatures(t *testing.T) {
	all := []string{"whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "whsec_MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=", "whsec_c2hvcnQ="}
	const stranger = "whsec_YW5vdGhlciBzZWNyZXQgYWx0b2dldGhlcg=="
	for n := range len(all) + 1 {
		t.Run(strconv.Itoa(n)+" secrets", func(t *testing.T) {
			var secrets []*standardwebhooks.Webhook
			for _, text := range all[:n] {
				secret, err := standardwebhooks.NewWebhook(text)
				if err != nil {
					t.Fatal(err)
				}
				secrets = append(secrets, secret)
			}
			r, body := deliver(t, &Endpoint{URL: "http://orders/", Secrets: secrets}, payment(), nil)
			if signatures := strings.Fields(r.Header.Get("webhook-signature")); len(signatures) != n {
				t.Errorf("%d signatures, want %d", len(signatures), n)
			}
			for i, secret := range append(slices.Clone(all), stranger) {
				verifier, err := standardwebhooks.NewWebhook(secret)
				if err != nil {
					t.Fatal(err)
				}
				if err := verifier.Verify(body, r.Header); (err == nil) != (i < n) {
					t.Errorf("with secret %d: %v", i, err)
				}
				if err := verifier.Verify(append(body, ' '), r.Header); err == nil {
					t.Errorf("with secret %d another body is taken", i)
				}
			}
		})
	}
}

// The order service keeps these ids: one event has one, for ever.
func TestEndpointEventID(t *testing.T) {
	first, _ := deliver(t, &Endpoint{URL: "http://orders/"}, payment(), nil)
	const want = "evt_cbabbe0d38fe65708f9903e32c3d4c84"
	for _, row := range []struct {
		name string
		n    *wepay.Notification
		same bool
	}{
		{"sent again", payment(), true},
		{"signed anew", payment("sign", "A", "nonce_str", "B"), true},
		{"another payment", payment("transaction_id", "4200000000202001010000000002"), false},
		{"another outcome", payment("result_code", "FAIL"), false},
		{"another state", payment("trade_state", "PAY_FAIL"), false},
	} {
		t.Run(row.name, func(t *testing.T) {
			again, _ := deliver(t, &Endpoint{URL: "http://other/"}, row.n, nil)
			if got := again.Header.Get("webhook-id"); (got == first.Header.Get("webhook-id")) != row.same {
				t.Errorf("webhook-id is %s, of the first %s", got, first.Header.Get("webhook-id"))
			}
		})
	}
	if got := first.Header.Get("webhook-id"); got != want {
		t.Errorf("webhook-id is %s, want %s", got, want)
	}
}

func TestEndpointBasicAuth(t *testing.T) {
	for _, row := range []struct{ url, want string }{
		{"http://orders/", ""},
		{"http://wepay:p%40ss%3Aword@orders/", "wepay p@ss:word"},
		{"http://wepay@orders/", "wepay "},
	} {
		t.Run(row.url, func(t *testing.T) {
			r, _ := deliver(t, &Endpoint{URL: row.url}, payment(), http.Header{"Authorization": {"Bearer " + "token-of-the-order-service"}})
			user, password, found := r.BasicAuth()
			if got := user + " " + password; found != (row.want != "") || found && got != row.want {
				t.Errorf("got %q", got)
			}
			if !found && r.Header.Get("Authorization") != "" {
				t.Errorf("Authorization is %q", r.Header.Get("Authorization"))
			}
		})
	}
}

// endless is a reply of which more comes until it is closed, and counts.
type endless struct {
	read   int
	closed bool
}

func (e *endless) Read(p []byte) (int, error) {
	if e.read += len(p); e.read > 100*maxReply {
		return 0, io.EOF // before the machine's memory is full
	}
	return len(p), nil
}
func (e *endless) Close() error { e.closed = true; return nil }

func TestEndpointFails(t *testing.T) {
	t.Run("without URL", func(t *testing.T) {
		c := &Endpoint{Transport: orders(func(*http.Request) (*http.Response, error) { panic("something was sent") })}
		if err := c.Deliver(t.Context(), event(t, payment(), nil)); !errors.Is(err, ErrNoURL) {
			t.Errorf("got %v", err)
		}
	})
	t.Run("an event without URL", func(t *testing.T) {
		c := &Endpoint{URL: "http://orders/", RefundURL: "http://orders/", Transport: orders(func(*http.Request) (*http.Response, error) { panic("something was sent") })}
		complaint := event(t, payment(), nil)
		complaint.Kind = wepay.OtherEvent
		if err := c.Deliver(t.Context(), complaint); !errors.Is(err, ErrNoEventURL) || errors.Is(err, ErrNoURL) {
			t.Errorf("got %v", err)
		}
	})
	t.Run("not reached", func(t *testing.T) {
		c := &Endpoint{URL: "http://orders/", Timeout: time.Minute, Transport: orders(func(*http.Request) (*http.Response, error) { return nil, os.ErrPermission })}
		if err := c.Deliver(t.Context(), event(t, payment(), nil)); !errors.Is(err, ErrNotTaken) || !errors.Is(err, os.ErrPermission) {
			t.Errorf("got %v", err)
		}
	})
	t.Run("a long reply", func(t *testing.T) {
		c := &Endpoint{URL: "http://orders/", Timeout: time.Minute, Transport: orders(func(*http.Request) (*http.Response, error) {
			return &http.Response{StatusCode: http.StatusBadRequest, Body: io.NopCloser(strings.NewReader(strings.Repeat("x", 1000)))}, nil
		})}
		failed, ok := errors.AsType[*notTaken](c.Deliver(t.Context(), event(t, payment(), nil)))
		if !ok || failed.answer != strings.Repeat("x", 200) {
			t.Errorf("of it %d bytes are kept", len(failed.answer))
		}
	})
	t.Run("a reply without end", func(t *testing.T) {
		reply := new(endless)
		c := &Endpoint{URL: "http://orders/", Timeout: time.Minute, Transport: orders(func(*http.Request) (*http.Response, error) {
			return &http.Response{StatusCode: http.StatusOK, Body: reply}, nil
		})}
		if err := c.Deliver(t.Context(), event(t, payment(), nil)); !errors.Is(err, ErrNotTaken) || !strings.Contains(err.Error(), "more than 65536 bytes") {
			t.Errorf("got %v", err)
		}
		if reply.read > 2*maxReply || !reply.closed {
			t.Errorf("%d bytes were read, closed: %t", reply.read, reply.closed)
		}
	})
}

// waiting is a reply that never comes.
type waiting struct{ ctx context.Context }

func (w waiting) Read([]byte) (int, error) { <-w.ctx.Done(); return 0, w.ctx.Err() }
func (waiting) Close() error               { return nil }

func TestEndpointTimeout(t *testing.T) {
	for name, transport := range map[string]orders{
		"no answer": func(r *http.Request) (*http.Response, error) { <-r.Context().Done(); return nil, r.Context().Err() },
		"no end of the reply": func(r *http.Request) (*http.Response, error) {
			return &http.Response{StatusCode: http.StatusOK, Body: waiting{r.Context()}}, nil
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				began := time.Now()
				c := &Endpoint{URL: "http://orders/", Timeout: 4 * time.Second, Transport: transport}
				if err := c.Deliver(t.Context(), event(t, payment(), nil)); !errors.Is(err, ErrNotTaken) || !errors.Is(err, context.DeadlineExceeded) {
					t.Errorf("got %v", err)
				}
				if took := time.Since(began); took != 4*time.Second {
					t.Errorf("it took %s", took)
				}
			})
		})
	}
}

// A server may ask for any time in seconds, or for a date; what is too long for
// a number is the longest there is.
func TestRetryAfter(t *testing.T) {
	now := time.Date(2026, 1, 1, 12, 0, 0, 0, time.UTC)
	const longest = (1<<31 - 1) * time.Second
	for value, want := range map[string]time.Duration{
		"": 0, "0": 0, "120": 2 * time.Minute, "-1": 0, "+1": 0, "1.5": 0, "soon": 0, "12 s": 0,
		"2147483647": longest, "2147483648": longest, "99999999999": longest, "99999999999999999999999999": longest,
		"Thu, 01 Jan 2026 12:01:00 GMT": time.Minute, "Thu, 01 Jan 2026 11:00:00 GMT": 0,
	} {
		if got := retryAfter(value, now); got != want {
			t.Errorf("%q: %s, want %s", value, got, want)
		}
	}
}
