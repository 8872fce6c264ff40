// Package row has the columns that the tables of API v2 and API v3 share, and the
// checks that follow from them.
package row

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"strings"

	"github.com/windsome/caddy-wepay/wepay"
	"github.com/windsome/caddy-wepay/wepay/internal/endpoints"
)

// Row has the columns that both APIs have.
type Row struct {
	Payout bool // money leaves the account for a payee that the caller names
	Bill   bool // the call is for Download, not for Do

	// Number is the field of the merchant's own number of what the call begins, under
	// which Ask tells its outcome; "": the call begins nothing that is followed.
	Number string

	Rules wepay.Rules              // the fields that a caller may give; nil: any
	Check func(wepay.Fields) error // rules between fields; nil: none
	// Fill are fields that have only one value, or one that serves everybody: a caller
	// need not give them.
	Fill wepay.Fields
	// Complete adds what follows from the merchant; nil: nothing.
	Complete func(*wepay.Merchant, wepay.Fields) (wepay.Fields, error)

	Echoes  []string // fields that have to be equal in request and reply, if the reply has them
	Answers []string // fields that the reply must have

	// Repeatable: sent twice with the same number, the call does no more than sent
	// once. The client may send it to the next endpoint when the first gave no
	// valid answer.
	Repeatable bool
	Unknown    wepay.Verdict            // when there was no valid answer
	Ask        wepay.Operation          // the operation that queries an unknown outcome
	Verdicts   map[string]wepay.Verdict // by WeChat's Plain code, before the API's common ones
}

// Prepare checks the fields that a caller gives and what the merchant may do,
// and completes the fields, which it may change.
func (r *Row) Prepare(m *wepay.Merchant, in wepay.Fields) (wepay.Fields, error) {
	if err := r.CheckInput(in); err != nil {
		return nil, err
	}
	if r.Payout && !m.Payouts {
		return nil, m.NotAble("payouts")
	}
	for _, field := range r.Fill {
		if in.Get(field.Name) == "" {
			in.Set(field.Name, field.Value)
		}
	}
	if r.Complete == nil {
		return in, nil
	}
	return r.Complete(m, in)
}

// CheckInput says what is wrong with the fields that a caller gives.
func (r *Row) CheckInput(in wepay.Fields) error {
	if err := r.Rules.Check(in); err != nil {
		return err
	}
	if r.Check != nil {
		return r.Check(in)
	}
	return nil
}

// CheckEchoes rejects a reply to another request, by the fields Echoes and names.
func (r *Row) CheckEchoes(asked, reply wepay.Fields, names ...string) error {
	for _, name := range append(names, r.Echoes...) {
		if name == "out_trade_no" && asked.Get("transaction_id") != "" {
			continue // WeChat goes by transaction_id alone
		}
		ours, theirs := asked.Get(name), cmp.Or(reply.Get(name), reply.Get(name+"_0"))
		if ours != "" && theirs != "" && ours != theirs {
			return fmt.Errorf("%w: the reply has another %s", wepay.ErrForeign, name)
		}
	}
	return nil
}

// CheckAnswers rejects a reply that lacks one of Answers.
func (r *Row) CheckAnswers(reply wepay.Fields) error {
	for _, name := range r.Answers {
		if reply.Get(name) == "" {
			return fmt.Errorf("the reply lacks %s", name)
		}
	}
	return nil
}

// Announce tells of a call that begins something, right before it is sent: see
// wepay.ClientOptions.Sending. The error is a *wepay.Error that says that nothing was
// sent.
func (r *Row) Announce(
	ctx context.Context, sending func(context.Context, *wepay.Merchant, wepay.Operation, wepay.Fields) error,
	m *wepay.Merchant, op wepay.Operation, request func() wepay.Fields,
) error {
	if sending == nil || r.Number == "" {
		return nil
	}
	if err := sending(ctx, m, op, request()); err != nil {
		return r.Unanswered(r.Failure(m, op), fmt.Errorf("%w: %w", err, endpoints.ErrNotSent))
	}
	return nil
}

// Failure returns the error of an operation, without its cause.
func (r *Row) Failure(m *wepay.Merchant, op wepay.Operation) *wepay.Error {
	return &wepay.Error{Merchant: m.Name, Operation: op, Ask: r.Ask}
}

// Unanswered fills in why there is no valid answer, and the verdict: Again if
// nothing was sent.
func (r *Row) Unanswered(failed *wepay.Error, err error) error {
	failed.Err, failed.Verdict = err, r.Unknown
	if errors.Is(err, endpoints.ErrNotSent) {
		failed.Verdict = wepay.Again
	}
	return failed
}

// Verdict says what a refusal with one of WeChat's codes means for repeating the
// call, unless the row does not know the code.
func (r *Row) Verdict(code string) (verdict wepay.Verdict, known bool) {
	code = Plain(code)
	if v, found := r.Verdicts[code]; found {
		return v, true
	}
	return r.Unknown, code == "SYSTEMERROR"
}

// Unlisted is the verdict on a refusal that is in no table. It is WeChat's answer,
// so that the same call would get it again and again; what a call that changes
// something has changed by then, only asking tells.
func (r *Row) Unlisted() wepay.Verdict {
	if r.Unknown == wepay.Query || r.Ask != "" {
		return wepay.Query
	}
	return wepay.Fix
}

// MovesMoney says whether money may have left the account when the outcome is
// unknown.
func (r *Row) MovesMoney() bool { return r.Payout && r.Unknown == wepay.Query }

var spelling = strings.NewReplacer("_", "", " ", "")

// Plain returns a code of WeChat's in upper case and without underscores and
// blanks, which WeChat uses inconsistently.
func Plain(code string) string { return strings.ToUpper(spelling.Replace(code)) }

// Verdicts are those of a table with some of another in their place.
func Verdicts(table, others map[string]wepay.Verdict) map[string]wepay.Verdict {
	all := maps.Clone(table)
	maps.Copy(all, others)
	return all
}
