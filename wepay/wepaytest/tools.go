package wepaytest

import (
	"crypto/sha256"
	"encoding/base64"
	"net/url"

	"github.com/windsome/caddy-wepay/wepay"
)

// payerOfCode returns who shows a code, which only this merchant can use from then on.
func (x *exchange) payerOfCode() (wepay.Fields, *refusal) {
	c, refused := x.scan()
	if refused != nil {
		return nil, refused
	}
	c.account = x.account
	out := wepay.Fields{{Name: "openid", Value: c.openid}}
	if x.in.Get("sub_appid") != "" {
		out.Set("sub_openid", subPayer)
	}
	return out, nil
}

// shortenURL gives the same URL the same short one.
func (x *exchange) shortenURL() (wepay.Fields, *refusal) {
	digest := sha256.Sum256([]byte(x.in.Get("long_url")))
	short := base64.RawURLEncoding.EncodeToString(digest[:])[:12]
	return wepay.Fields{{Name: "short_url", Value: "weixin://wxpay/s/" + short}}, nil
}

// absoluteURL has a scheme, WeChat's own or the web's.
func absoluteURL(value string) bool {
	u, err := url.Parse(value)
	return err == nil && u.Host != "" && word("weixin", "http", "https")(u.Scheme)
}
