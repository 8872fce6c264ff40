package delivery

import (
	"errors"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/windsome/caddy-wepay/wepay"
)

// What an order service answers is taken for acceptance only where it cannot mean
// anything else.
func TestTaken(t *testing.T) {
	const (
		none  = "the reply is neither empty nor a JSON object"
		twice = "the reply names something twice"
		code  = "its code is not 0, 200, SUCCESS"
	)
	for _, row := range []struct {
		status int
		reply  string
		want   string // of the error
	}{
		{200, "", ""},
		{204, "", ""},
		{200, " \r\n", ""},
		{299, "{}", ""},
		{200, `{"errcode":0}`, ""},
		{201, ` { "result": {"errcode": 1}, "errcode": 0 } `, ""},
		{200, `{"errcode":0.0}`, ""},
		{200, `{"errcode":-0}`, ""},
		{200, `{"errcode":0e5}`, ""},
		{200, `{"ErrCode":0,"Code":200,"codes":1}`, ""},
		{200, `{"Code":"FAIL"}`, "its code is not 0, 200, SUCCESS"},
		{200, `{"CODE":500}`, "its code is not 0, 200, SUCCESS"},
		{200, `{"code":0,"Code":1}`, "its code is not 0, 200, SUCCESS"},
		{200, `{"ErrCode":1}`, "errcode 1"},
		{200, `{"Errcode":null}`, "errcode is no number"},
		{200, "{\"errcode\":0,\"message\":\"\xb3\xc9\xb9\xa6\"}", ""}, // in GBK
		{200, `{"code":0}`, ""},
		{200, `{"code":0.0}`, ""},
		{200, `{"code":"0"}`, ""},
		{200, `{"code":200}`, ""},
		{200, `{"code":"200","errcode":0}`, ""},
		{200, `{"code":"SUCCESS","message":"成功"}`, ""},
		{200, `{"c\u006fde":"SUCC\u0045SS"}`, ""},
		{200, `{"errcode":0,"pad":"` + strings.Repeat("x", maxReply-22) + `"}`, ""},
		{200, `{"errcode":0,"pad":"` + strings.Repeat("x", maxReply-21) + `"}`, "a reply of more than 65536 bytes"},
		{199, "", "HTTP status 199"},
		{300, "", "HTTP status 300"},
		{302, `{"errcode":0}`, "HTTP status 302"},
		{404, `{"errcode":0}`, "HTTP status 404"},
		{500, "", "HTTP status 500"},
		{200, `{"errcode":1}`, "errcode 1"},
		{200, `{"errcode":-1,"message":"未知错误"}`, "errcode -1"},
		{200, `{"errcode":0.5}`, "errcode 0.5"},
		{200, `{"errcode":1e999}`, "errcode 1e999"},
		{200, `{"errcode":"0"}`, "errcode is no number"},
		{200, `{"errcode":false}`, "errcode is no number"},
		{200, `{"errcode":{}}`, "errcode is no number"},
		{200, `{"errcode":null}`, "errcode is no number"},
		{200, `{"errcode":12345678901234567890123}`, "errcode 12345678901234567890"},
		{200, `{"errcode":0.00000000000000000000000000000000000000001e-400}`, "errcode 0.000000000000000000"},
		{200, `{"errcode":0,"errcode":1}`, twice},
		{200, `{"errcode":0,"errcode":0}`, twice},
		{200, `{"errcode":0,"\u0065rrcode":1}`, twice},
		{200, `{"code":0,"code":500}`, twice},
		{200, `{"errcode":0,"data":{"a":1,"a":2}}`, twice},
		{200, `{"code":"FAIL"}`, code},
		{200, `{"code":500}`, code},
		{200, `{"code":500,"errcode":0}`, code},
		{200, `{"code":"success"}`, code},
		{200, `{"code":""}`, code},
		{200, `{"code":null}`, code},
		{200, `{"code":true}`, code},
		{200, `{"code":[0]}`, code},
		{200, `{"code":200.5}`, code},
		{200, `{"code":0,"errcode":1}`, "errcode 1"},
		{200, "success", none},
		{200, "<html></html>", none},
		{200, "null", none},
		{200, "[]", none},
		{200, "0", none},
		{200, `{"errcode":0}{"errcode":0}`, none},
		{200, `{"errcode":0`, none},
	} {
		t.Run(strconv.Itoa(row.status)+" "+row.reply[:min(len(row.reply), 30)], func(t *testing.T) {
			err := taken(row.status, []byte(row.reply))
			switch {
			case row.want == "" && err != nil:
				t.Errorf("unexpected error: %v", err)
			case row.want != "" && (!errors.Is(err, ErrNotTaken) || err.Error() != ErrNotTaken.Error()+": "+row.want):
				t.Errorf("got %v, want …%s", err, row.want)
			}
		})
	}
}

// An order service that says no is there, and its operator has to look.
func TestRefusal(t *testing.T) {
	for reply, refused := range map[string]bool{
		`{"errcode":1}`: true, `{"code":"FAIL"}`: true, `{"code":500}`: true, `{"errcode":null}`: true, `{"errcode":"1"}`: true, "no": true,
	} {
		if err := taken(http.StatusOK, []byte(reply)); err.refused() != refused {
			t.Errorf("%s: refused is %t", reply, err.refused())
		}
	}
	for _, status := range []int{http.StatusBadGateway, http.StatusTooManyRequests, http.StatusFound} {
		if taken(status, []byte(`{"errcode":1}`)).refused() {
			t.Errorf("HTTP %d is a refusal", status)
		}
	}
}

// An answer that repeats what the order service knows is kept without it.
func TestAnswerIsQuoted(t *testing.T) {
	const password = "password-of-the-order-service"
	m := *testMerchant
	m.CbEventURL, m.Secrets = "http://wepay:"+password+"@orders/events", []string{"MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"}
	for name, test := range map[string]struct{ answer, want string }{
		"a key":             {`{"errcode":1,"config":"` + testKey + `"}`, `{"errcode":1,"config":"***"}`},
		"a password":        {"no access for " + password, "no access for ***"},
		"a callback_secret": {strings.Repeat("x", 190) + "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", strings.Repeat("x", 190) + "***"},
		"a long one":        {strings.Repeat("x", 500), strings.Repeat("x", 200)},
		"Chinese":           {strings.Repeat("失", 100), strings.Repeat("失", 66)},
		"GBK, and lines":    {"\xb3\xc9\r\n\x00\x1b[2J", "\uFFFD [2J"},
	} {
		t.Run(name, func(t *testing.T) {
			var got http.Request
			var body []byte
			c := &Endpoint{EventURL: m.CbEventURL, Quoter: *m.Quoter(), Timeout: time.Minute, Transport: answering(http.StatusForbidden, strings.NewReader(test.answer), &got, &body)}
			complaint := event(t, payment(), nil)
			complaint.Kind = wepay.OtherEvent
			var failed *notTaken
			if err := c.Deliver(t.Context(), complaint); !errors.As(err, &failed) || failed.answer != test.want || len(failed.answer) > keptAnswer {
				t.Errorf("got %q, want %q", failed.answer, test.want)
			}
		})
	}
}

// The order service is told which event it is and whose, however it is called.
func TestEventHeaders(t *testing.T) {
	for _, test := range []struct{ merchant, eventType, wantMerchant, wantEvent string }{
		{"shop", "COMPLAINT.CREATE", "shop", "COMPLAINT.CREATE"},
		{"袜子 店", "ENTRUST.SIGN", "%E8%A2%9C%E5%AD%90%20%E5%BA%97", "ENTRUST.SIGN"},
		{"100%\r\nX: 1\x7f", "A\nB", "100%25%0D%0AX:%201%7F", "A%0AB"},
		{"shop", "", "shop", ""}, // of an event that was stored without
	} {
		e := event(t, payment(), nil)
		e.Merchant, e.EventType = test.merchant, test.eventType
		var got http.Request
		var body []byte
		c := &Endpoint{URL: "http://orders/", Timeout: time.Minute, Transport: answering(http.StatusOK, strings.NewReader(""), &got, &body)}
		if err := c.Deliver(t.Context(), e); err != nil {
			t.Fatal(err)
		}
		if got.Header.Get("wepay-merchant") != test.wantMerchant || got.Header.Get("wepay-event") != test.wantEvent || got.Header.Get("wepay-source") != "notify" {
			t.Errorf("%q, %q: got %v", test.merchant, test.eventType, got.Header)
		}
		if _, found := got.Header["Wepay-Event"]; found != (test.wantEvent != "") {
			t.Errorf("wepay-event is there: %t", found)
		}
	}
}
