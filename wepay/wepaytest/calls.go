package wepaytest

import (
	"slices"
	"strings"

	"github.com/windsome/caddy-wepay/wepay"
)

// call is a row of the table below: everything that differs between the calls of API
// v2.
type call struct {
	certificate bool // the merchant's, in the TLS handshake
	inSandbox   bool // the sandbox has it as well
	identity    identity
	signTypes   []wepay.SignType
	nameSign    bool   // sign_type is required, even if it is MD5
	params      params // except those of identity and signature
	encoded     string // the parameter that is signed as it is and sent URL-encoded

	unsigned bool // the reply never is signed
	form     form

	// do is called with the server locked, and with an authenticated request whose
	// parameters are well formed. It returns the reply except its common fields.
	do func(*exchange) (wepay.Fields, *refusal)
}

// form is how a reply reports the result.
type form int

const (
	layered  form = iota // return_code, then result_code and err_code
	talkOnly             // return_code alone
	mixed                // an error has return_code FAIL, result_code FAIL and err_code
	risky                // as mixed, but error_code
	billed               // a text, and errors with return_msg and error_code
)

// identity is how a call names the merchant.
type identity struct {
	appID, mchID string // the parameters' names; appID "": the call has none
	sub          sub
}

// sub is what a call of a partner's says of the sub-merchant.
type sub int

const (
	noSub      sub = iota
	needsSub       // sub_mch_id, and sub_appid if there is one
	maySub         // the same, and neither is needed
	maySubOnly     // sub_mch_id, which is not needed
)

func (id identity) names() []string {
	names := []string{id.mchID}
	if id.appID != "" {
		names = append(names, id.appID)
	}
	if id.sub != noSub {
		names = append(names, "sub_mch_id")
	}
	if id.sub == needsSub || id.sub == maySub {
		names = append(names, "sub_appid")
	}
	return names
}

var (
	common       = identity{appID: "appid", mchID: "mch_id", sub: needsSub}
	commonAny    = identity{appID: "appid", mchID: "mch_id", sub: maySub}
	direct       = identity{appID: "appid", mchID: "mch_id"}
	withoutAppID = identity{mchID: "mch_id", sub: needsSub}
	merchantOnly = identity{mchID: "mch_id"}
	redPacketer  = identity{appID: "wxappid", mchID: "mch_id", sub: maySubOnly}
	transferer   = identity{appID: "mch_appid", mchID: "mchid"}

	anySignType = []wepay.SignType{wepay.MD5, wepay.HMACSHA256}
	// onlyMD5 is of calls that do not even have the parameter sign_type.
	onlyMD5 = []wepay.SignType{wepay.MD5}
	// onlyHMAC is of calls that need sign_type, which is MD5 without a word.
	onlyHMAC = []wepay.SignType{wepay.HMACSHA256}
)

// hasSignType says whether sign_type is a parameter at all.
func (c call) hasSignType() bool {
	return c.nameSign || slices.Contains(c.signTypes, wepay.HMACSHA256)
}

// calls are the calls of API v2 by path.
// Source: WeChat Pay's documents of each call (API v2).
var calls = map[string]call{
	"/pay/unifiedorder": {
		inSandbox: true,
		identity:  common, signTypes: anySignType,
		params: orderParams,
		do:     (*exchange).placeOrder,
	},
	"/pay/orderquery": {
		inSandbox: true,
		identity:  common, signTypes: anySignType,
		params: orderOf,
		do:     (*exchange).queryOrder,
	},
	"/pay/closeorder": {
		inSandbox: true,
		identity:  common, signTypes: anySignType,
		params: params{{name: "out_trade_no", required: true, max: 32, is: number}},
		do:     (*exchange).closeOrder,
	},
	"/secapi/pay/refund": {
		certificate: true, inSandbox: true,
		identity: common, signTypes: anySignType,
		params: refundParams,
		do:     (*exchange).refundOrder,
	},
	"/pay/refundquery": {
		inSandbox: true,
		identity:  common, signTypes: anySignType,
		params: refundQueryParams,
		do:     (*exchange).queryRefunds,
	},
	"/pay/micropay": {
		inSandbox: true,
		identity:  common, signTypes: anySignType,
		params: micropayParams,
		do:     (*exchange).chargeCode,
	},
	"/secapi/pay/reverse": {
		certificate: true, inSandbox: true,
		identity: common, signTypes: anySignType,
		params: orderOf,
		do:     (*exchange).reverseOrder,
	},
	"/tools/authcodetoopenid": {
		identity: common, signTypes: anySignType,
		params: params{{name: "auth_code", required: true, max: 128}},
		do:     (*exchange).payerOfCode,
	},
	"/tools/shorturl": {
		identity: common, signTypes: anySignType,
		params:  params{{name: "long_url", required: true, max: 512, is: absoluteURL}},
		encoded: "long_url",
		do:      (*exchange).shortenURL,
	},
	"/mmpaymkttransfers/sendredpack": {
		certificate: true,
		identity:    redPacketer, signTypes: onlyMD5,
		params: packetParams(
			param{name: "total_num", required: true, is: word("1")},
			param{name: "client_ip", required: true, max: 15, is: ipAddress},
		),
		unsigned: true, form: mixed,
		do: (*exchange).sendPacket,
	},
	"/mmpaymkttransfers/sendgroupredpack": {
		certificate: true,
		identity:    redPacketer, signTypes: onlyMD5,
		params: packetParams(
			param{name: "total_num", required: true, is: groupSize},
			param{name: "amt_type", required: true, is: word("ALL_RAND")},
		),
		unsigned: true, form: mixed,
		do: (*exchange).sendPacket,
	},
	"/mmpaymkttransfers/gethbinfo": {
		certificate: true,
		identity:    direct, signTypes: onlyMD5,
		params: params{
			{name: "mch_billno", required: true, max: 28, is: nonce},
			{name: "bill_type", required: true, is: word("MCHT")},
		},
		unsigned: true, form: mixed,
		do: (*exchange).queryPacket,
	},
	"/mmpaymkttransfers/promotion/transfers": {
		certificate: true,
		identity:    transferer, signTypes: onlyMD5,
		params:   transferParams,
		unsigned: true, form: mixed,
		do: (*exchange).transferOut,
	},
	"/mmpaymkttransfers/gettransferinfo": {
		certificate: true,
		identity:    direct, signTypes: onlyMD5,
		params:   params{{name: "partner_trade_no", required: true, max: 32, is: nonce}},
		unsigned: true, form: mixed,
		do: (*exchange).queryTransfer,
	},
	"/mmpaysptrans/pay_bank": {
		certificate: true,
		identity:    merchantOnly, signTypes: onlyMD5,
		params:   payBankParams,
		unsigned: true, form: mixed,
		do: (*exchange).payBank,
	},
	"/mmpaysptrans/query_bank": {
		certificate: true,
		identity:    merchantOnly, signTypes: onlyMD5,
		params:   queryBankParams,
		unsigned: true, form: mixed,
		do: (*exchange).queryBank,
	},
	"/risk/getpublickey": {
		certificate: true,
		identity:    merchantOnly, signTypes: anySignType, nameSign: true,
		unsigned: true, form: risky,
		do: (*exchange).issueBankKey,
	},
	"/secapi/pay/profitsharing": {
		certificate: true,
		identity:    common, signTypes: onlyHMAC,
		params: shareParams,
		do:     (*exchange).shareOnce,
	},
	"/secapi/pay/multiprofitsharing": {
		certificate: true,
		identity:    common, signTypes: onlyHMAC,
		params: shareParams,
		do:     (*exchange).shareMulti,
	},
	"/secapi/pay/profitsharingfinish": {
		certificate: true,
		identity:    common, signTypes: onlyHMAC,
		params: finishParams,
		do:     (*exchange).finishSharing,
	},
	"/secapi/pay/profitsharingreturn": {
		certificate: true,
		identity:    common, signTypes: onlyHMAC,
		params: returnParams,
		do:     (*exchange).returnShare,
	},
	"/pay/profitsharingquery": {
		identity: withoutAppID, signTypes: onlyHMAC,
		params: shareQueryParams,
		do:     (*exchange).queryShare,
	},
	"/pay/profitsharingreturnquery": {
		identity: common, signTypes: onlyHMAC,
		params: returnQueryParams,
		do:     (*exchange).queryShareReturn,
	},
	"/pay/profitsharingaddreceiver": {
		identity: common, signTypes: onlyHMAC,
		params: params{{name: "receiver", required: true, max: 2048, is: jsonText}},
		do:     (*exchange).addReceiver,
	},
	"/pay/profitsharingremovereceiver": {
		identity: common, signTypes: onlyHMAC,
		params: params{{name: "receiver", required: true, max: 2048, is: jsonText}},
		do:     (*exchange).removeReceiver,
	},
	// The documents list no parameters for these two, which have those of the other
	// query of a share.
	"/pay/profitsharingorderamountquery": {
		identity: withoutAppID, signTypes: onlyHMAC,
		params: params{{name: "transaction_id", required: true, max: 32}},
		do:     (*exchange).queryUnshared,
	},
	"/pay/profitsharingmerchantratioquery": {
		identity: withoutAppID, signTypes: onlyHMAC,
		params: params{{name: "brand_mch_id", max: 32, is: digits}},
		do:     (*exchange).queryRatio,
	},
	"/pay/downloadbill": {
		inSandbox: true,
		identity:  commonAny, signTypes: anySignType,
		params:   billParams,
		unsigned: true, form: billed,
		do: (*exchange).downloadBill,
	},
	"/pay/downloadfundflow": {
		certificate: true,
		identity:    direct, signTypes: onlyHMAC,
		params:   flowParams,
		unsigned: true,
		do:       (*exchange).downloadFlow,
	},
	sandboxKeyPath: {
		identity: merchantOnly, signTypes: onlyMD5,
		unsigned: true, form: talkOnly,
		do: (*exchange).issueSandboxKey,
	},
}

// lookup finds the call of a path, in the sandbox or not. The sandbox requires no
// certificate and accepts MD5 only.
func lookup(path string) (c call, sandbox, found bool) {
	path, sandbox = strings.CutPrefix(path, sandboxPrefix)
	c, found = calls[path]
	if sandbox {
		c.certificate, found = false, found && c.inSandbox
	}
	return c, sandbox, found
}

// orderOf are the two names of an order.
var orderOf = params{
	{name: "transaction_id", max: 32},
	{name: "out_trade_no", max: 32},
}
