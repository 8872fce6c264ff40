package apiv3

import (
	"cmp"
	"net/http"

	"github.com/windsome/caddy-wepay/wepay"
	"github.com/windsome/caddy-wepay/wepay/internal/row"
)

// commonVerdicts are of the codes that any call can give, in row.Plain's spelling.
// Source: WeChat Pay, the tables of error codes of each call (API v3).
var commonVerdicts = map[string]wepay.Verdict{
	"APPIDMCHIDNOTMATCH": wepay.Fix,
	"INVALIDREQUEST":     wepay.Fix,
	"MCHIDNOTEXIST":      wepay.Fix,
	"MCHNOTEXISTS":       wepay.Fix,
	"NOAUTH":             wepay.Fix,
	"OPENIDMISMATCH":     wepay.Fix,
	"PARAMERROR":         wepay.Fix,
	"SIGNERROR":          wepay.Fix,

	"FREQUENCYLIMITED":      wepay.Later,
	"FREQUENCYLIMITEXCEED":  wepay.Later,
	"RATELIMITED":           wepay.Later,
	"RATELIMITEXCEED":       wepay.Later,
	"RATELIMITEXCEEDED":     wepay.Later,
	"SERVICEUNAVAILABLE":    wepay.Again,
	"RULELIMIT":             wepay.Never,
	"ACCOUNTERROR":          wepay.Never,
	"USERACCOUNTABNORMAL":   wepay.Never,
	"BANKERROR":             wepay.Query,
	"TRADEERROR":            wepay.Query,
	"RESOURCEALREADYEXISTS": wepay.Query,
	"ALREADYEXISTS":         wepay.Query,
}

// verdict returns what a refusal means for repeating the call. For an unknown code
// the HTTP status decides.
func (c *call) verdict(status int, code string) wepay.Verdict {
	if v, known := c.Verdict(code); known {
		return v
	}
	switch status {
	case http.StatusUnauthorized:
		return wepay.Fix
	case http.StatusTooManyRequests:
		return wepay.Later
	}
	// No other refusal proves that nothing was paid under a payout's number.
	if v, found := commonVerdicts[row.Plain(code)]; found && !c.MovesMoney() {
		return v
	}
	if status >= http.StatusInternalServerError {
		return c.Unknown // WeChat is in trouble, by whatever code
	}
	return c.Unlisted()
}

// v2Codes are API v2's codes for those of API v3 that it has, too.
var v2Codes = map[string]string{
	"ORDERPAID":         "ORDERPAID",
	"ORDERCLOSED":       "ORDERCLOSED",
	"ORDERNOTEXIST":     "ORDERNOTEXIST",
	"ORDERREVERSED":     "ORDERREVERSED",
	"OUTTRADENOUSED":    "OUT_TRADE_NO_USED",
	"NOTENOUGH":         "NOTENOUGH",
	"NOAUTH":            "NOAUTH",
	"SYSTEMERROR":       "SYSTEMERROR",
	"SIGNERROR":         "SIGNERROR",
	"BANKERROR":         "BANKERROR",
	"TRADEERROR":        "TRADE_ERROR",
	"MCHIDNOTEXIST":     "MCHID_NOT_EXIST",
	"MCHNOTEXISTS":      "MCHID_NOT_EXIST",
	"FREQUENCYLIMITED":  "FREQUENCY_LIMITED",
	"RATELIMITEXCEEDED": "FREQUENCY_LIMITED",
}

// codeInV2 returns API v2's code for one of API v3, so that callers need not know
// which API a merchant uses; the code itself if there is none.
func codeInV2(op wepay.Operation, code string) string {
	if row.Plain(code) == "RESOURCENOTEXISTS" {
		return cmp.Or(map[wepay.Operation]string{wepay.Refund: "ORDERNOTEXIST", wepay.QueryRefund: "REFUNDNOTEXIST"}[op], code)
	}
	return cmp.Or(v2Codes[row.Plain(code)], code)
}
