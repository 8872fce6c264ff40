package wepaytest

import (
	"fmt"
	"net/http"
	"slices"
	"time"

	"github.com/windsome/caddy-wepay/wepay"
)

// The states of a transfer that the payee confirms.
const (
	transferWaits     = "WAIT_USER_CONFIRM"
	transferDone      = "SUCCESS"
	transferFailed    = "FAIL"
	transferCanceling = "CANCELING"
	transferCancelled = "CANCELLED"
)

const (
	// transferLife is for how long a payee can confirm a transfer.
	transferLife = 24 * time.Hour
	// namedTransfer is the least for which the payee's name is needed.
	namedTransfer = 2000_00

	transferBillsPath = "/v3/fund-app/mch-transfer/transfer-bills"
)

// transferBill is a transfer that the payee has to confirm.
type transferBill struct {
	number, id string // out_bill_no and transfer_bill_no
	account    *account
	request    object // with the name decrypted
	json       string
	fee        int64
	state      string
	reason     string
	at, since  time.Time
}

var v3TransferCalls = slices.Concat(
	transferCalls(transferBillsPath, asDirect, nil, member{name: "user_recv_style", kind: nested, of: members{
		{name: "type", required: true, is: word("CONFIRM_PAGE", "RED_PACKET")},
	}}),
	transferCalls("/v3/fund-app/mch-transfer/partner/transfer-bills", asPartner, members{{name: "sub_mchid", as: "sub_mch_id", required: true, max: 32}}),
	[]v3call{{method: http.MethodGet, path: transferBillsPath + "/transfer-bill-no/{transfer_bill_no}", as: asDirect, do: (*v3exchange).queryTransferV3}},
)

// transferCalls are those under a path; a partner's name the sub-merchant.
// Source: WeChat Pay, 发起转账, 查询转账单 and 撤销转账, of merchants and of partners (API
// v3), 2025-07-29.
func transferCalls(path string, as acting, sub members, also ...member) []v3call {
	bill := path + "/out-bill-no/{out_bill_no}"
	return []v3call{
		{method: http.MethodPost, path: path, as: as, body: slices.Concat(sub, transferMembers, also), do: (*v3exchange).createTransfer},
		{method: http.MethodGet, path: bill, as: as, query: sub, do: (*v3exchange).queryTransferV3},
		{method: http.MethodPost, path: bill + "/cancel", as: as, body: sub, do: (*v3exchange).cancelTransfer},
	}
}

var transferMembers = members{
	{name: "appid", as: "appid", required: true, max: 32},
	{name: "out_bill_no", required: true, max: 32, is: nonce},
	{name: "transfer_scene_id", required: true, max: 36},
	{name: "openid", required: true, max: 64},
	{name: "user_name", max: 1024},
	{name: "transfer_amount", required: true, kind: wholes, is: fen},
	{name: "transfer_remark", required: true, max: 32},
	{name: "notify_url", max: 256, is: notifyURL},
	{name: "user_recv_perception", max: 64},
	{name: "transfer_scene_report_infos", required: true, kind: lists, of: members{
		{name: "info_type", required: true, max: 15},
		{name: "info_content", required: true, max: 32},
	}},
}

// createTransfer debits the account and waits for the payee, once for each number.
func (x *v3exchange) createTransfer() (object, *v3refusal) {
	if refused := x.decryptUserName(x.body, "transfer_amount"); refused != nil {
		return nil, refused
	}
	if x.body.text("user_recv_style.type") == "RED_PACKET" && x.body.whole("transfer_amount") > maxPacket {
		return nil, wrong("body", "/user_recv_style/type", nil, "红包样式单笔金额需小于等于200元")
	}
	number, json := x.body.text("out_bill_no"), jsonOf(x.body)
	if known, found := x.books.transfers[number]; found {
		if known.json != json {
			return nil, &v3refusal{status: http.StatusBadRequest, code: "ALREADY_EXISTS", message: "商户单号已存在，参数与之前不一致"}
		}
		return known.created(), nil
	}
	b := &transferBill{
		number: number, account: x.account, request: x.body, json: json,
		fee: x.body.whole("transfer_amount"), state: transferWaits, at: x.now, since: x.now,
	}
	if x.books.available < b.fee {
		return nil, inV3(poor())
	}
	b.id = x.server.nextNumber("1330000000", x.now)
	x.books.transfers[number], x.books.transferIDs[b.id] = b, b
	x.books.move(x.server, movement{number: b.id, kind: "商家转账", fee: -b.fee, voucher: number})
	x.server.transferLater(b, transferLife, transferWaits, transferFailed, "OVERDUE_CLOSE")
	return b.created(), nil
}

// decryptUserName wants the payee's name where the amount needs it, and puts it
// in the place of its encryption.
func (x *v3exchange) decryptUserName(of object, amount string) *v3refusal {
	sealed := of.text("user_name")
	if sealed == "" {
		if of.whole(amount) >= namedTransfer {
			return wrong("body", "/user_name", nil, "转账金额大于等于2,000元时必须填写收款用户姓名")
		}
		return nil
	}
	name, refused := x.decryptV3(sealed)
	if refused == nil {
		of["user_name"] = name
	}
	return refused
}

// created is the reply to a transfer; a partner's has no state.
func (b *transferBill) created() object {
	out := object{
		"out_bill_no": b.number, "transfer_bill_no": b.id, "create_time": moment(b.at), "state": b.state, "fail_reason": b.reason,
	}
	if b.state == transferWaits {
		out["package_info"] = "affffddafdfafddffda==" + b.id
	}
	if sub := b.sub(); sub != "" {
		out["sub_mchid"] = sub
		delete(out, "state")
	}
	return out.without("fail_reason")
}

// sub is the sub-merchant whose money it is; "": none.
func (b *transferBill) sub() string { return b.request.text("sub_mchid") }

// resource is a transfer in query and notification, which spell the merchant's number
// mch_id, and a partner's mchid. That of a partner is documented for the query alone.
func (b *transferBill) resource() object {
	out := object{
		"mch_id": b.account.MchID, "out_bill_no": b.number, "transfer_bill_no": b.id, "state": b.state,
		"transfer_amount": b.fee, "openid": b.request.text("openid"), "fail_reason": b.reason,
		"create_time": moment(b.at), "update_time": moment(b.since),
	}
	if sub := b.sub(); sub != "" {
		out["sub_mchid"], out["mchid"] = sub, b.account.MchID
		delete(out, "mch_id")
	}
	return out.without("fail_reason")
}

func (x *v3exchange) findTransfer() (*transferBill, *v3refusal) {
	b := x.books.transfers[x.path.text("out_bill_no")]
	if id := x.path.text("transfer_bill_no"); id != "" {
		b = x.books.transferIDs[id]
	}
	if b == nil || x.now.Sub(b.at) > payoutAge || b.sub() != x.in.Get("sub_mch_id") {
		return nil, absent("NOT_FOUND", "记录不存在")
	}
	return b, nil
}

func (x *v3exchange) queryTransferV3() (object, *v3refusal) {
	b, refused := x.findTransfer()
	if refused != nil {
		return nil, refused
	}
	out := b.resource()
	out["appid"], out["transfer_remark"] = b.request.text("appid"), b.request.text("transfer_remark")
	return out, nil
}

// cancelTransfer cancels an unconfirmed transfer. The reply says that this is under way,
// and the notification, when the clock advances, that it is done.
func (x *v3exchange) cancelTransfer() (object, *v3refusal) {
	b, refused := x.findTransfer()
	switch {
	case refused != nil:
		return nil, refused
	case b.state == transferWaits:
		b.state, b.since = transferCanceling, x.now
		x.server.transferLater(b, 0, transferCanceling, transferCancelled, "")
	case b.state != transferCanceling && b.state != transferCancelled:
		return nil, invalidRequest("转账单状态不支持撤销")
	}
	out := object{"sub_mchid": b.sub(), "out_bill_no": b.number, "transfer_bill_no": b.id, "state": b.state, "update_time": moment(b.since)}
	return out.without("sub_mchid"), nil
}

// ConfirmTransfer makes the payee confirm a transfer of API v3, and notifies the merchant
// if the transfer has a notify_url; else the Delivery is nil. The transfer fails if the
// payee's name differs from the one given. Options are Pay's. The error wraps
// wepay.ErrNoMerchant, ErrNoPayout, ErrFinished, ErrNoAPIv3Key or ErrClosed.
func (s *Server) ConfirmTransfer(mchID, outBillNo string, options ...PayOption) (*Delivery, error) {
	return s.answerTransfer(mchID, outBillNo, transferDone, "", options)
}

// RejectTransfer makes a transfer of API v3 fail for a reason, such as ACCOUNT_FROZEN, which
// returns the money. Otherwise it is as ConfirmTransfer.
func (s *Server) RejectTransfer(mchID, outBillNo, reason string, options ...PayOption) (*Delivery, error) {
	return s.answerTransfer(mchID, outBillNo, transferFailed, reason, options)
}

func (s *Server) answerTransfer(mchID, number, state, reason string, options []PayOption) (*Delivery, error) {
	return notifying(options, fmt.Sprintf("ending transfer %q of %q", number, mchID), func(p payment) (*Delivery, error) {
		return s.endTransferOf(mchID, number, state, reason, p)
	})
}

func (s *Server) endTransferOf(mchID, number, state, reason string, p payment) (*Delivery, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	a, found := s.accounts[mchID]
	if !found {
		return nil, wepay.ErrNoMerchant
	}
	b, found := a.real.transfers[number]
	switch {
	case !found:
		return nil, ErrNoPayout
	case b.state != transferWaits:
		return nil, fmt.Errorf("%w: its state is %s", ErrFinished, b.state)
	case b.request.text("notify_url") != "" && a.APIv3Key == "":
		return nil, ErrNoAPIv3Key
	}
	right, known := s.names[b.request.text("openid")]
	if name := b.request.text("user_name"); name != "" && known && name != right {
		state, reason = transferFailed, "NAME_NOT_CORRECT"
	}
	return s.endTransfer(b, state, reason, p)
}

// endTransfer ends a transfer, and returns the money if it failed.
func (s *Server) endTransfer(b *transferBill, state, reason string, p payment) (*Delivery, error) {
	b.state, b.reason, b.since = state, reason, s.clock.Now()
	if state != transferDone {
		b.account.real.move(s, movement{number: b.id, kind: "商家转账退回", fee: b.fee, voucher: b.number})
	}
	to := b.request.text("notify_url")
	if to == "" || b.account.APIv3Key == "" {
		return nil, nil
	}
	return s.deliveryV3(b.account, Event{
		URL: to, Type: "MCHTRANSFER.BILL.FINISHED", OriginalType: "mch_payment", Summary: "商家转账单据终态通知", Resource: b.resource(),
	}, p)
}

// transferLater ends a transfer later if it is still in a state, and notifies the
// merchant.
func (s *Server) transferLater(b *transferBill, d time.Duration, from, to, reason string) {
	s.tasks.after(s.clock, d, func() {
		s.mu.Lock()
		if b.state != from {
			s.mu.Unlock()
			return
		}
		delivery, err := s.endTransfer(b, to, reason, payment{})
		s.mu.Unlock()
		if err == nil && delivery != nil {
			delivery.round(0)
		}
	})
}
