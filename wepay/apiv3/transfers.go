package apiv3

import (
	"cmp"
	"net/http"
	"slices"

	"github.com/windsome/caddy-wepay/wepay"
)

// namedTransfer is the amount, in fen, from which WeChat wants the payee's name.
const namedTransfer = 2000_00

// payoutVerdicts are of money on its way out. Of a payout whatever is not listed,
// and not refused for its signature or its rate, is to be asked about: a new
// number would pay twice.
var payoutVerdicts = map[string]wepay.Verdict{
	"NOTENOUGH": wepay.Later,
}

// payoutQueryVerdicts are of questions about payouts.
var payoutQueryVerdicts = map[string]wepay.Verdict{
	"NOTFOUND": wepay.Again, // asked again some minutes later, it may be sent again with its number
}

// sceneInfos is what WeChat wants to be told of a transfer's purpose.
const sceneInfos = "transfer_scene_report_infos"

// transferCalls send money to a payer's wallet, who has to confirm it (商家转账).
var transferCalls = map[wepay.Operation]call{
	// Source: WeChat Pay, 发起转账 (API v3).
	wepay.Transfer: {
		method: http.MethodPost, as: forNamed, payout: true,
		path: "/v3/fund-app/mch-transfer/transfer-bills", partner: "/v3/fund-app/mch-transfer/partner/transfer-bills",
		rules: append(slices.Clone(wepay.TransferRules),
			wepay.Rule{Name: "check_name", Is: wepay.CheckName},
			wepay.Rule{Name: "desc", Required: true, Is: wepay.Characters(32)},
			wepay.Rule{Name: "transfer_scene_id", Required: true, Max: 36},
			wepay.Rule{Name: sceneInfos, Required: true, Max: 2048, Is: wepay.JSON},
			wepay.Rule{Name: "user_recv_perception", Is: wepay.Characters(64)},
			wepay.Rule{Name: "notify_url", Max: 256, Is: wepay.NotifyURL},
		),
		check: checkTransfer,
		body:  transferBody, encrypted: []string{"user_name"},
		echoes: []string{"partner_trade_no"}, answers: []string{"payment_no", "state"},
		result:     transferMade,
		repeatable: true, unknown: wepay.Query, ask: wepay.QueryTransfer, verdicts: payoutVerdicts,
	},
	// Source: WeChat Pay, 商户单号查询转账单 (API v3).
	wepay.QueryTransfer: {
		method: http.MethodGet, as: forNamed, payout: true,
		path:      "/v3/fund-app/mch-transfer/transfer-bills/out-bill-no/{partner_trade_no}",
		partner:   "/v3/fund-app/mch-transfer/partner/transfer-bills/out-bill-no/{partner_trade_no}",
		rules:     wepay.QueryTransferRules,
		query:     func(x *exchange) (members, error) { return x.subQuery(), nil },
		decrypted: []string{"user_name"},
		echoes:    []string{"partner_trade_no"}, answers: []string{"status"},
		result:     transferState,
		repeatable: true, unknown: wepay.Again, verdicts: payoutQueryVerdicts,
	},
	// Source: WeChat Pay, 撤销转账 (API v3).
	wepay.CancelTransfer: {
		method: http.MethodPost, as: forNamed, payout: true,
		path:    "/v3/fund-app/mch-transfer/transfer-bills/out-bill-no/{partner_trade_no}/cancel",
		partner: "/v3/fund-app/mch-transfer/partner/transfer-bills/out-bill-no/{partner_trade_no}/cancel",
		rules:   wepay.QueryTransferRules,
		body: func(x *exchange) (object, error) {
			if x.merchant.SubMchID == "" {
				return nil, nil // WeChat wants no body at all
			}
			return x.subBody(), nil
		},
		echoes: []string{"partner_trade_no"}, answers: []string{"state"},
		result:     transferMade,
		repeatable: true, unknown: wepay.Query, ask: wepay.QueryTransfer,
	},
}

// checkTransfer wants the payee's name where WeChat does.
func checkTransfer(in wepay.Fields) error {
	amount, err := wepay.ParseFen(in.Get("amount"))
	if err != nil {
		return &wepay.FieldError{Field: "amount", Reason: err.Error()}
	}
	if amount >= namedTransfer && in.Get("re_user_name") == "" {
		return &wepay.FieldError{Field: "re_user_name", Reason: "is required from 2000 yuan", Missing: true}
	}
	return wepay.CheckTransferName(in)
}

// transferRequestNames are the fields of a transfer that stay what they are.
var transferRequestNames = []name{
	{"partner_trade_no", "out_bill_no", text},
	{"openid", "openid", text},
	{"re_user_name", "user_name", text},
	{"amount", "transfer_amount", number},
	{"desc", "transfer_remark", text},
	{"transfer_scene_id", "transfer_scene_id", text},
	{sceneInfos, sceneInfos, value},
	{"user_recv_perception", "user_recv_perception", text},
	{"notify_url", "notify_url", text},
}

// transferBody makes a transfer. WeChat checks every name that it is given, and
// is not given one that the caller wants unchecked, unless it has to be.
func transferBody(x *exchange) (object, error) {
	in := x.in
	if amount, _ := wepay.ParseFen(in.Get("amount")); in.Get("check_name") == "NO_CHECK" && amount < namedTransfer {
		in = in.Clone()
		in.Delete("re_user_name")
	}
	body := x.subBody()
	body["appid"] = x.merchant.AppID
	if err := write(transferRequestNames, in, body); err != nil {
		return nil, err
	}
	if _, isList := body[sceneInfos].([]any); !isList {
		return nil, &wepay.FieldError{Field: sceneInfos, Reason: "must be a JSON array of objects with info_type and info_content"}
	}
	return body, nil
}

// transferMadeNames are the fields of the reply to a transfer, or to its
// cancelling.
var transferMadeNames = []name{
	{"partner_trade_no", "out_bill_no", text},
	{"payment_no", "transfer_bill_no", text},
	{"payment_time", "create_time", second},
	{"state", "state", text},
	{"fail_reason", "fail_reason", text},
	{"package_info", "package_info", text},
	{"update_time", "update_time", second},
}

// transferMade says that WeChat took a transfer; its state says whether anybody
// has got the money. API v2 has names of its own here for who pays.
func transferMade(x *exchange, answer object) (wepay.Fields, error) {
	fields := x.done()
	fields.Set("mch_appid", x.merchant.AppID)
	fields.Set("mchid", x.merchant.MchID)
	err := read(transferMadeNames, answer, &fields)
	return fields, err
}

// transferStateNames are the fields of a transfer's query.
var transferStateNames = []name{
	{"mch_id", "mch_id", text},
	{"partner_trade_no", "out_bill_no", text},
	{"detail_id", "transfer_bill_no", text},
	{"appid", "appid", text},
	{"state", "state", text},
	{"openid", "openid", text},
	{"transfer_name", "user_name", text},
	{"payment_amount", "transfer_amount", number},
	{"desc", "transfer_remark", text},
	{"reason", "fail_reason", text},
	{"transfer_time", "create_time", second},
}

// transferStatuses are API v2's words for states that nothing follows. Of any
// other state it says PROCESSING.
var transferStatuses = map[string]string{"SUCCESS": "SUCCESS", "FAIL": "FAILED", "CANCELLED": "FAILED"}

func transferState(x *exchange, answer object) (wepay.Fields, error) {
	fields := x.done()
	if err := read(transferStateNames, answer, &fields); err != nil {
		return nil, err
	}
	state := answer.text("state")
	if state == "" {
		return fields, nil // the caller of this sees that there is no status
	}
	fields.Set("status", cmp.Or(transferStatuses[state], "PROCESSING"))
	if state == "SUCCESS" {
		return fields, read([]name{{"payment_time", "update_time", second}}, answer, &fields)
	}
	return fields, nil
}
