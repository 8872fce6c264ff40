package wepaytest

import (
	"crypto/rand"
	"fmt"
	"net/url"
	"slices"
	"time"

	"github.com/windsome/caddy-wepay/wepay"
)

// The states of an order, WeChat's trade_state.
const (
	notPaid     = "NOTPAY"
	paid        = "SUCCESS"
	wasRefunded = "REFUND" // in part or whole; still paid
	closed      = "CLOSED"

	// Of code payments alone.
	paying  = "USERPAYING"
	unpaid  = "PAYERROR"
	revoked = "REVOKED"
)

var stateDescription = map[string]string{
	notPaid:     "订单未支付",
	paid:        "支付成功",
	wasRefunded: "订单发生过退款,退款详情请查询退款单",
	closed:      "订单已关闭",
	paying:      "需要用户输入支付密码",
	unpaid:      "支付失败",
	revoked:     "订单已撤销",
}

// paymentParams are those that orders and payments by code share.
var paymentParams = params{
	{name: "device_info", max: 32},
	{name: "body", required: true, max: 127},
	{name: "detail", max: 6000},
	{name: "attach", max: 127},
	{name: "out_trade_no", required: true, max: 32, is: tradeNumber},
	{name: "fee_type", max: 16, is: word("CNY")},
	{name: "total_fee", required: true, is: fen},
	{name: "spbill_create_ip", required: true, max: 64, is: ipAddress},
	{name: "time_start", max: 14, is: timeText},
	{name: "time_expire", max: 14, is: timeText},
	{name: "goods_tag", max: 32},
	{name: "limit_pay", max: 32, is: word("no_credit")},
	{name: "receipt", max: 8, is: word("Y", "N")},
	{name: "scene_info", max: 256, is: jsonText},
	{name: "profit_sharing", max: 16, is: word("Y", "N")},
	{name: "version", max: 32},
}

// orderParams are those of /pay/unifiedorder.
var orderParams = slices.Concat(paymentParams, params{
	{name: "notify_url", required: true, max: 256, is: notifyURL},
	{name: "trade_type", required: true, max: 16, is: word("JSAPI", "NATIVE", "APP", "MWEB")},
	{name: "product_id", max: 32},
	{name: "openid", max: 128},
	{name: "sub_openid", max: 128},
	{name: "user_type", max: 32},
	{name: "user_creid", max: 64},
	{name: "user_truename", max: 64},
})

// prepayLife is how long a prepay_id can be paid with.
const prepayLife = 2 * time.Hour

// closable is when an order can be closed for sure.
const closable = 5 * time.Minute

// order is an order in WeChat's books: its account's and, for a partner, its
// sub-merchant's.
type order struct {
	request  wepay.Fields // as it was placed, without nonce and signature, in API v2's names
	json     string       // as it was placed by API v3, "" by API v2
	combined bool         // it is a part of a combined order
	state    string

	placedAt time.Time

	signType wepay.SignType // of the request, and so of the notification

	prepayID string
	prepayAt time.Time

	outcome wepay.Fields // of the payment, for query and notification
	paidAt  time.Time
	coupons []Coupon
	refunds []*refund

	code   *payerCode // of a code payment, else nil
	recall int        // how often a reversal demands another call

	frozen int64 // to be shared
	shared int64 // all that ever was
	shares int   // requests
	thawed bool  // nothing can be shared any more
}

func (o *order) isPaid() bool { return o.state == paid || o.state == wasRefunded }

func (o *order) total() int64 { return amount(o.request.Get("total_fee")) }

func (o *order) number() string { return o.request.Get("out_trade_no") }

func (o *order) transactionID() string { return o.outcome.Get("transaction_id") }

func (o *order) tradeType() string {
	if o.code != nil {
		return "MICROPAY"
	}
	return o.request.Get("trade_type")
}

// settled is what the merchant gets of an order: not what coupons gave away.
func (o *order) settled() int64 {
	if settled, found := o.outcome.Lookup("settlement_total_fee"); found {
		return amount(settled)
	}
	return o.total()
}

// Order is the state of an order.
type Order struct {
	TradeState    string // NOTPAY, SUCCESS, REFUND, CLOSED; of codes USERPAYING, PAYERROR, REVOKED
	TransactionID string // "" before it is paid
	Total         int64  // fen
	Refunded      int64  // fen, of all refunds together that were not closed
	Refunds       int    // how many were taken
}

// Order returns the state of a merchant's order, and whether there is one. It does not
// find the sandbox's.
func (s *Server) Order(mchID, outTradeNo string) (Order, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	a, found := s.accounts[mchID]
	if !found {
		return Order{}, false
	}
	o, found := a.real.orders[outTradeNo]
	if !found {
		return Order{}, false
	}
	return Order{
		o.at(s.clock.Now()), o.transactionID(), o.total(), o.refundedFee(), len(o.refunds),
	}, true
}

// placeOrder places an order; a repeated request gets a prepay_id again.
func (x *exchange) placeOrder() (wepay.Fields, *refusal) {
	if refused := x.checkTradeType(); refused != nil {
		return nil, refused
	}
	o, refused := x.place()
	if refused != nil {
		return nil, refused
	}
	return o.prepay(), nil
}

// place books an order placed by either API, or finds the one that was placed
// by the same request.
func (x *exchange) place() (*order, *refusal) {
	number := x.in.Get("out_trade_no")
	request := content(x.in)
	o, found := x.books.orders[number]
	switch {
	case !found:
		if refused := checkExpiry(request, x.now); refused != nil {
			return nil, refused
		}
		o = &order{request: request, json: x.json, state: notPaid, placedAt: x.now, signType: x.signType}
		x.books.orders[number] = o
	case !x.repeats(o, request):
		return nil, refuse("OUT_TRADE_NO_USED", "商户订单号重复")
	}
	switch o.at(x.now) {
	case paid, wasRefunded:
		return nil, refuse("ORDERPAID", "该订单已支付")
	case closed:
		return nil, refuse("ORDERCLOSED", "该订单已关闭")
	}
	if o.prepayID == "" || x.now.Sub(o.prepayAt) >= prepayLife {
		o.prepayID = "wx" + x.now.In(beijing).Format(timeFormat) + rand.Text()[:20]
		o.prepayAt = x.now
	}
	return o, nil
}

// repeats says whether a request is the one that an order was placed by.
func (x *exchange) repeats(o *order, request wepay.Fields) bool {
	if o.json != "" || x.json != "" {
		return o.json == x.json
	}
	return slices.Equal(o.request, request)
}

// checkTradeType wants what only orders of one trade type need.
func (x *exchange) checkTradeType() *refusal {
	switch x.in.Get("trade_type") {
	case "JSAPI":
		if x.in.Get("sub_openid") != "" && x.in.Get("sub_appid") == "" {
			return lacks("sub_appid")
		}
		if x.in.Get("openid") == "" && x.in.Get("sub_openid") == "" {
			return fail("JSAPI支付必须传openid")
		}
	case "NATIVE":
		if x.in.Get("product_id") == "" {
			return fail("NATIVE支付必须传product_id")
		}
	case "MWEB":
		if x.in.Get("scene_info") == "" {
			return fail("MWEB支付必须传scene_info")
		}
	}
	return nil
}

// checkExpiry wants an order to live for at least a minute.
func checkExpiry(request wepay.Fields, now time.Time) *refusal {
	expire := request.Get("time_expire")
	if expire == "" {
		return nil
	}
	if t, err := parseTime(expire); err != nil || t.Before(now.Add(time.Minute)) {
		return refuse("PARAM_ERROR", "参数错误:time_expire时间过短,最短失效时间间隔须大于1分钟")
	}
	return nil
}

// content is what makes two requests for one order the same.
func content(in wepay.Fields) wepay.Fields {
	request := make(wepay.Fields, 0, len(in))
	for _, field := range in {
		if field.Value != "" && field.Name != "nonce_str" && field.Name != "sign" {
			request = append(request, field)
		}
	}
	return request
}

// at is the state of an order at a time: one that is not paid closes when it
// expires.
func (o *order) at(now time.Time) string {
	if expire := o.request.Get("time_expire"); o.state == notPaid && expire != "" {
		if t, err := parseTime(expire); err == nil && !now.Before(t) {
			o.state = closed
		}
	}
	return o.state
}

func (o *order) prepay() wepay.Fields {
	out := wepay.NewFields(map[string]string{
		"device_info": o.request.Get("device_info"),
		"trade_type":  o.request.Get("trade_type"),
		"prepay_id":   o.prepayID,
	})
	switch o.request.Get("trade_type") {
	case "NATIVE":
		out.Set("code_url", "weixin://wxpay/bizpayurl?pr="+o.prepayID[len(o.prepayID)-7:])
	case "MWEB":
		out.Set("mweb_url", "https://wx.tenpay.com/cgi-bin/mmpayweb-bin/checkmweb?prepay_id="+
			url.QueryEscape(o.prepayID)+"&package="+text(o.total()))
	}
	return out
}

// find returns the order that a request names; transaction_id wins. It does not find
// other sub-merchants' orders.
func (x *exchange) find() (*order, *refusal) {
	transactionID, number := x.in.Get("transaction_id"), x.in.Get("out_trade_no")
	if transactionID == "" && number == "" {
		return nil, lacks("out_trade_no")
	}
	o := x.books.orders[number]
	if transactionID != "" {
		o = x.books.transactions[transactionID]
	}
	if o == nil || o.request.Get("sub_mch_id") != x.in.Get("sub_mch_id") {
		return nil, refuse("ORDERNOTEXIST", "订单不存在")
	}
	return o, nil
}

func (x *exchange) queryOrder() (wepay.Fields, *refusal) {
	o, refused := x.find()
	if refused != nil {
		return nil, refused
	}
	state := o.at(x.now)
	out := wepay.NewFields(map[string]string{
		"out_trade_no": o.number(),
		"device_info":  o.request.Get("device_info"),
		"total_fee":    o.request.Get("total_fee"),
	})
	if attach := o.request.Get("attach"); attach != "" {
		out.Set("attach", attach)
	}
	for _, field := range o.outcome {
		out.Set(field.Name, field.Value)
	}
	out.Set("trade_state", state)
	out.Set("trade_state_desc", stateDescription[state])
	return out, nil
}

// closeOrder closes an unpaid order. The reply repeats the result in result_msg.
func (x *exchange) closeOrder() (wepay.Fields, *refusal) {
	o, refused := x.find()
	if refused != nil {
		return nil, refused
	}
	switch o.at(x.now) {
	case paid, wasRefunded:
		return nil, refuse("ORDERPAID", "该订单已支付")
	case closed:
		return nil, refuse("ORDERCLOSED", "该订单已关闭")
	case notPaid:
	default: // a code payment's states; it is reversed, not closed
		return nil, refuse("TRADE_STATE_ERROR", "订单状态错误")
	}
	if !x.server.losesEarlyCloses || x.now.Sub(o.placedAt) >= closable {
		o.state = closed
	}
	return wepay.Fields{{Name: "result_msg", Value: "OK"}}, nil
}

// nextNumber makes a number as WeChat's: a prefix, the day and ten digits.
func (s *Server) nextNumber(prefix string, now time.Time) string {
	s.sequence++
	return fmt.Sprintf("%s%s%010d", prefix, now.In(beijing).Format("20060102"), s.sequence)
}
