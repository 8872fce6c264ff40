package wepaytest

import (
	"cmp"
	"fmt"
	"net/http"
	"strconv"
	"time"

	"github.com/windsome/caddy-wepay/wepay"
)

// maxBatch is how many transfers one batch can have.
const maxBatch = 1000

// batch is a batch of transfers, of the predecessor of transfers that the payee
// confirms.
type batch struct {
	number, id string // out_batch_no and batch_id
	account    *account
	request    object
	json       string
	status     string
	details    []*batchDetail
	at, since  time.Time
}

type batchDetail struct {
	request object
	id      string
	fee     int64
	status  string
	reason  string
}

const batchesPath = "/v3/transfer/batches"

var v3BatchCalls = []v3call{
	{
		method: http.MethodPost, path: batchesPath, as: asDirect,
		body: members{
			{name: "appid", as: "appid", required: true, max: 32},
			{name: "out_batch_no", required: true, max: 32, is: nonce},
			{name: "batch_name", required: true, max: 32},
			{name: "batch_remark", required: true, max: 32},
			{name: "total_amount", required: true, kind: wholes, is: fen},
			{name: "total_num", required: true, kind: wholes, is: fen},
			{name: "transfer_detail_list", required: true, kind: lists, max: maxBatch, of: members{
				{name: "out_detail_no", required: true, max: 32, is: nonce},
				{name: "transfer_amount", required: true, kind: wholes, is: fen},
				{name: "transfer_remark", required: true, max: 32},
				{name: "openid", required: true, max: 64},
				{name: "user_name", max: 1024},
			}},
			{name: "transfer_scene_id", max: 36},
			{name: "notify_url", max: 256, is: notifyURL},
		},
		do: (*v3exchange).createBatch,
	},
	{
		method: http.MethodGet, path: batchesPath + "/out-batch-no/{out_batch_no}", as: asDirect,
		query: members{
			{name: "need_query_detail", required: true, is: word("true", "false")},
			{name: "offset", max: 10, is: digits},
			{name: "limit", max: 3, is: digits},
			{name: "detail_status", is: word("ALL", "SUCCESS", "FAIL", "WAIT_PAY")},
		},
		do: (*v3exchange).queryBatch,
	},
	{
		method: http.MethodGet, path: batchesPath + "/out-batch-no/{out_batch_no}/details/out-detail-no/{out_detail_no}",
		as: asDirect, do: (*v3exchange).queryDetail,
	},
}

// createBatch debits the account for a whole batch, once for each number.
func (x *v3exchange) createBatch() (object, *v3refusal) {
	number := x.body.text("out_batch_no")
	b := &batch{number: number, account: x.account, request: x.body, status: "ACCEPTED", at: x.now, since: x.now}
	var sum int64
	seen := make(map[string]bool)
	for i, d := range x.body.objects("transfer_detail_list") {
		if refused := x.decryptUserName(d, "transfer_amount"); refused != nil {
			return nil, refused
		}
		if detail := d.text("out_detail_no"); seen[detail] {
			return nil, wrong("body", "/transfer_detail_list/"+strconv.Itoa(i)+"/out_detail_no", detail, "明细单号重复")
		}
		seen[d.text("out_detail_no")] = true
		sum += d.whole("transfer_amount")
		b.details = append(b.details, &batchDetail{request: d, fee: d.whole("transfer_amount"), status: "PROCESSING"})
	}
	b.json = jsonOf(x.body)
	if known, found := x.books.batches[number]; found {
		if known.json != b.json {
			return nil, &v3refusal{status: http.StatusBadRequest, code: "ALREADY_EXISTS", message: "批次单号已存在，参数与之前不一致"}
		}
		return known.accepted(), nil
	}
	switch {
	case sum != x.body.whole("total_amount"):
		return nil, wrong("body", "/total_amount", sum, "转账总金额与明细金额之和不一致")
	case int64(len(b.details)) != x.body.whole("total_num"):
		return nil, wrong("body", "/total_num", len(b.details), "转账总笔数与明细笔数不一致")
	case x.books.available < sum:
		return nil, inV3(poor())
	}
	b.id = x.server.nextNumber("1030000000", x.now)
	for _, d := range b.details {
		d.id = x.server.nextNumber("1040000000", x.now)
	}
	x.books.batches[number] = b
	x.books.move(x.server, movement{number: b.id, kind: "商家转账到零钱", fee: -sum, voucher: number})
	return b.accepted(), nil
}

func (b *batch) accepted() object {
	return object{"out_batch_no": b.number, "batch_id": b.id, "create_time": moment(b.at), "batch_status": b.status}
}

func (x *v3exchange) findBatch() (*batch, *v3refusal) {
	b, found := x.books.batches[x.path.text("out_batch_no")]
	if !found || x.now.Sub(b.at) > payoutAge {
		return nil, absent("NOT_FOUND", "记录不存在")
	}
	return b, nil
}

// queryBatch returns a batch, and a page of its details if requested.
func (x *v3exchange) queryBatch() (object, *v3refusal) {
	b, refused := x.findBatch()
	if refused != nil {
		return nil, refused
	}
	out := object{"transfer_batch": b.resource()}
	if x.query.text("need_query_detail") != "true" {
		return out, nil
	}
	offset, _ := strconv.Atoi(x.query.text("offset")) // digits has seen to it
	limit, err := strconv.Atoi(cmp.Or(x.query.text("limit"), "20"))
	if err != nil || limit < 20 || limit > 100 {
		return nil, wrong("query", "/limit", x.query.text("limit"), "参数格式错误")
	}
	wanted := cmp.Or(x.query.text("detail_status"), "ALL")
	list := []any{}
	for _, d := range b.details {
		if wanted == "ALL" || wanted == d.status {
			list = append(list, object{"detail_id": d.id, "out_detail_no": d.request.text("out_detail_no"), "detail_status": d.status})
		}
	}
	offset = min(offset, len(list))
	out["offset"], out["limit"] = offset, limit
	out["transfer_detail_list"] = list[offset:min(offset+limit, len(list))]
	return out, nil
}

// sum adds up the details of a state.
func (b *batch) sum(status string) (fee, count int64) {
	for _, d := range b.details {
		if d.status == status {
			fee += d.fee
			count++
		}
	}
	return fee, count
}

func (b *batch) resource() object {
	success, successes := b.sum("SUCCESS")
	fail, fails := b.sum("FAIL")
	return object{
		"mchid": b.account.MchID, "out_batch_no": b.number, "batch_id": b.id, "appid": b.request.text("appid"),
		"batch_status": b.status, "batch_type": "API",
		"batch_name": b.request.text("batch_name"), "batch_remark": b.request.text("batch_remark"),
		"total_amount": b.request.whole("total_amount"), "total_num": b.request.whole("total_num"),
		"success_amount": success, "success_num": successes, "fail_amount": fail, "fail_num": fails,
		"create_time": moment(b.at), "update_time": moment(b.since),
	}
}

func (x *v3exchange) queryDetail() (object, *v3refusal) {
	b, refused := x.findBatch()
	if refused != nil {
		return nil, refused
	}
	for _, d := range b.details {
		if d.request.text("out_detail_no") != x.path.text("out_detail_no") {
			continue
		}
		return object{
			"mchid": b.account.MchID, "appid": b.request.text("appid"), "out_batch_no": b.number, "batch_id": b.id,
			"out_detail_no": d.request.text("out_detail_no"), "detail_id": d.id, "detail_status": d.status,
			"transfer_amount": d.fee, "transfer_remark": d.request.text("transfer_remark"), "openid": d.request.text("openid"),
			"fail_reason": d.reason, "initiate_time": moment(b.at), "update_time": moment(b.since),
		}.without("fail_reason"), nil
	}
	return nil, absent("NOT_FOUND", "记录不存在")
}

// FinishBatch ends a batch of transfers: all succeed except those in failed, by their
// out_detail_no with a reason, whose money is returned. It notifies the merchant as
// ConfirmTransfer does, with the same errors.
func (s *Server) FinishBatch(mchID, outBatchNo string, failed map[string]string, options ...PayOption) (*Delivery, error) {
	return notifying(options, fmt.Sprintf("ending batch %q of %q", outBatchNo, mchID), func(p payment) (*Delivery, error) {
		return s.finishBatch(mchID, outBatchNo, failed, p)
	})
}

func (s *Server) finishBatch(mchID, number string, failed map[string]string, p payment) (*Delivery, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	a, found := s.accounts[mchID]
	if !found {
		return nil, wepay.ErrNoMerchant
	}
	b, found := a.real.batches[number]
	switch {
	case !found:
		return nil, ErrNoPayout
	case b.status != "ACCEPTED":
		return nil, fmt.Errorf("%w: its batch_status is %s", ErrFinished, b.status)
	case b.request.text("notify_url") != "" && a.APIv3Key == "":
		return nil, ErrNoAPIv3Key
	}
	b.status, b.since = "FINISHED", s.clock.Now()
	for _, d := range b.details {
		d.status = "SUCCESS"
		if reason, fails := failed[d.request.text("out_detail_no")]; fails {
			d.status, d.reason = "FAIL", reason
		}
	}
	fail, _ := b.sum("FAIL")
	a.real.move(s, movement{number: b.id, kind: "商家转账到零钱退回", fee: fail, voucher: number})
	to := b.request.text("notify_url")
	if to == "" {
		return nil, nil
	}
	resource := b.resource()
	for _, name := range []string{"appid", "batch_type", "batch_name", "batch_remark", "create_time"} {
		delete(resource, name)
	}
	return s.deliveryV3(a, Event{
		URL: to, Type: "MCHTRANSFER.BATCH.FINISHED", OriginalType: "mch_payment", Summary: "商家转账批次完成", Resource: resource,
	}, p)
}
