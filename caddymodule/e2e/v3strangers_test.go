package e2e_test

import (
	"fmt"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/windsome/caddy-wepay/wepay/wepaytest"
)

// sixMigrating are merchants with accounts of their own and WeChat Pay's public key,
// at one URL. WeChat has no certificates of them but of the fifth, which it still
// signs with.
func sixMigrating(env *environment) []*merchant {
	var merchants []*merchant
	for n := range 6 {
		m := newV3Merchant(fmt.Sprintf("m%d", n), n+1)
		m.notify, m.v3.mode, m.v3.publicKey = "pay_notify", wepaytest.ByPublicKey, true
		merchants = append(merchants, m)
	}
	merchants[4].v3.mode = wepaytest.ByCertificate
	env.serve(layout{merchants: merchants, site: counting})
	return merchants
}

// stranger sends what somebody made without the APIv3 key, at a time that is now and
// with a serial number at random.
func (env *environment) stranger(route string, d *wepaytest.Delivery) answer {
	env.t.Helper()
	return env.deliver(route, d, func(h http.Header) {
		h.Set("Wechatpay-Serial", fmt.Sprintf("%020X%020X", rand.Uint64(), rand.Uint64()))
	})
}

// Strangers have WeChat asked for nothing and raise no alarm, whatever serial numbers
// they name and whoever they name them to.
func TestFloodOfStrangers(t *testing.T) {
	env := newEnvironment(t)
	old := moving("old", 7, "v2") // cannot ask
	old.form, old.notify, old.v3.mode, old.v3.publicKey = none, "pay_notify", wepaytest.ByPublicKey, true
	env.register(old)
	old.shared = true
	merchants := []*merchant{old}
	for n := range 3 {
		m := newV3Merchant(fmt.Sprintf("m%d", n), n+1)
		m.notify, m.v3.mode, m.v3.publicKey = "pay_notify", wepaytest.ByPublicKey, true
		merchants = append(merchants, m)
	}
	env.serve(layout{merchants: merchants, site: counting})
	d, err := env.wechat.Notify(merchants[1].mchID, wepaytest.Event{
		URL: env.site + "/apis/v1/wepay/pay_notify", Type: "TRANSACTION.SUCCESS", OriginalType: "transaction", Resource: merchants[1].paid3("order-1"),
	}, wepaytest.WithFault(wepaytest.Fault{Kind: wepaytest.WrongKey, Standing: true}), wepaytest.Held())
	if err != nil {
		t.Fatal(err)
	}
	routes := []string{"pay_notify", "pay_notify/old", "pay_notify/m0", "pay_notify/m1", "pay_notify/m2"}
	const each = 20
	var flood sync.WaitGroup
	for _, route := range routes {
		flood.Go(func() {
			for range each {
				checkAnswerV3(t, env.stranger(route, d), http.StatusUnauthorized, "unknown_key")
			}
		})
	}
	flood.Wait()
	if asked := env.fetches(); asked > 0 {
		t.Errorf("WeChat was asked %d times", asked)
	}
	for _, route := range routes {
		_, name, _ := strings.Cut(route, "/")
		if n := env.counts(name, "unknown_key"); n != each {
			t.Errorf("%d are counted at %s", n, route)
		}
	}
	if delivered := env.orders.forget(); len(delivered) > 0 {
		t.Errorf("the order service got %s", delivered[0].body)
	}
}

// What opens with a merchant's APIv3 key has WeChat asked about that merchant's
// account at once, and about no other, as long as it moves to the public key.
func TestMigratingAtOneURL(t *testing.T) {
	env := newEnvironment(t)
	merchants := sixMigrating(env)
	fifth := merchants[4]
	for n := range 3 {
		d := env.paidEvent(fifth, fifth.paid3(fmt.Sprintf("order-%d", n)))
		if err := d.Release(); err != nil {
			t.Fatal(err)
		}
		checkTakenV3(t, d)
		if got, told := env.deliveredOnce(); got.path != "/paid/"+fifth.name || told["mch_id"] != fifth.mchID {
			t.Errorf("%s got %v", got.path, told)
		}
	}
	if got := env.fetches(); got != 1 {
		t.Errorf("WeChat was asked %d times for certificates", got)
	}
	// Whoever has the key has WeChat asked no more often than once in a minute, and
	// signs nothing by it.
	d := env.paidEvent(fifth, fifth.paid3("order-9"))
	for _, route := range []string{"pay_notify", "pay_notify/" + fifth.name} {
		checkRefusedV3(t, env, env.stranger(route, d), http.StatusUnauthorized, "unknown_key")
	}
	checkRefusedV3(t, env, env.deliver("pay_notify", d, setting("Wechatpay-Signature", "AAAA")), http.StatusUnauthorized, "wrong_signature")
	if got := env.fetches(); got != 1 {
		t.Errorf("WeChat was asked %d times for certificates", got)
	}
}

// The signature decides, also about what had WeChat asked.
func TestOpenedIsNotVerified(t *testing.T) {
	env := newEnvironment(t)
	merchants := sixMigrating(env)
	d := env.paidEvent(merchants[4], merchants[4].paid3("order-1"))
	checkRefusedV3(t, env, env.deliver("pay_notify", d, setting("Wechatpay-Signature", "AAAA")), http.StatusUnauthorized, "wrong_signature")
	if got := env.fetches(); got != 1 {
		t.Errorf("WeChat was asked %d times for certificates", got)
	}
}

// A merchant that cannot ask WeChat is told what it lacks, by WeChat's own
// notifications alone.
func TestCannotAskForCertificates(t *testing.T) {
	env := newEnvironment(t)
	old := moving("old", 1, "v2")
	old.form, old.v3.publicKey = none, true // and WeChat signs with a certificate
	env.serve(layout{merchants: []*merchant{old}, site: counting})
	d := env.paidEvent(old, old.paid3("order-1"))
	for _, route := range []string{"pay_notify", "pay_notify/old"} {
		checkRefusedV3(t, env, env.deliver(route, d, nil), http.StatusServiceUnavailable, "no_certificates")
	}
	text, err := os.ReadFile(filepath.Join(env.dir, "caddy.log"))
	if err != nil {
		t.Fatal(err)
	}
	const says = "this needs private_key and mch_serial (or pfx, or cert) in the merchant's configuration"
	if n := strings.Count(string(text), says); n != 2 {
		t.Errorf("the log says %d times what is lacking", n)
	}
	if got := env.fetches(); got > 0 {
		t.Errorf("WeChat was asked %d times for certificates", got)
	}
}

// A refund of API v3 does not say its appid, and where it may be one's or another's
// nobody says it.
func TestRefundOfOneOfTwoApps(t *testing.T) {
	env, shop, mini := newEnvironment(t), newV3Merchant("shop", 1), newV3Merchant("mini", 1)
	env.registers(shop)
	mini.shared, mini.credential, mini.appID, mini.v3.id = true, shop.credential, "wxaabbccddeeff0011", shop.v3.id
	shop.orders, mini.orders = env.orders.URL+"/paid", env.orders.URL+"/paid"
	if err := env.wechat.AddMerchant(wepaytest.Merchant{MchID: mini.mchID, AppIDs: []string{shop.appID, mini.appID}, APIv3Key: mini.v3.key}); err != nil {
		t.Fatal(err)
	}
	env.write("mini key.pem", mini.credential.KeyPEM)
	env.serve(layout{merchants: []*merchant{shop, mini}, site: counting})
	env.get("get_pay_request_params", mini.order3("order-1"))
	env.pay(mini, "order-1", wepaytest.Held())
	for route, want := range map[string]string{"pay_notify": "", "pay_notify/mini": mini.appID} {
		request := mini.refund("order-1", "r-"+strings.ReplaceAll(route, "/", "-"), 200)
		request["notify_url"] = env.site + "/apis/v1/wepay/" + route
		env.get("refund", request)
		d, err := env.wechat.FinishRefund(mini.mchID, request["out_refund_no"].(string), "SUCCESS")
		if err != nil {
			t.Fatal(err)
		}
		checkTakenV3(t, d)
		_, told := env.deliveredOnce()
		appID, said := told["appid"]
		if appID != want || said != (want != "") || told["mch_id"] != mini.mchID || told["refund_fee"] != "200" {
			t.Errorf("at %s the order service got %v", route, told)
		}
	}
}
