package apiv3

import (
	"slices"
	"strings"

	"github.com/windsome/caddy-wepay/wepay"
)

// identity is who alone may pay an order (指定身份支付, 实名支付), which WeChat lets some
// merchants say. Both APIs have the same words for user_type.
var identity = []string{"user_type", "user_creid", "user_truename"}

// identityOf translates the identity of the payer at a path. What sealedIdentityOf
// names of it only WeChat may read.
// Source: WeChat Pay, JSAPI/APP/H5 下单 and 合单下单 (API v3), identity.
func identityOf(payer string) fieldMap {
	return fieldMap{
		{"user_type", payer + ".identity.type", text},
		{"user_creid", payer + ".identity.number", text},
		{"user_truename", payer + ".identity.name", text},
	}
}

func sealedIdentityOf(payer string) []string {
	return []string{payer + ".identity.number", payer + ".identity.name"}
}

// checkIdentity wants all of an identity or nothing of it.
func checkIdentity(in wepay.Fields) error {
	given := slices.ContainsFunc(identity, func(name string) bool { return in.Get(name) != "" })
	for _, name := range identity {
		if given && in.Get(name) == "" {
			return &wepay.FieldError{Field: name, Reason: "is required: who alone may pay is " + strings.Join(identity, ", "), Missing: true}
		}
	}
	return nil
}

// checkIdentifiable refuses an identity of who pays a QR code: that WeChat knows it
// there only one source has, and where it does not, anyone could pay.
func (x *exchange) checkIdentifiable() error {
	if x.in.Get("trade_type") == "NATIVE" && x.in.Get("user_type") != "" {
		return &wepay.FieldError{Field: "user_type", Reason: "does not go with env NATIVE over API v3: anyone could pay the order"}
	}
	return nil
}
