package caddymodule

import (
	"go.uber.org/zap"

	"github.com/windsome/caddy-wepay/caddymodule/recovery"
	"github.com/windsome/caddy-wepay/caddymodule/store"
	"github.com/windsome/caddy-wepay/wepay"
)

// emit tells the events app, where scripts and alarms are.
func (a *App) emit(event string, data map[string]any) { a.events.Emit(a.ctx, event, data) }

// emitDead tells of an event that was given up.
func (a *App) emitDead(e *store.Event) {
	a.emit("event_dead", map[string]any{
		"merchant": e.Merchant, "event": e.ID, "kind": string(e.Kind), "attempts": e.Attempts, "reason": e.Reason,
	})
}

// learned tells the operator what was found out by asking.
func (a *App) learned(taken recovery.Taken) {
	o := taken.Order
	fields := append(recovery.Fields(o), zap.String("transaction_id", o.TransactionID), zap.String("state", string(o.State)))
	if taken.Event != nil {
		fields = append(fields, zap.String("event", taken.Event.ID))
	}
	a.logger.Info("order followed up: WeChat Pay says what became of it", fields...)
	a.alert(taken)
	e := taken.Event
	if taken.Added && e.State == store.Waiting && (e.Kind == wepay.Payment || e.Kind == wepay.CombinedPayment) {
		a.metrics.recovered.WithLabelValues(o.Merchant).Inc()
		a.emit("order_recovered", map[string]any{
			"merchant": o.Merchant, "out_trade_no": o.Number, "transaction_id": o.TransactionID, "amount": o.Amount, "event": e.ID,
		})
	}
}

// alert tells the operator of what needs a person: a payment that contradicts its
// order, and a refund that WeChat could not carry out.
func (a *App) alert(taken recovery.Taken) {
	e, o := taken.Event, taken.Order
	if e != nil && taken.Added && e.State == store.Quarantined {
		a.logger.Error("event quarantined: it contradicts its order, and is not handed over: see `caddy wepay events show`, and hand it over all the same with `caddy wepay events replay`",
			zap.String("merchant", e.Merchant), zap.String("event", e.ID), zap.String("out_trade_no", e.OutTradeNo),
			zap.String("transaction_id", e.TransactionID), zap.Int64("amount", e.Amount), zap.String("reason", e.Reason))
		a.metrics.quarantined.WithLabelValues(e.Merchant).Inc()
		a.emit("quarantined", map[string]any{
			"merchant": e.Merchant, "event": e.ID, "out_trade_no": e.OutTradeNo, "transaction_id": e.TransactionID, "amount": e.Amount, "reason": e.Reason,
		})
	}
	if o != nil && taken.Changed && o.State == store.OrderAbnormal {
		a.logger.Error("refund abnormal: "+recovery.SettleAbnormal, zap.String("merchant", o.Merchant), zap.String("out_refund_no", o.Number), zap.String("out_trade_no", o.OutTradeNo),
			zap.Int64("amount", o.Amount))
		a.emit("refund_abnormal", map[string]any{
			"merchant": o.Merchant, "out_refund_no": o.Number, "out_trade_no": o.OutTradeNo, "transaction_id": o.TransactionID, "amount": o.Amount, "todo": recovery.SettleAbnormal,
		})
	}
}
