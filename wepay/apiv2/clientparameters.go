package apiv2

import (
	"strconv"

	"github.com/windsome/caddy-wepay/wepay"
)

// clientParameters returns the parameters that start the payment on the payer's
// side: those of the app's SDK, or of a page or mini program, with the link of a QR
// code (code_url) or of a mobile browser (mweb_url) if the order has one. The
// signature's algorithm is the order's. wx.chooseWXPay spells timeStamp as
// timestamp; only the first is signed.
// Source: WeChat Pay, 调起支付 of JSAPI, 小程序 and APP.
func clientParameters(c *Client, s signing, request, reply wepay.Fields) wepay.Fields {
	now := strconv.FormatInt(c.options.Now().Unix(), 10)
	if c.merchant.Env == wepay.APP {
		return appParameters(c.merchant, s, request, reply, now)
	}
	appID := request.Get("appid")
	if sub := request.Get("sub_appid"); sub != "" {
		appID = sub
	}
	params := wepay.NewFields(map[string]string{
		"appId":     appID,
		"timeStamp": now,
		"nonceStr":  nonce(),
		"package":   "prepay_id=" + reply.Get("prepay_id"),
		"signType":  string(s.signType),
	})
	params.Set("paySign", Sign(params, s.signType, s.key))
	params.Set("timestamp", now)
	for _, link := range []string{"code_url", "mweb_url"} {
		if url := reply.Get(link); url != "" {
			params.Set(link, url)
		}
	}
	return params
}

// appParameters names the sub-merchant as the payee if there is one, unless the
// merchant wants its own number.
func appParameters(m *wepay.Merchant, s signing, request, reply wepay.Fields, now string) wepay.Fields {
	appID, partnerID := request.Get("appid"), request.Get("mch_id")
	if sub := request.Get("sub_appid"); sub != "" {
		appID = sub
	}
	if sub := request.Get("sub_mch_id"); sub != "" && m.PartnerID != wepay.PartnerIDOfPartner {
		partnerID = sub
	}
	params := wepay.NewFields(map[string]string{
		"appid":     appID,
		"partnerid": partnerID,
		"prepayid":  reply.Get("prepay_id"),
		"package":   "Sign=WXPay",
		"noncestr":  nonce(),
		"timestamp": now,
	})
	params.Set("sign", Sign(params, s.signType, s.key))
	return params
}
