package apiv2

import (
	"context"
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/windsome/caddy-wepay/wepay"
	"github.com/windsome/caddy-wepay/wepay/internal/row"
)

// Pass is the operation's name in errors of Client.Pass.
const Pass wepay.Operation = "v2"

// path matches WeChat's paths and nothing else: no dot, no escape, no host.
var path = regexp.MustCompile(`^(/[0-9A-Za-z_-]+)+$`)

// unsignedPaths are the calls of no row whose replies WeChat never signs. Of
// /mchrisk/ two more are signed, by the OpenAPI description of the same author.
// Source: TheNorthMemory/wechatpay-axios-plugin, which agrees with
// binarywang/WxJava.
var unsignedPaths = []string{
	"/mchrisk/querymchrisk",
	"/mchrisk/setmchriskcallback",
	"/mchrisk/syncmchriskresult",
	"/mmpaymkttransfers/promotion/paywwsptrans2pocket",
	"/mmpaymkttransfers/promotion/querywwsptrans2pocket",
	"/mmpaymkttransfers/sendminiprogramhb",
	"/papay/entrustweb",
	"/papay/h5entrustweb",
	"/papay/partner/entrustweb",
	"/papay/partner/h5entrustweb",
	"/payitil/report",
	"/risk/getviolation",
	"/secapi/mch/submchmanage",
}

// noncelessPaths are the calls of no row that WeChat documents without nonce_str. Of
// others a caller says so.
// Source: WeChat Pay, 委托代扣 and 海关报关; TheNorthMemory/wechatpay-axios-plugin.
var noncelessPaths = []string{
	"/cgi-bin/mch/customs/customdeclareorder",
	"/cgi-bin/mch/customs/customdeclarequery",
	"/cgi-bin/mch/newcustoms/customdeclareredeclare",
	"/papay/deletecontract",
	"/papay/entrustweb",
	"/papay/h5entrustweb",
	"/papay/partner/deletecontract",
	"/papay/partner/entrustweb",
	"/papay/partner/h5entrustweb",
	"/papay/partner/preentrustweb",
	"/papay/partner/querycontract",
	"/papay/preentrustweb",
	"/papay/querycontract",
}

// Pass sends any call of API v2: WeChat's path, and the fields that WeChat
// documents for it, to which nonce and signature and, unless the caller gives
// them, the merchant's ids are added. A field that is there and empty is left
// out, an id and nonce_str as well. Where this package knows the call its
// signature and reply are what WeChat demands of them; else the reply has to be
// signed.
//
// The reply comes without what it was signed with. The client repeats nothing.
// Errors are those of Do; a path that is none is a *wepay.FieldError.
func (c *Client) Pass(ctx context.Context, to string, in wepay.Fields) (wepay.Fields, error) {
	if !path.MatchString(to) {
		return nil, &wepay.FieldError{Field: "path", Reason: "must be one of WeChat Pay's paths, such as /pay/orderquery"}
	}
	call := passCall(to, in)
	switch {
	case call.Bill:
		return nil, &wepay.FieldError{Field: "path", Reason: "is a bill's, which has a route of its own"}
	case !c.merchant.Passthrough:
		return nil, c.merchant.NotAble("passthrough")
	}
	if err := checkPassed(in); err != nil {
		return nil, err
	}
	merchant, request, err := c.merchant.ActFor(in, false)
	if err != nil {
		return nil, err
	}
	for _, name := range []string{"sub_appid", "sub_mch_id"} {
		if value, found := in.Lookup(name); found && value == "" {
			request.Set(name, "") // ActFor removes it, and it has to stay empty
		}
	}
	if call.certificate && !merchant.Sandbox {
		if err := merchant.RequireCertificate(); err != nil {
			return nil, err
		}
	}
	if err := ownIDs(merchant, call.identity, &request); err != nil {
		return nil, err
	}
	s, err := c.signing(ctx, Pass, call)
	if err != nil {
		return nil, err
	}
	if given := wepay.SignType(in.Get("sign_type")); given == wepay.MD5 || given == wepay.HMACSHA256 {
		s.signType, call.saysMD5 = given, true
	} else if given != "" {
		return nil, &wepay.FieldError{Field: "sign_type", Reason: fmt.Sprintf("must be %s or %s", wepay.MD5, wepay.HMACSHA256)}
	}
	if _, leftOut := in.Lookup("nonce_str"); leftOut {
		call.nonceless = true
	}
	body, err := call.seal(request, s)
	if err != nil {
		return nil, err
	}
	return c.ask(ctx, Pass, call, prepared{request: request, signing: s, body: body})
}

// checkPassed says what is wrong with fields of which nothing is known.
func checkPassed(in wepay.Fields) error {
	for _, field := range in {
		if field.Name == "nonce_str" && field.Value != "" || field.Name == "sign" {
			return &wepay.FieldError{Field: field.Name, Reason: "is added here"}
		}
		if _, err := Encode("xml", wepay.Fields{field}); err != nil {
			return &wepay.FieldError{Field: field.Name, Reason: "cannot be sent as XML"}
		}
	}
	return nil
}

// passCall is the row of a path, without what it says of routes of our own.
func passCall(to string, in wepay.Fields) call {
	for _, call := range calls {
		if call.path == to {
			call.Repeatable, call.Answers, call.encrypted = false, nil, nil
			return call
		}
	}
	other := call{
		Row:  row.Row{Payout: strings.HasPrefix(to, "/mmpay"), Unknown: wepay.Query},
		path: to, identity: commonIdentity, unsigned: slices.Contains(unsignedPaths, to),
		nonceless: slices.Contains(noncelessPaths, to),
	}
	if in.Get("mchid") != "" {
		other.identity = transferIdentity
	}
	if in.Get("wxappid") != "" {
		other.identity = redPacketIdentity
	}
	return other
}

// ownIDs adds the merchant's ids to a request and rejects those of others: a caller
// with access to one merchant must not act as another.
func ownIDs(merchant *wepay.Merchant, id identity, request *wepay.Fields) error {
	for _, name := range []string{"appid", "mch_appid", "wxappid"} {
		if value := request.Get(name); value != "" && value != merchant.AppID {
			return &wepay.FieldError{Field: name, Reason: "is not the merchant's"}
		}
	}
	for _, name := range []string{"mch_id", "mchid"} {
		if value := request.Get(name); value != "" && value != merchant.MchID {
			return &wepay.FieldError{Field: name, Reason: "is not the merchant's"}
		}
	}
	for _, field := range id.fields(merchant) {
		if _, found := request.Lookup(field.Name); !found {
			request.Set(field.Name, field.Value)
		}
	}
	return nil
}
