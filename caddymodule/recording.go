package caddymodule

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"time"

	"go.uber.org/zap"

	"github.com/windsome/caddy-wepay/caddymodule/recovery"
	"github.com/windsome/caddy-wepay/caddymodule/store"
	"github.com/windsome/caddy-wepay/wepay"
)

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
