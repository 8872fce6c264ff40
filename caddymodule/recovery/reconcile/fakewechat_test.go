package reconcile_test

import (
	"context"
	"io"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/windsome/caddy-wepay/wepay"
)

// weChat answers questions about orders, by their numbers, and has bills.
type weChat struct {
	wepay.Gateway // which is not called

	mu      sync.Mutex
	paid    map[string]wepay.Fields // by out_trade_no or out_refund_no
	away    bool
	asked   []string
	bills   map[string]string // by sub_mch_ids and dates, such as "/20261129"
	refuses *wepay.Error      // downloads
	slow    time.Duration     // a download takes so long
	fetched []string
}

func (w *weChat) Outcome(_ context.Context, op wepay.Operation, number, subMchID string) (*wepay.Outcome, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.asked = append(w.asked, string(op)+" "+subMchID+"/"+number)
	fields, found := w.paid[number]
	m := &wepay.Merchant{Name: "shop", Type: wepay.Direct, MchID: mchID, AppID: appID, CbNotifyURL: "http://orders"}
	n := &wepay.Notification{Merchant: m, Fields: fields, Kind: wepay.Payment, EventType: "TRANSACTION.SUCCESS"}
	switch {
	case w.away:
		return nil, &wepay.Error{Verdict: wepay.Again, Err: wepay.ErrNoAnswer}
	case !found:
		return &wepay.Outcome{State: wepay.Missing, Word: "ORDERNOTEXIST"}, nil
	case op == wepay.Micropay:
		n = nil
	case op == wepay.Refund:
		n.Kind, n.EventType = wepay.Refunded, "REFUND.SUCCESS"
	}
	return &wepay.Outcome{State: wepay.Succeeded, Word: "SUCCESS", Fields: fields, Notification: n}, nil
}

// pays has WeChat say that an order was paid.
func (w *weChat) pays(number, transactionID string, fen int64) {
	w.paid[number] = wepay.NewFields(map[string]string{
		"result_code": "SUCCESS", "out_trade_no": number, "transaction_id": transactionID, "total_fee": strconv.FormatInt(fen, 10),
		"appid": appID, "mch_id": mchID, "time_end": "20261129120000", "openid": "oSECRET",
	})
}

func (w *weChat) refunds(number, refundID, order, transactionID string, fen int64) {
	w.paid[number] = wepay.NewFields(map[string]string{
		"out_refund_no": number, "refund_id": refundID, "out_trade_no": order, "transaction_id": transactionID,
		"refund_fee": strconv.FormatInt(fen, 10), "refund_status": "SUCCESS", "success_time": "2026-11-29 12:00:00", "mch_id": mchID,
	})
}

// gateway is a merchant's Gateway.Download. Bills of others than mchID are known by
// their mch_ids as well.
func (w *weChat) gateway(m *wepay.Merchant) func(context.Context, wepay.Operation, wepay.Fields) (*wepay.Bill, error) {
	return func(ctx context.Context, _ wepay.Operation, in wepay.Fields) (*wepay.Bill, error) {
		key := in.Get("sub_mch_id") + "/" + in.Get("bill_date")
		if m.MchID != mchID {
			key = m.MchID + key
		}
		return w.download(ctx, key)
	}
}

func (w *weChat) download(ctx context.Context, key string) (*wepay.Bill, error) {
	w.mu.Lock()
	w.fetched = append(w.fetched, key)
	slow := w.slow
	w.mu.Unlock()
	if slow > 0 {
		select {
		case <-time.After(slow):
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	text, found := w.bills[key]
	switch {
	case w.refuses != nil:
		return nil, w.refuses
	case !found:
		return nil, &wepay.Error{Operation: wepay.DownloadBill, Verdict: wepay.Done, Message: "No Bill Exist"}
	}
	return &wepay.Bill{Reader: strings.NewReader(text), Closer: io.NopCloser(nil)}, nil
}

// takes has a download take so long.
func (w *weChat) takes(slow time.Duration) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.slow = slow
}

// downloads returns how many there were.
func (w *weChat) downloads() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return len(w.fetched)
}
