package apiv2

import (
	"strings"

	"github.com/windsome/caddy-wepay/wepay"
	"github.com/windsome/caddy-wepay/wepay/internal/row"
)

// refusalVerdict says what a refusal means for repeating the call, by its code and
// its message.
func (c *call) refusalVerdict(code, message string) wepay.Verdict {
	if isNumberUsed(code, message) {
		code = "OUT_TRADE_NO_USED"
	}
	words := []string{code, message}
	if c.Bill {
		// The message of a bill says more than its number: of 20002 some documents
		// say that it also stands for a bill in the making.
		words = []string{message, code}
	}
	for _, word := range words {
		if verdict, known := c.verdict(word); known {
			return verdict
		}
	}
	if strings.Contains(message, "系统繁忙") {
		verdict, _ := c.verdict("SYSTEMERROR") // every call knows it
		return verdict
	}
	// Without a code WeChat could not read the request or trust its signature.
	// Nobody signed that, and where money leaves the account it proves nothing of
	// what happened to it.
	if code == "" && !c.MovesMoney() {
		return wepay.Fix
	}
	return c.Unlisted()
}

// isNumberUsed says whether an order has the number, with other parameters. It may
// be paid. WeChat says so in words as well, with the code INVALID_REQUEST.
// Source: WeChat Pay, 统一下单, error codes (201 商户订单号重复).
func isNumberUsed(code, message string) bool {
	return row.Plain(code) == "OUTTRADENOUSED" || strings.Contains(message, "商户订单号重复")
}

// lists says whether a refusal's verdict is that of a table.
func (c call) lists(refused *wepay.Error) bool {
	_, known := c.verdict(refused.Code)
	return known || refused.Code == ""
}
