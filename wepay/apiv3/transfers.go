package apiv3

import (
	"errors"
	"net/http"
	"slices"
	"strings"

	"github.com/windsome/caddy-wepay/wepay"
	"github.com/windsome/caddy-wepay/wepay/internal/row"
)

// namedTransfer is the amount, in fen, from which WeChat requires the payee's name.
const namedTransfer = 2000_00

// payoutVerdicts are for payouts. Any other refusal, except for its signature or
// rate, leaves the outcome open: a new number would pay twice.
var payoutVerdicts = map[string]wepay.Verdict{
	"NOTENOUGH": wepay.Later,
}

// payoutQueryVerdicts are for queries of payouts.
var payoutQueryVerdicts = map[string]wepay.Verdict{
	"NOTFOUND": wepay.Again, // still not found some minutes later, it may be sent again with its number
}

const (
	// sceneInfos describes the purpose of a transfer.
	sceneInfos = "transfer_scene_report_infos"
	// recvStyle is what a transfer looks like to the payee.
	recvStyle = "user_recv_style"
)

// maxPacket is the most that a transfer which looks like a red packet may be, in fen.
// Source: WeChat Pay, 发起转账 (API v3), 2025-03-21, user_recv_style.
const maxPacket = 200_00

// transferCalls send money to a payee's wallet; the payee confirms it (商家转账).
var transferCalls = map[wepay.Operation]call{
	// Source: WeChat Pay, 发起转账 (API v3).
	wepay.Transfer: {
		method: http.MethodPost, path: "/v3/fund-app/mch-transfer/[partner/]transfer-bills", as: forNamed,
		Row: row.Row{
			Number: "partner_trade_no",
			Payout: true,
			Rules: append(slices.Clone(wepay.TransferRules),
				wepay.Rule{Name: "check_name", Is: wepay.CheckName},
				wepay.Rule{Name: "desc", Required: true, Is: wepay.Characters(32)},
				wepay.Rule{Name: "transfer_scene_id", Required: true, Max: 36},
				wepay.Rule{Name: sceneInfos, Required: true, Max: 2048, Is: sceneReport},
				wepay.Rule{Name: "user_recv_perception", Is: wepay.Characters(64)},
				wepay.Rule{Name: recvStyle, Is: wepay.OneOf("CONFIRM_PAGE", "RED_PACKET")},
				wepay.Rule{Name: "notify_url", Max: 256, Is: wepay.NotifyURL},
			),
			Check: checkTransfer, Complete: completeTransfer,
			// A partner's has no state, and no query returns package_info.
			// Source: WeChat Pay, 发起转账 (服务商, API v3), 2025-07-29.
			Echoes: []string{"partner_trade_no"}, Answers: []string{"payment_no"},
			Repeatable: true, Unknown: wepay.Query, Ask: wepay.QueryTransfer, Verdicts: payoutVerdicts,
		},
		in: fieldMap{
			{"sub_mch_id", "sub_mchid", text},
			{"appid", "appid", text},
			{"partner_trade_no", "out_bill_no", text},
			{"openid", "openid", text},
			{"re_user_name", "user_name", text},
			{"amount", "transfer_amount", number},
			{"desc", "transfer_remark", text},
			{"transfer_scene_id", "transfer_scene_id", text},
			{sceneInfos, sceneInfos, value},
			{"user_recv_perception", "user_recv_perception", text},
			{recvStyle, recvStyle + ".type", text},
			{"notify_url", "notify_url", text},
		},
		encrypted: []string{"user_name"},
		out:       transferMadeMap, result: addPayer,
	},
	// Source: WeChat Pay, 商户单号查询转账单 (API v3).
	wepay.QueryTransfer: {
		method: http.MethodGet, as: forNamed,
		path: "/v3/fund-app/mch-transfer/[partner/]transfer-bills/out-bill-no/{partner_trade_no}",
		Row: row.Row{
			Payout: true, Rules: wepay.QueryTransferRules,
			Echoes: []string{"partner_trade_no"}, Answers: []string{"status"},
			Repeatable: true, Unknown: wepay.Again, Verdicts: payoutQueryVerdicts,
		},
		in:        ofSub,
		decrypted: []string{"user_name"},
		out: fieldMap{
			{"mch_id", "mch_id", text},
			{"mch_id", "mchid", text}, // a partner's
			{"sub_mch_id", "sub_mchid", text},
			{"partner_trade_no", "out_bill_no", text},
			{"detail_id", "transfer_bill_no", text},
			{"appid", "appid", text},
			{"state", "state", text},
			{"status", "state", words(transferStatuses, "PROCESSING")},
			{"openid", "openid", text},
			{"transfer_name", "user_name", text},
			{"payment_amount", "transfer_amount", number},
			{"desc", "transfer_remark", text},
			{"reason", "fail_reason", text},
			{"transfer_time", "create_time", second},
		},
		result: func(_ *exchange, answer object, out *wepay.Fields) error {
			if answer.text("state") != "SUCCESS" {
				return nil
			}
			return fieldMap{{"payment_time", "update_time", second}}.read(answer, out)
		},
	},
	// Source: WeChat Pay, 撤销转账 (API v3). Without a sub-merchant there is no body.
	wepay.CancelTransfer: {
		method: http.MethodPost, as: forNamed,
		path: "/v3/fund-app/mch-transfer/[partner/]transfer-bills/out-bill-no/{partner_trade_no}/cancel",
		Row: row.Row{
			Payout: true, Rules: wepay.QueryTransferRules,
			Echoes: []string{"partner_trade_no"}, Answers: []string{"state"},
			Repeatable: true, Unknown: wepay.Query, Ask: wepay.QueryTransfer,
		},
		in:  ofSub,
		out: transferMadeMap, result: addPayer,
	},
}

// transferStatuses are API v2's words for final states.
var transferStatuses = map[string]string{"SUCCESS": "SUCCESS", "FAIL": "FAILED", "CANCELLED": "FAILED"}

// checkTransfer requires the payee's name where WeChat does, and knows what is too much
// for a red packet.
func checkTransfer(in wepay.Fields) error {
	amount, err := wepay.ParseFen(in.Get("amount"))
	if err != nil {
		return &wepay.FieldError{Field: "amount", Reason: err.Error()}
	}
	if amount >= namedTransfer && in.Get("re_user_name") == "" {
		return &wepay.FieldError{Field: "re_user_name", Reason: "is required from 2000 yuan", Missing: true}
	}
	if amount > maxPacket && in.Get(recvStyle) == "RED_PACKET" {
		return &wepay.FieldError{Field: recvStyle, Reason: "may be RED_PACKET for up to 200 yuan"}
	}
	return wepay.CheckTransferName(in)
}

// sceneReport is the form of sceneInfos.
func sceneReport(value string) error {
	if wepay.JSON(value) != nil || !strings.HasPrefix(strings.TrimSpace(value), "[") {
		return errors.New("must be a JSON array of objects with info_type and info_content")
	}
	return nil
}

// completeTransfer removes a name that the caller wants unchecked, unless WeChat
// requires it: WeChat checks every name that it gets.
func completeTransfer(_ *wepay.Merchant, in wepay.Fields) (wepay.Fields, error) {
	if amount, _ := wepay.ParseFen(in.Get("amount")); in.Get("check_name") == "NO_CHECK" && amount < namedTransfer {
		in.Delete("re_user_name")
	}
	return in, nil
}

// transferMadeMap has the fields of the reply to a transfer or its cancellation. Its
// state says whether the payee has the money.
var transferMadeMap = fieldMap{
	{"sub_mch_id", "sub_mchid", text},
	{"partner_trade_no", "out_bill_no", text},
	{"payment_no", "transfer_bill_no", text},
	{"payment_time", "create_time", second},
	{"state", "state", text},
	{"fail_reason", "fail_reason", text},
	{"package_info", "package_info", text},
	{"update_time", "update_time", second},
}

// addPayer adds the ids under the names that API v2 has for them in a transfer.
func addPayer(x *exchange, _ object, out *wepay.Fields) error {
	out.Set("mch_appid", x.merchant.AppID)
	out.Set("mchid", x.merchant.MchID)
	return nil
}
