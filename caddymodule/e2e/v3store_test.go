package e2e_test

import (
	"context"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"

	"github.com/windsome/caddy-wepay/caddymodule/store"
	"github.com/windsome/caddy-wepay/caddymodule/store/storetest"
	"github.com/windsome/caddy-wepay/wepay/wepaytest"
)

// With a store WeChat hears that a notification of API v3 was taken while the
// order service is away. Of a copy that comes meanwhile nobody hears, and a
// refund waits for its payment.
func TestV3StoreWhileAway(t *testing.T) {
	for _, payload := range []string{"v2", "v3"} {
		t.Run(payload, func(t *testing.T) {
			env, shop := newEnvironment(t), newV3Merchant("shop", 1)
			shop.v3.payload = payload
			env.serve(layout{merchants: []*merchant{shop}, options: env.store()})
			away := make(chan struct{}, 1000)
			env.orders.answers(func(w http.ResponseWriter, _ *http.Request) {
				away <- struct{}{}
				w.WriteHeader(http.StatusBadGateway)
			})
			env.get("get_pay_request_params", shop.order3("order-1"))
			delivery := env.pay(shop, "order-1")
			checkTakenV3(t, delivery)
			<-away
			<-away
			request := shop.refund("order-1", "r-order-1", 200)
			request["notify_url"] = env.site + "/apis/v1/wepay/refund_notify"
			env.get("refund", request)
			checkTakenV3(t, env.finish(shop, "order-1", "SUCCESS"))
			if err := delivery.Repeat(); err != nil {
				t.Fatal(err)
			}
			checkTakenV3(t, delivery)

			if err := env.load(layout{merchants: []*merchant{shop}, options: env.store("workers 3")}); err != nil {
				t.Fatal(err)
			}
			env.orders.forget()
			delivered := env.orders.listen()
			paid, back := await(t, delivered), await(t, delivered)
			got := env.orders.forget()
			if paid == back || len(got) != 2 {
				t.Fatalf("the order service got %d times", len(got))
			}
			mchID, refund := `"mch_id":"`, `"refund_fee":"200"`
			if payload == "v3" {
				mchID, refund = `"mchid":"`, `"refund":200`
			}
			for _, one := range got {
				checkWebhook(t, one)
				if !strings.Contains(string(one.body), mchID+shop.mchID) {
					t.Errorf("the order service got %s", one.body)
				}
			}
			if strings.Contains(string(got[0].body), refund) || !strings.Contains(string(got[1].body), refund) {
				t.Errorf("the order service got the refund first: %s", got[0].body)
			}
		})
	}
}

// What is not to be believed is not stored, and the same event at once is one.
func TestV3StoreTakesWhatIsTrue(t *testing.T) {
	env, shop := newV3Shop(t, "")
	env.patience = redials
	if err := env.load(layout{merchants: []*merchant{shop}, options: env.store(), site: counting}); err != nil {
		t.Fatal(err)
	}
	delivered := env.orders.listen()
	env.get("get_pay_request_params", shop.order3("order-1"))
	d := env.pay(shop, "order-1", wepaytest.Held())
	checkRefusedV3(t, env, env.deliver("pay_notify", d, setting("Wechatpay-Nonce", "another")), http.StatusUnauthorized, "wrong_signature")
	var senders sync.WaitGroup
	for range 20 {
		senders.Go(func() {
			if a := env.deliver("pay_notify", d, nil); a.status != http.StatusNoContent {
				t.Errorf("WeChat hears %d %s", a.status, a.body)
			}
		})
	}
	senders.Wait()
	await(t, delivered)
	if again := env.orders.forget(); len(again) != 1 {
		t.Errorf("delivered %d times", len(again))
	}
}

// A reload in the middle of traffic over API v3 refuses nothing, loses nothing,
// and has no certificates fetched.
func TestV3ReloadUnderTraffic(t *testing.T) {
	env, shop := newV3Shop(t, patient)
	env.patience = redials
	env.awaitKept(shop)
	env.get("get_pay_request_params", shop.order3("order-1"))
	d := env.pay(shop, "order-1", wepaytest.Held())
	var reloaded atomic.Bool
	var notified atomic.Int64
	var callers sync.WaitGroup
	for n := range 3 {
		callers.Go(func() {
			for i := 0; !reloaded.Load() || notified.Load() < 100; i++ {
				a, err := env.send(http.MethodPost, env.site+"/apis/v1/wepay/get_pay_request_params", toJSON(t, shop.order3(fmt.Sprintf("order-%d-%d", n, i))))
				if err != nil || a.Errcode != 0 || a.Result["package"] == "" {
					t.Errorf("order: HTTP %d %s (%v)", a.status, a.body, err)
					return
				}
				header, err := d.Header()
				if err != nil {
					t.Error(err)
					return
				}
				var pairs []string
				for name, values := range header {
					pairs = append(pairs, name, values[0])
				}
				a, err = env.send(http.MethodPost, env.site+"/apis/v1/wepay/pay_notify", string(d.Body()), pairs...)
				if err != nil || a.status != http.StatusNoContent {
					t.Errorf("notification: HTTP %d %s (%v)", a.status, a.body, err)
					return
				}
				notified.Add(1)
			}
		})
	}
	env.reloads(8, shop)
	reloaded.Store(true)
	callers.Wait()
	env.checkAllDelivered(notified.Load())
	if got := env.fetches(); got != 1 {
		t.Errorf("WeChat was asked %d times for certificates", got)
	}
}

// Who combines orders, shares profits or sends money is told of that, too.
func TestV3FurtherKinds(t *testing.T) {
	env, shop := newV3Shop(t, "")
	url := env.site + "/apis/v1/wepay/pay_notify"
	for _, event := range []wepaytest.Event{
		{URL: url, Type: "TRANSACTION.SUCCESS", OriginalType: "transaction", Resource: map[string]any{
			"combine_appid": shop.appID, "combine_mchid": shop.mchID, "combine_out_trade_no": "c1",
			"combine_payer_info": map[string]any{"openid": openID},
			"sub_orders": []any{map[string]any{
				"mchid": shop.mchID, "trade_type": "JSAPI", "trade_state": "SUCCESS", "bank_type": "OTHERS", "out_trade_no": "o1",
				"transaction_id": "4200000001", "success_time": "2026-01-01T00:00:00+08:00",
				"amount": map[string]any{"total_amount": 1, "payer_amount": 1, "currency": "CNY", "payer_currency": "CNY"},
			}},
		}},
		{URL: url, Type: "MCHTRANSFER.BILL.FINISHED", OriginalType: "mch_payment", Resource: map[string]any{
			"mch_id": shop.mchID, "out_bill_no": "b1", "transfer_bill_no": "1330000", "state": "SUCCESS", "transfer_amount": 1, "openid": openID,
		}},
		{URL: url, Type: "TRANSACTION.SUCCESS", OriginalType: "transaction", Resource: map[string]any{
			"mchid": shop.mchID, "transaction_id": "4200000001", "order_id": "3008", "out_order_no": "s1",
			"receiver":     map[string]any{"type": "MERCHANT_ID", "account": "1900000199", "amount": 1, "description": "x"},
			"success_time": "2026-01-01T00:00:00+08:00",
		}},
	} {
		d, err := env.wechat.Notify(shop.mchID, event)
		if err != nil {
			t.Fatal(err)
		}
		checkTakenV3(t, d)
		if got, told := env.deliveredOnce(); told["mch_id"] != shop.mchID || got.path != "/paid/shop" {
			t.Errorf("the order service got %s", got.body)
		}
	}
}

// fullStore is a store in memory that has no room for events.
type fullStore struct {
	*storetest.Memory `json:"-"`
}

func init() { caddy.RegisterModule(fullStore{}) }

func (fullStore) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{ID: "wepay.store.full", New: func() caddy.Module { return &fullStore{storetest.NewMemory()} }}
}

func (fullStore) UnmarshalCaddyfile(*caddyfile.Dispenser) error { return nil }

func (s fullStore) Transact(ctx context.Context, run func(store.Tx) error) error {
	return s.Memory.Transact(ctx, func(tx store.Tx) error { return run(fullTx{tx}) })
}

type fullTx struct{ store.Tx }

func (fullTx) Put(*store.Event) (bool, error) { return false, syscall.ENOSPC }

// While the store cannot store it WeChat hears 503 of a notification of API v3,
// and why in a word, and sends it again.
func TestV3StoreFull(t *testing.T) {
	env, shop := newEnvironment(t), newV3Merchant("shop", 1)
	env.patience = redials
	l := layout{merchants: []*merchant{shop}, options: "store full", site: counting}
	env.serve(l)
	env.get("get_pay_request_params", shop.order3("order-1")) // WeChat is known from now on
	d := env.pay(shop, "order-1", wepaytest.Held())
	for _, route := range []string{"pay_notify", "pay_notify/shop", "refund_notify"} {
		checkRefusedV3(t, env, env.deliver(route, d, nil), http.StatusServiceUnavailable, "not_stored")
	}
	if n := env.counts("shop", "not_stored"); n != 3 {
		t.Errorf("%d are counted", n)
	}
	text, err := os.ReadFile(filepath.Join(env.dir, "caddy.log"))
	if err != nil || !strings.Contains(string(text), syscall.ENOSPC.Error()) {
		t.Errorf("the log does not say why (%v)", err)
	}
	if err := d.Release(); err != nil {
		t.Fatal(err)
	}
	l.options = env.store()
	if err := env.load(l); err != nil {
		t.Fatal(err)
	}
	delivered := env.orders.listen()
	env.clock.Advance(15 * time.Second) // when WeChat sends again
	await(t, delivered)
	checkTakenV3(t, d)
}
