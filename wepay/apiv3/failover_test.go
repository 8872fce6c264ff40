package apiv3_test

import (
	"errors"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/windsome/caddy-wepay/wepay"
	"github.com/windsome/caddy-wepay/wepay/wepaytest"
)

// An access point that is away, too busy or out of its mind is not the only one.
func TestFailover(t *testing.T) {
	gone := httptest.NewServer(http.NotFoundHandler())
	gone.Close()
	link := answer{body: aLink}
	told := answer{body: state(mchID, "ORDER-0001")}
	for name, test := range map[string]struct {
		first   answer
		placing bool // the order is placed at the second
	}{
		"a page, 502":         {answer{status: 502, body: "<html>", bare: true}, true},
		"unsigned":            {answer{body: aLink, bare: true}, true},
		"a probe":             {answer{body: aLink, header: map[string][]string{"Wechatpay-Signature": {"WECHATPAY/SIGNTEST/xx"}}}, true},
		"502 of WeChat's":     {answer{status: 502, body: `{"code":"SYSTEM_ERROR"}`}, false},
		"503 of WeChat's":     {answer{status: 503, body: `{"code":"SERVICE_UNAVAILABLE"}`}, false},
		"503, unsigned":       {answer{status: 503, body: `{"code":"SERVICE_UNAVAILABLE"}`, bare: true}, false},
		"a refusal":           {answer{status: 400, body: `{"code":"PARAM_ERROR"}`}, false},
		"a refusal, unsigned": {answer{status: 400, body: `{"code":"PARAM_ERROR"}`, bare: true}, false},
	} {
		t.Run(name, func(t *testing.T) {
			first := newWechat(t, func(http.ResponseWriter, *http.Request) answer { return test.first })
			second := newWechat(t, func(_ http.ResponseWriter, r *http.Request) answer {
				if r.Method == http.MethodGet {
					return told
				}
				return link
			})
			_, err := first.client(t, first.merchant(t, second.URL)).Do(t.Context(), wepay.PlaceOrder, order("ORDER-0001", "1200"))
			if (err == nil) != test.placing || (second.asked() == 1) != test.placing {
				t.Errorf("placing: %v, the second was asked %d times", err, second.asked())
			}
			asked := second.asked()
			_, err = first.client(t, first.merchant(t, second.URL)).Do(t.Context(), wepay.QueryOrder, aQuery)
			if refused := strings.HasPrefix(name, "a refusal"); (err == nil) == refused || (second.asked() == asked) != refused {
				t.Errorf("asking: %v, the second was asked %d times", err, second.asked()-asked)
			}
		})
	}
	second := newWechat(t, func(http.ResponseWriter, *http.Request) answer { return link })
	m := second.merchant(t)
	m.Endpoints = []string{gone.URL, second.URL}
	if _, err := second.client(t, m).Do(t.Context(), wepay.PlaceOrder, order("ORDER-0001", "1200")); err != nil {
		t.Errorf("the first is away: %v", err)
	}
	m.Endpoints = []string{gone.URL}
	_, err := second.client(t, m).Do(t.Context(), wepay.PlaceOrder, order("ORDER-0001", "1200"))
	wantError(t, err, wepay.Again) // nothing was sent
}

// An attempt before may have succeeded, whatever the second access point
// refuses it for; to ask once more does no harm.
func TestRefusedAfterAnOpenAttempt(t *testing.T) {
	paying := refund("R1", "ORDER-0001", "2", "1")
	for _, test := range []struct {
		name          string
		first, second answer
		op            wepay.Operation
		in            wepay.Fields
		want          wepay.Verdict
	}{
		{"NOT_ENOUGH", answer{status: 502, body: "<html>", bare: true}, answer{status: 403, body: `{"code":"NOT_ENOUGH"}`}, wepay.Refund, paying, wepay.Query},
		{"PARAM_ERROR", answer{status: 502, body: "<html>", bare: true}, answer{status: 400, body: `{"code":"PARAM_ERROR"}`}, wepay.Refund, paying, wepay.Query},
		{"401, unsigned", answer{body: "{}", bare: true}, answer{status: 401, body: `{"code":"SIGN_ERROR"}`, bare: true}, wepay.Refund, paying, wepay.Query},
		{"429, unsigned", answer{body: "{}", bare: true}, answer{status: 429, body: `{"code":"RATELIMIT_EXCEEDED"}`, bare: true}, wepay.Refund, paying, wepay.Query},
		{"paid", answer{status: 502, body: "<html>", bare: true}, answer{status: 400, body: `{"code":"ORDERPAID"}`}, wepay.PlaceOrder, order("ORDER-0001", "1200"), wepay.Done},
		{"a question", answer{status: 502, body: "<html>", bare: true}, answer{status: 400, body: `{"code":"PARAM_ERROR"}`}, wepay.QueryOrder, aQuery, wepay.Fix},
	} {
		t.Run(test.name, func(t *testing.T) {
			first := newWechat(t, func(http.ResponseWriter, *http.Request) answer { return test.first })
			second := newWechat(t, func(http.ResponseWriter, *http.Request) answer { return test.second })
			_, err := first.client(t, first.merchant(t, second.URL)).Do(t.Context(), test.op, test.in)
			if second.asked() != 1 {
				t.Fatalf("the second was asked %d times", second.asked())
			}
			failed := wantError(t, err, test.want)
			if doubted := strings.Contains(err.Error(), "may have succeeded"); doubted != (test.want == wepay.Query) || failed.V3Code == "" {
				t.Errorf("got %v", err)
			}
		})
	}
}

// Where no endpoint does better WeChat's own word counts.
func TestAllBusy(t *testing.T) {
	busy := func(http.ResponseWriter, *http.Request) answer {
		return answer{status: 503, body: `{"code":"SERVICE_UNAVAILABLE","message":"系统繁忙"}`}
	}
	first, second := newWechat(t, busy), newWechat(t, busy)
	_, err := first.client(t, first.merchant(t, second.URL)).Do(t.Context(), wepay.QueryOrder, aQuery)
	if failed := wantError(t, err, wepay.Again); failed.Code != "SERVICE_UNAVAILABLE" || first.asked()+second.asked() != 2 {
		t.Errorf("got %+v", failed)
	}
}

// Of a request that was sent and not answered WeChat may have done what it says.
func TestNoAnswer(t *testing.T) {
	for kind, name := range map[wepaytest.FaultKind]string{
		wepaytest.Reset: "reset", wepaytest.CutOff: "cut off", wepaytest.EmptyBody: "empty", wepaytest.TruncatedXML: "truncated",
		wepaytest.HTML: "a page", wepaytest.WrongSignature: "signed by another", wepaytest.NoSignature: "unsigned", wepaytest.Probe: "a probe",
	} {
		t.Run(name, func(t *testing.T) {
			s := openShop(t, ways[2])
			s.pay(order("ORDER-0001", "1200"))
			s.connect() // on a connection that was idle net/http repeats by itself
			s.wechat.Misbehave("/v3/refund/domestic/refunds", wepaytest.Fault{Kind: kind})
			in := refund("R1", "ORDER-0001", "1200", "200")
			_, err := s.client.Do(t.Context(), wepay.Refund, in)
			if failed := wantError(t, err, wepay.Query); failed.Ask != wepay.QueryRefund || !errors.Is(err, wepay.ErrNoAnswer) {
				t.Errorf("got %+v", failed)
			}
			check(t, s.do(wepay.QueryRefund, fields("out_refund_no", "R1")), "refund_status_0", "PROCESSING")

			// The same number is sent again by itself where there is a second endpoint,
			// signed anew.
			s.merchant.Endpoints = []string{s.wechat.URL, s.wechat.URL + "/"}
			s.connect()
			s.wechat.Misbehave("/v3/refund/domestic/refunds", wepaytest.Fault{Kind: kind})
			s.do(wepay.Refund, in)
			requests := s.wechat.Requests("/v3/refund/domestic/refunds")
			if len(requests) != 3 || requests[1].Header.Get("Authorization") == requests[2].Header.Get("Authorization") {
				t.Errorf("%d requests", len(requests))
			}
		})
	}
}

// The time-out bounds a call that is not answered.
func TestTimeout(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0") // which never answers
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	w := newWechat(t, func(http.ResponseWriter, *http.Request) answer { return answer{body: aLink} })
	m := w.merchant(t)
	m.Endpoints = []string{"http://" + listener.Addr().String(), w.URL}
	got, err := w.client(t, m, wepay.ClientOptions{Timeout: time.Second}).Do(t.Context(), wepay.PlaceOrder, order("ORDER-0001", "1"))
	if err != nil || got.Get("code_url") == "" {
		t.Errorf("got %v, %v", got, err)
	}
}
