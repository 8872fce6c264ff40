package wepaytest

import (
	"net/http"
	"slices"
	"strings"
	"time"
)

const (
	// minExpiry and maxExpiry are what a time_expire is brought between, and
	// standardExpiry what an order has without one.
	minExpiry      = time.Minute
	maxExpiry      = 90 * 24 * time.Hour
	standardExpiry = 7 * 24 * time.Hour
)

// placeV3 places an order; a repeated request gets a prepay_id again.
func (x *v3exchange) placeV3() (object, *v3refusal) {
	product := x.request.URL.Path[strings.LastIndexByte(x.request.URL.Path, '/')+1:]
	tradeType := strings.ToUpper(product)
	if tradeType == "H5" {
		tradeType = "MWEB"
	}
	if refused := x.readyOrder(tradeType); refused != nil {
		return nil, refused
	}
	if refused := x.readIdentity("payer"); refused != nil {
		return nil, refused
	}
	o, refused := x.place()
	if refused != nil {
		return nil, placing(refused)
	}
	return placed(tradeType, o), nil
}

// placed is the reply to an order.
func placed(tradeType string, o *order) object {
	prepay := o.prepay()
	switch tradeType {
	case "MWEB":
		return object{"h5_url": prepay.Get("mweb_url")}
	case "NATIVE":
		return object{"code_url": prepay.Get("code_url")}
	default:
		return object{"prepay_id": prepay.Get("prepay_id")}
	}
}

// readyOrder says in API v2's names what an order has that is not translated.
func (x *v3exchange) readyOrder(tradeType string) *v3refusal {
	if _, partner := x.in.Lookup("sub_mch_id"); partner && tradeType == "JSAPI" {
		switch {
		case x.in.Get("openid") == "" && x.in.Get("sub_openid") == "":
			return wrong("body", "/payer", nil, "sp_openid和sub_openid必须传其一")
		case x.in.Get("sub_openid") != "" && x.in.Get("sub_appid") == "":
			return wrong("body", "/sub_appid", nil, "传sub_openid时必须传sub_appid")
		}
	}
	x.in.Set("trade_type", tradeType)
	expires := x.now.Add(standardExpiry)
	if text := x.body.text("time_expire"); text != "" {
		expires, _ = time.Parse(time.RFC3339, text) // rfc3339 has seen to it
	}
	if least := x.now.Add(minExpiry); expires.Before(least) {
		expires = least
	}
	if most := x.now.Add(maxExpiry); expires.After(most) {
		expires = most
	}
	x.in.Set("time_expire", expires.In(beijing).Format(timeFormat))
	if x.body.truth("settle_info.profit_sharing") {
		x.in.Set("profit_sharing", "Y")
	}
	return nil
}

func rfc3339(value string) bool {
	_, err := time.Parse(time.RFC3339, value)
	return err == nil
}

// placing returns why an order is not placed. The number of a closed or expired order
// cannot be used again.
func placing(refused *refusal) *v3refusal {
	if refused.code == "ORDERCLOSED" {
		refused = refuse("OUT_TRADE_NO_USED", "201 商户订单号重复")
	}
	return inV3(refused)
}

func (x *v3exchange) queryV3() (object, *v3refusal) {
	o, refused := x.find()
	if refused != nil {
		return nil, inV3(refused)
	}
	return o.resource(o.at(x.now)), nil
}

func (x *v3exchange) closeV3() (object, *v3refusal) {
	_, refused := x.closeOrder()
	return nil, inV3(refused)
}

// payByCode charges a payer's code.
func (x *v3exchange) payByCode() (object, *v3refusal) {
	if x.in.Get("spbill_create_ip") == "" {
		x.in.Set("spbill_create_ip", x.body.text("scene_info.device_ip"))
	}
	if refused := x.readyOrder("MICROPAY"); refused != nil {
		return nil, refused
	}
	if _, refused := x.chargeCode(); refused != nil {
		return nil, inV3(refused)
	}
	o := x.books.orders[x.in.Get("out_trade_no")]
	return o.resource(o.state), nil
}

// reverseV3 reverses a code payment. What is recall in API v2 is an error in API v3 that
// demands another try.
func (x *v3exchange) reverseV3() (object, *v3refusal) {
	out, refused := x.reverseOrder()
	switch {
	case refused != nil:
		return nil, inV3(refused)
	case out.Get("recall") == "Y":
		return nil, broken()
	}
	return x.repeated("out_trade_no"), nil
}

// repeated are members of the request that the reply has again.
func (x *v3exchange) repeated(also ...string) object {
	out := object{}
	for _, name := range slices.Concat([]string{"appid", "mchid", "sp_appid", "sp_mchid", "sub_appid", "sub_mchid"}, also) {
		if value := x.body.text(name); value != "" {
			out[name] = value
		} else if value := x.path.text(name); value != "" {
			out[name] = value
		}
	}
	return out
}

// names says how an order names whose it is.
func (o *order) names() object {
	if o.request.Get("sub_mch_id") == "" {
		return object{"appid": o.request.Get("appid"), "mchid": o.request.Get("mch_id")}
	}
	return object{
		"sp_appid": o.request.Get("appid"), "sp_mchid": o.request.Get("mch_id"),
		"sub_appid": o.request.Get("sub_appid"), "sub_mchid": o.request.Get("sub_mch_id"),
	}.without("sub_appid")
}

// resource is an order, placed over either API, in query and notification.
func (o *order) resource(state string) object {
	out := o.names()
	out["out_trade_no"] = o.number()
	out["trade_state"], out["trade_state_desc"] = state, stateDescription[state]
	out["amount"] = object{"total": o.total(), "currency": "CNY"}
	out["payer"] = object{}
	if o.json == "" || o.transactionID() != "" {
		out["trade_type"] = o.tradeType()
	}
	if device := o.request.Get("device_info"); device != "" {
		out["scene_info"] = object{"device_id": device}
	}
	if o.transactionID() == "" {
		return out
	}
	out["transaction_id"] = o.transactionID()
	out["bank_type"] = o.outcome.Get("bank_type")
	out["attach"] = o.request.Get("attach")
	out["success_time"] = moment(o.paidAt)
	out["payer"] = o.payer()
	out["amount"] = object{
		"total": o.total(), "payer_total": o.total() - worth(o.coupons), "currency": "CNY", "payer_currency": "CNY",
	}
	if len(o.coupons) > 0 {
		out["promotion_detail"] = o.promotions()
	}
	return out.without("attach")
}

// payer returns who paid.
func (o *order) payer() object {
	openid := o.outcome.Get("openid")
	if o.request.Get("sub_mch_id") == "" {
		return object{"openid": openid}
	}
	return object{"sp_openid": openid, "sub_openid": o.outcome.Get("sub_openid")}.without("sub_openid")
}

func (o *order) promotions() []any {
	promotions := make([]any, 0, len(o.coupons))
	for _, coupon := range o.coupons {
		kind := "CASH"
		if coupon.Type == NoCash {
			kind = "NOCASH"
		}
		promotions = append(promotions, object{
			"coupon_id": coupon.ID, "name": "代金券", "scope": "GLOBAL", "type": kind, "amount": coupon.Fee,
			"stock_id": "931386", "wechatpay_contribute": 0, "merchant_contribute": coupon.Fee,
			"other_contribute": 0, "currency": "CNY",
		})
	}
	return promotions
}

// v3OrderCalls are the calls that place, ask about and end orders.
func v3OrderCalls() []v3call {
	var calls []v3call
	for _, c := range []struct {
		root         string
		as           acting
		whose, payer members
	}{
		{"/v3/pay/transactions", asDirect, directMembers, directPayer},
		{"/v3/pay/partner/transactions", asPartner, partnerMembers, partnerPayer},
	} {
		for product, extra := range orderProducts("payer", c.payer) {
			calls = append(calls, v3call{
				method: http.MethodPost, path: c.root + "/" + product, as: c.as,
				body: slices.Concat(c.whose, orderMembers, extra), do: (*v3exchange).placeV3,
			})
		}
		numbers := c.whose.only("mchid", "sp_mchid", "sub_mchid")
		calls = append(calls,
			v3call{
				method: http.MethodPost, path: c.root + "/codepay", as: c.as,
				body: slices.Concat(c.whose, codeMembers), do: (*v3exchange).payByCode,
			},
			v3call{method: http.MethodGet, path: c.root + "/id/{transaction_id}", as: c.as, query: numbers, do: (*v3exchange).queryV3},
			v3call{method: http.MethodGet, path: c.root + "/out-trade-no/{out_trade_no}", as: c.as, query: numbers, do: (*v3exchange).queryV3},
			v3call{method: http.MethodPost, path: c.root + "/out-trade-no/{out_trade_no}/close", as: c.as, body: numbers, do: (*v3exchange).closeV3},
			v3call{method: http.MethodPost, path: c.root + "/out-trade-no/{out_trade_no}/reverse", as: c.as, body: c.whose, do: (*v3exchange).reverseV3},
		)
	}
	return calls
}
