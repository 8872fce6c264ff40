package apiv2

import (
	"slices"

	"github.com/windsome/caddy-wepay/wepay"
	"github.com/windsome/caddy-wepay/wepay/internal/row"
)

// payoutVerdicts are for red packets and transfers. An unknown outcome is never a
// failure: the payee may have the money, and a new number would pay twice.
var payoutVerdicts = map[string]wepay.Verdict{
	"PROCESSING":            wepay.Query,
	"ORDERPAID":             wepay.Query, // the number is too old to be sent again
	"FATALERROR":            wepay.Fix,
	"SENDFAILED":            wepay.Query,
	"NOTENOUGH":             wepay.Later,
	"SENDNUMLIMIT":          wepay.Later,
	"SECONDOVERLIMITED":     wepay.Later,
	"DAYOVERLIMITED":        wepay.Later,
	"SENDAMOUNTLIMIT":       wepay.Later,
	"SENDMONEYLIMIT":        wepay.Later,
	"RECEIVEDMONEYLIMIT":    wepay.Later,
	"MONEYLIMIT":            wepay.Later,
	"AMOUNTLIMIT":           wepay.Fix,
	"ILLEGALAPPID":          wepay.Fix,
	"NAMEMISMATCH":          wepay.Fix,
	"OPENIDERROR":           wepay.Fix,
	"PAYCHANNELNOTALLOWED":  wepay.Fix,
	"RECVACCOUNTNOTALLOWED": wepay.Never,
	"V2ACCOUNTSIMPLEBAN":    wepay.Never,
}

// queryVerdicts are for queries of payouts.
var queryVerdicts = map[string]wepay.Verdict{
	"NOTFOUND": wepay.Again, // still not found some minutes later, it may be sent again with its number
}

var redPacketIdentity = identity{appID: "wxappid", mchID: "mch_id", subMchID: "sub_mch_id"}

// redPacketRules are the fields that both kinds of red packet have.
// Source: WeChat Pay, 现金红包.
var redPacketRules = wepay.Rules{
	{Name: "mch_billno", Required: true, Max: 28, Is: wepay.Alphanumeric},
	{Name: "send_name", Required: true, Max: 32},
	{Name: "re_openid", Required: true, Max: 32},
	{Name: "total_amount", Required: true, Is: wepay.Fen},
	{Name: "wishing", Required: true, Max: 128},
	{Name: "act_name", Required: true, Max: 32},
	{Name: "remark", Required: true, Max: 256},
	{Name: "scene_id", Max: 32, Is: wepay.OneOf("PRODUCT_1", "PRODUCT_2", "PRODUCT_3", "PRODUCT_4", "PRODUCT_5", "PRODUCT_6", "PRODUCT_7", "PRODUCT_8")},
	{Name: "risk_info", Max: 128},
	{Name: "msgappid", Max: 32, Is: wepay.AppID},
	{Name: "consume_mch_id", Max: 32},
}

// callerIP is what client_ip, the address of the machine that calls, is unless a caller
// gives it. It has to be the same however often a number is sent, or WeChat refuses the
// number as one with other parameters. That WeChat compares it with nothing is not
// documented: its sample is a private address, and EasyWeChat sends any that the
// machine has.
const callerIP = "127.0.0.1"

// payoutCalls send money to a payer's wallet (现金红包, 企业付款到零钱). All are
// signed with MD5, whatever the merchant signs with.
var payoutCalls = map[wepay.Operation]call{
	wepay.SendRedPacket: {
		path: "/mmpaymkttransfers/sendredpack", certificate: true, identity: redPacketIdentity, signType: wepay.MD5, unsigned: true,
		Row: row.Row{
			Number: "mch_billno",
			Payout: true,
			Rules: slices.Concat(redPacketRules, wepay.Rules{
				{Name: "total_num", Is: wepay.OneOf("1")},
				{Name: "client_ip", Max: 15, Is: wepay.Address},
			}),
			Fill:       wepay.Fields{{Name: "client_ip", Value: callerIP}, {Name: "total_num", Value: "1"}},
			Check:      wepay.CheckRedPacketScene,
			Echoes:     []string{"mch_billno", "re_openid", "total_amount"},
			Repeatable: true, Unknown: wepay.Query, Ask: wepay.QueryRedPacket, Verdicts: redPacketVerdicts,
		},
	},
	wepay.SendGroupRedPacket: {
		path: "/mmpaymkttransfers/sendgroupredpack", certificate: true, identity: redPacketIdentity, signType: wepay.MD5,
		unsigned: true,
		Row: row.Row{
			Number: "mch_billno",
			Payout: true,
			Rules: slices.Concat(redPacketRules, wepay.Rules{
				{Name: "total_num", Required: true, Is: wepay.Between(3, 20)},
				{Name: "amt_type", Is: wepay.OneOf("ALL_RAND")},
			}),
			Fill:       wepay.Fields{{Name: "amt_type", Value: "ALL_RAND"}},
			Check:      wepay.CheckRedPacketScene,
			Echoes:     []string{"mch_billno", "re_openid", "total_amount"},
			Repeatable: true, Unknown: wepay.Query, Ask: wepay.QueryRedPacket, Verdicts: redPacketVerdicts,
		},
	},
	wepay.QueryRedPacket: {
		path: "/mmpaymkttransfers/gethbinfo", certificate: true, identity: identity{appID: "appid", mchID: "mch_id"},
		signType: wepay.MD5, unsigned: true, nested: true,
		Row: row.Row{
			Payout: true,
			Rules: wepay.Rules{
				{Name: "mch_billno", Required: true, Max: 28, Is: wepay.Alphanumeric},
				{Name: "bill_type", Is: wepay.OneOf("MCHT")},
			},
			Fill:   wepay.Fields{{Name: "bill_type", Value: "MCHT"}},
			Echoes: []string{"mch_billno"}, Answers: []string{"status"},
			Repeatable: true, Unknown: wepay.Again, Verdicts: queryVerdicts,
		},
	},
	wepay.Transfer: {
		path: "/mmpaymkttransfers/promotion/transfers", certificate: true, identity: transferIdentity, signType: wepay.MD5,
		unsigned: true,
		Row: row.Row{
			Number: "partner_trade_no",
			Payout: true,
			Rules: append(slices.Clone(wepay.TransferRules),
				wepay.Rule{Name: "check_name", Required: true, Is: wepay.CheckName},
				wepay.Rule{Name: "desc", Required: true, Max: 100}),
			Check:  wepay.CheckTransferName,
			Echoes: []string{"partner_trade_no"}, Answers: []string{"payment_no"},
			Repeatable: true, Unknown: wepay.Query, Ask: wepay.QueryTransfer, Verdicts: payoutVerdicts,
		},
	},
	wepay.QueryTransfer: {
		path: "/mmpaymkttransfers/gettransferinfo", certificate: true, identity: identity{appID: "appid", mchID: "mch_id"},
		signType: wepay.MD5, unsigned: true,
		Row: row.Row{
			Payout: true, Rules: wepay.QueryTransferRules,
			Echoes: []string{"partner_trade_no"}, Answers: []string{"status"},
			Repeatable: true, Unknown: wepay.Again, Verdicts: queryVerdicts,
		},
	},
}

// redPacketVerdicts: the number of a red packet that failed is spent, and a risky
// payee stays one.
var redPacketVerdicts = row.Verdicts(payoutVerdicts, map[string]wepay.Verdict{
	"SENDFAILED": wepay.Never,
	"NOAUTH":     wepay.Never,
	"MONEYLIMIT": wepay.Fix,
})
