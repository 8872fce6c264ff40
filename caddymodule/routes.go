package caddymodule

import (
	"context"
	"encoding/json"
	"slices"

	"github.com/windsome/caddy-wepay/wepay"
	"github.com/windsome/caddy-wepay/wepay/apiv2"
	"github.com/windsome/caddy-wepay/wepay/apiv3"
)

// route is what the route of an operation needs beyond the operation itself.
type route struct {
	// names are the JSON's own names of WeChat's fields.
	names map[string]string
	// only: what is not among these is not for WeChat and is left out, as the
	// Node service did. Nil: every field goes to WeChat's rules.
	only wepay.Rules
	// clientIP: where the request came from stands in for a missing ip.
	clientIP bool
	// path: the route goes on with a path of WeChat's.
	path bool
	// bill: format says in what form the bill comes.
	bill bool
	// ask does the operation; nil: the merchant's gateway does.
	ask func(ctx context.Context, h *Handler, o operation) (any, error)
}

// operation is a request for one, read.
type operation struct {
	op       wepay.Operation
	merchant *wepay.Merchant
	fields   wepay.Fields
	path     string     // of a pass-through, with its slash
	format   string     // of a bill
	call     *moneyCall // nil: no money moves
}

// orderNames are the names of an order's fields in our JSON.
var orderNames = map[string]string{"id": "out_trade_no", "fee": "total_fee", "ip": "spbill_create_ip"}

// orderFields are what an order may have.
var orderFields = append(slices.Clone(wepay.OrderRules), wepay.Rule{Name: "sub_mch_id"}, wepay.Rule{Name: "sub_appid"})

// routes are the routes that need more than their operation.
var routes = map[wepay.Operation]route{
	wepay.PlaceOrder:       {names: orderNames, only: orderFields, clientIP: true},
	wepay.Micropay:         {clientIP: true},
	wepay.CombineOrder:     {clientIP: true},
	wepay.QueryRefund:      {ask: askRefunds},
	wepay.QueryRedPacket:   {ask: askRedPacket},
	wepay.DownloadBill:     {bill: true, ask: askBill},
	wepay.DownloadFundFlow: {bill: true, ask: askBill},
	wepay.OpenID:           {ask: askOpenID},
	orderState:             {ask: askOrderState},
	apiv2.Pass:             {path: true, ask: askPass},
}

// routeOf returns the route of an operation. Every operation of either API has
// one.
func routeOf(op wepay.Operation) (r route, found bool) {
	r, found = routes[op]
	return r, found || apiv2.Has(op) || apiv3.Has(op)
}

// do asks WeChat over the API that carries the operation.
func (h *Handler) do(ctx context.Context, o operation) (wepay.Fields, error) {
	gateway, err := h.app.accounts[o.merchant].gateway(o.op)
	if err != nil {
		return nil, err
	}
	return gateway.Do(ctx, o.op, o.fields)
}

// askGateway does what most routes do.
func askGateway(ctx context.Context, h *Handler, o operation) (any, error) { return h.do(ctx, o) }

// askNative gives WeChat's own JSON of API v3, for whoever wants what has no
// name in API v2.
func askNative(ctx context.Context, h *Handler, o operation) (any, error) {
	account := h.app.accounts[o.merchant]
	if account.api(o.op) != wepay.V3 {
		return nil, &wepay.FieldError{Field: "native", Reason: "is for what goes over API v3, and this goes over API v2"}
	}
	if account.v3 == nil {
		return nil, account.merchant.RequireV3()
	}
	return account.v3.Native(ctx, o.op, o.fields)
}

// askRefunds gives the numbered fields of the refunds as a list as well.
func askRefunds(ctx context.Context, h *Handler, o operation) (any, error) {
	reply, err := h.do(ctx, o)
	if err != nil {
		return nil, err
	}
	return withList(reply, "refunds", reply.Numbered()), nil
}

// askRedPacket gives those who took from a red packet as the list that they
// are in WeChat's reply.
func askRedPacket(ctx context.Context, h *Handler, o operation) (any, error) {
	reply, err := h.do(ctx, o)
	if err != nil {
		return nil, err
	}
	list := reply.Get("hblist")
	if !json.Valid([]byte(list)) {
		return reply, nil
	}
	reply.Delete("hblist")
	return withList(reply, "hblist", json.RawMessage(list)), nil
}

// withList adds a member that is no text to a reply.
func withList(reply wepay.Fields, name string, list any) map[string]any {
	result := make(map[string]any, len(reply)+1)
	for _, field := range reply {
		result[field.Name] = field.Value
	}
	result[name] = list
	return result
}

// askOpenID takes the code under WeChat's name for that of a mini program, too.
func askOpenID(ctx context.Context, h *Handler, o operation) (any, error) {
	if code := o.fields.Get("js_code"); code != "" {
		if o.fields.Get("code") != "" {
			return nil, &wepay.FieldError{Field: "js_code", Reason: "stands there under two names"}
		}
		o.fields.Set("code", code)
	}
	o.fields.Delete("js_code")
	return h.app.login.OpenID(ctx, o.merchant, o.fields)
}

func askPass(ctx context.Context, h *Handler, o operation) (any, error) {
	account := h.app.accounts[o.merchant]
	if account.v2 == nil {
		return nil, account.merchant.NotAble("partner_key")
	}
	return account.v2.Pass(ctx, o.path, o.fields)
}

// askBill starts a download, which streamBill goes on with.
func askBill(ctx context.Context, h *Handler, o operation) (any, error) {
	forms := wepay.Rules{{Name: "format", Is: wepay.OneOf("csv", "json")}}
	if err := forms.CheckValue("format", o.format); err != nil {
		return nil, err
	}
	if o.format == "json" && o.fields.Get("tar_type") != "" {
		return nil, &wepay.FieldError{Field: "tar_type", Reason: "does not go with format json"}
	}
	gateway, err := h.app.accounts[o.merchant].gateway(o.op)
	if err != nil {
		return nil, err
	}
	bill, err := gateway.Download(ctx, o.op, o.fields)
	if err != nil {
		return nil, err
	}
	return &billAnswer{o, bill}, nil
}
