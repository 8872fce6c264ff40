package caddymodule

import "github.com/windsome/caddy-wepay/caddymodule/recovery/reconcile"

// Reconciler returns what reconciles bills; nil: no merchant is reconciled.
func (a *App) Reconciler() *reconcile.Reconciler { return a.reconciler }
