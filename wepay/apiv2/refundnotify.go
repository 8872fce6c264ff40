package apiv2

import (
	"crypto/aes"
	"crypto/md5"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"slices"
	"strings"

	"github.com/windsome/caddy-wepay/wepay"
)

// refundOuter are the fields that a refund notification has in clear. Nothing
// vouches for them, so that no others are passed on.
var refundOuter = []string{"appid", "mch_id", "nonce_str", "return_code", "sub_appid", "sub_mch_id"}

// errRefund is of every refund notification that is not believed: it tells a
// forger nothing of how far he came.
var errRefund = fmt.Errorf("%w: its req_info is no refund under the merchant's key", wepay.ErrSignature)

// openRefund opens a refund notification. It bears no signature: that its
// req_info opens with the merchant's key, to a well-formed refund, is all there
// is to believe. Whatever is wrong with it is errRefund.
// Source: WeChat Pay, 退款结果通知.
func openRefund(outer wepay.Fields, key string) (wepay.Fields, error) {
	text, err := openReqInfo(outer.Get("req_info"), key)
	if err != nil {
		return nil, err
	}
	inner, err := Decode("root", text)
	if err != nil || !isRefund(inner) {
		return nil, errRefund
	}
	refund := inner.Clone() // Set would move what inner holds
	for _, name := range refundOuter {
		if _, twice := inner.Lookup(name); twice {
			return nil, errRefund
		}
		if value, found := outer.Lookup(name); found {
			refund.Set(name, value)
		}
	}
	return refund, nil
}

// openReqInfo decrypts AES-256-ECB with PKCS #7 padding. The key is the lower
// case hex of the API key's MD5, its 32 characters and not the 16 bytes.
func openReqInfo(reqInfo, key string) ([]byte, error) {
	sealed, err := base64.StdEncoding.Strict().DecodeString(reqInfo)
	if err != nil || len(sealed) == 0 || len(sealed)%aes.BlockSize != 0 {
		return nil, errRefund
	}
	digest := md5.Sum([]byte(key))
	block, err := aes.NewCipher([]byte(hex.EncodeToString(digest[:])))
	if err != nil {
		return nil, err
	}
	text := make([]byte, len(sealed))
	for i := 0; i < len(sealed); i += aes.BlockSize {
		block.Decrypt(text[i:], sealed[i:])
	}
	padding := int(text[len(text)-1])
	if padding == 0 || padding > aes.BlockSize {
		return nil, errRefund
	}
	for _, b := range text[len(text)-padding:] {
		if int(b) != padding {
			return nil, errRefund
		}
	}
	return text[:len(text)-padding], nil
}

// isRefund checks what ECB leaves open: whoever moves blocks about hardly comes
// out with every field in its form. Of two numbers in one message that are long
// enough, parts can be exchanged all the same; amounts and the outcome cannot.
func isRefund(fields wepay.Fields) bool {
	rules := wepay.Rules{
		{Name: "out_refund_no", Required: true, Max: 64, Is: wepay.Number},
		{Name: "refund_id", Required: true, Max: 32, Is: wepay.Alphanumeric},
		{Name: "out_trade_no", Required: true, Max: 32, Is: wepay.Number},
		{Name: "transaction_id", Required: true, Max: 32, Is: wepay.Alphanumeric},
		{Name: "refund_status", Required: true, Is: wepay.OneOf("SUCCESS", "CHANGE", "REFUNDCLOSE")},
		{Name: "refund_fee", Required: true, Is: wepay.Fen},
		{Name: "total_fee", Required: true, Is: wepay.Fen},
		{Name: "settlement_refund_fee", Is: wepay.Digits},
		{Name: "settlement_total_fee", Is: wepay.Digits},
	}
	// The rest of another element in one of the others tells as well. What WeChat
	// adds one day may hold anything.
	for _, name := range []string{"refund_account", "refund_recv_accout", "refund_request_source", "success_time"} {
		if strings.ContainsAny(fields.Get(name), "<>\t\n") {
			return false
		}
	}
	known := slices.DeleteFunc(fields.Clone(), func(f wepay.Field) bool {
		return !slices.ContainsFunc(rules, func(r wepay.Rule) bool { return r.Name == f.Name })
	})
	return rules.Check(known) == nil && wepay.CheckRefund(known) == nil
}
