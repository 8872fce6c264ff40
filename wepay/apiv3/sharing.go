package apiv3

import (
	"net/http"
	"slices"

	"github.com/windsome/caddy-wepay/wepay"
	"github.com/windsome/caddy-wepay/wepay/internal/row"
)

// sharingVerdicts: unknown outcomes are to be queried.
var sharingVerdicts = map[string]wepay.Verdict{
	"NOTENOUGH":            wepay.Later,
	"ORDERNOTREADY":        wepay.Later,
	"RULELIMIT":            wepay.Fix, // more than may be shared
	"INVALIDTRANSACTIONID": wepay.Fix,
	"ORDERNOTEXIST":        wepay.Fix,
	"RECEIVERINVALID":      wepay.Fix,
}

// sharingQueryVerdicts: a share that is not found may be sent again, with its
// number.
var sharingQueryVerdicts = map[string]wepay.Verdict{
	"ORDERNOTEXIST":     wepay.Again,
	"RESOURCENOTEXISTS": wepay.Again,
}

// sharer identifies the account of the receivers.
var sharer = fieldMap{{"sub_mch_id", "sub_mchid", text}, {"appid", "appid", text}, {"sub_appid", "sub_appid", text}}

// sharingCalls share an order's amount among receivers (分账). The order
// must have been placed with profit_sharing Y.
var sharingCalls = map[wepay.Operation]call{
	// Source: WeChat Pay, 请求分账 (API v3).
	wepay.ProfitShare:      shareCall(true),
	wepay.ProfitShareMulti: shareCall(false),
	// Source: WeChat Pay, 解冻剩余资金 (API v3).
	wepay.ProfitShareFinish: {
		method: http.MethodPost, path: "/v3/profitsharing/orders/unfreeze",
		Row: row.Row{
			Rules:  wepay.FinishShareRules,
			Echoes: []string{"transaction_id", "out_order_no"}, Answers: []string{"order_id"},
			Repeatable: true, Unknown: wepay.Query, Ask: wepay.ProfitShareQuery, Verdicts: sharingVerdicts,
		},
		in: fieldMap{
			{"sub_mch_id", "sub_mchid", text},
			{"transaction_id", "transaction_id", text},
			{"out_order_no", "out_order_no", text},
			{"description", "description", shown},
		},
		out: shareStateMap,
	},
	// Source: WeChat Pay, 查询分账结果 (API v3).
	wepay.ProfitShareQuery: {
		method: http.MethodGet, path: "/v3/profitsharing/orders/{out_order_no}",
		Row: row.Row{
			Rules:  wepay.QueryShareRules,
			Echoes: []string{"transaction_id", "out_order_no"}, Answers: []string{"status"},
			Repeatable: true, Unknown: wepay.Again, Verdicts: sharingQueryVerdicts,
		},
		in:  fieldMap{{"transaction_id", "transaction_id", text}, {"sub_mch_id", "sub_mchid", text}},
		out: shareStateMap,
	},
	// Source: WeChat Pay, 请求分账回退 (API v3).
	wepay.ProfitShareReturn: {
		method: http.MethodPost, path: "/v3/profitsharing/return-orders",
		Row: row.Row{
			Rules:  wepay.ReturnShareRules,
			Echoes: []string{"out_return_no", "return_amount"}, Answers: []string{"result"},
			Repeatable: true, Unknown: wepay.Query, Ask: wepay.ProfitShareReturnQuery, Verdicts: sharingVerdicts,
		},
		in: fieldMap{
			{"sub_mch_id", "sub_mchid", text},
			{"order_id", "order_id", text},
			{"out_order_no", "out_order_no", text},
			{"out_return_no", "out_return_no", text},
			{"return_account", "return_mchid", text},
			{"return_amount", "amount", number},
			{"description", "description", shown},
		},
		out: returnStateMap,
	},
	// Source: WeChat Pay, 查询分账回退结果 (API v3).
	wepay.ProfitShareReturnQuery: {
		method: http.MethodGet, path: "/v3/profitsharing/return-orders/{out_return_no}",
		Row: row.Row{
			Rules: wepay.QueryReturnRules, Check: checkReturnQuery,
			Echoes: []string{"out_return_no", "out_order_no"}, Answers: []string{"result"},
			Repeatable: true, Unknown: wepay.Again, Verdicts: sharingQueryVerdicts,
		},
		in:  fieldMap{{"out_order_no", "out_order_no", text}, {"sub_mch_id", "sub_mchid", text}},
		out: returnStateMap,
	},
	// Source: WeChat Pay, 查询剩余待分金额 (API v3).
	wepay.QueryUnsplit: {
		method: http.MethodGet, path: "/v3/profitsharing/transactions/{transaction_id}/amounts",
		Row: row.Row{
			Rules:  wepay.Rules{{Name: "transaction_id", Required: true, Max: 32, Is: wepay.Number}},
			Echoes: []string{"transaction_id"}, Answers: []string{"unsplit_amount"},
			Repeatable: true, Unknown: wepay.Again, Verdicts: sharingQueryVerdicts,
		},
		out: fieldMap{{"transaction_id", "transaction_id", text}, {"unsplit_amount", "unsplit_amount", number}},
	},
}

// shareCall is the row of a share; after the last, the rest is the merchant's.
func shareCall(last bool) call {
	return call{
		method: http.MethodPost, path: "/v3/profitsharing/orders",
		Row: row.Row{
			Rules:  wepay.ShareRules,
			Echoes: []string{"transaction_id", "out_order_no"}, Answers: []string{"order_id"},
			Repeatable: true, Unknown: wepay.Query, Ask: wepay.ProfitShareQuery, Verdicts: sharingVerdicts,
		},
		in: slices.Concat(sharer, fieldMap{
			{"transaction_id", "transaction_id", text},
			{"out_order_no", "out_order_no", text},
			{"receivers", "receivers", value},
			{"", "unfreeze_unsplit", fixed(last)},
		}),
		encrypted: []string{"receivers[].name"},
		out:       shareStateMap,
	}
}

func checkReturnQuery(in wepay.Fields) error {
	if in.Get("out_order_no") == "" {
		return &wepay.FieldError{Field: "out_order_no", Reason: "is required over API v3, which does not take order_id here", Missing: true}
	}
	return nil
}

// shareStateMap has the fields of a share's state.
var shareStateMap = fieldMap{
	{"sub_mch_id", "sub_mchid", text},
	{"transaction_id", "transaction_id", text},
	{"out_order_no", "out_order_no", text},
	{"order_id", "order_id", text},
	{"status", "state", text},
	{"receivers", "receivers", form{read: readReceivers}},
}

// readReceivers returns the JSON that receivers are in API v2, which has another form
// of times.
func readReceivers(in values, path string) (string, error) {
	all, _ := in.get(path).([]any)
	for _, one := range all {
		receiver, _ := one.(map[string]any)
		for _, member := range []string{"create_time", "finish_time"} {
			at, err := moment.read(object(receiver), member)
			if err != nil {
				return "", err
			}
			if at != "" {
				receiver[member] = at
			}
		}
	}
	return readValue(in, path)
}

// returnStateMap has the fields of the return of a share, which only merchants can
// return over API v3.
var returnStateMap = fieldMap{
	{"return_account_type", "", fixed("MERCHANT_ID")},
	{"sub_mch_id", "sub_mchid", text},
	{"order_id", "order_id", text},
	{"out_order_no", "out_order_no", text},
	{"out_return_no", "out_return_no", text},
	{"return_no", "return_id", text},
	{"return_account", "return_mchid", text},
	{"return_amount", "amount", number},
	{"description", "description", shown},
	{"result", "result", text},
	{"fail_reason", "fail_reason", text},
	{"finish_time", "finish_time", moment},
}
