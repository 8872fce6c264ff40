package reconcile

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"

	"go.uber.org/zap"
)

// Storage keeps reports: Caddy's does.
type Storage interface {
	Store(ctx context.Context, key string, value []byte) error
	// Load returns an error that wraps fs.ErrNotExist where there is nothing.
	Load(ctx context.Context, key string) ([]byte, error)
}

func storageKey(mchID, date string) string { return "wepay/reconcile/" + mchID + "/" + date + ".json" }

// publish stores a report, and tells of it.
func (r *Reconciler) publish(ctx context.Context, report *Report) error {
	text, err := json.Marshal(report)
	if err == nil {
		err = r.Storage.Store(ctx, storageKey(report.MchID, report.Date), text)
	}
	if err != nil {
		return fmt.Errorf("storing the report: %w", err)
	}
	log := r.Logger.Info
	if report.All() > 0 {
		log = r.Logger.Warn
	}
	log("bill reconciled", zap.String("mch_id", report.MchID), zap.Strings("merchants", report.Merchants), zap.String("date", report.Date),
		zap.Int("paid", report.Paid.Count), zap.Int("refunded", report.Refunded.Count), zap.Any("findings", report.Counts))
	r.Reconciled(report)
	return nil
}

// Stored returns the report of a merchant or mch_id and a day that was stored last.
func (r *Reconciler) Stored(ctx context.Context, name, date string) (*Report, error) {
	a := r.account(name)
	if a == nil {
		return nil, fmt.Errorf("merchant %.64q: %w", name, ErrNotReconciled)
	}
	if _, _, err := parseDay(date, r.now()); err != nil {
		return nil, err
	}
	text, err := r.Storage.Load(ctx, storageKey(a.mchID, date))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%s on %s: %w", a.mchID, date, ErrNoReport)
	}
	report := new(Report)
	if err == nil {
		err = json.Unmarshal(text, report)
	}
	if err != nil {
		return nil, fmt.Errorf("reading the report: %w", err)
	}
	return report, nil
}
