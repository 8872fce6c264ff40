package e2e_test

import (
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/caddyserver/caddy/v2"
)

// What anybody can send is logged once in a minute, by merchant and reason, and then
// how often it came; what WeChat sends is logged each time.
func TestRefusalsAreSampled(t *testing.T) {
	env, shop, other := newEnvironment(t), newMerchant("shop", 1), newMerchant("other", 2)
	env.serve(layout{merchants: []*merchant{shop, other}, site: "\n\twepay {\n\t\tallow 192.0.2.1\n\t}"})
	const times = 20
	for range times {
		for _, m := range []*merchant{shop, other} {
			checkRefused(t, env, env.post("pay_notify", strings.Replace(m.notification(t, "o1"), "1200", "1", 1)), "wrong_signature")
		}
		checkRefused(t, env, env.post("pay_notify", "<xml>"), "malformed")
		if a := env.ask("refund", shop.refund("o1", "r1", 1)); a.status != http.StatusForbidden {
			t.Errorf("HTTP %d %s", a.status, a.body)
		}
	}
	env.orders.answers(replying(http.StatusBadGateway, ""))
	for range times {
		checkRefusedAfterAll(t, env.post("pay_notify", shop.notification(t, "o1")))
	}
	for _, test := range []struct {
		texts []string
		want  int
	}{
		{[]string{`"merchant":"shop"`, `"reason":"wrong_signature"`}, 1},
		{[]string{`"merchant":"other"`, `"reason":"wrong_signature"`}, 1},
		{[]string{`"merchant":""`, `"reason":"malformed"`}, 1},
		{[]string{`"operation":"refund"`, `"errcode":401`}, 1},
		{[]string{`"merchant":"shop"`, `"reason":"not_taken"`}, times},
	} {
		if n := env.logs(append(test.texts, `"level":"warn"`)...); n != test.want {
			t.Errorf("%v is logged %d times, wants %d", test.texts, n, test.want)
		}
		if n := env.logs(append(test.texts, `"level":"debug"`)...); n != times-test.want {
			t.Errorf("%v is logged %d times for who wants to know, wants %d", test.texts, n, times-test.want)
		}
	}
	if err := caddy.Stop(); err != nil {
		t.Fatal(err)
	}
	want := fmt.Sprintf(`{"malformed":%[1]d,"other: wrong_signature":%[1]d,"refund: not allowed":%[1]d,"shop: wrong_signature":%[1]d}`, times-1)
	if n := env.logs("more was refused in the last minute", want); n != 1 {
		t.Errorf("the log does not say how much more there was:\n%s", strings.Join(env.caddyLog(), "\n"))
	}
}

func checkRefusedAfterAll(t *testing.T, a answer) {
	t.Helper()
	if a.body != refused("not_taken") {
		t.Errorf("WeChat hears %s", a.body)
	}
}
