package apiv2

import (
	"encoding/json"
	"fmt"
	"iter"
	"slices"
	"strings"

	"github.com/windsome/caddy-wepay/wepay"
)

// WeChat signs the text a=1&b=2 without escaping the values: the signature of
// a=1 and b=2 is also that of a alone with the value "1&b=2". What an order's
// attach says is its caller's to choose, so that whoever knows one signature
// could cut its text into fields that WeChat never wrote. A payment is accepted
// in one reading only, and this is why no other passes for it:
//
//   - No value but attach holds "&name=" for a documented name, so that each of
//     these begins a field in every reading that is accepted.
//   - Whatever sorts before attach is of a form without an ampersand, so that
//     attach begins where WeChat had it begin.
//   - What follows attach is a documented field, which attach does not hold:
//     for a payment that is bank_type. Thus attach ends where it did for WeChat.

// form is what the value of a field may hold.
type form int

const (
	undocumented form = iota // text, of a field that WeChat may have added
	text                     // anything that reads as no further field
	token                    // numbers, words and times: neither & nor = stands in them
	digits                   // the amount that an order service compares
	jsonText                 // may read as unknown fields, within its strings
	attached                 // the order's attach: see checkAttach
)

// formOf returns the form of a payment notification's field.
// Source: WeChat Pay, 支付结果通知 and 扣款结果通知.
func formOf(name string) form {
	switch name {
	case "appid", "bank_type", "cash_fee", "cash_fee_type", "contract_id", "coupon_count", "coupon_fee", "coupon_id", "coupon_type", "fee_type", "is_subscribe", "mch_id",
		"nonce_str", "openid", "out_trade_no", "rate_value", "result_code", "return_code", "settlement_total_fee", "sign_type", "sub_appid",
		"sub_is_subscribe", "sub_mch_id", "sub_openid", "time_end", "trade_state", "trade_type", "transaction_id", "user_repaid", "version":
		return token
	case "total_fee":
		return digits
	case "device_info", "err_code", "err_code_des", "return_msg":
		return text
	case "promotion_detail":
		return jsonText
	case "attach":
		return attached
	}
	if rest, found := strings.CutPrefix(name, "coupon_"); found {
		return couponForm(rest)
	}
	return undocumented
}

// couponForm is that of the coupons' fields, which are numbered.
func couponForm(rest string) form {
	kind, number, numbered := strings.Cut(rest, "_")
	switch {
	case !numbered || number == "" || wepay.Digits(number) != nil:
		return undocumented
	case kind == "fee" || kind == "id" || kind == "type":
		return token
	default:
		return undocumented
	}
}

// checkReading says why fields cannot be the one reading of what WeChat signed.
// The error wraps wepay.ErrAmbiguous.
func checkReading(fields wepay.Fields) error {
	for i, field := range fields {
		if err := checkForm(field); err != nil {
			return err
		}
		if field.Name == "attach" {
			if err := checkAttach(fields, i); err != nil {
				return err
			}
		}
	}
	return nil
}

func checkForm(field wepay.Field) error {
	form := formOf(field.Name)
	switch {
	case form == token && strings.ContainsAny(field.Value, "&="),
		form == digits && wepay.Digits(field.Value) != nil,
		form == jsonText && !json.Valid([]byte(field.Value)):
		return fmt.Errorf("%w: %s has not its form", wepay.ErrAmbiguous, field.Name)
	case form == text && holdsField(field.Value, anyField),
		form == jsonText && holdsField(field.Value, isDocumented):
		return fmt.Errorf("%w: %s reads as a further field, too", wepay.ErrAmbiguous, field.Name)
	case form == undocumented && holdsField(field.Value, anyField):
		return fmt.Errorf("%w: a field that is not known here reads as a further one, too", wepay.ErrAmbiguous)
	default:
		return nil
	}
}

// checkAttach has an attach end where WeChat had it end: the field behind it is
// documented, and nothing in attach could be that one, or one that is missing.
func checkAttach(fields wepay.Fields, i int) error {
	next := ""
	if i+1 < len(fields) {
		next = fields[i+1].Name
	}
	if formOf(next) == undocumented {
		return fmt.Errorf("%w: what follows attach could be a part of it", wepay.ErrAmbiguous)
	}
	missing := func(name string) bool {
		if !isDocumented(name) {
			return false
		}
		_, found := fields.Lookup(name)
		return !found || name == next
	}
	if holdsField(fields[i].Value, missing) {
		return fmt.Errorf("%w: attach could hold the field behind it, or one that is missing", wepay.ErrAmbiguous)
	}
	return nil
}

// checkOrderText refuses an order whose payment could not be notified of, since
// its attach or device_info reads as a field of that notification. An attach
// may hold what every notification has a field of its own for.
func checkOrderText(in wepay.Fields) error {
	missing := func(name string) bool { return isDocumented(name) && !slices.Contains(alwaysNotified, name) }
	if holdsField(in.Get("attach"), missing) {
		return &wepay.FieldError{Field: "attach", Reason: "must not hold & and = around the name of a field of WeChat Pay's: the payment's notification could not be told from a forged one"}
	}
	if holdsField(in.Get("device_info"), anyField) {
		return &wepay.FieldError{Field: "device_info", Reason: "must not hold & and = around a name: the payment's notification could not be told from a forged one"}
	}
	return nil
}

// alwaysNotified are the fields of every payment's notification, but for the
// one that attach ends before.
var alwaysNotified = []string{
	"appid", "attach", "mch_id", "nonce_str", "openid", "out_trade_no", "result_code", "return_code",
	"time_end", "total_fee", "trade_type", "transaction_id",
}

func anyField(string) bool { return true }

func isDocumented(name string) bool { return formOf(name) != undocumented }

// holdsField says whether a value reads as a further field of some name.
func holdsField(value string, some func(name string) bool) bool {
	if strings.IndexByte(value, '&') < 0 {
		return false
	}
	for name := range fieldNames(value) {
		if some(name) {
			return true
		}
	}
	return false
}

// fieldNames yields the name of each field that a value reads as: &name=, where
// an element can have the name.
func fieldNames(value string) iter.Seq[string] {
	return func(yield func(string) bool) {
		for {
			_, after, found := strings.Cut(value, "&")
			if !found {
				return
			}
			n := nameLength(after)
			if n > 0 && strings.HasPrefix(after[n:], "=") && !yield(after[:n]) {
				return
			}
			value = after
		}
	}
}

func isToken(value string) bool {
	for _, c := range []byte(value) {
		if c <= ' ' || c > '~' || c == '&' || c == '=' {
			return false
		}
	}
	return true
}
