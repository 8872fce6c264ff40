package apiv2

import (
	"context"
	"crypto/sha1"
	"encoding/hex"
	"net/url"
	"strconv"
	"strings"

	"github.com/windsome/caddy-wepay/wepay"
	"github.com/windsome/caddy-wepay/wepay/internal/row"
)

// toolCalls are WeChat's small tools, and links that are signed locally.
var toolCalls = map[wepay.Operation]call{
	wepay.SandboxKey: {
		path: sandboxKeyPath, identity: accountIdentity, signType: wepay.MD5, unsigned: true,
		Row: row.Row{
			Rules:      wepay.Rules{},
			Answers:    []string{"sandbox_signkey"},
			Repeatable: true, Unknown: wepay.Again,
		},
	},
	wepay.ShortURL: {
		path: "/tools/shorturl", escaped: []string{"long_url"},
		Row: row.Row{
			Rules:      wepay.Rules{{Name: "long_url", Required: true, Max: 512}},
			Answers:    []string{"short_url"},
			Repeatable: true, Unknown: wepay.Again,
		},
	},
	wepay.BizPayURL: {
		identity: accountIdentity,
		Row: row.Row{
			Rules: wepay.Rules{{Name: "product_id", Required: true, Max: 32}},
		},
		flow: bizPayURL,
	},
	wepay.EditAddress: {
		identity: accountIdentity,
		Row: row.Row{
			Rules: wepay.Rules{
				{Name: "accesstoken", Required: true, Max: 512},
				{Name: "url", Required: true, Max: 2048},
			},
		},
		flow: editAddress,
	},
}

// bizPayURL makes the link of a printed QR code (扫码支付, 模式一), which WeChat
// has retired for new merchants. Nothing is sent.
func bizPayURL(_ context.Context, c *Client, _ wepay.Operation, in wepay.Fields) (wepay.Fields, error) {
	link := wepay.NewFields(map[string]string{
		"appid":      c.merchant.AppID,
		"mch_id":     c.merchant.MchID,
		"product_id": in.Get("product_id"),
		"time_stamp": strconv.FormatInt(c.options.Now().Unix(), 10),
		"nonce_str":  nonce(),
	})
	link.Set("sign", Sign(link, wepay.MD5, c.merchant.PartnerKey))
	query := make(url.Values)
	for _, field := range link {
		query.Set(field.Name, field.Value)
	}
	return wepay.Fields{{Name: "url", Value: "weixin://wxpay/bizpayurl?" + query.Encode()}}, nil
}

// editAddress makes the parameters of WeixinJSBridge's editAddress. Its
// signature has no key, but the page's access token. Nothing is sent.
// Source: WeChat Pay, 共享收货地址.
func editAddress(_ context.Context, c *Client, _ wepay.Operation, in wepay.Fields) (wepay.Fields, error) {
	page, _, _ := strings.Cut(in.Get("url"), "#")
	signed := wepay.NewFields(map[string]string{
		"accesstoken": in.Get("accesstoken"),
		"appid":       c.merchant.AppID,
		"noncestr":    nonce(),
		"timestamp":   strconv.FormatInt(c.options.Now().Unix(), 10),
		"url":         page,
	})
	var base []string
	for _, field := range signed {
		base = append(base, field.Name+"="+field.Value)
	}
	sum := sha1.Sum([]byte(strings.Join(base, "&")))
	return wepay.NewFields(map[string]string{
		"appId":     c.merchant.AppID,
		"scope":     "jsapi_address",
		"signType":  "sha1",
		"addrSign":  hex.EncodeToString(sum[:]),
		"timeStamp": signed.Get("timestamp"),
		"nonceStr":  signed.Get("noncestr"),
	}), nil
}
