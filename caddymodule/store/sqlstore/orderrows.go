package sqlstore

import (
	"fmt"
	"strings"
	"time"

	"github.com/windsome/caddy-wepay/caddymodule/store"
	"github.com/windsome/caddy-wepay/wepay"
)

// The columns of an order: as they are written, and as they are read after seq.
const (
	orderColumns = "kind, number, mch_id, sub_mch_id, merchant, appid, operation, api, out_trade_no, transaction_id, amount, also, currency, " +
		"refunded, state, placed, expires, close_at, due, asked, last_asked, source, paid, ended, reason, event_id, trace"
	selectOrder = "SELECT seq, kind, number, mch_id, sub_mch_id, merchant, COALESCE(appid, ''), COALESCE(operation, ''), COALESCE(api, ''), " +
		"COALESCE(out_trade_no, ''), COALESCE(transaction_id, ''), amount, COALESCE(also, 0), COALESCE(currency, ''), refunded, state, placed, " +
		"COALESCE(expires, 0), COALESCE(close_at, 0), COALESCE(due, 0), asked, COALESCE(last_asked, 0), COALESCE(source, ''), COALESCE(paid, 0), " +
		"COALESCE(ended, 0), COALESCE(reason, ''), COALESCE(event_id, ''), trace FROM "
)

// keyColumns is how many of orderColumns, the first ones, are what an order is known
// by: they never change.
const keyColumns = 4

var (
	insertOrder = "INSERT INTO wepay_order (" + orderColumns + ") VALUES " + marks(strings.Count(orderColumns, ",")+1) + " "
	updateOrder = "UPDATE wepay_order SET " + strings.Join(strings.Split(orderColumns, ", ")[keyColumns:], " = ?, ") + " = ? WHERE seq = ?"
)

// timeArg writes a time that is zero as NULL.
func timeArg(t time.Time) any {
	if t.IsZero() {
		return nil
	}
	return t.UnixMilli()
}

// orderArgs returns an order as orderColumns has it.
func orderArgs(o *store.Order) ([]any, error) {
	trace, err := traceArg(o.Trace)
	if err != nil {
		return nil, fmt.Errorf("order %q: %w", o.Number, err)
	}
	return []any{
		string(o.Kind), o.Number, o.MchID, o.SubMchID,
		o.Merchant, text(o.AppID), text(string(o.Operation)), text(string(o.API)), text(o.OutTradeNo), text(o.TransactionID),
		o.Amount, number(o.Also), text(o.Currency), o.Refunded, string(o.State),
		millis(o.Placed), timeArg(o.Expires), timeArg(o.CloseAt), timeArg(o.Due), int64(o.Asked), timeArg(o.LastAsked),
		text(string(o.Source)), timeArg(o.Paid), timeArg(o.Ended), text(store.Text(o.Reason)), text(o.EventID), trace,
	}, nil
}

// orderRow is an order with the number of its row.
type orderRow struct {
	*store.Order
	seq int64
}

// scanOrder reads what selectOrder selects.
func scanOrder(scan func(dest ...any) error) (orderRow, error) {
	o := new(store.Order)
	var seq, placed, expires, closeAt, due, asked, lastAsked, paid, ended int64
	var kind, operation, api, state, source string
	var trace []byte
	err := scan(
		&seq, &kind, &o.Number, &o.MchID, &o.SubMchID, &o.Merchant, &o.AppID, &operation, &api, &o.OutTradeNo, &o.TransactionID,
		&o.Amount, &o.Also, &o.Currency, &o.Refunded, &state, &placed, &expires, &closeAt, &due, &asked, &lastAsked,
		&source, &paid, &ended, &o.Reason, &o.EventID, &trace,
	)
	if err != nil {
		return orderRow{}, err
	}
	o.Kind, o.Operation, o.API = store.OrderKind(kind), wepay.Operation(operation), wepay.API(api)
	o.State, o.Source, o.Asked = store.OrderState(state), store.Source(source), int(asked)
	o.Placed, o.Expires, o.CloseAt, o.Due = fromMillis(placed), fromMillis(expires), fromMillis(closeAt), fromMillis(due)
	o.LastAsked, o.Paid, o.Ended = fromMillis(lastAsked), fromMillis(paid), fromMillis(ended)
	if o.Trace, err = scanTrace(trace); err != nil {
		return orderRow{}, fmt.Errorf("order %q: %w", o.Number, err)
	}
	return orderRow{o, seq}, nil
}
