package apiv3

import (
	"net/http"

	"github.com/windsome/caddy-wepay/wepay"
)

// sharingVerdicts: what is not known is to be asked about.
var sharingVerdicts = map[string]wepay.Verdict{
	"NOTENOUGH":            wepay.Later,
	"ORDERNOTREADY":        wepay.Later,
	"RULELIMIT":            wepay.Fix, // more than may be shared
	"INVALIDTRANSACTIONID": wepay.Fix,
	"ORDERNOTEXIST":        wepay.Fix,
	"RECEIVERINVALID":      wepay.Fix,
}

// sharingQueryVerdicts: what is not there may be sent again, with its number.
var sharingQueryVerdicts = map[string]wepay.Verdict{
	"ORDERNOTEXIST":     wepay.Again,
	"RESOURCENOTEXISTS": wepay.Again,
}

// sharingCalls divide what an order brought among receivers (分账). The order
// must have been placed with profit_sharing Y.
var sharingCalls = map[wepay.Operation]call{
	// Source: WeChat Pay, 请求分账 (API v3).
	wepay.ProfitShare: {
		method: http.MethodPost, path: "/v3/profitsharing/orders",
		rules:     wepay.ShareRules,
		body:      func(x *exchange) (object, error) { return shareBody(x, true) },
		encrypted: []string{"receivers[].name"},
		echoes:    []string{"transaction_id", "out_order_no"}, answers: []string{"order_id"},
		result:     shareState,
		repeatable: true, unknown: wepay.Query, ask: wepay.ProfitShareQuery, verdicts: sharingVerdicts,
	},
	wepay.ProfitShareMulti: {
		method: http.MethodPost, path: "/v3/profitsharing/orders",
		rules:     wepay.ShareRules,
		body:      func(x *exchange) (object, error) { return shareBody(x, false) },
		encrypted: []string{"receivers[].name"},
		echoes:    []string{"transaction_id", "out_order_no"}, answers: []string{"order_id"},
		result:     shareState,
		repeatable: true, unknown: wepay.Query, ask: wepay.ProfitShareQuery, verdicts: sharingVerdicts,
	},
	// Source: WeChat Pay, 解冻剩余资金 (API v3).
	wepay.ProfitShareFinish: {
		method: http.MethodPost, path: "/v3/profitsharing/orders/unfreeze",
		rules: wepay.FinishShareRules,
		body: func(x *exchange) (object, error) {
			body := x.subBody()
			err := write(shareNumberNames, x.in, body)
			return body, err
		},
		echoes: []string{"transaction_id", "out_order_no"}, answers: []string{"order_id"},
		result:     shareState,
		repeatable: true, unknown: wepay.Query, ask: wepay.ProfitShareQuery, verdicts: sharingVerdicts,
	},
	// Source: WeChat Pay, 查询分账结果 (API v3).
	wepay.ProfitShareQuery: {
		method: http.MethodGet, path: "/v3/profitsharing/orders/{out_order_no}",
		rules: wepay.QueryShareRules,
		query: func(x *exchange) (members, error) {
			return append(members{{"transaction_id", x.in.Get("transaction_id")}}, x.subQuery()...), nil
		},
		echoes: []string{"transaction_id", "out_order_no"}, answers: []string{"status"},
		result:     shareState,
		repeatable: true, unknown: wepay.Again, verdicts: sharingQueryVerdicts,
	},
	// Source: WeChat Pay, 请求分账回退 (API v3).
	wepay.ProfitShareReturn: {
		method: http.MethodPost, path: "/v3/profitsharing/return-orders",
		rules: wepay.ReturnShareRules,
		body: func(x *exchange) (object, error) {
			body := x.subBody()
			err := write(returnRequestNames, x.in, body)
			return body, err
		},
		echoes: []string{"out_return_no", "return_amount"}, answers: []string{"result"},
		result:     returnState,
		repeatable: true, unknown: wepay.Query, ask: wepay.ProfitShareReturnQuery, verdicts: sharingVerdicts,
	},
	// Source: WeChat Pay, 查询分账回退结果 (API v3).
	wepay.ProfitShareReturnQuery: {
		method: http.MethodGet, path: "/v3/profitsharing/return-orders/{out_return_no}",
		rules: wepay.QueryReturnRules,
		check: func(in wepay.Fields) error {
			if in.Get("out_order_no") == "" {
				return &wepay.FieldError{Field: "out_order_no", Reason: "is required over API v3, which does not take order_id here", Missing: true}
			}
			return nil
		},
		query: func(x *exchange) (members, error) {
			return append(members{{"out_order_no", x.in.Get("out_order_no")}}, x.subQuery()...), nil
		},
		echoes: []string{"out_return_no", "out_order_no"}, answers: []string{"result"},
		result:     returnState,
		repeatable: true, unknown: wepay.Again, verdicts: sharingQueryVerdicts,
	},
	// Source: WeChat Pay, 查询剩余待分金额 (API v3).
	wepay.QueryUnsplit: {
		method: http.MethodGet, path: "/v3/profitsharing/transactions/{transaction_id}/amounts",
		rules:  wepay.Rules{{Name: "transaction_id", Required: true, Max: 32, Is: wepay.Number}},
		echoes: []string{"transaction_id"}, answers: []string{"unsplit_amount"},
		result: func(x *exchange, answer object) (wepay.Fields, error) {
			fields := x.done()
			err := read([]name{{"transaction_id", "transaction_id", text}, {"unsplit_amount", "unsplit_amount", number}}, answer, &fields)
			return fields, err
		},
		repeatable: true, unknown: wepay.Again, verdicts: sharingQueryVerdicts,
	},
}

// shareNumberNames are the fields of a share besides its receivers.
var shareNumberNames = []name{
	{"transaction_id", "transaction_id", text},
	{"out_order_no", "out_order_no", text},
	{"description", "description", shown},
}

// shareBody makes a share, after which what is left is the merchant's or not.
func shareBody(x *exchange, last bool) (object, error) {
	body := x.sharer()
	if err := write(append(shareNumberNames[:len(shareNumberNames):len(shareNumberNames)], name{"receivers", "receivers", value}), x.in, body); err != nil {
		return nil, err
	}
	body["unfreeze_unsplit"] = last
	return body, nil
}

// sharer says in a body whose receivers are meant.
func (x *exchange) sharer() object {
	body := x.subBody()
	body["appid"] = x.merchant.AppID
	if x.merchant.SubAppID != "" {
		body["sub_appid"] = x.merchant.SubAppID
	}
	return body
}

// shareStateNames are the fields of a share.
var shareStateNames = []name{
	{"sub_mch_id", "sub_mchid", text},
	{"transaction_id", "transaction_id", text},
	{"out_order_no", "out_order_no", text},
	{"order_id", "order_id", text},
	{"status", "state", text},
	{"receivers", "receivers", value},
}

// shareState is what became of a share. Receivers stay the JSON that they are in
// API v2, whose times have another form.
func shareState(x *exchange, answer object) (wepay.Fields, error) {
	for _, receiver := range answer.objects("receivers") {
		for _, member := range []string{"create_time", "finish_time"} {
			at, err := moment.read(receiver, member)
			if err != nil {
				return nil, err
			}
			if at != "" {
				receiver[member] = at
			}
		}
	}
	fields := x.done()
	err := read(shareStateNames, answer, &fields)
	return fields, err
}

var (
	returnRequestNames = []name{
		{"order_id", "order_id", text},
		{"out_order_no", "out_order_no", text},
		{"out_return_no", "out_return_no", text},
		{"return_account", "return_mchid", text},
		{"return_amount", "amount", number},
		{"description", "description", shown},
	}
	returnStateNames = []name{
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
)

// returnState is what became of a part that is given back. API v3 takes it from
// merchants alone.
func returnState(x *exchange, answer object) (wepay.Fields, error) {
	fields := x.done()
	fields.Set("return_account_type", "MERCHANT_ID")
	err := read(returnStateNames, answer, &fields)
	return fields, err
}
