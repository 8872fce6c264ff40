package reconcile

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"

	"github.com/windsome/caddy-wepay/caddymodule/store"
	"github.com/windsome/caddy-wepay/wepay"
)

// handedOver are the states of events that the order service has, may have, or will
// get.
var handedOver = []store.State{store.Delivered, store.Waiting, store.Dead}

// occurred calls each for the events of a kind that are about the day's money.
func (m *matching) occurred(ctx context.Context, kind wepay.Kind, each func(*store.Event)) error {
	for _, merchant := range m.merchants {
		queue := store.Queue{Merchant: merchant, Kind: kind}
		err := m.store.Occurred(ctx, queue, m.day, m.next, func(e *store.Event) error {
			if isSuccess(e) {
				each(e)
			}
			return ctx.Err()
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// notInBill reports what was handed over that day and the bill does not have.
func (m *matching) notInBill(ctx context.Context) error {
	err := m.occurred(ctx, wepay.Payment, func(e *store.Event) {
		switch {
		case !slices.Contains(handedOver, e.State):
		case e.TransactionID == "":
			m.report.Unchecked++
		case !m.inBill.has(paymentNumber, e.TransactionID):
			m.report.find(unbilled(HandedOverNotInBill, e))
		}
	})
	if err != nil {
		return err
	}
	var missing []*store.Event
	err = m.occurred(ctx, wepay.Refunded, func(e *store.Event) {
		switch {
		case !slices.Contains(handedOver, e.State) || m.inBill.has(refundNumber, e.OutRefundNo):
		case len(missing) < MostFindings:
			missing = append(missing, e)
		default:
			m.report.Unchecked++
		}
	})
	for portion := range slices.Chunk(missing, store.MostNumbers) {
		if err == nil {
			err = m.refundsNotInBill(ctx, portion)
		}
	}
	return err
}

// refundsNotInBill reports those of these refunds that were applied for on the day as
// well: on whichever of the two days WeChat puts a refund in the bill, they are in this
// one. When others were applied for, nothing says.
func (m *matching) refundsNotInBill(ctx context.Context, missing []*store.Event) error {
	numbers := make([]string, len(missing))
	for i, e := range missing {
		numbers[i] = e.OutRefundNo
	}
	slices.Sort(numbers)
	numbers = slices.Compact(numbers)
	var refunds []*store.Order
	err := patient(ctx, func() (err error) {
		refunds, _, err = m.store.Match(ctx, store.Refund, numbers)
		return err
	})
	if err != nil {
		return err
	}
	for _, e := range missing {
		i := slices.IndexFunc(refunds, func(o *store.Order) bool {
			return o.Number == e.OutRefundNo && o.MchID == m.mchID && o.Merchant == e.Merchant && o.Operation != ""
		})
		if i < 0 || refunds[i].Placed.Before(m.day) {
			m.report.Unchecked++
			continue
		}
		f := unbilled(RefundNotInBill, e)
		f.SubMchID, f.RefundID, f.OrderFen, f.OrderState = refunds[i].SubMchID, refunds[i].TransactionID, refunds[i].Amount, refunds[i].State
		m.report.find(f)
	}
	return nil
}

func unbilled(kind FindingKind, e *store.Event) Finding {
	return Finding{
		Kind: kind, Merchant: e.Merchant, Time: e.Occurred, OutTradeNo: e.OutTradeNo, TransactionID: e.TransactionID, OutRefundNo: e.OutRefundNo,
		EventFen: e.Amount, EventID: e.ID, EventState: e.State,
	}
}

// part is one order of several that were paid together.
type part struct {
	fen   int64
	event *store.Event
}

// combined reads which payments the events of combined payments are about: the bill has
// each of their orders, under numbers that only the payloads have.
func (m *matching) combined(ctx context.Context) error {
	var events []*store.Event
	if err := m.occurred(ctx, wepay.CombinedPayment, func(e *store.Event) { events = append(events, e) }); err != nil {
		return err
	}
	m.parts = make(map[number]part)
	for _, e := range events {
		var whole *store.Event
		err := patient(ctx, func() (err error) {
			whole, err = m.store.Get(ctx, e.ID)
			return err
		})
		if err != nil && !errors.Is(err, store.ErrNoEvent) {
			return err
		}
		var orders []subOrder
		if err == nil && whole.Payload != nil {
			if orders, err = subOrders(whole.Payload); err != nil {
				return fmt.Errorf("event %s: reading its payload: %w", e.ID, err)
			}
		}
		if len(orders) == 0 {
			m.report.Unchecked++
		}
		for _, o := range orders {
			if o.mchID != m.mchID {
				continue
			}
			m.parts[numberOf(paymentNumber, o.transactionID)] = part{o.fen, e}
			if slices.Contains(handedOver, e.State) && !m.inBill.has(paymentNumber, o.transactionID) {
				f := unbilled(HandedOverNotInBill, e)
				f.OutTradeNo, f.TransactionID, f.SubMchID, f.EventFen = o.number, o.transactionID, o.subMchID, o.fen
				m.report.find(f)
			}
		}
	}
	return nil
}

// subOrder is one order of a combined payment.
type subOrder struct {
	mchID, subMchID, number, transactionID string
	fen                                    int64
}

// subOrders reads the orders of a combined payment's payload, in API v2's names or as
// WeChat wrote it.
func subOrders(payload []byte) (orders []subOrder, err error) {
	var v3 struct {
		Orders []struct {
			MchID         string `json:"mchid"`
			SubMchID      string `json:"sub_mchid"`
			Number        string `json:"out_trade_no"`
			TransactionID string `json:"transaction_id"`
			Amount        struct {
				Total int64 `json:"total_amount"`
			} `json:"amount"`
		} `json:"sub_orders"`
	}
	if err := json.Unmarshal(payload, &v3); err == nil && len(v3.Orders) > 0 {
		for _, o := range v3.Orders {
			orders = append(orders, subOrder{o.MchID, o.SubMchID, o.Number, o.TransactionID, o.Amount.Total})
		}
		return orders, nil
	}
	var v2 map[string]string
	if err := json.Unmarshal(payload, &v2); err != nil {
		return nil, err
	}
	for _, o := range wepay.NewFields(v2).Numbered() {
		if id := o.Get("transaction_id"); id != "" {
			fen, err := strconv.ParseInt(o.Get("total_fee"), 10, 64)
			if err != nil {
				return nil, fmt.Errorf("total_fee: %w", err)
			}
			orders = append(orders, subOrder{o.Get("mch_id"), o.Get("sub_mch_id"), o.Get("out_trade_no"), id, fen})
		}
	}
	return orders, nil
}
