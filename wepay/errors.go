package wepay

import (
	"cmp"
	"errors"
	"fmt"
	"strings"
)

// Causes that a caller may need to distinguish, with errors.Is.
var (
	ErrMalformed   = errors.New("malformed message")
	ErrUnreadable  = errors.New("signed by WeChat Pay, but it cannot be read")
	ErrTooLarge    = errors.New("message too large")
	ErrBusy        = errors.New("too much to do at once")
	ErrUnsigned    = errors.New("no signature")
	ErrSignature   = errors.New("wrong signature")
	ErrProbe       = errors.New("a signature probe of WeChat Pay's, wrong on purpose")
	ErrUnknownKey  = errors.New("signed with an unknown key")
	ErrAmbiguous   = errors.New("signed, but ambiguous: it reads in more than one way")
	ErrUnconfirmed = errors.New("an unsigned notification that WeChat Pay did not confirm")
	ErrStale       = errors.New("signed too long ago, or ahead of this machine's clock")
	ErrAPIv3Key    = errors.New("the merchant's apiv3_key does not decrypt it")
	ErrForeign     = errors.New("not about this merchant")
	ErrNotPayment  = errors.New("not a payment notification")
	ErrNoAnswer    = errors.New("no valid answer from WeChat Pay")
	ErrNoMerchant  = errors.New("no such merchant")
	ErrNotAble     = errors.New("merchant not able")
	ErrNoOperation = errors.New("no such operation")
	ErrPassphrase  = errors.New("wrong passphrase")
	ErrBillForm    = errors.New("the bill itself is not as WeChat Pay documents it, and can be had as text only")
)

// Verdict says whether the very same call may be sent again.
type Verdict string

// The verdicts, one meaning everywhere.
const (
	Again Verdict = "AGAIN" // send the same call with the same number again, after a pause
	Query Verdict = "QUERY" // the outcome is unknown and money may have moved: query first
	Later Verdict = "LATER" // refused for a rate or a state that passes: the same number, later
	Fix   Verdict = "FIX"   // the input or the merchant's set-up is wrong: correct it first
	Done  Verdict = "DONE"  // settled already, paid or closed: query to see how
	Never Verdict = "NEVER" // finally refused: this number will not work any more
)

// Advice says in a sentence what the caller should do.
func (v Verdict) Advice() string {
	switch v {
	case Again:
		return "send the same call with the same number again after a pause, never with a new number"
	case Query:
		return "it may have happened: query it before anything else, and never send it with a new number"
	case Later:
		return "it did not happen: send it later with the same number"
	case Fix:
		return "it did not happen: correct the input or the merchant's set-up first"
	case Done:
		return "it is settled already, paid or closed: query it to see how"
	case Never:
		return "it did not happen and this number will not work any more"
	default:
		return ""
	}
}

// billAdvice is Verdict.Advice for bills, which have no number and pay nothing.
var billAdvice = map[Verdict]string{
	Again: "download it again after a pause",
	Later: "download it later: the bills of a day are there from 10:00 Beijing time on the next day",
	Fix:   "nothing was downloaded: correct the input or the merchant's set-up first",
	Done:  "there is no such bill: nothing was traded or moved that day",
	Never: "downloading it again will give the same",
}

// Error is the error of an operation that did not succeed at WeChat Pay.
type Error struct {
	Merchant  string    // the merchant's name
	Operation Operation // what was requested
	Code      string    // WeChat's err_code, where WeChat gave one, in API v2's word
	V3Code    string    // WeChat's own word for it, where that was over API v3
	Message   string    // WeChat's err_code_des or return_msg
	Unsigned  bool      // the refusal is not signed although WeChat signs such: Code and Message are unproven
	Verdict   Verdict   // whether the same call may be sent again
	Ask       Operation // the operation that tells the outcome, where there is one
	Err       error     // the cause, where it was not WeChat that refused
}

// Error names the merchant, the operation, the reason and what to do.
func (e *Error) Error() string {
	var b strings.Builder
	fmt.Fprintf(&b, "merchant %q: %s", e.Merchant, e.Operation)
	if e.Code != "" || e.Message != "" {
		unsigned := ""
		if e.Unsigned {
			unsigned = " without a signature"
		}
		fmt.Fprintf(&b, ": WeChat Pay refused%s: %s", unsigned, strings.TrimSpace(cmp.Or(e.V3Code, e.Code)+" "+e.Message))
	}
	if e.Err != nil {
		fmt.Fprintf(&b, ": %v", e.Err)
	}
	advice := e.Verdict.Advice()
	if e.Operation == DownloadBill || e.Operation == DownloadFundFlow {
		advice = billAdvice[e.Verdict]
	}
	if advice != "" {
		b.WriteString(": " + advice)
	}
	if e.Verdict == Query && e.Ask != "" {
		fmt.Fprintf(&b, " (with %s)", e.Ask)
	}
	return b.String()
}

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Err }

// FieldError says what is wrong with one field of a request or one directive
// of a merchant. It never repeats the value, which may be a secret.
type FieldError struct {
	Field   string // WeChat's name of the field, or the directive
	Reason  string
	Missing bool // the field is required and not there
	Err     error
}

// Error names the field and the reason.
func (e *FieldError) Error() string {
	if e.Err != nil {
		return fmt.Sprintf("%s: %s: %v", e.Field, e.Reason, e.Err)
	}
	return e.Field + ": " + e.Reason
}

// Unwrap returns the cause.
func (e *FieldError) Unwrap() error { return e.Err }

// MerchantError says which merchant's configuration an error is about.
type MerchantError struct {
	Merchant string // its name
	Err      error
}

// Error names the merchant and the reason.
func (e *MerchantError) Error() string { return fmt.Sprintf("merchant %q: %v", e.Merchant, e.Err) }

// Unwrap returns the cause.
func (e *MerchantError) Unwrap() error { return e.Err }
