package reconcile_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"slices"
	"strconv"
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

// row is a row of a bill. Amounts are fen.
type row struct {
	at                       time.Time // zero: noon
	mchID, sub, state        string    // "": mchID, none, SUCCESS
	transactionID, number    string
	refundID, refund, status string
	total, coupons, refunded int64
}

const (
	titles = "交易时间,公众账号ID,商户号,特约商户号,设备号,微信订单号,商户订单号,用户标识,交易类型,交易状态,付款银行,货币种类," +
		"应结订单金额,代金券金额,微信退款单号,商户退款单号,退款金额,充值券退款金额,退款类型,退款状态,商品名称,商户数据包,手续费,费率,订单金额,申请退款金额,费率备注"
	summary   = "总交易单数,应结订单总金额,退款总金额,充值券退款总金额,手续费总金额,订单总金额,申请退款总金额"
	oldTitles = "交易时间,公众账号ID,商户号,子商户号,设备号,微信订单号,商户订单号,用户标识,交易类型,交易状态,付款银行,货币种类," +
		"总金额,代金券或立减优惠金额,微信退款单号,商户退款单号,退款金额,代金券或立减优惠退款金额,退款类型,退款状态,商品名称,商户数据包,手续费,费率"
	oldSummary = "总交易单数,总交易额,总退款金额,总代金券或立减优惠退款金额,手续费总金额"
)

func yuan(fen int64) string { return fmt.Sprintf("%d.%02d", fen/100, fen%100) }

// cells are those that bills of any age have before their amounts.
func (r row) cells() []string {
	if r.at.IsZero() {
		r.at = noon
	}
	or := func(text, otherwise string) string {
		if text == "" {
			return otherwise
		}
		return text
	}
	return []string{
		r.at.Format(time.DateTime), appID, or(r.mchID, mchID), or(r.sub, "0"), "", r.transactionID, r.number, "oSECRET", "JSAPI",
		or(r.state, "SUCCESS"), "CMB", "CNY",
	}
}

func (r row) refundCells() []string {
	if r.refund == "" {
		return []string{"0", "0"}
	}
	return []string{r.refundID, r.refund}
}

// billOf writes a bill as WeChat does.
func billOf(rows ...row) string {
	text := "\ufeff" + titles + "\r\n"
	var settled, refunded, total int64
	for _, r := range rows {
		cells := append(r.cells(), yuan(r.total-r.coupons), yuan(r.coupons))
		cells = append(append(cells, r.refundCells()...), yuan(r.refunded), "0.00", "", r.status, `袜子\ 红`, "attach", "0.00600", "0.60%", yuan(r.total), yuan(r.refunded), "")
		text += "`" + strings.Join(cells, ",`") + "\r\n"
		settled, refunded, total = settled+r.total-r.coupons, refunded+r.refunded, total+r.total
	}
	fees := fmt.Sprintf("%.5f", float64(len(rows))*0.006)
	return text + summary + "\r\n`" + strings.Join([]string{strconv.Itoa(len(rows)), yuan(settled), yuan(refunded), "0.0", fees, yuan(total), yuan(refunded)}, ",`") + "\r\n"
}

// oldBillOf writes a bill from before coupons were accounted for.
func oldBillOf(rows ...row) string {
	text := oldTitles + "\r\n"
	var refunded, total int64
	for _, r := range rows {
		cells := append(append(r.cells(), yuan(r.total), yuan(r.coupons)), r.refundCells()...)
		cells = append(cells, yuan(r.refunded), "0.00", "", r.status, "袜子", "", "0.00000", "0.60%")
		text += "`" + strings.Join(cells, ",`") + "\r\n"
		refunded, total = refunded+r.refunded, total+r.total
	}
	return text + oldSummary + "\r\n`" + strings.Join([]string{strconv.Itoa(len(rows)), yuan(total), yuan(refunded), "0.0", "0.0"}, ",`") + "\r\n"
}

// weChat answers questions about orders, by their numbers, and has bills.
type weChat struct {
	mu      sync.Mutex
	paid    map[string]wepay.Fields // by out_trade_no or out_refund_no
	away    bool
	asked   []string
	bills   map[string]string // by sub_mch_ids and dates, such as "/20261129"
	refuses *wepay.Error      // downloads
	slow    time.Duration     // a download takes so long
	fetched []string
}

func (w *weChat) Outcome(_ context.Context, op wepay.Operation, number, subMchID string) (*wepay.Outcome, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.asked = append(w.asked, string(op)+" "+subMchID+"/"+number)
	fields, found := w.paid[number]
	m := &wepay.Merchant{Name: "shop", Type: wepay.Direct, MchID: mchID, AppID: appID, CbNotifyURL: "http://orders"}
	n := &wepay.Notification{Merchant: m, Fields: fields, Kind: wepay.Payment, EventType: "TRANSACTION.SUCCESS"}
	switch {
	case w.away:
		return nil, &wepay.Error{Verdict: wepay.Again, Err: wepay.ErrNoAnswer}
	case !found:
		return &wepay.Outcome{State: wepay.Missing, Word: "ORDERNOTEXIST"}, nil
	case op == wepay.Micropay:
		n = nil
	case op == wepay.Refund:
		n.Kind, n.EventType = wepay.Refunded, "REFUND.SUCCESS"
	}
	return &wepay.Outcome{State: wepay.Succeeded, Word: "SUCCESS", Fields: fields, Notification: n}, nil
}

// pays has WeChat say that an order was paid.
func (w *weChat) pays(number, transactionID string, fen int64) {
	w.paid[number] = wepay.NewFields(map[string]string{
		"result_code": "SUCCESS", "out_trade_no": number, "transaction_id": transactionID, "total_fee": strconv.FormatInt(fen, 10),
		"appid": appID, "mch_id": mchID, "time_end": "20261129120000", "openid": "oSECRET",
	})
}

func (w *weChat) refunds(number, refundID, order, transactionID string, fen int64) {
	w.paid[number] = wepay.NewFields(map[string]string{
		"out_refund_no": number, "refund_id": refundID, "out_trade_no": order, "transaction_id": transactionID,
		"refund_fee": strconv.FormatInt(fen, 10), "refund_status": "SUCCESS", "success_time": "2026-11-29 12:00:00", "mch_id": mchID,
	})
}

// gateway is a merchant's Gateway.Download. Bills of others than mchID are known by
// their mch_ids as well.
func (w *weChat) gateway(m *wepay.Merchant) func(context.Context, wepay.Operation, wepay.Fields) (*wepay.Bill, error) {
	return func(ctx context.Context, _ wepay.Operation, in wepay.Fields) (*wepay.Bill, error) {
		key := in.Get("sub_mch_id") + "/" + in.Get("bill_date")
		if m.MchID != mchID {
			key = m.MchID + key
		}
		return w.download(ctx, key)
	}
}

func (w *weChat) download(ctx context.Context, key string) (*wepay.Bill, error) {
	w.mu.Lock()
	w.fetched = append(w.fetched, key)
	slow := w.slow
	w.mu.Unlock()
	if slow > 0 {
		select {
		case <-time.After(slow):
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	text, found := w.bills[key]
	switch {
	case w.refuses != nil:
		return nil, w.refuses
	case !found:
		return nil, &wepay.Error{Operation: wepay.DownloadBill, Verdict: wepay.Done, Message: "No Bill Exist"}
	}
	return &wepay.Bill{Reader: strings.NewReader(text), Closer: io.NopCloser(nil)}, nil
}

// takes has a download take so long.
func (w *weChat) takes(slow time.Duration) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.slow = slow
}

// downloads returns how many there were.
func (w *weChat) downloads() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return len(w.fetched)
}

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
	store    *storetest.Memory
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
		accounts[m.Name] = &recovery.Account{Merchant: m, Asker: func(wepay.API) (wepay.Asker, error) { return w.weChat, nil }}
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
