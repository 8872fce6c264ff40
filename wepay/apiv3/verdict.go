package apiv3

import (
	"cmp"
	"net/http"
	"strings"

	"github.com/windsome/caddy-wepay/wepay"
)

// commonVerdicts are of the codes that any call can give, spelt without
// underscores, which WeChat uses as it pleases.
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

// plain takes out of a code what WeChat spells as it pleases.
func plain(code string) string {
	return strings.ToUpper(strings.ReplaceAll(code, "_", ""))
}

// verdict says what a refusal means for repeating the call. Of a code that
// nobody knows the HTTP status decides.
func (c call) verdict(status int, code string) wepay.Verdict {
	code = plain(code)
	if v, found := c.verdicts[code]; found {
		return v
	}
	if code == "SYSTEMERROR" {
		return c.unknown
	}
	switch status {
	case http.StatusUnauthorized:
		return wepay.Fix
	case http.StatusTooManyRequests:
		return wepay.Later
	}
	// Of a payout no other refusal proves that nothing was paid under its number.
	if v, found := commonVerdicts[code]; found && !c.movesMoney() {
		return v
	}
	return c.unlisted(status)
}

// unlisted is the verdict on a refusal that is in no table. It is WeChat's answer,
// so that the same call would get it again and again, unless its HTTP status says
// that WeChat is in trouble. What a call that changes something has changed by
// then, only asking tells.
func (c call) unlisted(status int) wepay.Verdict {
	switch {
	case status >= http.StatusInternalServerError:
		return c.unknown
	case c.unknown == wepay.Query, c.ask != "":
		return wepay.Query
	default:
		return wepay.Fix
	}
}

// v2Codes are API v2's words for WeChat's codes, where it has one for the same.
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

// codeInV2 returns API v2's word for a code, so that callers need not know
// which API a merchant goes through; WeChat's own where there is none.
func codeInV2(op wepay.Operation, code string) string {
	if plain(code) == "RESOURCENOTEXISTS" {
		return cmp.Or(map[wepay.Operation]string{wepay.Refund: "ORDERNOTEXIST", wepay.QueryRefund: "REFUNDNOTEXIST"}[op], code)
	}
	return cmp.Or(v2Codes[plain(code)], code)
}
