package apiv2

import (
	"cmp"
	"context"
	"fmt"
	"slices"

	"github.com/windsome/caddy-wepay/wepay"
)

// Unverified is a notification whose signature has not been checked. Nothing
// can be read from it but whom it says it is for.
type Unverified struct {
	fields wepay.Fields
}

// ReadNotification reads the body of a notification. What it is of is told by what
// it says, as all may be sent to one URL. An element without a value is left out, as
// it is of the signature. The error wraps wepay.ErrMalformed, also for one with
// return_code FAIL, which WeChat does not sign and which says nothing. Some notices
// have none; what else has none is verified and then refused, so that it is known
// whose it is.
func ReadNotification(body []byte) (*Unverified, error) {
	fields, err := Decode("xml", body)
	if err != nil {
		return nil, err
	}
	if code, found := fields.Lookup("return_code"); code != "SUCCESS" && (found || fields.Get("req_info") != "") {
		return nil, fmt.Errorf("%w: return_code is not SUCCESS", wepay.ErrMalformed)
	}
	// The signature leaves them out, so that their presence is not authenticated.
	fields = slices.DeleteFunc(fields, func(f wepay.Field) bool { return f.Value == "" })
	return &Unverified{fields}, nil
}

// Recipient returns whom the notification says it is for.
func (u *Unverified) Recipient() wepay.Recipient {
	r := wepay.Recipient{
		MchID:     u.fields.Get("mch_id"),
		AppID:     u.fields.Get("appid"),
		SubMchID:  u.fields.Get("sub_mch_id"),
		TradeType: u.fields.Get("trade_type"),
	}
	// What is no payment either way need not say of which app it is to be refused.
	anyApp := (r.AppID == "" || r.TradeType == "") && checkPayment(u.fields) != nil
	if (anyApp || isEvent(u.fields)) && u.fields.Get("req_info") == "" {
		r.Kind, r.Account, r.AppID, r.TradeType = wepay.OtherEvent, r.MchID, cmp.Or(r.AppID, u.fields.Get("app_id")), ""
	}
	return r
}

// isEvent reports whether fields are a notice by what they say, or of a kind that is
// not known here.
func isEvent(fields wepay.Fields) bool { return noticeOf(fields) != nil || checkUnknown(fields) == nil }

// Verify returns what WeChat vouches for. A payment is what WeChat signed, in the
// one reading that it has, and so is any other notice. A refund's notification bears no signature: it is
// taken for a hint, WeChat is asked about the refund, within 3 seconds, and what
// WeChat says of it is returned under the notification's names.
//
// Errors wrap wepay.ErrUnsigned, wepay.ErrSignature, wepay.ErrAmbiguous,
// wepay.ErrNotPayment or, for a refund, wepay.ErrUnconfirmed; in the sandbox
// also wepay.ErrNoAnswer, as its key has to be asked for.
func (c *Client) Verify(ctx context.Context, u *Unverified) (*wepay.Notification, error) {
	key, err := c.notificationKey(ctx)
	if err != nil {
		return nil, err
	}
	if reqInfo := u.fields.Get("req_info"); reqInfo != "" {
		claimed, err := openRefund(reqInfo, key)
		if err != nil {
			return nil, err
		}
		refund, err := c.confirmRefund(ctx, claimed, u.fields.Get("sub_mch_id"))
		if err != nil {
			return nil, fmt.Errorf("%w: %w", wepay.ErrUnconfirmed, err)
		}
		return refunded(c.merchant, refund), nil
	}
	if err := Verify(u.fields, key); err != nil {
		return nil, err
	}
	if notice := noticeOf(u.fields); notice != nil {
		return notice.notification(c.merchant, u.fields)
	}
	if checkUnknown(u.fields) == nil {
		return unknownNotice(c.merchant, u.fields)
	}
	if err := checkReading(u.fields); err != nil {
		return nil, err
	}
	if err := checkPayment(u.fields); err != nil {
		return nil, err
	}
	return &wepay.Notification{Kind: wepay.Payment, Merchant: c.merchant, EventType: paymentEvent(u.fields), Fields: u.fields}, nil
}

// refunded is the notification of a refund.
func refunded(merchant *wepay.Merchant, refund wepay.Fields) *wepay.Notification {
	return &wepay.Notification{Kind: wepay.Refunded, Merchant: merchant, EventType: refundEvents[refund.Get("refund_status")], Fields: refund}
}

// refundEvents are API v3's words for what became of a refund, by API v2's.
var refundEvents = map[string]string{"SUCCESS": "REFUND.SUCCESS", "CHANGE": "REFUND.ABNORMAL", "REFUNDCLOSE": "REFUND.CLOSED"}

// paymentEvent is API v3's word for a payment, or for a contract's debit that failed.
func paymentEvent(fields wepay.Fields) string {
	if hasFailed(fields) {
		return "TRANSACTION.FAIL"
	}
	return "TRANSACTION.SUCCESS"
}

func hasFailed(fields wepay.Fields) bool {
	return fields.Get("result_code") == "FAIL" || fields.Get("trade_state") == "PAY_FAIL"
}

// replyFields are of WeChat's replies, which are signed with the same key; no
// payment's notification has them.
var replyFields = []string{"prepay_id", "refund_id", "out_refund_no", "refund_count", "recall", "trade_state_desc"}

// checkPayment tells a payment's notification from what else WeChat signs with
// the merchant's key: its replies to orders, queries, reversals and refunds, and
// to payments at a counter, which are not notified.
func checkPayment(fields wepay.Fields) error {
	for _, name := range replyFields {
		if fields.Get(name) != "" {
			return fmt.Errorf("%w: it has %s, which is of a reply", wepay.ErrNotPayment, name)
		}
	}
	if fields.Get("return_code") != "SUCCESS" {
		return fmt.Errorf("%w: it has no return_code", wepay.ErrNotPayment)
	}
	for _, name := range []string{"mch_id", "out_trade_no"} {
		if fields.Get(name) == "" {
			return fmt.Errorf("%w: it has no %s", wepay.ErrNotPayment, name)
		}
	}
	tradeType, state := fields.Get("trade_type"), fields.Get("trade_state")
	contract := tradeType == "PAP" || fields.Get("contract_id") != ""
	switch {
	case atCounter(fields):
		return fmt.Errorf("%w: it is a reply to a payment at a counter", wepay.ErrNotPayment)
	case tradeType == "" && !contract:
		return fmt.Errorf("%w: it has neither trade_type nor contract_id", wepay.ErrNotPayment)
	case state != "" && !contract && fields.Get("return_msg") != "":
		return fmt.Errorf("%w: it is a reply to a query", wepay.ErrNotPayment)
	case hasFailed(fields):
		return nil // of a contract's debit that is told as well, without a transaction
	case state != "" && state != "SUCCESS":
		return fmt.Errorf("%w: its trade_state is not SUCCESS", wepay.ErrNotPayment)
	}
	return checkPaid(fields, "transaction_id", "bank_type")
}

// atCounter reports whether a payment is of a kind that WeChat does not notify of.
func atCounter(fields wepay.Fields) bool {
	return slices.Contains([]string{"MICROPAY", "FACEPAY"}, fields.Get("trade_type"))
}

// checkPaid says what a payment that succeeded lacks, of its total and what is
// required.
func checkPaid(fields wepay.Fields, required ...string) error {
	if fields.Get("result_code") != "SUCCESS" {
		return fmt.Errorf("%w: its result_code is not SUCCESS", wepay.ErrNotPayment)
	}
	for _, name := range required {
		if fields.Get(name) == "" {
			return fmt.Errorf("%w: it has no %s", wepay.ErrNotPayment, name)
		}
	}
	if _, err := wepay.ParseFen(fields.Get("total_fee")); err != nil {
		return fmt.Errorf("%w: total_fee: %w", wepay.ErrNotPayment, err)
	}
	return nil
}
