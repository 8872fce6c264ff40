package apiv3

import (
	"slices"

	"github.com/windsome/caddy-wepay/wepay"
)

// What a new order may have differs from API v2: its number has a least length (shorter
// ones of API v2's are asked about and refunded here as well), and WeChat counts texts
// in characters.
// Source: WeChat Pay, JSAPI/APP/H5/Native 下单 (API v3), 2025-03-31: out_trade_no,
// attach, description.
var (
	outTradeNo = wepay.Rule{Name: "out_trade_no", Required: true, Min: 6, Max: 32, Is: wepay.Number}
	attach     = wepay.Rule{Name: "attach", Is: wepay.Characters(128)}
)

// instead returns rules with some in the place of those of the same name.
func instead(rules wepay.Rules, own ...wepay.Rule) wepay.Rules {
	rules = slices.Clone(rules)
	for _, rule := range own {
		i := slices.IndexFunc(rules, func(old wepay.Rule) bool { return old.Name == rule.Name })
		rules[i] = rule
	}
	return rules
}
