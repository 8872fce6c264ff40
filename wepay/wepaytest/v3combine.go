package wepaytest

import (
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"

	"github.com/windsome/caddy-wepay/wepay"
)

// combined is an order of several (合单), which are placed, paid and closed together and
// refunded separately.
type combined struct {
	number  string // combine_out_trade_no
	request object
	json    string
	parts   []combinedPart
}

type combinedPart struct {
	account *account
	order   *order
}

const (
	combinePath = "/v3/combine-transactions"
	maxCombined = 50
)

// subOrderMembers are how a part of a combined order is named.
var subOrderMembers = members{
	{name: "mchid", required: true, max: 32},
	{name: "out_trade_no", required: true, max: 32, is: tradeNumber},
	{name: "sub_mchid", max: 32},
}

var v3CombineCalls = slices.Concat(
	combineProducts(),
	[]v3call{
		{
			method: http.MethodGet, path: combinePath + "/out-trade-no/{combine_out_trade_no}",
			as: anyone, do: (*v3exchange).queryCombined,
		},
		{
			method: http.MethodPost, path: combinePath + "/out-trade-no/{combine_out_trade_no}/close",
			body: members{
				{name: "combine_appid", required: true, max: 32},
				{name: "sub_orders", required: true, kind: lists, max: maxCombined, of: subOrderMembers},
			},
			as: anyone, do: (*v3exchange).closeCombined,
		},
	},
)

func combineProducts() []v3call {
	var calls []v3call
	for product, extra := range orderProducts("combine_payer_info", combinedPayer) {
		calls = append(calls, v3call{
			method: http.MethodPost, path: combinePath + "/" + product,
			body: slices.Concat(extra, members{
				{name: "combine_appid", required: true, max: 32},
				{name: "combine_mchid", as: "mch_id", required: true, max: 32},
				{name: "combine_out_trade_no", required: true, max: 32, is: tradeNumber},
				{name: "time_expire", max: 64, is: rfc3339},
				{name: "notify_url", as: "notify_url", required: true, max: 255, is: notifyURL},
				{name: "sub_orders", required: true, kind: lists, max: maxCombined, of: slices.Concat(subOrderMembers, members{
					{name: "sub_appid", max: 32},
					{name: "attach", required: true, max: 128},
					{name: "description", required: true, max: 127},
					{name: "goods_tag", max: 32},
					{name: "amount", required: true, kind: nested, of: members{
						{name: "total_amount", required: true, kind: wholes, is: fen},
						{name: "currency", required: true, max: 8, is: word("CNY")},
					}},
					{name: "settle_info", kind: nested, of: members{{name: "profit_sharing", kind: truths}}},
				})},
			}),
			as: anyone, do: (*v3exchange).placeCombined,
		})
	}
	return calls
}

// placeCombined places every part or none.
func (x *v3exchange) placeCombined() (object, *v3refusal) {
	appID, number := x.body.text("combine_appid"), x.body.text("combine_out_trade_no")
	if !slices.Contains(x.account.AppIDs, appID) {
		return nil, inV3(refuse("APPID_MCHID_NOT_MATCH", "combine_appid和combine_mchid不匹配"))
	}
	tradeType := strings.ToUpper(x.request.URL.Path[len(combinePath)+1:])
	if tradeType == "H5" {
		tradeType = "MWEB"
	}
	if refused := x.readyOrder(tradeType); refused != nil {
		return nil, refused
	}
	if tradeType == "JSAPI" && x.in.Get("openid") == "" && x.in.Get("sub_openid") == "" {
		return nil, wrong("body", "/combine_payer_info", nil, "openid和sub_openid必须传其一")
	}
	if refused := x.readIdentity("combine_payer_info"); refused != nil {
		return nil, refused
	}
	if c, found := x.books.combined[number]; found && c.json != x.json {
		return nil, inV3(refuse("OUT_TRADE_NO_USED", "合单商户订单号重复"))
	}
	parts, refused := x.readyParts(appID)
	if refused != nil {
		return nil, refused
	}
	c := &combined{number: number, request: x.body, json: x.json}
	for _, part := range parts {
		o, refused := part.place()
		if refused != nil {
			return nil, placing(refused)
		}
		o.combined = true
		c.parts = append(c.parts, combinedPart{part.account, o})
	}
	x.books.combined[number] = c
	return placed(tradeType, c.parts[0].order), nil
}

// readyParts makes an exchange of each part, at its own merchant's books, and
// refuses parts that could not all be placed.
func (x *v3exchange) readyParts(appID string) ([]*exchange, *v3refusal) {
	var parts []*exchange
	seen := make(map[string]bool)
	for i, sub := range x.body.objects("sub_orders") {
		mchID, number := sub.text("mchid"), sub.text("out_trade_no")
		a, found := x.server.accounts[mchID]
		if !found {
			return nil, &v3refusal{status: http.StatusBadRequest, code: "MCH_NOT_EXISTS", message: "商户号不存在"}
		}
		part := &exchange{server: x.server, now: x.now, account: a, books: &a.real, in: x.in.Clone(), json: x.json + strconv.Itoa(i)}
		for name, value := range map[string]string{
			"appid": appID, "mch_id": mchID, "sub_mch_id": sub.text("sub_mchid"), "sub_appid": sub.text("sub_appid"), "out_trade_no": number,
			"body": sub.text("description"), "attach": sub.text("attach"), "total_fee": text(sub.whole("amount.total_amount")),
		} {
			if value != "" {
				part.in.Set(name, value)
			}
		}
		if sub.truth("settle_info.profit_sharing") {
			part.in.Set("profit_sharing", "Y")
		}
		if refused := a.belongs(part.in, withoutAppID); refused != nil {
			return nil, inV3(refused)
		}
		if part.in.Get("sub_openid") != "" && part.in.Get("sub_appid") == "" {
			return nil, wrong("body", "/sub_orders/"+strconv.Itoa(i)+"/sub_appid", nil, "传sub_openid时必须传sub_appid")
		}
		o, placed := a.real.orders[number]
		if seen[mchID+"/"+number] || placed && o.json != part.json {
			return nil, inV3(refuse("OUT_TRADE_NO_USED", "商户订单号重复"))
		}
		seen[mchID+"/"+number] = true
		parts = append(parts, part)
	}
	return parts, nil
}

func (x *v3exchange) findCombined() (*combined, *v3refusal) {
	c, found := x.books.combined[x.path.text("combine_out_trade_no")]
	if !found {
		return nil, absent("ORDER_NOT_EXIST", "订单不存在")
	}
	return c, nil
}

func (x *v3exchange) queryCombined() (object, *v3refusal) {
	c, refused := x.findCombined()
	if refused != nil {
		return nil, refused
	}
	return x.server.combinedState(c), nil
}

// combinedState is a combined order in query and notification; its amounts have other
// names than those of single orders.
func (s *Server) combinedState(c *combined) object {
	parts := []any{}
	for _, part := range c.parts {
		one := part.order.resource(part.order.at(s.clock.Now()))
		state := object{
			"mchid": part.account.MchID, "out_trade_no": part.order.number(), "trade_state": one["trade_state"],
			"trade_type": part.order.tradeType(), "attach": part.order.request.Get("attach"),
			"amount": object{"total_amount": part.order.total(), "currency": "CNY"},
		}
		for _, name := range []string{"bank_type", "success_time", "transaction_id", "sub_mchid"} {
			if value, found := one[name]; found {
				state[name] = value
			}
		}
		if part.order.transactionID() != "" {
			for _, name := range []string{"sub_appid", "sub_openid"} {
				state[name] = part.order.request.Get(name)
			}
			state.without("sub_appid", "sub_openid").put("amount.payer_amount", part.order.total()-worth(part.order.coupons))
			state.put("amount.payer_currency", "CNY")
		}
		parts = append(parts, state)
	}
	out := object{
		"combine_appid": c.request.text("combine_appid"), "combine_mchid": c.request.text("combine_mchid"),
		"combine_out_trade_no": c.number, "sub_orders": parts, "combine_payer_info": object{},
	}
	if openid := c.parts[0].order.outcome.Get("openid"); openid != "" {
		out["combine_payer_info"] = object{"openid": openid}
	}
	if device := c.request.text("scene_info.device_id"); device != "" {
		out["scene_info"] = object{"device_id": device}
	}
	return out
}

// closeCombined closes all parts, each of which has to be named.
func (x *v3exchange) closeCombined() (object, *v3refusal) {
	c, refused := x.findCombined()
	if refused != nil {
		return nil, refused
	}
	named := x.body.objects("sub_orders")
	for _, part := range c.parts {
		if !slices.ContainsFunc(named, func(o object) bool {
			return o.text("mchid") == part.account.MchID && o.text("out_trade_no") == part.order.number()
		}) {
			return nil, invalid("子单信息与合单订单不一致")
		}
	}
	if len(named) != len(c.parts) || x.body.text("combine_appid") != c.request.text("combine_appid") {
		return nil, invalid("子单信息与合单订单不一致")
	}
	for _, part := range c.parts {
		switch part.order.at(x.now) {
		case paid, wasRefunded:
			return nil, inV3(refuse("ORDERPAID", "该订单已支付"))
		case closed:
			return nil, inV3(refuse("ORDERCLOSED", "该订单已关闭"))
		}
	}
	for _, part := range c.parts {
		part.order.state = closed
	}
	return nil, nil
}

// ErrCombined says that an order is a part of another, which is paid as a whole.
var ErrCombined = errors.New("part of a combined order")

// PayCombined pays a combined order, and notifies the merchant of all its parts at once.
// Otherwise it is as Pay; a coupon pays a part of the first.
func (s *Server) PayCombined(mchID, combineOutTradeNo string, options ...PayOption) (*Delivery, error) {
	return notifying(options, fmt.Sprintf("paying combined order %q of %q", combineOutTradeNo, mchID), func(p payment) (*Delivery, error) {
		return s.payCombined(mchID, combineOutTradeNo, p)
	})
}

func (s *Server) payCombined(mchID, number string, p payment) (*Delivery, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	a, found := s.accounts[mchID]
	if !found {
		return nil, wepay.ErrNoMerchant
	}
	c, found := a.real.combined[number]
	switch {
	case !found:
		return nil, ErrNoOrder
	case a.APIv3Key == "":
		return nil, ErrNoAPIv3Key
	case worth(p.coupons) > c.parts[0].order.total():
		return nil, fmt.Errorf("%w: the coupons are worth more", ErrNotPayable)
	}
	for _, part := range c.parts {
		if err := s.mayPay(part.order); err != nil {
			return nil, err
		}
		if state := part.order.at(s.clock.Now()); state != notPaid {
			return nil, fmt.Errorf("%w: the trade_state of %s is %s", ErrNotPayable, part.order.number(), state)
		}
	}
	for i, part := range c.parts {
		coupons := p.coupons
		if i > 0 {
			coupons = nil
		}
		s.settle(&part.account.real, part.order, coupons, s.clock.Now())
	}
	return s.deliveryV3(a, Event{
		URL: c.request.text("notify_url"), Type: "TRANSACTION.SUCCESS", OriginalType: "transaction",
		Summary: "支付成功", Resource: s.combinedState(c),
	}, p)
}
