package apiv3

import (
	"cmp"
	"errors"
	"strconv"

	"github.com/windsome/caddy-wepay/wepay"
)

// signType is the algorithm of the parameters of a client's SDK.
const signType = "RSA"

// clientParameters returns the parameters that start the payment on the payer's
// side: those of the app's SDK, or of a page or mini program, signed with the
// merchant's key, or the link of a QR code (code_url) or of a mobile browser
// (mweb_url), which is not signed. wx.chooseWXPay spells timeStamp as timestamp;
// only the first is signed.
// Source: WeChat Pay, 调起支付 of JSAPI, 小程序 and APP (API v3).
func clientParameters(x *exchange, answer object, out *wepay.Fields) (err error) {
	for v3, v2 := range map[string]string{"code_url": "code_url", "h5_url": "mweb_url"} {
		if url := answer.text(v3); url != "" {
			*out = wepay.NewFields(map[string]string{"trade_type": x.merchant.Env.TradeType(), v2: url})
			return nil
		}
	}
	prepayID := answer.text("prepay_id")
	if prepayID == "" {
		return errors.New("the reply lacks prepay_id")
	}
	parameters := pageParameters
	if x.merchant.Env == wepay.APP {
		parameters = appParameters
	}
	*out, err = parameters(x.merchant, prepayID, strconv.FormatInt(x.client.options.Now().Unix(), 10))
	return err
}

func pageParameters(m *wepay.Merchant, prepayID, now string) (wepay.Fields, error) {
	appID, nonce, prepay := cmp.Or(m.SubAppID, m.AppID), nonce(), "prepay_id="+prepayID
	_, key := m.SigningKey()
	paySign, err := sign(key, appID, now, nonce, prepay)
	if err != nil {
		return nil, err
	}
	return wepay.NewFields(map[string]string{
		"appId": appID, "timeStamp": now, "timestamp": now, "nonceStr": nonce,
		"package": prepay, "signType": signType, "paySign": paySign,
	}), nil
}

// appParameters names the merchant that signs as the payee, as WeChat's SDK for Java
// does for partners, unless a partner wants the sub-merchant's number. WeChat does not
// document which of the two it is.
func appParameters(m *wepay.Merchant, prepayID, now string) (wepay.Fields, error) {
	appID, nonce := cmp.Or(m.SubAppID, m.AppID), nonce()
	_, key := m.SigningKey()
	partnerID := m.MchID
	if m.PartnerID == wepay.PartnerIDOfSub {
		partnerID = cmp.Or(m.SubMchID, m.MchID)
	}
	signature, err := sign(key, appID, now, nonce, prepayID)
	if err != nil {
		return nil, err
	}
	return wepay.NewFields(map[string]string{
		"appid": appID, "partnerid": partnerID, "prepayid": prepayID,
		"package": "Sign=WXPay", "noncestr": nonce, "timestamp": now, "sign": signature,
	}), nil
}
