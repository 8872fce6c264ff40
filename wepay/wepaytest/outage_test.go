package wepaytest_test

import (
	"testing"
	"time"

	"github.com/windsome/caddy-wepay/wepay"
	"github.com/windsome/caddy-wepay/wepay/wepaytest"
)

// While WeChat is down, or limits the rate, nothing is done, and after that all is as
// before.
func TestOutage(t *testing.T) {
	for name, test := range map[string]struct {
		fault   func(time.Duration) wepaytest.Fault
		status  int
		code    string // of API v3
		v2      string // of API v2
		verdict wepay.Verdict
	}{
		"down":    {wepaytest.Outage, 502, "", "", wepay.Query},
		"limited": {wepaytest.RateLimit, 429, "FREQUENCY_LIMITED", "FREQUENCY_LIMITED", wepay.Later},
	} {
		for _, lasts := range []time.Duration{0, time.Hour} {
			t.Run(name+" "+lasts.String(), func(t *testing.T) {
				s := newShop(t)
				s.wechat.Misbehave("", test.fault(lasts))
				for range 2 {
					if got := s.refused(wepay.PlaceOrder, order("ORDER-0001", 100)); got.Code != test.v2 || got.Verdict != test.verdict {
						t.Errorf("API v2 says %v", got)
					}
				}
				s.clock.Advance(59 * time.Minute)
				s.refused(wepay.PlaceOrder, order("ORDER-0001", 100))
				if _, there := s.wechat.Order(mchID, "ORDER-0001"); there {
					t.Error("the order was placed")
				}
				s.clock.Advance(time.Minute)
				if lasts == 0 {
					s.refused(wepay.PlaceOrder, order("ORDER-0001", 100))
					s.wechat.Behave("")
				}
				s.do(wepay.PlaceOrder, order("ORDER-0001", 100))

				v3 := newV3Shop(t)
				v3.wechat.Misbehave("", test.fault(lasts))
				if a := v3.send(v3.message("POST", jsapiPath, v3.jsapi("ORDER-0001", 100))); a.status != test.status || a.at("code") != test.code {
					t.Errorf("API v3 says %d %s", a.status, a.raw)
				}
				v3.clock.Advance(time.Hour)
				if lasts == 0 {
					v3.wechat.Behave("")
				}
				v3.granted("POST", jsapiPath, v3.jsapi("ORDER-0001", 100))
			})
		}
	}
}

// A fault that ended lets the one behind it be.
func TestOutageEnds(t *testing.T) {
	s := newShop(t)
	s.wechat.Misbehave(orderPath, wepaytest.RateLimit(time.Minute))
	s.wechat.Misbehave(orderPath, wepaytest.Fault{Kind: wepaytest.Refused, Code: "NOTENOUGH"})
	s.clock.Advance(time.Minute)
	if got := s.refused(wepay.PlaceOrder, order("ORDER-0001", 100)); got.Code != "NOTENOUGH" {
		t.Errorf("got %v", got)
	}
}
