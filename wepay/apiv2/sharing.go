package apiv2

import (
	"maps"

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

// The fields that several calls of profit sharing have.
var (
	transactionID = wepay.Rule{Name: "transaction_id", Required: true, Max: 32, Is: wepay.Number}
	outOrderNo    = wepay.Rule{Name: "out_order_no", Required: true, Max: 64, Is: wepay.Number}
	outReturnNo   = wepay.Rule{Name: "out_return_no", Required: true, Max: 64, Is: wepay.Number}
	receivers     = wepay.Rule{Name: "receivers", Required: true, Max: 10240, Is: wepay.Receivers}
	brandMchID    = wepay.Rule{Name: "brand_mch_id", Max: 32, Is: wepay.Digits}
	// orderOrOwn is WeChat's number of a share, or the merchant's.
	orderOrOwn = wepay.Rules{
		{Name: "out_order_no", Required: true, Unless: []string{"order_id"}, Max: 64, Is: wepay.Number},
		{Name: "order_id", Max: 64, Is: wepay.Number},
	}
)

// sharingCalls divide what an order brought among receivers (分账). All are
// signed with HMAC-SHA256, whatever the merchant signs with. The order must
// have been placed with profit_sharing Y.
var sharingCalls = map[wepay.Operation]call{
	wepay.ProfitShare: {
		path: "/secapi/pay/profitsharing", certificate: true, signType: wepay.HMACSHA256,
		rules:  wepay.Rules{transactionID, outOrderNo, receivers, brandMchID},
		echoes: []string{"transaction_id", "out_order_no"}, answers: []string{"order_id"},
		repeatable: true, unknown: wepay.Query, ask: wepay.ProfitShareQuery, verdicts: sharingVerdicts,
	},
	wepay.ProfitShareMulti: {
		path: "/secapi/pay/multiprofitsharing", certificate: true, signType: wepay.HMACSHA256,
		rules:  wepay.Rules{transactionID, outOrderNo, receivers, brandMchID},
		echoes: []string{"transaction_id", "out_order_no"}, answers: []string{"order_id"},
		repeatable: true, unknown: wepay.Query, ask: wepay.ProfitShareQuery, verdicts: sharingVerdicts,
	},
	wepay.ProfitShareFinish: {
		path: "/secapi/pay/profitsharingfinish", certificate: true, signType: wepay.HMACSHA256,
		rules: wepay.Rules{
			transactionID, outOrderNo, brandMchID,
			{Name: "description", Required: true, Max: 80},
		},
		echoes:     []string{"transaction_id", "out_order_no"},
		repeatable: true, unknown: wepay.Query, ask: wepay.ProfitShareQuery, verdicts: sharingVerdicts,
	},
	wepay.ProfitShareQuery: {
		path: "/pay/profitsharingquery", signType: wepay.HMACSHA256, identity: sharingQueryIdentity,
		rules:  wepay.Rules{transactionID, outOrderNo},
		echoes: []string{"transaction_id", "out_order_no"}, answers: []string{"status"},
		repeatable: true, unknown: wepay.Again, verdicts: sharingQueryVerdicts,
	},
	wepay.ProfitShareReturn: {
		path: "/secapi/pay/profitsharingreturn", certificate: true, signType: wepay.HMACSHA256,
		rules: append(wepay.Rules{
			outReturnNo,
			{Name: "return_account_type", Required: true, Is: wepay.OneOf("MERCHANT_ID")},
			{Name: "return_account", Required: true, Max: 64},
			{Name: "return_amount", Required: true, Is: wepay.Fen},
			{Name: "description", Required: true, Max: 80},
		}, orderOrOwn...),
		echoes: []string{"out_return_no"}, answers: []string{"result"},
		repeatable: true, unknown: wepay.Query, ask: wepay.ProfitShareReturnQuery, verdicts: sharingVerdicts,
	},
	wepay.ProfitShareReturnQuery: {
		path: "/pay/profitsharingreturnquery", signType: wepay.HMACSHA256,
		rules:  append(wepay.Rules{outReturnNo}, orderOrOwn...),
		echoes: []string{"out_return_no"}, answers: []string{"result"},
		repeatable: true, unknown: wepay.Again, verdicts: sharingQueryVerdicts,
	},
	wepay.ProfitShareAddReceiver: {
		path: "/pay/profitsharingaddreceiver", signType: wepay.HMACSHA256,
		rules:      wepay.Rules{{Name: "receiver", Required: true, Max: 2048, Is: wepay.NewReceiver}},
		repeatable: true, unknown: wepay.Again, verdicts: receiverVerdicts,
	},
	wepay.ProfitShareRemoveReceiver: {
		path: "/pay/profitsharingremovereceiver", signType: wepay.HMACSHA256,
		rules:      wepay.Rules{{Name: "receiver", Required: true, Max: 2048, Is: wepay.Receiver}},
		repeatable: true, unknown: wepay.Again, verdicts: receiverVerdicts,
	},
}
