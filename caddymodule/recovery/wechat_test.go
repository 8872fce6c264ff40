package recovery_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"sync"
	"time"

	"github.com/windsome/caddy-wepay/wepay"
)

// weChat is WeChat Pay as far as recovery sees it: orders and refunds with their
// states, what it answers when it is asked, and what it notifies of. It may be away,
// or be asked too much.
type weChat struct {
	wepay.Gateway // of which Do alone is called

	mu       sync.Mutex
	orders   map[string]*wanted
	refunds  map[string]*wanted
	away     bool
	limited  bool
	hangs    bool // it gives no answer at all
	asked    int
	closings int
	onClose  func(*wanted) // what happens in the same moment
}

// wanted is an order or a refund at WeChat.
type wanted struct {
	number, of string // its own number, and of a refund its order's
	fen        int64
	state      string // of API v2: NOTPAY, SUCCESS, CLOSED, REFUND; PROCESSING, SUCCESS, CHANGE, REFUNDCLOSE
	at         time.Time
}

// questions returns how often it was asked.
func (w *weChat) questions() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.asked
}

func newWeChat() *weChat {
	return &weChat{orders: make(map[string]*wanted), refunds: make(map[string]*wanted)}
}

var (
	errAway    = &wepay.Error{Verdict: wepay.Again, Err: wepay.ErrNoAnswer}
	errLimited = &wepay.Error{Verdict: wepay.Later, Code: "FREQUENCY_LIMITED"}
)

// Outcome implements [wepay.Asker].
func (w *weChat) Outcome(ctx context.Context, op wepay.Operation, number, _ string) (*wepay.Outcome, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.asked++
	if w.hangs {
		w.mu.Unlock()
		<-ctx.Done()
		w.mu.Lock()
		return nil, errAway
	}
	switch {
	case w.away:
		return nil, errAway
	case w.limited:
		return nil, errLimited
	case op == wepay.Refund:
		return w.refundOutcome(number), nil
	}
	o := w.orders[number]
	if o == nil {
		return &wepay.Outcome{State: wepay.Missing}, nil
	}
	switch o.state {
	case "SUCCESS", "REFUND":
		return &wepay.Outcome{State: wepay.Succeeded, Word: o.state, Notification: paidNotification(o)}, nil
	case "CLOSED":
		return &wepay.Outcome{State: wepay.Closed, Word: o.state}, nil
	default:
		out := &wepay.Outcome{State: wepay.Pending, Word: o.state}
		if len(number)%2 == 0 { // not every answer names it
			out.Fields.Set("total_fee", strconv.FormatInt(o.fen, 10))
		}
		return out, nil
	}
}

func (w *weChat) refundOutcome(number string) *wepay.Outcome {
	r := w.refunds[number]
	if r == nil {
		return &wepay.Outcome{State: wepay.Missing}
	}
	state := map[string]wepay.OutcomeState{"SUCCESS": wepay.Succeeded, "CHANGE": wepay.Abnormal, "REFUNDCLOSE": wepay.Closed}[r.state]
	if state == "" {
		return &wepay.Outcome{State: wepay.Pending, Word: r.state}
	}
	return &wepay.Outcome{State: state, Word: r.state, Notification: w.refundNotification(r)}
}

// Do implements [wepay.Gateway]: it closes an order, unless it is paid.
func (w *weChat) Do(_ context.Context, _ wepay.Operation, in wepay.Fields) (wepay.Fields, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.closings++
	if w.away {
		return nil, errAway
	}
	o := w.orders[in.Get("out_trade_no")]
	if w.onClose != nil {
		w.onClose(o)
	}
	if o.state != "NOTPAY" {
		return nil, &wepay.Error{Verdict: wepay.Done, Code: "ORDERPAID"}
	}
	o.state = "CLOSED"
	return nil, nil
}

func paidNotification(o *wanted) *wepay.Notification {
	n := payment(o.number, strconv.FormatInt(o.fen, 10))
	n.Fields.Set("time_end", o.at.In(wepay.Beijing).Format("20060102150405"))
	return n
}

func (w *weChat) refundNotification(r *wanted) *wepay.Notification {
	return &wepay.Notification{Kind: wepay.Refunded, Merchant: shop, EventType: "REFUND." + r.state, Fields: wepay.NewFields(map[string]string{
		"out_refund_no": r.number, "refund_id": "50" + r.number, "out_trade_no": r.of, "transaction_id": "42" + r.of,
		"total_fee": strconv.FormatInt(w.orders[r.of].fen, 10), "refund_fee": strconv.FormatInt(r.fen, 10),
		"refund_status": r.state, "success_time": r.at.In(wepay.Beijing).Format(time.DateTime),
	})}
}

// shopService is an order service, and what it was told.
type shopService struct {
	mu    sync.Mutex
	away  bool
	told  map[string]string // the body by the webhook-id
	paid  map[string]string // the webhook-id by the transaction or refund
	wrong []error
}

func newShopService() *shopService {
	return &shopService{told: make(map[string]string), paid: make(map[string]string)}
}

// RoundTrip takes an event.
func (s *shopService) RoundTrip(r *http.Request) (*http.Response, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.away {
		return nil, errors.New("the order service is away")
	}
	body := bodyOf(r)
	id, event := r.Header.Get("webhook-id"), r.Header.Get("wepay-event")
	if before, again := s.told[id]; again && before != body {
		s.wrong = append(s.wrong, fmt.Errorf("%s is told as %s and as %s", id, before, body))
	}
	s.told[id] = body
	if what := about(body, event); what != "" {
		if other, twice := s.paid[what]; twice && other != id {
			s.wrong = append(s.wrong, fmt.Errorf("%s is told under two webhook-ids: %s", what, body))
		}
		s.paid[what] = id
	}
	return &http.Response{StatusCode: http.StatusNoContent, Header: http.Header{}, Body: http.NoBody, Request: r}, nil
}

// about names what a body tells of, with its outcome and amount.
func about(body, event string) string {
	var fields map[string]string
	if json.Unmarshal([]byte(body), &fields) != nil {
		return ""
	}
	switch {
	case fields["out_refund_no"] != "":
		return "refund " + fields["out_refund_no"] + " " + fields["refund_status"] + " " + fields["refund_fee"]
	case event == "TRANSACTION.SUCCESS":
		return "paid " + fields["out_trade_no"] + " " + fields["total_fee"]
	default:
		return event + " " + fields["out_trade_no"]
	}
}

func bodyOf(r *http.Request) string {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		panic(err) // it is in memory
	}
	return string(body)
}
