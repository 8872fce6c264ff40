package caddymodule_test

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
func sixMigrating(w *world) []*seller {
	var sellers []*seller
	for n := range 6 {
		s := newV3Seller(fmt.Sprintf("m%d", n), n+1)
		s.notify, s.v3.mode, s.v3.publicKey = "pay_notify", wepaytest.ByPublicKey, true
		sellers = append(sellers, s)
	}
	sellers[4].v3.mode = wepaytest.ByCertificate
	w.serve(layout{sellers: sellers, site: counting})
	return sellers
}

// stranger sends what somebody made without the APIv3 key, at a time that is now and
// with a serial number at random.
func (w *world) stranger(route string, d *wepaytest.Delivery) answer {
	w.t.Helper()
	return w.deliver(route, d, func(h http.Header) {
		h.Set("Wechatpay-Serial", fmt.Sprintf("%020X%020X", rand.Uint64(), rand.Uint64()))
	})
}

// Strangers have WeChat asked for nothing and raise no alarm, whatever serial numbers
// they name and whoever they name them to.
func TestFloodOfStrangers(t *testing.T) {
	w := newWorld(t)
	old := moving("old", 7, "v2") // cannot ask
	old.form, old.notify, old.v3.mode, old.v3.publicKey = none, "pay_notify", wepaytest.ByPublicKey, true
	w.register(old)
	old.shared = true
	sellers := []*seller{old}
	for n := range 3 {
		s := newV3Seller(fmt.Sprintf("m%d", n), n+1)
		s.notify, s.v3.mode, s.v3.publicKey = "pay_notify", wepaytest.ByPublicKey, true
		sellers = append(sellers, s)
	}
	w.serve(layout{sellers: sellers, site: counting})
	d, err := w.wechat.Notify(sellers[1].mchID, wepaytest.Event{
		URL: w.site + "/apis/v1/wepay/pay_notify", Type: "TRANSACTION.SUCCESS", OriginalType: "transaction", Resource: sellers[1].paid3("order-1"),
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
				checkAnswerV3(t, w.stranger(route, d), http.StatusUnauthorized, "unknown_key")
			}
		})
	}
	flood.Wait()
	if asked := w.fetches(); asked > 0 {
		t.Errorf("WeChat was asked %d times", asked)
	}
	for _, route := range routes {
		_, name, _ := strings.Cut(route, "/")
		if n := w.counts(name, "unknown_key"); n != each {
			t.Errorf("%d are counted at %s", n, route)
		}
	}
	if heard := w.orders.forget(); len(heard) > 0 {
		t.Errorf("the order service heard %s", heard[0].body)
	}
}

// What opens with a merchant's APIv3 key has WeChat asked about that merchant's
// account at once, and about no other, as long as it moves to the public key.
func TestMigratingAtOneURL(t *testing.T) {
	w := newWorld(t)
	sellers := sixMigrating(w)
	fifth := sellers[4]
	for n := range 3 {
		d := w.paidEvent(fifth, fifth.paid3(fmt.Sprintf("order-%d", n)))
		if err := d.Release(); err != nil {
			t.Fatal(err)
		}
		checkTakenV3(t, d)
		if got, told := w.heardOnce(); got.path != "/paid/"+fifth.name || told["mch_id"] != fifth.mchID {
			t.Errorf("%s heard %v", got.path, told)
		}
	}
	if got := w.fetches(); got != 1 {
		t.Errorf("WeChat was asked %d times for certificates", got)
	}
	// Whoever has the key has WeChat asked no more often than once in a minute, and
	// signs nothing by it.
	d := w.paidEvent(fifth, fifth.paid3("order-9"))
	for _, route := range []string{"pay_notify", "pay_notify/" + fifth.name} {
		checkRefusedV3(t, w, w.stranger(route, d), http.StatusUnauthorized, "unknown_key")
	}
	checkRefusedV3(t, w, w.deliver("pay_notify", d, setting("Wechatpay-Signature", "AAAA")), http.StatusUnauthorized, "wrong_signature")
	if got := w.fetches(); got != 1 {
		t.Errorf("WeChat was asked %d times for certificates", got)
	}
}

// The signature decides, also about what had WeChat asked.
func TestOpenedIsNotVerified(t *testing.T) {
	w := newWorld(t)
	sellers := sixMigrating(w)
	d := w.paidEvent(sellers[4], sellers[4].paid3("order-1"))
	checkRefusedV3(t, w, w.deliver("pay_notify", d, setting("Wechatpay-Signature", "AAAA")), http.StatusUnauthorized, "wrong_signature")
	if got := w.fetches(); got != 1 {
		t.Errorf("WeChat was asked %d times for certificates", got)
	}
}

// A merchant that cannot ask WeChat is told what it lacks, by WeChat's own
// notifications alone.
func TestCannotAskForCertificates(t *testing.T) {
	w := newWorld(t)
	old := moving("old", 1, "v2")
	old.form, old.v3.publicKey = none, true // and WeChat signs with a certificate
	w.serve(layout{sellers: []*seller{old}, site: counting})
	d := w.paidEvent(old, old.paid3("order-1"))
	for _, route := range []string{"pay_notify", "pay_notify/old"} {
		checkRefusedV3(t, w, w.deliver(route, d, nil), http.StatusServiceUnavailable, "no_certificates")
	}
	text, err := os.ReadFile(filepath.Join(w.dir, "caddy.log"))
	if err != nil {
		t.Fatal(err)
	}
	const says = "this needs private_key and mch_serial (or pfx, or cert) in the merchant's configuration"
	if n := strings.Count(string(text), says); n != 2 {
		t.Errorf("the log says %d times what is lacking", n)
	}
	if got := w.fetches(); got > 0 {
		t.Errorf("WeChat was asked %d times for certificates", got)
	}
}

// A refund of API v3 does not say its appid, and where it may be one's or another's
// nobody says it.
func TestRefundOfOneOfTwoApps(t *testing.T) {
	w, shop, mini := newWorld(t), newV3Seller("shop", 1), newV3Seller("mini", 1)
	w.registers(shop)
	mini.shared, mini.credential, mini.appID, mini.v3.id = true, shop.credential, "wxaabbccddeeff0011", shop.v3.id
	shop.orders, mini.orders = w.orders.URL+"/paid", w.orders.URL+"/paid"
	if err := w.wechat.AddMerchant(wepaytest.Merchant{MchID: mini.mchID, AppIDs: []string{shop.appID, mini.appID}, APIv3Key: mini.v3.key}); err != nil {
		t.Fatal(err)
	}
	w.write("mini key.pem", mini.credential.KeyPEM)
	w.serve(layout{sellers: []*seller{shop, mini}, site: counting})
	w.get("get_pay_request_params", mini.order3("order-1"))
	w.pay(mini, "order-1", wepaytest.Held())
	for route, want := range map[string]string{"pay_notify": "", "pay_notify/mini": mini.appID} {
		request := mini.refund("order-1", "r-"+strings.ReplaceAll(route, "/", "-"), 200)
		request["notify_url"] = w.site + "/apis/v1/wepay/" + route
		w.get("refund", request)
		d, err := w.wechat.FinishRefund(mini.mchID, request["out_refund_no"].(string), "SUCCESS")
		if err != nil {
			t.Fatal(err)
		}
		checkTakenV3(t, d)
		_, told := w.heardOnce()
		appID, said := told["appid"]
		if appID != want || said != (want != "") || told["mch_id"] != mini.mchID || told["refund_fee"] != "200" {
			t.Errorf("at %s the order service heard %v", route, told)
		}
	}
}
