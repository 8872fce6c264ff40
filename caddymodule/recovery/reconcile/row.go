package reconcile

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"

	"github.com/windsome/caddy-wepay/caddymodule/store"
	"github.com/windsome/caddy-wepay/wepay"
)

const (
	// holdTerm is how long a row is another's that is held, and holdEvery how often that
	// is renewed: less often than recovery's claims run out.
	holdTerm  = 3 * time.Minute
	holdEvery = 40 * time.Second

	// billTime bounds the reconciling of a bill, with all that is asked about.
	billTime = 4 * time.Hour

	// busyWait is how long a row waits while another bill is reconciled.
	busyWait = time.Minute

	// The waits before a bill is asked for again.
	firstWait   = 10 * time.Minute
	longestWait = 5 * time.Hour

	// mostAsking is how often a bill is reconciled again for payments that WeChat gave
	// no answer about.
	mostAsking = 6

	// mostDoubt is how often WeChat has to say that there is no bill of a day on which
	// something was handed over.
	mostDoubt = 4
)

// errNoBill says that WeChat has no bill, although something was handed over that day.
var errNoBill = errors.New("WeChat Pay says that nothing was traded, and something was handed over that day")

// errLost says that another server took a row over.
var errLost = errors.New("another server has taken the bill over")

// Reconcile implements [recovery.Bills].
func (r *Reconciler) Reconcile(ctx context.Context, row *store.Order) {
	a := r.account(row.MchID)
	if a == nil {
		return // not reconciled any more
	}
	h := &held{Reconciler: r, row: row, due: row.Due}
	if err := h.do(ctx, a); err != nil && ctx.Err() == nil && !errors.Is(err, errLost) {
		r.Logger.Error("reconciling a bill: its row in the store could not be set, and it is tried again", h.fields(zap.Error(err))...)
	}
}

// held is a row that this server holds.
type held struct {
	*Reconciler
	row *store.Order

	mu  sync.Mutex
	due time.Time // as it was set here last
}

func (h *held) fields(more ...zap.Field) []zap.Field {
	return append([]zap.Field{zap.String("mch_id", h.row.MchID), zap.String("merchant", h.row.Merchant), zap.String("date", h.row.Number)}, more...)
}

// do reconciles the bill if it is time for that. The error is of the row.
func (h *held) do(ctx context.Context, a *account) error {
	now := h.now()
	_, next, _ := parseDay(h.row.Number, now) // whose error download returns
	if at := ready(a.mchID, next); now.Before(at) {
		return h.set(ctx, func(row *store.Order) { row.Due = due(at, now) })
	}
	if !h.busy.TryLock() {
		return h.set(ctx, func(row *store.Order) { row.Due = due(now.Add(busyWait), now) })
	}
	defer h.busy.Unlock()
	report, unasked, err := h.reconcile(ctx, a)
	switch {
	case ctx.Err() != nil:
		return nil // another takes it over
	case errors.Is(err, errLost):
		return err
	case errors.Is(err, wepay.ErrBillForm):
		return h.giveUp(ctx, err)
	case err != nil && h.now().After(next.AddDate(0, 0, mostCatchUp)):
		return h.giveUp(ctx, err)
	case err != nil:
		return h.later(ctx, err)
	case unasked > 0 && h.row.Asked < mostAsking:
		return h.later(ctx, fmt.Errorf("WeChat Pay gave no answer about %d payments or refunds of the bill", unasked))
	}
	if err := h.publish(ctx, report); err != nil {
		return h.later(ctx, err)
	}
	return h.set(ctx, func(row *store.Order) { reconciled(row, h.now()) })
}

// reconciled has a row say that its bill was reconciled.
func reconciled(row *store.Order, now time.Time) {
	row.State, row.Source, row.Ended, row.LastAsked = store.OrderReconciled, store.SourceBill, now, now
	row.Due, row.Reason = time.Time{}, ""
	row.Asked++
}

// reconcile reconciles the bill while the row is held.
func (h *held) reconcile(ctx context.Context, a *account) (report *Report, unasked int, err error) {
	ctx, cancel := context.WithTimeout(ctx, billTime)
	defer cancel()
	ctx, stop := h.hold(ctx)
	defer stop()
	report, unasked, err = h.download(ctx, a, h.row.Number)
	if err == nil && report.NoBill && report.All() > 0 && h.row.Asked < mostDoubt {
		err = errNoBill
	}
	if cause := context.Cause(ctx); err != nil && cause != nil {
		err = cause
	}
	return report, unasked, err
}

// hold renews the row until stop is called. The context ends when the row is lost.
func (h *held) hold(ctx context.Context) (_ context.Context, stop func()) {
	ctx, cancel := context.WithCancelCause(ctx)
	var renewing sync.WaitGroup
	renewing.Go(func() {
		ticker := time.NewTicker(holdEvery)
		defer ticker.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-ticker.C:
			}
			err := h.set(ctx, func(row *store.Order) { row.Due = due(h.now().Add(holdTerm), h.now()) })
			if errors.Is(err, errLost) {
				cancel(err)
			}
		}
	})
	return ctx, func() {
		cancel(nil)
		renewing.Wait()
	}
}

// set changes the row, unless another server has taken it over.
func (h *held) set(ctx context.Context, change func(*store.Order)) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	var set time.Time
	err := h.Store.Transact(ctx, func(tx store.Tx) error {
		row, err := rowOf(tx, h.row.MchID, h.row.Number)
		if err != nil {
			return err
		}
		if row == nil || !row.Due.Equal(h.due) {
			return errLost
		}
		change(row)
		set = row.Due
		return tx.SetOrder(row)
	})
	if err == nil {
		h.due = set
	}
	return err
}

// later has the bill asked for again, after waits that double.
func (h *held) later(ctx context.Context, cause error) error {
	reason := h.say(zap.WarnLevel, "bill not reconciled yet: it is tried again", cause)
	wait := min(firstWait<<min(h.row.Asked, 10), longestWait)
	wait += rand.N(wait / 5)
	return h.set(ctx, func(row *store.Order) {
		now := h.now()
		row.Due, row.LastAsked, row.Reason = due(now.Add(wait), now), now, reason
		row.Asked++
	})
}

// giveUp ends a row whose bill will never be any better.
func (h *held) giveUp(ctx context.Context, cause error) error {
	reason := h.say(zap.ErrorLevel, "bill given up: nothing is found from it: compare it by hand, or with `caddy wepay reconcile --bill`", cause)
	return h.set(ctx, func(row *store.Order) {
		now := h.now()
		row.State, row.Ended, row.LastAsked, row.Due, row.Reason = store.OrderFailed, now, now, time.Time{}, reason
		row.Asked++
	})
}

// say logs why a bill is not reconciled, loudly the first time, and returns what the row
// has of it.
func (h *held) say(level zapcore.Level, text string, cause error) (reason string) {
	reason = store.Reason(cause.Error())
	refused, ok := errors.AsType[*wepay.Error](cause)
	switch {
	case reason == h.row.Reason:
		level = zap.DebugLevel
	case ok && refused.Verdict == wepay.Later && level == zap.WarnLevel:
		level = zap.InfoLevel // it is in the making
	}
	h.Logger.Log(level, text, h.fields(zap.Error(cause))...)
	return reason
}

// endRow has the row of a bill, if there is one, say that it was reconciled.
func (r *Reconciler) endRow(ctx context.Context, a *account, date string) error {
	return r.Store.Transact(ctx, func(tx store.Tx) error {
		row, err := rowOf(tx, a.mchID, date)
		if err != nil || row == nil {
			return err
		}
		reconciled(row, r.now())
		return tx.SetOrder(row)
	})
}
