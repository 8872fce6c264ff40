package main

import (
	"bytes"
	"crypto/aes"
	"crypto/md5"
	"encoding/base64"
	"encoding/hex"
	"slices"
	"strings"

	"github.com/windsome/caddy-wepay/wepay"
	"github.com/windsome/caddy-wepay/wepay/apiv2"
)

// refunds are spliced from three true notifications.
func refunds() {
	var sealed [][]byte
	for _, of := range [][]string{
		{"50000000000202001010000000001", "MINE-0001", "R-0000001", "1", "1", "SUCCESS"},
		{"50000000000202001010000000002", "MINE-0002", "R-0000002", "999900", "999900", "SUCCESS"},
		{"50000000000202001010000000003", "MINE-0002", "R-0000003", "999900", "100", "CHANGE"},
	} {
		plain := refundText(of)
		sealed = append(sealed, crypt(pad(plain), true))
		catalogue = append(catalogue, message{
			Name: "a refund that WeChat need not know", Body: notified(sealed[len(sealed)-1], ""), Result: "not_confirmed", RefundID: of[0],
		})
	}
	catalogue = append(catalogue,
		message{
			Name: "a refund of a sub-merchant that there is none of", Body: notified(sealed[0], "<sub_mch_id>1900000110</sub_mch_id>"), Result: "foreign",
		},
		message{
			Name: "a refund with another one's amount around it", Body: notified(sealed[0], "<refund_fee>999900</refund_fee><sign>x</sign>"),
			Result: "not_confirmed", RefundID: "50000000000202001010000000001",
		},
		message{Name: "a refund, cut", Body: notified(sealed[0][16:], ""), Result: "wrong_signature"},
	)
	splices(sealed)
}

// splices adds those that open and make one refund of two, in every form that
// its fields have: each that says something else once.
func splices(sealed [][]byte) {
	said := make(map[string]bool)
	for _, whole := range sealed {
		said[saying(whole)] = true
	}
	for a, head := range sealed {
		for b, tail := range sealed {
			for i := 16; i < len(head) && a != b; i += 16 {
				for j := 16; j < len(tail); j += 16 {
					spliced := append(slices.Clone(head[:i]), tail[j:]...)
					says := saying(spliced)
					if says == "" || said[says] {
						continue
					}
					said[says] = true
					id, _, _ := strings.Cut(says, " ")
					catalogue = append(catalogue, message{
						Name: "a refund spliced of two: " + says, Body: notified(spliced, ""), Result: "not_confirmed", RefundID: id,
					})
				}
			}
		}
	}
}

// saying is what a sealed text says of a refund, or "" where it is none.
func saying(sealed []byte) string {
	plain := crypt(sealed, false)
	refund, err := apiv2.Decode("root", plain[:len(plain)-min(int(plain[len(plain)-1]), len(plain))])
	if err != nil {
		return ""
	}
	var says []string
	for _, name := range []string{"refund_id", "out_trade_no", "out_refund_no", "refund_fee", "total_fee", "refund_status", "transaction_id"} {
		value := refund.Get(name)
		if value == "" || wepay.Number(value) != nil {
			return ""
		}
		says = append(says, value)
	}
	if len(says[0]) != 29 || wepay.CheckRefund(refund) != nil {
		return ""
	}
	return strings.Join(says, " ")
}

func refundText(of []string) string {
	text := "<root>"
	for i, name := range []string{"refund_id", "out_trade_no", "out_refund_no", "total_fee", "refund_fee", "refund_status"} {
		text += "\n<" + name + "><![CDATA[" + of[i] + "]]></" + name + ">"
	}
	return text + "\n<refund_recv_accout><![CDATA[招商银行信用卡0403]]></refund_recv_accout>" +
		"\n<transaction_id><![CDATA[4200000000202001010000000001]]></transaction_id>\n</root>"
}

func notified(sealed []byte, more string) string {
	return "<xml><return_code>SUCCESS</return_code><appid>" + appID + "</appid><mch_id>" + mchID + "</mch_id><nonce_str>1</nonce_str>" + more +
		"<req_info>" + base64.StdEncoding.EncodeToString(sealed) + "</req_info></xml>"
}

func pad(text string) []byte {
	padding := aes.BlockSize - len(text)%aes.BlockSize
	return append([]byte(text), bytes.Repeat([]byte{byte(padding)}, padding)...)
}

// crypt encrypts or decrypts each block by itself, as WeChat's req_info is.
func crypt(in []byte, encrypt bool) []byte {
	digest := md5.Sum([]byte(key))
	block, err := aes.NewCipher([]byte(hex.EncodeToString(digest[:])))
	check(err)
	out := make([]byte, len(in))
	for i := 0; i < len(in); i += aes.BlockSize {
		if encrypt {
			block.Encrypt(out[i:], in[i:])
		} else {
			block.Decrypt(out[i:], in[i:])
		}
	}
	return out
}
