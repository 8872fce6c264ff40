package e2e_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"

	"github.com/windsome/caddy-wepay/caddymodule/internal/dbtest"
	"github.com/windsome/caddy-wepay/caddymodule/store"
	"github.com/windsome/caddy-wepay/caddymodule/store/storetest"
	"github.com/windsome/caddy-wepay/wepay/wepaytest"
)

// lockedStore is a store in memory that takes no orders while it is locked.
type lockedStore struct {
	*storetest.Memory `json:"-"`
}

var lockedBy atomic.Pointer[error] // nil: it is open

func init() { caddy.RegisterModule(lockedStore{}) }

func (lockedStore) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{ID: "wepay.store.locked", New: func() caddy.Module { return &lockedStore{storetest.NewMemory()} }}
}

func (lockedStore) UnmarshalCaddyfile(*caddyfile.Dispenser) error { return nil }

func (s lockedStore) Transact(ctx context.Context, run func(store.Tx) error) error {
	if err := lockedBy.Load(); err != nil {
		if *err == nil { // it answers nothing at all
			<-ctx.Done()
			return ctx.Err()
		}
		return *err
	}
	return s.Memory.Transact(ctx, run)
}

// What cannot be recorded is not sent: the caller may ask again, and WeChat hears of
// it when the store is back. A notification is not acknowledged meanwhile.
func TestUnrecordedIsNotPlaced(t *testing.T) {
	for kind := range followed {
		t.Run(kind, func(t *testing.T) {
			env, shop := newEnvironment(t), newFollower(kind)
			l := env.stalls(stall{shop, []string{"payouts"}})
			l.options += "store locked" + asksSoon
			env.serve(l)
			env.deposit(shop)
			told := env.orders.listen()
			env.get("get_pay_request_params", shop.order3("order-1"))
			lockedBy.Store(nil)
			defer lockedBy.Store(nil)
			requests := map[string]map[string]any{
				"get_pay_request_params": shop.order3("order-2"), "refund": shop.refund("order-1", "refund-1", 1), "micropay": charge(env, "order-3"),
				"transfer": transferV3(),
			}
			if kind == "API v2" {
				requests["transfer"] = payout("t1")
			}
			held := env.pay(shop, "order-1", wepaytest.Held())
			for _, cause := range []error{syscall.ENOSPC, syscall.EROFS, store.ErrClosed, errors.New("connection refused"), nil} {
				lockedBy.Store(&cause)
				before := len(env.received())
				for route, request := range requests {
					a := env.try(route, request)
					if a.Errcode != 40000 || a.Verdict != "AGAIN" || !strings.Contains(a.XOrigMsg, "recording it in the store") && cause != nil {
						t.Errorf("%s: HTTP %d %s", route, a.status, a.body)
					}
					if cause == nil {
						break // each takes its time
					}
				}
				for _, got := range env.received()[before:] {
					if got.Path != "/pay/orderquery" && !strings.HasPrefix(got.Path, "/v3/pay/transactions/out-trade-no/") {
						t.Errorf("%v: WeChat got %s", cause, got.Path)
					}
				}
			}
			if err := held.Release(); err != nil || held.Taken() {
				t.Errorf("the notification is taken (%v)", err)
			}
			lockedBy.Store(nil)
			if err := held.Repeat(); err != nil || !held.Taken() {
				t.Errorf("the notification is not taken (%v)", err)
			}
			await(t, told)
			for _, route := range []string{"get_pay_request_params", "refund", "micropay", "transfer"} {
				if a := env.try(route, requests[route]); a.Errcode != 0 {
					t.Errorf("%s: HTTP %d %s", route, a.status, a.body)
				}
			}
		})
	}
}

// While WeChat is down, or is asked too much, nobody is told anything that is not so,
// and afterwards everything.
func TestAskingWhileWeChatIsAway(t *testing.T) {
	for name, fault := range map[string]wepaytest.Fault{"down": wepaytest.Outage(0), "asked too much": wepaytest.RateLimit(0)} {
		t.Run(name, func(t *testing.T) {
			for _, kind := range []string{"API v2", "API v3"} {
				env, shop := newFollowedServer(t, kind)
				env.wechat.LoseNotifications(1, 0)
				const orders = 12
				for n := range orders {
					env.get("get_pay_request_params", shop.order3(fmt.Sprintf("order-%d", n)))
					if n%3 > 0 {
						env.pay(shop, fmt.Sprintf("order-%d", n))
					}
				}
				env.orders.forget()
				env.wechat.Misbehave("", fault)
				before := len(env.received())
				env.until("WeChat is asked in vain", func() bool { return len(env.received())-before >= 3 })
				began := time.Now()
				env.until("4 s go by", func() bool { return time.Since(began) > 4*time.Second })
				// Some were asked about at once, and then one at a time, after 1 s, 2 s, 4 s.
				if n := len(env.received()) - before; n > 2*orders {
					t.Errorf("WeChat is asked %d times", n)
				}
				env.wechat.Behave("")
				for n := range orders {
					if n%3 > 0 {
						env.awaitState(fmt.Sprintf("order-%d", n), "paid")
					} else if s := env.state(fmt.Sprintf("order-%d", n)); s.State == "paid" || len(s.Events) > 0 {
						t.Errorf("got %+v", s)
					}
				}
				if n := env.logs(`"level":"error"`); n > 0 {
					t.Errorf("the log has %d errors", n)
				}
			}
		})
	}
}

// newFollowedServer is newFollowed with a Caddy of its own.
func newFollowedServer(t *testing.T, kind string) (*environment, *merchant) {
	t.Helper()
	env, shop := newEnvironment(t), newFollower(kind)
	env.write("Caddyfile", []byte(env.caddyfile(env.followed(stall{shop, nil}))))
	env.runCaddy(filepath.Join(env.dir, "Caddyfile"))
	return env, shop
}

// Orders are asked about in spite of reloads, and once each.
func TestAskingDuringReloads(t *testing.T) {
	for kind := range followed {
		t.Run(kind, func(t *testing.T) {
			env, shop := newFollowed(t, kind)
			env.wechat.LoseNotifications(1, 0)
			l := env.followed(stall{shop, nil})
			const orders = 40
			for n := range orders {
				id := fmt.Sprintf("order-%d", n)
				env.get("get_pay_request_params", shop.order3(id))
				env.pay(shop, id)
				if n%8 == 0 {
					l.options = strings.Replace(l.options, "retry 50ms", fmt.Sprintf("workers %d\n\tretry 50ms", n+2), 1)
					if err := env.load(l); err != nil {
						t.Fatal(err)
					}
					l.options = strings.Replace(l.options, fmt.Sprintf("workers %d\n\t", n+2), "", 1)
				}
				env.state(id) // works at any time
			}
			told := make(map[string]bool)
			for n := range orders {
				env.awaitRest(fmt.Sprintf("order-%d", n))
			}
			for _, got := range env.orders.forget() {
				id := got.header.Get("webhook-id")
				if told[id] {
					t.Errorf("%s is told again", id)
				}
				told[id] = true
			}
			if len(told) != orders {
				t.Errorf("%d are told", len(told))
			}
		})
	}
}

// The store's server goes away and comes back: nothing is asked meanwhile, orders are
// refused, and it goes on by itself.
func TestAskingWhileStoreIsAway(t *testing.T) {
	server := dbtest.StartPostgres(t)
	env, shop := newEnvironment(t), newFollower("API v3")
	env.wechat.LoseNotifications(1, 0)
	l := env.stalls(stall{shop, nil})
	l.options += fmt.Sprintf("store postgres %q", server.NewDSN(t)) + asksSoon
	env.serve(l)
	told := env.orders.listen()
	env.get("get_pay_request_params", shop.order3("order-1"))
	server.Restart(t, func() {
		before := len(env.received())
		env.pay(shop, "order-1")
		if a := env.try("get_pay_request_params", shop.order3("order-2")); a.Errcode != 40000 || a.Verdict != "AGAIN" {
			t.Errorf("HTTP %d %s", a.status, a.body)
		}
		env.until("the log says so", func() bool { return env.logs(`"level":"error"`, "looking for orders to ask about fails") == 1 })
		if got := env.received()[before:]; len(got) > 1 { // an order that was claimed before
			t.Errorf("WeChat got %d requests", len(got))
		}
	})
	await(t, told)
	env.get("get_pay_request_params", shop.order3("order-2"))
	env.pay(shop, "order-2")
	await(t, told)
	if env.logs("orders are looked for again") != 1 {
		t.Error("the log does not say that it goes on")
	}
}

// Of whom the orders are is neither in the store's files nor in the log.
func TestNothingPersonal(t *testing.T) {
	env, shop := newEnvironment(t), newFollower("API v3")
	l := env.followed(stall{shop, []string{"payouts"}})
	env.serve(l)
	env.deposit(shop)
	env.wechat.NamePayee(openID, "张三")
	const code, person = "134567890123456789", "43102119910910512X"
	env.get("get_pay_request_params", with(shop.order3("order-1"), "user_type", "IDCARD", "user_creid", person, "user_truename", "张三"))
	env.get("micropay", map[string]any{"out_trade_no": "order-2", "auth_code": code, "total_fee": 1, "body": "茶"})
	env.get("refund", map[string]any{"out_trade_no": "order-2", "out_refund_no": "refund-2", "total_fee": 1, "refund_fee": 1})
	transfer := transferV3()
	transfer["check_name"], transfer["re_user_name"] = "FORCE_CHECK", "张三"
	env.get("transfer", transfer)
	env.try("get_pay_request_params", with(shop.order3("order-3"), "openid", openID+"\x00"))
	env.state("order-1", "fresh", "true")
	env.awaitState("order-2", "refunding")
	if err := env.unload(); err != nil {
		t.Fatal(err)
	}
	files, err := filepath.Glob(filepath.Join(env.dir, "events.db*"))
	if err != nil || len(files) == 0 {
		t.Fatal(files, err)
	}
	for _, file := range append(files, filepath.Join(env.dir, "caddy.log")) {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if len(text) == 0 {
			t.Errorf("%s is empty", file)
		}
		for _, secret := range []string{openID, code, person, "张三", "o-payer", shop.key, shop.v3.key} {
			if strings.Contains(string(text), secret) {
				t.Errorf("%s has %s in it", filepath.Base(file), secret)
			}
		}
	}
}

// Who may ask for the state of an order, what for, and what comes of it.
func TestOrderState(t *testing.T) {
	env := newEnvironment(t)
	shop, mini, partner := newFollower("API v2"), newMerchant("mini", 2), newMerchant("partner", 3)
	partner.env, partner.subMchID, partner.subAppID = "WXAPP", subFirst, appFirst
	token := strings.Repeat("t0k3n", 8)
	l := env.followed(stall{shop, nil}, stall{mini, nil}, stall{partner, nil})
	l.site = "\twepay {\n\t\ttoken " + token + "\n\t}\n\trespond \"the rest of the site\""
	l.options = strings.Replace(l.options, "schedule 1s 1s 2s", "schedule 1h", 1)
	env.serve(l)
	ask := func(route string, request map[string]any, errcode int, says string) string {
		t.Helper()
		req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, env.site+"/apis/v1/wepay/"+route, strings.NewReader(toJSON(t, request)))
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Authorization", "Bearer "+token)
		resp, err := env.web.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		text, err := io.ReadAll(resp.Body)
		if err != nil || !strings.Contains(string(text), fmt.Sprintf(`"errcode":%d,`, errcode)) || !strings.Contains(string(text), says) {
			t.Errorf("%s %v: %s (%v), want %d and %s", route, request, text, err, errcode, says)
		}
		return string(text)
	}
	for _, m := range []*merchant{shop, mini, partner} {
		order := m.order3("order-1")
		order["fee"] = map[*merchant]int{shop: 1200, mini: 1300, partner: 1400}[m]
		ask("get_pay_request_params", order, 0, "")
	}
	if a := env.post("order_state", `{"out_trade_no":"order-1"}`); a.status != http.StatusUnauthorized || strings.Contains(a.body, "1200") {
		t.Errorf("without a token: HTTP %d %s", a.status, a.body)
	}
	type object = map[string]any
	const unknown = "out_trade_no: no such order was placed here"
	for _, test := range []struct {
		request object
		errcode int
		says    string
	}{
		{object{"out_trade_no": "order-1"}, 0, `"total_fee":1200`},
		{object{"out_trade_no": "order-1", "merchant": "mini"}, 0, `"total_fee":1300`},
		{object{"out_trade_no": "order-1", "merchant": "partner"}, 0, `"total_fee":1400`},
		{object{"out_trade_no": "order-1", "merchant": "partner", "sub_mch_id": subFirst}, 0, `"sub_mch_id":"` + subFirst + `"`},
		{object{"out_trade_no": "order-1", "fresh": true}, 0, `"asked":1`},
		{object{"out_trade_no": "order-1", "fresh": "false"}, 0, `"asked":1`},
		{object{"out_trade_no": "order-1", "fresh": 1}, 40003, "fresh"},
		{object{"out_trade_no": "order-2"}, 40003, unknown},
		{object{"out_trade_no": "order-2", "fresh": true}, 40003, unknown},
		{object{"out_trade_no": "order-1", "merchant": "nobody"}, 40004, ""},
		{object{"out_trade_no": "order-1", "fresh": "yes"}, 40003, "fresh"},
		{object{"out_trade_no": "order-1\n"}, 40003, "out_trade_no"},
		{object{"out_trade_no": strings.Repeat("1", 33)}, 40003, "out_trade_no"},
		{object{"out_trade_no": ""}, 40008, "out_trade_no"},
		{object{}, 40008, "out_trade_no"},
		{object{"out_trade_no": "order-1", "sub_mch_id": "x"}, 40003, "sub_mch_id"},
		{object{"out_trade_no": []int{1}}, 40003, "out_trade_no"},
	} {
		ask("order_state", test.request, test.errcode, test.says)
	}
	if n := len(env.wechat.Requests("/pay/orderquery")); n != 1 {
		t.Errorf("WeChat was asked %d times", n)
	}

	// What WeChat is asked for says what the notification would.
	env.wechat.LoseNotifications(1, 0)
	env.pay(shop, "order-1")
	ask("order_state", object{"out_trade_no": "order-1"}, 0, `"state":"placed"`)
	ask("order_state", object{"out_trade_no": "order-1", "fresh": true}, 0, `"state":"paid","source":"query"`)
	ask("order_state", object{"out_trade_no": "order-1", "fresh": true}, 0, `"state":"paid","source":"query"`)
	env.wechat.Misbehave("/pay/orderquery", wepaytest.Fault{Kind: wepaytest.HTML, Status: http.StatusBadGateway, Standing: true})
	ask("order_state", object{"out_trade_no": "order-1", "merchant": "mini", "fresh": true}, 40000, "")
	ask("order_state", object{"out_trade_no": "order-1", "merchant": "mini"}, 0, `"state":"placed"`)

	// Without a store there is nothing to know.
	if err := env.load(layout{merchants: []*merchant{shop}, site: l.site}); err != nil {
		t.Fatal(err)
	}
	env.patience = redials
	if a := env.post("order_state", `{"out_trade_no":"order-1"}`, "Authorization", "Bearer "+token); a.Errcode != 40010 || !strings.Contains(a.XOrigMsg, "needs a store") {
		t.Errorf("without a store: HTTP %d %s", a.status, a.body)
	}
}

// withBooks is a layout with a store, how orders are asked about, and further lines of
// a merchant.
func (env *environment) withBooks(m *merchant, recover string, lines ...string) layout {
	env.t.Helper()
	l := env.stalls(stall{m, lines})
	l.options += env.store() + recover
	return l
}

// With recover off nothing is asked by itself; what is said is still recorded.
func TestRecoverOff(t *testing.T) {
	env, shop := newEnvironment(t), newFollower("API v3")
	l := env.followed(stall{shop, nil})
	off := strings.Replace(l.options, asksSoon, "\nrecover off\n", 1)
	l.options = off
	env.serve(l)
	env.get("get_pay_request_params", shop.order3("order-1"))
	env.wechat.LoseNotifications(1, 0)
	env.pay(shop, "order-1")
	env.wechat.Misbehave("/v3/pay/transactions/jsapi", wepaytest.Fault{Kind: wepaytest.Reset, Standing: true})
	env.try("get_pay_request_params", shop.order3("order-2"))
	began := time.Now()
	env.until("3 s go by", func() bool { return time.Since(began) > 3*time.Second })
	if s := env.state("order-1"); s.State != "placed" || s.NextAsked != "" || s.Asked > 0 {
		t.Errorf("got %+v", s)
	}
	if s := env.state("order-2"); s.State != "unknown" || s.NextAsked != "" || s.Asked > 0 {
		t.Errorf("got %+v", s)
	}
	if s := env.state("order-1", "fresh", "true"); s.State != "paid" || s.Source != "query" {
		t.Errorf("got %+v", s)
	}
	if err := env.load(env.withBooks(shop, asksSoon, "close_after 30m", "reconcile")); err != nil {
		t.Error(err)
	}
	env.wechat.Behave("/v3/pay/transactions/jsapi")
	env.get("get_pay_request_params", shop.order3("order-3"))
	if s := env.state("order-3"); s.CloseAt == "" || s.NextAsked == "" {
		t.Errorf("got %+v", s)
	}
	if err := env.load(env.withBooks(shop, asksSoon, "close_after 4m59s")); err == nil || !strings.Contains(err.Error(), "close_after: must be 5m or more") {
		t.Error(err)
	}
	for lines, want := range map[string]string{
		"close_after 30m":           "close_after: does not go with recover off",
		"close_after 4m59s":         "close_after: ",
		"close_after 5m\nreconcile": "close_after: does not go with recover off",
	} {
		if err := env.load(env.withBooks(shop, "\nrecover off\n", strings.Split(lines, "\n")...)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", lines, err)
		}
	}
	for _, recover := range []string{"recover {\n\tschedule 999ms\n}", "recover {\n\tschedule 25h\n}", "recover off {\n\tschedule 1s\n}"} {
		if err := env.load(layout{merchants: []*merchant{shop}, options: env.store() + "\n" + recover}); err == nil {
			t.Errorf("%s is taken", recover)
		}
	}
	if err := env.load(layout{merchants: []*merchant{shop}, options: "recover off"}); err == nil || !strings.Contains(err.Error(), "needs a store") {
		t.Errorf("without a store: %v", err)
	}
}
