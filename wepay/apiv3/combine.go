package apiv3

import (
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strconv"

	"github.com/windsome/caddy-wepay/wepay"
)

// maxCombined is how many orders one combined order may have.
const maxCombined = 50

// partNumbers are the fields that say which order is meant, and whose it is.
var partNumbers = wepay.Rules{
	{Name: "mch_id", Max: 32, Is: wepay.Digits},
	{Name: "sub_mch_id", Max: 32},
	{Name: "sub_appid", Is: wepay.AppID},
	{Name: "out_trade_no", Required: true, Max: 32, Is: wepay.Number},
}

// partRules are the fields of each order of those that are placed together.
var partRules = append(slices.Clone(partNumbers), wepay.Rules{
	{Name: "total_fee", Required: true, Is: wepay.Fen},
	{Name: "fee_type", Max: 16},
	{Name: "body", Required: true, Max: wepay.MaxBody},
	{Name: "attach", Required: true, Max: 127},
	{Name: "goods_tag", Max: 32},
	{Name: "profit_sharing", Is: wepay.OneOf("Y", "N")},
}...)

var combinedNumber = wepay.Rule{Name: "combine_out_trade_no", Required: true, Max: 32, Is: wepay.Number}

// subOrders are the orders in a combined one, a JSON array of objects with API
// v2's names.
const subOrders = "sub_orders"

// combineCalls are of orders that are paid together (合单). API v2 has none; the
// fields have the names that it has for single orders.
var combineCalls = map[wepay.Operation]call{
	// Source: WeChat Pay, 合单下单 (API v3).
	wepay.CombineOrder: {
		method: http.MethodPost, as: forAccount,
		route: func(x *exchange) string { return "/v3/combine-transactions/" + products[x.merchant.Env.TradeType()] },
		rules: wepay.Rules{
			combinedNumber,
			{Name: subOrders, Required: true, Max: 64 << 10, Is: wepay.JSON},
			{Name: "openid", Max: 128},
			{Name: "spbill_create_ip", Required: true, Max: 64, Is: wepay.Address},
			{Name: "device_info", Max: 32},
			{Name: "scene_info", Max: 256, Is: wepay.JSON},
			{Name: "time_expire", Is: wepay.Time},
		},
		body:       combineBody,
		result:     clientParameters,
		repeatable: true, unknown: wepay.Query, ask: wepay.QueryCombined, verdicts: placeVerdicts,
	},
	// Source: WeChat Pay, 合单查询订单 (API v3).
	wepay.QueryCombined: {
		method: http.MethodGet, path: "/v3/combine-transactions/out-trade-no/{combine_out_trade_no}", as: forAccount,
		rules:  wepay.Rules{combinedNumber},
		echoes: []string{"combine_out_trade_no"}, answers: []string{"combine_out_trade_no"},
		result:     combinedState,
		repeatable: true, unknown: wepay.Again,
		verdicts: map[string]wepay.Verdict{"ORDERNOTEXIST": wepay.Again},
	},
	// Source: WeChat Pay, 合单关闭订单 (API v3).
	wepay.CloseCombined: {
		method: http.MethodPost, path: "/v3/combine-transactions/out-trade-no/{combine_out_trade_no}/close", as: forAccount,
		rules: wepay.Rules{combinedNumber, {Name: subOrders, Required: true, Max: 64 << 10, Is: wepay.JSON}},
		body: func(x *exchange) (object, error) {
			body := object{"combine_appid": x.merchant.AppID}
			return body, x.putParts(body, partNumbers)
		},
		result:     func(x *exchange, _ object) (wepay.Fields, error) { return x.done(), nil },
		repeatable: true, unknown: wepay.Again, ask: wepay.QueryCombined, verdicts: closeVerdicts,
	},
}

// combineNames are the fields of a combined order besides those in it, and
// partRequestNames those of each in it.
var (
	combineNames = []name{
		{"combine_out_trade_no", "combine_out_trade_no", text},
		{"notify_url", "notify_url", text},
		{"time_expire", "time_expire", moment},
		{"device_info", "scene_info.device_id", text},
		{"spbill_create_ip", "scene_info.payer_client_ip", text},
	}
	partRequestNames = []name{
		{"out_trade_no", "out_trade_no", text},
		{"body", "description", shown},
		{"attach", "attach", text},
		{"goods_tag", "goods_tag", text},
		{"total_fee", "amount.total_amount", number},
		{"fee_type", "amount.currency", text},
		{"profit_sharing", "settle_info.profit_sharing", yes},
	}
)

// combineBody makes a combined order. Its appid is the merchant's own, and so is
// the payer's openid.
func combineBody(x *exchange) (object, error) {
	in, err := x.merchant.CompleteOrder(x.in)
	if err != nil {
		return nil, err
	}
	body := object{"combine_appid": x.merchant.AppID, "combine_mchid": x.merchant.MchID}
	if err := write(combineNames, in, body); err != nil {
		return nil, err
	}
	if x.merchant.Env.TradeType() == "JSAPI" {
		body.put("combine_payer_info.openid", in.Get("openid"))
	}
	if err := x.putScene(in, body); err != nil {
		return nil, err
	}
	if err := x.putParts(body, partRules); err != nil {
		return nil, err
	}
	for _, part := range body.objects(subOrders) {
		if part.get("amount.currency") == nil {
			part.put("amount.currency", "CNY")
		}
	}
	return body, nil
}

// putParts puts in the orders that are meant.
func (x *exchange) putParts(body object, rules wepay.Rules) error {
	var given []object
	if err := decode([]byte(x.in.Get(subOrders)), &given); err != nil || len(given) == 0 || len(given) > maxCombined {
		return &wepay.FieldError{Field: subOrders, Reason: fmt.Sprintf("must be a JSON array of 1 to %d orders", maxCombined)}
	}
	parts := make([]object, len(given))
	for i, order := range given {
		var err error
		if parts[i], err = x.part(order, rules); err != nil {
			return inPart(i, err)
		}
	}
	body[subOrders] = parts
	return nil
}

// inPart says which of the orders a fault is in.
func inPart(i int, err error) error {
	var field *wepay.FieldError
	if !errors.As(err, &field) {
		return err
	}
	return &wepay.FieldError{Field: subOrders, Reason: fmt.Sprintf("order %d: %s", i+1, field.Field+" "+field.Reason), Missing: field.Missing, Err: field.Err}
}

// part makes one order of API v2's names. It is the merchant's own unless it
// names another, and a partner's for a sub-merchant that the partner acts for.
func (x *exchange) part(given object, rules wepay.Rules) (object, error) {
	var in wepay.Fields
	for name := range given {
		value := given.text(name)
		if value == "" && given[name] != "" {
			return nil, &wepay.FieldError{Field: name, Reason: "must be text or a number"}
		}
		in.Set(name, value)
	}
	if err := rules.Check(in); err != nil {
		return nil, err
	}
	merchant, in, err := x.client.merchant.ActFor(in, true)
	if err != nil {
		return nil, err
	}
	part := object{"mchid": merchant.MchID}
	if other := in.Get("mch_id"); other != "" {
		part["mchid"] = other
	}
	if merchant.SubMchID != "" {
		part["sub_mchid"] = merchant.SubMchID
	}
	if merchant.SubAppID != "" && len(rules) > len(partNumbers) {
		part["sub_appid"] = merchant.SubAppID
	}
	return part, write(partRequestNames, in, part)
}

// combinedState numbers the orders as API v2 numbers things: trade_state_0.
func combinedState(x *exchange, answer object) (wepay.Fields, error) {
	fields := x.done()
	if err := read(combinedNames, answer, &fields); err != nil {
		return nil, err
	}
	orders := answer.objects(subOrders)
	if len(orders) == 0 {
		return nil, fmt.Errorf("the reply lacks %s", subOrders)
	}
	for i, order := range orders {
		if order.text("trade_state") == "" {
			return nil, fmt.Errorf("the reply lacks trade_state of order %d", i+1)
		}
		part := wepay.Fields{{Name: "trade_state", Value: order.text("trade_state")}}
		if err := read(partNames, order, &part); err != nil {
			return nil, err
		}
		if omitted := addCoupons(order.objects("promotion_detail"), &part); omitted != "" {
			x.omit(fmt.Sprintf("of %s[%d] %s", subOrders, i, omitted))
		}
		for _, field := range part {
			fields.Set(numbered(field.Name, i), field.Value)
		}
	}
	fields.Set("sub_order_count", strconv.Itoa(len(orders)))
	return fields, nil
}
