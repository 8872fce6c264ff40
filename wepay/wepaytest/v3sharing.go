package wepaytest

import (
	"net/http"
	"slices"
)

var (
	sharerMembers = members{
		{name: "appid", as: "appid", required: true, max: 32},
		{name: "sub_appid", as: "sub_appid", max: 32},
		subMember,
	}
	transactionMember = member{name: "transaction_id", as: "transaction_id", required: true, max: 32}
	shareMember       = member{name: "out_order_no", as: "out_order_no", required: true, max: 64, is: refundNumber}
	describedMember   = member{name: "description", as: "description", required: true, max: 80}
	receiverMembers   = members{
		{name: "type", required: true, is: receiverTypes},
		{name: "account", required: true, max: 64},
		{name: "name", max: 1024},
	}
)

const sharingRoot = "/v3/profitsharing"

var v3SharingCalls = []v3call{
	{
		method: http.MethodPost, path: sharingRoot + "/orders",
		body: slices.Concat(sharerMembers, members{
			transactionMember, shareMember,
			{name: "receivers", kind: lists, max: maxShares, of: slices.Concat(receiverMembers, members{
				{name: "amount", required: true, kind: wholes, is: fen},
				{name: "description", required: true, max: 80},
			})},
			{name: "unfreeze_unsplit", required: true, kind: truths},
		}),
		do: (*v3exchange).shareV3,
	},
	{
		method: http.MethodGet, path: sharingRoot + "/orders/{out_order_no}",
		query: members{transactionMember, subMember}, do: (*v3exchange).queryShareV3,
	},
	{
		method: http.MethodPost, path: sharingRoot + "/orders/unfreeze",
		body: members{subMember, transactionMember, shareMember, describedMember}, do: (*v3exchange).unfreezeV3,
	},
	{
		method: http.MethodPost, path: sharingRoot + "/return-orders",
		body: members{
			subMember, describedMember,
			{name: "order_id", as: "order_id", max: 64},
			{name: "out_order_no", as: "out_order_no", max: 64, is: refundNumber},
			{name: "out_return_no", as: "out_return_no", required: true, max: 64, is: refundNumber},
			{name: "return_mchid", as: "return_account", required: true, max: 32},
			{name: "amount", as: "return_amount", required: true, kind: wholes, is: fen},
		},
		do: (*v3exchange).returnShareV3,
	},
	{
		method: http.MethodGet, path: sharingRoot + "/return-orders/{out_return_no}",
		query: members{shareMember, subMember}, do: (*v3exchange).queryReturnV3,
	},
	{
		method: http.MethodGet, path: sharingRoot + "/transactions/{transaction_id}/amounts",
		as: anyone, do: (*v3exchange).queryUnsharedV3,
	},
	{
		method: http.MethodPost, path: sharingRoot + "/receivers/add",
		body: slices.Concat(sharerMembers, receiverMembers, members{
			{name: "relation_type", required: true, is: relations},
			{name: "custom_relation", max: 10},
		}),
		do: (*v3exchange).addReceiverV3,
	},
	{
		method: http.MethodPost, path: sharingRoot + "/receivers/delete",
		body: slices.Concat(sharerMembers, receiverMembers[:2]), do: (*v3exchange).removeReceiverV3,
	},
	{
		method: http.MethodGet, path: sharingRoot + "/merchant-configs/{sub_mchid}",
		as: anyone, do: (*v3exchange).queryRatioV3,
	},
}

// shareV3 shares once for every number. What is left unfreezes when the request
// says so.
func (x *v3exchange) shareV3() (object, *v3refusal) {
	receivers := x.body.objects("receivers")
	if len(receivers) == 0 {
		return nil, wrong("body", "/receivers", nil, "缺少参数")
	}
	for _, r := range receivers {
		if refused := x.decryptName(r); refused != nil {
			return nil, refused
		}
	}
	x.in.Set("receivers", jsonOf(receivers))
	kind := shareMulti
	if x.body.truth("unfreeze_unsplit") {
		kind = shareOnce
	}
	if _, refused := x.shareOut(kind); refused != nil {
		return nil, x.sharing(refused)
	}
	return x.books.shares[x.in.Get("out_order_no")].resource(false), nil
}

// decryptName puts a name in the place of its encryption, which makes another
// text of it each time.
func (x *v3exchange) decryptName(of object) *v3refusal {
	sealed := of.text("name")
	if sealed == "" {
		return nil
	}
	name, refused := x.decryptV3(sealed)
	if refused == nil {
		of["name"] = name
	}
	return refused
}

// sharing returns why nothing is shared. A number with other content has its own code.
func (x *v3exchange) sharing(refused *refusal) *v3refusal {
	if _, used := x.books.shares[x.in.Get("out_order_no")]; used && refused.code == "INVALID_REQUEST" {
		return &v3refusal{status: http.StatusBadRequest, code: "RESOURCE_ALREADY_EXISTS", message: refused.message}
	}
	return inV3(refused)
}

func (x *v3exchange) unfreezeV3() (object, *v3refusal) {
	if _, refused := x.finishSharing(); refused != nil {
		return nil, x.sharing(refused)
	}
	return x.books.shares[x.in.Get("out_order_no")].resource(false), nil
}

func (x *v3exchange) queryShareV3() (object, *v3refusal) {
	if _, refused := x.queryShare(); refused != nil {
		return nil, inV3(refused)
	}
	return x.books.shares[x.in.Get("out_order_no")].resource(true), nil
}

// resource is a share in replies: under way, until it is queried.
func (sh *share) resource(ended bool) object {
	out := object{
		"transaction_id": sh.of.transactionID(), "out_order_no": sh.number, "order_id": sh.id, "state": "PROCESSING",
		"sub_mchid": sh.of.request.Get("sub_mch_id"),
	}.without("sub_mchid")
	receivers := []any{}
	for _, p := range sh.parts {
		r := object{
			"type": p.Type, "account": p.Account, "amount": p.Amount, "description": p.Description,
			"result": "PENDING", "detail_id": p.detail, "create_time": moment(sh.at), "fail_reason": "",
		}
		if ended {
			r["result"], r["fail_reason"], r["finish_time"] = p.result, p.reason, moment(sh.at)
		}
		receivers = append(receivers, r.without("fail_reason"))
	}
	if ended {
		out["state"] = "FINISHED"
	}
	out["receivers"] = receivers
	return out
}

func (x *v3exchange) returnShareV3() (object, *v3refusal) {
	if _, refused := x.returnShare(); refused != nil {
		if _, used := x.books.returns[x.in.Get("out_return_no")]; used && refused.code == "INVALID_REQUEST" {
			return nil, &v3refusal{status: http.StatusBadRequest, code: "RESOURCE_ALREADY_EXISTS", message: refused.message}
		}
		return nil, inV3(refused)
	}
	return x.books.returns[x.in.Get("out_return_no")].resource(), nil
}

func (x *v3exchange) queryReturnV3() (object, *v3refusal) {
	if _, refused := x.queryShareReturn(); refused != nil {
		return nil, inV3(refused)
	}
	return x.books.returns[x.in.Get("out_return_no")].resource(), nil
}

func (r *shareReturn) resource() object {
	out := object{
		"order_id": r.of.id, "out_order_no": r.of.number, "out_return_no": r.number, "return_id": r.id,
		"return_mchid": r.request.Get("return_account"), "amount": r.fee, "description": r.request.Get("description"),
		"result": "SUCCESS", "create_time": moment(r.at), "finish_time": moment(r.at),
	}
	if r.reason != "" {
		out["result"], out["fail_reason"] = "FAILED", r.reason
	}
	return out
}

func (x *v3exchange) queryUnsharedV3() (object, *v3refusal) {
	o, found := x.books.transactions[x.in.Get("transaction_id")]
	if !found {
		return nil, absent("RESOURCE_NOT_EXISTS", "订单不存在")
	}
	return object{"transaction_id": o.transactionID(), "unsplit_amount": o.frozen}, nil
}

// receiverV3 writes the receiver as API v2 has it.
func (x *v3exchange) receiverV3() *v3refusal {
	if refused := x.decryptName(x.body); refused != nil {
		return refused
	}
	r := object{}
	for _, name := range []string{"type", "account", "name", "relation_type", "custom_relation"} {
		r[name] = x.body.text(name)
	}
	x.in.Set("receiver", jsonOf(r))
	return nil
}

func (x *v3exchange) addReceiverV3() (object, *v3refusal) {
	if refused := x.receiverV3(); refused != nil {
		return nil, refused
	}
	if _, refused := x.addReceiver(); refused != nil {
		return nil, inV3(refused)
	}
	return x.repeated("type", "account", "relation_type", "custom_relation"), nil
}

func (x *v3exchange) removeReceiverV3() (object, *v3refusal) {
	if refused := x.receiverV3(); refused != nil {
		return nil, refused
	}
	if _, refused := x.removeReceiver(); refused != nil {
		return nil, inV3(refused)
	}
	return x.repeated("type", "account"), nil
}

func (x *v3exchange) queryRatioV3() (object, *v3refusal) {
	subMchID := x.path.text("sub_mchid")
	if !slices.ContainsFunc(x.account.SubMerchants, func(sub SubMerchant) bool { return sub.MchID == subMchID }) {
		return nil, inV3(refuse("NOAUTH", "受理关系不存在"))
	}
	return object{"sub_mchid": subMchID, "max_ratio": sharedPercent * 100}, nil
}
