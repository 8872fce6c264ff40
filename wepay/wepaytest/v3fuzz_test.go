package wepaytest

import (
	"encoding/json"
	"net/http"
	"testing"
	"unicode/utf8"
)

// Whatever is read as a request is JSON as others read it too, and writing it
// down and reading it again changes nothing.
func FuzzV3Body(f *testing.F) {
	for _, seed := range []string{
		`{"amount":{"total":1,"currency":"CNY"},"a":["b"],"c":true}`, `{"a":null}`, `{"a":1,"a":2}`, `{"a":"\ud83e\udde6"}`, `[`, `{}{}`, "\xff", `{"a":1e9}`,
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		o, issue := parse(body)
		if issue != "" {
			if o != nil {
				t.Errorf("%q is read as %v and refused for %s", body, o, issue)
			}
			return
		}
		if !utf8.Valid(body) || !json.Valid(body) {
			t.Errorf("%q is read as %v", body, o)
		}
		again, issue := parse([]byte(jsonOf(o)))
		if issue != "" || jsonOf(again) != jsonOf(o) {
			t.Errorf("%q is read as %v, and then %v %s", body, o, again, issue)
		}
		for _, call := range v3calls {
			if call.body.check(o, "body", "") == nil {
				x := &v3exchange{}
				call.body.translate(o, &x.in)
			}
		}
	})
}

func FuzzV3Authorization(f *testing.F) {
	f.Add(v3Scheme + ` mchid="1",nonce_str="2",signature="3",timestamp="4",serial_no="5"`)
	f.Add(v3Scheme + ` mchid="1",mchid="2"`)
	f.Add(v3Scheme + ` ="`)
	f.Fuzz(func(t *testing.T, value string) {
		a, ok := readAuthorization(http.Header{"Authorization": {value}})
		if ok && (a.mchID == "" || a.nonce == "" || a.signature == "" || a.timestamp == "" || a.serial == "") {
			t.Errorf("%q is read as %+v", value, a)
		}
	})
}

func FuzzV3Path(f *testing.F) {
	f.Add("GET", "/v3/pay/transactions/id/1")
	f.Add("POST", "/v3/pay/transactions/out-trade-no/a%2Fb/close")
	f.Fuzz(func(t *testing.T, method, path string) {
		call, variables, found := findV3(method, path)
		if found && (call.do == nil || call.method != method) {
			t.Errorf("%s %q finds %q", method, path, call.path)
		}
		for name, value := range variables {
			if value == "" {
				t.Errorf("%q has nothing for %s", path, name)
			}
		}
	})
}
