package reconcile

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/windsome/caddy-wepay/caddymodule/recovery"
	"github.com/windsome/caddy-wepay/caddymodule/store"
	"github.com/windsome/caddy-wepay/wepay"
)

// Store is the part of a store that is reconciled with.
type Store interface {
	store.Orders
	Get(ctx context.Context, id string) (*store.Event, error)
}

// matching holds one account's bill of a day against the store.
type matching struct {
	store     Store
	mchID     string    // "": that of the bill
	day, next time.Time // its beginning, and that of the next

	// merchants are the names of those that are reconciled, and foreign reports
	// whether a name is of another that the config has.
	merchants []string
	foreign   func(merchant string) bool

	// ask asks WeChat about an order and has it handed over; nil: nothing is.
	ask func(ctx context.Context, o *store.Order) (recovery.Taken, error)
	// tells reports whether a merchant has an order service for a kind of event.
	tells func(merchant string, kind wepay.Kind) bool

	inBill   members
	parts    map[number]part // of combined payments
	payments []trade
	refunds  []trade
	unasked  int // what WeChat gave no answer about

	report *Report
}

// trade is a trade of the bill with what is known of it here.
type trade struct {
	wepay.Trade
	order  *store.Order
	event  *store.Event
	placed *store.Order // of a refund that is unknown: the order that it gives back
	part   *part        // of a combined payment that was heard of
}

// run fills the report. Nothing is handed over before the whole bill was read and
// found right.
func (m *matching) run(ctx context.Context, b *bills) error {
	if err := m.survey(ctx, b); err != nil {
		return err
	}
	if err := m.combined(ctx); err != nil {
		return err
	}
	err := b.read(ctx, func(t *wepay.Trade) error {
		switch t.State {
		case wepay.TradePaid:
			m.payments = append(m.payments, trade{Trade: *t})
		case wepay.TradeRefunded:
			m.refunds = append(m.refunds, trade{Trade: *t})
		}
		return m.flush(ctx, store.MostNumbers)
	})
	if err == nil {
		err = m.flush(ctx, 1)
	}
	if err == nil {
		err = m.notInBill(ctx)
	}
	return err
}

// survey reads the bill, sums it up and remembers which numbers it has.
func (m *matching) survey(ctx context.Context, b *bills) error {
	r, trades, own, onDay := m.report, 0, 0, 0
	err := b.read(ctx, func(t *wepay.Trade) error {
		trades++
		if m.mchID == "" { // offline
			m.mchID, r.MchID = t.MchID, t.MchID
		}
		if t.MchID == m.mchID || t.SubMchID == m.mchID {
			own++
		}
		r.Fees += t.Fee
		switch t.State {
		case wepay.TradePaid:
			if !t.Time.Before(m.day) && t.Time.Before(m.next) {
				onDay++
			}
			r.Paid.add(t.TotalFee)
			r.PaidSettled += t.SettlementTotalFee
		case wepay.TradeRefunded:
			r.Refunded.add(t.RefundFee)
			r.RefundedSettled += t.SettlementRefundFee
			m.inBill.add(refundNumber, t.OutRefundNo)
			return nil
		case wepay.TradeRevoked:
			r.Revoked.add(t.RefundFee)
		default:
			r.Unknown++
		}
		m.inBill.add(paymentNumber, t.TransactionID)
		return nil
	})
	switch {
	case err != nil:
	case trades > 0 && own == 0:
		err = fmt.Errorf("%w: %w: it is of another account than %s", wepay.ErrMalformed, wepay.ErrBillForm, m.mchID)
	case r.Paid.Count > 0 && onDay == 0:
		err = fmt.Errorf("%w: %w: it is of another day than %s", wepay.ErrMalformed, wepay.ErrBillForm, m.day.Format(time.DateOnly))
	}
	m.inBill.sort()
	return err
}

// The waits before a store that is unavailable for a moment is asked again.
const (
	firstPatience = time.Second
	lastPatience  = 16 * time.Second
)

// patient asks the store for something, and again if it is unavailable for a moment: a
// long bill need not begin anew for that.
func patient(ctx context.Context, ask func() error) error {
	for wait := firstPatience; ; wait *= 2 {
		err := ask()
		if !errors.Is(err, store.ErrUnavailable) || wait > lastPatience {
			return err
		}
		select {
		case <-time.After(wait):
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// flush matches the trades that were read, if there are as many.
func (m *matching) flush(ctx context.Context, least int) error {
	if len(m.payments) >= least {
		if err := m.matchPayments(ctx); err != nil {
			return err
		}
		m.payments = m.payments[:0]
	}
	if len(m.refunds) >= least {
		if err := m.matchRefunds(ctx); err != nil {
			return err
		}
		m.refunds = m.refunds[:0]
	}
	return nil
}

func (m *matching) matchPayments(ctx context.Context) error {
	known, err := m.lookUp(ctx, store.Ordered, m.payments, func(t *trade) string { return t.OutTradeNo })
	if err != nil {
		return err
	}
	var unheard []*trade
	for i := range m.payments {
		t := &m.payments[i]
		t.order, t.event = known.order(m, t, t.OutTradeNo), known.payment(t)
		if p, found := m.parts[numberOf(paymentNumber, t.TransactionID)]; found {
			t.part, t.event = &p, p.event
		}
		switch {
		case t.order == nil && t.event == nil || m.isForeign(t.order, t.event):
			m.report.Others.add(t.TotalFee)
			continue
		case t.event == nil && !m.isTold(t.order):
			unheard = append(unheard, t)
		}
		m.report.Matched++
	}
	outcomes, err := m.handOver(ctx, unheard, func(t *trade) *store.Order { return t.order })
	if err != nil {
		return err
	}
	for i := range m.payments {
		m.judge(&m.payments[i], outcomes, PaidNotHandedOver, AmountDiffers, m.payments[i].TotalFee)
	}
	return nil
}

func (m *matching) matchRefunds(ctx context.Context) error {
	known, err := m.lookUp(ctx, store.Refund, m.refunds, func(t *trade) string { return t.OutRefundNo })
	if err != nil {
		return err
	}
	var unknown []trade
	for i := range m.refunds {
		t := &m.refunds[i]
		if t.order, t.event = known.order(m, t, t.OutRefundNo), known.refund(t); t.order == nil && t.event == nil {
			unknown = append(unknown, *t)
		}
	}
	orders, err := m.lookUp(ctx, store.Ordered, unknown, func(t *trade) string { return t.OutTradeNo })
	if err != nil {
		return err
	}
	var unheard []*trade
	for i := range m.refunds {
		t := &m.refunds[i]
		if t.order == nil && t.event == nil {
			t.placed = orders.order(m, t, t.OutTradeNo)
			if e := orders.payment(t); t.placed == nil && e != nil {
				t.placed = &store.Order{Merchant: e.Merchant, AppID: t.AppID}
			}
		}
		switch {
		case t.order == nil && t.event == nil && t.placed == nil || m.isForeign(t.order, t.event) || m.isForeign(t.placed, nil):
			t.placed = nil
			m.report.OthersRefunded.add(t.RefundFee)
			continue
		case t.RefundStatus == "SUCCESS" && t.event == nil && !m.isTold(t.order):
			unheard = append(unheard, t)
		}
		m.report.Matched++
	}
	outcomes, err := m.handOver(ctx, unheard, (*trade).refundRecord)
	if err != nil {
		return err
	}
	for i := range m.refunds {
		m.judge(&m.refunds[i], outcomes, RefundNotHandedOver, RefundAmountDiffers, m.refunds[i].RefundFee)
	}
	return nil
}

// refundRecord is the record of a refund; where there is none, as that of one which was
// made elsewhere, such as in the merchant platform.
func (t *trade) refundRecord() *store.Order {
	if t.order != nil {
		return t.order
	}
	merchant, appID := "", t.AppID
	if t.placed != nil {
		merchant, appID = t.placed.Merchant, t.placed.AppID
	}
	return &store.Order{
		Kind: store.Refund, Number: t.OutRefundNo, MchID: t.MchID, SubMchID: t.SubMchID, Merchant: merchant, AppID: appID,
		OutTradeNo: t.OutTradeNo, TransactionID: t.RefundID, Amount: t.RefundFee, Currency: "CNY", State: store.OrderRefunding, Placed: t.Time,
	}
}

// isForeign reports whether a trade is of a merchant that is not reconciled.
func (m *matching) isForeign(o *store.Order, e *store.Event) bool {
	return o != nil && m.foreign(o.Merchant) || e != nil && m.foreign(e.Merchant)
}
