package apiv2

import (
	"slices"
	"strings"

	"github.com/windsome/caddy-wepay/wepay"
	"github.com/windsome/caddy-wepay/wepay/internal/row"
)

// refusalVerdict says what a refusal means for repeating the call, by its code and
// its message.
func (c *call) refusalVerdict(code, message string) wepay.Verdict {
	if verdict, known := c.listed(code, message); known {
		return verdict
	}
	return c.Unlisted()
}

// listed is the verdict of the tables, if they know the code, or the words where there
// is none.
func (c *call) listed(code, message string) (verdict wepay.Verdict, known bool) {
	if isNumberUsed(code, message) {
		code = "OUT_TRADE_NO_USED"
	}
	verdict, known = c.verdict(code)
	// The message of a bill says more than its number: of 20002 some documents say that
	// it also stands for a bill in the making. What stands with an unknown code may be
	// about anything.
	if code != "" && !(known && c.Bill) {
		return verdict, known
	}
	if told, found := c.verdict(message); found {
		return told, true
	}
	switch {
	case known:
		return verdict, true
	case strings.Contains(message, "系统繁忙"):
		return c.verdict("SYSTEMERROR") // every call knows it
	case !c.MovesMoney():
		// Nobody signed that, and where money leaves the account it proves nothing of
		// what happened to it.
		return wepay.Fix, slices.ContainsFunc(notProcessed, func(words string) bool { return strings.Contains(message, words) })
	default:
		return "", false
	}
}

// notProcessed are WeChat's words, without a code, for a request that it could not
// read, whose signature it did not trust, or that it does not take from this merchant.
// Others may be about a request that was processed before.
// Source: WeChat Pay, 统一下单 and 申请退款, and the questions about them.
var notProcessed = []string{
	"不识别的参数", "与appid不匹配", "与sub_appid不匹配", "参数错误", "参数长度有误", "必须传", "收款功能已被限制", "权限未开通",
	"签名失败", "签名错误", "缺少参数", "检查证书", "证书已过期", "证书错误", "格式错误", "appid不存在", "appid和mch_id不匹配", "mch_id不存在", "商户号不存在",
	"body length", "invalid spbill_create_ip", "invalid total_fee",
}

// isNumberUsed says whether an order has the number, with other parameters. It may
// be paid. WeChat says so in words as well, with the code INVALID_REQUEST.
// Source: WeChat Pay, 统一下单, error codes (201 商户订单号重复).
func isNumberUsed(code, message string) bool {
	return row.Plain(code) == "OUTTRADENOUSED" || strings.Contains(message, "商户订单号重复")
}

// lists says whether a refusal's verdict is that of a table.
func (c call) lists(refused *wepay.Error) bool {
	_, known := c.listed(refused.Code, refused.Message)
	return known
}
