package apiv2

import (
	"slices"

	"github.com/windsome/caddy-wepay/wepay"
	"github.com/windsome/caddy-wepay/wepay/internal/row"
)

// sharingVerdicts are from public SDKs, since WeChat has removed the documents of
// API v2's profit sharing. Unknown outcomes are to be queried.
var sharingVerdicts = map[string]wepay.Verdict{
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

// sharingQueryVerdicts: a share that is not found may be sent again, with its
// number.
var sharingQueryVerdicts = row.Verdicts(sharingVerdicts, map[string]wepay.Verdict{
	"ORDERNOTEXIST":     wepay.Again,
	"RESOURCENOTEXISTS": wepay.Again,
})

// sharingQueryIdentity: the query of a share has no appid.
var sharingQueryIdentity = identity{mchID: "mch_id", subMchID: "sub_mch_id"}

// brandMchID names the brand (品牌主) that an order is shared for.
var brandMchID = wepay.Rule{Name: "brand_mch_id", Max: 32, Is: wepay.Digits}

// sharingCalls share an order's amount among receivers (分账). All are
// signed with HMAC-SHA256, whatever the merchant signs with. The order must
// have been placed with profit_sharing Y.
var sharingCalls = map[wepay.Operation]call{
	wepay.ProfitShare: {
		path: "/secapi/pay/profitsharing", certificate: true, signType: wepay.HMACSHA256,
		Row: row.Row{
			Rules:  append(slices.Clone(wepay.ShareRules), brandMchID),
			Echoes: []string{"transaction_id", "out_order_no"}, Answers: []string{"order_id"},
			Repeatable: true, Unknown: wepay.Query, Ask: wepay.ProfitShareQuery, Verdicts: sharingVerdicts,
		},
	},
	wepay.ProfitShareMulti: {
		path: "/secapi/pay/multiprofitsharing", certificate: true, signType: wepay.HMACSHA256,
		Row: row.Row{
			Rules:  append(slices.Clone(wepay.ShareRules), brandMchID),
			Echoes: []string{"transaction_id", "out_order_no"}, Answers: []string{"order_id"},
			Repeatable: true, Unknown: wepay.Query, Ask: wepay.ProfitShareQuery, Verdicts: sharingVerdicts,
		},
	},
	wepay.ProfitShareFinish: {
		path: "/secapi/pay/profitsharingfinish", certificate: true, signType: wepay.HMACSHA256,
		Row: row.Row{
			Rules:      append(slices.Clone(wepay.FinishShareRules), brandMchID),
			Echoes:     []string{"transaction_id", "out_order_no"},
			Repeatable: true, Unknown: wepay.Query, Ask: wepay.ProfitShareQuery, Verdicts: sharingVerdicts,
		},
	},
	wepay.ProfitShareQuery: {
		path: "/pay/profitsharingquery", identity: sharingQueryIdentity, signType: wepay.HMACSHA256,
		Row: row.Row{
			Rules:  wepay.QueryShareRules,
			Echoes: []string{"transaction_id", "out_order_no"}, Answers: []string{"status"},
			Repeatable: true, Unknown: wepay.Again, Verdicts: sharingQueryVerdicts,
		},
	},
	wepay.ProfitShareReturn: {
		path: "/secapi/pay/profitsharingreturn", certificate: true, signType: wepay.HMACSHA256,
		Row: row.Row{
			Rules:  wepay.ReturnShareRules,
			Fill:   wepay.Fields{{Name: "return_account_type", Value: "MERCHANT_ID"}},
			Echoes: []string{"out_return_no"}, Answers: []string{"result"},
			Repeatable: true, Unknown: wepay.Query, Ask: wepay.ProfitShareReturnQuery, Verdicts: sharingVerdicts,
		},
	},
	wepay.ProfitShareReturnQuery: {
		path: "/pay/profitsharingreturnquery", signType: wepay.HMACSHA256,
		Row: row.Row{
			Rules:  wepay.QueryReturnRules,
			Echoes: []string{"out_return_no"}, Answers: []string{"result"},
			Repeatable: true, Unknown: wepay.Again, Verdicts: sharingQueryVerdicts,
		},
	},
	wepay.ProfitShareAddReceiver: {
		path: "/pay/profitsharingaddreceiver", signType: wepay.HMACSHA256,
		Row: row.Row{
			Rules:      wepay.AddReceiverRules,
			Repeatable: true, Unknown: wepay.Again, Verdicts: sharingVerdicts,
		},
	},
	wepay.ProfitShareRemoveReceiver: {
		path: "/pay/profitsharingremovereceiver", signType: wepay.HMACSHA256,
		Row: row.Row{
			Rules:      wepay.RemoveReceiverRules,
			Repeatable: true, Unknown: wepay.Again, Verdicts: sharingVerdicts,
		},
	},
}
