package sqlstore

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/windsome/caddy-wepay/caddymodule/store"
	"github.com/windsome/caddy-wepay/wepay"
)

// session runs statements in one transaction. Arguments are int64, string, []byte
// or nil, and parameters are written as ?.
type session interface {
	exec(query string, args ...any) (affected int64, err error)

	// query calls each for every row, with what scans it into *int64, *string or
	// *[]byte.
	query(query string, each func(scan func(dest ...any) error) error, args ...any) error
}

// The columns of an event: as they are written by Put, and as they are read.
const (
	putColumns = "id, id_text, merchant, kind, event_type, out_trade_no, transaction_id, out_refund_no, amount, currency, after_id, " +
		"source, occurred, received, trace, payload, state, due, attempts, since, ended, refused, reason, answer"
	selectEvent  = selectBefore + "payload" + selectAfter
	selectRecord = selectBefore + "NULL" + selectAfter // without the payload
	selectBefore = "SELECT seq, id, COALESCE(id_text, ''), merchant, kind, COALESCE(event_type, ''), COALESCE(out_trade_no, ''), " +
		"COALESCE(transaction_id, ''), COALESCE(out_refund_no, ''), amount, COALESCE(currency, ''), COALESCE(after_id, ''), " +
		"COALESCE(source, ''), COALESCE(occurred, 0), received, trace, "
	selectAfter = ", state, COALESCE(due, 0), attempts, COALESCE(since, 0), COALESCE(ended, 0), refused, " +
		"COALESCE(reason, ''), COALESCE(answer, '') FROM "
)

// progressColumns are how far an event has come, and setProgress writes that.
var (
	progressColumns = []string{"state", "due", "attempts", "since", "ended", "refused", "reason", "answer"}
	setProgress     = "UPDATE wepay_event SET " + strings.Join(progressColumns, " = ?, ") + " = ?"
)

// putRow is the parameters of one row of putColumns.
var putRow = "(?" + strings.Repeat(", ?", strings.Count(putColumns, ",")) + ")"

// key is what an event is found by.
type key [16]byte

// generated starts the webhook-ids that a key says wholly.
const generated = "evt_"

// keyOf returns the key of an event's ID, and the text that is stored with it
// where the key does not say it: of one of WeChat's own.
func keyOf(id string) (k key, text string) {
	if digits, ok := strings.CutPrefix(id, generated); ok && len(digits) == hex.EncodedLen(len(k)) && strings.ToLower(digits) == digits {
		if _, err := hex.Decode(k[:], []byte(digits)); err == nil {
			return k, ""
		}
	}
	sum := sha256.Sum256([]byte(id))
	copy(k[:], sum[:])
	return k, id
}

// idOf returns the ID that a key and its text say.
func idOf(key []byte, text string) string {
	if text != "" {
		return text
	}
	return generated + hex.EncodeToString(key)
}

// text and number write what is empty as NULL.
func text(s string) any {
	if s == "" {
		return nil
	}
	return s
}

func number(n int64) any {
	if n == 0 {
		return nil
	}
	return n
}

func millis(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.UnixMilli()
}

func fromMillis(ms int64) time.Time {
	if ms == 0 {
		return time.Time{}
	}
	return time.UnixMilli(ms)
}

// traceArg returns a trace as it is stored, and scanTrace reads it.
func traceArg(trace http.Header) (any, error) {
	if len(trace) == 0 {
		return nil, nil
	}
	encoded, err := json.Marshal(trace)
	if err != nil {
		return nil, fmt.Errorf("encoding the trace: %w", err)
	}
	return encoded, nil
}

func scanTrace(stored []byte) (trace http.Header, err error) {
	if stored == nil {
		return nil, nil
	}
	if err := json.Unmarshal(stored, &trace); err != nil {
		return nil, fmt.Errorf("decoding the trace: %w", err)
	}
	return trace, nil
}

// dueOf returns when a waiting event is due, as it is stored; never the zero time.
func dueOf(e *store.Event) time.Time { return time.UnixMilli(millis(e.Due)) }

// putArgs returns an event as putColumns has it.
func putArgs(e *store.Event) ([]any, error) {
	k, idText := keyOf(e.ID)
	trace, err := traceArg(e.Trace)
	if err != nil {
		return nil, err
	}
	var payload any
	if e.Payload != nil {
		payload = []byte(e.Payload)
	}
	args := []any{
		k[:], text(idText), e.Merchant, string(e.Kind), text(e.EventType), text(e.OutTradeNo), text(e.TransactionID), text(e.OutRefundNo),
		e.Amount, text(e.Currency), text(e.After), text(string(e.Source)), number(millis(e.Occurred)),
		millis(e.Received), trace, payload,
	}
	return append(args, progressArgs(e)...), nil
}

// progressArgs returns how far an event has come, as progressColumns has it.
func progressArgs(e *store.Event) []any {
	var refused int64
	if e.Refused {
		refused = 1
	}
	due := number(millis(e.Due))
	if e.State == store.Waiting {
		due = millis(e.Due) // never NULL, which is never due
	}
	return []any{
		string(e.State), due, int64(e.Attempts), number(millis(e.Since)), number(millis(e.Ended)), refused,
		text(store.Text(e.Reason)), text(store.Text(e.Answer)),
	}
}

// row is an event with the number of its row.
type row struct {
	*store.Event
	seq int64
}

// scanEvent reads what selectEvent selects.
func scanEvent(scan func(dest ...any) error) (row, error) {
	e := new(store.Event)
	var seq, occurred, received, due, attempts, since, ended, refused int64
	var id, trace, payload []byte
	var idText, kind, source, state string
	err := scan(
		&seq, &id, &idText, &e.Merchant, &kind, &e.EventType, &e.OutTradeNo, &e.TransactionID, &e.OutRefundNo, &e.Amount, &e.Currency, &e.After,
		&source, &occurred, &received, &trace, &payload, &state, &due, &attempts, &since, &ended, &refused, &e.Reason, &e.Answer,
	)
	if err != nil {
		return row{}, err
	}
	e.ID, e.Kind, e.State, e.Payload = idOf(id, idText), wepay.Kind(kind), store.State(state), payload
	e.Source, e.Occurred = store.Source(source), fromMillis(occurred)
	e.Received, e.Due, e.Since, e.Ended = fromMillis(received), fromMillis(due), fromMillis(since), fromMillis(ended)
	e.Attempts, e.Refused = int(attempts), refused != 0
	if e.Trace, err = scanTrace(trace); err != nil {
		return row{}, fmt.Errorf("event %s: %w", e.ID, err)
	}
	return row{e, seq}, nil
}

// readBack reads an event from what putArgs wrote of it, as a query would.
func readBack(seq int64, written []any) (row, error) {
	return scanEvent(func(dest ...any) error {
		*dest[0].(*int64) = seq
		for i, d := range dest[1:] {
			switch d := d.(type) {
			case *int64:
				*d, _ = written[i].(int64)
			case *string:
				*d, _ = written[i].(string)
			case *[]byte:
				b, _ := written[i].([]byte)
				*d = append([]byte(nil), b...)
			}
		}
		return nil
	})
}

// find returns the event of an ID.
func find(s session, id, suffix string) (found row, err error) {
	k, _ := keyOf(id)
	err = s.query(selectEvent+"wepay_event WHERE id = ?"+suffix, func(scan func(...any) error) error {
		found, err = scanEvent(scan)
		return err
	}, k[:])
	if err != nil {
		return row{}, err
	}
	if found.Event == nil || found.ID != id {
		return row{}, store.ErrNoEvent
	}
	return found, nil
}

// marks returns n parameters in parentheses.
func marks(n int) string { return "(?" + strings.Repeat(", ?", n-1) + ")" }
