package apiv3

import (
	"cmp"
	"encoding/json"
	"fmt"
	"net/http"
	"strconv"

	"github.com/windsome/caddy-wepay/wepay"
)

const (
	// maxBatch is how many transfers one batch may have.
	maxBatch = 1000

	batchDetails = "transfer_detail_list"
)

// batchCalls are of the product before transfers that the payee confirms, for
// merchants who still have it (商家转账到零钱).
var batchCalls = map[wepay.Operation]call{
	// Source: WeChat Pay, 发起商家转账 (API v3).
	wepay.TransferBatch: {
		method: http.MethodPost, path: "/v3/transfer/batches", as: forAccount, payout: true,
		rules: wepay.Rules{
			{Name: "out_batch_no", Required: true, Max: 32, Is: wepay.Alphanumeric},
			{Name: "batch_name", Required: true, Is: wepay.Characters(32)},
			{Name: "batch_remark", Required: true, Is: wepay.Characters(32)},
			{Name: "total_amount", Required: true, Is: wepay.Fen},
			{Name: "total_num", Required: true, Is: wepay.Between(1, maxBatch)},
			{Name: batchDetails, Required: true, Max: maxReply, Is: wepay.JSON},
			{Name: "transfer_scene_id", Max: 36},
			{Name: "notify_url", Max: 256, Is: wepay.NotifyURL},
		},
		check: checkBatch,
		body: func(x *exchange) (object, error) {
			body := object{"appid": x.merchant.AppID}
			err := write(batchNames, x.in, body)
			return body, err
		},
		encrypted: []string{batchDetails + "[].user_name"},
		echoes:    []string{"out_batch_no"}, answers: []string{"batch_id"},
		result: func(x *exchange, answer object) (wepay.Fields, error) {
			fields := x.done()
			err := read(batchStateNames, answer, &fields)
			return fields, err
		},
		repeatable: true, unknown: wepay.Query, ask: wepay.QueryTransferBatch, verdicts: payoutVerdicts,
	},
	// Source: WeChat Pay, 商家批次单号查询批次单 and 商家明细单号查询明细单 (API v3).
	wepay.QueryTransferBatch: {
		method: http.MethodGet, as: forAccount, payout: true,
		route: func(x *exchange) string {
			if x.in.Get("out_detail_no") != "" {
				return "/v3/transfer/batches/out-batch-no/{out_batch_no}/details/out-detail-no/{out_detail_no}"
			}
			return "/v3/transfer/batches/out-batch-no/{out_batch_no}"
		},
		rules: wepay.Rules{
			{Name: "out_batch_no", Required: true, Max: 32, Is: wepay.Alphanumeric},
			{Name: "out_detail_no", Max: 32, Is: wepay.Alphanumeric},
			{Name: "need_query_detail", Is: wepay.OneOf("true", "false")},
			{Name: "offset", Is: wepay.Between(0, maxBatch)},
			{Name: "limit", Is: wepay.Between(20, 100)},
			{Name: "detail_status", Is: wepay.OneOf("ALL", "SUCCESS", "FAIL", "WAIT_PAY")},
		},
		query:     batchQuery,
		decrypted: []string{"user_name"},
		echoes:    []string{"out_batch_no", "out_detail_no"}, answers: []string{"out_batch_no"},
		result:     batchState,
		repeatable: true, unknown: wepay.Again, verdicts: payoutQueryVerdicts,
	},
}

// checkBatch holds the totals against the transfers.
func checkBatch(in wepay.Fields) error {
	var details []struct {
		Amount json.RawMessage `json:"transfer_amount"`
	}
	if err := decode([]byte(in.Get(batchDetails)), &details); err != nil {
		return &wepay.FieldError{Field: batchDetails, Reason: "must be a JSON array of transfers"}
	}
	var sum int64
	for i, detail := range details {
		amount, err := wepay.ParseFen(string(detail.Amount))
		if err == nil && amount > 1<<62-sum {
			err = fmt.Errorf("is too much")
		}
		if err != nil {
			return &wepay.FieldError{Field: batchDetails, Reason: fmt.Sprintf("transfer %d: transfer_amount %s", i+1, err)}
		}
		sum += amount
	}
	if in.Get("total_num") != strconv.Itoa(len(details)) {
		return &wepay.FieldError{Field: "total_num", Reason: fmt.Sprintf("is not that of %s, which is %d", batchDetails, len(details))}
	}
	if in.Get("total_amount") != strconv.FormatInt(sum, 10) {
		return &wepay.FieldError{Field: "total_amount", Reason: fmt.Sprintf("is not that of %s, which is %d", batchDetails, sum)}
	}
	return nil
}

// API v2 has no batches, so that these fields have API v3's names.
var (
	batchNames = []name{
		{"out_batch_no", "out_batch_no", text},
		{"batch_name", "batch_name", text},
		{"batch_remark", "batch_remark", text},
		{"total_amount", "total_amount", number},
		{"total_num", "total_num", number},
		{batchDetails, batchDetails, value},
		{"transfer_scene_id", "transfer_scene_id", text},
		{"notify_url", "notify_url", text},
	}
	batchStateNames = []name{
		{"mch_id", "mchid", text},
		{"appid", "appid", text},
		{"out_batch_no", "out_batch_no", text},
		{"batch_id", "batch_id", text},
		{"batch_status", "batch_status", text},
		{"batch_type", "batch_type", text},
		{"batch_name", "batch_name", text},
		{"batch_remark", "batch_remark", text},
		{"close_reason", "close_reason", text},
		{"total_amount", "total_amount", number},
		{"total_num", "total_num", number},
		{"success_amount", "success_amount", number},
		{"success_num", "success_num", number},
		{"fail_amount", "fail_amount", number},
		{"fail_num", "fail_num", number},
		{"create_time", "create_time", second},
		{"update_time", "update_time", second},
	}
	batchPageNames = []name{
		{"offset", "offset", number},
		{"limit", "limit", number},
		{batchDetails, batchDetails, value},
	}
	batchDetailNames = []name{
		{"mch_id", "mchid", text},
		{"appid", "appid", text},
		{"out_batch_no", "out_batch_no", text},
		{"batch_id", "batch_id", text},
		{"out_detail_no", "out_detail_no", text},
		{"detail_id", "detail_id", text},
		{"detail_status", "detail_status", text},
		{"transfer_amount", "transfer_amount", number},
		{"transfer_remark", "transfer_remark", text},
		{"fail_reason", "fail_reason", text},
		{"openid", "openid", text},
		{"user_name", "user_name", text},
		{"initiate_time", "initiate_time", second},
		{"update_time", "update_time", second},
	}
)

// batchQuery asks for a batch with its transfers, unless the caller does not want
// them. One transfer has no query.
func batchQuery(x *exchange) (members, error) {
	if x.in.Get("out_detail_no") != "" {
		return nil, nil
	}
	query := members{{"need_query_detail", cmp.Or(x.in.Get("need_query_detail"), "true")}}
	if query[0].value == "false" {
		return query, nil
	}
	return append(query,
		member{"offset", cmp.Or(x.in.Get("offset"), "0")},
		member{"limit", cmp.Or(x.in.Get("limit"), "100")},
		member{"detail_status", cmp.Or(x.in.Get("detail_status"), "ALL")},
	), nil
}

func batchState(x *exchange, answer object) (wepay.Fields, error) {
	fields := x.done()
	if x.in.Get("out_detail_no") != "" {
		err := read(batchDetailNames, answer, &fields)
		return fields, err
	}
	batch, _ := answer.object("transfer_batch") // without it the fields lack out_batch_no
	if err := read(batchStateNames, batch, &fields); err != nil {
		return nil, err
	}
	err := read(batchPageNames, answer, &fields)
	return fields, err
}
