// Package reconcile holds WeChat's bill of each day against what was placed and handed
// over here. What was paid and not handed over is handed over now; everything else that
// differs is reported.
package reconcile

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"sync"
	"time"

	"go.uber.org/zap"

	"github.com/windsome/caddy-wepay/caddymodule/recovery"
	"github.com/windsome/caddy-wepay/wepay"
)

// Config is what a Reconciler works with.
type Config struct {
	Store     Store
	Recovery  *recovery.Recovery
	Merchants []Merchant // those that are reconciled, in the config's order
	Storage   Storage    // of reports
	Logger    *zap.Logger

	// Reconciled is called for each report that is made; nil: nothing is.
	Reconciled func(*Report)
}

// Merchant is a merchant with its way to its bills.
type Merchant struct {
	*wepay.Merchant
	Download func(ctx context.Context, op wepay.Operation, in wepay.Fields) (*wepay.Bill, error)
}

// account is a mch_id with the merchants that share it.
type account struct {
	mchID     string
	merchants []Merchant
}

func (a *account) names() (names []string) {
	for _, m := range a.merchants {
		names = append(names, m.Name)
	}
	return names
}

// Reconciler reconciles the bills of accounts, one at a time.
type Reconciler struct {
	Config
	accounts []*account
	busy     sync.Mutex // one bill takes the memory that all may

	planned time.Time // the last day that has its rows
}

// New returns a reconciler, and has the recovery use it. It is called before the
// recovery starts.
func New(config Config) *Reconciler {
	r := &Reconciler{Config: config}
	if r.Reconciled == nil {
		r.Reconciled = func(*Report) {}
	}
	for _, m := range config.Merchants {
		a := r.account(m.MchID)
		if a == nil {
			a = &account{mchID: m.MchID}
			r.accounts = append(r.accounts, a)
		}
		a.merchants = append(a.merchants, m)
	}
	config.Recovery.SetBills(r)
	return r
}

// account returns the account of a mch_id or of a merchant's name; nil: it is not
// reconciled.
func (r *Reconciler) account(name string) *account {
	for _, a := range r.accounts {
		if a.mchID == name || slices.Contains(a.names(), name) {
			return a
		}
	}
	return nil
}

// Errors of a reconciler, to be found with errors.Is.
var (
	// ErrNotReconciled says that no merchant of that name or mch_id is reconciled.
	ErrNotReconciled = errors.New("no merchant of this name or mch_id has the directive reconcile")

	// ErrBusy says that another bill is being reconciled.
	ErrBusy = errors.New("another bill is being reconciled: try again when that is done")

	// ErrNoReport says that there is no report of the day.
	ErrNoReport = errors.New("there is no report of this day")

	// ErrDay says that a text is no day that has a bill.
	ErrDay = errors.New("a day that is over is needed, such as 2026-11-29")
)

// parseDay returns when a day begins in Beijing, and ends.
func parseDay(date string, now time.Time) (day, next time.Time, err error) {
	day, err = time.ParseInLocation(time.DateOnly, date, wepay.Beijing)
	next = day.AddDate(0, 0, 1)
	if err != nil || now.Before(next) {
		return day, next, fmt.Errorf("date %.32q: %w", date, ErrDay)
	}
	return day, next, nil
}

// ByHand reconciles the bill of a merchant or mch_id and a day now, hands over what is
// missing, and returns the report.
func (r *Reconciler) ByHand(ctx context.Context, name, date string) (*Report, error) {
	a := r.account(name)
	if a == nil {
		return nil, fmt.Errorf("merchant %.64q: %w", name, ErrNotReconciled)
	}
	if _, _, err := parseDay(date, r.now()); err != nil {
		return nil, err
	}
	if !r.busy.TryLock() {
		return nil, ErrBusy
	}
	defer r.busy.Unlock()
	report, unasked, err := r.download(ctx, a, date)
	if err != nil {
		return nil, err
	}
	if unasked == 0 {
		err = r.endRow(ctx, a, date)
	}
	if err == nil {
		err = r.publish(ctx, report)
	}
	return report, err
}

// Compare holds a bill from a file, text or gzip, of a merchant or mch_id and a day
// against the store. Nothing is handed over, and the report is not stored.
func (r *Reconciler) Compare(ctx context.Context, name, date string, bill io.Reader) (*Report, error) {
	a := r.account(name)
	if a == nil {
		return nil, fmt.Errorf("merchant %.64q: %w", name, ErrNotReconciled)
	}
	day, next, err := parseDay(date, r.now())
	if err != nil {
		return nil, err
	}
	if !r.busy.TryLock() {
		return nil, ErrBusy
	}
	defer r.busy.Unlock()
	m := r.matching(a, day, next)
	m.ask, m.report.Offline = nil, true
	return m.compare(ctx, bill)
}

// Offline holds a bill of a day from a file against a store that no server has open. The
// account is the bill's, and the merchants are those that share it.
func Offline(ctx context.Context, s Store, merchants []string, date string, bill io.Reader) (*Report, error) {
	day, next, err := parseDay(date, time.Now())
	if err != nil {
		return nil, err
	}
	m := &matching{
		store: s, day: day, next: next, merchants: merchants,
		foreign: func(merchant string) bool { return !slices.Contains(merchants, merchant) },
		tells:   func(string, wepay.Kind) bool { return true },
		report:  newReport("", merchants, day, time.Now()),
	}
	m.report.Offline = true
	return m.compare(ctx, bill)
}

// compare holds a bill that is not downloaded against the store.
func (m *matching) compare(ctx context.Context, bill io.Reader) (*Report, error) {
	var b bills
	err := b.save(bill, false)
	if err == nil {
		err = m.run(ctx, &b)
	}
	if err = errors.Join(err, b.remove()); err != nil {
		return nil, err
	}
	return m.report, nil
}

// matching returns what holds an account's bill against the store.
func (r *Reconciler) matching(a *account, day, next time.Time) *matching {
	names := a.names()
	return &matching{
		store: r.Store, mchID: a.mchID, day: day, next: next, merchants: names,
		foreign: func(merchant string) bool {
			return !slices.Contains(names, merchant) && r.Recovery.Accounts[merchant] != nil
		},
		ask: r.Recovery.AskForBill,
		tells: func(merchant string, kind wepay.Kind) bool {
			return r.Recovery.Ledger.CallbackURL(merchant, kind) != ""
		},
		report: newReport(a.mchID, names, day, r.now()),
	}
}

func newReport(mchID string, merchants []string, day, now time.Time) *Report {
	return &Report{
		MchID: mchID, Merchants: merchants, Date: day.Format(time.DateOnly), Made: now.In(wepay.Beijing).Truncate(time.Second),
		Counts: make(map[FindingKind]int), Findings: []Finding{},
	}
}

func (r *Reconciler) now() time.Time { return r.Recovery.Ledger.Now() }
