package apiv3

import (
	"slices"

	"github.com/windsome/caddy-wepay/wepay"
)

// shortestNumber is how long the number of a new order is at least over API v3.
// What API v2 took may be shorter, and is asked about and refunded here as well.
// Source: WeChat Pay, JSAPI/APP/H5/Native 下单 (API v3), out_trade_no.
const shortestNumber = 6

// atLeast is rules of which one wants so many bytes.
func atLeast(rules wepay.Rules, name string, least int) wepay.Rules {
	own := slices.Clone(rules)
	i := slices.IndexFunc(own, func(rule wepay.Rule) bool { return rule.Name == name })
	own[i].Min = least
	return own
}
