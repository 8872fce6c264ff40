package recovery_test

import (
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"

	"github.com/windsome/caddy-wepay/caddymodule/delivery"
	"github.com/windsome/caddy-wepay/caddymodule/internal/clock"
	"github.com/windsome/caddy-wepay/caddymodule/recovery"
	"github.com/windsome/caddy-wepay/caddymodule/store"
	"github.com/windsome/caddy-wepay/caddymodule/store/storetest"
	"github.com/windsome/caddy-wepay/wepay"
)

// site is a server with a store, between WeChat and an order service, by the clock
// of a synctest bubble.
type site struct {
	*books
	weChat     *weChat
	service    *shopService
	recovery   *recovery.Recovery
	dispatcher *delivery.Dispatcher
	logged     *observer.ObservedLogs

	mu      sync.Mutex
	learned []recovery.Taken
}

// newSite starts one in a place that others may have used before.
func newSite(t testing.TB, place *storetest.Memory, w *weChat, s *shopService) *site {
	core, logged := observer.New(zapcore.InfoLevel)
	b := &books{TB: t, Memory: place.Another()}
	if err := b.Memory.Open(t.Context(), store.Options{Now: time.Now, LongestOrderWait: recovery.DefaultSchedule.LongestWait()}); err != nil {
		t.Fatal(err)
	}
	b.Ledger = &recovery.Ledger{
		Store: b.Memory, Now: time.Now, Schedule: recovery.DefaultSchedule, CloseAfter: map[string]time.Duration{},
		CallbackURL: func(merchant string, kind wepay.Kind) string { return merchantNamed(merchant).CallbackURL(kind) },
	}
	site := &site{books: b, weChat: w, service: s, logged: logged}
	site.recovery = recovery.New(recovery.Config{
		Ledger: b.Ledger, Logger: zap.New(core),
		Accounts: map[string]*recovery.Account{"shop": {
			Merchant: shop, Client: func(wepay.API) (recovery.Client, error) { return w, nil },
		}},
		Asked: func(*store.Order, string) {},
		Learned: func(taken recovery.Taken) {
			site.mu.Lock()
			defer site.mu.Unlock()
			site.learned = append(site.learned, taken)
		},
	})
	site.dispatcher = delivery.New(delivery.Config{
		Store: b.Memory, Clock: clock.System(), Logger: zap.NewNop(), Attempted: func(*store.Event, string) {}, Dead: func(*store.Event) {},
		Policy: delivery.Policy{FirstWait: time.Second, LongestWait: 10 * time.Minute, GiveUp: 72 * time.Hour, Workers: 4},
		Endpoints: map[string]*delivery.Endpoint{"shop": {
			URL: "http://orders/taken", RefundURL: "http://orders/taken", EventURL: "http://orders/event", Kinds: wepay.Kinds(), Transport: s, Timeout: time.Second,
		}},
	})
	site.recovery.Start()
	site.dispatcher.Start()
	return site
}

func (s *site) stop() {
	s.recovery.Stop()
	s.dispatcher.Stop(time.Second)
	if err := s.Memory.Close(); err != nil {
		s.Error(err)
	}
}

// order places an order that WeChat has.
func (s *site) order(number string, fen int64) {
	s.Helper()
	s.place(shop, wepay.PlaceOrder, order(number, "100"), nil, nil)
	s.weChat.mu.Lock()
	defer s.weChat.mu.Unlock()
	s.weChat.orders[number] = &wanted{number: number, fen: fen, state: "NOTPAY"}
}

// pay has an order paid, of which WeChat does not notify.
func (w *weChat) pay(number string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.orders[number].state, w.orders[number].at = "SUCCESS", time.Now()
}

// within runs a test in a bubble, with a site.
func within(t *testing.T, run func(t *testing.T, s *site)) {
	synctest.Test(t, func(t *testing.T) {
		s := newSite(t, storetest.NewMemory(), newWeChat(), newShopService())
		defer s.stop()
		run(t, s)
	})
}

// An order whose notification is lost is told soon, under the webhook-id that the
// notification has: that one is a repeat.
func TestLostNotification(t *testing.T) {
	within(t, func(t *testing.T, s *site) {
		s.order("a", 100)
		s.weChat.pay("a")
		time.Sleep(20 * time.Second)
		synctest.Wait()
		o := s.get(store.Ordered, "a")
		if o.State != store.OrderPaid || o.Source != store.SourceQuery || o.Asked != 1 || o.TransactionID != "42a" || o.Paid.IsZero() {
			t.Errorf("got %+v", o)
		}
		if len(s.service.told) != 1 || len(s.learned) != 1 || s.learned[0].Event.Source != store.SourceQuery {
			t.Fatalf("told %v, learned %v", s.service.told, s.learned)
		}
		if late := s.notify(paidNotification(s.weChat.orders["a"])); late.Added || late.Event.ID != o.EventID {
			t.Errorf("the late notification is no repeat: %+v", late.Event)
		}
		time.Sleep(24 * time.Hour)
		if s.weChat.questions() != 1 {
			t.Errorf("asked %d times", s.weChat.questions())
		}
	})
}

// An order that nobody pays is asked about by the schedule, until it expires.
func TestUnpaid(t *testing.T) {
	within(t, func(t *testing.T, s *site) {
		s.order("a", 100)
		for _, step := range []struct {
			wait        time.Duration
			least, most int
		}{
			{14 * time.Second, 0, 0},
			{6 * time.Second, 1, 1},
			{time.Minute, 2, 2},
			{2 * time.Minute, 3, 3},
			{2 * time.Hour, 7, 11},
			{48 * time.Hour, 7, 11},
		} {
			time.Sleep(step.wait)
			synctest.Wait()
			if s.weChat.questions() < step.least || s.weChat.questions() > step.most {
				t.Errorf("after %v: asked %d times, want %d to %d", step.wait, s.weChat.questions(), step.least, step.most)
			}
		}
		if o := s.get(store.Ordered, "a"); o.State != store.OrderClosed || o.Ended.IsZero() || !o.Due.IsZero() {
			t.Errorf("got %+v", o)
		}
		// WeChat took the money all the same: paid is paid.
		s.weChat.pay("a")
		if taken := s.notify(paidNotification(s.weChat.orders["a"])); taken.Order.State != store.OrderPaid {
			t.Errorf("got %+v", taken.Order)
		}
		synctest.Wait()
		if len(s.service.told) != 1 {
			t.Errorf("told %v", s.service.told)
		}
	})
}

// An unpaid order is closed at WeChat in time, and the order service hears of it; one
// that is paid in the same moment is paid.
func TestCloseAfter(t *testing.T) {
	for name, test := range map[string]struct {
		onClose func(*wanted)
		away    bool
		want    store.OrderState
		told    string
	}{
		"closed":                  {nil, false, store.OrderClosed, "TRANSACTION.CLOSED a"},
		"paid in the same moment": {func(o *wanted) { o.state = "SUCCESS" }, false, store.OrderPaid, "paid a 100"},
		"WeChat away":             {nil, true, store.OrderClosed, "TRANSACTION.CLOSED a"},
	} {
		t.Run(name, func(t *testing.T) {
			within(t, func(t *testing.T, s *site) {
				s.CloseAfter["shop"] = 10 * time.Minute
				s.weChat.onClose = test.onClose
				s.order("a", 100)
				time.Sleep(9*time.Minute + 50*time.Second)
				synctest.Wait()
				if o := s.get(store.Ordered, "a"); o.State != store.OrderPlaced || s.weChat.closings > 0 {
					t.Errorf("got %+v", o)
				}
				s.weChat.mu.Lock()
				s.weChat.away = test.away
				s.weChat.mu.Unlock()
				time.Sleep(20 * time.Second)
				if test.away {
					time.Sleep(20 * time.Minute)
					s.weChat.mu.Lock()
					s.weChat.away = false
					s.weChat.mu.Unlock()
					time.Sleep(50 * time.Minute)
				}
				synctest.Wait()
				if o := s.get(store.Ordered, "a"); o.State != test.want {
					t.Errorf("got %+v", o)
				}
				if _, told := s.service.paid[test.told]; !told || len(s.service.paid) != 1 {
					t.Errorf("told %v", s.service.paid)
				}
			})
		})
	}
}

// A call without an answer is resolved by asking, also where WeChat never had it.
func TestUnknownOutcome(t *testing.T) {
	within(t, func(t *testing.T, s *site) {
		s.weChat.orders["paid"] = &wanted{number: "paid", fen: 100, state: "SUCCESS", at: time.Now()}
		s.weChat.orders["open"] = &wanted{number: "open", fen: 100, state: "NOTPAY"}
		for _, number := range []string{"paid", "open", "missing"} {
			s.place(shop, wepay.PlaceOrder, order(number, "100"), nil, noAnswer)
		}
		s.weChat.refunds["r"] = &wanted{number: "r", of: "paid", fen: 100, state: "PROCESSING"}
		s.place(shop, wepay.Refund, wepay.NewFields(map[string]string{"out_refund_no": "r", "out_trade_no": "paid", "refund_fee": "100", "total_fee": "100"}), nil, noAnswer)
		time.Sleep(10 * time.Second)
		synctest.Wait()
		for number, want := range map[string]store.OrderState{"paid": store.OrderRefunding, "open": store.OrderPlaced, "missing": store.OrderUnknown} {
			if o := s.get(store.Ordered, number); o.State != want {
				t.Errorf("%s: got %+v", number, o)
			}
		}
		if o := s.get(store.Refund, "r"); o.State != store.OrderRefunding {
			t.Errorf("got %+v", o)
		}
		s.weChat.mu.Lock()
		s.weChat.refunds["r"].state, s.weChat.refunds["r"].at = "SUCCESS", time.Now()
		s.weChat.mu.Unlock()
		time.Sleep(30 * time.Minute)
		synctest.Wait()
		if o := s.get(store.Ordered, "missing"); o.State != store.OrderFailed || o.Reason == "" {
			t.Errorf("got %+v", o)
		}
		if o := s.get(store.Ordered, "paid"); o.State != store.OrderRefunded || o.Refunded != 100 {
			t.Errorf("got %+v", o)
		}
		if len(s.service.paid) != 2 {
			t.Errorf("told %v", s.service.paid)
		}
	})
}

// While WeChat gives no answers the waits grow, and an operator hears of it after an
// hour; where it is asked too much the account slows down, and nobody hears of it.
func TestAway(t *testing.T) {
	for name, limited := range map[string]bool{"away": false, "asked too much": true} {
		t.Run(name, func(t *testing.T) {
			within(t, func(t *testing.T, s *site) {
				s.weChat.away, s.weChat.limited = !limited, limited
				for _, number := range []string{"a", "b", "c", "d", "e", "f", "g", "h", "i", "j"} {
					s.order(number, 100)
					s.weChat.pay(number)
				}
				time.Sleep(59 * time.Minute)
				synctest.Wait()
				if s.weChat.questions() > 60 || s.weChat.questions() < 10 {
					t.Errorf("asked %d times in an hour", s.weChat.questions())
				}
				errorsLogged := func() int { return s.logged.FilterLevelExact(zapcore.ErrorLevel).Len() }
				if errorsLogged() > 0 {
					t.Errorf("logged %v", s.logged.All())
				}
				time.Sleep(8 * time.Minute)
				synctest.Wait()
				if alarms := errorsLogged(); alarms != map[bool]int{false: 1, true: 0}[limited] {
					t.Errorf("logged %d errors: %v", alarms, s.logged.All())
				}
				s.weChat.mu.Lock()
				s.weChat.away, s.weChat.limited = false, false
				s.weChat.mu.Unlock()
				time.Sleep(40 * time.Minute)
				synctest.Wait()
				if len(s.service.paid) != 10 {
					t.Errorf("told %v", s.service.paid)
				}
			})
		})
	}
}

// What WeChat says when it is asked is held against the order as well.
func TestAnswerContradicts(t *testing.T) {
	within(t, func(t *testing.T, s *site) {
		s.order("a", 1) // and not 100, as it was placed
		s.weChat.pay("a")
		time.Sleep(24 * time.Hour)
		synctest.Wait()
		if o := s.get(store.Ordered, "a"); o.State != store.OrderQuarantined || s.weChat.questions() != 1 || !o.Due.IsZero() {
			t.Errorf("got %+v, asked %d times", o, s.weChat.questions())
		}
		if len(s.service.told) > 0 {
			t.Errorf("told %v", s.service.told)
		}
		if late := s.notify(paidNotification(s.weChat.orders["a"])); late.Added || late.Event.State != store.Quarantined {
			t.Errorf("got %+v", late.Event)
		}
	})
}

// An order that was placed with two amounts is unknown until WeChat names one of them,
// whether it is asked about or paid meanwhile.
func TestTwoAmounts(t *testing.T) {
	within(t, func(t *testing.T, s *site) {
		for number, want := range map[string]struct {
			state        store.OrderState
			amount, also int64
		}{"a": {store.OrderUnknown, 100, 200}, "bb": {store.OrderPlaced, 200, 100}} {
			s.weChat.orders[number] = &wanted{number: number, fen: 200, state: "NOTPAY"}
			for _, fen := range []string{"100", "200"} {
				s.place(shop, wepay.PlaceOrder, order(number, fen), nil, noAnswer)
			}
			time.Sleep(10 * time.Second)
			synctest.Wait()
			if o := s.get(store.Ordered, number); o.State != want.state || o.Amount != want.amount || o.Also != want.also || o.Asked != 1 {
				t.Errorf("%s: got %+v", number, o)
			}
			s.weChat.pay(number)
			time.Sleep(time.Minute)
			synctest.Wait()
			if o := s.get(store.Ordered, number); o.State != store.OrderPaid || o.Amount != 200 || s.service.paid["paid "+number+" 200"] == "" {
				t.Errorf("%s: got %+v", number, o)
			}
		}
	})
}

// Whoever charges a code waits for the answer itself; where there is none that is asked
// for, and the order service is told.
func TestPaymentByCode(t *testing.T) {
	for name, killed := range map[string]bool{"no answer": false, "killed meanwhile": true} {
		t.Run(name, func(t *testing.T) {
			within(t, func(t *testing.T, s *site) {
				s.weChat.orders["a"] = &wanted{number: "a", fen: 100, state: "SUCCESS", at: time.Now()}
				r, err := s.Record(t.Context(), shop, wepay.Micropay, wepay.V2, order("a", "100"), nil)
				if err != nil {
					t.Fatal(err)
				}
				time.Sleep(time.Minute)
				synctest.Wait()
				if s.weChat.questions() > 0 {
					t.Error("WeChat is asked about what is still to be answered")
				}
				if !killed {
					if err := s.Answer(t.Context(), r, nil, noAnswer); err != nil {
						t.Fatal(err)
					}
					time.Sleep(10 * time.Second)
				} else {
					time.Sleep(2 * time.Minute)
				}
				synctest.Wait()
				if o := s.get(store.Ordered, "a"); o.State != store.OrderPaid || o.Source != store.SourceQuery || len(s.service.told) != 1 {
					t.Errorf("got %+v, told %v", o, s.service.told)
				}
			})
		})
	}
}

// No more orders are claimed than there are workers to ask about: another server may
// have the rest, and a claim ends after the question does.
func TestClaimsAreAskedAbout(t *testing.T) {
	within(t, func(t *testing.T, s *site) {
		s.weChat.hangs = true
		for n := range 40 {
			s.order(fmt.Sprintf("order-%d", n), 100)
		}
		time.Sleep(25 * time.Second)
		synctest.Wait()
		claimed := 0
		for n := range 40 {
			if s.get(store.Ordered, fmt.Sprintf("order-%d", n)).Due.After(time.Now()) {
				claimed++
			}
		}
		if claimed != 16 || s.weChat.questions() != 16 {
			t.Errorf("%d are claimed, and WeChat was asked %d times", claimed, s.weChat.questions())
		}
	})
}

// A refund that needs a person is asked about until that person has settled it, and
// what is notified late of it changes nothing then.
func TestAbnormalRefund(t *testing.T) {
	within(t, func(t *testing.T, s *site) {
		s.order("a", 100)
		s.weChat.pay("a")
		time.Sleep(time.Minute)
		request := wepay.NewFields(map[string]string{"out_refund_no": "r", "out_trade_no": "a", "refund_fee": "100", "total_fee": "100"})
		s.place(shop, wepay.Refund, request, wepay.Fields{{Name: "refund_id", Value: "50r"}}, nil)
		refund := &wanted{number: "r", of: "a", fen: 100, state: "CHANGE", at: time.Now()}
		s.weChat.mu.Lock()
		s.weChat.refunds["r"] = refund
		late := s.weChat.refundNotification(refund)
		s.weChat.mu.Unlock()
		time.Sleep(25 * time.Hour)
		synctest.Wait()
		if o := s.get(store.Refund, "r"); o.State != store.OrderAbnormal || o.Due.IsZero() {
			t.Errorf("got %+v", o)
		}
		s.weChat.mu.Lock()
		refund.state = "SUCCESS"
		s.weChat.mu.Unlock()
		time.Sleep(8 * time.Hour)
		synctest.Wait()
		s.notify(late)
		if o := s.get(store.Refund, "r"); o.State != store.OrderRefunded || !o.Due.IsZero() {
			t.Errorf("got %+v", o)
		}
		if o := s.get(store.Ordered, "a"); o.State != store.OrderRefunded || o.Refunded != 100 {
			t.Errorf("got %+v", o)
		}
	})
}

// What is being asked about as the recovery stops is left to the next at once.
func TestGivenBack(t *testing.T) {
	within(t, func(t *testing.T, s *site) {
		s.weChat.mu.Lock()
		s.weChat.hangs = true
		s.weChat.mu.Unlock()
		s.order("a", 100)
		time.Sleep(20 * time.Second)
		synctest.Wait()
		if o := s.get(store.Ordered, "a"); !o.Due.After(time.Now()) {
			t.Fatalf("it is not being asked about: %+v", o)
		}
		s.recovery.Stop()
		if o := s.get(store.Ordered, "a"); o.Due.After(time.Now()) {
			t.Errorf("got %+v", o)
		}
	})
}
