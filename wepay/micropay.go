package wepay

import (
	"errors"
	"slices"
)

// MicropayRules are the fields that a caller may give to Micropay.
// Source: WeChat Pay, 提交付款码支付 (/pay/micropay).
var MicropayRules = slices.Concat(Rules{{Name: "auth_code", Required: true, Max: 128, Is: AuthCode}}, paymentRules)

// AuthCode is the form of the code on a payer's phone (付款码).
func AuthCode(value string) error {
	if len(value) != 18 || value[0] != '1' || value[1] > '5' || Digits(value) != nil {
		return errors.New("must be 18 digits that begin with 10 to 15")
	}
	return nil
}

// CompleteMicropay puts a caller's payment into WeChat's form, as CompleteOrder
// does an order. It cannot fail.
func (m *Merchant) CompleteMicropay(in Fields) (Fields, error) {
	payment := in.Clone()
	payment.Set("body", CutBody(in.Get("body")))
	payment.Set("spbill_create_ip", oneAddress(in.Get("spbill_create_ip")))
	return payment, nil
}
