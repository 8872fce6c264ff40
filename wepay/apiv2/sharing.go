package apiv2

import (
	"maps"
	"slices"

	"github.com/windsome/caddy-wepay/wepay"
)

// sharingVerdicts are pieced together from public SDKs, as WeChat's documents
// of v2's profit sharing are gone; what is not known is to be asked about.
var sharingVerdicts = map[string]wepay.Verdict{
	"SYSTEMERROR":          wepay.Query,
	"ORDERNOTREADY":        wepay.Later,
	"NOTENOUGH":            wepay.Later,
	"OUTORDERNOUSED":       wepay.Fix,
	"RECEIVERINVALID":      wepay.Fix,
	"NOTSHAREORDER":        wepay.Fix,
	"AMOUNTOVERDUE":        wepay.Fix,
	"AMOUNTLIMIT":          wepay.Fix,
	"INVALIDTRANSACTIONID": wepay.Fix,
	"RECEIVERHIGHRISK":     wepay.Never,
	"ACCOUNTABNORMAL":      wepay.Never,
}

// receiverVerdicts: who is a receiver cannot be asked, and adding one twice does
// no harm.
var receiverVerdicts = func() map[string]wepay.Verdict {
	verdicts := maps.Clone(sharingVerdicts)
	verdicts["SYSTEMERROR"] = wepay.Again
	return verdicts
}()

var sharingQueryVerdicts = func() map[string]wepay.Verdict {
	verdicts := maps.Clone(sharingVerdicts)
	verdicts["SYSTEMERROR"] = wepay.Again
	verdicts["ORDERNOTEXIST"] = wepay.Again // the share may be sent again, with its number
	verdicts["RESOURCENOTEXISTS"] = wepay.Again
	return verdicts
}()

// sharingQueryIdentity: a question about a share has no appid.
var sharingQueryIdentity = identity{mchID: "mch_id", subMchID: "sub_mch_id"}

// brandMchID names the brand (品牌主) that an order is shared for.
var brandMchID = wepay.Rule{Name: "brand_mch_id", Max: 32, Is: wepay.Digits}

// sharingCalls divide what an order brought among receivers (分账). All are
// signed with HMAC-SHA256, whatever the merchant signs with. The order must
// have been placed with profit_sharing Y.
var sharingCalls = map[wepay.Operation]call{
	wepay.ProfitShare: {
		path: "/secapi/pay/profitsharing", certificate: true, signType: wepay.HMACSHA256,
		rules:  append(slices.Clone(wepay.ShareRules), brandMchID),
		echoes: []string{"transaction_id", "out_order_no"}, answers: []string{"order_id"},
		repeatable: true, unknown: wepay.Query, ask: wepay.ProfitShareQuery, verdicts: sharingVerdicts,
	},
	wepay.ProfitShareMulti: {
		path: "/secapi/pay/multiprofitsharing", certificate: true, signType: wepay.HMACSHA256,
		rules:  append(slices.Clone(wepay.ShareRules), brandMchID),
		echoes: []string{"transaction_id", "out_order_no"}, answers: []string{"order_id"},
		repeatable: true, unknown: wepay.Query, ask: wepay.ProfitShareQuery, verdicts: sharingVerdicts,
	},
	wepay.ProfitShareFinish: {
		path: "/secapi/pay/profitsharingfinish", certificate: true, signType: wepay.HMACSHA256,
		rules:      append(slices.Clone(wepay.FinishShareRules), brandMchID),
		echoes:     []string{"transaction_id", "out_order_no"},
		repeatable: true, unknown: wepay.Query, ask: wepay.ProfitShareQuery, verdicts: sharingVerdicts,
	},
	wepay.ProfitShareQuery: {
		path: "/pay/profitsharingquery", signType: wepay.HMACSHA256, identity: sharingQueryIdentity,
		rules:  wepay.QueryShareRules,
		echoes: []string{"transaction_id", "out_order_no"}, answers: []string{"status"},
		repeatable: true, unknown: wepay.Again, verdicts: sharingQueryVerdicts,
	},
	wepay.ProfitShareReturn: {
		path: "/secapi/pay/profitsharingreturn", certificate: true, signType: wepay.HMACSHA256,
		rules:  wepay.ReturnShareRules,
		echoes: []string{"out_return_no"}, answers: []string{"result"},
		repeatable: true, unknown: wepay.Query, ask: wepay.ProfitShareReturnQuery, verdicts: sharingVerdicts,
	},
	wepay.ProfitShareReturnQuery: {
		path: "/pay/profitsharingreturnquery", signType: wepay.HMACSHA256,
		rules:  wepay.QueryReturnRules,
		echoes: []string{"out_return_no"}, answers: []string{"result"},
		repeatable: true, unknown: wepay.Again, verdicts: sharingQueryVerdicts,
	},
	wepay.ProfitShareAddReceiver: {
		path: "/pay/profitsharingaddreceiver", signType: wepay.HMACSHA256,
		rules:      wepay.AddReceiverRules,
		repeatable: true, unknown: wepay.Again, verdicts: receiverVerdicts,
	},
	wepay.ProfitShareRemoveReceiver: {
		path: "/pay/profitsharingremovereceiver", signType: wepay.HMACSHA256,
		rules:      wepay.RemoveReceiverRules,
		repeatable: true, unknown: wepay.Again, verdicts: receiverVerdicts,
	},
}
