package caddymodule

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"go.uber.org/zap"

	"github.com/windsome/caddy-wepay/wepay"
	"github.com/windsome/caddy-wepay/wepay/apiv2"
)

// movesMoney are the operations that may, or that may keep it from moving.
var movesMoney = map[wepay.Operation]bool{
	wepay.PlaceOrder: true, wepay.CloseOrder: true, wepay.Refund: true, wepay.Micropay: true, wepay.Reverse: true,
	wepay.SendRedPacket: true, wepay.SendGroupRedPacket: true, wepay.Transfer: true, wepay.PayBank: true,
	wepay.ProfitShare: true, wepay.ProfitShareMulti: true, wepay.ProfitShareFinish: true, wepay.ProfitShareReturn: true,
	wepay.CombineOrder: true, wepay.CloseCombined: true, wepay.CancelTransfer: true, wepay.TransferBatch: true,
	apiv2.Pass: true, // and apiv3.Pass, but for GET and uploads
}

// moneyCall is an operation that may move money, until the log has what came of
// it. It goes on when its caller hangs up: that takes nothing back, and nobody
// would hear WeChat's answer.
type moneyCall struct {
	ctx    context.Context
	end    context.CancelCauseFunc
	log    func() // says that it has not ended
	logged atomic.Bool
}

// moneyCalls are those of this process, whichever config they began with.
type moneyCalls struct {
	mu       sync.Mutex
	running  map[*moneyCall]bool
	changed  chan struct{} // closed when one has ended
	stopping bool
}

func newMoneyCalls() *moneyCalls {
	return &moneyCalls{running: make(map[*moneyCall]bool), changed: make(chan struct{})}
}

var inFlight = newMoneyCalls()

// errStopping is why a call ends that the grace period is too short for.
var errStopping = errors.New("the server stops")

// begin returns a call of an operation, with a context that lasts until it is done
// or the server stops. Its error says that nothing was sent.
func (c *moneyCalls) begin(ctx context.Context, o operation, h *Handler) (*moneyCall, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.stopping {
		return nil, o.failed(wepay.Again, fmt.Errorf("%w, and nothing was sent", errStopping))
	}
	call := new(moneyCall)
	call.ctx, call.end = context.WithCancelCause(context.WithoutCancel(ctx))
	o.call = call
	call.log = func() {
		err := o.failed(wepay.Query, errStopping)
		h.logFailure(o, newFailure(err), err)
	}
	c.running[call] = true
	return call, nil
}

// done ends a call that the log has, or that is no business of it; nil: none.
func (c *moneyCalls) done(call *moneyCall) {
	if call == nil {
		return
	}
	call.end(nil)
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.running, call)
	close(c.changed)
	c.changed = make(chan struct{})
}

// count returns how many calls are running, and what is closed when one ends.
func (c *moneyCalls) count() (running int, changed <-chan struct{}) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.running), c.changed
}

// endTime is how long calls may take to end that are made to.
const endTime = 500 * time.Millisecond

// stop ends the calls that are running, and lets none begin. When it returns the
// log has of each that its outcome is open.
func (c *moneyCalls) stop() {
	c.mu.Lock()
	c.stopping = true
	for call := range c.running {
		call.end(errStopping)
	}
	c.mu.Unlock()
	late := time.After(endTime)
	for running, changed := c.count(); running > 0; running, changed = c.count() {
		select {
		case <-changed:
		case <-late:
			c.mu.Lock()
			defer c.mu.Unlock()
			for call := range c.running {
				call.log()
			}
			return
		}
	}
}

// stopWith has calls end with the server of a config, after its grace period. A
// reload lets them go on.
func (c *moneyCalls) stopWith(ctx caddy.Context) {
	server, found := ctx.Value(caddyhttp.ServerCtxKey).(*caddyhttp.Server)
	if !found {
		return
	}
	server.RegisterOnStop(func(context.Context) error {
		if caddy.Exiting() {
			c.stop()
		}
		return nil
	})
}

// failed is the error of an operation that WeChat gave no answer to.
func (o operation) failed(verdict wepay.Verdict, cause error) error {
	return &wepay.Error{Merchant: o.merchant.Name, Operation: o.op, Verdict: verdict, Err: fmt.Errorf("%w: %w", wepay.ErrNoAnswer, cause)}
}

// guard asks WeChat. Where money may move a panic leaves the outcome as open as no
// answer does, and the caller is told so.
func (h *Handler) guard(o operation, ask func() error) (err error) {
	defer func() {
		if o.call == nil {
			return
		}
		if cause := recover(); cause != nil {
			h.logger.Error("panic", zap.Any("cause", cause), zap.Stack("stack"))
			err = o.failed(wepay.Query, errors.New("a panic, of which the log has more"))
		}
	}()
	return ask()
}

// numbers are what tells an operation from others of its kind, in both APIs, and
// how much it is about. None is personal.
var numbers = []string{
	"out_trade_no", "transaction_id", "out_refund_no", "refund_id", "combine_out_trade_no", "partner_trade_no", "mch_billno",
	"out_bill_no", "out_batch_no", "out_order_no", "order_id", "out_return_no",
	"total_fee", "refund_fee", "amount", "total_amount", "transfer_amount", "return_amount",
}

// mostOfNumber bounds what of a number is logged, in bytes: none that is one is
// longer.
const mostOfNumber = 64

// logged are the fields of a line about an operation, behind what came of it.
func (o operation) logged(fields ...zap.Field) []zap.Field {
	fields = append([]zap.Field{zap.String("operation", string(o.op))}, fields...)
	if o.merchant != nil {
		fields = append(fields, zap.String("merchant", o.merchant.Name))
	}
	for _, name := range numbers {
		if value := o.fields.Get(name); value != "" {
			fields = append(fields, zap.String(name, value[:min(len(value), mostOfNumber)]))
		}
	}
	return fields
}

// passedNumbers finds them in a body that is passed on, in API v3's words.
func passedNumbers(body []byte) wepay.Fields {
	var members map[string]json.RawMessage
	var amount struct{ Total, Refund json.RawMessage }
	if json.Unmarshal(body, &members) != nil {
		return nil
	}
	if json.Unmarshal(members["amount"], &amount) == nil {
		members["total_fee"], members["refund_fee"] = amount.Total, amount.Refund
	}
	var found wepay.Fields
	for _, name := range numbers {
		var text string
		var number json.Number
		switch value := members[name]; {
		case json.Unmarshal(value, &text) == nil:
			found.Set(name, text)
		case json.Unmarshal(value, &number) == nil:
			found.Set(name, number.String())
		}
	}
	return found
}

// logUndelivered says that an operation was done whose caller may not know.
func (h *Handler) logUndelivered(r *http.Request, o operation) {
	if o.call != nil && r.Context().Err() != nil {
		h.logger.Warn("operation done, and its caller has hung up", o.logged()...)
	}
}

// logFailure says why an operation was not done, or that it is unknown whether it
// was.
func (h *Handler) logFailure(o operation, failed failure, err error) {
	if o.call != nil && !o.call.logged.CompareAndSwap(false, true) {
		return
	}
	level := failed.level()
	switch {
	case failed.Verdict == wepay.Query:
		level = zap.ErrorLevel
	case failed.Errcode == codeUnauthorized && !h.app.refused.Log(string(o.op)+": not allowed"):
		level = zap.DebugLevel // anyone can ask
	}
	if c := h.logger.Check(level, "operation failed"); c != nil {
		fields := o.logged(zap.Int("errcode", failed.Errcode), zap.String("verdict", string(failed.Verdict)))
		c.Write(append(fields, zap.Error(err))...)
	}
}
