package caddymodule

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	"go.uber.org/zap"

	"github.com/windsome/caddy-wepay/caddymodule/internal/parse"
	"github.com/windsome/caddy-wepay/caddymodule/recovery"
	"github.com/windsome/caddy-wepay/caddymodule/store"
	"github.com/windsome/caddy-wepay/wepay"
)

// Recover configures how WeChat is asked about orders that nothing is heard of.
type Recover struct {
	// WeChat is not asked. Orders are recorded all the same.
	Off bool `json:"off,omitempty"`

	// How long to wait before each question: the first wait begins when an order is
	// placed, and the last repeats until the order expires at WeChat. Each is made
	// longer by up to a fifth by chance. Default:
	// `["15s", "30s", "1m", "3m", "5m", "10m", "30m"]`.
	Schedule []caddy.Duration `json:"schedule,omitempty"`
}

// The limits of close_after and of a schedule's waits.
const (
	// leastCloseAfter is what WeChat wants between an order and its closing.
	// Source: WeChat Pay, 关闭订单.
	leastCloseAfter = 5 * time.Minute
	leastWait       = time.Second
	longestWait     = 24 * time.Hour
)

// UnmarshalCaddyfile sets up the options from their line or block. Syntax:
//
//	recover [off] {
//		schedule <wait> [<wait>...]
//	}
func (o *Recover) UnmarshalCaddyfile(d *caddyfile.Dispenser) error {
	if d.NextArg() {
		if d.Val() != "off" || d.NextArg() {
			return d.Err("recover: takes off, or a block, or nothing")
		}
		o.Off = true
	}
	once := make(parse.Once)
	for nesting := d.Nesting(); d.NextBlock(nesting); {
		if err := once.Check(d); err != nil {
			return err
		}
		if option := d.Val(); option != "schedule" {
			return d.Errf("unrecognized recover option %s", parse.Word(option))
		}
		texts, err := parse.Texts(d)
		if err != nil {
			return err
		}
		for _, text := range texts {
			wait, err := caddy.ParseDuration(text)
			if err != nil {
				return d.Errf("schedule: %s is not a time", parse.Value(text))
			}
			o.Schedule = append(o.Schedule, caddy.Duration(wait))
		}
	}
	return nil
}

// schedule is what the options say; nil: WeChat is not asked.
func (o *Recover) schedule() (recovery.Schedule, error) {
	switch {
	case o == nil:
		return recovery.DefaultSchedule, nil
	case o.Off && len(o.Schedule) > 0:
		return nil, errors.New("off does not go with a schedule")
	case o.Off:
		return nil, nil
	case len(o.Schedule) == 0:
		return recovery.DefaultSchedule, nil
	}
	schedule := make(recovery.Schedule, len(o.Schedule))
	for i, wait := range o.Schedule {
		schedule[i] = time.Duration(wait)
		if schedule[i] < leastWait || schedule[i] > longestWait {
			return nil, errors.New("schedule: a wait must be 1s to 24h")
		}
	}
	return schedule, nil
}

// provisionLedger reads what is done with orders that are recorded.
func (a *App) provisionLedger() error {
	if a.Recover != nil && a.StoreRaw == nil {
		return &wepay.FieldError{Field: "recover", Reason: "needs a store"}
	}
	schedule, err := a.Recover.schedule()
	if err != nil {
		return &wepay.FieldError{Field: "recover", Reason: err.Error()}
	}
	a.ledger = &recovery.Ledger{Now: steady.Now, Schedule: schedule, CloseAfter: make(map[string]time.Duration), CallbackURL: a.callbackURL}
	return nil
}

// callbackURL is where a merchant's order service takes a kind of event.
func (a *App) callbackURL(merchant string, kind wepay.Kind) string {
	if m := a.merchants.Named(merchant); m != nil {
		return m.CallbackURL(kind)
	}
	return ""
}

// provisionBooks reads what is done with a merchant's orders, once the store is loaded.
func (a *App) provisionBooks(c *MerchantConfig, m *wepay.Merchant) error {
	after := time.Duration(c.CloseAfter)
	if c.Reconcile {
		a.reconciled = append(a.reconciled, m)
	}
	switch {
	case c.Reconcile && a.store == nil:
		return &wepay.FieldError{Field: "reconcile", Reason: "needs a store"}
	case after == 0:
		return nil
	case a.store == nil:
		return &wepay.FieldError{Field: "close_after", Reason: "needs a store"}
	case a.ledger.Schedule == nil:
		return &wepay.FieldError{Field: "close_after", Reason: "does not go with recover off: an order is asked about before it is closed"}
	case after < leastCloseAfter:
		return &wepay.FieldError{Field: "close_after", Reason: "must be 5m or more, which WeChat wants between an order and its closing"}
	}
	a.ledger.CloseAfter[m.Name] = after
	return nil
}

// newRecovery returns what asks WeChat about orders.
func (a *App) newRecovery() *recovery.Recovery {
	accounts := make(map[string]*recovery.Account, len(a.accounts))
	for merchant, account := range a.accounts {
		accounts[merchant.Name] = &recovery.Account{Merchant: merchant, Asker: account.asker, Close: account.closeOrder}
	}
	return recovery.New(recovery.Config{
		Ledger: a.ledger, Accounts: accounts, Logger: a.logger, Asked: a.metrics.asked, Learned: a.learned,
	})
}

// asker returns what asks WeChat over an API.
func (a *account) asker(api wepay.API) (wepay.Asker, error) {
	switch {
	case api == wepay.V3 && a.v3 == nil:
		return nil, a.merchant.RequireV3()
	case api == wepay.V3:
		return a.v3, nil
	case a.v2 == nil:
		return nil, a.merchant.NotAble("partner_key")
	default:
		return a.v2, nil
	}
}

func (a *account) closeOrder(ctx context.Context, in wepay.Fields) error {
	gateway, err := a.gateway(wepay.CloseOrder)
	if err == nil {
		_, err = gateway.Do(ctx, wepay.CloseOrder, in)
	}
	return err
}

// learned tells the operator what was found out by asking.
func (a *App) learned(taken recovery.Taken) {
	o := taken.Order
	fields := []zap.Field{
		zap.String("merchant", o.Merchant), zap.String("kind", string(o.Kind)), zap.String("out_trade_no", o.Number),
		zap.String("transaction_id", o.TransactionID), zap.String("state", string(o.State)),
	}
	if o.Kind == store.Refund {
		fields[2] = zap.String("out_refund_no", o.Number)
	}
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
		const todo = "the payer's account takes no refund (退款异常): settle it in the merchant platform under 交易中心, 退款查询, or by WeChat Pay's apply-abnormal-refund"
		a.logger.Error("refund abnormal: "+todo, zap.String("merchant", o.Merchant), zap.String("out_refund_no", o.Number), zap.String("out_trade_no", o.OutTradeNo),
			zap.Int64("amount", o.Amount))
		a.emit("refund_abnormal", map[string]any{
			"merchant": o.Merchant, "out_refund_no": o.Number, "out_trade_no": o.OutTradeNo, "transaction_id": o.TransactionID, "amount": o.Amount, "todo": todo,
		})
	}
}

// recording is a call that may be recorded on its way.
type recording struct {
	header http.Header
	call   *recovery.Recording // nil: nothing was recorded
}

type recordingKey struct{}

// record records a call before it is sent, if it was asked for by a route.
func (a *App) record(api wepay.API) func(context.Context, *wepay.Merchant, wepay.Operation, wepay.Fields) error {
	return func(ctx context.Context, m *wepay.Merchant, op wepay.Operation, request wepay.Fields) (err error) {
		r, asked := ctx.Value(recordingKey{}).(*recording)
		if !asked {
			return nil
		}
		ctx, cancel := context.WithTimeout(ctx, recordTime)
		defer cancel()
		return a.inStore(ctx, func(live *App) error {
			r.call, err = live.ledger.Record(ctx, m, op, api, request, r.header)
			return err
		})
	}
}

// recordTime is how long the store may take to record a call, or its answer.
const recordTime = 4 * time.Second

// recordAnswer records what came of a call. What it fails to record is found by
// asking.
func (a *App) recordAnswer(ctx context.Context, r *recording, o operation, result any, failed error) {
	if r.call == nil {
		a.recordClosing(ctx, o, failed)
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), recordTime)
	defer cancel()
	err := a.inStore(ctx, func(live *App) error { return live.ledger.Answer(ctx, r.call, replyFields(result), failed) })
	if err != nil {
		a.logger.Warn("WeChat Pay's answer is not recorded: it is asked for again", o.logged(zap.Error(err))...)
	}
}

// closings are the operations that end what another began.
var closings = map[wepay.Operation]struct {
	kind   store.OrderKind
	number string
}{
	wepay.CloseOrder:     {store.Ordered, "out_trade_no"},
	wepay.Reverse:        {store.Ordered, "out_trade_no"},
	wepay.CloseCombined:  {store.Combined, "combine_out_trade_no"},
	wepay.CancelTransfer: {store.Transfer, "partner_trade_no"},
}

// recordClosing has WeChat asked about what was just closed.
func (a *App) recordClosing(ctx context.Context, o operation, failed error) {
	closing, found := closings[o.op]
	var field *wepay.FieldError
	if !found || errors.As(failed, &field) || errors.Is(failed, wepay.ErrNotAble) {
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), recordTime)
	defer cancel()
	err := a.inStore(ctx, func(live *App) error {
		return live.ledger.Touch(ctx, o.merchant, closing.kind, o.fields.Get(closing.number), o.fields.Get("sub_mch_id"))
	})
	if err != nil {
		a.logger.Warn("the closing is not recorded: WeChat Pay is asked for it later", o.logged(zap.Error(err))...)
	}
}

// replyFields are the fields of a result that is WeChat's answer.
func replyFields(result any) wepay.Fields {
	switch result := result.(type) {
	case wepay.Fields:
		return result
	case json.RawMessage:
		var members map[string]any
		if json.Unmarshal(result, &members) != nil {
			return nil
		}
		var fields wepay.Fields
		for name, value := range members {
			if text, isText := value.(string); isText {
				fields.Set(name, text)
			}
		}
		return fields
	default:
		return nil
	}
}

// inStore runs something that needs the store, on the app whose store is open. Caddy
// starts its apps in no order, so that sites may serve before the store is open: it
// will be in a moment. A request that a reload overtakes works with the config that is
// live by then.
func (a *App) inStore(ctx context.Context, run func(live *App) error) error {
	select {
	case <-a.opened:
	case <-ctx.Done():
		return fmt.Errorf("%w: %w", store.ErrClosed, context.Cause(ctx))
	}
	err := run(a)
	if !errors.Is(err, store.ErrClosed) {
		return err
	}
	live, liveErr := liveApp()
	if liveErr != nil || live == a || live.store == nil {
		return err
	}
	return run(live)
}

// emit tells the events app, where scripts and alarms are.
func (a *App) emit(event string, data map[string]any) { a.events.Emit(a.ctx, event, data) }

// Interface guard
var _ caddyfile.Unmarshaler = (*Recover)(nil)
