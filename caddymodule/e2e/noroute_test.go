package e2e_test

import (
	"fmt"
	"net/http"
	"testing"

	"github.com/caddyserver/caddy/v2"
)

// WeChat's post to an address that takes no notifications is never answered 2xx,
// which API v3 takes for success, and the operator is warned.
func TestNotificationsToOtherRoutes(t *testing.T) {
	env, shop := newV3Shop(t, "")
	env.get("get_pay_request_params", shop.order("order-1"))
	event := env.paidEvent(shop, shop.paid3("order-1"))
	v2 := "<xml><return_code><![CDATA[SUCCESS]]></return_code></xml>"
	for _, test := range []struct {
		name, route, nearest string
		send                 func(route string) answer
	}{
		{"a misspelt route", "paynotify", "pay_notify", nil},
		{"another case", "PAY_NOTIFY", "pay_notify", nil},
		{"half a route", "notify", "pay_notify", nil},
		{"a refund's", "refundnotify/shop", "refund_notify", nil},
		{"the prefix", "", "", nil},
		{"anything", "wp-login.php", "", nil},
		{"a route below a route", "refund/shop", "refund", nil},
		{"an order's route", "get_pay_request_params", "pay_notify", nil},
		{"a refund's route", "refund", "pay_notify", nil},
		{"the pass-through of API v3", "v3/pay/transactions/jsapi", "pay_notify", nil},
		{"the pass-through of API v2", "v2/pay/orderquery", "pay_notify", nil},
		{"an order's route, its signature lost on the way", "get_pay_request_params", "pay_notify", func(route string) answer {
			return env.post(route, string(event.Body()))
		}},
		{"the pass-through of API v3, its signature lost on the way", "v3/pay/transactions/jsapi", "pay_notify", func(route string) answer {
			return env.post(route, string(event.Body()), "Content-Type", "application/json")
		}},
		{"the pass-through of API v3, over API v2", "v3/pay/transactions/jsapi", "pay_notify", func(route string) answer { return env.post(route, v2) }},
		{"an order's route, over API v2", "get_pay_request_params", "pay_notify", func(route string) answer { return env.post(route, "\n "+v2) }},
		{"no route, over API v2", "paynotify", "pay_notify", func(route string) answer { return env.post(route, v2) }},
	} {
		t.Run(test.name, func(t *testing.T) {
			env, before := env.in(t), len(env.received())
			counted := env.counted(`caddy_wepay_no_route_total{nearest="` + test.nearest + `"}`)
			send := test.send
			if send == nil {
				send = func(route string) answer { return env.deliver(route, event, nil) }
			}
			a := send(test.route)
			if a.status != http.StatusNotFound || a.Errcode != 40011 || a.XOrigMsg == "" {
				t.Errorf("HTTP %d %s", a.status, a.body)
			}
			if n := env.counted(`caddy_wepay_no_route_total{nearest="` + test.nearest + `"}`); n != counted+1 {
				t.Errorf("counted %d times", n-counted)
			}
			if got := env.received()[before:]; len(got) > 0 {
				t.Errorf("WeChat got %s", got[0].Body)
			}
		})
	}
	for _, texts := range [][]string{
		{"no route", `"path":"/apis/v1/wepay/paynotify"`, "the nearest is /apis/v1/wepay/pay_notify"},
		{"no route", `"path":"/apis/v1/wepay/PAY_NOTIFY"`},
		{"no route", `"path":"/apis/v1/wepay/notify"`},
		{"no route", `"path":"/apis/v1/wepay/get_pay_request_params"`},
		{"no route", `"path":"/apis/v1/wepay/v3/pay/transactions/jsapi"`},
		{"no route", `"path":"/apis/v1/wepay/refund/shop"`, "the nearest is /apis/v1/wepay/refund"},
		{"no route", `"path":"/apis/v1/wepay/"`},
	} {
		if n := env.logs(append(texts, `"level":"warn"`)...); n != 1 {
			t.Errorf("%v is logged %d times", texts, n)
		}
	}
	for i := range 30 { // whoever makes up paths does not fill the log
		env.deliver(fmt.Sprintf("paynotify-%d", i), event, nil)
	}
	if n := env.logs("no route", `/paynotify-`, `"level":"warn"`); n < 5 || n > 19 {
		t.Errorf("%d paths of 30 are logged", n)
	}
	if err := caddy.Stop(); err != nil {
		t.Fatal(err)
	}
	if n := env.logs(`"no route, near pay_notify":`); n != 1 {
		t.Error("the log does not say how many more there were")
	}
}

// A notification of API v3 that was mangled on the way, and has lost its signature,
// is none that was taken.
func TestMangledNotifications(t *testing.T) {
	env, shop := newV3Shop(t, "")
	body := string(env.paidEvent(shop, shop.paid3("order-1")).Body())
	for name, mangled := range map[string]string{
		"empty": "", "blank": " \n", "cut": body[:40], "with a byte order mark": "\ufeff" + body, "an array": "[" + body + "]",
		"compressed": "\x1f\x8b\x08\x00", "too large": padded("{", maxBody+1), "not of JSON": "event_type=TRANSACTION.SUCCESS",
	} {
		t.Run(name, func(t *testing.T) {
			env := env.in(t)
			if a := env.post("pay_notify", mangled, "Content-Type", "application/json"); a.status < 400 {
				t.Errorf("WeChat hears %d %s", a.status, a.body)
			}
			if delivered := env.orders.forget(); len(delivered) > 0 {
				t.Errorf("the order service got %s", delivered[0].body)
			}
		})
	}
	if a := env.post("pay_notify", "<xml>", "Content-Type", "application/json"); a.body != refused("malformed") {
		t.Errorf("API v2 hears %d %s", a.status, a.body)
	}
}

// What no site takes is warned of at the start.
func TestDoubtRoutes(t *testing.T) {
	const warned = `"msg":"merchant is doubtful"`
	env := newEnvironment(t)
	shop, mini, other, app, quiet := newMerchant("shop", 1), newMerchant("mini", 2), newMerchant("other", 3), newMerchant("app", 4), newMerchant("quiet", 5)
	mini.notify, other.notify, app.notify = "paynotify", "pay_notify/shop", "pay_notify"
	env.serve(layout{
		merchants: []*merchant{shop, mini, other, app, quiet},
		site:      "wepay {\nmerchants shop mini other app\n}",
	})
	for _, texts := range [][]string{
		{`"merchant":"mini"`, "notify_url: no wepay directive of this server takes notifications at the path /apis/v1/wepay/paynotify"},
		{`"merchant":"other"`, "takes the notifications of another merchant, and not this one's: end it with /other"},
		{`"merchant":"quiet"`, "no wepay directive of this server serves it"},
	} {
		if n := env.logs(append(texts, warned)...); n != 1 {
			t.Errorf("%v is logged %d times", texts, n)
		}
	}
	if n := env.logs(warned); n != 3 {
		t.Errorf("%d warnings", n)
	}
}
