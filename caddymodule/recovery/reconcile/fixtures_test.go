package reconcile_test

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"github.com/windsome/caddy-wepay/caddymodule/recovery"
	"github.com/windsome/caddy-wepay/caddymodule/recovery/reconcile"
	"github.com/windsome/caddy-wepay/caddymodule/store"
	"github.com/windsome/caddy-wepay/caddymodule/store/storetest"
	"github.com/windsome/caddy-wepay/wepay"
)

const (
	mchID    = "1900000109"
	subMchID = "1900000110"
	appID    = "wx00112233445566aa"
	date     = "2026-11-29"
)

// noon of the day that is reconciled, and when its bill is ready for sure.
var (
	noon    = time.Date(2026, 11, 29, 12, 0, 0, 0, wepay.Beijing)
	morning = time.Date(2026, 11, 30, 10, 15, 0, 0, wepay.Beijing)
)

// reports is a Storage.
type reports struct {
	mu   sync.Mutex
	all  map[string][]byte
	full bool
}

func (r *reports) Store(_ context.Context, key string, value []byte) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.full {
		return errors.New("no space left")
	}
	r.all[key] = value
	return nil
}

func (r *reports) Load(_ context.Context, key string) ([]byte, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if text, found := r.all[key]; found {
		return text, nil
	}
	return nil, fs.ErrNotExist
}

// world is a store that is reconciled with WeChat.
type world struct {
	*testing.T
	weChat   *weChat
	store    store.Store
	storage  *reports
	made     []*reconcile.Report
	log      *observer.ObservedLogs
	ledger   *recovery.Ledger
	recovery *recovery.Recovery
	*reconcile.Reconciler

	mu    sync.Mutex
	now   time.Time
	since time.Time // the clock runs since then; zero: it stands still
}

// newWorld has the merchants shop and mini, which share an account and are reconciled,
// and till, which shares it and is not.
func newWorld(t *testing.T) *world {
	t.Helper()
	t.Setenv("TMPDIR", t.TempDir())
	w := &world{
		T: t, now: morning, store: storetest.NewMemory(), storage: &reports{all: make(map[string][]byte)},
		weChat: &weChat{paid: make(map[string]wepay.Fields), bills: make(map[string]string)},
	}
	if err := w.store.Open(t.Context(), store.Options{Now: w.clock, LongestOrderWait: recovery.DefaultSchedule.LongestWait()}); err != nil {
		t.Fatal(err)
	}
	w.restart(direct("shop"), direct("mini"))
	t.Cleanup(func() { // nothing is left behind, however a bill ended
		if left, err := os.ReadDir(os.TempDir()); err != nil || len(left) > 0 {
			t.Errorf("temporary files are left: %v (%v)", left, err)
		}
	})
	return w
}

func direct(name string) *wepay.Merchant {
	return &wepay.Merchant{Name: name, Type: wepay.Direct, MchID: mchID, AppID: appID, CbNotifyURL: "http://orders"}
}

// restart sets up another recovery on the same store, as another server would.
func (w *world) restart(merchants ...*wepay.Merchant) {
	core, log := observer.New(zap.DebugLevel)
	w.log = log
	w.ledger = &recovery.Ledger{Store: w.store, Now: w.clock, Schedule: recovery.DefaultSchedule, CallbackURL: func(merchant string, _ wepay.Kind) string {
		if merchant == "mute" {
			return ""
		}
		return "http://orders"
	}}
	config := reconcile.Config{
		Store: w.store, Storage: w.storage, Logger: zap.New(core),
		Reconciled: func(r *reconcile.Report) {
			w.mu.Lock()
			defer w.mu.Unlock()
			w.made = append(w.made, r)
		},
	}
	accounts := make(map[string]*recovery.Account)
	for _, m := range append(merchants, direct("till")) {
		accounts[m.Name] = &recovery.Account{Merchant: m, Client: func(wepay.API) (recovery.Client, error) { return w.weChat, nil }}
		if m.Name != "till" {
			config.Merchants = append(config.Merchants, reconcile.Merchant{Merchant: m, Download: w.weChat.gateway(m)})
		}
	}
	w.recovery = recovery.New(recovery.Config{
		Ledger: w.ledger, Accounts: accounts, Logger: zap.New(core), Asked: func(*store.Order, string) {}, Learned: func(recovery.Taken) {},
	})
	config.Recovery = w.recovery
	w.Reconciler = reconcile.New(config)
}

func (w *world) clock() time.Time {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.since.IsZero() {
		return w.now
	}
	return w.now.Add(time.Since(w.since))
}

func (w *world) set(now time.Time) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.now = now
}

// reported returns how many reports of an account were made.
func (w *world) reported(mchID string) (reports int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, r := range w.made {
		if r.MchID == mchID {
			reports++
		}
	}
	return reports
}

// order is an order of shop's, changed.
func order(number string, fen int64, change ...func(*store.Order)) *store.Order {
	o := &store.Order{
		Kind: store.Ordered, Number: number, MchID: mchID, Merchant: "shop", AppID: appID, Operation: wepay.PlaceOrder, API: wepay.V2,
		Amount: fen, Currency: "CNY", State: store.OrderPaid, Placed: noon,
	}
	for _, change := range change {
		change(o)
	}
	return o
}

func refund(number, of string, fen int64, change ...func(*store.Order)) *store.Order {
	o := order(number, fen)
	o.Kind, o.OutTradeNo, o.Operation, o.State = store.Refund, of, wepay.Refund, store.OrderRefunded
	for _, change := range change {
		change(o)
	}
	return o
}

// event is an event of shop's about a payment, delivered.
func event(number, transactionID string, fen int64, change ...func(*store.Event)) *store.Event {
	e := &store.Event{
		ID: "evt_" + transactionID, Merchant: "shop", Kind: wepay.Payment, EventType: "TRANSACTION.SUCCESS", OutTradeNo: number, TransactionID: transactionID,
		Amount: fen, Currency: "CNY", Occurred: noon, Received: noon, Since: noon, State: store.Delivered, Ended: noon,
	}
	for _, change := range change {
		change(e)
	}
	return e
}

func refundEvent(number, of, transactionID string, fen int64, change ...func(*store.Event)) *store.Event {
	e := event(of, transactionID, fen)
	e.ID, e.Kind, e.EventType, e.OutRefundNo = "evt_"+number, wepay.Refunded, "REFUND.SUCCESS", number
	for _, change := range change {
		change(e)
	}
	return e
}

// put stores orders and events.
func (w *world) put(all ...any) {
	w.Helper()
	err := w.store.Transact(w.Context(), func(tx store.Tx) (err error) {
		for _, one := range all {
			switch one := one.(type) {
			case *store.Order:
				err = errors.Join(err, tx.SetOrder(one))
			case *store.Event:
				_, putErr := tx.Put(one)
				err = errors.Join(err, putErr)
			}
		}
		return err
	})
	if err != nil {
		w.Fatal(err)
	}
}

// reconcile reconciles the day by hand.
func (w *world) reconcile() *reconcile.Report {
	w.Helper()
	report, err := w.ByHand(w.Context(), "shop", date)
	if err != nil {
		w.Fatal(err)
	}
	return report
}

// short is a finding as tests name it.
func short(f reconcile.Finding) string {
	number := f.OutTradeNo
	if f.OutRefundNo != "" {
		number = f.OutRefundNo
	}
	text := fmt.Sprintf("%s %s %d/%d/%d", f.Kind, number, f.BillFen, f.OrderFen, f.EventFen)
	for _, state := range []string{string(f.OrderState), string(f.EventState), string(f.Outcome)} {
		text += " " + state
	}
	return text
}

// check compares a report's findings with those wanted, in any order.
func (w *world) check(r *reconcile.Report, want ...string) {
	w.Helper()
	var got []string
	for _, f := range r.Findings {
		got = append(got, short(f))
	}
	slices.Sort(got)
	slices.Sort(want)
	if !slices.Equal(got, want) || r.All() != len(want) {
		w.Errorf("got %d findings\n%s\nwant\n%s", r.All(), strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

// events are those of the store, with their states and sources.
func (w *world) events() map[string]string {
	w.Helper()
	events, _, err := w.store.List(w.Context(), store.Filter{}, "", 1000)
	if err != nil {
		w.Fatal(err)
	}
	all := make(map[string]string)
	for _, e := range events {
		all[e.TransactionID+e.OutRefundNo] = string(e.State) + " " + string(e.Source)
	}
	return all
}

// rows are the rows of daily bills, with their states.
func (w *world) rows() map[string]store.OrderState {
	w.Helper()
	rows, _, err := w.store.ListOrders(w.Context(), store.OrderFilter{Kind: store.DailyBill}, "", 1000)
	if err != nil {
		w.Fatal(err)
	}
	all := make(map[string]store.OrderState)
	for _, row := range rows {
		if row.MchID == mchID {
			all[row.Number] = row.State
		}
	}
	return all
}

// turn does what a recovery does in a second: it plans, and does the rows that are due.
// It returns how many those were.
func (w *world) turn() int {
	w.Helper()
	if err := w.Plan(w.Context()); err != nil {
		w.Fatal(err)
	}
	first, err := w.store.FirstDue(w.Context())
	if err != nil {
		w.Fatal(err)
	}
	done := 0
	for _, merchant := range slices.Sorted(maps.Keys(first)) {
		if first[merchant].After(w.clock()) || w.recovery.Accounts[merchant] == nil {
			continue
		}
		rows, err := w.store.Claim(w.Context(), merchant, 16, 2*time.Minute)
		if err != nil {
			w.Fatal(err)
		}
		for _, row := range rows {
			if row.Kind == store.DailyBill {
				w.Reconcile(w.Context(), row)
				done++
			}
		}
	}
	return done
}
