package apiv3

import (
	"cmp"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strconv"

	"github.com/windsome/caddy-wepay/wepay"
	"github.com/windsome/caddy-wepay/wepay/internal/row"
)

// maxCombined is how many orders one combined order may have.
const maxCombined = 50

// partNumbers identify an order of several and its merchant.
var partNumbers = wepay.Rules{
	{Name: "mch_id", Max: 32, Is: wepay.Digits},
	{Name: "sub_mch_id", Max: 32},
	{Name: "sub_appid", Is: wepay.AppID},
	{Name: "out_trade_no", Required: true, Max: 32, Is: wepay.Number},
}

// partRules are the fields of each order that is placed with others.
var partRules = append(instead(partNumbers, outTradeNo), wepay.Rules{
	{Name: "total_fee", Required: true, Is: wepay.Fen},
	{Name: "fee_type", Max: 16},
	{Name: "body", Required: true, Is: wepay.Characters(wepay.MaxBody)},
	{Name: "attach", Required: true, Is: attach.Is},
	{Name: "goods_tag", Max: 32},
	{Name: "profit_sharing", Is: wepay.OneOf("Y", "N")},
}...)

var combinedNumber = wepay.Rule{Name: "combine_out_trade_no", Required: true, Max: 32, Is: wepay.Number}

// subOrders are the orders in a combined one, a JSON array of objects with API
// v2's names.
const subOrders = "sub_orders"

// combinePayer is who pays a combined order.
const combinePayer = "combine_payer_info"

// combineCalls are for orders that are paid together (合单). API v2 has none; the
// fields have its names of single orders.
var combineCalls = map[wepay.Operation]call{
	// Source: WeChat Pay, 合单下单 (API v3).
	wepay.CombineOrder: {
		method: http.MethodPost, path: "/v3/combine-transactions/{trade_type}", as: forAccount,
		Row: row.Row{
			Number: "combine_out_trade_no",
			Rules: wepay.Rules{
				combinedNumber,
				{Name: subOrders, Required: true, Max: 64 << 10, Is: wepay.JSON},
				{Name: "openid", Max: 128},
				{Name: "sub_openid", Max: 128},
				{Name: "spbill_create_ip", Required: true, Max: 64, Is: wepay.Address},
				{Name: "device_info", Max: 32},
				{Name: "scene_info", Max: 256, Is: wepay.JSON},
				{Name: "time_expire", Is: wepay.Time},
				{Name: "user_type", Max: 32},
				{Name: "user_creid", Max: 64},
				{Name: "user_truename", Max: 64},
			},
			Check:      checkIdentity,
			Complete:   (*wepay.Merchant).CompleteCombined,
			Repeatable: true, Unknown: wepay.Query, Ask: wepay.QueryCombined, Verdicts: placeVerdicts,
		},
		in: slices.Concat(fieldMap{
			{"appid", "combine_appid", text},
			{"mch_id", "combine_mchid", text},
			{"combine_out_trade_no", "combine_out_trade_no", text},
			{"notify_url", "notify_url", text},
			{"time_expire", "time_expire", moment},
			{"device_info", "scene_info.device_id", text},
			{"spbill_create_ip", "scene_info.payer_client_ip", text},
		}, identityOf(combinePayer)),
		encrypted: sealedIdentityOf(combinePayer),
		body:      combineBody, result: clientParameters,
	},
	// Source: WeChat Pay, 合单查询订单 (API v3).
	wepay.QueryCombined: {
		method: http.MethodGet, path: "/v3/combine-transactions/out-trade-no/{combine_out_trade_no}", as: forAccount,
		Row: row.Row{
			Rules:  wepay.Rules{combinedNumber},
			Echoes: []string{"combine_out_trade_no"}, Answers: []string{"combine_out_trade_no"},
			Repeatable: true, Unknown: wepay.Again,
			Verdicts: map[string]wepay.Verdict{"ORDERNOTEXIST": wepay.Again},
		},
		out: combinedMap, result: addPartStates,
	},
	// Source: WeChat Pay, 合单关闭订单 (API v3).
	wepay.CloseCombined: {
		method: http.MethodPost, path: "/v3/combine-transactions/out-trade-no/{combine_out_trade_no}/close", as: forAccount,
		Row: row.Row{
			Rules:      wepay.Rules{combinedNumber, {Name: subOrders, Required: true, Max: 64 << 10, Is: wepay.JSON}},
			Repeatable: true, Unknown: wepay.Again, Ask: wepay.QueryCombined, Verdicts: closeVerdicts,
		},
		in:   fieldMap{{"appid", "combine_appid", text}},
		body: func(x *exchange, body object) error { return x.putParts(body, partNumbers, partNumberMap) },
	},
}

// partNumberMap identifies an order of several; partPlacedMap is all of it.
var (
	partNumberMap = fieldMap{
		{"mch_id", "mchid", text},
		{"sub_mch_id", "sub_mchid", text},
		{"out_trade_no", "out_trade_no", text},
	}
	partPlacedMap = slices.Concat(partNumberMap, fieldMap{
		{"sub_appid", "sub_appid", text},
		{"body", "description", shown},
		{"attach", "attach", text},
		{"goods_tag", "goods_tag", text},
		{"total_fee", "amount.total_amount", number},
		{"fee_type", "amount.currency", currency},
		{"profit_sharing", "settle_info.profit_sharing", yes},
	})
)

// combineBody adds the scene, the orders and the payer, by an openid of the merchant's
// own appid or of the orders'.
func combineBody(x *exchange, body object) error {
	if err := x.checkIdentifiable(); err != nil {
		return err
	}
	if err := x.putScene(body); err != nil {
		return err
	}
	if err := x.putParts(body, partRules, partPlacedMap); err != nil {
		return err
	}
	if x.in.Get("trade_type") != "JSAPI" {
		return nil
	}
	if x.in.Get("sub_openid") != "" {
		if err := x.payUnderSubApp(body.objects(subOrders)); err != nil {
			return err
		}
	}
	return fieldMap{{"openid", combinePayer + ".openid", text}, {"sub_openid", combinePayer + ".sub_openid", text}}.write(x.in, body.put)
}

// payUnderSubApp has the page pay under the appid that a sub_openid belongs to, as that
// of a single order does: the one that the orders name.
func (x *exchange) payUnderSubApp(orders []object) error {
	appID := orders[0].text("sub_appid")
	other := slices.ContainsFunc(orders, func(order object) bool { return order.text("sub_appid") != appID })
	if appID == "" || other {
		return &wepay.FieldError{Field: "sub_openid", Reason: "needs orders that all have the same sub_appid"}
	}
	x.merchant.SubAppID = appID
	return nil
}

// putParts adds the orders.
func (x *exchange) putParts(body object, rules wepay.Rules, members fieldMap) error {
	var given []object
	if err := decode([]byte(x.in.Get(subOrders)), &given); err != nil || len(given) == 0 || len(given) > maxCombined {
		return &wepay.FieldError{Field: subOrders, Reason: fmt.Sprintf("must be a JSON array of 1 to %d orders", maxCombined)}
	}
	parts := make([]object, len(given))
	for i, order := range given {
		var err error
		if parts[i], err = x.part(order, rules, members); err != nil {
			return inPart(i, err)
		}
	}
	body[subOrders] = parts
	return nil
}

// inPart adds the number of the order to an error.
func inPart(i int, err error) error {
	var field *wepay.FieldError
	if !errors.As(err, &field) {
		return err
	}
	return &wepay.FieldError{Field: subOrders, Reason: fmt.Sprintf("order %d: %s", i+1, field.Field+" "+field.Reason), Missing: field.Missing, Err: field.Err}
}

// part translates one order. It is the merchant's own unless it names another
// merchant, and a partner's for a sub-merchant that the partner acts for.
func (x *exchange) part(given object, rules wepay.Rules, members fieldMap) (object, error) {
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
	owner := cmp.Or(in.Get("mch_id"), merchant.MchID)
	addIDs(merchant, &in)
	in.Set("mch_id", owner)
	part := object{}
	return part, members.write(in, part.put)
}

// addPartStates numbers the orders as API v2 numbers items: trade_state_0.
func addPartStates(x *exchange, answer object, out *wepay.Fields) error {
	orders := answer.objects(subOrders)
	if len(orders) == 0 {
		return fmt.Errorf("the reply lacks %s", subOrders)
	}
	for i, order := range orders {
		part := wepay.Fields{{Name: "trade_state", Value: order.text("trade_state")}}
		if part.Get("trade_state") == "" {
			return fmt.Errorf("the reply lacks trade_state of order %d", i+1)
		}
		if err := partMap.read(order, &part); err != nil {
			return err
		}
		if omitted := addCoupons(order, order.objects("promotion_detail"), &part); omitted != "" {
			x.omit(fmt.Sprintf("of %s[%d] %s", subOrders, i, omitted))
		}
		for _, field := range part {
			out.Set(numbered(field.Name, i), field.Value)
		}
	}
	out.Set("sub_order_count", strconv.Itoa(len(orders)))
	return nil
}
