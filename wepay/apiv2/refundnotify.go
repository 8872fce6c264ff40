package apiv2

import (
	"crypto/aes"
	"crypto/md5"
	"encoding/base64"
	"encoding/hex"
	"fmt"

	"github.com/windsome/caddy-wepay/wepay"
)

// errRefund is of every refund notification that does not open: it tells a
// forger nothing of how far he came.
var errRefund = fmt.Errorf("%w: its req_info is no refund under the merchant's key", wepay.ErrSignature)

// claim is what a refund's notification says happened. Nothing vouches for it:
// blocks of the cipher can be moved about and taken from other notifications.
type claim struct {
	refundID string
	status   string
}

// openRefund opens the req_info of a refund's notification. Whatever is wrong
// with it is errRefund.
// Source: WeChat Pay, 退款结果通知.
func openRefund(reqInfo, key string) (claim, error) {
	text, err := openReqInfo(reqInfo, key)
	if err != nil {
		return claim{}, err
	}
	refund, err := Decode("root", text)
	if err != nil {
		return claim{}, errRefund
	}
	id := refund.Get("refund_id")
	if id == "" || wepay.RefundQueryRules.CheckValue("refund_id", id) != nil {
		return claim{}, errRefund
	}
	return claim{refundID: id, status: refund.Get("refund_status")}, nil
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
