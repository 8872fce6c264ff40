package apiv2

import (
	"crypto/hmac"
	"crypto/md5"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/hex"
	"strings"

	"github.com/windsome/caddy-wepay/wepay"
)

// Sign returns the signature of fields: over every non-empty one but sign, in
// the order of their names, in upper-case hex.
// Source: WeChat Pay, 安全规范, 签名算法.
func Sign(fields wepay.Fields, signType wepay.SignType, key string) string {
	base := signatureBase(fields, key)
	var sum []byte
	if signType == wepay.HMACSHA256 {
		mac := hmac.New(sha256.New, []byte(key))
		mac.Write(base)
		sum = mac.Sum(nil)
	} else {
		// MD5 is what the protocol says; the key at the end of the base makes
		// it a message authentication code.
		digest := md5.Sum(base)
		sum = digest[:]
	}
	return strings.ToUpper(hex.EncodeToString(sum))
}

// Verify checks the sign field of a message from WeChat, in constant time. The
// signature's length determines the algorithm, 64 hex digits HMAC-SHA256 and 32
// MD5, since WeChat usually omits sign_type; both take the same key, so a forger
// gains nothing by choosing. WeChat signs in upper case, and lower case is
// rejected. The error wraps wepay.ErrUnsigned or
// wepay.ErrSignature.
func Verify(fields wepay.Fields, key string) error {
	sign := fields.Get("sign")
	signType := wepay.MD5
	switch len(sign) {
	case 0:
		return wepay.ErrUnsigned
	case 2 * md5.Size:
	case 2 * sha256.Size:
		signType = wepay.HMACSHA256
	default:
		return wepay.ErrSignature
	}
	if subtle.ConstantTimeCompare([]byte(sign), []byte(Sign(fields, signType, key))) != 1 {
		return wepay.ErrSignature
	}
	return nil
}

func signatureBase(fields wepay.Fields, key string) []byte {
	size := len("key=") + len(key)
	for _, field := range fields {
		size += len(field.Name) + len(field.Value) + len("=&")
	}
	base := make([]byte, 0, size)
	for _, field := range fields {
		if field.Value == "" || field.Name == "sign" {
			continue
		}
		base = append(base, field.Name...)
		base = append(base, '=')
		base = append(base, field.Value...)
		base = append(base, '&')
	}
	base = append(base, "key="...)
	return append(base, key...)
}
