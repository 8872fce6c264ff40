package e2e_test

import (
	"encoding/json"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/windsome/caddy-wepay/wepay/wepaytest"
)

// differing are the fields of notifications that only one of the APIs gives, and
// why: all that a moving merchant's order service may notice.
var differing = []struct{ name, kind, api, why string }{
	{"nonce_str", "payment", "v2", "it is part of what API v2 signs, and nothing signed that way exists"},
	{"sign", "payment", "v2", "as nonce_str; the callback's own signature stands in for it"},
	{"is_subscribe", "payment", "v2", "API v3 does not tell it, and a constant would be a lie"},
	{"cash_fee_type", "payment", "v3", "API v3 always names the currency that was paid in, API v2 may leave it out"},
	{"settlement_total_fee", "refund", "v2", "API v3 tells it only in the query of the refund"},
	{"refund_account", "refund", "v2", "API v3 does not tell which funds it came from"},
}

// An order service cannot tell by which API its payments came: the same story
// over API v2 and over API v3, by a configuration that differs in one word, is
// got the same, line by line, but for numbers and times that WeChat gives and
// the fields above.
func TestOrderServiceHearsTheSame(t *testing.T) {
	delivered, seen := make(map[string][]string), make(map[string]bool)
	for _, api := range []string{"v2", "v3"} {
		t.Run(api, func(t *testing.T) {
			env, shop := newEnvironment(t), moving("shop", 1, api)
			env.serve(layout{merchants: []*merchant{shop}})
			delivered[api] = env.story(shop, func(kind, name string) { seen[kind+" "+name+" "+api] = true })
			calls := 0
			for _, request := range env.received() {
				if strings.HasPrefix(request.Path, "/v3/") == (api == "v3") {
					calls++
				} else {
					t.Errorf("WeChat was asked for %s", request.Path)
				}
			}
			if calls == 0 {
				t.Error("WeChat was not asked")
			}
		})
	}
	if len(delivered["v2"]) != 8 || len(delivered["v3"]) != 8 {
		t.Errorf("over API v2 the order service got %d times, over API v3 %d", len(delivered["v2"]), len(delivered["v3"]))
	}
	for n := range min(len(delivered["v2"]), len(delivered["v3"])) {
		if delivered["v2"][n] != delivered["v3"][n] {
			t.Errorf("line %d, over API v2 and v3:\n%s\n%s", n+1, delivered["v2"][n], delivered["v3"][n])
		}
	}
	for _, d := range differing {
		other := map[string]string{"v2": "v3", "v3": "v2"}[d.api]
		if field := d.kind + " " + d.name + " "; !seen[field+d.api] || seen[field+other] {
			t.Errorf("%s of a %s is not what only %s gives", d.name, d.kind, d.api)
		}
	}
}

// story is what happens in a shop, and what its order service got of it, each
// field of which is seen.
func (env *environment) story(m *merchant, see func(kind, name string)) []string {
	env.t.Helper()
	var log []string
	events := make(map[string]int) // the webhook-ids, in the order in which they came
	listen := func() {
		for _, got := range env.orders.forget() {
			id := got.header.Get("webhook-id")
			if _, known := events[id]; !known {
				events[id] = len(events) + 1
			}
			log = append(log, fmt.Sprintf("%s event %d %s", got.path, events[id], plain(env.t, got.body, see)))
		}
	}
	pay := func(id string, options ...wepaytest.PayOption) *wepaytest.Delivery {
		env.get("get_pay_request_params", m.order3(id))
		env.get("get_pay_request_params", m.order3(id)) // as a client does that lost the answer
		d := env.pay(m, id, options...)
		listen()
		return d
	}
	again := func(d *wepaytest.Delivery) {
		if err := d.Repeat(); err != nil {
			env.t.Fatal(err)
		}
		listen()
	}
	refund := func(order, number string, fee int, status string) {
		request := m.refund(order, number, fee)
		request["notify_url"] = env.site + "/apis/v1/wepay/refund_notify"
		env.get("refund", request)
		if d, err := env.wechat.FinishRefund(m.mchID, number, status); err != nil || !d.Taken() {
			env.t.Fatalf("the refund %s was not taken: %v", number, err)
		}
		listen()
	}

	again(pay("order-1"))
	refund("order-1", "r1", 200, "SUCCESS")
	refund("order-1", "r2", 1000, "CHANGE")
	again(pay("order-2"))
	refund("order-2", "r3", 1200, "REFUNDCLOSE")
	pay("order-3", wepaytest.WithCoupons(
		wepaytest.Coupon{ID: "109519", Type: "CASH", Fee: 60}, wepaytest.Coupon{ID: "109520", Type: "NO_CASH", Fee: 40}))
	return log
}

// given are the values that WeChat gives anew each time.
var given = regexp.MustCompile(`^(transaction_id|refund_id|time_end|success_time)$`)

// plain is a callback's body without what differs by chance, or by the API. A
// field that API v2 has and leaves empty is not there over API v3.
func plain(t *testing.T, body []byte, see func(kind, name string)) string {
	t.Helper()
	var fields map[string]string
	if err := json.Unmarshal(body, &fields); err != nil {
		t.Fatal(err)
	}
	kind := "payment"
	if fields["refund_status"] != "" {
		kind = "refund"
	}
	var all []string
	for _, name := range slices.Sorted(maps.Keys(fields)) {
		value := fields[name]
		see(kind, name)
		differs := false
		for _, d := range differing {
			differs = differs || d.name == name && d.kind == kind
		}
		if differs || value == "" {
			continue
		}
		if given.MatchString(name) {
			value = digit.ReplaceAllString(value, "9")
		}
		all = append(all, name+"="+value)
	}
	return strings.Join(all, " ")
}

var digit = regexp.MustCompile(`[0-9]`)
