package apiv3

import (
	"cmp"
	"encoding/json"
	"fmt"
	"net/http"
	"reflect"
	"slices"
	"strings"

	"github.com/windsome/caddy-wepay/wepay"
	"github.com/windsome/caddy-wepay/wepay/internal/row"
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

// asMerchant identifies the merchant and its sub-merchant; ofSub the sub-merchant
// alone, since the signature identifies the merchant.
var (
	asMerchant = fieldMap{{"mch_id", "[sp_]mchid", text}, {"sub_mch_id", "sub_mchid", text}}
	ofSub      = fieldMap{{"sub_mch_id", "sub_mchid", text}}
)

// orderCalls place, query and close orders.
var orderCalls = map[wepay.Operation]call{
	// Source: WeChat Pay, JSAPI/APP/H5/Native 下单 (API v3).
	wepay.PlaceOrder: {
		method: http.MethodPost, path: "/v3/pay/[partner/]transactions/{trade_type}",
		Row: row.Row{
			Number: "out_trade_no",
			Rules:  instead(wepay.OrderRules, outTradeNo, attach), Check: checkIdentity, Complete: (*wepay.Merchant).CompleteOrder,
			Repeatable: true, Unknown: wepay.Query, Ask: wepay.QueryOrder, Verdicts: placeVerdicts,
		},
		in: slices.Concat(asMerchant, fieldMap{
			{"appid", "[sp_]appid", text},
			{"sub_appid", "sub_appid", text},
			{"body", "description", description},
			{"out_trade_no", "out_trade_no", text},
			{"time_expire", "time_expire", moment},
			{"attach", "attach", text},
			{"notify_url", "notify_url", text},
			{"goods_tag", "goods_tag", text},
			{"receipt", "support_fapiao", yes},
			{"limit_pay", "limit_pay", list},
			{"total_fee", "amount.total", number},
			{"fee_type", "amount.currency", currency},
			{"device_info", "scene_info.device_id", text},
			{"spbill_create_ip", "scene_info.payer_client_ip", text},
			{"profit_sharing", "settle_info.profit_sharing", yes},
		}, identityOf("payer")),
		encrypted: sealedIdentityOf("payer"),
		body:      orderBody, result: clientParameters,
	},
	// Source: WeChat Pay, 查询订单 (API v3).
	wepay.QueryOrder: {
		method: http.MethodGet, path: "/v3/pay/[partner/]transactions/out-trade-no/{out_trade_no}",
		preferred: "/v3/pay/[partner/]transactions/id/{transaction_id}",
		Row: row.Row{
			Rules:  wepay.OrderQueryRules,
			Echoes: []string{"out_trade_no", "transaction_id"}, Answers: []string{"trade_state"},
			Repeatable: true, Unknown: wepay.Again,
			Verdicts: map[string]wepay.Verdict{"ORDERNOTEXIST": wepay.Again},
		},
		in:  asMerchant,
		out: append(slices.Clip(transactionMap), field{"trade_state", "trade_state", text}, field{"trade_state_desc", "trade_state_desc", text}),
		result: func(x *exchange, answer object, out *wepay.Fields) error {
			x.omit(addCoupons(answer, answer.objects("promotion_detail"), out))
			return nil
		},
	},
	// Source: WeChat Pay, 关闭订单 (API v3). WeChat answers 204 also for unknown
	// orders.
	wepay.CloseOrder: {
		method: http.MethodPost, path: "/v3/pay/[partner/]transactions/out-trade-no/{out_trade_no}/close",
		Row: row.Row{
			Rules:      wepay.Rules{{Name: "out_trade_no", Required: true, Max: 32, Is: wepay.Number}},
			Repeatable: true, Unknown: wepay.Again, Ask: wepay.QueryOrder, Verdicts: closeVerdicts,
		},
		in: asMerchant,
	},
}

// products are API v3's words for trade types, in the paths of orders.
var products = map[string]string{"JSAPI": "jsapi", "APP": "app", "MWEB": "h5", "NATIVE": "native"}

// orderBody adds the goods, the scene and the payer of an order. API v3 does not have
// time_start, version and product_id.
func orderBody(x *exchange, body object) error {
	if err := x.checkIdentifiable(); err != nil {
		return err
	}
	detail, err := goodsDetail(x.in)
	if err != nil {
		return err
	}
	if detail != nil {
		body["detail"] = detail
	}
	if x.in.Get("trade_type") == "JSAPI" {
		x.putPayer(body)
	}
	return x.putScene(body)
}

// putPayer adds the payer of an order in a page or mini program.
func (x *exchange) putPayer(body object) {
	in := x.in
	switch {
	case x.merchant.Type != wepay.Partner:
		body.put("payer.openid", in.Get("openid"))
	case in.Get("sub_openid") != "":
		body.put("payer.sub_openid", in.Get("sub_openid"))
	default:
		body.put("payer.sp_openid", in.Get("openid"))
	}
}

// goodsNames maps API v2's names of an order's goods to API v3's.
var goodsNames = map[string]string{
	"goods_id": "merchant_goods_id", "wxpay_goods_id": "wechatpay_goods_id", "price": "unit_price", "goods_num": "quantity",
}

// goodsDetail renames the goods of API v2's detail. A detail that is no object is
// display text, which API v3 does not have: then it returns nil.
func goodsDetail(in wepay.Fields) (object, error) {
	if !strings.HasPrefix(strings.TrimSpace(in.Get("detail")), "{") {
		return nil, nil
	}
	detail, err := jsonField(in, "detail")
	if err != nil {
		return nil, err
	}
	if receipt, found := detail["receipt_id"]; found {
		delete(detail, "receipt_id")
		detail["invoice_id"] = receipt
	}
	for _, goods := range detail.objects("goods_detail") {
		for v2, v3 := range goodsNames {
			value, found := goods[v2]
			if !found {
				continue
			}
			if other, both := goods[v3]; both && !reflect.DeepEqual(other, value) {
				return nil, &wepay.FieldError{Field: "detail", Reason: fmt.Sprintf("has a %s and another %s, which mean the same", v2, v3)}
			}
			delete(goods, v2)
			goods[v3] = value
		}
		if err := checkNumbers(goods, "quantity", "unit_price", "refund_amount", "refund_quantity"); err != nil {
			return nil, err
		}
	}
	return detail, checkNumbers(detail, "cost_price")
}

// checkNumbers refuses text where WeChat wants a number, which v2 takes as well.
func checkNumbers(of object, names ...string) error {
	for _, name := range names {
		value, found := of[name]
		if _, number := value.(json.Number); found && !number {
			return &wepay.FieldError{Field: "detail", Reason: "has a " + name + " that is no number: write it without quotes"}
		}
	}
	return nil
}

// putScene adds the shop that an order is placed in, and the page that an H5 order is
// paid from.
func (x *exchange) putScene(body object) error {
	if x.in.Get("scene_info") == "" {
		return nil
	}
	scene, err := jsonField(x.in, "scene_info")
	if err != nil {
		return err
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
