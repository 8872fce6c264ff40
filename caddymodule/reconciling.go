package caddymodule

import (
	"context"

	"github.com/windsome/caddy-wepay/caddymodule/recovery/reconcile"
	"github.com/windsome/caddy-wepay/wepay"
)

// Reconciler returns what reconciles bills; nil: no merchant is reconciled.
func (a *App) Reconciler() *reconcile.Reconciler { return a.reconciler }

// newReconciler returns what reconciles the bills of merchants that want it; nil: none
// does.
func (a *App) newReconciler() *reconcile.Reconciler {
	if len(a.reconciled) == 0 {
		return nil
	}
	config := reconcile.Config{Store: a.store, Recovery: a.asking, Storage: a.ctx.Storage(), Logger: a.logger, Reconciled: a.tellReconciled}
	for _, m := range a.reconciled {
		config.Merchants = append(config.Merchants, reconcile.Merchant{Merchant: m, Download: a.accounts[m].download})
	}
	return reconcile.New(config)
}

func (a *account) download(ctx context.Context, op wepay.Operation, in wepay.Fields) (*wepay.Bill, error) {
	gateway, err := a.gateway(op)
	if err != nil {
		return nil, err
	}
	return gateway.Download(ctx, op, in)
}

// tellReconciled counts what was found, and tells the events app.
func (a *App) tellReconciled(r *reconcile.Report) {
	data := map[string]any{"mch_id": r.MchID, "merchants": r.Merchants, "date": r.Date, "paid": r.Paid.Count, "refunded": r.Refunded.Count, "others": r.Others.Count}
	for _, kind := range reconcile.FindingKinds() {
		a.metrics.findings.WithLabelValues(r.Merchants[0], string(kind)).Set(float64(r.Counts[kind]))
		data[string(kind)] = r.Counts[kind]
	}
	a.emit("reconciled", data)
}
