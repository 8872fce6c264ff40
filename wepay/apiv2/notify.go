package apiv2

import (
	"fmt"
	"strings"

	"github.com/windsome/caddy-wepay/wepay"
)

// Unverified is a notification whose signature has not been checked. Nothing
// can be read from it but whom it says it is for.
type Unverified struct {
	fields wepay.Fields
}

// ReadNotification reads the body of a notification of a payment or a refund,
// which are told apart by what they are, as both may be sent to one URL. The
// error wraps wepay.ErrMalformed, also for one with return_code FAIL, which
// WeChat does not sign and which says nothing of either.
func ReadNotification(body []byte) (*Unverified, error) {
	fields, err := Decode("xml", body)
	if err != nil {
		return nil, err
	}
	if fields.Get("return_code") != "SUCCESS" {
		return nil, fmt.Errorf("%w: return_code is not SUCCESS", wepay.ErrMalformed)
	}
	return &Unverified{fields}, nil
}

// Recipient returns whom the notification says it is for.
func (u *Unverified) Recipient() wepay.Recipient {
	return wepay.Recipient{
		MchID:     u.fields.Get("mch_id"),
		AppID:     u.fields.Get("appid"),
		SubMchID:  u.fields.Get("sub_mch_id"),
		TradeType: u.fields.Get("trade_type"),
	}
}

// Verify checks the signature with the merchant's key and that the message is
// what WeChat tells of a payment, or opens a refund with the key. That it is of
// a payment matters as much: WeChat signs its replies with the same key, and
// one of those, sent to us by whoever has seen it, must not pass for one.
// Errors wrap wepay.ErrUnsigned, wepay.ErrSignature or wepay.ErrNotPayment.
func (u *Unverified) Verify(merchant *wepay.Merchant, key string) (*wepay.Notification, error) {
	if _, found := u.fields.Lookup("req_info"); found {
		refund, err := openRefund(u.fields, key)
		if err != nil {
			return nil, err
		}
		return &wepay.Notification{Kind: wepay.Refunded, Merchant: merchant, Fields: refund}, nil
	}
	if err := Verify(u.fields, key); err != nil {
		return nil, err
	}
	if err := checkPayment(u.fields); err != nil {
		return nil, err
	}
	return &wepay.Notification{Kind: wepay.Payment, Merchant: merchant, Fields: u.fields}, nil
}

// replyFields are of WeChat's replies; no payment notification has them.
var replyFields = []string{"prepay_id", "refund_id", "out_refund_no", "refund_count", "recall"}

// checkPayment tells a payment notification from WeChat's replies to orders,
// queries and refunds. Contract debits (trade_type PAP) are notified when they
// fail as well; those have trade_state PAY_FAIL and no transaction.
func checkPayment(fields wepay.Fields) error {
	for _, name := range replyFields {
		if _, found := fields.Lookup(name); found {
			return fmt.Errorf("%w: it has %s, which is of a reply", wepay.ErrNotPayment, name)
		}
	}
	if name := hidden(fields); name != "" {
		return fmt.Errorf("%w: it hides %s", wepay.ErrNotPayment, name)
	}
	for _, name := range []string{"mch_id", "out_trade_no"} {
		if fields.Get(name) == "" {
			return fmt.Errorf("%w: it has no %s", wepay.ErrNotPayment, name)
		}
	}
	if fields.Get("result_code") == "FAIL" || fields.Get("trade_state") == "PAY_FAIL" {
		return nil
	}
	if state, found := fields.Lookup("trade_state"); found && state != "SUCCESS" {
		return fmt.Errorf("%w: its trade_state is not SUCCESS", wepay.ErrNotPayment)
	}
	if fields.Get("result_code") != "SUCCESS" || fields.Get("transaction_id") == "" {
		return fmt.Errorf("%w: it lacks result_code or transaction_id", wepay.ErrNotPayment)
	}
	if _, err := wepay.ParseFen(fields.Get("total_fee")); err != nil {
		return fmt.Errorf("%w: total_fee: %w", wepay.ErrNotPayment, err)
	}
	return nil
}

// hidden returns what would tell that a message is no payment, where it stands
// in the value of another field, or "". The text that is signed is not escaped:
// the signature of a=1 and b=2 is also that of a alone with the value "1&b=2",
// so that whoever saw a signed reply could hide in it what tells that it is one.
// The merchant's own attach may look like that; it sorts before mch_id and can
// hide nothing behind that without hiding it too.
func hidden(fields wepay.Fields) string {
	for _, field := range fields {
		if field.Name == "attach" || strings.IndexByte(field.Value, '&') < 0 {
			continue
		}
		for _, name := range append([]string{"trade_state"}, replyFields...) {
			if strings.Contains(field.Value, "&"+name+"=") {
				return name
			}
		}
	}
	return ""
}
