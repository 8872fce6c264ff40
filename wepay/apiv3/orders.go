package apiv3

import (
	"cmp"
	"net/http"
	"strings"

	"github.com/windsome/caddy-wepay/wepay"
)

var (
	placeVerdicts = map[string]wepay.Verdict{
		"ORDERPAID":      wepay.Done,
		"ORDERCLOSED":    wepay.Never,
		"OUTTRADENOUSED": wepay.Query,
		"SYSTEMERROR":    wepay.Again,
	}
	closeVerdicts = map[string]wepay.Verdict{
		"ORDERPAID":     wepay.Done, // as a paid order
		"ORDERCLOSED":   wepay.Done,
		"ORDERNOTEXIST": wepay.Done,
	}
)

// orderCalls are those of an order's life: placed, asked about, closed.
var orderCalls = map[wepay.Operation]call{
	// Source: WeChat Pay, JSAPI/APP/H5/Native 下单 (API v3).
	wepay.PlaceOrder: {
		method: http.MethodPost,
		route: func(x *exchange) string {
			return x.transactions() + "/" + products[x.merchant.Env.TradeType()]
		},
		rules:      atLeast(wepay.OrderRules, "out_trade_no", shortestNumber),
		check:      checkPayer,
		body:       orderBody,
		result:     clientParameters,
		repeatable: true, unknown: wepay.Query, ask: wepay.QueryOrder, verdicts: placeVerdicts,
	},
	// Source: WeChat Pay, 查询订单 (API v3).
	wepay.QueryOrder: {
		method: http.MethodGet,
		route: func(x *exchange) string {
			if x.in.Get("transaction_id") != "" {
				return x.transactions() + "/id/{transaction_id}"
			}
			return x.transactions() + "/out-trade-no/{out_trade_no}"
		},
		rules:      wepay.OrderQueryRules,
		query:      func(x *exchange) (members, error) { return x.merchantQuery(), nil },
		echoes:     []string{"out_trade_no", "transaction_id"},
		answers:    []string{"trade_state"},
		result:     orderState,
		repeatable: true, unknown: wepay.Again,
		verdicts: map[string]wepay.Verdict{"ORDERNOTEXIST": wepay.Again},
	},
	// Source: WeChat Pay, 关闭订单 (API v3). WeChat also answers 204 for orders
	// that it does not know.
	wepay.CloseOrder: {
		method:     http.MethodPost,
		path:       "/v3/pay/transactions/out-trade-no/{out_trade_no}/close",
		partner:    "/v3/pay/partner/transactions/out-trade-no/{out_trade_no}/close",
		rules:      wepay.Rules{{Name: "out_trade_no", Required: true, Max: 32, Is: wepay.Number}},
		body:       func(x *exchange) (object, error) { return x.merchantBody(), nil },
		result:     func(x *exchange, _ object) (wepay.Fields, error) { return x.done(), nil },
		repeatable: true, unknown: wepay.Again, ask: wepay.QueryOrder, verdicts: closeVerdicts,
	},
}

// products are the last parts of the paths that orders are placed at.
var products = map[string]string{"JSAPI": "jsapi", "APP": "app", "MWEB": "h5", "NATIVE": "native"}

// transactions is where orders are.
func (x *exchange) transactions() string {
	if x.merchant.Type == wepay.Partner {
		return "/v3/pay/partner/transactions"
	}
	return "/v3/pay/transactions"
}

// merchantQuery says in a query who asks.
func (x *exchange) merchantQuery() members {
	if x.merchant.Type == wepay.Partner {
		return members{{"sp_mchid", x.merchant.MchID}, {"sub_mchid", x.merchant.SubMchID}}
	}
	return members{{"mchid", x.merchant.MchID}}
}

// merchantBody says in a body who asks.
func (x *exchange) merchantBody() object {
	body := object{}
	for _, m := range x.merchantQuery() {
		body[m.name] = m.value
	}
	return body
}

// done is what API v2 says of what succeeded, and for whom.
func (x *exchange) done() wepay.Fields {
	fields := wepay.NewFields(map[string]string{
		"return_code": "SUCCESS", "result_code": "SUCCESS", "appid": x.merchant.AppID, "mch_id": x.merchant.MchID,
	})
	for name, value := range map[string]string{"sub_appid": x.merchant.SubAppID, "sub_mch_id": x.merchant.SubMchID} {
		if value != "" {
			fields.Set(name, value)
		}
	}
	return fields
}

// orderNames are the fields of an order that stay what they are.
var orderNames = []name{
	{"body", "description", shown},
	{"out_trade_no", "out_trade_no", text},
	{"time_expire", "time_expire", moment},
	{"attach", "attach", text},
	{"notify_url", "notify_url", text},
	{"goods_tag", "goods_tag", text},
	{"receipt", "support_fapiao", yes},
	{"limit_pay", "limit_pay", list},
	{"total_fee", "amount.total", number},
	{"fee_type", "amount.currency", text},
	{"device_info", "scene_info.device_id", text},
	{"spbill_create_ip", "scene_info.payer_client_ip", text},
	{"profit_sharing", "settle_info.profit_sharing", yes},
}

// checkPayer refuses what says who alone may pay an order, for which API v3 has no
// place.
func checkPayer(in wepay.Fields) error {
	for _, name := range []string{"user_creid", "user_truename", "user_type"} {
		if in.Get(name) != "" {
			return &wepay.FieldError{Field: name, Reason: "has no place in API v3: the order could be paid by anybody"}
		}
	}
	return nil
}

// orderBody makes an order. What else API v3 has no place for is left out:
// time_start, version and product_id.
func orderBody(x *exchange) (object, error) {
	in, err := x.merchant.CompleteOrder(x.in)
	if err != nil {
		return nil, err
	}
	body := x.merchantBody()
	x.putAppIDs(body)
	if err := write(orderNames, in, body); err != nil {
		return nil, err
	}
	if body.get("amount.currency") == nil {
		body.put("amount.currency", "CNY")
	}
	detail, err := goodsDetail(in.Get("detail"))
	if err != nil {
		return nil, err
	}
	if detail != nil {
		body["detail"] = detail
	}
	if err := x.putScene(in, body); err != nil {
		return nil, err
	}
	if x.merchant.Env.TradeType() == "JSAPI" {
		x.putPayer(in, body)
	}
	return body, nil
}

func (x *exchange) putAppIDs(body object) {
	if x.merchant.Type != wepay.Partner {
		body["appid"] = x.merchant.AppID
		return
	}
	body["sp_appid"] = x.merchant.AppID
	if x.merchant.SubAppID != "" {
		body["sub_appid"] = x.merchant.SubAppID
	}
}

func (x *exchange) putPayer(in wepay.Fields, body object) {
	switch {
	case x.merchant.Type != wepay.Partner:
		body.put("payer.openid", in.Get("openid"))
	case in.Get("sub_openid") != "":
		body.put("payer.sub_openid", in.Get("sub_openid"))
	default:
		body.put("payer.sp_openid", in.Get("openid"))
	}
}

// goodsNames are API v2's names of an order's goods.
var goodsNames = map[string]string{
	"goods_id": "merchant_goods_id", "wxpay_goods_id": "wechatpay_goods_id", "price": "unit_price",
}

// goodsDetail renames the goods of API v2's detail. What is no object is a text
// for people, which API v3 has no place for; then it returns nil.
func goodsDetail(given string) (object, error) {
	if !strings.HasPrefix(strings.TrimSpace(given), "{") {
		return nil, nil
	}
	detail := object{}
	err := decode([]byte(given), &detail)
	if err == nil {
		err = checkJSON(map[string]any(detail))
	}
	if err != nil {
		return nil, &wepay.FieldError{Field: "detail", Reason: "must be a JSON object without null and emoji", Err: err}
	}
	if receipt, found := detail["receipt_id"]; found {
		delete(detail, "receipt_id")
		detail["invoice_id"] = receipt
	}
	for _, goods := range detail.objects("goods_detail") {
		for v2, v3 := range goodsNames {
			if value, found := goods[v2]; found {
				delete(goods, v2)
				goods[v3] = value
			}
		}
		delete(goods, "goods_num")
	}
	return detail, nil
}

// putScene takes over what API v2 says of the shop that an order is placed in,
// and of the page that an H5 order is paid from.
func (x *exchange) putScene(in wepay.Fields, body object) error {
	given := in.Get("scene_info")
	if given == "" {
		return nil
	}
	scene := object{}
	err := decode([]byte(given), &scene)
	if err == nil {
		err = checkJSON(map[string]any(scene))
	}
	if err != nil {
		return &wepay.FieldError{Field: "scene_info", Reason: "must be a JSON object without null and emoji", Err: err}
	}
	if store, found := scene.object("store_info"); found {
		body.put("scene_info.store_info", store)
	}
	if x.merchant.Env != wepay.MWEB {
		return nil
	}
	types := map[string]string{"IOS": "iOS", "Android": "Android", "iOS": "iOS"}
	body.put("scene_info.h5_info.type", cmp.Or(types[scene.text("h5_info.type")], "Wap"))
	for _, n := range []struct{ v2, v3 string }{
		{"wap_name", "app_name"}, {"app_name", "app_name"}, {"wap_url", "app_url"}, {"bundle_id", "bundle_id"}, {"package_name", "package_name"},
	} {
		if value := scene.text("h5_info." + n.v2); value != "" {
			body.put("scene_info.h5_info."+n.v3, value)
		}
	}
	return nil
}

// orderState is what became of an order. A transaction reads alike in a reply
// and in a notification.
func orderState(x *exchange, answer object) (wepay.Fields, error) {
	fields := x.done()
	omitted, err := readTransaction(answer, &fields)
	x.omit(omitted)
	return fields, err
}
