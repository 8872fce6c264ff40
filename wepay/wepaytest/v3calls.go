package wepaytest

import (
	"net/http"
	"slices"
)

// v3call is a row of API v3: everything that differs between its calls.
type v3call struct {
	method string
	path   string // {name} stands for one segment
	as     acting
	query  members
	body   members // nil: the request has none

	// anySerial is of the calls that need no Wechatpay-Serial in public key
	// mode either.
	anySerial bool

	// do is called under the server's lock, with a request that is the
	// merchant's and well formed. Nil without a refusal is 204.
	do func(*v3exchange) (object, *v3refusal)
}

// acting is whom a call is for.
type acting int

const (
	asEither  acting = iota // a partner names its sub-merchant
	asDirect                // a direct merchant alone
	asPartner               // a partner alone
	anyone                  // any signer: no merchant is named, or the call checks it
)

// v3calls are the calls of API v3.
// Source: WeChat Pay's documents of each call (API v3).
var v3calls = slices.Concat(
	v3OrderCalls(), v3RefundCalls, v3BillCalls, v3SharingCalls, v3TransferCalls, v3BatchCalls, v3CombineCalls,
	v3SecurityCalls, v3ApplymentCalls, v3ComplaintCalls,
	[]v3call{
		{
			method: http.MethodGet, path: "/v3/certificates", as: anyone, anySerial: true,
			query: members{{name: "algorithm_type", is: word("RSA", "SM2", "ALL")}},
			do:    (*v3exchange).listCertificates,
		},
	},
)

// only are the members of these names.
func (ms members) only(names ...string) members {
	return slices.DeleteFunc(slices.Clone(ms), func(m member) bool { return !slices.Contains(names, m.name) })
}

var (
	directMembers = members{
		{name: "appid", as: "appid", required: true, max: 32},
		{name: "mchid", as: "mch_id", required: true, max: 32},
	}
	partnerMembers = members{
		{name: "sp_appid", as: "appid", required: true, max: 32},
		{name: "sp_mchid", as: "mch_id", required: true, max: 32},
		{name: "sub_appid", as: "sub_appid", max: 32},
		{name: "sub_mchid", as: "sub_mch_id", required: true, max: 32},
	}
)

// paidMembers are those that orders and payments by code share.
var paidMembers = members{
	{name: "description", as: "body", required: true, max: 127},
	{name: "out_trade_no", as: "out_trade_no", required: true, max: 32, is: tradeNumber},
	{name: "attach", as: "attach", max: 128},
	{name: "goods_tag", as: "goods_tag", max: 32},
	{name: "support_fapiao", as: "receipt", kind: truths},
	{name: "limit_pay", kind: choices, is: word("no_credit")},
	{name: "amount", required: true, kind: nested, of: members{
		{name: "total", as: "total_fee", required: true, kind: wholes, is: fen},
		{name: "currency", max: 16, is: word("CNY")},
	}},
	{name: "detail", kind: nested, of: members{
		{name: "cost_price", kind: wholes},
		{name: "invoice_id", max: 32},
		{name: "goods_detail", kind: lists, of: members{
			{name: "merchant_goods_id", required: true, max: 32},
			{name: "wechatpay_goods_id", max: 32},
			{name: "goods_name", max: 256},
			{name: "quantity", required: true, kind: wholes, is: fen},
			{name: "unit_price", required: true, kind: wholes},
		}},
	}},
	{name: "settle_info", kind: nested, of: members{{name: "profit_sharing", kind: truths}}},
}

// orderMembers are those of every order, except the merchant's.
var orderMembers = slices.Concat(paidMembers, members{
	{name: "notify_url", as: "notify_url", required: true, max: 255, is: notifyURL},
	{name: "time_expire", max: 64, is: rfc3339},
})

var storeMembers = members{
	{name: "id", max: 32},
	{name: "out_id", max: 32},
	{name: "name", max: 256},
	{name: "area_code", max: 32},
	{name: "address", max: 512},
}

// sceneMembers are where an order is placed.
func sceneMembers(required bool, also ...member) member {
	return member{name: "scene_info", required: required, kind: nested, of: append(members{
		{name: "payer_client_ip", as: "spbill_create_ip", required: true, max: 45, is: ipAddress},
		{name: "device_id", as: "device_info", max: 32},
		{name: "store_info", kind: nested, of: storeMembers},
	}, also...)}
}

// identityMember is who alone may pay an order; number and name are encrypted.
var identityMember = member{name: "identity", kind: nested, of: members{
	{name: "type", as: "user_type", required: true, is: word(
		"IDCARD", "HONGKONG_MACAO", "HONGKONG_MACAO_RESIDENT", "TAIWAN_RESIDENT", "FOREIGN_RESIDENT", "OVERSEA_PASSPORT", "PHONE_NUMBER",
	)},
	{name: "number", required: true, max: 1024},
	{name: "name", required: true, max: 1024},
}}

// The payers of an order in a page.
var (
	directPayer   = members{{name: "openid", as: "openid", required: true, max: 128}}
	partnerPayer  = members{{name: "sp_openid", as: "openid", max: 128}, {name: "sub_openid", as: "sub_openid", max: 128}}
	combinedPayer = members{{name: "openid", as: "openid", max: 128}, {name: "sub_openid", as: "sub_openid", max: 128}}
)

// orderProducts are the ways to pay, with what only they have. Payer is what the payer
// is called, and known is how in a page.
func orderProducts(payer string, known members) map[string]members {
	somebody := member{name: payer, kind: nested, of: members{identityMember}}
	return map[string]members{
		"jsapi":  {{name: payer, required: true, kind: nested, of: append(slices.Clone(known), identityMember)}, sceneMembers(false)},
		"app":    {somebody, sceneMembers(false)},
		"native": {sceneMembers(false)},
		"h5": {somebody, sceneMembers(true, member{name: "h5_info", required: true, kind: nested, of: members{
			{name: "type", required: true, is: word("Wap", "iOS", "Android")},
			{name: "app_name", max: 64},
			{name: "app_url", max: 128},
			{name: "bundle_id", max: 128},
			{name: "package_name", max: 128},
		}})},
	}
}

// codeMembers are those of a payment by a payer's code.
var codeMembers = slices.Concat(paidMembers, members{
	{name: "payer", required: true, kind: nested, of: members{{name: "auth_code", as: "auth_code", required: true, max: 32}}},
	{name: "scene_info", required: true, kind: nested, of: members{
		{name: "payer_client_ip", as: "spbill_create_ip", max: 45, is: ipAddress},
		{name: "device_id", as: "device_info", max: 32},
		{name: "device_ip", max: 45, is: ipAddress},
		{name: "store_info", required: true, kind: nested, of: storeMembers},
	}},
})
