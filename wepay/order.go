package wepay

import (
	"encoding/json"
	"net/netip"
	"slices"
	"unicode/utf8"

	"github.com/go-json-experiment/json/jsontext"
)

// MaxBody is the longest description of an order: in bytes of UTF-8 over API v2,
// as its documents do not say what they count, and in characters over API v3. A
// longer one is cut before the character that would exceed it, as it is only shown.
// Source: WeChat Pay, JSAPI下单 (API v3), 2025-03-31, description.
const MaxBody = 127

// paymentRules are the fields that orders and payments by code share.
var paymentRules = Rules{
	{Name: "out_trade_no", Required: true, Max: 32, Is: Number},
	{Name: "total_fee", Required: true, Is: Fen},
	{Name: "body", Required: true},
	{Name: "spbill_create_ip", Required: true, Max: 64, Is: Address},
	{Name: "attach", Max: 127},
	{Name: "detail", Max: 6000, Is: detail},
	{Name: "device_info", Max: 32},
	{Name: "fee_type", Max: 16},
	{Name: "goods_tag", Max: 32},
	{Name: "limit_pay", Max: 32, Is: OneOf("no_credit")},
	{Name: "profit_sharing", Is: OneOf("Y", "N")},
	{Name: "receipt", Is: OneOf("Y", "N")},
	{Name: "scene_info", Max: 256, Is: JSON},
	{Name: "time_expire", Is: Time},
	{Name: "time_start", Is: Time},
	{Name: "version", Max: 32},
}

// detail is the form of an order's detail: its goods, as JSON, or any text.
func detail(value string) error {
	if jsontext.Value(value).IsValid(jsontext.AllowInvalidUTF8(true), jsontext.AllowDuplicateNames(true)) {
		return JSON(value)
	}
	return nil
}

// OrderRules are the fields that a caller may give to PlaceOrder. The ids,
// trade_type and notify_url come from the merchant.
// Source: WeChat Pay, 统一下单 (/pay/unifiedorder).
var OrderRules = slices.Concat(paymentRules, Rules{
	{Name: "openid", Max: 128},
	{Name: "product_id", Max: 32},
	{Name: "sub_openid", Max: 128},
	{Name: "user_creid", Max: 64},
	{Name: "user_truename", Max: 64},
	{Name: "user_type", Max: 32},
})

// OrderQueryRules are the fields of QueryOrder; transaction_id wins. WeChat
// refuses any further one.
// Source: WeChat Pay, 查询订单 (/pay/orderquery).
var OrderQueryRules = Rules{
	{Name: "out_trade_no", Required: true, Unless: []string{"transaction_id"}, Max: 32, Is: Number},
	{Name: "transaction_id", Max: 32, Is: Number},
}

// CompleteOrder adds to a caller's order what follows from the merchant: the
// trade type, where to notify, and whose openid it is.
func (m *Merchant) CompleteOrder(in Fields) (Fields, error) {
	return m.completeOrder(in, m.completePayer)
}

// CompleteCombined is CompleteOrder for orders that are paid together, which may
// have a sub_openid of the appid that they name.
func (m *Merchant) CompleteCombined(in Fields) (Fields, error) {
	return m.completeOrder(in, m.requirePayer)
}

func (m *Merchant) completeOrder(in Fields, completePayer func(*Fields) error) (Fields, error) {
	if m.NotifyURL == "" {
		return nil, m.NotAble("notify_url")
	}
	order := in.Clone()
	order.Set("trade_type", m.Env.TradeType())
	order.Set("notify_url", m.NotifyURL)
	order.Set("spbill_create_ip", oneAddress(in.Get("spbill_create_ip")))
	switch m.Env.TradeType() {
	case "JSAPI":
		// Not in the return statement, where Go may read order before the call.
		if err := completePayer(&order); err != nil {
			return nil, err
		}
	case "NATIVE":
		// product_id is the merchant's own text; the order's number says it.
		if !given(order, "product_id") {
			order.Set("product_id", in.Get("out_trade_no"))
		}
	case "MWEB":
		if !given(order, "scene_info") {
			scene, err := m.defaultScene()
			if err != nil {
				return nil, err
			}
			order.Set("scene_info", scene)
		}
	}
	return order, nil
}

// completePayer makes sure that a JSAPI order names its payer. An openid belongs to
// one appid: with a sub-merchant's own appid it is a sub_openid.
func (m *Merchant) completePayer(order *Fields) error {
	if m.SubAppID != "" && given(*order, "openid") && !given(*order, "sub_openid") {
		order.Set("sub_openid", order.Get("openid"))
		order.Delete("openid")
	}
	if given(*order, "sub_openid") && m.SubAppID == "" {
		return &FieldError{Field: "sub_openid", Reason: "needs a merchant with sub_app_id"}
	}
	return m.requirePayer(order)
}

func (m *Merchant) requirePayer(order *Fields) error {
	if !given(*order, "openid") && !given(*order, "sub_openid") {
		return &FieldError{Field: "openid", Reason: "is required for env " + string(m.Env), Missing: true}
	}
	return nil
}

// defaultScene describes the page that an H5 order is paid from by the site
// that its notifications go to, which WeChat demands and callers rarely know.
func (m *Merchant) defaultScene() (string, error) {
	site, err := AbsoluteURL(m.NotifyURL)
	if err != nil {
		return "", &FieldError{Field: "notify_url", Reason: err.Error()}
	}
	type h5 struct {
		Type    string `json:"type"`
		WapURL  string `json:"wap_url"`
		WapName string `json:"wap_name"`
	}
	text, err := json.Marshal(map[string]h5{"h5_info": {"Wap", site.Scheme + "://" + site.Host, cut(m.Name, 32)}})
	return string(text), err
}

// oneAddress writes an address as WeChat takes it: an IPv4 address mapped into
// IPv6 is refused.
func oneAddress(address string) string {
	ip, err := netip.ParseAddr(address)
	if err != nil {
		return address
	}
	return ip.Unmap().WithZone("").String()
}

// CutBody shortens a description to what API v2 takes.
func CutBody(text string) string { return cut(text, MaxBody) }

// cut shortens text to at most limit bytes without splitting a character.
func cut(text string, limit int) string {
	if len(text) <= limit {
		return text
	}
	for limit > 0 && !utf8.RuneStart(text[limit]) {
		limit--
	}
	return text[:limit]
}
