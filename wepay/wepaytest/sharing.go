package wepaytest

import (
	"slices"
	"time"

	"github.com/windsome/caddy-wepay/wepay"
)

const (
	// maxShares is how many requests may share an order's money, and how many receivers
	// one request may have.
	maxShares = 50
	// sharedPercent is how much of an order can be shared.
	sharedPercent = 30
)

// The kinds of requests that share; they use one space of numbers.
type shareKind int

const (
	shareOnce shareKind = iota
	shareMulti
	shareFinish
)

// share is one request that shares an order's money.
type share struct {
	kind    shareKind
	number  string // out_order_no
	id      string // WeChat's
	of      *order
	request wepay.Fields
	parts   []*part
	at      time.Time
}

// part is what one receiver gets.
type part struct {
	Type        string `json:"type"`
	Account     string `json:"account"`
	Name        string `json:"name,omitempty"`
	Amount      int64  `json:"amount"`
	Description string `json:"description"`

	result, reason string
	detail         string
	returned       int64
}

// partState is the state of a part in a reply.
type partState struct {
	Type        string `json:"type"`
	Account     string `json:"account"`
	Amount      int64  `json:"amount"`
	Description string `json:"description"`
	Result      string `json:"result"`
	FailReason  string `json:"fail_reason,omitempty"`
	DetailID    string `json:"detail_id"`
	FinishTime  string `json:"finish_time,omitempty"`
}

var (
	shareParams = params{
		{name: "transaction_id", required: true, max: 32},
		{name: "out_order_no", required: true, max: 64, is: refundNumber},
		{name: "receivers", required: true, max: 10240, is: jsonText},
		{name: "brand_mch_id", max: 32, is: digits},
	}
	finishParams = params{
		{name: "transaction_id", required: true, max: 32},
		{name: "out_order_no", required: true, max: 64, is: refundNumber},
		{name: "description", required: true, max: 80},
		{name: "brand_mch_id", max: 32, is: digits},
	}
	shareQueryParams = params{
		{name: "transaction_id", required: true, max: 32},
		{name: "out_order_no", required: true, max: 64, is: refundNumber},
	}
)

func (x *exchange) shareOnce() (wepay.Fields, *refusal)  { return x.shareOut(shareOnce) }
func (x *exchange) shareMulti() (wepay.Fields, *refusal) { return x.shareOut(shareMulti) }

// shareOut shares once for each number. The reply only says that it is under way; the
// query returns the result.
func (x *exchange) shareOut(kind shareKind) (wepay.Fields, *refusal) {
	known, o, refused := x.beginShare(kind)
	if refused != nil {
		return nil, refused
	}
	if known != nil {
		return known.accepted(), nil
	}
	parts, sum, refused := x.readParts()
	switch {
	case refused != nil:
		return nil, refused
	case o.shares >= maxShares:
		return nil, refuse("INVALID_REQUEST", "分账次数超过限制")
	case o.shared+sum > o.total()*sharedPercent/100:
		return nil, refuse("AMOUNT_OVERDUE", "分账金额超限")
	case sum > o.frozen:
		return nil, refuse("NOTENOUGH", "分账金额不足")
	}
	sh := x.newShare(kind, o)
	sh.parts = parts
	o.shares++
	for _, p := range parts {
		x.deliver(sh, p)
	}
	if kind == shareOnce {
		x.server.unfreeze(x.books, o)
	}
	return sh.accepted(), nil
}

// beginShare finds the order, or the request that had the number before.
func (x *exchange) beginShare(kind shareKind) (*share, *order, *refusal) {
	o, refused := x.findShared()
	if refused != nil {
		return nil, nil, refused
	}
	known, found := x.books.shares[x.in.Get("out_order_no")]
	switch {
	case found && (known.kind != kind || !slices.Equal(known.request, content(x.in))):
		return nil, nil, refuse("INVALID_REQUEST", "商户分账单号重复,请求参数与之前不一致")
	case found:
		return known, o, nil
	case o.thawed:
		return nil, nil, refuse("INVALID_REQUEST", "订单分账已完结")
	default:
		return nil, o, nil
	}
}

// findShared finds the order to share.
func (x *exchange) findShared() (*order, *refusal) {
	id := x.in.Get("transaction_id")
	if !digits(id) {
		return nil, refuse("INVALID_TRANSACTIONID", "无效transaction_id")
	}
	o, found := x.books.transactions[id]
	switch {
	case !found || !o.isPaid() || o.request.Get("sub_mch_id") != x.in.Get("sub_mch_id"):
		return nil, refuse("ORDERNOTEXIST", "订单不存在")
	case o.request.Get("profit_sharing") != "Y":
		return nil, refuse("NOT_SHARE_ORDER", "非分账订单不支持分账")
	default:
		return o, nil
	}
}

func (x *exchange) newShare(kind shareKind, o *order) *share {
	sh := &share{
		kind: kind, number: x.in.Get("out_order_no"), id: x.server.nextNumber("3000800000", x.now),
		of: o, request: content(x.in), at: x.now,
	}
	x.books.shares[sh.number], x.books.shareIDs[sh.id] = sh, sh
	return sh
}

// readParts reads the receivers and their amounts. Receivers must have been added, and
// may occur once.
func (x *exchange) readParts() ([]*part, int64, *refusal) {
	var parts []*part
	if !readJSON(x.in.Get("receivers"), &parts) || len(parts) == 0 || len(parts) > maxShares || slices.Contains(parts, nil) {
		return nil, 0, refuse("PARAM_ERROR", "参数错误:receivers参数格式错误")
	}
	var sum int64
	seen := make(map[receiverKey]bool)
	for _, p := range parts {
		if p.Amount < 1 || p.Amount > 1<<31 || p.Description == "" || len(p.Description) > 80 {
			return nil, 0, refuse("PARAM_ERROR", "参数错误:receivers参数格式错误")
		}
		if refused := x.checkReceiver(p.Type, p.Account); refused != nil {
			return nil, 0, refused
		}
		key := x.receiverKey(p.Type, p.Account)
		added, found := x.books.receivers[key]
		if !found || seen[key] || p.Name != "" && added.Name != "" && p.Name != added.Name {
			return nil, 0, refuse("RECEIVER_INVALID", "分账接收方非法")
		}
		seen[key] = true
		sum += p.Amount
	}
	return parts, sum, nil
}

// deliver moves a part from the order's frozen money to the receiver, which may have an
// account on this server.
func (x *exchange) deliver(sh *share, p *part) {
	p.detail = x.server.nextNumber("3600600000", x.now)
	if x.server.barred[p.Account] {
		p.result, p.reason = "CLOSED", "ACCOUNT_ABNORMAL"
		return
	}
	p.result = "SUCCESS"
	sh.of.shared += p.Amount
	x.books.freeze(sh.of, -p.Amount)
	if a, found := x.server.accounts[p.Account]; found && p.Type == "MERCHANT_ID" {
		x.booksOf(a).move(x.server, movement{number: sh.id, kind: "分账收入", fee: p.Amount, voucher: sh.number})
	}
}

// world is an account's books in the world that the request is of.
func (x *exchange) booksOf(a *account) *books {
	if x.sandbox {
		return &a.sandbox
	}
	return &a.real
}

// accepted is the reply to every request of one share.
func (sh *share) accepted() wepay.Fields {
	out := wepay.NewFields(map[string]string{
		"transaction_id": sh.of.transactionID(),
		"out_order_no":   sh.number,
		"order_id":       sh.id,
	})
	if sh.kind == shareFinish {
		return out
	}
	out.Set("status", "PROCESSING")
	pending := make([]partState, 0, len(sh.parts))
	for _, p := range sh.parts {
		pending = append(pending, partState{p.Type, p.Account, p.Amount, p.Description, "PENDING", "", p.detail, ""})
	}
	out.Set("receivers", jsonOf(pending))
	return out
}

// finishSharing unfreezes what is left.
func (x *exchange) finishSharing() (wepay.Fields, *refusal) {
	known, o, refused := x.beginShare(shareFinish)
	if refused != nil {
		return nil, refused
	}
	if known == nil {
		known = x.newShare(shareFinish, o)
		x.server.unfreeze(x.books, o)
	}
	return known.accepted(), nil
}

// queryShare returns the state of a share.
func (x *exchange) queryShare() (wepay.Fields, *refusal) {
	sh, found := x.books.shares[x.in.Get("out_order_no")]
	if !found || sh.of.transactionID() != x.in.Get("transaction_id") || sh.of.request.Get("sub_mch_id") != x.in.Get("sub_mch_id") {
		return nil, refuse("RESOURCE_NOT_EXISTS", "分账单不存在")
	}
	out := sh.accepted()
	out.Set("status", "FINISHED")
	ended := make([]partState, 0, len(sh.parts))
	for _, p := range sh.parts {
		ended = append(ended, partState{
			p.Type, p.Account, p.Amount, p.Description, p.result, p.reason, p.detail, sh.at.In(beijing).Format(timeFormat),
		})
	}
	out.Set("receivers", jsonOf(ended))
	if sh.kind == shareFinish {
		out.Set("description", sh.request.Get("description"))
	}
	return out, nil
}

// queryUnshared returns how much of an order is still frozen.
func (x *exchange) queryUnshared() (wepay.Fields, *refusal) {
	o, refused := x.findShared()
	if refused != nil {
		return nil, refused
	}
	return wepay.NewFields(map[string]string{
		"transaction_id": o.transactionID(), "unsplit_amount": text(o.frozen),
	}), nil
}

// queryRatio returns how much of an order can be shared, in ten thousandths.
func (x *exchange) queryRatio() (wepay.Fields, *refusal) {
	return wepay.Fields{{Name: "max_ratio", Value: text(sharedPercent * 100)}}, nil
}
