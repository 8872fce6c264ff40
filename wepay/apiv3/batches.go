package apiv3

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strconv"

	"github.com/windsome/caddy-wepay/wepay"
	"github.com/windsome/caddy-wepay/wepay/internal/row"
)

const (
	// maxBatch is how many transfers one batch may have.
	maxBatch = 1000

	batchDetails = "transfer_detail_list"
)

// batchCalls are those of the predecessor of transfers that the payee confirms, for
// merchants that still have it (商家转账到零钱). API v2 has no batches: these fields
// have API v3's names.
var batchCalls = map[wepay.Operation]call{
	// Source: WeChat Pay, 发起商家转账 (API v3).
	wepay.TransferBatch: {
		method: http.MethodPost, path: "/v3/transfer/batches", as: forAccount,
		Row: row.Row{
			Number: "out_batch_no",
			Payout: true,
			Rules: wepay.Rules{
				{Name: "out_batch_no", Required: true, Max: 32, Is: wepay.Alphanumeric},
				{Name: "batch_name", Required: true, Is: wepay.Characters(32)},
				{Name: "batch_remark", Required: true, Is: wepay.Characters(32)},
				{Name: "total_amount", Required: true, Is: wepay.Fen},
				{Name: "total_num", Required: true, Is: wepay.Between(1, maxBatch)},
				{Name: batchDetails, Required: true, Max: maxReply, Is: wepay.JSON},
				{Name: "transfer_scene_id", Max: 36},
				{Name: "notify_url", Max: 256, Is: wepay.NotifyURL},
			},
			Check:  checkBatch,
			Echoes: []string{"out_batch_no"}, Answers: []string{"batch_id"},
			Repeatable: true, Unknown: wepay.Query, Ask: wepay.QueryTransferBatch, Verdicts: payoutVerdicts,
		},
		in: fieldMap{
			{"appid", "appid", text},
			{"out_batch_no", "out_batch_no", text},
			{"batch_name", "batch_name", text},
			{"batch_remark", "batch_remark", text},
			{"total_amount", "total_amount", number},
			{"total_num", "total_num", number},
			{batchDetails, batchDetails, value},
			{"transfer_scene_id", "transfer_scene_id", text},
			{"notify_url", "notify_url", text},
		},
		encrypted: []string{batchDetails + "[].user_name"},
		out:       batchMap,
	},
	// Source: WeChat Pay, 商家批次单号查询批次单 and 商家明细单号查询明细单 (API v3).
	wepay.QueryTransferBatch: {
		method: http.MethodGet, as: forAccount,
		path:      "/v3/transfer/batches/out-batch-no/{out_batch_no}",
		preferred: "/v3/transfer/batches/out-batch-no/{out_batch_no}/details/out-detail-no/{out_detail_no}",
		Row: row.Row{
			Payout: true,
			Rules: wepay.Rules{
				{Name: "out_batch_no", Required: true, Max: 32, Is: wepay.Alphanumeric},
				{Name: "out_detail_no", Max: 32, Is: wepay.Alphanumeric},
				{Name: "need_query_detail", Is: wepay.OneOf("true", "false")},
				{Name: "offset", Is: wepay.Between(0, maxBatch)},
				{Name: "limit", Is: wepay.Between(20, 100)},
				{Name: "detail_status", Is: wepay.OneOf("ALL", "SUCCESS", "FAIL", "WAIT_PAY")},
			},
			Complete: completeBatchQuery,
			Echoes:   []string{"out_batch_no", "out_detail_no"}, Answers: []string{"out_batch_no"},
			Repeatable: true, Unknown: wepay.Again, Verdicts: payoutQueryVerdicts,
		},
		in: fieldMap{
			{"need_query_detail", "need_query_detail", text},
			{"offset", "offset", text},
			{"limit", "limit", text},
			{"detail_status", "detail_status", text},
		},
		decrypted: []string{"user_name"},
		result:    batchState,
	},
}

// checkBatch compares the totals with the transfers.
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
		return &wepay.FieldError{Field: "total_num", Reason: fmt.Sprintf("does not match %s, which has %d", batchDetails, len(details))}
	}
	if in.Get("total_amount") != strconv.FormatInt(sum, 10) {
		return &wepay.FieldError{Field: "total_amount", Reason: fmt.Sprintf("does not match the sum of %s, which is %d", batchDetails, sum)}
	}
	return nil
}

// completeBatchQuery queries a batch with its transfers, unless the caller does not
// want them. The query of one transfer has no parameters.
func completeBatchQuery(_ *wepay.Merchant, in wepay.Fields) (wepay.Fields, error) {
	page := []wepay.Field{{Name: "offset", Value: "0"}, {Name: "limit", Value: "100"}, {Name: "detail_status", Value: "ALL"}}
	if in.Get("need_query_detail") == "" {
		in.Set("need_query_detail", "true")
	}
	for _, field := range page {
		switch {
		case in.Get("need_query_detail") == "false" || in.Get("out_detail_no") != "":
			in.Delete(field.Name)
		case in.Get(field.Name) == "":
			in.Set(field.Name, field.Value)
		}
	}
	if in.Get("out_detail_no") != "" {
		in.Delete("need_query_detail")
	}
	return in, nil
}

// batchMap has the fields of a batch, and batchDetailMap those of a transfer in it.
var (
	batchMap = fieldMap{
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
	batchDetailMap = fieldMap{
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
	batchPageMap = fieldMap{
		{"offset", "offset", number},
		{"limit", "limit", number},
		{batchDetails, batchDetails, value},
	}
)

// batchState reads one transfer, or a batch with a page of its transfers.
func batchState(x *exchange, answer object, out *wepay.Fields) error {
	if x.in.Get("out_detail_no") != "" {
		return batchDetailMap.read(answer, out)
	}
	batch, _ := answer.object("transfer_batch") // without it out lacks out_batch_no
	if err := batchMap.read(batch, out); err != nil {
		return err
	}
	return batchPageMap.read(answer, out)
}
