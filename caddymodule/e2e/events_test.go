package e2e_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/windsome/caddy-wepay/wepay/wepaytest"
)

// newEvents is an environment with a merchant that has the keys of both APIs and a
// cb_event_url.
func newEvents(t *testing.T, payload, options string) (*environment, *merchant) {
	t.Helper()
	env, shop := newEnvironment(t), moving("shop", 1, "v3")
	shop.events, shop.v3.payload = true, payload
	env.serve(layout{merchants: []*merchant{shop}, options: strings.ReplaceAll(options, "DIR", env.dir), site: counting})
	return env, shop
}

// otherEvents are what WeChat notifies of over API v3 besides money, and what is
// nearly a payment.
func otherEvents(m *merchant) map[string]string {
	return map[string]string{
		"COMPLAINT.CREATE":                    `{"complaint_id":"200201820200101080076610000","action_type":"CREATE_COMPLAINT"}`,
		"ENTRUST.SIGN":                        `{"mchid":"` + m.mchID + `","appid":"` + m.appID + `","contract_id":"1","plan_id":12535,"contract_state":"SIGNED"}`,
		"PAYSCORE.USER_PAID":                  `{"mchid":"` + m.mchID + `","out_order_no":"p1","state":"DONE","collection":{"details":[{"amount":1}]}}`,
		"FAPIAO.ISSUED":                       `{"mchid":"` + m.mchID + `","fapiao_apply_id":"4","apply_time":"2026-01-01T00:00:00+08:00"}`,
		"MCHTRANSFER.AUTHORIZATION.CONFIRMED": `{"mch_id":"` + m.mchID + `","out_authorization_no":"a1","state":"TAKING_EFFECT"}`,
		"TRANSACTION.PAY_BACK":                `{"mchid":"` + m.mchID + `","appid":"` + m.appID + `","out_trade_no":"o1","transaction_id":"42","trade_state":"SUCCESS","amount":{"total":1}}`,
		"TRANSACTION.SUCCESS":                 `{"mchid":"` + m.mchID + `","appid":"` + m.appID + `","out_trade_no":"o1","transaction_id":"42","trade_state":"NOTPAY","amount":{"total":1}}`,
		"REFUND.SUCCESS":                      `{"mchid":"` + m.mchID + `","refund_id":"5","refund_status":"PROCESSING"}`,
		"TOMORROW.LAUNCHED":                   `{"what":"袜子 <&> \u2028","amount":12345678901234567890,"nothing":null}`,
	}
}

func (env *environment) event(m *merchant, route, eventType, resource string, options ...wepaytest.PayOption) *wepaytest.Delivery {
	env.t.Helper()
	d, err := env.wechat.Notify(m.mchID, wepaytest.Event{
		URL: env.site + "/apis/v1/wepay/" + route, Type: eventType, OriginalType: "x", Summary: "通知", Resource: json.RawMessage(resource),
	}, options...)
	if err != nil {
		env.t.Fatal(err)
	}
	return d
}

// Whatever WeChat signs arrives at cb_event_url as WeChat wrote it and never where
// payments do, with a store and without one, whatever its name.
func TestEveryEventArrives(t *testing.T) {
	for name, test := range map[string]struct{ payload, options string }{
		"":                             {"v2", ""},
		"with API v3's words":          {"v3", ""},
		"with a store":                 {"v2", "store sqlite DIR/events.db"},
		"with a store and v3's words ": {"v3", "store sqlite DIR/events.db"},
	} {
		t.Run(name, func(t *testing.T) {
			env, shop := newEvents(t, test.payload, test.options)
			delivered := env.orders.listen()
			for eventType, resource := range otherEvents(shop) {
				d := env.event(shop, "pay_notify", eventType, resource)
				checkTakenV3(t, d)
				await(t, delivered)
				first := checkEvent(t, env, shop, eventType, resource)
				if err := d.Repeat(); err != nil {
					t.Fatal(err)
				}
				checkTakenV3(t, d)
				if test.options == "" { // else it is known
					await(t, delivered)
					if again := checkEvent(t, env, shop, eventType, resource); again != first {
						t.Errorf("%s: it is %s and %s", eventType, first, again)
					}
				}
			}
			if n, want := env.counts("shop", "taken"), 2*len(otherEvents(shop)); n != want {
				t.Errorf("%d are counted, want %d", n, want)
			}
		})
	}
}

// checkEvent looks at the one event that the order service got, and returns its
// webhook-id.
func checkEvent(t *testing.T, env *environment, m *merchant, eventType, body string) string {
	t.Helper()
	all := env.orders.forget()
	if len(all) != 1 {
		t.Fatalf("%s: the order service got %d times", eventType, len(all))
	}
	got := all[0]
	checkWebhook(t, got)
	if got.path != "/events/"+m.name || body != "" && string(got.body) != body {
		t.Errorf("%s got %s\nwant %s", got.path, got.body, body)
	}
	checkHeaders(t, got, m, eventType)
	return got.header.Get("webhook-id")
}

func checkHeaders(t *testing.T, got callback, m *merchant, eventType string) {
	t.Helper()
	for name, want := range map[string]string{"wepay-event": eventType, "wepay-merchant": m.name, "wepay-source": "notify"} {
		if all := got.header.Values(name); len(all) != 1 || all[0] != want {
			t.Errorf("%s is %q, want %q", name, all, want)
		}
	}
}

// What is odd about an event that WeChat signed does not keep it from arriving, with a
// store or without one. Its name is left out where no header can carry it.
func TestOddEventsArrive(t *testing.T) {
	for _, options := range []string{"", "store sqlite DIR/events.db"} {
		env, shop := newEvents(t, "v3", options)
		delivered := env.orders.listen()
		const complaint = `{"complaint_id":"1"}`
		for name, test := range map[string]struct {
			path, event, resource, header string
			value                         any
		}{
			"a name with a blank": {"summary", "A B", complaint, "A%20B", "x"},
			"a Chinese name":      {"summary", "投诉", complaint, "%E6%8A%95%E8%AF%89", "x"},
			"a long name":         {"summary", strings.Repeat("X", 129), complaint, "UNKNOWN", "x"},
			"no name":             {"event_type", "x", complaint, "UNKNOWN", nil},
			"another form":        {"resource_type", "COMPLAINT.CREATE", complaint, "COMPLAINT.CREATE", "secret-resource"},
			"an array":            {"summary", "COMPLAINT.CREATE", `["a",{"b":1}]`, "COMPLAINT.CREATE", "x"},
			"a text":              {"summary", "COMPLAINT.CREATE", `"text"`, "COMPLAINT.CREATE", "x"},
			"a number":            {"summary", "COMPLAINT.CREATE", `17`, "COMPLAINT.CREATE", "x"},
		} {
			d := env.event(shop, "pay_notify", test.event, test.resource, wepaytest.WithEnvelope(test.path, test.value))
			if attempts := d.Attempts(); len(attempts) != 1 || attempts[0].Status != http.StatusNoContent {
				t.Fatalf("%s: WeChat got %+v", name, attempts)
			}
			await(t, delivered)
			checkEvent(t, env, shop, test.header, test.resource)
		}
		if err := env.unload(); err != nil {
			t.Fatal(err)
		}
	}
}

// What WeChat signed and nobody can read is told by a word of its own.
func TestUnreadableEvents(t *testing.T) {
	env, shop := newEvents(t, "v3", "")
	env.event(shop, "pay_notify", "SECURITY_ECHO.SUCCESS", `{}`) // has the certificates fetched
	for _, spoilt := range []wepaytest.PayOption{
		wepaytest.WithEnvelope("resource", nil), wepaytest.WithEnvelope("resource.algorithm", "AEAD_SM4_GCM"), wepaytest.WithEnvelope("resource.ciphertext", ""),
	} {
		d := env.event(shop, "pay_notify", "COMPLAINT.CREATE", `{}`, spoilt, wepaytest.Held())
		checkRefusedV3(t, env, env.deliver("pay_notify", d, nil), http.StatusBadRequest, "unreadable")
	}
	if n := env.counts("shop", "unreadable"); n != 3 {
		t.Errorf("%d are counted", n)
	}
}

// Over API v2 a contract's notice arrives, too, with an appid or without.
func TestContractArrives(t *testing.T) {
	for _, options := range []string{"", "store sqlite DIR/events.db"} {
		env, shop := newEvents(t, "v2", options)
		delivered := env.orders.listen()
		ids := make(map[string]bool)
		for change, eventType := range map[string]string{wepaytest.ContractSigned: "ENTRUST.SIGN", wepaytest.ContractEnded: "ENTRUST.TERMINATE"} {
			for _, appID := range []string{"", shop.appID} {
				contract := wepaytest.Contract{URL: env.site + "/apis/v1/wepay/pay_notify/shop", ID: "Wx" + change + appID, Code: "C1", PlanID: "123", AppID: appID}
				d, err := env.wechat.NotifyContract(shop.mchID, contract, change)
				if err != nil {
					t.Fatal(err)
				}
				checkTaken(t, d)
				await(t, delivered)
				var fields map[string]string
				all := env.orders.forget()
				if err := json.Unmarshal(all[0].body, &fields); err != nil {
					t.Fatal(err)
				}
				checkFields(t, fields, map[string]string{"change_type": change, "contract_id": contract.ID, "plan_id": "123", "appid": appID})
				checkHeaders(t, all[0], shop, eventType)
				ids[all[0].header.Get("webhook-id")] = all[0].path == "/events/shop"
			}
		}
		if len(ids) != 4 {
			t.Errorf("there are %d events, want 4", len(ids))
		}
		for id, there := range ids {
			if !there {
				t.Errorf("%s went elsewhere", id)
			}
		}
		if err := env.unload(); err != nil {
			t.Fatal(err)
		}
	}
}

// A shop without a cb_event_url is told by the log, the metric and WeChat's repeats
// what it misses. Nothing goes where payments do.
func TestNoEventURL(t *testing.T) {
	env, shop := newEnvironment(t), moving("shop", 1, "v3")
	for _, options := range []string{"", "store sqlite " + env.dir + "/events.db"} {
		l := layout{merchants: []*merchant{shop}, options: options, site: counting}
		if options == "" {
			env.serve(l)
		} else if err := env.load(l); err != nil {
			t.Fatal(err)
		}
		env.awaitKept(shop)
		env.patience = redials
		d := env.event(shop, "pay_notify", "COMPLAINT.CREATE", `{"complaint_id":"1"}`, wepaytest.Held())
		checkRefusedV3(t, env, env.deliver("pay_notify", d, nil), http.StatusInternalServerError, "no_cb_event_url")
		contract, err := env.wechat.NotifyContract(shop.mchID, wepaytest.Contract{URL: env.site, ID: "Wx1"}, wepaytest.ContractSigned, wepaytest.Held())
		if err != nil {
			t.Fatal(err)
		}
		checkRefused(t, env, env.post("pay_notify", string(contract.Body()), "Content-Type", "text/xml"), "no_cb_event_url")
		unpaid := env.event(shop, "pay_notify", "TRANSACTION.SUCCESS", otherEvents(shop)["TRANSACTION.SUCCESS"], wepaytest.Held())
		checkRefusedV3(t, env, env.deliver("pay_notify", unpaid, nil), http.StatusInternalServerError, "no_cb_event_url")
		if n := env.counts("shop", "no_cb_event_url"); n != 3 {
			t.Errorf("%d are counted", n)
		}
	}
	text, err := os.ReadFile(filepath.Join(env.dir, "caddy.log"))
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"event_type COMPLAINT.CREATE", "event_type ENTRUST.SIGN", "event_type TRANSACTION.SUCCESS, but "} {
		if !strings.Contains(string(text), want) {
			t.Errorf("the log does not say %q", want)
		}
	}
}

// WeChat's own test of the way is answered 204 whoever has a cb_event_url, is told in
// the log, and goes nowhere.
func TestSecurityEchoNotification(t *testing.T) {
	env, shop, page := newEnvironment(t), newV3Merchant("shop", 1), newV3Merchant("page", 1)
	page.appID, page.shared, page.events = "wxaabbccddeeff0011", true, true
	mini := *page
	mini.name, mini.appID, mini.env = "mini", "wxaabbccddeeff0022", "APP"
	env.register(shop)
	shop.shared, page.credential, mini.credential = true, shop.credential, shop.credential
	env.write("page key.pem", shop.credential.KeyPEM)
	env.write("mini key.pem", shop.credential.KeyPEM)
	env.serve(layout{merchants: []*merchant{shop, page, &mini}, site: counting})
	const resource = `{"echo_message":"hello","encrypt_echo_message":"AAAA"}`
	bare := wepaytest.WithEnvelope("resource", nil)
	checkTakenV3(t, env.event(shop, "pay_notify", "SECURITY_ECHO.SUCCESS", resource))
	checkTakenV3(t, env.event(shop, "pay_notify/mini", "SECURITY_ECHO.SUCCESS", resource))
	checkTakenV3(t, env.event(shop, "pay_notify", "SECURITY_ECHO.SUCCESS", resource, bare))
	checkTakenV3(t, env.event(shop, "pay_notify/mini", "SECURITY_ECHO.SUCCESS", resource, bare))
	forged := env.event(shop, "pay_notify", "SECURITY_ECHO.SUCCESS", resource, wepaytest.Held())
	checkRefusedV3(t, env, env.deliver("pay_notify", forged, setting("Wechatpay-Nonce", "another")), http.StatusUnauthorized, "wrong_signature")
	if got := env.orders.forget(); len(got) > 0 {
		t.Errorf("the order service got %s", got[0].body)
	}
	if n := env.counts("shop", "echo") + env.counts("mini", "echo"); n != 4 {
		t.Errorf("%d are counted", n)
	}
	text, err := os.ReadFile(filepath.Join(env.dir, "caddy.log"))
	if err != nil {
		t.Fatal(err)
	}
	told := 0
	for line := range strings.Lines(string(text)) {
		if strings.Contains(line, "SECURITY_ECHO.SUCCESS") && strings.Contains(line, `"level":"info"`) {
			told++
		}
	}
	if told != 4 || !strings.Contains(string(text), "cannot be told from one of merchant") {
		t.Errorf("the log tells of it %d times", told)
	}
	// What does matter for whom it is goes to none of the two.
	d := env.event(shop, "pay_notify", "COMPLAINT.CREATE", `{"complaint_id":"1"}`, wepaytest.Held())
	checkRefusedV3(t, env, env.deliver("pay_notify", d, nil), http.StatusNotFound, "foreign")
	if a := env.deliver("pay_notify/mini", d, nil); a.status != http.StatusNoContent {
		t.Errorf("by a name: HTTP %d %s", a.status, a.body)
	}
	checkEvent(t, env, &mini, "COMPLAINT.CREATE", `{"complaint_id":"1"}`)
}

// One cb_event_url is enough for all entries of an account.
func TestOneEventURL(t *testing.T) {
	env, shop, page := newEnvironment(t), newV3Merchant("shop", 1), newV3Merchant("page", 1)
	page.appID, page.shared, page.events = "wxaabbccddeeff0011", true, true
	env.register(shop)
	shop.shared, page.credential = true, shop.credential
	env.write("page key.pem", shop.credential.KeyPEM)
	env.serve(layout{merchants: []*merchant{shop, page}, site: counting})
	checkTakenV3(t, env.event(shop, "pay_notify", "COMPLAINT.CREATE", `{"complaint_id":"1"}`))
	checkEvent(t, env, page, "COMPLAINT.CREATE", `{"complaint_id":"1"}`)
}

// A payment says which event it was as well, whichever API told of it and in whose
// words it goes on; one from abroad has all that there is to know.
func TestPaymentHeaders(t *testing.T) {
	for _, test := range []struct{ api, payload string }{{"v2", "v2"}, {"v3", "v2"}, {"v3", "v3"}} {
		t.Run(test.api+" as "+test.payload, func(t *testing.T) {
			env, shop := newEnvironment(t), moving("shop", 1, test.api)
			shop.v3.payload = test.payload
			env.serve(layout{merchants: []*merchant{shop}, site: counting})
			for i, options := range [][]wepaytest.PayOption{nil, {wepaytest.Abroad("HKD", 92_000_000)}} {
				id := fmt.Sprintf("order-%d", i)
				env.get("get_pay_request_params", shop.order3(id))
				env.pay(shop, id, options...)
				all := env.orders.forget()
				if len(all) != 1 || all[0].path != "/paid/shop" {
					t.Fatalf("the order service got %d times", len(all))
				}
				checkHeaders(t, all[0], shop, "TRANSACTION.SUCCESS")
				if test.payload == "v3" || options == nil {
					continue
				}
				var fields map[string]string
				if err := json.Unmarshal(all[0].body, &fields); err != nil {
					t.Fatal(err)
				}
				checkFields(t, fields, map[string]string{
					"total_fee": "1200", "fee_type": "HKD", "cash_fee": "1104", "cash_fee_type": "CNY", "rate_value": "92000000", "result_code": "SUCCESS",
				})
				if !strings.HasPrefix(fields["transaction_id"], "42") {
					t.Errorf("its transaction_id is %q", fields["transaction_id"])
				}
			}
			request := shop.refund("order-0", "r-order-0", 200)
			request["notify_url"] = env.site + "/apis/v1/wepay/refund_notify"
			env.get("refund", request)
			env.finish(shop, "order-0", wepaytest.RefundSuccess)
			all := env.orders.forget()
			if len(all) != 1 {
				t.Fatalf("the order service got %d times", len(all))
			}
			checkHeaders(t, all[0], shop, "REFUND.SUCCESS")
		})
	}
}
